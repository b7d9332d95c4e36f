//! ListObjectsV2 and ListObjects.

use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, ETag, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object as Listed, ObjectStorageClass, Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::{Names, Scope, behind};
use crate::local_s3::model::Version;
use crate::local_s3::service::Service;
use crate::local_s3::service::acl::owner;
use crate::local_s3::store::KeyIndex;

/// Lists objects, with a token to go on.
pub(in crate::local_s3::service) fn list_objects_v2(
    service: &Service,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let names = Names::of(input.encoding_type.as_ref())?;
    let scope = Scope::of(input.prefix, input.delimiter, input.max_keys, "maxKeys")?;
    let passed = input
        .continuation_token
        .as_deref()
        .filter(|token| !token.is_empty())
        .map(Last::of_token)
        .transpose()?;
    let passed = passed.or_else(|| input.start_after.clone().map(Last::Key));
    let page = Page::read(&bucket.keys(), &scope, passed.as_ref());
    let with_owner = input.fetch_owner == Some(true);
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.write(&scope.prefix)),
        delimiter: scope
            .delimiter
            .as_deref()
            .map(|delimiter| names.write(delimiter)),
        max_keys: Some(scope.shown_max()),
        key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
        is_truncated: Some(page.truncated),
        next_continuation_token: page
            .last
            .as_ref()
            .filter(|_| page.truncated)
            .map(Last::token),
        continuation_token: input.continuation_token,
        start_after: input
            .start_after
            .map(|start_after| names.write(&start_after)),
        encoding_type: input.encoding_type,
        contents: Some(
            page.objects
                .iter()
                .filter_map(|version| listed(version, names, with_owner))
                .collect(),
        ),
        common_prefixes: Some(names.prefixes(&page.prefixes)),
        ..ListObjectsV2Output::default()
    }))
}

/// Lists objects, the older way with a marker.
pub(in crate::local_s3::service) fn list_objects(
    service: &Service,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = req.input;
    let bucket = service.bucket(&input.bucket)?;
    let names = Names::of(input.encoding_type.as_ref())?;
    let scope = Scope::of(input.prefix, input.delimiter, input.max_keys, "maxKeys")?;
    let marker = input.marker.unwrap_or_default();
    // NextMarker can be a common prefix: what it stands for was listed.
    let passed = if scope.is_group(&marker) {
        Last::Prefix(marker.clone())
    } else {
        Last::Key(marker.clone())
    };
    let page = Page::read(&bucket.keys(), &scope, Some(&passed));
    let next = page
        .last
        .as_ref()
        .filter(|_| page.truncated && scope.delimiter.is_some());
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        // Clients decode all names of this answer but this one.
        prefix: Some(scope.prefix.clone()),
        marker: Some(names.write(&marker)),
        next_marker: next.map(|last| names.write(last.name())),
        delimiter: scope
            .delimiter
            .as_deref()
            .map(|delimiter| names.write(delimiter)),
        max_keys: Some(scope.shown_max()),
        is_truncated: Some(page.truncated),
        encoding_type: input.encoding_type,
        contents: Some(
            page.objects
                .iter()
                .filter_map(|version| listed(version, names, true))
                .collect(),
        ),
        common_prefixes: Some(names.prefixes(&page.prefixes)),
        ..ListObjectsOutput::default()
    }))
}

/// One page of current objects.
struct Page {
    objects: Vec<Arc<Version>>,
    prefixes: Vec<String>,
    truncated: bool,
    last: Option<Last>,
}

/// The last entry of a page.
enum Last {
    Key(String),
    Prefix(String),
}

