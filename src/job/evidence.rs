//! Evidence: written from the journals of a job, and opened again to be checked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::home::{Home, scratch_in};
use super::source::{self, blocking, patiently};
use super::spec::ShardFile;
use super::survey::{self, Survey};
use crate::chain::{
    self, Break, Chain, ChainError, ChainWriter, INDEX, INDEX_BYTES_MAX, Index, Line, Part,
    PartReader,
};
use crate::config::Location;
use crate::durable;
use crate::error::Error;
use crate::exit::Exit;
use crate::human;
use crate::journal::Rewrites;
use crate::s3::{PutBytes, S3};
use crate::shard::Shard;
use crate::shutdown::{self, Shutdown};
use crate::stall::Stall;

/// What `--evidence` is not.
pub const NO_PLACE: &str = "--evidence is a folder or s3://bucket/prefix";

/// Evidence that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Path or URL of its `evidence.json`.
    pub index: String,
    /// SHA-256 of that file, in hexadecimal: whoever keeps it elsewhere can tell whether anything was changed.
    pub sha256: String,
    /// Rewrites in it.
    pub rewrites: u64,
}

/// What evidence is written of, and where to.
pub struct Keeping<'a> {
    /// The store.
    pub s3: &'a S3,
    /// Whether it answers.
    pub stall: &'a Stall,
    /// Where the job is.
    pub home: &'a Home,
    /// One of its shards.
    pub shard: &'a ShardFile,
    /// A folder of nobody else's, for what is fetched and what is uploaded.
    pub folder: &'a Path,
    /// Where it goes.
    pub to: &'a Location,
}

impl Keeping<'_> {
    /// Writes all that the journals have. What follows from them is the same whoever writes it, and however often.
    ///
    /// # Errors
    /// A journal can't be read, or the evidence not written.
    pub async fn write(&self) -> Result<Kept, Error> {
        let (job_id, bucket) = (&self.shard.job_id, &self.shard.prepared.bucket);
        let root = match self.to {
            Location::Path(path) => path.join(folder_name(job_id)),
            Location::S3 { .. } => self.folder.join("evidence"),
            Location::Stdin => return Err(Error::usage(NO_PLACE)),
        };
        let (mut chains, mut succeeded) = (Vec::new(), 0);
        for shard in Shard::all(self.shard.shard().count) {
            if let Some(replay) = self.home.root.peek(shard).await? {
                succeeded += replay.tally.succeeded_total();
            }
            let rewrites = self.home.root.rewrites(shard, job_id, self.folder).await?;
            let Some(rewrites) = rewrites else { continue };
            let writer = ChainWriter::new(&root, job_id, bucket, shard.index);
            chains.push(self.chain(&root, writer, rewrites).await?);
        }
        let index = Index::new(job_id, bucket, succeeded, chains);
        let json = index.to_json();
        let kept = |index: String, rewrites| Kept {
            index,
            sha256: digest(&json),
            rewrites,
        };
        if let Location::S3 { bucket, key } = self.to {
            let key = below(key, job_id, INDEX);
            patiently(self.stall, || {
                self.s3.put_bytes(bucket, &key, &json, PutBytes::Any)
            })
            .await
            .map_err(|error| not_uploaded(bucket, &key, &error))?;
            return Ok(kept(format!("s3://{bucket}/{key}"), index.rewrites));
        }
        let path = root.join(INDEX);
        put_in_place(&path, &json)
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))?;
        Ok(kept(path.display().to_string(), index.rewrites))
    }

    /// Writes a shard's chain, and takes each part where it belongs as soon as it is complete.
    async fn chain(
        &self,
        root: &Path,
        mut writer: ChainWriter,
        mut rewrites: Rewrites,
    ) -> Result<Chain, Error> {
        loop {
            let part;
            (writer, rewrites, part) = blocking(move || next_part(writer, rewrites)).await??;
            match part {
                Some(part) => self.publish(root, &part).await?,
                None => break,
            }
        }
        let (last, chain) = blocking(move || writer.finish().map_err(unwritable)).await??;
        if let Some(last) = last {
            self.publish(root, &last).await?;
        }
        Ok(chain)
    }

    async fn publish(&self, root: &Path, part: &Part) -> Result<(), Error> {
        let Location::S3 { bucket, key } = self.to else {
            return Ok(());
        };
        let path = root.join(&part.name);
        let key = below(key, &self.shard.job_id, &part.name);
        patiently(self.stall, || self.s3.upload(bucket, &key, &path))
            .await
            .map_err(|error| not_uploaded(bucket, &key, &error))?;
        // It only takes room.
        let _ = std::fs::remove_file(&path);
        Ok(())
    }
}

