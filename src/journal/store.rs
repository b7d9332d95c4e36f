//! The seam: what a state is kept on, in a handful of verbs.
//!
//! Names are relative paths, such as `job.json` and `shard-0/snapshot`. Everything above knows nothing of files and objects.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::StateError;

/// A folder that is held: for as long as it, or a clone, lives.
pub type Hold = Arc<dyn Any + Send + Sync>;

/// What a state is kept on.
#[async_trait]
pub trait Store: Send + Sync {
    /// What to call a name in messages; the empty name is the whole state.
    fn place(&self, name: &str) -> String;

    /// A document; `None` where there is none.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// Puts a document in the place of the one before. It is durable when this returns; after an error there is one of the two,
    /// whole.
    async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<(), StateError>;

    /// Puts a document where there is none, whole and durable; `false` where there is one.
    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, StateError>;

    /// Holds a folder for this process alone, where the store can see to that; makes it where there is none.
    async fn hold(&self, folder: &str) -> Result<Hold, StateError>;

    /// Opens the journal in a folder, to read it and then to append; begins it where there is none.
    async fn log(&self, folder: &str, job_id: &str) -> Result<Box<dyn Log>, StateError>;

    /// Opens the journal in a folder to read it, also while another process appends; `None` where there is none. Writes nothing.
    async fn peek(&self, folder: &str) -> Result<Option<Box<dyn Log>>, StateError>;

    /// The journal in a folder as one file of frames (see `frame`): its own, or fetched into the folder `scratch`; `None` where
    /// there is none.
    async fn file(&self, folder: &str, scratch: &Path) -> Result<Option<PathBuf>, StateError>;

    /// How long ago the journal in a folder was appended to, as far as the store tells.
    async fn last_written(&self, folder: &str) -> Result<Option<Duration>, StateError>;
}

/// The records that were committed together: a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number, from 1 on, without a gap.
    pub number: u64,
    /// Where its payload begins, in bytes from the journal's start.
    pub payload_at: u64,
    /// The records.
    pub payload: Vec<u8>,
}

/// How far a journal has been read or written.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Mark {
    /// Batches.
    pub batches: u64,
    /// Bytes, with the header and the frames' own.
    pub bytes: u64,
}

/// The batches of a journal: read to their end first, appended to then.
#[async_trait]
pub trait Log: Send {
    /// What to call it in messages.
    fn place(&self) -> &str;

    /// Whose journal it is.
    fn job_id(&self) -> &str;

    /// Whether nobody else can append while this lives. Where it is not so, whoever loses a number has been replaced.
    fn is_exclusive(&self) -> bool;

    /// How long records are collected before they are committed as one batch.
    fn commit_interval(&self) -> Duration;

    /// Leaves out what is before a mark. Before the first [`next`](Self::next).
    ///
    /// # Errors
    /// [`StateError::Damaged`] where the journal does not reach as far.
    async fn skip_to(&mut self, mark: Mark) -> Result<(), StateError>;

    /// The next batch; `None` at the end or before a torn tail. After [`append`](Self::append) was refused, it reads on.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where a batch is not what was written or one is missing.
    async fn next(&mut self) -> Result<Option<Batch>, StateError>;

    /// How far it has been read, or written.
    fn mark(&self) -> Mark;

    /// Bytes of a torn tail behind the last good batch; counted once [`next`](Self::next) has come to the end.
    fn torn_bytes(&self) -> u64;

    /// Makes what was read durable and cuts off a torn tail. Once, between the last [`next`](Self::next) and the first
    /// [`append`](Self::append).
    async fn recover(&mut self) -> Result<(), StateError>;

    /// Appends a batch under the number after the last. It is durable when this returns `true`. `false`: the number is somebody
    /// else's batch, and nothing was appended. After an error that is [passing](StateError::is_passing) the same batch may be
    /// appended again; after any other nothing may.
    async fn append(&mut self, payload: Vec<u8>) -> Result<bool, StateError>;
}
