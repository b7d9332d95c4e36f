//! What a task has the journal remember before it goes on: more than "it was started", less than an outcome.
//!
//! A rewrite of one request needs none of these: the look after a crash tells what to do. What takes several requests leaves something
//! behind that only its maker knows; and evidence wants to know who has rewritten what is found rewritten.

use serde::{Deserialize, Serialize};

/// The longest upload id that can be remembered, in bytes. S3 documents no bound; the ids of known stores have up to 300.
pub const UPLOAD_ID_BYTES_MAX: usize = 2048;

/// The longest ETag that can be remembered, in bytes. S3's have 34 to 41 with their quotes.
pub const ETAG_BYTES_MAX: usize = 256;

/// The longest version id, in bytes. Source: S3 User Guide, "How S3 Versioning works": "no more than 1,024 bytes long".
pub const VERSION_ID_BYTES_MAX: usize = 1024;

/// Most versions of one key that can be remembered.
pub const VERSIONS_MAX: usize = 1000;

/// Most bytes that their ids can have together: [`VERSIONS_MAX`] of 90 bytes each. S3's have 32, UUIDs 36.
pub const VERSIONS_BYTES_MAX: usize = 90_000;

/// How far a row has come. Only the rows in flight have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checkpoint {
    /// A multipart upload was created for the row: it is continued or aborted.
    Upload {
        /// Its id.
        upload_id: String,
        /// ETag of the object that its parts are copied from, with quotes.
        etag: String,
        /// Fingerprint of what was sent along when it was created: it is continued only where the object still has the same.
        sent: u64,
    },
    /// The versions of the row's key are about to be rewritten one after the other: nothing newer than the last of them was there.
    Restack {
        /// Version ids, oldest first.
        versions: Vec<String>,
    },
    /// The current version is about to be superseded by its rewrite: left where it is deleted once that is verified, and where evidence
    /// is kept.
    Superseding {
        /// The version that is current now; `null` where there are none.
        version_id: String,
    },
    /// A version is about to be updated where it is: left where evidence is kept.
    Updating {
        /// The version; `null` where there are none.
        version_id: String,
    },
}

impl Checkpoint {
    /// Whether it can be remembered as a whole: half of an id names something else, so what is too long is not remembered at all.
    pub fn is_within_bounds(&self) -> bool {
        match self {
            Self::Upload {
                upload_id, etag, ..
            } => upload_id.len() <= UPLOAD_ID_BYTES_MAX && etag.len() <= ETAG_BYTES_MAX,
            Self::Restack { versions } => {
                versions.len() <= VERSIONS_MAX
                    && versions.iter().all(|id| id.len() <= VERSION_ID_BYTES_MAX)
                    && versions.iter().map(String::len).sum::<usize>() <= VERSIONS_BYTES_MAX
            }
            Self::Superseding { version_id } | Self::Updating { version_id } => {
                version_id.len() <= VERSION_ID_BYTES_MAX
            }
        }
    }
}