impl Page {
    /// The page behind `passed`, the last entry of the page before.
    fn read(index: &KeyIndex, scope: &Scope, passed: Option<&Last>) -> Self {
        let mut page = Self {
            objects: Vec::new(),
            prefixes: Vec::new(),
            truncated: false,
            last: None,
        };
        let (mut place, mut last_group) = match passed {
            Some(Last::Prefix(prefix)) => (behind(prefix), Some(prefix.clone())),
            Some(Last::Key(key)) => (scope.start(Some(key)), None),
            None => (scope.start(None), None),
        };
        if scope.max == 0 {
            return page;
        }
        loop {
            let next = index.from(place.as_ref().map(String::as_str)).next();
            let Some((key, versions)) = next.filter(|(key, _)| key.starts_with(&scope.prefix))
            else {
                break;
            };
            let object = versions
                .first()
                .filter(|current| !current.is_delete_marker());
            let group = scope.group(key);
            let listed_already = group.is_some() && group == last_group.as_deref();
            let Some(object) = object.filter(|_| !listed_already) else {
                place = Bound::Excluded(key.to_owned());
                continue;
            };
            if page.objects.len() + page.prefixes.len() == scope.max {
                page.truncated = true;
                break;
            }
            if let Some(group) = group {
                page.prefixes.push(group.to_owned());
                last_group = Some(group.to_owned());
                page.last = Some(Last::Prefix(group.to_owned()));
                place = behind(group);
            } else {
                page.objects.push(object.clone());
                page.last = Some(Last::Key(key.to_owned()));
                place = Bound::Excluded(key.to_owned());
            }
        }
        page
    }
}

impl Last {
    fn name(&self) -> &str {
        match self {
            Self::Key(name) | Self::Prefix(name) => name,
        }
    }

    /// A token that goes on behind this entry: opaque to clients, which get what they give back.
    fn token(&self) -> String {
        let kind = if matches!(self, Self::Key(_)) {
            'k'
        } else {
            'p'
        };
        BASE64.encode(format!("{kind}{}", self.name()))
    }

    fn of_token(token: &str) -> S3Result<Self> {
        let text = BASE64
            .decode(token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_at_checked(1)) {
            Some(("k", key)) => Ok(Self::Key(key.to_owned())),
            Some(("p", prefix)) => Ok(Self::Prefix(prefix.to_owned())),
            _ => {
                let message = "The continuation token provided is incorrect";
                Err(S3Error::with_message(S3ErrorCode::InvalidArgument, message))
            }
        }
    }
}

fn listed(version: &Version, names: Names, with_owner: bool) -> Option<Listed> {
    let object = version.object()?;
    Some(Listed {
        key: Some(names.write(&version.key)),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        size: i64::try_from(object.size).ok(),
        last_modified: Some(Timestamp::from(version.last_modified.whole_second())),
        storage_class: Some(ObjectStorageClass::from(
            object.properties.storage_class.clone(),
        )),
        owner: with_owner.then(owner),
        checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(
            object.checksum.algorithm.as_str(),
        )]),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.as_str())),
        restore_status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_s3::service::list::tests::{bucket_with, scope};
    use proptest::prelude::*;

    /// What S3 documents, without pages: keys and common prefixes after a key, in order.
    fn entries(keys: &[&str], scope: &Scope) -> Vec<String> {
        let mut entries: Vec<String> = Vec::new();
        for key in keys.iter().filter(|key| key.starts_with(&scope.prefix)) {
            let entry = scope.group(key).unwrap_or(key);
            if entries.last().is_none_or(|last| last != entry) {
                entries.push(entry.to_owned());
            }
        }
        entries
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Pages of any size, put together, are the whole listing; the page that says it is not the last one is full.
        #[test]
        fn pages_are_the_whole_in_pieces(
            prefix in prop::sample::select(vec!["", "a", "a/", "b", "\u{10FFFF}", "zz"]),
            delimiter in prop::sample::select(vec!["", "/", "//", "b"]),
            max in 1..6_usize,
        ) {
            let (bucket, keys) = bucket_with();
            let scope = scope(prefix, delimiter, max);
            let mut listed = Vec::new();
            let mut passed: Option<Last> = None;
            loop {
                let page = Page::read(&bucket.keys(), &scope, passed.as_ref());
                let mut names: Vec<_> = page.objects.iter().map(|version| version.key.clone()).collect();
                names.extend(page.prefixes.iter().cloned());
                names.sort();
                prop_assert_eq!(page.last.as_ref().map(Last::name), names.last().map(String::as_str));
                prop_assert!(names.len() == max || !page.truncated);
                listed.extend(names);
                prop_assert!(listed.len() <= keys.len());
                if !page.truncated {
                    break;
                }
                let token = page.last.as_ref().map(Last::token);
                passed = Some(Last::of_token(&token.unwrap_or_default()).unwrap());
            }
            prop_assert_eq!(listed, entries(keys, &scope));
        }
    }
}
