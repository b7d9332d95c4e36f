//! Configurations of a bucket that are kept and given back, and do nothing here: website, replication, notification, lifecycle.
//!
//! s3s has read the document by the time a function here is called, so what is kept is a document that S3 would take; it is
//! kept as XML text, all four in the same place of the bucket's configuration.

use s3s::dto::{
    BucketLifecycleConfiguration, DeleteBucketLifecycleInput, DeleteBucketLifecycleOutput,
    DeleteBucketReplicationInput, DeleteBucketReplicationOutput, DeleteBucketWebsiteInput,
    DeleteBucketWebsiteOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketNotificationConfigurationInput,
    GetBucketNotificationConfigurationOutput, GetBucketReplicationInput,
    GetBucketReplicationOutput, GetBucketWebsiteInput, GetBucketWebsiteOutput,
    PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput,
    PutBucketNotificationConfigurationInput, PutBucketNotificationConfigurationOutput,
    PutBucketReplicationInput, PutBucketReplicationOutput, PutBucketWebsiteInput,
    PutBucketWebsiteOutput, ReplicationConfiguration,
};
use s3s::xml::{Deserialize, Deserializer, Serialize, Serializer};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Service;
use super::bucket_config::not_set;
use crate::local_s3::model::{Bucket, Document, Versioning};

/// Rules of one lifecycle or replication configuration. Source: S3 API, PutBucketLifecycleConfiguration and
/// PutBucketReplication.
const RULES_MAX: usize = 1_000;

/// The kept document, read as what is answered; `None` when nobody has put one.
fn kept<T: for<'xml> Deserialize<'xml>>(bucket: &Bucket, which: Document) -> S3Result<Option<T>> {
    let Some(text) = bucket.documents.get(&which) else {
        return Ok(None);
    };
    let mut xml = Deserializer::new(text.as_bytes());
    let read = T::deserialize(&mut xml).map_err(S3Error::internal_error)?;
    Ok(Some(read))
}

/// Keeps a document in place of the one before it, unless `allowed` refuses.
async fn keep(
    service: &Service,
    bucket: &str,
    which: Document,
    document: &(impl Serialize + Sync),
    allowed: impl FnOnce(&Bucket) -> S3Result + Send + 'static,
) -> S3Result {
    let mut text = Vec::new();
    document
        .serialize(&mut Serializer::new(&mut text))
        .map_err(S3Error::internal_error)?;
    let text = String::from_utf8(text).map_err(S3Error::internal_error)?;
    service
        .change_bucket(bucket, move |bucket| {
            allowed(bucket)?;
            bucket.documents.insert(which, text);
            Ok(())
        })
        .await
}

async fn forget(service: &Service, bucket: &str, which: Document) -> S3Result {
    service
        .change_bucket(bucket, move |bucket| {
            bucket.documents.remove(&which);
            Ok(())
        })
        .await
}

/// Refuses a list of rules that S3's schema does not allow.
fn check_rules(count: usize) -> S3Result {
    if (1..=RULES_MAX).contains(&count) {
        return Ok(());
    }
    Err(s3_error!(MalformedXML))
}

pub(super) async fn get_bucket_website(
    service: &Service,
    request: S3Request<GetBucketWebsiteInput>,
) -> S3Result<S3Response<GetBucketWebsiteOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let found = kept(&config, Document::Website)?.ok_or_else(|| {
        let code = S3ErrorCode::NoSuchWebsiteConfiguration;
        let message = "The specified bucket does not have a website configuration";
        not_set(code, message, &config.name)
    })?;
    Ok(S3Response::new(found))
}

pub(super) async fn put_bucket_website(
    service: &Service,
    request: S3Request<PutBucketWebsiteInput>,
) -> S3Result<S3Response<PutBucketWebsiteOutput>> {
    let (bucket, document) = (&request.input.bucket, &request.input.website_configuration);
    if document.redirect_all_requests_to.is_none() && document.index_document.is_none() {
        return Err(s3_error!(
            InvalidArgument,
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty"
        ));
    }
    keep(service, bucket, Document::Website, document, |_| Ok(())).await?;
    Ok(S3Response::new(PutBucketWebsiteOutput::default()))
}

pub(super) async fn delete_bucket_website(
    service: &Service,
    request: S3Request<DeleteBucketWebsiteInput>,
) -> S3Result<S3Response<DeleteBucketWebsiteOutput>> {
    forget(service, &request.input.bucket, Document::Website).await?;
    Ok(S3Response::new(DeleteBucketWebsiteOutput::default()))
}

