//! How many requests to KMS a request to S3 sets off.
//!
//! | request | for what it reads | for what it writes |
//! |---|---|---|
//! | CopyObject | Decrypt | GenerateDataKey |
//! | UpdateObjectEncryption | the old data key is unwrapped | and wrapped anew |
//! | CreateMultipartUpload | – | GenerateDataKey |
//! | UploadPartCopy | Decrypt | Decrypt, of the upload's data key |
//! | CompleteMultipartUpload | – | Decrypt, likewise |
//! | GetObject, HeadObject with checksums | Decrypt | – |
//!
//! Each counts once under SSE-KMS, twice under DSSE-KMS, which has two layers, and not at all with a bucket key, which stands in for
//! KMS: S3 asks for a new one now and then only.
//!
//! Source: S3 User Guide, "Reducing the cost of SSE-KMS with Amazon S3 Bucket Keys" (up to 99 % fewer requests; none for DSSE-KMS) and
//! "Using dual-layer server-side encryption"; KMS Developer Guide, "How Amazon S3 uses AWS KMS". S3 documents no number for an
//! update: it is taken to be that of a copy.

use crate::encryption::{Encryption, Target};
use crate::event::Operation;

/// Requests to KMS that `operation` sets off, from an object that is under `source` to one that shall be under `target`.
pub fn kms_requests(operation: Operation, source: &Encryption, target: &Target) -> u32 {
    let (reads, writes) = match operation {
        Operation::CopyObject | Operation::UpdateObjectEncryption | Operation::UploadPartCopy => {
            (true, true)
        }
        Operation::CreateMultipartUpload | Operation::CompleteMultipartUpload => (false, true),
        Operation::GetObject | Operation::HeadObject => (true, false),
        Operation::GetObjectAcl
        | Operation::GetObjectRetention
        | Operation::GetObjectLegalHold
        | Operation::AbortMultipartUpload
        | Operation::ListParts
        | Operation::GetObjectTagging
        | Operation::ListObjectAnnotations
        | Operation::ListObjectVersions
        | Operation::DeleteObject => (false, false),
    };
    let to_read = match source {
        Encryption::SseKms { bucket_key, .. } => u32::from(!bucket_key),
        Encryption::DsseKms { .. } => 2,
        Encryption::NotSse | Encryption::SseS3 | Encryption::SseC { .. } => 0,
    };
    let to_write = match target {
        // What is written gets a bucket key unless that is refused.
        Target::SseKms(kms) => u32::from(kms.bucket_key == Some(false)),
        Target::DsseKms(_) => 2,
        Target::SseS3 | Target::SseC(_) => 0,
    };
    u32::from(reads) * to_read + u32::from(writes) * to_write
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::KmsTarget;

    #[test]
    fn a_bucket_key_stands_in_for_kms_and_two_layers_count_twice() {
        let under = |bucket_key| Encryption::SseKms {
            key: None,
            bucket_key,
        };
        let kms = |bucket_key| {
            Target::SseKms(KmsTarget {
                bucket_key,
                ..KmsTarget::default()
            })
        };
        let dsse = Target::DsseKms(KmsTarget::default());
        for (source, target, expected) in [
            (Encryption::SseS3, kms(None), 0),
            (Encryption::SseS3, kms(Some(false)), 1),
            (under(false), kms(Some(true)), 1),
            (under(false), kms(Some(false)), 2),
            (under(true), Target::SseS3, 0),
            (under(true), dsse, 2),
            (Encryption::DsseKms { key: None }, kms(Some(false)), 3),
        ] {
            let copy = kms_requests(Operation::CopyObject, &source, &target);
            assert_eq!(copy, expected, "{source:?} {target:?}");
            assert_eq!(kms_requests(Operation::ListParts, &source, &target), 0);
        }
    }
}
