//! Which actions S3 asks for each request: AWS's to say, and written down here.
//! Sources: S3 User Guide, "Required permissions for Amazon S3 API operations"; S3 API Reference, section *Permissions* of each
//! operation; "Protecting data with SSE-KMS" and "Multipart upload API and permissions", for the KMS actions.

/// What a statement may be about, by the examples' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum On {
    Objects,
    Bucket,
    Scratch,
    KeyName,
    Manifest,
    ManifestBucket,
    State,
    StateBucket,
    Report,
    OldKeys,
    NewKey,
}

use On::{
    Bucket, KeyName, Manifest, ManifestBucket, NewKey, Objects, OldKeys, Report, Scratch, State,
    StateBucket,
};

impl On {
    pub(super) const ALL: [Self; 11] = [
        Objects,
        Bucket,
        Scratch,
        KeyName,
        Manifest,
        ManifestBucket,
        State,
        StateBucket,
        Report,
        OldKeys,
        NewKey,
    ];

    pub(super) fn arn(self) -> &'static str {
        match self {
            Objects => "arn:aws:s3:::example-bucket/*",
            Bucket => "arn:aws:s3:::example-bucket",
            Scratch => "arn:aws:s3:::example-bucket/.reseal-scratch/*",
            KeyName => "arn:aws:s3:::example-bucket/.reseal-resolves-its-key",
            Manifest => "arn:aws:s3:::example-inventory/*",
            ManifestBucket => "arn:aws:s3:::example-inventory",
            State => "arn:aws:s3:::example-state/reseal/*",
            StateBucket => "arn:aws:s3:::example-state",
            Report => "arn:aws:s3:::example-reports/reseal/*",
            OldKeys => {
                "arn:aws:kms:us-east-1:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
            }
            NewKey => "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        }
    }
}

/// A policy, a request that it is for, and what the request takes: actions, each on what.
pub(super) type Call = (&'static str, &'static str, &'static [(On, &'static str)]);

