//! The state of a job and of its shards: what is where, and who holds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dir::DirStore;
use super::outcomes::{Outcomes, Rewrites};
use super::record::{Position, Record, Records};
use super::replay::{Replay, next_record};
use super::storage::FileStorage;
use super::store::{Hold, Log, Mark, Store};
use super::writer::{Committer, Proof, Writer, append_patiently};
use super::{StateError, document, record, snapshot};
use crate::shard::Shard;

const JOB: &str = "job.json";
const SHARD: &str = "shard.json";

/// How long a store that does not answer is waited for while a state is taken over: it has not worked yet.
const START_STALL_MAX: Duration = Duration::from_secs(10);

/// Most batches of others that are met, and read, while a state is taken over. Another runner that is still alive writes one or
/// two before it finds out; more of them means that several take it over at once.
const TAKE_OVERS_MAX: u32 = 64;

/// The state of a job.
#[derive(Clone)]
pub struct StateRoot {
    store: Arc<dyn Store>,
    /// Where it is, if that is a directory.
    local: Option<PathBuf>,
}

impl StateRoot {
    /// A state in a directory, which need not be there yet.
    pub fn dir(path: &Path) -> Self {
        Self {
            store: Arc::new(DirStore::new(path)),
            local: Some(path.to_owned()),
        }
    }

    /// A state on another store.
    pub fn on(store: impl Store + 'static) -> Self {
        Self {
            store: Arc::new(store),
            local: None,
        }
    }

    /// Where it is.
    pub fn place(&self) -> String {
        self.store.place("")
    }

    /// What the job is; `None` where nobody has said it yet.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where it is not what was written.
    pub async fn read_job<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        self.read(JOB).await
    }

    /// Says what the job is; `false` where somebody has said it already.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn create_job<T: Serialize>(&self, job: &T) -> Result<bool, StateError> {
        let sealed = document::seal(job, &self.store.place(JOB))?;
        self.store.create(JOB, sealed).await
    }

    /// What the runners of a job say of a thing that each of them could say alone: what the first has said.
    ///
    /// # Errors
    /// It can't be written, or is not what was written.
    pub async fn agree<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        mine: T,
    ) -> Result<T, StateError> {
        if let Some(said) = self.read(name).await? {
            return Ok(said);
        }
        let place = self.store.place(name);
        let sealed = document::seal(&mine, &place)?;
        if self.store.create(name, sealed).await? {
            return Ok(mine);
        }
        let said = self.read(name).await?;
        said.ok_or_else(|| StateError::damaged(&place, 0, "it was there a moment ago"))
    }

    /// Takes a shard's state for this process.
    ///
    /// # Errors
    /// [`StateError::Busy`] where it is seen at once that another runner has it.
    pub async fn take(&self, shard: Shard) -> Result<ShardState, StateError> {
        let name = folder(shard);
        let hold = self.store.hold(&name).await?;
        let (local, scratch) = match &self.local {
            Some(root) => (root.join(&name), None),
            None => {
                let failed = |error| StateError::io("make", "a folder for temporary files", error);
                let scratch = tempfile::Builder::new().prefix("reseal-").tempdir();
                let scratch = scratch.map_err(failed)?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        Ok(ShardState {
            store: Arc::clone(&self.store),
            name,
            hold,
            local,
            _scratch: scratch,
        })
    }

    /// What a shard has said of itself. Writes nothing.
    ///
    /// # Errors
    /// As [`read_job`](Self::read_job).
    pub async fn read_shard<T: DeserializeOwned>(
        &self,
        shard: Shard,
    ) -> Result<Option<T>, StateError> {
        self.read(&format!("{}/{SHARD}", folder(shard))).await
    }

    /// What the journal of a shard says, which another process may be writing; `None` where there is none. Writes nothing, and leaves
    /// a tail that is being written alone.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where it is not what was written.
    pub async fn peek(&self, shard: Shard) -> Result<Option<Replay>, StateError> {
        let folder = folder(shard);
        let Some(mut log) = self.store.peek(&folder).await? else {
            return Ok(None);
        };
        let (replay, _) = read_back(self.store.as_ref(), &folder, log.as_mut()).await?;
        Ok(Some(replay))
    }

    /// How long ago a shard's journal was written to, as far as that can be told.
    ///
    /// # Errors
    /// The store can't be asked.
    pub async fn last_written(&self, shard: Shard) -> Result<Option<Duration>, StateError> {
        self.store.last_written(&folder(shard)).await
    }

    /// A shard's outcomes by row, for a report; `None` where it has no journal. What has to be fetched goes to `scratch`.
    ///
    /// # Errors
    /// [`StateError::OtherJob`] where the journal is another job's; [`StateError::Damaged`] where there is none and a snapshot of it;
    /// otherwise as when replaying.
    pub async fn outcomes(
        &self,
        shard: Shard,
        job_id: &str,
        scratch: &Path,
    ) -> Result<Option<Outcomes>, StateError> {
        let (store, folder) = (self.store.as_ref(), folder(shard));
        // Before the journal, which only gets longer meanwhile.
        let snapshot = snapshot::read(store, &folder, job_id).await?;
        let Some(path) = store.file(&folder, scratch).await? else {
            let missing = "it has a snapshot of a journal that is not there";
            return match snapshot {
                None => Ok(None),
                Some(_) => Err(StateError::damaged(&store.place(&folder), 0, missing)),
            };
        };
        let storage = FileStorage::open_read_only(&path)
            .map_err(|error| StateError::io("open", path.display(), error))?;
        let counted = snapshot.map_or(Mark::default(), |(mark, _)| mark);
        Outcomes::read(Box::new(storage), job_id, counted).map(Some)
    }

    /// What a shard has rewritten, for evidence; `None` where it has no journal. What has to be fetched goes to `scratch`.
    ///
    /// # Errors
    /// As [`outcomes`](Self::outcomes).
    pub async fn rewrites(
        &self,
        shard: Shard,
        job_id: &str,
        scratch: &Path,
    ) -> Result<Option<Rewrites>, StateError> {
        let (store, folder) = (self.store.as_ref(), folder(shard));
        let Some(path) = store.file(&folder, scratch).await? else {
            return Ok(None);
        };
        let storage = FileStorage::open_read_only(&path)
            .map_err(|error| StateError::io("open", path.display(), error))?;
        Rewrites::read(Box::new(storage), job_id).map(Some)
    }

    /// What the runners of a job have [agreed](Self::agree) on; `None` where nobody has said it yet.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where it is not what was written.
    pub async fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        match self.store.read(name).await? {
            Some(sealed) => document::unseal(&sealed, &self.store.place(name)).map(Some),
            None => Ok(None),
        }
    }
}

