//! What a wrapped key is bound to: the associated data of every wrapping.

use std::collections::BTreeMap;

use super::envelope::{EncryptionContext, Mode};

/// The pair that S3 adds to every encryption context. Source: S3 User Guide, "Encryption context".
pub(super) const ARN_PAIR: &str = "aws:s3:arn";
/// Begins the associated data, so that it means nothing anywhere else.
const LABEL: &str = "reseal vault v1 binding";

/// The part that a wrapped key plays, so that one cannot be put in another's place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// The data key, or the inner one of two.
    Inner,
    /// The outer data key of DSSE.
    Outer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Inner => "inner",
            Role::Outer => "outer",
        }
    }
}

/// An object in a mode: its data keys open for no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding<'a> {
    pub(super) mode: Mode,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// The client's pairs; `None` outside of KMS.
    pub(super) context: Option<&'a EncryptionContext>,
}

impl Binding<'_> {
    /// Associated data of a data key: the canonical encryption context with the object's ARN.
    pub(super) fn data_key(&self, role: Role) -> Vec<u8> {
        let arn = format!("arn:aws:s3:::{}/{}", self.bucket, self.key);
        let pairs = self.context.into_iter().flatten();
        let mut context: BTreeMap<&str, &str> =
            pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect();
        context.insert(ARN_PAIR, &arn);
        canonical(&self.mode.to_string(), role.name(), &context)
    }
}

/// Associated data of a bucket key: the encryption context is the bucket's ARN alone, because the
/// key serves every object in it.
pub(super) fn bucket_key(bucket: &str) -> Vec<u8> {
    let arn = format!("arn:aws:s3:::{bucket}");
    let context = BTreeMap::from([(ARN_PAIR, arn.as_str())]);
    canonical(&Mode::SseKms.to_string(), "bucket key", &context)
}

/// Every string with its length before it, pairs in the order of their keys: equal bytes mean equal contexts.
fn canonical(mode: &str, role: &str, context: &BTreeMap<&str, &str>) -> Vec<u8> {
    let pairs = context.iter().flat_map(|(k, v)| [*k, *v]);
    let mut bytes = Vec::new();
    for text in [LABEL, mode, role].into_iter().chain(pairs) {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_pairs_nor_roles_nor_modes_run_together() {
        let pair = |k: &str, v: &str| EncryptionContext::from([(k.to_owned(), v.to_owned())]);
        let (split, other_split) = (pair("ab", "c"), pair("a", "bc"));
        let binding = |mode, bucket, key, context| Binding {
            mode,
            bucket,
            key,
            context,
        };
        let all = [
            binding(Mode::SseKms, "b", "k", Some(&split)).data_key(Role::Inner),
            binding(Mode::SseKms, "b", "k", Some(&other_split)).data_key(Role::Inner),
            binding(Mode::SseKms, "b", "k", None).data_key(Role::Inner),
            binding(Mode::SseS3, "b", "k", None).data_key(Role::Inner),
            binding(Mode::DsseKms, "b", "k", None).data_key(Role::Inner),
            binding(Mode::DsseKms, "b", "k", None).data_key(Role::Outer),
            binding(Mode::SseKms, "b", "l", None).data_key(Role::Inner),
            binding(Mode::SseKms, "c", "k", None).data_key(Role::Inner),
            bucket_key("b"),
            bucket_key("c"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
