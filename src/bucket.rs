//! What is true of a whole bucket. `None` is *unknown*: the store would not or could not say, which is never "there is none".

use crate::encryption::Mode;

/// The facts of a bucket that decide how its objects can be rewritten, and what that sets off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFacts {
    /// Its name.
    pub name: String,
    /// Versioning.
    pub versioning: Option<Versioning>,
    /// Whether its objects have ACLs.
    pub acls: Option<Acls>,
    /// Object Lock.
    pub object_lock: Option<ObjectLock>,
    /// The encryption that new objects get, and what is blocked.
    pub default_encryption: Option<DefaultEncryption>,
    /// Whether it is a website.
    pub website: Option<bool>,
    /// Its enabled replication rules.
    pub replication: Option<Vec<ReplicationRule>>,
    /// What is told of new objects, and to how many.
    pub notifications: Option<Notifications>,
    /// What its enabled lifecycle rules do.
    pub lifecycle: Option<Lifecycle>,
}

impl BucketFacts {
    /// A bucket of which nothing is known.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            versioning: None,
            acls: None,
            object_lock: None,
            default_encryption: None,
            website: None,
            replication: None,
            notifications: None,
            lifecycle: None,
        }
    }
}

/// A bucket's versioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    /// It never had any: a rewrite replaces the object.
    Never,
    /// A rewrite makes a new version.
    Enabled,
    /// A rewrite replaces the null version, and leaves the others.
    Suspended,
}

/// Whether a bucket's objects have ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acls {
    /// No: the bucket owner owns every object (`BucketOwnerEnforced`), or the store has none.
    Disabled,
    /// They may.
    Enabled,
}

/// What a bucket's Object Lock does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectLock {
    /// There is none.
    Disabled,
    /// Objects may be under retention or legal hold.
    Enabled,
    /// Every new object comes under retention.
    DefaultRetention,
}

/// A bucket's default encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultEncryption {
    /// The mode of new objects; `None` where the bucket was never told.
    pub mode: Option<Mode>,
    /// The KMS key, as it was configured.
    pub kms_key: Option<String>,
    /// Whether new objects use an S3 Bucket Key.
    pub bucket_key: bool,
    /// Whether writes under SSE-C are blocked.
    pub blocks_sse_c: bool,
}

/// One enabled replication rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationRule {
    /// Its id.
    pub id: String,
    /// Whether it replicates objects under KMS keys; S3 leaves them out unless the rule says so.
    pub includes_kms: bool,
}

/// Who is told of new objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// Queues, topics and functions that are told of copies or of completed uploads.
    pub destinations: usize,
    /// Whether EventBridge is told of everything.
    pub event_bridge: bool,
}

/// What enabled lifecycle rules do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Some move objects to another storage class.
    pub transitions: bool,
    /// Some expire current versions.
    pub expirations: bool,
    /// Some remove noncurrent versions.
    pub noncurrent_expirations: bool,
    /// Some abort incomplete uploads.
    pub aborts_uploads: bool,
}