pub(super) async fn get_bucket_replication(
    service: &Service,
    request: S3Request<GetBucketReplicationInput>,
) -> S3Result<S3Response<GetBucketReplicationOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let found: Option<ReplicationConfiguration> = kept(&config, Document::Replication)?;
    if found.is_none() {
        let code = S3ErrorCode::ReplicationConfigurationNotFoundError;
        let message = "The replication configuration was not found";
        return Err(not_set(code, message, &config.name));
    }
    Ok(S3Response::new(GetBucketReplicationOutput {
        replication_configuration: found,
    }))
}

/// Replicating takes versions.
pub(super) async fn put_bucket_replication(
    service: &Service,
    request: S3Request<PutBucketReplicationInput>,
) -> S3Result<S3Response<PutBucketReplicationOutput>> {
    let (bucket, document) = (
        &request.input.bucket,
        &request.input.replication_configuration,
    );
    check_rules(document.rules.len())?;
    keep(service, bucket, Document::Replication, document, |bucket| {
        if bucket.versioning == Versioning::Enabled {
            return Ok(());
        }
        Err(s3_error!(
            InvalidRequest,
            "Versioning must be 'Enabled' on the bucket to apply a replication configuration"
        ))
    })
    .await?;
    Ok(S3Response::new(PutBucketReplicationOutput::default()))
}

pub(super) async fn delete_bucket_replication(
    service: &Service,
    request: S3Request<DeleteBucketReplicationInput>,
) -> S3Result<S3Response<DeleteBucketReplicationOutput>> {
    forget(service, &request.input.bucket, Document::Replication).await?;
    Ok(S3Response::new(DeleteBucketReplicationOutput::default()))
}

/// A bucket without notifications answers an empty configuration; there is no error for it and no DELETE.
pub(super) async fn get_bucket_notification_configuration(
    service: &Service,
    request: S3Request<GetBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<GetBucketNotificationConfigurationOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let found = kept(&config, Document::Notification)?;
    Ok(S3Response::new(found.unwrap_or_default()))
}

pub(super) async fn put_bucket_notification_configuration(
    service: &Service,
    request: S3Request<PutBucketNotificationConfigurationInput>,
) -> S3Result<S3Response<PutBucketNotificationConfigurationOutput>> {
    let (bucket, document) = (
        &request.input.bucket,
        &request.input.notification_configuration,
    );
    let which = Document::Notification;
    keep(service, bucket, which, document, |_| Ok(())).await?;
    let output = PutBucketNotificationConfigurationOutput::default();
    Ok(S3Response::new(output))
}

pub(super) async fn get_bucket_lifecycle_configuration(
    service: &Service,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let config = service.bucket(&request.input.bucket)?.config();
    let found: Option<BucketLifecycleConfiguration> = kept(&config, Document::Lifecycle)?;
    let Some(found) = found else {
        let code = S3ErrorCode::NoSuchLifecycleConfiguration;
        let message = "The lifecycle configuration does not exist";
        return Err(not_set(code, message, &config.name));
    };
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(found.rules),
        ..Default::default()
    }))
}

pub(super) async fn put_bucket_lifecycle_configuration(
    service: &Service,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let input = request.input;
    let document = input.lifecycle_configuration;
    let document = document.ok_or_else(|| s3_error!(MalformedXML))?;
    check_rules(document.rules.len())?;
    let which = Document::Lifecycle;
    keep(service, &input.bucket, which, &document, |_| Ok(())).await?;
    let output = PutBucketLifecycleConfigurationOutput::default();
    Ok(S3Response::new(output))
}

