//! Listings: keys in UTF-8 binary order, rolled up at a delimiter, in pages.

mod objects;
mod versions;

pub(super) use objects::{list_objects, list_objects_v2};
pub(super) use versions::list_object_versions;

use std::ops::Bound;

use s3s::dto::{CommonPrefix, EncodingType};
use s3s::{S3Error, S3ErrorCode, S3Result};

/// The most entries of a page, and what a page has when nothing is asked for. Source: S3 API, ListObjectsV2.
pub(super) const PAGE_MAX: usize = 1_000;

/// Which keys a listing is about.
pub(super) struct Scope {
    pub prefix: String,
    /// Not empty.
    pub delimiter: Option<String>,
    /// Entries of a page: keys and common prefixes together.
    pub max: usize,
}

impl Scope {
    /// Reads what every listing is asked with; `what` is the name of the parameter for the page's size.
    ///
    /// # Errors
    /// 400 InvalidArgument for a negative size.
    pub(super) fn of(
        prefix: Option<String>,
        delimiter: Option<String>,
        max: Option<i32>,
        what: &str,
    ) -> S3Result<Self> {
        let max = usize::try_from(max.unwrap_or(i32::MAX)).map_err(|_| {
            S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                format!("Argument {what} must be an integer between 0 and 2147483647"),
            )
        })?;
        Ok(Self {
            prefix: prefix.unwrap_or_default(),
            delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()),
            max: max.min(PAGE_MAX),
        })
    }

    /// The common prefix that a key of this listing is rolled up into: up to the first delimiter after the prefix.
    pub(super) fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.get(self.prefix.len()..)?;
        let end = self.prefix.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end)
    }

    /// Whether `text` is a common prefix of this listing.
    pub(super) fn is_group(&self, text: &str) -> bool {
        text.starts_with(&self.prefix) && self.group(text) == Some(text)
    }

    /// Where to begin for what comes after `after`.
    pub(super) fn start(&self, after: Option<&str>) -> Bound<String> {
        match after {
            Some(after) if after >= self.prefix.as_str() => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(self.prefix.clone()),
        }
    }

    /// The page's size as the response shows it.
    pub(super) fn shown_max(&self) -> i32 {
        i32::try_from(self.max).expect("it is at most PAGE_MAX")
    }
}

/// A place behind nearly all keys that begin with `prefix`: who goes on from there saves the way through them, and
/// still has to look whether a key belongs to the prefix.
pub(super) fn behind(prefix: &str) -> Bound<String> {
    Bound::Excluded(format!("{prefix}\u{10FFFF}"))
}

/// How names are written in a response.
#[derive(Clone, Copy)]
pub(super) struct Names {
    url: bool,
}

impl Names {
    /// # Errors
    /// 400 InvalidArgument for an encoding that is not `url`.
    pub(super) fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some(EncodingType::URL) => Ok(Self { url: true }),
            Some(_) => Err(S3Error::with_message(
                S3ErrorCode::InvalidArgument,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    pub(super) fn write(self, name: &str) -> String {
        if self.url {
            url_encoded(name)
        } else {
            name.to_owned()
        }
    }

    pub(super) fn prefixes(self, prefixes: &[String]) -> Vec<CommonPrefix> {
        prefixes
            .iter()
            .map(|prefix| CommonPrefix {
                prefix: Some(self.write(prefix)),
            })
            .collect()
    }
}

/// Percent-encodes everything but letters, digits, `-`, `.`, `_`, `~` and `/`.
pub(super) fn url_encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    //! A bucket to list, for the tests of the listings.

    use std::sync::{Arc, OnceLock};

    use super::*;
    use crate::local_s3::model::Versioning;
    use crate::local_s3::store::tests::Fixture;
    use crate::local_s3::store::{BucketStore, StoreError};

    /// Current objects in order; each is there in two versions, and keys that end in `gone` have a delete marker.
    const KEYS: [&str; 14] = [
        "..",
        "a",
        "a/",
        "a//x",
        "a/b",
        "a/b/c",
        "a/b/d",
        "ab",
        "b",
        "b/1",
        "b/2",
        "c b",
        "\u{10FFFF}/",
        "\u{10FFFF}\u{10FFFF}",
    ];
    const GONE: [&str; 3] = ["a/gone", "b/gone", "x/gone"];

    pub(super) fn bucket_with() -> (Arc<BucketStore>, &'static [&'static str]) {
        static FIXTURE: OnceLock<Fixture> = OnceLock::new();
        let fixture = FIXTURE.get_or_init(|| {
            let fixture = Fixture::new();
            fixture.version(Versioning::Enabled);
            for key in KEYS.iter().chain(&GONE) {
                fixture.put(key, b"1");
                fixture.put(key, b"2");
            }
            for key in GONE {
                fixture
                    .bucket()
                    .delete::<StoreError>(key, |_| Ok(()))
                    .unwrap();
            }
            fixture
        });
        (fixture.bucket(), &KEYS)
    }

    pub(super) fn scope(prefix: &str, delimiter: &str, max: usize) -> Scope {
        let max = i32::try_from(max).ok();
        Scope::of(
            Some(prefix.to_owned()),
            Some(delimiter.to_owned()),
            max,
            "maxKeys",
        )
        .unwrap()
    }
}
