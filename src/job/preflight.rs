//! What a job will set off in its bucket, or run into: told before the first write. Pure.
//!
//! | fact | told | when |
//! |---|---|---|
//! | versioning | `new-versions`, `versioning-suspended` | copies |
//! | | `nothing-superseded`, `superseded-unknown` | `--delete-superseded`; the latter stops the job |
//! | replication | `replication-leaves-out-kms` | KMS targets and rules without KMS objects |
//! | | `replication-runs`, `replicas-stay` | copies; updates only |
//! | notifications | `notifications` | copies |
//! | lifecycle | `lifecycle-restarts` | copies, and rules that go by age |
//! | default encryption | `sse-c-blocked` | SSE-C; stops the job |
//! | | `default-differs`, `default-may-differ` | another mode or key than the target's |
//! | Object Lock | `default-retention`, `object-lock` | |
//! | ACLs | `acls-enabled` | copies |
//! | what the store would not say | `…-unknown`, `unknown` | with the permission that it takes, and what is done instead |
//!
//! An update changes an object where it is: no version, no event, no new age. Where the method is `auto`, what is said of copies
//! is true of the objects that an update does not serve.
//! Source: S3 User Guide, "How S3 Versioning works", "Replicating encrypted objects", "Event notification types", "Lifecycle and
//! other bucket configurations", "Blocking or unblocking SSE-C".

use crate::bucket::{
    Acls, BucketFacts, DefaultEncryption, Lifecycle, Notifications, ObjectLock, ReplicationRule,
    Versioning,
};
use crate::closure::{Loss, Losses};
use crate::encryption::{KmsTarget, Mode, Target};
use crate::event::Level;
use crate::human;
use crate::plan::MethodChoice;

/// Replication rules that a finding names.
const RULES_NAMED_MAX: usize = 5;
/// Characters of a name from the store that a finding shows. S3's rule ids have at most 255, its key ARNs 2,048.
const NAME_CHARS_MAX: usize = 256;

/// One thing that the operator should know before the first write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name, the same in every run.
    pub code: &'static str,
    /// What it means for the job.
    pub level: Level,
    /// One or two sentences.
    pub message: String,
}

/// What the job is about to do to the bucket's objects.
#[derive(Clone, Copy, Debug)]
pub struct Rewrites<'a> {
    /// Rows of the manifest.
    pub rows: u64,
    /// How objects are rewritten.
    pub method: MethodChoice,
    /// Whether superseded versions are deleted.
    pub delete_superseded: bool,
    /// What may be lost.
    pub allowed: &'a Losses,
}

impl Rewrites<'_> {
    /// Whether any object may become a new one.
    fn copies(&self) -> bool {
        self.method != MethodChoice::Update
    }
}

/// What a job with that target will set off, or run into: the most important first.
pub fn findings(facts: &BucketFacts, target: &Target, job: &Rewrites<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        default_encryption(facts.default_encryption.as_ref(), target),
        object_lock(facts.object_lock, job),
        versioning(facts, job),
        superseded(facts.versioning, job),
        acls(facts.acls, job),
        replication(facts.replication.as_deref(), target, job),
        notifications(facts.notifications, job),
        lifecycle(facts.lifecycle, job),
        unknown(facts, job),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| finding.level);
    found
}

fn finding(code: &'static str, level: Level, message: impl Into<String>) -> Option<Finding> {
    Some(Finding {
        code,
        level,
        message: message.into(),
    })
}

fn default_encryption(default: Option<&DefaultEncryption>, target: &Target) -> Option<Finding> {
    let is_sse_c = matches!(target, Target::SseC(_));
    let Some(default) = default else {
        let meanwhile = if is_sse_c {
            "; where SSE-C is blocked, every rewrite is refused"
        } else {
            ""
        };
        return finding(
            "default-encryption-unknown",
            Level::Warning,
            format!(
                "what the bucket's default encryption is could not be learnt (s3:GetEncryptionConfiguration): new objects may \
                 keep arriving under another encryption than the target{meanwhile}"
            ),
        );
    };
    if is_sse_c && default.blocks_sse_c {
        return finding(
            "sse-c-blocked",
            Level::Stop,
            "the bucket blocks writes under SSE-C, so that every rewrite would be refused: allow them in its default encryption \
             (BlockedEncryptionTypes), or take another target",
        );
    }
    let new_objects = match default.mode {
        Some(mode) => format!("new objects get {mode}{}", key_named(default)),
        None => "new objects are encrypted only where their writer asks for it".to_owned(),
    };
    match is_default(default, target) {
        Some(true) => None,
        Some(false) => finding(
            "default-differs",
            Level::Warning,
            format!(
                "the bucket's default encryption is not the target: {new_objects}, and will keep arriving so during the run and \
                 after it{}",
                if is_sse_c {
                    "; a default can't be SSE-C, so their writers have to send the key"
                } else {
                    "; change the default first"
                }
            ),
        ),
        None => finding(
            "default-may-differ",
            Level::Note,
            format!(
                "whether the bucket's default encryption is the target only KMS knows, for one of them names its key by an \
                 alias: {new_objects}"
            ),
        ),
    }
}

