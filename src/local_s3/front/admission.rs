//! Who is let in.

use std::sync::{Arc, OnceLock};

use hyper::header::{HeaderMap, HeaderName};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::Credentials;
use s3s::{S3Result, s3_error};

use crate::local_s3::service::ACCOUNT_ID;

const EXPECTED_OWNER: HeaderName = HeaderName::from_static("x-amz-expected-bucket-owner");

/// A request extension: who signed it, once that is known.
#[derive(Debug, Clone, Default)]
pub struct Requester(pub(super) Arc<OnceLock<String>>);

impl Requester {
    /// Notes the access key of a request whose signature held.
    pub fn note(&self, access_key: &str) {
        self.0.get_or_init(|| access_key.to_owned());
    }
}

/// Lets every signed request in and no other: there is one owner here.
#[derive(Debug, Clone, Copy)]
pub struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result {
        let credentials = request.credentials();
        admit(credentials, request.headers())?;
        let access_key = credentials.map(|c| c.access_key.clone());
        if let (Some(access_key), Some(requester)) =
            (access_key, request.extensions_mut().get::<Requester>())
        {
            requester.note(&access_key);
        }
        Ok(())
    }
}

/// Admits a request whose signature held, unless it expects the bucket to be somebody else's.
///
/// # Errors
/// 403 AccessDenied.
pub(in crate::local_s3) fn admit(
    credentials: Option<&Credentials>,
    headers: &HeaderMap,
) -> S3Result {
    let expected_owner = headers.get(EXPECTED_OWNER);
    let is_owner = expected_owner.is_none_or(|owner| owner == ACCOUNT_ID);
    if credentials.is_none() || !is_owner {
        return Err(s3_error!(AccessDenied, "Access Denied"));
    }
    Ok(())
}
