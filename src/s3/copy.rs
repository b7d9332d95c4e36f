//! The rewrite by one request.

use std::time::Duration;

use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::copy_object::CopyObjectInput;
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{MetadataDirective, TaggingDirective};
use aws_smithy_runtime_api::client::interceptors::context::Input;
use futures::future::BoxFuture;

use super::request::{
    checksums_in, copy_source, encryption_in, from_key, send_expires, tagging, under_target,
    version_of, with_carried, with_content,
};
use super::{S3, answer, empty, within};
use crate::encryption::{CustomerKey, Encryption, Target};
use crate::event::Operation;
use crate::object::{Acl, Checksums, Lock, ObjectHead, ObjectRef, Tag};
use crate::s3_error::S3Error;

/// How long a copy of nothing may take. S3 answers when it is done.
const COPY_TIMEOUT_BASE: Duration = Duration::from_secs(60);
/// The slowest copying that is still waited for: 5 GiB in 18 minutes.
const COPY_BYTES_PER_SECOND_MIN: u64 = 5 * 1024 * 1024;

/// A copy of an object onto itself.
#[derive(Clone, Copy, Debug)]
pub struct Copy<'a> {
    /// The object; its version is the copy's source.
    pub object: ObjectRef<'a>,
    /// What the look told: what CopyObject would reset is sent along.
    pub head: &'a ObjectHead,
    /// The encryption to write.
    pub target: &'a Target,
    /// The key that the object is under now, where it is SSE-C.
    pub source_key: Option<&'a CustomerKey>,
    /// Who brings metadata and content headers along.
    pub directive: Directive,
    /// What else is sent along.
    pub carry: &'a Carry,
    /// What the source must be still.
    pub source: SourceCondition,
    /// What must be in the object's place still.
    pub destination: Destination<'a>,
}

/// Who brings metadata and content headers along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// The store copies them: S3's default, so nothing is sent.
    Copy,
    /// All of them are sent again.
    Replace,
}

/// What a rewrite sends along beside what the look told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// The tags; `None`: the store copies them. A multipart copy's store does not.
    pub tags: Option<Vec<Tag>>,
    /// The ACL, sent as grants: the owner's too, because grants replace the default.
    pub acl: Option<Acl>,
    /// Object Lock.
    pub lock: Lock,
}

/// What pins a copy's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceCondition {
    /// The look's ETag.
    Etag,
    /// It was not written since, in seconds since 1970.
    UnmodifiedSince(i64),
    /// Nothing.
    None,
}

/// What must be in an object's place when a write comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// An object with this ETag.
    Etag(&'a str),
    /// Nothing.
    Absent,
    /// Whatever there is.
    Any,
}

impl Destination<'_> {
    pub(super) fn if_match(&self) -> Option<String> {
        match self {
            Self::Etag(etag) => Some((*etag).to_owned()),
            Self::Absent | Self::Any => None,
        }
    }

    pub(super) fn if_none_match(&self) -> Option<String> {
        (*self == Self::Absent).then(|| "*".to_owned())
    }
}

/// What a write answered. `None` and empty are what the answer did not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The encryption.
    pub encryption: Option<Encryption>,
    /// The new ETag, with its quotes.
    pub etag: Option<String>,
    /// The new version.
    pub version_id: Option<String>,
    /// The checksums.
    pub checksums: Checksums,
    /// S3's id of the request.
    pub request_id: Option<String>,
}

/// How long copying so many bytes may take.
pub(super) fn copy_limit(bytes: u64) -> Duration {
    COPY_TIMEOUT_BASE + Duration::from_secs(bytes / COPY_BYTES_PER_SECOND_MIN)
}

/// All of a copy but its Expires header.
macro_rules! copying {
    ($request:expr, $copy:expr) => {{
        let copy: &Copy<'_> = $copy;
        let head = copy.head;
        let since = match copy.source {
            SourceCondition::UnmodifiedSince(seconds) => Some(DateTime::from_secs(seconds)),
            SourceCondition::Etag | SourceCondition::None => None,
        };
        let etag = (copy.source == SourceCondition::Etag).then(|| head.etag.clone());
        let request = $request
            .bucket(copy.object.bucket)
            .key(copy.object.key)
            .copy_source(copy_source(copy.object))
            .set_copy_source_if_match(etag)
            .set_copy_source_if_unmodified_since(since)
            .set_if_match(copy.destination.if_match())
            .set_if_none_match(copy.destination.if_none_match());
        let mut request = with_carried!(request, head, copy.carry);
        if let Some(tags) = &copy.carry.tags {
            request = request
                .tagging_directive(TaggingDirective::Replace)
                .set_tagging(tagging(tags));
        }
        if copy.directive == Directive::Replace {
            request = with_content!(request, &head.headers, &head.metadata)
                .metadata_directive(MetadataDirective::Replace);
            if copy.carry.tags.is_none() {
                request = request.tagging_directive(TaggingDirective::Copy);
            }
        }
        from_key!(under_target!(request, Some(copy.target)), copy.source_key)
    }};
}

/// A copy that goes directly.
fn input_of(copy: &Copy<'_>) -> Result<Input, BuildError> {
    let input = copying!(CopyObjectInput::builder(), copy).build();
    input.map(Input::erase)
}

impl S3 {
    /// A copy that goes the SDK's way.
    fn request_of(&self, copy: &Copy<'_>) -> CopyObjectFluentBuilder {
        copying!(self.client.copy_object(), copy)
    }

    /// CopyObject onto itself. Storage class and website redirect, which a copy resets, are always sent along.
    ///
    /// # Errors
    /// What the store answered, also inside a 200; an empty 200 is [`EMPTY_ANSWER`](crate::s3_error::EMPTY_ANSWER).
    pub async fn copy_in_place(&self, copy: Copy<'_>) -> Result<Written, S3Error> {
        let operation = Operation::CopyObject.name();
        let limit = copy_limit(copy.head.size);
        let headers = &copy.head.headers;
        let expires = (copy.directive == Directive::Replace).then(|| headers.expires.clone());
        let expires = expires.flatten();
        // Requests and answers have many fields: in boxes they burden nobody's task, nor its stack.
        let sent: BoxFuture<'_, _> = match self.direct.way(copy.object) {
            Some(way) => {
                let sent = self.direct.copy(way, input_of(&copy), expires);
                Box::pin(within(limit, operation, sent))
            }
            None => {
                let request = self.request_of(&copy);
                let sent = send_expires!(request, expires);
                Box::pin(answer(limit, operation, sent))
            }
        };
        let answer = sent.await?;
        let result = answer
            .copy_object_result()
            .filter(|result| result.e_tag().is_some())
            .ok_or_else(|| empty(operation, "the answer says OK and nothing else"))?;
        Ok(Written {
            encryption: encryption_in!(&answer),
            etag: result.e_tag().map(str::to_owned),
            version_id: version_of(answer.version_id()),
            checksums: checksums_in!(result, result.checksum_type()),
            request_id: answer.request_id().map(str::to_owned),
        })
    }
}
