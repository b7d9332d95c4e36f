//! State closure: before = after for everything but the encryption. Pure.
//!
//! | state | CopyObject | everything sent again, or in parts | UpdateObjectEncryption |
//! |---|---|---|---|
//! | bytes | the store copies them | the store copies them | untouched |
//! | user metadata, content headers | copied | sent, from HEAD | untouched |
//! | metadata that HTTP can't show | copied | **lost**: [`Loss::Metadata`] | untouched |
//! | tags | copied | sent, from GetObjectTagging: else [`Loss::Tags`] | untouched |
//! | storage class, website redirect | sent, from HEAD | sent, from HEAD | untouched |
//! | ACL, where the bucket has them | sent, from GetObjectAcl: else [`Loss::Acl`] | the same | untouched |
//! | Object Lock | sent, from HEAD or asked for: else [`Loss::ObjectLock`] | the same | refused by the store where it holds |
//! | annotations | copied, but not under SSE-C: [`Loss::Annotations`] | **lost**: [`Loss::Annotations`] | untouched |
//! | KMS encryption context | **lost**, nobody can read it: [`Loss::KmsContext`] | the same | untouched |
//! | checksum algorithm | kept by the store | asked for | untouched |
//!
//! Source: S3 API Reference, CopyObject, CreateMultipartUpload, UpdateObjectEncryption; S3 User Guide, "Copying objects".

use std::fmt;
use std::str::FromStr;

use crate::object::{Acl, ObjectHead, Tag};

/// Something that a rewrite could lose without anyone seeing it. Such an object is refused, unless the operator allows the
/// loss by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Tags that we may not read, where they have to be sent again.
    Tags,
    /// Grants that we may not read, or that request headers can't say.
    Acl,
    /// Retention or legal hold that we may not read; or that the bucket's default would add.
    ObjectLock,
    /// Annotations, by a method that does not carry them.
    Annotations,
    /// The encryption context of an object under a KMS key: S3 shows it to nobody.
    KmsContext,
    /// User metadata that HTTP can't show, where it has to be sent again.
    Metadata,
}

impl Loss {
    /// Every loss.
    pub const ALL: [Self; 6] = [
        Self::Tags,
        Self::Acl,
        Self::ObjectLock,
        Self::Annotations,
        Self::KmsContext,
        Self::Metadata,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Acl => "acl",
            Self::ObjectLock => "object-lock",
            Self::Annotations => "annotations",
            Self::KmsContext => "kms-context",
            Self::Metadata => "metadata",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|loss| loss.name() == name);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|loss| loss.name()).collect();
            format!("no loss is called {name:?}; there are {}", known.join(", "))
        })
    }
}

/// The losses that the operator allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(Vec<Loss>);

impl Losses {
    /// These, each once.
    pub fn new(mut losses: Vec<Loss>) -> Self {
        losses.sort();
        losses.dedup();
        Self(losses)
    }

    /// Whether a loss is allowed.
    pub fn allow(&self, loss: Loss) -> bool {
        self.0.contains(&loss)
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|loss| loss.name()).collect()
    }
}

/// An object as a whole, as far as it was seen before its rewrite, or after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// HEAD's answer.
    pub head: ObjectHead,
    /// Tags, where they were asked for.
    pub tags: Option<Vec<Tag>>,
    /// The ACL, where it was asked for.
    pub acl: Option<Acl>,
    /// SHA-256 of the bytes, where they were read.
    pub sha256: Option<[u8; 32]>,
}

impl Whole {
    /// What HEAD has shown.
    pub fn of(head: ObjectHead) -> Self {
        Self {
            head,
            tags: None,
            acl: None,
            sha256: None,
        }
    }
}