fn folder(shard: Shard) -> String {
    format!("shard-{}", shard.index)
}

/// The state of one shard, taken by this process.
pub struct ShardState {
    store: Arc<dyn Store>,
    name: String,
    hold: Hold,
    local: PathBuf,
    /// Removed with this.
    _scratch: Option<tempfile::TempDir>,
}

impl ShardState {
    /// Where it is.
    pub fn place(&self) -> String {
        self.store.place(&self.name)
    }

    /// A folder of this machine for what the shard fetches and makes: beside the journal where that is in a directory, else one that
    /// goes with this.
    pub fn folder(&self) -> &Path {
        &self.local
    }

    /// What the shard has said of itself; `None` where that is nothing.
    ///
    /// # Errors
    /// [`StateError::Damaged`] where it is not what was written.
    pub async fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        let name = self.document();
        match self.store.read(&name).await? {
            Some(sealed) => document::unseal(&sealed, &self.store.place(&name)).map(Some),
            None => Ok(None),
        }
    }

    /// Says what the shard is. It is durable when this returns; after an error what was said before is still there.
    ///
    /// # Errors
    /// It can't be written.
    pub async fn write<T: Serialize>(&self, shard: &T) -> Result<(), StateError> {
        let name = self.document();
        let sealed = document::seal(shard, &self.store.place(&name))?;
        self.store.replace(&name, sealed).await
    }

    fn document(&self) -> String {
        format!("{}/{SHARD}", self.name)
    }

    /// Reads the journal back, takes it over and starts to write on. Where there is none yet, one is begun. While the store
    /// does not answer, the writer waits for `max_stall` at most.
    ///
    /// # Errors
    /// [`StateError::OtherJob`] and [`StateError::Damaged`]; [`StateError::Busy`] while another [`Writer`] of this state lives.
    ///
    /// # Panics
    /// Where the job id is longer than [`JOB_ID_BYTES_MAX`](super::JOB_ID_BYTES_MAX).
    pub async fn journal(
        &self,
        job_id: &str,
        max_stall: Duration,
    ) -> Result<(Replay, Writer), StateError> {
        if Arc::strong_count(&self.hold) > 1 {
            return Err(StateError::Busy {
                place: self.place(),
            });
        }
        let store = self.store.as_ref();
        let is_resumed = store.peek(&self.name).await?.is_some();
        let mut log = store.log(&self.name, job_id).await?;
        if log.job_id() != job_id {
            return Err(StateError::OtherJob {
                place: log.place().to_owned(),
                found: log.job_id().to_owned(),
                wanted: job_id.to_owned(),
            });
        }
        let (mut replay, snapshot) = read_back(store, &self.name, log.as_mut()).await?;
        log.recover().await?;
        let epoch = Record::Epoch {
            runner: rand::random(),
        };
        let proven = take_over(log.as_mut(), &epoch, &mut replay).await?;
        replay.is_resumed = is_resumed;
        let writer = Writer::start(Committer {
            log,
            store: Arc::clone(&self.store),
            folder: self.name.clone(),
            epoch,
            proven,
            fold: replay.clone(),
            snapshot,
            max_stall,
            _hold: Arc::clone(&self.hold),
        });
        Ok((replay, writer))
    }
}

