//! The look at an object.

use std::time::Duration;

use aws_sdk_s3::operation::head_object::HeadObjectInput;
use aws_sdk_s3::operation::head_object::builders::HeadObjectInputBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ChecksumMode, ObjectLockLegalHoldStatus, ObjectLockMode};
use aws_smithy_runtime_api::client::interceptors::context::Input;
use futures::future::BoxFuture;

use super::request::{checksums_in, count, encryption_in, of_object, retention, under_key};
use super::{S3, answer, empty, within};
use crate::encryption::{CustomerKey, Encryption};
use crate::event::Operation;
use crate::object::{ContentHeaders, Lock, ObjectHead, ObjectRef};
use crate::s3_error::S3Error;

/// How long a look may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What a look asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The key that the object is under, where it is SSE-C.
    pub customer_key: Option<&'a CustomerKey>,
    /// Whether checksums shall be shown. For objects under a KMS key S3 wants the right to decrypt, then.
    pub checksums: bool,
    /// One part of an object that was uploaded in parts, from 1: the size that is told is this part's, and the number of parts
    /// is told.
    pub part: Option<u32>,
}

fn request_of(object: ObjectRef<'_>, ask: Ask<'_>) -> HeadObjectInputBuilder {
    let request = of_object!(HeadObjectInput::builder(), object)
        .set_checksum_mode(ask.checksums.then_some(ChecksumMode::Enabled))
        .set_part_number(ask.part.and_then(|part| i32::try_from(part).ok()));
    under_key!(request, ask.customer_key)
}

impl S3 {
    /// HeadObject.
    ///
    /// # Errors
    /// What the store answered; a HEAD has no body, so the code stands for its status. A delete marker is
    /// [`DELETE_MARKER`](crate::s3_error::DELETE_MARKER).
    pub async fn head(&self, object: ObjectRef<'_>, ask: Ask<'_>) -> Result<ObjectHead, S3Error> {
        let operation = Operation::HeadObject.name();
        let request = request_of(object, ask);
        // As with copies: in boxes.
        let sent: BoxFuture<'_, _> = match self.direct.way(object) {
            Some(way) => {
                let sent = self.direct.head(way, request.build().map(Input::erase));
                Box::pin(within(HEAD_TIMEOUT, operation, sent))
            }
            None => {
                let sent = request.send_with(&self.client);
                Box::pin(answer(HEAD_TIMEOUT, operation, sent))
            }
        };
        let answer = sent.await?;
        let missing = |what: &str| empty(operation, &format!("the answer has no {what}"));
        let storage_class = answer
            .storage_class()
            .map(|class| class.as_str().to_owned());
        let archived = answer.archive_status().is_some()
            || matches!(storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"));
        let restored = answer
            .restore()
            .is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
        Ok(ObjectHead {
            encryption: encryption_in!(&answer).unwrap_or(Encryption::NotSse),
            etag: answer.e_tag().ok_or_else(|| missing("ETag"))?.to_owned(),
            size: answer
                .content_length()
                .and_then(|length| u64::try_from(length).ok())
                .ok_or_else(|| missing("Content-Length"))?,
            version_id: answer.version_id().map(str::to_owned),
            website_redirect: answer.website_redirect_location().map(str::to_owned),
            storage_class,
            archived: archived && !restored,
            last_modified: answer.last_modified().map(DateTime::secs),
            headers: ContentHeaders {
                content_type: answer.content_type().map(str::to_owned),
                content_encoding: answer.content_encoding().map(str::to_owned),
                content_disposition: answer.content_disposition().map(str::to_owned),
                content_language: answer.content_language().map(str::to_owned),
                cache_control: answer.cache_control().map(str::to_owned),
                expires: answer.expires_string().map(str::to_owned),
            },
            missing_meta: count(answer.missing_meta()).unwrap_or(0),
            tag_count: count(answer.tag_count()),
            lock: Lock {
                retention: retention(
                    answer.object_lock_mode().map(ObjectLockMode::as_str),
                    answer.object_lock_retain_until_date(),
                ),
                legal_hold: answer.object_lock_legal_hold_status()
                    == Some(&ObjectLockLegalHoldStatus::On),
            },
            checksums: checksums_in!(&answer, answer.checksum_type()),
            parts: count(answer.parts_count()),
            replication_status: answer
                .replication_status()
                .map(|status| status.as_str().to_owned()),
            metadata: answer.metadata.unwrap_or_default().into_iter().collect(),
        })
    }
}
