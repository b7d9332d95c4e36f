//! The ladder: which way of rewriting brings a scratch object through whole, under the target.

use super::Reason;
use super::asking::{Patience, refusal, said};
use super::scratch::{BODY_BYTES, Scratch, Seen, customer_key};
use crate::encryption::{CUSTOMER_KEY_BYTES, CustomerKey, Encryption, Target};
use crate::object::ObjectRef;
use crate::profile::Rung;
use crate::s3::{
    Carry, Complete, Copy, CopyPart, Create, Destination, Directive, Part, SourceCondition,
};
use crate::s3_error::S3Error;

/// Size of the parts of the scratch object that has two. Source: S3 User Guide, "Amazon S3 multipart upload limits": 5 MiB is the least
/// that a part may have which is not the last.
pub(super) const PART_BYTES: u64 = 5 * 1024 * 1024;

/// A rewrite that is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial<'a> {
    /// What its scratch keys begin with.
    pub(super) name: &'a str,
    /// What the object is put under; `None` sends no header.
    pub(super) under: Option<&'a Target>,
    /// What it is rewritten to.
    pub(super) target: &'a Target,
    /// How.
    pub(super) rung: Rung,
    /// In how many parts, where it is by parts.
    pub(super) parts: u32,
}

impl Trial<'_> {
    fn bytes(self) -> usize {
        match self.parts {
            0 | 1 => BODY_BYTES,
            more => usize::try_from(PART_BYTES * u64::from(more)).expect("a few MiB"),
        }
    }

    pub(super) fn source_key(&self) -> Option<&CustomerKey> {
        customer_key(self.under)
    }
}

/// Puts a scratch object, rewrites it, and compares. The inner error says what is wrong.
pub(super) async fn try_rung(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
) -> Result<Result<(), String>, Reason> {
    let mut patience = Patience::new();
    for number in 0_u32.. {
        let name = format!(
            "{}-{}-{}-{number}",
            trial.name,
            trial.rung.name(),
            trial.parts
        );
        let before = match scratch.put(&name, trial.bytes(), trial.under).await? {
            Ok(before) => before,
            Err(refused) => return Ok(Err(said(&refused))),
        };
        // What was not answered may have been done, so that the next try needs an object of its own.
        let error = match rewrite(scratch, trial, &before).await {
            Ok(()) => return compare(scratch, trial, &before).await,
            Err(error) => error,
        };
        match patience.wait(&error) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return refusal(error).map(|refused| Err(said(&refused))),
        }
    }
    unreachable!("patience ends before the numbers do")
}

async fn rewrite(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
) -> Result<(), S3Error> {
    let etag = &before.head.etag;
    let destination = Destination::Etag(etag);
    if trial.rung != Rung::Multipart {
        let version = copy(scratch, trial, before, etag, destination).await?;
        scratch.saw(&before.key, version);
        return Ok(());
    }
    scratch.begins();
    let upload = create(scratch, trial, before).await?;
    scratch.began(&before.key, &upload);
    let mut parts = Vec::new();
    for number in 1..=trial.parts {
        parts.push(copy_part(scratch, trial, before, &upload, number, etag).await?);
    }
    let version = complete(scratch, trial, before, &upload, &parts, destination).await?;
    scratch.saw(&before.key, version);
    scratch.completed(&before.key, &upload);
    Ok(())
}

/// CopyObject of a scratch object onto itself. The new version.
pub(super) async fn copy(
    scratch: &Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
    source_etag: &str,
    destination: Destination<'_>,
) -> Result<Option<String>, S3Error> {
    scratch.turn().await;
    let (directive, carry) = match trial.rung {
        Rung::Replace => (Directive::Replace, carry(before)),
        Rung::Copy | Rung::Multipart => (Directive::Copy, Carry::default()),
    };
    let mut head = before.head.clone();
    source_etag.clone_into(&mut head.etag);
    let copy = Copy {
        object: version(scratch, before),
        head: &head,
        target: trial.target,
        source_key: trial.source_key(),
        directive,
        carry: &carry,
        source: SourceCondition::Etag,
        destination,
    };
    Ok(scratch.s3.copy_in_place(copy).await?.version_id)
}

/// Begins an upload over a scratch object. Its id.
pub(super) async fn create(
    scratch: &Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
) -> Result<String, S3Error> {
    scratch.turn().await;
    let create = Create {
        object: scratch.object(&before.key),
        head: &before.head,
        target: trial.target,
        carry: &carry(before),
        checksum: None,
    };
    Ok(scratch.s3.create_upload(create).await?.id)
}

/// Copies one part of a scratch object.
pub(super) async fn copy_part(
    scratch: &Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
    upload_id: &str,
    number: u32,
    etag: &str,
) -> Result<Part, S3Error> {
    scratch.turn().await;
    let size = before.head.size;
    let length = if trial.parts > 1 { PART_BYTES } else { size };
    let first = u64::from(number - 1) * length;
    let part = CopyPart {
        object: version(scratch, before),
        upload_id,
        number,
        first,
        last: (first + length).min(size) - 1,
        etag,
        source_key: trial.source_key(),
        target: trial.target,
    };
    scratch.s3.copy_part(part).await
}

/// Puts the parts in the scratch object's place. The new version.
pub(super) async fn complete(
    scratch: &Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
    upload_id: &str,
    parts: &[Part],
    destination: Destination<'_>,
) -> Result<Option<String>, S3Error> {
    scratch.turn().await;
    let complete = Complete {
        object: scratch.object(&before.key),
        upload_id,
        parts,
        destination,
        target: trial.target,
        checksum: None,
        size: before.head.size,
    };
    Ok(scratch.s3.complete_upload(complete).await?.version_id)
}

