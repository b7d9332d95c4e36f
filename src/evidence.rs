//! One rewrite that was seen to have happened: what was there before it, and what after.

use serde::{Deserialize, Serialize};

use crate::encryption::Encryption;
use crate::object::{ChecksumKind, Checksums, ObjectHead};
use crate::outcome::Method;

/// One rewrite of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The object's key.
    pub key: String,
    /// How it was rewritten; `None` where an interruption has taken that along.
    pub method: Option<Method>,
    /// How it is known.
    pub told: Told,
    /// When it was known, in milliseconds since 1970 by this machine's clock.
    pub at_ms: i64,
    /// What was looked at before; `None` where nobody knows any more.
    pub before: Option<State>,
    /// What is there now, as far as it was told.
    pub after: State,
    /// S3's id of the request, where it was answered.
    pub request_id: Option<String>,
}

/// What tells a rewrite from another one of the same object: what it has left there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The ETag, with quotes.
    pub etag: Option<String>,
    /// The version.
    pub version_id: Option<String>,
}

impl Rewritten {
    /// What it has left.
    pub fn left(&self) -> Left {
        Left {
            etag: self.after.etag.clone(),
            version_id: self.after.version_id.clone(),
        }
    }
}

/// How a rewrite is known to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The store answered so.
    Answer,
    /// An attempt was not answered, and a look found the object under the target.
    Look,
    /// An earlier run may have tried, and a look found the object under the target: most likely it was that run. What was before is
    /// what lies right below, if that is the same but for its encryption.
    Interruption,
}

impl Told {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Look, Self::Interruption];

    /// Its name in evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Look => "look",
            Self::Interruption => "interruption",
        }
    }
}

/// What an object was, or has become. `None` is what was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its encryption; of a customer's key its MD5.
    pub encryption: Option<Encryption>,
    /// Its ETag, with quotes.
    pub etag: Option<String>,
    /// Its version.
    pub version_id: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// A checksum of it: algorithm and value, S3's spelling.
    pub checksum: Option<(String, String)>,
}

impl State {
    /// What a look has told.
    pub fn of(head: &ObjectHead) -> Self {
        Self {
            encryption: Some(head.encryption.clone()),
            etag: Some(head.etag.clone()),
            version_id: head.version_id.clone(),
            size: Some(head.size),
            checksum: first_of(&head.checksums),
        }
    }
}

/// The first of an object's checksums; one that is made of parts' has their number in its value.
pub fn first_of(checksums: &Checksums) -> Option<(String, String)> {
    let (algorithm, value) = checksums.values.iter().next()?;
    let is_plain = checksums.kind != Some(ChecksumKind::Composite) || value.contains('-');
    is_plain.then(|| (algorithm.clone(), value.clone()))
}

#[cfg(test)]
pub(crate) mod any {
    use proptest::prelude::*;

    use super::{Rewritten, State, Told};
    use crate::encryption::Encryption;
    use crate::outcome::Method;

    fn text() -> impl Strategy<Value = Option<String>> {
        proptest::option::of("[ -~ä,\"\n]{1,20}")
    }

    fn state() -> impl Strategy<Value = State> {
        let encryption = prop_oneof![
            Just(None),
            Just(Some(Encryption::NotSse)),
            Just(Some(Encryption::SseS3)),
            (text(), any::<bool>())
                .prop_map(|(key, bucket_key)| Some(Encryption::SseKms { key, bucket_key })),
            text().prop_map(|key| Some(Encryption::DsseKms { key })),
            "[a-z]{4}".prop_map(|key_md5| Some(Encryption::SseC { key_md5 })),
        ];
        let checksum = proptest::option::of(("[A-Z0-9]{4}", "[a-z:=]{4}"));
        (encryption, text(), text(), checksum).prop_map(
            |(encryption, etag, version_id, checksum)| State {
                encryption,
                etag,
                version_id,
                size: None,
                checksum,
            },
        )
    }

    /// A rewrite of any kind.
    pub fn rewritten() -> impl Strategy<Value = Rewritten> {
        let method = proptest::option::of(proptest::sample::select(&Method::ALL[..]));
        let told = proptest::sample::select(&Told::ALL[..]);
        let parts = (
            "[ -~ä%+,\"\n]{1,20}",
            method,
            told,
            0..4_000_000_000_000_i64,
            proptest::option::of(state()),
            state(),
            text(),
            proptest::option::of(any::<u64>()),
        );
        parts.prop_map(
            |(key, method, told, at_ms, before, after, request_id, size)| Rewritten {
                key,
                method,
                told,
                at_ms,
                before: before.map(|before| State { size, ..before }),
                after: State { size, ..after },
                request_id,
            },
        )
    }
}
