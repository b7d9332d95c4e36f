//! The KMS keys: who they are, what state they are in, and how a request may name them.

use serde::{Deserialize, Serialize};

use super::error::VaultError;
use super::secret::{Secret, in_clear, random_bytes};

/// The region of every key. A key of another region does not exist for S3.
const REGION: &str = "us-east-1";
/// The account of every key.
const ACCOUNT: &str = "000000000000";
/// The key that SSE-KMS uses when a request names none. Source: S3 User Guide, "aws/s3".
pub(super) const AWS_S3_ALIAS: &str = "alias/aws/s3";
/// Aliases that begin so belong to AWS. Source: KMS API, CreateAlias.
const AWS_ALIAS_PREFIX: &str = "alias/aws/";
/// Longest alias, in characters, `alias/` included. Source: KMS API, CreateAlias.
const ALIAS_CHARS_MAX: usize = 256;
/// How many keys a ring holds.
const KEYS_MAX: usize = 1_000;

/// Whether a KMS key can be used, in KMS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// It can.
    Enabled,
    /// It cannot, until somebody enables it.
    Disabled,
    /// It cannot, because it waits for its deletion. Here nothing deletes it.
    PendingDeletion,
}

/// A KMS key as far as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KmsKey {
    /// A UUID.
    pub id: String,
    /// `arn:aws:kms:us-east-1:000000000000:key/<id>`
    pub arn: String,
    /// Each `alias/…`.
    pub aliases: Vec<String>,
    /// Whether it can be used.
    pub state: KeyState,
    /// True for `alias/aws/s3`, whose state nobody changes.
    pub aws_managed: bool,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub created_unix_seconds: i64,
}

/// A key with its material.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingKey {
    id: String,
    aliases: Vec<String>,
    state: KeyState,
    aws_managed: bool,
    created_unix_seconds: i64,
    #[serde(with = "in_clear")]
    pub(super) material: Secret,
}

/// The content of `keyring.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyring {
    keys: Vec<RingKey>,
}

impl RingKey {
    fn new(
        alias: Option<String>,
        aws_managed: bool,
        now_unix_seconds: i64,
    ) -> Result<RingKey, VaultError> {
        Ok(RingKey {
            id: random_uuid()?,
            aliases: alias.into_iter().collect(),
            state: KeyState::Enabled,
            aws_managed,
            created_unix_seconds: now_unix_seconds,
            material: Secret::random()?,
        })
    }

    pub(super) fn arn(&self) -> String {
        format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{}", self.id)
    }

    pub(super) fn public(&self) -> KmsKey {
        KmsKey {
            id: self.id.clone(),
            arn: self.arn(),
            aliases: self.aliases.clone(),
            state: self.state,
            aws_managed: self.aws_managed,
            created_unix_seconds: self.created_unix_seconds,
        }
    }
}

impl Keyring {
    /// A ring with nothing but the AWS-managed key of S3.
    pub(super) fn first(now_unix_seconds: i64) -> Result<Keyring, VaultError> {
        let key = RingKey::new(Some(AWS_S3_ALIAS.to_owned()), true, now_unix_seconds)?;
        Ok(Keyring { keys: vec![key] })
    }

    pub(super) fn public(&self) -> Vec<KmsKey> {
        self.keys.iter().map(RingKey::public).collect()
    }

    /// The key that `name` means: an id, a key ARN, an alias name or an alias ARN.
    pub(super) fn find(&self, name: &str) -> Result<&RingKey, VaultError> {
        let index = self.position(name)?;
        Ok(&self.keys[index])
    }

    /// The same, and it must be enabled.
    pub(super) fn usable(&self, name: &str) -> Result<&RingKey, VaultError> {
        let key = self.find(name)?;
        match key.state {
            KeyState::Enabled => Ok(key),
            KeyState::Disabled => Err(VaultError::KeyDisabled(key.arn())),
            KeyState::PendingDeletion => Err(VaultError::KeyPendingDeletion(key.arn())),
        }
    }

