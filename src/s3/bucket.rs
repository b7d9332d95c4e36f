//! What is true of a whole bucket, and who may do what with an object.

use std::time::Duration;

use aws_sdk_s3::types::{ObjectLockLegalHoldStatus, ObjectOwnership, Permission};

use super::{S3, answer};
use crate::event::Operation;
use crate::s3_error::S3Error;

/// How long a question about a bucket may take.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// Code for an object without retention or legal hold. Source: S3 API Reference, "Error responses".
const NO_LOCK: &str = "NoSuchObjectLockConfiguration";

/// Whether a bucket's objects have ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclState {
    /// They are disabled: the bucket owner owns every object.
    Disabled,
    /// They are enabled, by the bucket's setting or because it never had one.
    Enabled,
    /// The store would not or could not say.
    Unknown,
}

/// An object's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectGrants {
    /// The owner's full control and nothing else: what a copy gives.
    OwnerOnly,
    /// More than that.
    Others,
}

impl S3 {
    /// GetBucketOwnershipControls.
    ///
    /// # Errors
    /// What the store answered, where that is not about ownership controls.
    pub async fn acl_state(&self, bucket: &str) -> Result<AclState, S3Error> {
        const OPERATION: &str = "GetBucketOwnershipControls";
        let answer = answer(
            BUCKET_TIMEOUT,
            OPERATION,
            self.client
                .get_bucket_ownership_controls()
                .bucket(bucket)
                .send(),
        )
        .await;
        Ok(match answer {
            Ok(answer) => {
                let rules = answer.ownership_controls().map(|controls| controls.rules());
                match rules
                    .and_then(<[_]>::first)
                    .map(|rule| rule.object_ownership())
                {
                    Some(ObjectOwnership::BucketOwnerEnforced) => AclState::Disabled,
                    Some(ObjectOwnership::BucketOwnerPreferred | ObjectOwnership::ObjectWriter) => {
                        AclState::Enabled
                    }
                    _ => AclState::Unknown,
                }
            }
            Err(error) if error.code == "OwnershipControlsNotFoundError" => AclState::Enabled,
            Err(error) => return Err(error),
        })
    }

    /// GetObjectLockConfiguration: whether the bucket has Object Lock.
    ///
    /// # Errors
    /// What the store answered, where that is not about Object Lock.
    pub async fn object_lock_enabled(&self, bucket: &str) -> Result<bool, S3Error> {
        const OPERATION: &str = "GetObjectLockConfiguration";
        let answer = answer(
            BUCKET_TIMEOUT,
            OPERATION,
            self.client
                .get_object_lock_configuration()
                .bucket(bucket)
                .send(),
        )
        .await;
        match answer {
            Ok(answer) => Ok(answer
                .object_lock_configuration()
                .is_some_and(|lock| lock.object_lock_enabled().is_some())),
            Err(error) if error.code == "ObjectLockConfigurationNotFoundError" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// GetObjectRetention of the current version: whether it has any. HEAD shows it only to those who may read it.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn has_retention(&self, bucket: &str, key: &str) -> Result<bool, S3Error> {
        let operation = Operation::GetObjectRetention.name();
        let answer = answer(
            BUCKET_TIMEOUT,
            operation,
            self.client
                .get_object_retention()
                .bucket(bucket)
                .key(key)
                .send(),
        )
        .await;
        match answer {
            Ok(answer) => Ok(answer
                .retention()
                .is_some_and(|retention| retention.mode().is_some())),
            Err(error) if error.code == NO_LOCK => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// GetObjectLegalHold of the current version: whether it is on. HEAD shows it only to those who may read it.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn has_legal_hold(&self, bucket: &str, key: &str) -> Result<bool, S3Error> {
        let operation = Operation::GetObjectLegalHold.name();
        let answer = answer(
            BUCKET_TIMEOUT,
            operation,
            self.client
                .get_object_legal_hold()
                .bucket(bucket)
                .key(key)
                .send(),
        )
        .await;
        match answer {
            Ok(answer) => {
                let hold = answer.legal_hold().and_then(|hold| hold.status());
                Ok(hold == Some(&ObjectLockLegalHoldStatus::On))
            }
            Err(error) if error.code == NO_LOCK => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// GetObjectAcl of the current version.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn object_grants(&self, bucket: &str, key: &str) -> Result<ObjectGrants, S3Error> {
        let operation = Operation::GetObjectAcl.name();
        let answer = answer(
            BUCKET_TIMEOUT,
            operation,
            self.client.get_object_acl().bucket(bucket).key(key).send(),
        )
        .await?;
        let owner = answer.owner().and_then(|owner| owner.id());
        let owners = |grant: &aws_sdk_s3::types::Grant| {
            grant.permission() == Some(&Permission::FullControl)
                && grant
                    .grantee()
                    .is_some_and(|grantee| grantee.id().is_some() && grantee.id() == owner)
        };
        Ok(if answer.grants().iter().all(owners) {
            ObjectGrants::OwnerOnly
        } else {
            ObjectGrants::Others
        })
    }

    /// Asks something small whose refusal has a body, and so a code, where a HEAD's refusal has none: is it the bucket, the
    /// Region, the credentials?
    ///
    /// # Errors
    /// What the store answered.
    pub async fn diagnose(&self, bucket: &str) -> Result<(), S3Error> {
        const OPERATION: &str = "ListObjectsV2";
        answer(
            BUCKET_TIMEOUT,
            OPERATION,
            self.client
                .list_objects_v2()
                .bucket(bucket)
                .max_keys(1)
                .send(),
        )
        .await
        .map(|_| ())
    }
}
