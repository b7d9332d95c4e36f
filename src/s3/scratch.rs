//! Objects to try things on.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::StorageClass;

use super::request::{
    checksums_in, encryption_in, send_expires, tagging, under_target, version_of, with_content,
};
use super::{S3, Written, answer, empty};
use crate::encryption::Target;
use crate::object::{ContentHeaders, ObjectRef, Tag};
use crate::s3_error::S3Error;

/// How long an upload of a few bytes may take.
const PUT_TIMEOUT: Duration = Duration::from_secs(60);

/// A small object to write.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Where; a version makes no sense here.
    pub object: ObjectRef<'a>,
    /// The bytes.
    pub body: &'a [u8],
    /// The encryption; `None` is the bucket's default.
    pub target: Option<&'a Target>,
    /// The headers that describe the content.
    pub headers: &'a ContentHeaders,
    /// User metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// Tags.
    pub tags: &'a [Tag],
    /// Storage class; `None` is STANDARD.
    pub storage_class: Option<&'a str>,
}

impl S3 {
    /// PutObject.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn put(&self, put: Put<'_>) -> Result<Written, S3Error> {
        const OPERATION: &str = "PutObject";
        let request = self
            .client
            .put_object()
            .bucket(put.object.bucket)
            .key(put.object.key)
            .body(ByteStream::from(put.body.to_vec()))
            .set_tagging(tagging(put.tags))
            .set_storage_class(put.storage_class.map(StorageClass::from));
        let request = under_target!(request, put.target);
        let request = with_content!(request, put.headers, put.metadata);
        let sent = send_expires!(request, put.headers.expires.clone());
        let answer = answer(PUT_TIMEOUT, OPERATION, sent).await?;
        let etag = answer
            .e_tag()
            .ok_or_else(|| empty(OPERATION, "the answer says OK and nothing else"))?;
        Ok(Written {
            encryption: encryption_in!(&answer),
            etag: Some(etag.to_owned()),
            version_id: version_of(answer.version_id()),
            checksums: checksums_in!(&answer, answer.checksum_type()),
            request_id: answer.request_id().map(str::to_owned),
        })
    }
    /// ListMultipartUploads: keys and ids of unfinished uploads below a prefix, the first 1,000. An upload whose creation was not
    /// answered is found nowhere else.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn uploads_below(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<Vec<(String, String)>, S3Error> {
        const OPERATION: &str = "ListMultipartUploads";
        let request = self.client.list_multipart_uploads();
        let request = request.bucket(bucket).prefix(prefix);
        let answer = answer(PUT_TIMEOUT, OPERATION, request.send()).await?;
        let uploads = answer.uploads().iter().filter_map(|upload| {
            let key = upload.key().filter(|key| key.starts_with(prefix))?;
            Some((key.to_owned(), upload.upload_id()?.to_owned()))
        });
        Ok(uploads.collect())
    }
}
