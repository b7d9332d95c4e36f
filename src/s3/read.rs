//! Bytes back, to be compared.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use sha2::{Digest as _, Sha256};

use super::request::{of_object, under_key};
use super::{S3, answer, ours};
use crate::encryption::CustomerKey;
use crate::event::Operation;
use crate::object::ObjectRef;
use crate::s3_error::{NO_ANSWER, S3Error};

/// How long the first byte may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a reading may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// An object that was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Their number.
    pub size: u64,
}

impl S3 {
    /// GetObject, of which nothing is kept but the digest. `etag` pins what is read; `pace` is waited for after so many bytes.
    ///
    /// # Errors
    /// What the store answered; [`NO_ANSWER`] where it stopped in the middle.
    pub async fn read(
        &self,
        object: ObjectRef<'_>,
        customer_key: Option<&CustomerKey>,
        etag: Option<&str>,
        pace: impl AsyncFn(u64),
    ) -> Result<ReadBack, S3Error> {
        let mut digest = Sha256::new();
        let size = self
            .read_into(object, customer_key, etag, pace, |chunk| {
                digest.update(chunk);
            })
            .await?;
        Ok(ReadBack {
            sha256: digest.finalize().into(),
            size,
        })
    }

    /// The same; `take` gets the bytes as they come. Tells their number.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_into(
        &self,
        object: ObjectRef<'_>,
        customer_key: Option<&CustomerKey>,
        etag: Option<&str>,
        pace: impl AsyncFn(u64),
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, S3Error> {
        let operation = Operation::GetObject.name();
        let request =
            of_object!(self.client.get_object(), object).set_if_match(etag.map(str::to_owned));
        let request = under_key!(request, customer_key);
        let answer = answer(READ_TIMEOUT, operation, request.send()).await?;
        let mut size = 0_u64;
        each_chunk(operation, answer, pace, |chunk| {
            size += chunk.len() as u64;
            take(chunk);
            Ok(())
        })
        .await?;
        Ok(size)
    }
}

impl S3 {
    /// GetObject of the first byte: whether an object may be read, and the reason in the store's words where it may not, which a look does
    /// not tell. An object without bytes may.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn first_byte(&self, object: ObjectRef<'_>) -> Result<(), S3Error> {
        let operation = Operation::GetObject.name();
        let request = of_object!(self.client.get_object(), object).range("bytes=0-0");
        match answer(READ_TIMEOUT, operation, request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.http_status == 416 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// As fast as they come.
pub async fn unpaced(_: u64) {}

/// Hands an object's bytes on as they come, at the pace of whoever is waited for.
///
/// # Errors
/// [`NO_ANSWER`] where they stop before the end; what `take` says.
pub(super) async fn each_chunk(
    operation: &'static str,
    mut answer: GetObjectOutput,
    pace: impl AsyncFn(u64),
    mut take: impl FnMut(&[u8]) -> Result<(), S3Error>,
) -> Result<(), S3Error> {
    let broken = |message: String| ours(operation, NO_ANSWER, 0, message);
    let mut size = 0_u64;
    loop {
        let chunk = tokio::time::timeout(STALL_TIMEOUT, answer.body.try_next())
            .await
            .map_err(|_| {
                let seconds = STALL_TIMEOUT.as_secs();
                broken(format!("the reading stood still for {seconds} s"))
            })?
            .map_err(|error| broken(error.to_string()))?;
        let Some(chunk) = chunk else { break };
        size += chunk.len() as u64;
        take(&chunk)?;
        pace(chunk.len() as u64).await;
    }
    if answer
        .content_length()
        .is_some_and(|length| u64::try_from(length) != Ok(size))
    {
        return Err(broken(format!("the reading stopped after {size} bytes")));
    }
    Ok(())
}
