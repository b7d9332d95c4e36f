//! Versions of a key, and their removal.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::EncodingType;

use super::request::{decoded, of_object, version_of};
use super::{S3, answer, not_sent, ours, unreadable};
use crate::event::Operation;
use crate::object::{NULL_VERSION, ObjectRef};
use crate::s3_error::S3Error;

/// Most versions of one key that are listed, delete markers among them.
pub const VERSIONS_MAX: usize = 1000;

/// Code of a key with more than [`VERSIONS_MAX`] versions. Ours.
pub const TOO_MANY_VERSIONS: &str = "TooManyVersions";

/// How long one page of a listing, or a removal, may take.
const VERSIONS_TIMEOUT: Duration = Duration::from_secs(60);

/// Most pages that are asked for: a page without a version of the key is the last.
const PAGES_MAX: usize = VERSIONS_MAX + 1;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub version_id: String,
    /// Whether it is a delete marker: it has no bytes.
    pub is_delete_marker: bool,
    /// ETag with quotes; a delete marker has none.
    pub etag: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970.
    pub last_modified: Option<i64>,
}

/// A version, and what puts it in its place.
struct Listed {
    version: Version,
    is_latest: bool,
    nanos: Option<i128>,
}

impl S3 {
    /// ListObjectVersions of exactly that key, newest first.
    ///
    /// S3 lists versions and delete markers as they came. Other stores may list all of one kind and then all of the other: where that
    /// may be so and dates don't rule it out, the key is listed once more in pages of one, which are in order on all stores tried.
    ///
    /// # Errors
    /// What the store answered; [`TOO_MANY_VERSIONS`].
    pub async fn versions(&self, bucket: &str, key: &str) -> Result<Vec<Version>, S3Error> {
        let mut listed = self.listed_versions(bucket, key, None).await?;
        if !self.is_aws() && !is_in_order(&listed) {
            listed = self.listed_versions(bucket, key, Some(1)).await?;
        }
        Ok(listed.into_iter().map(|listed| listed.version).collect())
    }

    /// ListObjectVersions: the keys below a prefix that have versions or delete markers, those of the first page.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn keys_of_versions(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> Result<BTreeSet<String>, S3Error> {
        let operation = Operation::ListObjectVersions.name();
        let request = self.client.list_object_versions();
        let request = request.bucket(bucket).prefix(prefix);
        // Keys may hold characters that XML can't.
        let request = request.encoding_type(EncodingType::Url);
        let page = answer(VERSIONS_TIMEOUT, operation, request.send()).await?;
        let versions = page.versions().iter().filter_map(|version| version.key());
        let markers = page.delete_markers().iter();
        let keys = versions.chain(markers.filter_map(|marker| marker.key()));
        let keys = keys.map(|key| decoded(key, page.encoding_type()));
        Ok(keys.filter(|key| key.starts_with(prefix)).collect())
    }

    /// The versions of a key as the store lists them, in pages of so many or as many as it likes.
    async fn listed_versions(
        &self,
        bucket: &str,
        key: &str,
        page_max: Option<i32>,
    ) -> Result<Vec<Listed>, S3Error> {
        let operation = Operation::ListObjectVersions.name();
        let unordered = || unreadable(operation, "a listing whose order can't be told");
        let mut all = Vec::new();
        let (mut key_marker, mut version_marker) = (None, None);
        for _ in 0..PAGES_MAX {
            let order = DocumentOrder::default();
            let request = self
                .client
                .list_object_versions()
                .bucket(bucket)
                .prefix(key)
                // Keys may hold characters that XML can't.
                .encoding_type(EncodingType::Url)
                .set_max_keys(page_max)
                .set_key_marker(key_marker.take())
                .set_version_id_marker(version_marker.take())
                .customize()
                .interceptor(order.clone());
            let page = answer(VERSIONS_TIMEOUT, operation, request.send()).await?;
            let listed = in_document_order(key, &page, &order.take()).ok_or_else(unordered)?;
            if page_max.is_some_and(|max| i32::try_from(listed.len()).is_ok_and(|n| n > max)) {
                return Err(unordered());
            }
            let last = listed.is_empty() || page.is_truncated() != Some(true);
            all.extend(listed);
            if all.len() > VERSIONS_MAX {
                let message = format!("the key has more than {VERSIONS_MAX} versions");
                return Err(ours(operation, TOO_MANY_VERSIONS, 200, message));
            }
            if last {
                break;
            }
            key_marker = page
                .next_key_marker()
                .map(|marker| decoded(marker, page.encoding_type()));
            version_marker = page.next_version_id_marker().map(str::to_owned);
            if key_marker.is_none() {
                return Err(unreadable(
                    operation,
                    "a page without a marker for the next",
                ));
            }
        }
        Ok(all)
    }

    /// DeleteObject without a version: puts a delete marker on top, and tells its version. In a bucket without versioning it
    /// removes the object.
    ///
    /// # Errors
    /// What the store answered.
    pub async fn put_delete_marker(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Option<String>, S3Error> {
        let operation = Operation::DeleteObject.name();
        let request = self.client.delete_object().bucket(bucket).key(key);
        let answer = answer(VERSIONS_TIMEOUT, operation, request.send()).await?;
        Ok(version_of(answer.version_id()))
    }

    /// DeleteObject of one version, for good.
    ///
    /// # Errors
    /// What the store answered. Without a version nothing is sent: it would be another request.
    pub async fn delete_version(&self, object: ObjectRef<'_>) -> Result<(), S3Error> {
        let operation = Operation::DeleteObject.name();
        if object.version_id.is_none_or(str::is_empty) {
            let message = "a version is to be deleted and none is named".to_owned();
            return Err(not_sent(operation, message));
        }
        let request = of_object!(self.client.delete_object(), object);
        answer(VERSIONS_TIMEOUT, operation, request.send())
            .await
            .map(|_| ())
    }
}