/// Adds rewrites until a part is full; `None` at the journal's end.
fn next_part(
    mut writer: ChainWriter,
    mut rewrites: Rewrites,
) -> Result<(ChainWriter, Rewrites, Option<Part>), Error> {
    while let Some((row, rewritten)) = rewrites.read_next()? {
        let part = writer.add(row, &rewritten).map_err(unwritable)?;
        if part.is_some() {
            return Ok((writer, rewrites, part));
        }
    }
    Ok((writer, rewrites, None))
}

fn unwritable(error: ChainError) -> Error {
    Error::new(Exit::Internal, error.to_string())
        .hint("what is settled is kept; the same command writes the evidence again")
}

fn not_uploaded(bucket: &str, key: &str, error: &impl fmt::Display) -> Error {
    Error::new(
        Exit::Internal,
        format!("cannot upload the evidence to s3://{bucket}/{key}: {error}"),
    )
    .hint("what is settled is kept; the same command uploads it again")
}

fn put_in_place(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let partial = path.with_extension("json.partial");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    durable::sync_parent(path)
}

fn folder_name(job_id: &str) -> String {
    format!("job-{job_id}")
}

fn below(prefix: &str, job_id: &str, name: &str) -> String {
    let folder = folder_name(job_id);
    match prefix.trim_end_matches('/') {
        "" => format!("{folder}/{name}"),
        prefix => format!("{prefix}/{folder}/{name}"),
    }
}

fn digest(bytes: &[u8]) -> String {
    human::hex(&Sha256::digest(bytes))
}

/// Lines that are handed over at once.
const BATCH_LINES: usize = 256;
/// Batches that wait for whoever reads them.
const BATCHES_MAX: usize = 16;