fn key_named(default: &DefaultEncryption) -> String {
    match (&default.kms_key, default.mode) {
        (Some(key), _) => format!(" under {}", human::sanitize(key, NAME_CHARS_MAX)),
        (None, Some(Mode::SseKms | Mode::DsseKms)) => " under aws/s3".to_owned(),
        (None, _) => String::new(),
    }
}

/// Whether what arrives under the default is under the target; `None` where only KMS knows.
fn is_default(default: &DefaultEncryption, target: &Target) -> Option<bool> {
    if default.mode != Some(target.mode()) {
        return Some(false);
    }
    match target {
        Target::SseS3 => Some(true),
        Target::SseC(_) => Some(false),
        Target::SseKms(kms) | Target::DsseKms(kms) => is_default_key(default, kms),
    }
}

fn is_default_key(default: &DefaultEncryption, kms: &KmsTarget) -> Option<bool> {
    match &default.kms_key {
        None => Some(kms.key_id.is_none()),
        Some(key) if kms.is_key(key) => Some(true),
        Some(key) => {
            let is_alias = key.starts_with("alias/") || key.contains(":alias/");
            let may_be = is_alias || kms.needs_resolving();
            if may_be { None } else { Some(false) }
        }
    }
}

fn object_lock(lock: Option<ObjectLock>, job: &Rewrites<'_>) -> Option<Finding> {
    if !job.copies() {
        return match lock {
            Some(ObjectLock::Disabled) => None,
            Some(ObjectLock::Enabled | ObjectLock::DefaultRetention) => finding(
                "object-lock",
                Level::Warning,
                "the bucket has Object Lock: an object under retention or legal hold can't be updated where it is, and is refused",
            ),
            None => finding(
                "object-lock-unknown",
                Level::Note,
                "whether the bucket has Object Lock could not be learnt (s3:GetBucketObjectLockConfiguration): an object that it \
                 holds is refused by the store",
            ),
        };
    }
    let each = "each object that is copied is asked for its retention and its legal hold, two more requests";
    match lock {
        Some(ObjectLock::Disabled) => None,
        Some(ObjectLock::Enabled) => finding(
            "object-lock",
            Level::Note,
            format!(
                "the bucket has Object Lock: {each}, and its copy comes under the same. The version before it stays locked"
            ),
        ),
        Some(ObjectLock::DefaultRetention) => finding(
            "default-retention",
            Level::Warning,
            if job.allowed.allow(Loss::ObjectLock) {
                format!(
                    "the bucket puts every new object under retention: the copy of an object that is under none will be locked, \
                     as --allow-loss object-lock lets it; {each}"
                )
            } else {
                format!(
                    "the bucket puts every new object under retention: an object that is under none is refused, because its copy \
                     would be locked; {each}"
                )
            },
        ),
        None => finding(
            "object-lock-unknown",
            Level::Warning,
            format!(
                "whether the bucket has Object Lock could not be learnt (s3:GetBucketObjectLockConfiguration): {each}. Where the \
                 bucket has it, an object under no retention is refused, because a default could lock its copy"
            ),
        ),
    }
}

fn versioning(facts: &BucketFacts, job: &Rewrites<'_>) -> Option<Finding> {
    if !job.copies() {
        return None;
    }
    match facts.versioning {
        Some(Versioning::Never) => None,
        Some(Versioning::Enabled) if job.delete_superseded => None,
        Some(Versioning::Enabled) => {
            let (level, after) = match facts.lifecycle {
                Some(rules) if rules.noncurrent_expirations => (
                    Level::Note,
                    "a lifecycle rule removes noncurrent versions; look whether it covers these",
                ),
                Some(_) => (
                    Level::Warning,
                    "no lifecycle rule removes noncurrent versions (NoncurrentVersionExpiration)",
                ),
                None => (
                    Level::Warning,
                    "whether a lifecycle rule removes noncurrent versions could not be learnt (s3:GetLifecycleConfiguration)",
                ),
            };
            finding(
                "new-versions",
                level,
                format!(
                    "the bucket keeps versions: each copy is a new one, and the one before it stays, under its old encryption and \
                     billed, for up to {}; {after}",
                    human::count_of(job.rows, "row")
                ),
            )
        }
        Some(Versioning::Suspended) => finding(
            "versioning-suspended",
            Level::Warning,
            "versioning is suspended: a copy replaces the null version for good, and versions with ids stay as they are, under \
             their old encryption",
        ),
        None => finding(
            "versioning-unknown",
            Level::Warning,
            "whether the bucket keeps versions could not be learnt (s3:GetBucketVersioning): if it does, each copy leaves the \
             version before it, under its old encryption and billed",
        ),
    }
}

