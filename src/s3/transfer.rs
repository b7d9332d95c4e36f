//! Whole objects to and from local files: manifests come in, reports go out.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::io::AsyncWriteExt as _;

use super::{S3, answer};
use crate::s3_error::{FILE_NOT_READ, FILE_NOT_WRITTEN, NO_ANSWER, S3Error};

/// How long the first byte of a download, or the answer to one uploaded part, may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a download may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Size of an uploaded part in bytes; a smaller file goes up in one PutObject. 10,000 parts of it are 625 GiB.
pub const UPLOAD_PART_BYTES: u64 = 64 * 1024 * 1024;

/// A download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// ETag with its quotes.
    pub etag: String,
    /// Bytes written.
    pub bytes: u64,
}

impl S3 {
    /// GetObject into a new file. `if_match` pins the content.
    ///
    /// # Errors
    /// What the store answered, a download that stopped short of its length, or a file that could not be written (its
    /// text is the message).
    pub async fn fetch(
        &self,
        bucket: &str,
        key: &str,
        if_match: Option<&str>,
        file: &Path,
    ) -> Result<Fetched, S3Error> {
        const OPERATION: &str = "GetObject";
        let broken = |message: String| S3Error {
            operation: OPERATION,
            code: NO_ANSWER.to_owned(),
            http_status: 0,
            message,
            request_id: None,
            retry_after: None,
        };
        let unwritable = |error: std::io::Error| S3Error {
            code: FILE_NOT_WRITTEN.to_owned(),
            ..broken(format!("{}: {error}", file.display()))
        };
        let mut answer = answer(
            TRANSFER_TIMEOUT,
            OPERATION,
            self.client
                .get_object()
                .bucket(bucket)
                .key(key)
                .set_if_match(if_match.map(str::to_owned))
                .send(),
        )
        .await?;
        let mut out = tokio::fs::File::create(file).await.map_err(unwritable)?;
        let mut bytes = 0_u64;
        loop {
            let chunk = tokio::time::timeout(STALL_TIMEOUT, answer.body.try_next())
                .await
                .map_err(|_| {
                    broken(format!(
                        "the download stood still for {} s",
                        STALL_TIMEOUT.as_secs()
                    ))
                })?
                .map_err(|error| broken(error.to_string()))?;
            let Some(chunk) = chunk else { break };
            bytes += chunk.len() as u64;
            out.write_all(&chunk).await.map_err(unwritable)?;
        }
        out.flush().await.map_err(unwritable)?;
        if answer
            .content_length()
            .is_some_and(|length| u64::try_from(length) != Ok(bytes))
        {
            return Err(broken(format!("the download stopped after {bytes} bytes")));
        }
        Ok(Fetched {
            etag: answer.e_tag().unwrap_or_default().to_owned(),
            bytes,
        })
    }

    /// Uploads a file, in parts where it is larger than [`UPLOAD_PART_BYTES`].
    ///
    /// # Errors
    /// What the store answered; an upload in parts is aborted then.
    pub async fn upload(&self, bucket: &str, key: &str, file: &Path) -> Result<(), S3Error> {
        let bytes = tokio::fs::metadata(file)
            .await
            .map_err(unreadable(file))?
            .len();
        if bytes > UPLOAD_PART_BYTES {
            return self.upload_in_parts(bucket, key, file, bytes).await;
        }
        const OPERATION: &str = "PutObject";
        let body = part_of(file, 0, bytes).await?;
        answer(
            TRANSFER_TIMEOUT,
            OPERATION,
            self.client
                .put_object()
                .bucket(bucket)
                .key(key)
                .body(body)
                .send(),
        )
        .await
        .map(|_| ())
    }

    async fn upload_in_parts(
        &self,
        bucket: &str,
        key: &str,
        file: &Path,
        bytes: u64,
    ) -> Result<(), S3Error> {
        const OPERATION: &str = "CreateMultipartUpload";
        let upload = answer(
            TRANSFER_TIMEOUT,
            OPERATION,
            self.client
                .create_multipart_upload()
                .bucket(bucket)
                .key(key)
                .send(),
        )
        .await?;
        let id = upload.upload_id().unwrap_or_default();
        let result = self.upload_parts(bucket, key, id, file, bytes).await;
        if result.is_err() {
            let abort = self
                .client
                .abort_multipart_upload()
                .bucket(bucket)
                .key(key)
                .upload_id(id);
            // The upload's own error is the one to tell; what is left behind the bucket's lifecycle rule removes.
            let _ = tokio::time::timeout(TRANSFER_TIMEOUT, abort.send()).await;
        }
        result
    }

    async fn upload_parts(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        file: &Path,
        bytes: u64,
    ) -> Result<(), S3Error> {
        const PART: &str = "UploadPart";
        const COMPLETE: &str = "CompleteMultipartUpload";
        let mut parts = Vec::new();
        for (number, offset) in (1_i32..).zip((0..bytes).step_by(UPLOAD_PART_BYTES as usize)) {
            let body = part_of(file, offset, UPLOAD_PART_BYTES.min(bytes - offset)).await?;
            let part = answer(TRANSFER_TIMEOUT, PART, {
                let request = self
                    .client
                    .upload_part()
                    .bucket(bucket)
                    .key(key)
                    .upload_id(id);
                let request = request.part_number(number).body(body);
                request.send()
            })
            .await?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag().map(str::to_owned));
            parts.push(part.build());
        }
        answer(TRANSFER_TIMEOUT, COMPLETE, {
            let parts = CompletedMultipartUpload::builder()
                .set_parts(Some(parts))
                .build();
            let request = self
                .client
                .complete_multipart_upload()
                .bucket(bucket)
                .key(key)
                .upload_id(id);
            let request = request.multipart_upload(parts);
            request.send()
        })
        .await
        .map(|_| ())
    }
}

async fn part_of(file: &Path, offset: u64, length: u64) -> Result<ByteStream, S3Error> {
    ByteStream::read_from()
        .path(file)
        .offset(offset)
        .length(Length::Exact(length))
        .build()
        .await
        .map_err(|error| unreadable(file)(std::io::Error::other(error)))
}

fn unreadable(file: &Path) -> impl Fn(std::io::Error) -> S3Error + '_ {
    move |error| S3Error {
        operation: "PutObject",
        code: FILE_NOT_READ.to_owned(),
        http_status: 0,
        message: format!("{}: {error}", file.display()),
        request_id: None,
        retry_after: None,
    }
}
