//! What a wrapped key is bound to: the associated data of every wrapping.

use std::collections::BTreeMap;

use super::envelope::{EncryptionContext, Mode};
use super::error::VaultError;
use super::secret::{Secret, Wrapped};

/// The pair that S3 adds to every encryption context. Source: S3 User Guide, "Encryption context".
const ARN_PAIR: &str = "aws:s3:arn";
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
    mode: Mode,
    bucket: &'a str,
    key: &'a str,
    /// The client's pairs; `None` outside of KMS.
    context: Option<&'a EncryptionContext>,
}

impl<'a> Binding<'a> {
    /// # Errors
    /// `ReservedContext` when the context has the pair that is added here.
    pub(super) fn new(
        mode: Mode,
        bucket: &'a str,
        key: &'a str,
        context: Option<&'a EncryptionContext>,
    ) -> Result<Binding<'a>, VaultError> {
        if context.is_some_and(|context| context.contains_key(ARN_PAIR)) {
            return Err(VaultError::ReservedContext);
        }
        Ok(Binding {
            mode,
            bucket,
            key,
            context,
        })
    }

    /// Wraps a data key of this object.
    pub(super) fn wrap(
        &self,
        under: &Secret,
        data_key: &Secret,
        role: Role,
    ) -> Result<Wrapped, VaultError> {
        Wrapped::wrap(under, data_key, &self.associated_data(role))
    }

    /// The data key in `wrapped`, if it is this object's.
    pub(super) fn unwrap(
        &self,
        under: &Secret,
        wrapped: &Wrapped,
        role: Role,
    ) -> Result<Secret, VaultError> {
        wrapped
            .unwrap(under, &self.associated_data(role))
            .ok_or_else(|| self.foreign())
    }

    /// The bucket key in `wrapped`, if it is this object's bucket's.
    pub(super) fn unwrap_bucket_key(
        &self,
        under: &Secret,
        wrapped: &Wrapped,
    ) -> Result<Secret, VaultError> {
        wrapped
            .unwrap(under, &bucket_associated_data(self.bucket))
            .ok_or_else(|| self.foreign())
    }

    /// The canonical encryption context with the object's ARN.
    fn associated_data(&self, role: Role) -> Vec<u8> {
        let arn = format!("arn:aws:s3:::{}/{}", self.bucket, self.key);
        let pairs = self.context.into_iter().flatten();
        let mut context: BTreeMap<&str, &str> =
            pairs.map(|(k, v)| (k.as_str(), v.as_str())).collect();
        context.insert(ARN_PAIR, &arn);
        canonical(self.mode, role.name(), &context)
    }

    fn foreign(&self) -> VaultError {
        VaultError::Damaged(format!(
            "the {} envelope of {:?} in bucket {:?} is damaged or belongs to another object",
            self.mode, self.key, self.bucket
        ))
    }
}

/// Wraps the bucket key of a bucket.
pub(super) fn wrap_bucket_key(
    under: &Secret,
    bucket_key: &Secret,
    bucket: &str,
) -> Result<Wrapped, VaultError> {
    Wrapped::wrap(under, bucket_key, &bucket_associated_data(bucket))
}

/// The encryption context of a bucket key is the bucket's ARN alone, because the key serves every
/// object in it.
fn bucket_associated_data(bucket: &str) -> Vec<u8> {
    let arn = format!("arn:aws:s3:::{bucket}");
    let context = BTreeMap::from([(ARN_PAIR, arn.as_str())]);
    canonical(Mode::SseKms, "bucket key", &context)
}

/// Every string with its length before it, pairs in the order of their keys: equal bytes mean equal contexts.
fn canonical(mode: Mode, role: &str, context: &BTreeMap<&str, &str>) -> Vec<u8> {
    let mode = mode.to_string();
    let pairs = context.iter().flat_map(|(k, v)| [*k, *v]);
    let mut bytes = Vec::new();
    for text in [LABEL, &mode, role].into_iter().chain(pairs) {
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
            binding(Mode::SseKms, "b", "k", Some(&split)).associated_data(Role::Inner),
            binding(Mode::SseKms, "b", "k", Some(&other_split)).associated_data(Role::Inner),
            binding(Mode::SseKms, "b", "k", None).associated_data(Role::Inner),
            binding(Mode::SseS3, "b", "k", None).associated_data(Role::Inner),
            binding(Mode::DsseKms, "b", "k", None).associated_data(Role::Inner),
            binding(Mode::DsseKms, "b", "k", None).associated_data(Role::Outer),
            binding(Mode::SseKms, "b", "l", None).associated_data(Role::Inner),
            binding(Mode::SseKms, "c", "k", None).associated_data(Role::Inner),
            bucket_associated_data("b"),
            bucket_associated_data("c"),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