/// What was asked for by `--delete-superseded`, and can't be.
fn superseded(versioning: Option<Versioning>, job: &Rewrites<'_>) -> Option<Finding> {
    if !job.delete_superseded {
        return None;
    }
    match versioning {
        Some(Versioning::Enabled) => None,
        Some(Versioning::Never | Versioning::Suspended) => finding(
            "nothing-superseded",
            Level::Warning,
            "--delete-superseded deletes nothing here: without versioning, a rewrite replaces what was there",
        ),
        None => finding(
            "superseded-unknown",
            Level::Stop,
            "--delete-superseded, and it is not known whether the bucket keeps versions (s3:GetBucketVersioning): let it be asked, or \
             leave the flag out",
        ),
    }
}

fn acls(acls: Option<Acls>, job: &Rewrites<'_>) -> Option<Finding> {
    let each = "each object that is copied is asked for its ACL (s3:GetObjectAcl), one more request, and its grants are sent along";
    match acls {
        _ if !job.copies() => None,
        Some(Acls::Disabled) => None,
        Some(Acls::Enabled) => finding(
            "acls-enabled",
            Level::Note,
            format!("the bucket has ACLs enabled, and a copy resets them: {each}"),
        ),
        None => finding(
            "acls-unknown",
            Level::Note,
            format!(
                "whether the bucket has ACLs could not be learnt (s3:GetBucketOwnershipControls): {each}"
            ),
        ),
    }
}

fn replication(
    rules: Option<&[ReplicationRule]>,
    target: &Target,
    job: &Rewrites<'_>,
) -> Option<Finding> {
    let rules = rules.filter(|rules| !rules.is_empty())?;
    let leaving_out: Vec<_> = rules.iter().filter(|rule| !rule.includes_kms).collect();
    if target.kms().is_some() && !leaving_out.is_empty() {
        return finding(
            "replication-leaves-out-kms",
            Level::Warning,
            format!(
                "replication rules leave out objects under KMS keys ({}): what is rewritten is not replicated any more. Let them \
                 include it (SseKmsEncryptedObjects) first",
                ids(&leaving_out)
            ),
        );
    }
    let number = human::count_of(rules.len() as u64, "replication rule");
    if job.copies() {
        finding(
            "replication-runs",
            Level::Note,
            format!(
                "each copy is a new object to {number}: it is replicated again, requests and traffic included"
            ),
        )
    } else {
        finding(
            "replicas-stay",
            Level::Note,
            format!(
                "{number}: an update is not replicated, so that replicas keep their old encryption"
            ),
        )
    }
}

/// The ids of rules, as many as are named.
fn ids(rules: &[&ReplicationRule]) -> String {
    let mut named: Vec<String> = rules
        .iter()
        .take(RULES_NAMED_MAX)
        .map(|rule| human::sanitize(&rule.id, NAME_CHARS_MAX))
        .collect();
    if rules.len() > RULES_NAMED_MAX {
        named.push(format!("{} more", rules.len() - RULES_NAMED_MAX));
    }
    named.join(", ")
}

fn notifications(told: Option<Notifications>, job: &Rewrites<'_>) -> Option<Finding> {
    let told = told.filter(|_| job.copies())?;
    let who = match (told.destinations, told.event_bridge) {
        (0, false) => return None,
        (0, true) => "EventBridge".to_owned(),
        (1, false) => "a queue, topic or function".to_owned(),
        (1, true) => "a queue, topic or function, and EventBridge,".to_owned(),
        (n, false) => format!("{n} queues, topics or functions"),
        (n, true) => format!("{n} queues, topics or functions, and EventBridge,"),
    };
    finding(
        "notifications",
        Level::Warning,
        format!(
            "each copy tells {who} of a new object: up to {} of them. Whoever listens does its work again",
            human::count(job.rows)
        ),
    )
}

fn lifecycle(rules: Option<Lifecycle>, job: &Rewrites<'_>) -> Option<Finding> {
    let rules = rules.filter(|_| job.copies())?;
    let what = match (rules.transitions, rules.expirations) {
        (false, false) => return None,
        (true, false) => "moves to another storage class come",
        (false, true) => "expirations come",
        (true, true) => "moves to another storage class and expirations come",
    };
    finding(
        "lifecycle-restarts",
        Level::Warning,
        format!(
            "a copy is as old as its rewrite: the {what} later by as much as each object is old now"
        ),
    )
}

/// What the store would not say, and changes nothing but what is told here.
fn unknown(facts: &BucketFacts, job: &Rewrites<'_>) -> Option<Finding> {
    let asked = [
        (
            facts.replication.is_none(),
            "replication (s3:GetReplicationConfiguration)",
        ),
        (
            facts.notifications.is_none() && job.copies(),
            "notifications (s3:GetBucketNotification)",
        ),
        (
            facts.lifecycle.is_none() && job.copies(),
            "lifecycle rules (s3:GetLifecycleConfiguration)",
        ),
    ];
    let unknown: Vec<_> = asked
        .iter()
        .filter_map(|(is_unknown, name)| is_unknown.then_some(*name))
        .collect();
    if unknown.is_empty() {
        return None;
    }
    finding(
        "unknown",
        Level::Note,
        format!(
            "what the rewrites set off is not known of: {}",
            unknown.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests;