/// Folds a journal, from its last snapshot on. Tells where that was.
async fn read_back(
    store: &dyn Store,
    folder: &str,
    log: &mut dyn Log,
) -> Result<(Replay, Mark), StateError> {
    let (mark, mut replay) = match snapshot::read(store, folder, log.job_id()).await? {
        Some((mark, replay)) => {
            log.skip_to(mark).await?;
            (mark, replay)
        }
        None => {
            let job_id = log.job_id().to_owned();
            let replay = Replay {
                job_id,
                ..Replay::default()
            };
            (Mark::default(), replay)
        }
    };
    fold_rest(log, &mut replay).await?;
    Ok((replay, mark))
}

/// Folds what has not been read yet.
pub(super) async fn fold_rest(log: &mut dyn Log, replay: &mut Replay) -> Result<(), StateError> {
    while let Some(batch) = log.next().await? {
        let mut records = Records::new(&batch.payload, Position::default());
        while let Some(record) = next_record(&mut records, batch.payload_at) {
            let (_, record) = record.map_err(|malformed| malformed.in_journal(log.place()))?;
            replay.apply(&record);
        }
    }
    replay.mark = log.mark();
    replay.torn_bytes = log.torn_bytes();
    Ok(())
}

/// Writes the first batch of a runner, after those of everybody before it. Tells when it was sent.
async fn take_over(
    log: &mut dyn Log,
    epoch: &Record,
    replay: &mut Replay,
) -> Result<Proof, StateError> {
    let mut payload = Vec::new();
    record::encode(epoch, &mut 0, &mut payload);
    for _ in 0..TAKE_OVERS_MAX {
        if let Some(sent) = append_patiently(log, &payload, |_| START_STALL_MAX).await? {
            replay.apply(epoch);
            replay.mark = log.mark();
            return Ok(sent);
        }
        fold_rest(log, replay).await?;
    }
    Err(StateError::Replaced {
        place: log.place().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::writer::SNAPSHOT_AT_END_BATCHES;
    use super::*;
    use crate::outcome::{SkipReason, TaskOutcome};

    const ONLY: Shard = Shard::ONLY;

    fn settled(row: u64) -> Record {
        let outcome = TaskOutcome::Skipped(SkipReason::AlreadyEncrypted);
        Record::Settled { row, outcome }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    async fn journal(state: &ShardState, job_id: &str) -> Result<(Replay, Writer), StateError> {
        state.journal(job_id, Duration::ZERO).await
    }

    #[tokio::test]
    async fn a_job_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/state");
        let root = StateRoot::dir(&path);
        assert_eq!(root.peek(ONLY).await.unwrap(), None);
        assert_eq!(root.read_shard::<String>(ONLY).await.unwrap(), None);
        assert!(!path.exists(), "looking makes nothing");
        for run in 0..3 {
            let is_first = root.create_job(&format!("job {run}")).await.unwrap();
            assert_eq!(is_first, run == 0);
            let state = root.take(ONLY).await.unwrap();
            let before: Option<String> = state.read().await.unwrap();
            assert_eq!(before, (run > 0).then(|| format!("run {}", run - 1)));
            state.write(&format!("run {run}")).await.unwrap();
            let (replay, mut writer) = journal(&state, "j").await.unwrap();
            assert_eq!((replay.settled.len(), replay.epochs), (run, run + 1));
            writer.append(&settled(run));
            writer.close().await.unwrap();
        }
        let job: Option<String> = root.read_job().await.unwrap();
        assert_eq!(job.as_deref(), Some("job 0"));
        let replay = root.peek(ONLY).await.unwrap().unwrap();
        assert_eq!((replay.settled.len(), replay.mark.batches), (3, 6));
        let outcomes = root.outcomes(ONLY, "j", &path).await.unwrap();
        let mut outcomes = outcomes.unwrap();
        assert!(outcomes.of(2).unwrap().is_some() && outcomes.of(3).unwrap().is_none());

        let shard = path.join("shard-0");
        let made = [dir.path().join("a"), path.clone(), shard.clone()];
        assert!(made.iter().all(|dir| mode(dir) == 0o700));
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&path), ["job.json", "lock", "shard-0"]);
        assert_eq!(names(&shard), ["journal", "lock", "shard.json"]);
        let files = ["journal", "lock", "shard.json"].map(|name| shard.join(name));
        assert!(files.iter().all(|file| mode(file) == 0o600));
    }

    #[tokio::test]
    async fn one_runner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::dir(dir.path());
        let is_busy =
            |result: Result<(), StateError>| matches!(result, Err(StateError::Busy { .. }));
        let opened = async || root.take(ONLY).await.map(drop);
        let state = root.take(ONLY).await.unwrap();
        assert!(is_busy(opened().await));
        let (_, writer) = journal(&state, "j").await.unwrap();
        let second = journal(&state, "j").await.map(drop);
        assert!(is_busy(second), "a second writer");
        let other = Shard { index: 1, count: 2 };
        root.take(other).await.expect("another shard is nobody's");
        drop(state);
        assert!(is_busy(opened().await), "the writer still writes");
        writer.close().await.unwrap();
        opened().await.unwrap();
    }

    #[tokio::test]
    async fn another_jobs_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::dir(dir.path());
        let state = root.take(ONLY).await.unwrap();
        journal(&state, "j1")
            .await
            .unwrap()
            .1
            .close()
            .await
            .unwrap();
        let errors = [
            journal(&state, "j2").await.map(drop).unwrap_err(),
            root.outcomes(ONLY, "j2", dir.path())
                .await
                .map(drop)
                .unwrap_err(),
        ];
        for error in errors {
            let StateError::OtherJob { found, wanted, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!((found.as_str(), wanted.as_str()), ("j1", "j2"));
            assert_eq!(error.exit().code(), 5);
        }
    }

    /// Its snapshot says that there was more: no tail of such a journal is torn, and no report leaves rows out for it.
    #[tokio::test]
    async fn outcomes_go_as_far_as_the_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::dir(dir.path());
        let state = root.take(ONLY).await.unwrap();
        let (_, mut writer) = journal(&state, "j").await.unwrap();
        let mut durable = writer.durable();
        let mut last = 0;
        for row in 0..SNAPSHOT_AT_END_BATCHES {
            let sequence = writer.append(&settled(row));
            durable
                .wait_for(|told| told.sequence >= sequence)
                .await
                .unwrap();
            last = row;
        }
        writer.close().await.unwrap();
        let path = dir.path().join("shard-0/journal");
        let whole = fs::read(&path).unwrap();
        assert!(dir.path().join("shard-0/snapshot").exists());
        let read = async || {
            let mut outcomes = root.outcomes(ONLY, "j", dir.path()).await?;
            let outcomes = outcomes.as_mut().expect("a journal");
            (0..=last)
                .map(|row| outcomes.of(row))
                .collect::<Result<Vec<_>, _>>()
        };
        assert!(read().await.unwrap().iter().all(Option::is_some));
        let is_damaged = |error: StateError| {
            matches!(error, StateError::Damaged { .. }) && error.exit().code() == 5
        };
        for back in 1..=20 {
            let at = whole.len() - back;
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for bytes in [&flipped, &whole[..at]] {
                fs::write(&path, bytes).unwrap();
                assert!(
                    is_damaged(read().await.unwrap_err()),
                    "{back} bytes from the end"
                );
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(is_damaged(read().await.unwrap_err()), "no journal");
    }

    #[tokio::test]
    async fn looking_at_a_torn_journal_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::dir(dir.path());
        let state = root.take(ONLY).await.unwrap();
        let (_, mut writer) = journal(&state, "j").await.unwrap();
        writer.append(&settled(0));
        writer.close().await.unwrap();
        let path = dir.path().join("shard-0/journal");
        let whole = fs::read(&path).unwrap();
        let torn = [&whole[..], &[1, 2, 3]].concat();
        fs::write(&path, &torn).unwrap();

        let replay = root.peek(ONLY).await.unwrap().unwrap();
        assert_eq!((replay.settled.len(), replay.torn_bytes), (1, 3));
        let outcomes = root.outcomes(ONLY, "j", dir.path()).await.unwrap();
        assert!(outcomes.unwrap().of(0).unwrap().is_some());
        assert_eq!(fs::read(&path).unwrap(), torn);

        journal(&state, "j").await.unwrap().1.close().await.unwrap();
        let after = fs::read(&path).unwrap();
        assert!(after.starts_with(&whole) && !after.starts_with(&torn));
    }
}