    pub(super) fn add(
        &mut self,
        alias: Option<&str>,
        now_unix_seconds: i64,
    ) -> Result<KmsKey, VaultError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(VaultError::LimitExceeded {
                what: "KMS keys",
                max: KEYS_MAX,
            });
        }
        let alias = alias.map(checked_alias).transpose()?;
        if let Some(alias) = &alias
            && self.keys.iter().any(|key| key.aliases.contains(alias))
        {
            return Err(VaultError::AliasTaken(alias_arn(alias)));
        }
        let key = RingKey::new(alias, false, now_unix_seconds)?;
        let public = key.public();
        self.keys.push(key);
        Ok(public)
    }

    pub(super) fn set_state(&mut self, name: &str, state: KeyState) -> Result<KmsKey, VaultError> {
        let index = self.position(name)?;
        let key = &mut self.keys[index];
        if key.aws_managed {
            return Err(VaultError::AwsManagedKey(key.arn()));
        }
        key.state = state;
        Ok(key.public())
    }

    fn position(&self, name: &str) -> Result<usize, VaultError> {
        let wanted = local_name(name)?;
        let found = if wanted.starts_with("alias/") {
            self.keys
                .iter()
                .position(|key| key.aliases.iter().any(|alias| alias == wanted))
        } else {
            self.keys.iter().position(|key| key.id == wanted)
        };
        found.ok_or_else(|| VaultError::KeyNotFound(not_found_text(wanted)))
    }
}

/// `alias/NAME` or the id, whatever form the name had; a key elsewhere is not found.
fn local_name(name: &str) -> Result<&str, VaultError> {
    let Some(rest) = name.strip_prefix("arn:") else {
        return Ok(name);
    };
    let mut fields = rest.splitn(5, ':');
    let (_partition, service) = (fields.next(), fields.next());
    let (region, account, resource) = (fields.next(), fields.next(), fields.next());
    let (Some("kms"), Some(region), Some(account), Some(resource)) =
        (service, region, account, resource)
    else {
        return Err(VaultError::KeyNotFound(format!("Invalid arn {name}")));
    };
    if region != REGION {
        return Err(VaultError::KeyNotFound(format!("Invalid arn {region}")));
    }
    let local = match resource.strip_prefix("key/") {
        Some(id) if !id.starts_with("alias/") => Some(id),
        Some(_) => None,
        None => Some(resource).filter(|resource| resource.starts_with("alias/")),
    };
    local
        .filter(|_| account == ACCOUNT)
        .ok_or_else(|| VaultError::KeyNotFound(format!("Key '{name}' does not exist")))
}

/// Source: texts of KMS's NotFoundException for DescribeKey.
fn not_found_text(local_name: &str) -> String {
    if local_name.starts_with("alias/") {
        format!("Alias {} is not found.", alias_arn(local_name))
    } else {
        format!("Key 'arn:aws:kms:{REGION}:{ACCOUNT}:key/{local_name}' does not exist")
    }
}

fn alias_arn(alias: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:{alias}")
}

/// `NAME` and `alias/NAME` both become `alias/NAME`, if KMS would take it.
fn checked_alias(name: &str) -> Result<String, VaultError> {
    let alias = format!("alias/{}", name.strip_prefix("alias/").unwrap_or(name));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-');
    if alias == "alias/" || alias.len() > ALIAS_CHARS_MAX || !alias.chars().all(allowed) {
        return Err(VaultError::InvalidAlias(format!(
            "The alias {alias:?} must be alias/ and then letters, digits, '/', '_' and '-', \
             at most {ALIAS_CHARS_MAX} characters in all."
        )));
    }
    if alias.starts_with(AWS_ALIAS_PREFIX) {
        return Err(VaultError::InvalidAlias(format!(
            "The alias {alias:?} begins with {AWS_ALIAS_PREFIX:?}, which is reserved for keys that AWS manages."
        )));
    }
    Ok(alias)
}

/// Version 4, as KMS makes them.
fn random_uuid() -> Result<String, VaultError> {
    let mut bytes = random_bytes::<16>()?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut uuid = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            uuid.push('-');
        }
        uuid.push_str(&format!("{byte:02x}"));
    }
    Ok(uuid)
}
