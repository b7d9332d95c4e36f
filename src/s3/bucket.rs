//! What is true of a whole bucket, and who may do what with an object.

use std::time::Duration;

use aws_sdk_s3::types::{
    ObjectLockLegalHoldStatus, ObjectOwnership, Permission, ServerSideEncryption,
};

use super::{S3, answer};
use crate::encryption::Target;
use crate::event::Operation;
use crate::s3_error::S3Error;

/// Key of the upload that is created and aborted to learn a KMS key's name. No object ever has it.
const SCRATCH_KEY: &str = ".reseal-resolves-its-key";

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

/// What a bucket's Object Lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLock {
    /// There is none.
    Disabled,
    /// Objects may be under retention or legal hold.
    Enabled,
    /// Every new object comes under retention.
    DefaultRetention,
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

    /// GetObjectLockConfiguration.
    ///
    /// # Errors
    /// What the store answered, where that is not about Object Lock.
    pub async fn object_lock(&self, bucket: &str) -> Result<ObjectLock, S3Error> {
        const OPERATION: &str = "GetObjectLockConfiguration";
        let request = self.client.get_object_lock_configuration().bucket(bucket);
        let lock = match answer(BUCKET_TIMEOUT, OPERATION, request.send()).await {
            Ok(answer) => answer.object_lock_configuration,
            Err(error) if error.code == "ObjectLockConfigurationNotFoundError" => None,
            Err(error) => return Err(error),
        };
        Ok(match lock {
            Some(lock)
                if lock
                    .rule()
                    .is_some_and(|rule| rule.default_retention().is_some()) =>
            {
                ObjectLock::DefaultRetention
            }
            Some(lock) if lock.object_lock_enabled().is_some() => ObjectLock::Enabled,
            _ => ObjectLock::Disabled,
        })
    }

    /// Lets the store say which key a KMS target stands for: by an upload that is created under it and aborted at once, so that no
    /// object comes into being. `None` where the store does not say.
    ///
    /// # Errors
    /// What the store answered to the creation.
    pub async fn resolve_kms_key(
        &self,
        bucket: &str,
        target: &Target,
    ) -> Result<Option<String>, S3Error> {
        const OPERATION: &str = "CreateMultipartUpload";
        let mode = match target {
            Target::SseKms(_) => ServerSideEncryption::AwsKms,
            Target::DsseKms(_) => ServerSideEncryption::AwsKmsDsse,
            Target::SseS3 | Target::SseC(_) => return Ok(None),
        };
        let create = self
            .client
            .create_multipart_upload()
            .bucket(bucket)
            .key(SCRATCH_KEY);
        let create = create
            .server_side_encryption(mode)
            .set_ssekms_key_id(target.kms().and_then(|kms| kms.key_id.clone()));
        let created = answer(BUCKET_TIMEOUT, OPERATION, create.send()).await?;
        if let Some(id) = created.upload_id() {
            let abort = self.client.abort_multipart_upload().bucket(bucket);
            let abort = abort.key(SCRATCH_KEY).upload_id(id);
            // An upload without parts that stays costs nothing, and the bucket's lifecycle removes it.
            let _ = answer(BUCKET_TIMEOUT, "AbortMultipartUpload", abort.send()).await;
        }
        Ok(created
            .ssekms_key_id()
            .filter(|key| !key.is_empty())
            .map(str::to_owned))
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
