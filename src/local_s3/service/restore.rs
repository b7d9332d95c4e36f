//! RestoreObject: an archived object becomes readable for some days. Here that takes no time.

use hyper::StatusCode;
use s3s::dto::{RestoreObjectInput, RestoreObjectOutput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use time::{Duration, Time};

use super::{Service, blocking, object_version};
use crate::local_s3::conditions::HTTP_DATE;
use crate::local_s3::error::with_detail;
use crate::local_s3::front::StatusInstead;
use crate::local_s3::model::{Moment, Object};

/// The longest restore: 27 years. S3 names no bound, but a date must fit into its header.
const DAYS_MAX: i32 = 10_000;

/// Makes an archived object readable, or readable for longer.
///
/// S3 answers 202 when it begins to restore, and 200 when a restored object's time is set anew.
/// Source: S3 API, RestoreObject.
pub(super) async fn restore_object(
    service: &Service,
    request: S3Request<RestoreObjectInput>,
) -> S3Result<S3Response<RestoreObjectOutput>> {
    let input = request.input;
    let bucket = service.bucket(&input.bucket)?;
    let version_id = object_version::parse_version_id(input.version_id.as_deref())?;
    let wanted = input
        .restore_request
        .ok_or_else(|| s3_error!(MalformedXML))?;
    if wanted.type_.is_some() || wanted.select_parameters.is_some() {
        return Err(s3_error!(NotImplemented, "SELECT is not available."));
    }
    let days = wanted.days.filter(|days| (1..=DAYS_MAX).contains(days));
    let days = days.ok_or_else(|| s3_error!(MalformedXML))?;
    let now = Moment::now();
    let until = expiry(now, days);
    let was_restored = blocking(move || {
        let mut was_restored = false;
        let restore = |object: &mut Object| {
            if !object.properties.is_archived() {
                return Err(not_archived(object));
            }
            was_restored = object.properties.is_restored(now);
            object.properties.restored_until = Some(until);
            Ok(())
        };
        object_version::change(&bucket, &input.key, version_id.as_ref(), restore)?;
        Ok(was_restored)
    })
    .await?;
    let mut response = S3Response::new(RestoreObjectOutput::default());
    if !was_restored {
        let accepted = StatusInstead(StatusCode::ACCEPTED);
        response.extensions.insert(accepted);
    }
    Ok(response)
}

/// The midnight after so many days. Source: S3 User Guide, "Restoring an archived object".
fn expiry(now: Moment, days: i32) -> Moment {
    let last = now.whole_second() + Duration::days(i64::from(days));
    Moment::from(last.replace_time(Time::MIDNIGHT) + Duration::days(1))
}

/// `x-amz-restore` of an object that is restored now.
pub(super) fn shown(object: &Object) -> Option<String> {
    let properties = &object.properties;
    let until = properties.restored_until?;
    if !properties.is_restored(Moment::now()) {
        return None;
    }
    let date = until.whole_second().format(HTTP_DATE).ok()?;
    Some(format!("ongoing-request=\"false\", expiry-date=\"{date}\""))
}

fn not_archived(object: &Object) -> S3Error {
    let message = "Restore is not allowed for the object's current storage class";
    let error = S3Error::with_message(S3ErrorCode::InvalidObjectState, message);
    with_detail(error, "StorageClass", &object.properties.storage_class)
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::head_object::HeadObjectOutput;
    use aws_sdk_s3::primitives::ByteStream;
    use aws_sdk_s3::types::{
        ObjectEncryption, RestoreRequest, ServerSideEncryption, SsekmsEncryption, StorageClass,
    };
    use time::macros::datetime;

    use super::*;
    use crate::local_s3::admin;
    use crate::local_s3::service::tests::{BUCKET, Fixture, read, refused, told};

    #[test]
    fn a_restore_ends_at_a_midnight() {
        let now = Moment::from(datetime!(2026-02-03 04:05:06.7 UTC));
        let expected = Moment::from(datetime!(2026-02-06 00:00 UTC));
        assert_eq!(expiry(now, 2), expected);
    }

    async fn put(fixture: &Fixture, class: StorageClass) {
        let put = fixture.client.put_object().bucket(BUCKET).key("key");
        let put = put.storage_class(class);
        put.body(ByteStream::from_static(b"x"))
            .send()
            .await
            .unwrap();
    }

    async fn restore(fixture: &Fixture, days: i32) -> (u16, String) {
        let wanted = RestoreRequest::builder().days(days).build();
        let restore = fixture.client.restore_object().bucket(BUCKET).key("key");
        told(restore.restore_request(wanted).send().await)
    }

    /// Reading, and copying from it whole or in part.
    async fn uses(fixture: &Fixture) -> [(u16, String); 3] {
        let client = &fixture.client;
        let copy = client
            .copy_object()
            .bucket(BUCKET)
            .key("to")
            .copy_source(format!("{BUCKET}/key"));
        let create = client.create_multipart_upload().bucket(BUCKET).key("to");
        let upload_id = create.send().await.unwrap().upload_id.unwrap();
        let part = client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("to")
            .upload_id(upload_id)
            .part_number(1)
            .copy_source(format!("{BUCKET}/key"));
        [
            told(fixture.get("key").send().await),
            told(copy.send().await),
            told(part.send().await),
        ]
    }

    /// The bytes of an archived object are out of reach until it is restored; its encryption is not.
    #[tokio::test]
    async fn an_archived_object_is_restored_before_it_is_read() {
        let fixture = Fixture::new().await;
        for class in [StorageClass::Glacier, StorageClass::DeepArchive] {
            put(&fixture, class.clone()).await;
            let archived = refused(403, "InvalidObjectState");
            assert_eq!(uses(&fixture).await, [(); 3].map(|()| archived.clone()));
            assert_eq!(fixture.head("key").await.restore, None);

            let arn = admin::add_key(fixture.data(), None).unwrap().arn;
            let kms = SsekmsEncryption::builder().kms_key_arn(arn).build();
            let update = fixture
                .client
                .update_object_encryption()
                .bucket(BUCKET)
                .key("key")
                .object_encryption(ObjectEncryption::Ssekms(kms.unwrap()));
            update.send().await.unwrap();

            assert_eq!(restore(&fixture, 0).await, refused(400, "MalformedXML"));
            assert_eq!(restore(&fixture, 2).await, refused(200, ""));
            assert_eq!(uses(&fixture).await, [(); 3].map(|()| refused(200, "")));
            assert_eq!(read(fixture.get("key")).await, b"x");
            let head: HeadObjectOutput = fixture.head("key").await;
            let date = expiry(Moment::now(), 2).whole_second();
            let date = date.format(HTTP_DATE).unwrap();
            let expected = format!("ongoing-request=\"false\", expiry-date=\"{date}\"");
            assert_eq!(head.restore, Some(expected));
            assert_eq!(head.storage_class, Some(class));
            assert_eq!(
                head.server_side_encryption,
                Some(ServerSideEncryption::AwsKms)
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_archived_is_read_and_not_restored() {
        let fixture = Fixture::new().await;
        for class in [
            StorageClass::IntelligentTiering,
            StorageClass::GlacierIr,
            StorageClass::StandardIa,
        ] {
            put(&fixture, class).await;
            assert_eq!(read(fixture.get("key")).await, b"x");
            let told = restore(&fixture, 1).await;
            assert_eq!(told, refused(403, "InvalidObjectState"));
        }
    }
}