/// The versions of a page that are of that key, as they stood in the document. `None` where the document's order is not known.
fn in_document_order(
    key: &str,
    page: &ListObjectVersionsOutput,
    kinds: &[Kind],
) -> Option<Vec<Listed>> {
    let (mut versions, mut markers) = (page.versions().iter(), page.delete_markers().iter());
    let mut all = Vec::new();
    for kind in kinds {
        let (name, listed) = match kind {
            Kind::Version => {
                let version = versions.next()?;
                (
                    version.key(),
                    Listed {
                        version: Version {
                            version_id: version.version_id().unwrap_or(NULL_VERSION).to_owned(),
                            is_delete_marker: false,
                            etag: version.e_tag().map(str::to_owned),
                            size: version.size().and_then(|n| u64::try_from(n).ok())?,
                            last_modified: version.last_modified().map(DateTime::secs),
                        },
                        is_latest: version.is_latest() == Some(true),
                        nanos: version.last_modified().map(DateTime::as_nanos),
                    },
                )
            }
            Kind::DeleteMarker => {
                let marker = markers.next()?;
                (
                    marker.key(),
                    Listed {
                        version: Version {
                            version_id: marker.version_id().unwrap_or(NULL_VERSION).to_owned(),
                            is_delete_marker: true,
                            etag: None,
                            size: 0,
                            last_modified: marker.last_modified().map(DateTime::secs),
                        },
                        is_latest: marker.is_latest() == Some(true),
                        nanos: marker.last_modified().map(DateTime::as_nanos),
                    },
                )
            }
        };
        if decoded(name?, page.encoding_type()) == key {
            all.push(listed);
        }
    }
    (versions.next().is_none() && markers.next().is_none()).then_some(all)
}

/// Whether a document's order is the versions': where kinds are mixed it is, else where each is younger than the next.
fn is_in_order(all: &[Listed]) -> bool {
    let pairs = || all.windows(2);
    let kinds_change =
        |pair: &&[Listed]| pair[0].version.is_delete_marker != pair[1].version.is_delete_marker;
    let falls = |pair: &[Listed]| {
        let (newer, older) = (pair[0].nanos, pair[1].nanos);
        newer.zip(older).is_some_and(|(newer, older)| newer > older)
    };
    let latest_first = all
        .iter()
        .position(|listed| listed.is_latest)
        .is_none_or(|at| at == 0);
    latest_first
        && match pairs().filter(kinds_change).count() {
            0 => true,
            1 => pairs().all(falls),
            _ => true,
        }
}

/// What an element of a listing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Version,
    DeleteMarker,
}

/// Notes the order of a listing's elements: the SDK hands out versions and delete markers in two lists and forgets it.
#[derive(Clone, Debug, Default)]
struct DocumentOrder(Arc<Mutex<Vec<Kind>>>);

impl DocumentOrder {
    fn take(&self) -> Vec<Kind> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Intercept for DocumentOrder {
    fn name(&self) -> &'static str {
        "DocumentOrder"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(document) = context.response().body().bytes() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
                kinds_in(&String::from_utf8_lossy(document));
        }
        Ok(())
    }
}

/// The kinds of a document's elements. A `<` is never in a text: XML has it escaped there.
fn kinds_in(document: &str) -> Vec<Kind> {
    let elements = document.split('<').filter_map(|element| {
        let name = element.split(['>', '/', ' ', '\t', '\r', '\n']).next()?;
        match name {
            "Version" => Some(Kind::Version),
            "DeleteMarker" => Some(Kind::DeleteMarker),
            _ => None,
        }
    });
    elements.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, is_delete_marker: bool, is_latest: bool, at: i128) -> Listed {
        Listed {
            version: Version {
                version_id: id.to_owned(),
                is_delete_marker,
                etag: None,
                size: 0,
                last_modified: None,
            },
            is_latest,
            nanos: Some(at),
        }
    }

    #[test]
    fn a_document_is_believed_where_its_kinds_are_mixed_or_its_dates_fall() {
        let mixed = [
            listed("a", false, true, 1),
            listed("b", true, false, 5),
            listed("c", false, false, 4),
        ];
        assert!(is_in_order(&mixed));
        let one_kind = [listed("a", false, true, 1), listed("b", false, false, 5)];
        assert!(is_in_order(&one_kind));
        let apart = |dates: [i128; 3], latest: usize| {
            let one = |at: usize| listed("x", at == 2, at == latest, dates[at]);
            is_in_order(&[one(0), one(1), one(2)])
        };
        assert!(apart([9, 5, 3], 0));
        assert!(!apart([9, 3, 5], 0));
        assert!(!apart([9, 3, 3], 0));
        assert!(!apart([9, 5, 3], 2));
    }

    #[test]
    fn elements_are_told_from_their_like() {
        let document = "<R><VersionIdMarker/><Version><VersionId>&lt;Version></VersionId></Version>\
                        <DeleteMarker xsi:a='b'><Key>k</Key></DeleteMarker><Version >";
        assert_eq!(
            kinds_in(document),
            [Kind::Version, Kind::DeleteMarker, Kind::Version]
        );
    }
}
