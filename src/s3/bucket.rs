//! What is true of a whole bucket. An answer that there is none of something is an answer; every other refusal is an error.

use std::time::Duration;

use aws_sdk_s3::types::{
    BucketVersioningStatus, EncryptionType, Event, ExpirationStatus, ObjectLockEnabled,
    ObjectOwnership, ReplicationRuleStatus, ServerSideEncryption, SseKmsEncryptedObjectsStatus,
};

use super::request::mode_of;
use super::{S3, answer, unreadable};
use crate::bucket::{
    Acls, DefaultEncryption, Lifecycle, Notifications, ObjectLock, ReplicationRule, Versioning,
};
use crate::encryption::{Mode, Target};
use crate::s3_error::S3Error;

/// Key of the upload that is created and aborted to learn a KMS key's name. No object ever has it.
const SCRATCH_KEY: &str = ".reseal-resolves-its-key";

/// How long a question about a bucket may take.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// `None` for the code with which S3 says that there is none.
fn unless_none<T>(answer: Result<T, S3Error>, none: &str) -> Result<Option<T>, S3Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code == none => Ok(None),
        Err(error) => Err(error),
    }
}

impl S3 {
    /// GetBucketVersioning.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn versioning(&self, bucket: &str) -> Result<Versioning, S3Error> {
        const OPERATION: &str = "GetBucketVersioning";
        let request = self.client.get_bucket_versioning().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await?;
        match answer.status() {
            None => Ok(Versioning::Never),
            Some(BucketVersioningStatus::Enabled) => Ok(Versioning::Enabled),
            Some(BucketVersioningStatus::Suspended) => Ok(Versioning::Suspended),
            Some(_) => Err(unreadable(OPERATION, "a status that is not known")),
        }
    }

    /// GetBucketOwnershipControls. A bucket that never had any has ACLs.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn acls(&self, bucket: &str) -> Result<Acls, S3Error> {
        const OPERATION: &str = "GetBucketOwnershipControls";
        const NONE: &str = "OwnershipControlsNotFoundError";
        let request = self.client.get_bucket_ownership_controls().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await;
        let Some(answer) = unless_none(answer, NONE)? else {
            return Ok(Acls::Enabled);
        };
        let rules = answer.ownership_controls().map(|controls| controls.rules());
        let rule = rules.and_then(<[_]>::first);
        match rule.map(|rule| rule.object_ownership()) {
            Some(ObjectOwnership::BucketOwnerEnforced) => Ok(Acls::Disabled),
            Some(ObjectOwnership::BucketOwnerPreferred | ObjectOwnership::ObjectWriter) => {
                Ok(Acls::Enabled)
            }
            _ => Err(unreadable(OPERATION, "an ownership that is not known")),
        }
    }

    /// GetObjectLockConfiguration.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn object_lock(&self, bucket: &str) -> Result<ObjectLock, S3Error> {
        const OPERATION: &str = "GetObjectLockConfiguration";
        const NONE: &str = "ObjectLockConfigurationNotFoundError";
        let request = self.client.get_object_lock_configuration().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await;
        let lock = unless_none(answer, NONE)?.and_then(|answer| answer.object_lock_configuration);
        let Some(lock) = lock else {
            return Ok(ObjectLock::Disabled);
        };
        let retention = lock.rule().and_then(|rule| rule.default_retention());
        Ok(match lock.object_lock_enabled() {
            _ if retention.is_some() => ObjectLock::DefaultRetention,
            Some(ObjectLockEnabled::Enabled) => ObjectLock::Enabled,
            Some(_) => return Err(unreadable(OPERATION, "a state that is not known")),
            None => ObjectLock::Disabled,
        })
    }

    /// GetBucketEncryption.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn default_encryption(&self, bucket: &str) -> Result<DefaultEncryption, S3Error> {
        const OPERATION: &str = "GetBucketEncryption";
        const NONE: &str = "ServerSideEncryptionConfigurationNotFoundError";
        let request = self.client.get_bucket_encryption().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await;
        let configuration = unless_none(answer, NONE)?
            .and_then(|answer| answer.server_side_encryption_configuration);
        let mut told = DefaultEncryption::default();
        for rule in configuration.iter().flat_map(|told| told.rules()) {
            if let Some(default) = rule.apply_server_side_encryption_by_default() {
                told.mode = Some(match default.sse_algorithm() {
                    ServerSideEncryption::Aes256 => Mode::SseS3,
                    ServerSideEncryption::AwsKms => Mode::SseKms,
                    ServerSideEncryption::AwsKmsDsse => Mode::DsseKms,
                    _ => return Err(unreadable(OPERATION, "a mode that is not known")),
                });
                told.kms_key = default.kms_master_key_id().map(str::to_owned);
            }
            told.bucket_key |= rule.bucket_key_enabled() == Some(true);
            let blocked = rule.blocked_encryption_types();
            told.blocks_sse_c |= blocked
                .is_some_and(|blocked| blocked.encryption_type().contains(&EncryptionType::SseC));
        }
        Ok(told)
    }

    /// GetBucketWebsite: whether the bucket is a website.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn website(&self, bucket: &str) -> Result<bool, S3Error> {
        const OPERATION: &str = "GetBucketWebsite";
        let request = self.client.get_bucket_website().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await;
        Ok(unless_none(answer, "NoSuchWebsiteConfiguration")?.is_some())
    }

    /// GetBucketReplication: the enabled rules.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn replication(&self, bucket: &str) -> Result<Vec<ReplicationRule>, S3Error> {
        const OPERATION: &str = "GetBucketReplication";
        const NONE: &str = "ReplicationConfigurationNotFoundError";
        let request = self.client.get_bucket_replication().bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await;
        let configuration =
            unless_none(answer, NONE)?.and_then(|answer| answer.replication_configuration);
        Ok(configuration
            .iter()
            .flat_map(|told| told.rules())
            .filter(|rule| *rule.status() == ReplicationRuleStatus::Enabled)
            .map(|rule| ReplicationRule {
                id: rule.id().unwrap_or_default().to_owned(),
                includes_kms: rule
                    .source_selection_criteria()
                    .and_then(|criteria| criteria.sse_kms_encrypted_objects())
                    .is_some_and(|kms| *kms.status() == SseKmsEncryptedObjectsStatus::Enabled),
            })
            .collect())
    }

    /// GetBucketNotificationConfiguration. A bucket without notifications answers with an empty one.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn notifications(&self, bucket: &str) -> Result<Notifications, S3Error> {
        const OPERATION: &str = "GetBucketNotificationConfiguration";
        let request = self.client.get_bucket_notification_configuration();
        let request = request.bucket(bucket);
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.send()).await?;
        let queues = answer.queue_configurations().iter();
        let topics = answer.topic_configurations().iter();
        let functions = answer.lambda_function_configurations().iter();
        let events = queues
            .map(|queue| queue.events())
            .chain(topics.map(|topic| topic.events()))
            .chain(functions.map(|function| function.events()));
        Ok(Notifications {
            destinations: events
                .filter(|events| events.iter().any(is_of_rewrites))
                .count(),
            event_bridge: answer.event_bridge_configuration().is_some(),
        })
    }

    /// GetBucketLifecycleConfiguration: what the enabled rules do.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn lifecycle(&self, bucket: &str) -> Result<Lifecycle, S3Error> {
        const OPERATION: &str = "GetBucketLifecycleConfiguration";
        const NONE: &str = "NoSuchLifecycleConfiguration";
        let request = self.client.get_bucket_lifecycle_configuration();
        let answer = answer(BUCKET_TIMEOUT, OPERATION, request.bucket(bucket).send()).await;
        let mut told = Lifecycle::default();
        let Some(answer) = unless_none(answer, NONE)? else {
            return Ok(told);
        };
        let enabled = answer
            .rules()
            .iter()
            .filter(|rule| *rule.status() == ExpirationStatus::Enabled);
        for rule in enabled {
            told.transitions |=
                !rule.transitions().is_empty() || !rule.noncurrent_version_transitions().is_empty();
            // One that removes lone delete markers expires no version.
            told.expirations |= rule
                .expiration()
                .is_some_and(|after| after.days().is_some() || after.date().is_some());
            told.noncurrent_expirations |= rule.noncurrent_version_expiration().is_some();
            told.aborts_uploads |= rule.abort_incomplete_multipart_upload().is_some();
        }
        Ok(told)
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
        let Some(kms) = target.kms() else {
            return Ok(None);
        };
        let create = self
            .client
            .create_multipart_upload()
            .bucket(bucket)
            .key(SCRATCH_KEY);
        let create = create
            .set_server_side_encryption(mode_of(target))
            .set_ssekms_key_id(kms.key_id.clone());
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

/// Whether a copy or a completed upload is such an event.
fn is_of_rewrites(event: &Event) -> bool {
    matches!(
        event,
        Event::S3ObjectCreated
            | Event::S3ObjectCreatedCopy
            | Event::S3ObjectCreatedCompleteMultipartUpload
    )
}