/// The version that was looked at, as requests name a source.
fn version<'k>(scratch: &'k Scratch<'_>, seen: &'k Seen) -> ObjectRef<'k> {
    ObjectRef {
        version_id: seen.head.version_id.as_deref(),
        ..scratch.object(&seen.key)
    }
}

/// What a rewrite has to send again beside the head.
fn carry(before: &Seen) -> Carry {
    Carry {
        tags: before.tags.clone(),
        ..Carry::default()
    }
}

/// Looks at a rewritten object, and tells what is not as it was or not as it should be.
async fn compare(
    scratch: &mut Scratch<'_>,
    trial: Trial<'_>,
    before: &Seen,
) -> Result<Result<(), String>, Reason> {
    let new_key = customer_key(Some(trial.target));
    let after = match scratch.look(&before.key, new_key).await? {
        Ok(after) => after,
        Err(refused) => {
            return Ok(Err(format!(
                "the answer says OK, and then {}",
                said(&refused)
            )));
        }
    };
    if let Some(wrong) = difference(trial.target, before, &after) {
        return Ok(Err(format!("the answer says OK, and then {wrong}")));
    }
    if new_key.is_some() {
        opens_only_by_its_key(scratch, before).await?;
    }
    Ok(Ok(()))
}

/// What a rewrite to `target` got wrong.
pub(super) fn difference(target: &Target, before: &Seen, after: &Seen) -> Option<String> {
    if !target.is_confirmed_by(&after.head.encryption) {
        let found = after.head.encryption.mode();
        let key = match &after.head.encryption {
            _ if found != target.mode() => "",
            Encryption::SseKms { key: None, .. } | Encryption::DsseKms { key: None } => {
                " and names no key"
            }
            _ => " under another key",
        };
        return Some(format!("HeadObject shows {found}{key}"));
    }
    let (was, is) = (&before.head, &after.head);
    let wrong: Vec<_> = [
        ("content", before.body == after.body && was.size == is.size),
        ("content headers", was.headers == is.headers),
        (
            "metadata",
            was.metadata == is.metadata && was.missing_meta == is.missing_meta,
        ),
        ("tags", before.tags == after.tags),
        (
            "storage class",
            was.storage_class_name() == is.storage_class_name(),
        ),
    ]
    .into_iter()
    .filter_map(|(what, same)| (!same).then_some(what))
    .collect();
    (!wrong.is_empty()).then(|| format!("not as before: {}", wrong.join(", ")))
}

/// A store that opens an object by any customer's key has not encrypted it by one. That keeps nobody from going on, but has to be said.
async fn opens_only_by_its_key(scratch: &mut Scratch<'_>, seen: &Seen) -> Result<(), Reason> {
    const NOTE: &str = "this store opens an object under SSE-C by any customer's key: it does not encrypt by the key";
    let wrong = CustomerKey::from_file_content(&rand::random::<[u8; CUSTOMER_KEY_BYTES]>())
        .expect("as long as a key is");
    let opened = scratch.opens(&seen.key, &wrong).await?;
    if opened && !scratch.notes.iter().any(|note| note == NOTE) {
        scratch.notes.push(NOTE.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Checksums, ContentHeaders, Lock, ObjectHead, Tag};
    use crate::s3::ReadBack;

    fn seen() -> Seen {
        Seen {
            key: "k".to_owned(),
            head: ObjectHead {
                etag: "\"e\"".to_owned(),
                size: 1,
                version_id: None,
                last_modified: None,
                encryption: Encryption::SseS3,
                storage_class: None,
                website_redirect: None,
                archived: false,
                headers: ContentHeaders::default(),
                metadata: [("a".to_owned(), "b".to_owned())].into(),
                missing_meta: 0,
                tag_count: None,
                lock: Lock::default(),
                checksums: Checksums::default(),
                parts: None,
                replication_status: None,
            },
            body: ReadBack {
                sha256: [0; 32],
                size: 1,
            },
            tags: Some(vec![Tag {
                key: "a".to_owned(),
                value: "b".to_owned(),
            }]),
        }
    }

    /// S3 leaves STANDARD out, other stores name it.
    #[test]
    fn what_a_rewrite_may_change_is_no_difference() {
        let mut after = seen();
        after.head.etag = "\"another\"".to_owned();
        after.head.version_id = Some("v".to_owned());
        after.head.storage_class = Some("STANDARD".to_owned());
        assert_eq!(difference(&Target::SseS3, &seen(), &after), None);
    }

    #[test]
    fn every_loss_is_a_difference() {
        type Loss = fn(&mut Seen);
        let losses: [(&str, Loss); 9] = [
            ("shows NOT-SSE", |it| {
                it.head.encryption = Encryption::NotSse
            }),
            ("content", |it| it.body.sha256[31] = 1),
            ("content", |it| it.head.size = 2),
            ("content headers", |it| {
                it.head.headers.expires = Some("never".to_owned());
            }),
            ("metadata", |it| it.head.metadata.clear()),
            ("metadata", |it| it.head.missing_meta = 1),
            ("tags", |it| it.tags = Some(Vec::new())),
            ("tags", |it| it.tags = None),
            ("storage class", |it| {
                it.head.storage_class = Some("GLACIER".to_owned());
            }),
        ];
        for (what, lose) in losses {
            let mut after = seen();
            lose(&mut after);
            let said = difference(&Target::SseS3, &seen(), &after).expect(what);
            assert!(said.ends_with(what), "{what}: {said}");
        }
    }
}