/// Reads the lines of evidence that was checked, a few batches ahead, and makes something of each: `of` is given its number. They end
/// with the first error.
pub fn lines<T: Send + 'static>(
    opened: Arc<Opened>,
    s3: S3,
    stall: Stall,
    of: fn(u64, Line) -> T,
) -> mpsc::Receiver<Result<Vec<T>, Error>> {
    let (sender, rows) = mpsc::channel(BATCHES_MAX);
    tokio::spawn(async move {
        let mut number = 0;
        for part in opened.index.chains.iter().flat_map(|chain| &chain.parts) {
            let read = async {
                let (reader, path) = opened.part(&s3, &stall, part).await?;
                let sender = sender.clone();
                let first = number;
                let read = blocking(move || read_part(reader, first, of, &sender)).await?;
                opened.forget(&path);
                read
            };
            match read.await {
                Ok(()) => number += part.rows,
                Err(error) => {
                    // Nobody may be there any more; then nobody needs to know.
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    rows
}

fn read_part<T>(
    reader: PartReader,
    first: u64,
    of: fn(u64, Line) -> T,
    sender: &mpsc::Sender<Result<Vec<T>, Error>>,
) -> Result<(), Error> {
    let mut batch = Vec::with_capacity(BATCH_LINES);
    for (number, line) in (first..).zip(reader) {
        batch.push(of(number, line.map_err(|at| broken(&at))?));
        if batch.len() == BATCH_LINES {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH_LINES));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        let _ = sender.blocking_send(Ok(batch));
    }
    Ok(())
}

/// Evidence that was opened.
pub struct Opened {
    /// What there is.
    pub index: Index,
    /// Where it was found, and its digest.
    pub kept: Kept,
    place: Place,
    /// For what is fetched.
    scratch: TempDir,
}

/// Where the parts are.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
}

impl Opened {
    /// Opens evidence, and holds it against the digest that somebody has kept, and every part against the index and the one before it.
    ///
    /// # Errors
    /// There is none, or the first break; asked to stop meanwhile.
    pub async fn checked(
        survey: &Survey,
        at: &Location,
        sha256: Option<&str>,
        shutdown: &mut Shutdown,
    ) -> Result<Self, Error> {
        let (s3, stall) = (&survey.s3, &survey.stall);
        let opened = Self::find(s3, stall, at).await?;
        if let Some(wanted) = sha256
            && !wanted.eq_ignore_ascii_case(&opened.kept.sha256)
        {
            return Err(broken(&Break {
                at: opened.kept.index,
                what: format!("its SHA-256 is {}, not {wanted}", opened.kept.sha256),
            }));
        }
        tokio::select! {
            checked = opened.check(s3, stall) => checked?,
            _ = shutdown::asked(shutdown) => return Err(survey::interrupted()),
        }
        Ok(opened)
    }

    /// Opens evidence: its `evidence.json`, or the folder or prefix that has it.
    ///
    /// # Errors
    /// There is none, or it is not sound.
    async fn find(s3: &S3, stall: &Stall, at: &Location) -> Result<Self, Error> {
        let (json, place, index) = match at {
            Location::Path(path) => {
                let path = match path.is_dir() {
                    true => path.join(INDEX),
                    false => path.clone(),
                };
                let json =
                    std::fs::read(&path).map_err(|error| nothing(&path.display(), &error))?;
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                (json, Place::Folder(folder), path.display().to_string())
            }
            Location::S3 { bucket, key } => {
                let key = match key.strip_suffix(INDEX) {
                    Some(_) => key.clone(),
                    None => format!("{}/{INDEX}", key.trim_end_matches('/')),
                };
                let url = format!("s3://{bucket}/{key}");
                let json = patiently(stall, || s3.get_bytes(bucket, &key, INDEX_BYTES_MAX)).await;
                let json = json.map_err(|error| match error.http_status {
                    404 => nothing(&url, &error),
                    _ => error.into(),
                })?;
                let place = Place::S3 {
                    bucket: bucket.clone(),
                    prefix: key.strip_suffix(INDEX).unwrap_or_default().to_owned(),
                };
                (json, place, url)
            }
            Location::Stdin => return Err(Error::usage(NO_PLACE)),
        };
        let sha256 = digest(&json);
        let parsed = Index::parse(&json).map_err(|what| {
            broken(&Break {
                at: index.clone(),
                what,
            })
        })?;
        Ok(Self {
            kept: Kept {
                index,
                sha256,
                rewrites: parsed.rewrites,
            },
            index: parsed,
            place,
            scratch: scratch_in(&std::env::temp_dir())?,
        })
    }

    /// Holds every part against the index and the one before it.
    ///
    /// # Errors
    /// The first break; a part that can't be fetched.
    async fn check(&self, s3: &S3, stall: &Stall) -> Result<(), Error> {
        for (chain, of_chain) in self.index.chains.iter().enumerate() {
            for (number, part) in of_chain.parts.iter().enumerate() {
                let path = self.fetched(s3, stall, part).await?;
                let index = self.index.clone();
                let checked = {
                    let path = path.clone();
                    blocking(move || chain::check_part(&path, &index, chain, number)).await?
                };
                self.forget(&path);
                checked.map_err(|at| broken(&at))?;
            }
        }
        Ok(())
    }

    /// A part's rewrites, and what has to be there as long as they are read.
    ///
    /// # Errors
    /// It can't be fetched, or read.
    pub async fn part(
        &self,
        s3: &S3,
        stall: &Stall,
        part: &Part,
    ) -> Result<(PartReader, PathBuf), Error> {
        let path = self.fetched(s3, stall, part).await?;
        let reader = PartReader::open(&path, &part.name, &self.index.bucket);
        Ok((reader.map_err(|at| broken(&at))?, path))
    }

    async fn fetched(&self, s3: &S3, stall: &Stall, part: &Part) -> Result<PathBuf, Error> {
        match &self.place {
            Place::Folder(folder) => Ok(folder.join(&part.name)),
            Place::S3 { bucket, prefix } => {
                let path = self.scratch.path().join("part.csv.gz");
                let key = format!("{prefix}{}", part.name);
                source::fetch(s3, stall, bucket, &key, None, &path)
                    .await
                    .map_err(|error| match error.exit {
                        Exit::Usage => broken(&Break {
                            at: part.name.clone(),
                            what: error.message,
                        }),
                        _ => error,
                    })?;
                Ok(path)
            }
        }
    }

    /// Removes what was fetched; a file of somebody's own stays.
    pub fn forget(&self, path: &Path) {
        if path.starts_with(self.scratch.path()) {
            // It only takes room.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn nothing(place: &impl fmt::Display, why: &impl fmt::Display) -> Error {
    Error::usage(format!("there is no evidence at {place}: {why}"))
        .hint("give the folder or the prefix that has evidence.json, as the run's summary names it")
}

/// A chain that is not whole proves nothing, of no object.
pub fn broken(at: &Break) -> Error {
    Error::new(Exit::State, format!("the evidence is broken at {at}")).hint(
        "nothing in it proves anything from there on: restore it from a copy, or write it again from the job's state with `reseal report`",
    )
}