pub(super) async fn delete_bucket_lifecycle(
    service: &Service,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
    forget(service, &request.input.bucket, Document::Lifecycle).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::Client;
    use aws_sdk_s3::types::{
        BucketLifecycleConfiguration, BucketVersioningStatus, Destination, Event, ExpirationStatus,
        IndexDocument, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
        NotificationConfiguration, QueueConfiguration, ReplicationConfiguration, ReplicationRule,
        ReplicationRuleFilter, ReplicationRuleStatus, SourceSelectionCriteria,
        SseKmsEncryptedObjects, SseKmsEncryptedObjectsStatus, VersioningConfiguration,
        WebsiteConfiguration,
    };

    use crate::local_s3::service::tests::{BUCKET, Fixture, refused, told};

    #[tokio::test]
    async fn a_website_is_kept() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let get = || client.get_bucket_website().bucket(BUCKET).send();
        let put = |website| {
            let put = client.put_bucket_website().bucket(BUCKET);
            put.website_configuration(website).send()
        };
        let missing = refused(404, "NoSuchWebsiteConfiguration");
        assert_eq!(told(get().await), missing);
        let empty = WebsiteConfiguration::builder().build();
        assert_eq!(told(put(empty).await), refused(400, "InvalidArgument"));
        let index = IndexDocument::builder().suffix("a&b.html").build().unwrap();
        let website = WebsiteConfiguration::builder().index_document(index.clone());
        put(website.build()).await.unwrap();
        assert_eq!(get().await.unwrap().index_document, Some(index));
        let delete = || client.delete_bucket_website().bucket(BUCKET).send();
        delete().await.unwrap();
        delete().await.unwrap();
        assert_eq!(told(get().await), missing);
    }

    async fn set_versioning(client: &Client, status: BucketVersioningStatus) -> (u16, String) {
        let wanted = VersioningConfiguration::builder().status(status).build();
        let put = client.put_bucket_versioning().bucket(BUCKET);
        told(put.versioning_configuration(wanted).send().await)
    }

    /// Replication takes versioning, and keeps it on.
    #[tokio::test]
    async fn replication_is_kept() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let get = || client.get_bucket_replication().bucket(BUCKET).send();
        let missing = refused(404, "ReplicationConfigurationNotFoundError");
        assert_eq!(told(get().await), missing);
        let to = Destination::builder().bucket("arn:aws:s3:::other");
        let kms = SseKmsEncryptedObjects::builder().status(SseKmsEncryptedObjectsStatus::Enabled);
        let criteria = SourceSelectionCriteria::builder()
            .sse_kms_encrypted_objects(kms.build().unwrap())
            .build();
        let rule = ReplicationRule::builder()
            .status(ReplicationRuleStatus::Enabled)
            .filter(ReplicationRuleFilter::builder().prefix("a/").build())
            .source_selection_criteria(criteria)
            .destination(to.build().unwrap())
            .build()
            .unwrap();
        let wanted = ReplicationConfiguration::builder()
            .role("arn:aws:iam::000000000000:role/r")
            .rules(rule)
            .build()
            .unwrap();
        let put = || {
            let put = client.put_bucket_replication().bucket(BUCKET);
            put.replication_configuration(wanted.clone()).send()
        };
        assert_eq!(told(put().await), refused(400, "InvalidRequest"));
        let enabled = set_versioning(client, BucketVersioningStatus::Enabled).await;
        assert_eq!(enabled, refused(200, ""));
        put().await.unwrap();
        let found = get().await.unwrap().replication_configuration;
        assert_eq!(found, Some(wanted.clone()));
        let suspended = set_versioning(client, BucketVersioningStatus::Suspended).await;
        assert_eq!(suspended, refused(409, "InvalidBucketState"));
        let delete = client.delete_bucket_replication().bucket(BUCKET);
        delete.send().await.unwrap();
        assert_eq!(told(get().await), missing);
    }

    /// Notifications are taken away by an empty document.
    #[tokio::test]
    async fn notifications_are_kept() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let queues = || async {
            let get = client.get_bucket_notification_configuration();
            let found = get.bucket(BUCKET).send().await.unwrap();
            found.queue_configurations.unwrap_or_default()
        };
        let put = |wanted| {
            let put = client
                .put_bucket_notification_configuration()
                .bucket(BUCKET);
            put.notification_configuration(wanted).send()
        };
        assert_eq!(queues().await, []);
        let queue = QueueConfiguration::builder()
            .id("q")
            .queue_arn("arn:aws:sqs:us-east-1:000000000000:q")
            .events(Event::S3ObjectCreated)
            .build()
            .unwrap();
        let wanted = NotificationConfiguration::builder().queue_configurations(queue.clone());
        put(wanted.build()).await.unwrap();
        assert_eq!(queues().await, [queue]);
        let none = NotificationConfiguration::builder().build();
        put(none).await.unwrap();
        assert_eq!(queues().await, []);
    }

    #[tokio::test]
    async fn a_lifecycle_is_kept() {
        let fixture = Fixture::new().await;
        let client = &fixture.client;
        let get = || {
            let get = client.get_bucket_lifecycle_configuration();
            get.bucket(BUCKET).send()
        };
        let missing = refused(404, "NoSuchLifecycleConfiguration");
        assert_eq!(told(get().await), missing);
        let rule = LifecycleRule::builder()
            .id("old")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("a/").build())
            .expiration(LifecycleExpiration::builder().days(30).build())
            .build()
            .unwrap();
        let wanted = BucketLifecycleConfiguration::builder().rules(rule.clone());
        let put = client.put_bucket_lifecycle_configuration().bucket(BUCKET);
        put.lifecycle_configuration(wanted.build().unwrap())
            .send()
            .await
            .unwrap();
        assert_eq!(get().await.unwrap().rules(), [rule]);
        let delete = client.delete_bucket_lifecycle().bucket(BUCKET);
        delete.send().await.unwrap();
        assert_eq!(told(get().await), missing);
    }
}