/// What differs, in words; empty where everything that was seen is the same. The encryption is not looked at, nor what a rewrite
/// is known to change: ETag, version id, dates, replication status.
pub fn differences(before: &Whole, after: &Whole, allowed: &Losses) -> Vec<&'static str> {
    let (old, new) = (&before.head, &after.head);
    let may_lose = |loss| allowed.allow(loss);
    let both_differ = |same: Option<bool>| same == Some(false);
    let seen = |a: Option<bool>, b: Option<bool>| a.zip(b).map(|(a, b)| a == b);
    let headers = (&old.headers, &new.headers);
    [
        ("size", old.size != new.size),
        (
            "bytes",
            both_differ(before.sha256.zip(after.sha256).map(|(a, b)| a == b)),
        ),
        ("checksum", both_differ(old.checksums.agree(&new.checksums))),
        (
            "Content-Type",
            headers.0.content_type != headers.1.content_type,
        ),
        (
            "Content-Encoding",
            headers.0.content_encoding != headers.1.content_encoding,
        ),
        (
            "Content-Disposition",
            headers.0.content_disposition != headers.1.content_disposition,
        ),
        (
            "Content-Language",
            headers.0.content_language != headers.1.content_language,
        ),
        (
            "Cache-Control",
            headers.0.cache_control != headers.1.cache_control,
        ),
        ("Expires", headers.0.expires != headers.1.expires),
        ("user metadata", old.metadata != new.metadata),
        (
            "user metadata that HTTP can't show",
            old.missing_meta != new.missing_meta && !may_lose(Loss::Metadata),
        ),
        (
            "storage class",
            old.storage_class_name() != new.storage_class_name(),
        ),
        (
            "website redirect",
            old.website_redirect != new.website_redirect,
        ),
        ("tags", {
            let counts = seen(
                old.tag_count.map(|count| count > 0),
                new.tag_count.map(|count| count > 0),
            );
            let tags = before.tags.as_ref().zip(after.tags.as_ref());
            (both_differ(tags.map(|(a, b)| a == b)) || both_differ(counts)) && !may_lose(Loss::Tags)
        }),
        ("ACL", {
            let acls = before.acl.as_ref().zip(after.acl.as_ref());
            both_differ(acls.map(|(a, b)| a.grants == b.grants)) && !may_lose(Loss::Acl)
        }),
        (
            "Object Lock",
            old.lock != new.lock && !may_lose(Loss::ObjectLock),
        ),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Encryption;
    use crate::object::{Checksums, Grant, Grantee};

    fn whole() -> Whole {
        Whole {
            head: ObjectHead::bare("\"e\"".to_owned(), 1, Encryption::NotSse),
            tags: Some(Vec::new()),
            acl: Some(Acl {
                owner: None,
                grants: Vec::new(),
            }),
            sha256: Some([0; 32]),
        }
    }

    #[test]
    fn each_property_is_missed_alone_and_what_a_rewrite_changes_is_not() {
        let none = Losses::default();
        let mut expected = whole();
        expected.head.etag = "\"f\"".to_owned();
        expected.head.version_id = Some("v".to_owned());
        expected.head.last_modified = Some(1);
        expected.head.encryption = Encryption::SseS3;
        expected.head.storage_class = Some("STANDARD".to_owned());
        assert!(differences(&whole(), &expected, &none).is_empty());

        type Change = fn(&mut Whole);
        let changes: [(&str, Change); 14] = [
            ("size", |e| e.head.size = 2),
            ("bytes", |e| e.sha256 = Some([1; 32])),
            ("Content-Type", |e| {
                e.head.headers.content_type = Some("a/b".to_owned());
            }),
            ("Content-Encoding", |e| {
                e.head.headers.content_encoding = Some("gzip".to_owned());
            }),
            ("Content-Disposition", |e| {
                e.head.headers.content_disposition = Some("inline".to_owned());
            }),
            ("Content-Language", |e| {
                e.head.headers.content_language = Some("de".to_owned());
            }),
            ("Cache-Control", |e| {
                e.head.headers.cache_control = Some("no-cache".to_owned());
            }),
            ("Expires", |e| e.head.headers.expires = Some("0".to_owned())),
            ("user metadata", |e| {
                e.head.metadata.insert("a".to_owned(), "b".to_owned());
            }),
            ("storage class", |e| {
                e.head.storage_class = Some("GLACIER_IR".to_owned());
            }),
            ("website redirect", |e| {
                e.head.website_redirect = Some("/x".to_owned());
            }),
            ("tags", |e| {
                e.tags = Some(vec![Tag {
                    key: "a".to_owned(),
                    value: "b".to_owned(),
                }]);
            }),
            ("ACL", |e| {
                e.acl = Some(Acl {
                    owner: None,
                    grants: vec![Grant {
                        grantee: Grantee::Group("all".to_owned()),
                        permission: "READ".to_owned(),
                    }],
                });
            }),
            ("Object Lock", |e| e.head.lock.legal_hold = true),
        ];
        for (name, change) in changes {
            let mut after = whole();
            change(&mut after);
            assert_eq!(differences(&whole(), &after, &none), [name]);
        }
        let mut after = whole();
        after.head.lock.legal_hold = true;
        let allowed = Losses::new(vec![Loss::ObjectLock]);
        assert!(differences(&whole(), &after, &allowed).is_empty());
    }

    #[test]
    fn a_checksum_tells_only_against_its_like() {
        let of = |kind, algorithm: &str, value: &str| Checksums {
            kind: Some(kind),
            values: [(algorithm.to_owned(), value.to_owned())].into(),
        };
        use crate::object::ChecksumKind::{Composite, FullObject};
        let one = of(FullObject, "CRC32", "a");
        assert_eq!(one.agree(&of(FullObject, "CRC32", "a")), Some(true));
        assert_eq!(one.agree(&of(FullObject, "CRC32", "b")), Some(false));
        assert_eq!(one.agree(&of(FullObject, "SHA256", "a")), None);
        assert_eq!(one.agree(&of(Composite, "CRC32", "b")), None);
    }
}
