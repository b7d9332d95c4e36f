//! The rewrite in place.

use std::time::Duration;

use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::types::{ObjectEncryption, SsekmsEncryption};

use super::request::of_object;
use super::{S3, answer, not_sent};
use crate::event::Operation;
use crate::object::ObjectRef;
use crate::s3_error::S3Error;

/// How long an update may take: it moves no data, whatever the size.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(60);

impl S3 {
    /// UpdateObjectEncryption to SSE-KMS. A store that does not know it may take the request for an upload and overwrite the
    /// object: only for stores that have shown that they know it.
    ///
    /// # Errors
    /// What the store answered. There is nothing in the answer of one that did it but the request's id.
    pub async fn update_encryption(
        &self,
        object: ObjectRef<'_>,
        key_arn: &str,
        bucket_key: bool,
    ) -> Result<Option<String>, S3Error> {
        let operation = Operation::UpdateObjectEncryption.name();
        let kms = SsekmsEncryption::builder()
            .kms_key_arn(key_arn)
            .bucket_key_enabled(bucket_key)
            .build()
            .map_err(|error| not_sent(operation, error.to_string()))?;
        let request = of_object!(self.client.update_object_encryption(), object)
            .object_encryption(ObjectEncryption::Ssekms(kms));
        answer(UPDATE_TIMEOUT, operation, request.send())
            .await
            .map(|answer| answer.request_id().map(str::to_owned))
    }
}
