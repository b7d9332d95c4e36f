//! What an object has beside its bytes, and a look does not show.

use std::time::Duration;

use aws_sdk_s3::types::{self, ObjectLockLegalHoldStatus};

use super::headers::NoObject;
use super::request::{of_object, retention};
use super::{S3, answer};
use crate::event::Operation;
use crate::object::{Acl, Grant, Grantee, ObjectRef, Retention, Tag};
use crate::s3_error::S3Error;

/// How long a question about an object may take.
const PROPERTY_TIMEOUT: Duration = Duration::from_secs(30);

/// Code for an object without retention or legal hold. Source: S3 API Reference, "Error responses".
const NO_LOCK: &str = "NoSuchObjectLockConfiguration";

impl S3 {
    /// GetObjectTagging: the tags, sorted.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn tags(&self, object: ObjectRef<'_>) -> Result<Vec<Tag>, S3Error> {
        let operation = Operation::GetObjectTagging.name();
        let request = of_object!(self.client.get_object_tagging(), object);
        match answer(PROPERTY_TIMEOUT, operation, request.send()).await {
            Ok(answer) => {
                let mut tags: Vec<Tag> = answer
                    .tag_set
                    .into_iter()
                    .map(|tag| Tag {
                        key: tag.key,
                        value: tag.value,
                    })
                    .collect();
                tags.sort();
                Ok(tags)
            }
            Err(error) if error.code == "NoSuchTagSet" => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// GetObjectAcl.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn acl(&self, object: ObjectRef<'_>) -> Result<Acl, S3Error> {
        let operation = Operation::GetObjectAcl.name();
        let request = of_object!(self.client.get_object_acl(), object);
        let answer = answer(PROPERTY_TIMEOUT, operation, request.send()).await?;
        let mut grants: Vec<Grant> = answer.grants().iter().map(grant).collect();
        grants.sort();
        Ok(Acl {
            owner: answer
                .owner()
                .and_then(|owner| owner.id())
                .map(str::to_owned),
            grants,
        })
    }

    /// GetObjectRetention. HEAD shows it only to those who may read it.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn retention(&self, object: ObjectRef<'_>) -> Result<Option<Retention>, S3Error> {
        let operation = Operation::GetObjectRetention.name();
        let request = of_object!(self.client.get_object_retention(), object);
        match answer(PROPERTY_TIMEOUT, operation, request.send()).await {
            Ok(answer) => Ok(answer.retention().and_then(|kept| {
                let mode = kept.mode().map(|mode| mode.as_str());
                retention(mode, kept.retain_until_date())
            })),
            Err(error) if error.code == NO_LOCK => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// GetObjectLegalHold: whether it is on. HEAD shows it only to those who may read it.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn legal_hold(&self, object: ObjectRef<'_>) -> Result<bool, S3Error> {
        let operation = Operation::GetObjectLegalHold.name();
        let request = of_object!(self.client.get_object_legal_hold(), object);
        match answer(PROPERTY_TIMEOUT, operation, request.send()).await {
            Ok(answer) => {
                let hold = answer.legal_hold().and_then(|hold| hold.status());
                Ok(hold == Some(&ObjectLockLegalHoldStatus::On))
            }
            Err(error) if error.code == NO_LOCK => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// ListObjectAnnotations: whether there is one. A store that doesn't know annotations may answer with the object itself.
    ///
    /// # Errors
    /// What the store answered; [`UNREADABLE_ANSWER`](crate::s3_error::UNREADABLE_ANSWER) where that was the object.
    pub async fn has_annotations(&self, object: ObjectRef<'_>) -> Result<bool, S3Error> {
        let operation = Operation::ListObjectAnnotations.name();
        let request = of_object!(self.client.list_object_annotations(), object)
            .max_annotation_results(1)
            .customize()
            .interceptor(NoObject);
        let answer = answer(PROPERTY_TIMEOUT, operation, request.send()).await?;
        let count = answer.annotation_count().unwrap_or(0);
        Ok(count > 0 || !answer.annotations().is_empty())
    }
}

fn grant(grant: &types::Grant) -> Grant {
    let grantee = grant.grantee();
    let id = grantee.and_then(|grantee| grantee.id());
    let uri = grantee.and_then(|grantee| grantee.uri());
    Grant {
        grantee: match (id, uri) {
            (Some(id), None) => Grantee::Account(id.to_owned()),
            (None, Some(uri)) => Grantee::Group(uri.to_owned()),
            _ => Grantee::Other,
        },
        permission: grant
            .permission()
            .map(|permission| permission.as_str())
            .unwrap_or_default()
            .to_owned(),
    }
}