/// Everything that is sent, and to what. A request that several policies are for has a line for each.
pub(super) const CALLS: &[Call] = &[
    // Every run: the looks, and the questions about the bucket.
    // Without ListBucket, what is gone looks like what is forbidden.
    (
        "look",
        "HeadObject",
        &[(Objects, "s3:GetObject"), (Bucket, "s3:ListBucket")],
    ),
    ("look", "ListObjectsV2", &[(Bucket, "s3:ListBucket")]),
    (
        "look",
        "GetBucketVersioning",
        &[(Bucket, "s3:GetBucketVersioning")],
    ),
    (
        "look",
        "GetBucketOwnershipControls",
        &[(Bucket, "s3:GetBucketOwnershipControls")],
    ),
    (
        "look",
        "GetObjectLockConfiguration",
        &[(Bucket, "s3:GetBucketObjectLockConfiguration")],
    ),
    (
        "look",
        "GetBucketEncryption",
        &[(Bucket, "s3:GetEncryptionConfiguration")],
    ),
    (
        "look",
        "GetBucketWebsite",
        &[(Bucket, "s3:GetBucketWebsite")],
    ),
    (
        "look",
        "GetBucketReplication",
        &[(Bucket, "s3:GetReplicationConfiguration")],
    ),
    (
        "look",
        "GetBucketNotificationConfiguration",
        &[(Bucket, "s3:GetBucketNotification")],
    ),
    (
        "look",
        "GetBucketLifecycleConfiguration",
        &[(Bucket, "s3:GetLifecycleConfiguration")],
    ),
    // A copy onto itself. S3 reads and writes tags and annotations for it where there are some.
    (
        "copy",
        "CopyObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectTagging"),
            (Objects, "s3:GetObjectAnnotation"),
            (Objects, "s3:PutObject"),
            (Objects, "s3:PutObjectTagging"),
            (Objects, "s3:PutObjectAnnotation"),
            (OldKeys, "kms:Decrypt"),
            (NewKey, "kms:GenerateDataKey"),
        ],
    ),
    (
        "copy",
        "GetObjectTagging",
        &[(Objects, "s3:GetObjectTagging")],
    ),
    // In place. Source: S3 API Reference, UpdateObjectEncryption; s3:PutObject is the User Guide's.
    (
        "update",
        "UpdateObjectEncryption",
        &[
            (Objects, "s3:UpdateObjectEncryption"),
            (Objects, "s3:PutObject"),
            (OldKeys, "kms:Decrypt"),
            (OldKeys, "kms:ReEncryptFrom"),
            (NewKey, "kms:GenerateDataKey"),
            (NewKey, "kms:Encrypt"),
            (NewKey, "kms:Decrypt"),
            (NewKey, "kms:ReEncryptTo"),
        ],
    ),
    // In parts. The version is pinned in buckets that have some; parts are read back under the new key.
    (
        "multipart",
        "CreateMultipartUpload",
        &[
            (Objects, "s3:PutObject"),
            (Objects, "s3:PutObjectTagging"),
            (NewKey, "kms:GenerateDataKey"),
        ],
    ),
    (
        "multipart",
        "UploadPartCopy",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectVersion"),
            (Objects, "s3:PutObject"),
            (OldKeys, "kms:Decrypt"),
            (NewKey, "kms:GenerateDataKey"),
            (NewKey, "kms:Decrypt"),
        ],
    ),
    (
        "multipart",
        "CompleteMultipartUpload",
        &[(Objects, "s3:PutObject"), (NewKey, "kms:Decrypt")],
    ),
    (
        "multipart",
        "AbortMultipartUpload",
        &[(Objects, "s3:AbortMultipartUpload")],
    ),
    (
        "multipart",
        "ListParts",
        &[(Objects, "s3:ListMultipartUploadParts")],
    ),
    // With checksums.
    (
        "multipart",
        "HeadObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectVersion"),
            (OldKeys, "kms:Decrypt"),
            (NewKey, "kms:Decrypt"),
        ],
    ),
    (
        "multipart",
        "GetObjectTagging",
        &[
            (Objects, "s3:GetObjectTagging"),
            (Objects, "s3:GetObjectVersionTagging"),
        ],
    ),
    (
        "multipart",
        "ListObjectAnnotations",
        &[(Objects, "s3:ListObjectAnnotations")],
    ),
    // Under a customer key, which no policy is about.
    (
        "sse-c",
        "CopyObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectTagging"),
            (Objects, "s3:GetObjectAnnotation"),
            (Objects, "s3:PutObject"),
            (Objects, "s3:PutObjectTagging"),
            (Objects, "s3:PutObjectAnnotation"),
            (OldKeys, "kms:Decrypt"),
        ],
    ),
    (
        "sse-c",
        "ListObjectAnnotations",
        &[(Objects, "s3:ListObjectAnnotations")],
    ),
    // What a copy resets and is sent along.
    (
        "acl-and-lock",
        "GetObjectAcl",
        &[(Objects, "s3:GetObjectAcl")],
    ),
    (
        "acl-and-lock",
        "GetObjectRetention",
        &[(Objects, "s3:GetObjectRetention")],
    ),
    (
        "acl-and-lock",
        "GetObjectLegalHold",
        &[(Objects, "s3:GetObjectLegalHold")],
    ),
    ("acl-and-lock", "CopyObject", SENT_ALONG),
    ("acl-and-lock", "CreateMultipartUpload", SENT_ALONG),
    // Versions by their ids, which is how a bucket that keeps some is asked.
    (
        "versions",
        "HeadObject",
        &[(Objects, "s3:GetObjectVersion")],
    ),
    (
        "versions",
        "CopyObject",
        &[
            (Objects, "s3:GetObjectVersion"),
            (Objects, "s3:GetObjectVersionTagging"),
        ],
    ),
    (
        "versions",
        "GetObjectTagging",
        &[(Objects, "s3:GetObjectVersionTagging")],
    ),
    (
        "versions",
        "GetObjectAcl",
        &[(Objects, "s3:GetObjectVersionAcl")],
    ),
    (
        "restack",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    // Puts a delete marker back.
    ("restack", "DeleteObject", &[(Objects, "s3:DeleteObject")]),
    (
        "delete-superseded",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    (
        "delete-superseded",
        "DeleteObject",
        &[(Objects, "s3:DeleteObjectVersion")],
    ),
    // Reading back, before and after. Checksums of what is under a KMS key are shown to those who may use it.
    // Source: S3 API Reference, HeadObject, x-amz-checksum-mode.
    (
        "verify",
        "HeadObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectVersion"),
            (OldKeys, "kms:Decrypt"),
            (NewKey, "kms:Decrypt"),
        ],
    ),
    (
        "verify",
        "GetObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectVersion"),
            (OldKeys, "kms:Decrypt"),
            (NewKey, "kms:Decrypt"),
        ],
    ),
    (
        "verify",
        "GetObjectTagging",
        &[
            (Objects, "s3:GetObjectTagging"),
            (Objects, "s3:GetObjectVersionTagging"),
        ],
    ),
    // What a bucket lists, and the uploads that are in progress there.
    (
        "verify-bucket",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    (
        "verify-bucket",
        "ListMultipartUploads",
        &[(Bucket, "s3:ListBucketMultipartUploads")],
    ),
    // Evidence, written and read again. What an interruption has left is found among a key's versions.
    ("evidence", "GetObject", &[(Report, "s3:GetObject")]),
    ("evidence", "PutObject", &[(Report, "s3:PutObject")]),
    (
        "evidence",
        "CreateMultipartUpload",
        &[(Report, "s3:PutObject")],
    ),
    ("evidence", "UploadPart", &[(Report, "s3:PutObject")]),
    (
        "evidence",
        "CompleteMultipartUpload",
        &[(Report, "s3:PutObject")],
    ),
    (
        "evidence",
        "AbortMultipartUpload",
        &[(Report, "s3:AbortMultipartUpload")],
    ),
    (
        "evidence",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    // A superseded version onto its key, under the key that it is under.
    (
        "undo",
        "HeadObject",
        &[(Objects, "s3:GetObject"), (Objects, "s3:GetObjectVersion")],
    ),
    (
        "undo",
        "CopyObject",
        &[
            (Objects, "s3:GetObjectVersion"),
            (Objects, "s3:GetObjectVersionTagging"),
            (Objects, "s3:GetObjectAnnotation"),
            (Objects, "s3:PutObject"),
            (Objects, "s3:PutObjectTagging"),
            (Objects, "s3:PutObjectAnnotation"),
            (OldKeys, "kms:Decrypt"),
            (OldKeys, "kms:GenerateDataKey"),
        ],
    ),
    // Scratch objects, as they are tried on AWS: the update in place.
    (
        "probe",
        "PutObject",
        &[
            (Scratch, "s3:PutObject"),
            (Scratch, "s3:PutObjectTagging"),
            (NewKey, "kms:GenerateDataKey"),
        ],
    ),
    ("probe", "HeadObject", &[(Scratch, "s3:GetObject")]),
    (
        "probe",
        "GetObject",
        &[(Scratch, "s3:GetObject"), (NewKey, "kms:Decrypt")],
    ),
    (
        "probe",
        "GetObjectTagging",
        &[(Scratch, "s3:GetObjectTagging")],
    ),
    (
        "probe",
        "UpdateObjectEncryption",
        &[
            (Scratch, "s3:UpdateObjectEncryption"),
            (Scratch, "s3:PutObject"),
            (NewKey, "kms:GenerateDataKey"),
            (NewKey, "kms:Encrypt"),
            (NewKey, "kms:Decrypt"),
            (NewKey, "kms:ReEncryptTo"),
        ],
    ),
    (
        "probe",
        "DeleteObject",
        &[
            (Scratch, "s3:DeleteObject"),
            (Scratch, "s3:DeleteObjectVersion"),
        ],
    ),
    (
        "probe",
        "AbortMultipartUpload",
        &[
            (Scratch, "s3:AbortMultipartUpload"),
            (KeyName, "s3:AbortMultipartUpload"),
        ],
    ),
    ("probe", "ListObjectsV2", &[(Bucket, "s3:ListBucket")]),
    (
        "probe",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    (
        "probe",
        "ListMultipartUploads",
        &[(Bucket, "s3:ListBucketMultipartUploads")],
    ),
    // Without a probe: which key an alias is.
    (
        "probe",
        "CreateMultipartUpload",
        &[(KeyName, "s3:PutObject"), (NewKey, "kms:GenerateDataKey")],
    ),
    // The manifest, once and whenever it is asked whether it is the same.
    ("manifest", "GetObject", &[(Manifest, "s3:GetObject")]),
    ("manifest", "HeadObject", &[(Manifest, "s3:GetObject")]),
    // The newest of a folder of inventories; that one is not complete is a 403 without ListBucket.
    (
        "manifest",
        "ListObjectsV2",
        &[(ManifestBucket, "s3:ListBucket")],
    ),
    // The state. It must be told that something is not there, and that is a 403 without ListBucket.
    (
        "state",
        "GetObject",
        &[(State, "s3:GetObject"), (StateBucket, "s3:ListBucket")],
    ),
    (
        "state",
        "HeadObject",
        &[(State, "s3:GetObject"), (StateBucket, "s3:ListBucket")],
    ),
    ("state", "ListObjectsV2", &[(StateBucket, "s3:ListBucket")]),
    ("state", "PutObject", &[(State, "s3:PutObject")]),
    // A manifest from standard input, and a report that has no other place, may have more than 64 MiB.
    ("state", "CreateMultipartUpload", &[(State, "s3:PutObject")]),
    ("state", "UploadPart", &[(State, "s3:PutObject")]),
    (
        "state",
        "CompleteMultipartUpload",
        &[(State, "s3:PutObject")],
    ),
    (
        "state",
        "AbortMultipartUpload",
        &[(State, "s3:AbortMultipartUpload")],
    ),
    ("report", "PutObject", &[(Report, "s3:PutObject")]),
    (
        "report",
        "CreateMultipartUpload",
        &[(Report, "s3:PutObject")],
    ),
    ("report", "UploadPart", &[(Report, "s3:PutObject")]),
    (
        "report",
        "CompleteMultipartUpload",
        &[(Report, "s3:PutObject")],
    ),
    (
        "report",
        "AbortMultipartUpload",
        &[(Report, "s3:AbortMultipartUpload")],
    ),
    // A list of the bucket, which needs none of the others. HeadObject asks whether the dated folder is taken.
    ("inventory", "ListObjectsV2", &[(Bucket, "s3:ListBucket")]),
    (
        "inventory",
        "ListObjectVersions",
        &[(Bucket, "s3:ListBucketVersions")],
    ),
    (
        "inventory",
        "HeadObject",
        &[
            (Objects, "s3:GetObject"),
            (Objects, "s3:GetObjectVersion"),
            (Manifest, "s3:GetObject"),
        ],
    ),
    (
        "inventory",
        "GetObject",
        &[(Objects, "s3:GetObject"), (Objects, "s3:GetObjectVersion")],
    ),
    ("inventory", "PutObject", &[(Manifest, "s3:PutObject")]),
    (
        "inventory",
        "CreateMultipartUpload",
        &[(Manifest, "s3:PutObject")],
    ),
    ("inventory", "UploadPart", &[(Manifest, "s3:PutObject")]),
    (
        "inventory",
        "CompleteMultipartUpload",
        &[(Manifest, "s3:PutObject")],
    ),
    (
        "inventory",
        "AbortMultipartUpload",
        &[(Manifest, "s3:AbortMultipartUpload")],
    ),
];

const SENT_ALONG: &[(On, &str)] = &[
    (Objects, "s3:PutObjectAcl"),
    (Objects, "s3:PutObjectRetention"),
    (Objects, "s3:PutObjectLegalHold"),
];
