//! The root keys of SSE-S3: one that wraps new data keys, and all its predecessors.

use serde::{Deserialize, Serialize};

use super::error::VaultError;
use super::secret::{Secret, in_clear};

/// Rotating daily takes a quarter of a century to get here.
const ROOT_VERSIONS_MAX: usize = 10_000;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootKey {
    version: u32,
    created_unix_seconds: i64,
    #[serde(with = "in_clear")]
    key: Secret,
}

/// The content of `root.json`. Versions count from 1 in the order of the list, which is never empty.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RootKeys {
    versions: Vec<RootKey>,
}

impl RootKeys {
    pub(super) fn first(now_unix_seconds: i64) -> Result<RootKeys, VaultError> {
        let mut keys = RootKeys {
            versions: Vec::new(),
        };
        keys.rotate(now_unix_seconds)?;
        Ok(keys)
    }

    /// Adds a version, which is from now on the newest, and returns its number.
    pub(super) fn rotate(&mut self, now_unix_seconds: i64) -> Result<u32, VaultError> {
        if self.versions.len() >= ROOT_VERSIONS_MAX {
            return Err(VaultError::LimitExceeded {
                what: "root key versions",
                max: ROOT_VERSIONS_MAX,
            });
        }
        let version = self.versions.last().map_or(1, |newest| newest.version + 1);
        self.versions.push(RootKey {
            version,
            created_unix_seconds: now_unix_seconds,
            key: Secret::random()?,
        });
        Ok(version)
    }

    pub(super) fn newest(&self) -> Result<(u32, &Secret), VaultError> {
        self.versions
            .last()
            .map(|root| (root.version, &root.key))
            .ok_or_else(|| VaultError::Damaged("root.json has no root key".to_owned()))
    }

    pub(super) fn version(&self, version: u32) -> Result<&Secret, VaultError> {
        self.versions
            .iter()
            .find(|root| root.version == version)
            .map(|root| &root.key)
            .ok_or_else(|| {
                VaultError::Damaged(format!("root.json has no root key of version {version}"))
            })
    }
}
