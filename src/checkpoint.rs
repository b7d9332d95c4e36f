//! What a task has the journal remember before it goes on: more than "it was started", less than an outcome.
//!
//! A rewrite of one request needs none of these: the look after a crash tells everything. What takes several requests leaves
//! something behind that only its maker knows.

/// How far a row has come. Only the rows in flight have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// A multipart upload was created for the row: it is continued or aborted.
    Upload {
        /// Its id.
        upload_id: String,
        /// ETag of the object that its parts are copied from, with quotes.
        etag: String,
    },
    /// The versions of the row's key are about to be rewritten one after the other: nothing newer than the last of them was there.
    Restack {
        /// Version ids, oldest first.
        versions: Vec<String>,
    },
    /// The current version is about to be superseded by its rewrite, and is to be deleted once that is verified.
    Superseding {
        /// The version that is current now.
        version_id: String,
    },
}
