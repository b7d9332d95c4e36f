//! Requests that s3s does not know, as one route of s3s's: `?encryption` and `?annotation`.
//!
//! Without it s3s would take an unknown PUT for PutObject. The signature has been checked when a route is asked.

use hyper::header::{self, HeaderMap};
use hyper::http::Extensions;
use hyper::{Method, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result};

use super::Service;
use super::annotations::Annotations;
use super::encryptions::Encryptions;
use crate::local_s3::front::{Requester, address, admit};

/// What is routed past s3s.
pub struct Routes {
    encryptions: Encryptions,
    annotations: Annotations,
}

impl Routes {
    #[must_use]
    pub fn new(service: &Service) -> Self {
        Self {
            encryptions: Encryptions::new(service.clone()),
            annotations: Annotations::new(service.clone()),
        }
    }
}

#[async_trait::async_trait]
impl S3Route for Routes {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        let methods = [Method::GET, Method::PUT, Method::DELETE];
        let names = ["encryption", "annotation"];
        methods.contains(method) && names.iter().any(|name| parameter(uri, name).is_some())
    }

    async fn check_access(&self, request: &mut S3Request<Body>) -> S3Result {
        admit(request.credentials.as_ref(), &request.headers)?;
        if let (Some(credentials), Some(requester)) =
            (&request.credentials, request.extensions.get::<Requester>())
        {
            requester.note(&credentials.access_key);
        }
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let host = request.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let (bucket, key) = address(host, request.uri.path());
        if parameter(&request.uri, "encryption").is_some() {
            self.encryptions.answer(request, bucket, key).await
        } else {
            self.annotations.answer(request, bucket, key).await
        }
    }
}

/// A parameter of the query as it stands there, encoded.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let parameters = uri.query().unwrap_or_default().split('&');
    let pairs = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut named = pairs.filter(|(key, _)| *key == name);
    named.next().map(|(_, value)| value.to_owned())
}
