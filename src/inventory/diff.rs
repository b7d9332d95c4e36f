//! What is new or changed since an earlier inventory, and what is gone. Neither list is in any order, and neither fits in memory.
//!
//! Both are cut in partitions by a hash of key and version, on the disk, so that a row and its like are in the same one; then one partition
//! of the earlier list after the other is held in memory, 48 bytes a row, and the rows of the new one are held against it. The disk has
//! both lists once, uncompressed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::csv::{self, Rows};
use super::part::{DataFile, Written};
use super::row::{Column, Row};
use crate::encryption::Mode;
use crate::object::ManifestEntry;

/// Rows of the earlier list in a partition, while there are few enough partitions.
const PARTITION_ROWS: u64 = 262_144;
/// Partitions, which are files that are open at the same time. Beyond 268 million rows they hold more each: a billion has 48 MB in memory.
const PARTITIONS_MAX: u64 = 1_024;
/// The buffer before each partition, in bytes.
const BUFFER_BYTES: usize = 8 * 1024;

/// Columns of the earlier list, as a partition has them.
const EARLIER: [Column; 8] = [
    Column::Key,
    Column::VersionId,
    Column::IsLatest,
    Column::IsDeleteMarker,
    Column::Size,
    Column::LastModifiedDate,
    Column::ETag,
    Column::EncryptionStatus,
];

/// What a comparison has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Rows that were not there.
    pub added: u64,
    /// Rows that were, and are another object now.
    pub changed: u64,
    /// Rows that were, and are as they were.
    pub unchanged: u64,
    /// Rows that were, and are not any more.
    pub gone: u64,
}

/// What two lists are compared by.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// Where the partitions go.
    pub scratch: &'a Path,
    /// The bucket of both.
    pub bucket: &'a str,
    /// What is compared: keys of the earlier list that don't begin with it are another matter.
    pub prefix: &'a str,
    /// Columns of the new list.
    pub columns: &'a [Column],
    /// Its data files, CSV.
    pub files: &'a [PathBuf],
    /// Rows of the earlier list.
    pub earlier_rows: u64,
}

/// Bytes of a hash that tell a row of a list from all others.
type Id = [u8; 16];

/// What a row is compared by, each as a hash; 0 is unknown, and unknown is like everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    etag: u32,
    size: u32,
    seconds: u32,
    mode: u32,
}

impl Look {
    fn of(row: &Row) -> Self {
        let listed = &row.listed;
        // Never 0, which is unknown.
        let hash = |text: &str| crc32fast::hash(text.as_bytes()).max(1);
        Self {
            etag: listed.etag.as_deref().map_or(0, hash),
            size: listed.size.map_or(0, |size| hash(&size.to_string())),
            // Some lists have no fractions of a second.
            seconds: listed
                .last_modified_ms
                .map_or(0, |at| hash(&at.div_euclid(1_000).to_string())),
            mode: row.looked.encryption.map_or(0, hash),
        }
    }

    fn is_like(self, other: Self) -> bool {
        let is_like = |one: u32, other: u32| one == 0 || other == 0 || one == other;
        is_like(self.etag, other.etag)
            && is_like(self.size, other.size)
            && is_like(self.seconds, other.seconds)
            && is_like(self.mode, other.mode)
    }
}

fn id_of(row: &Row) -> Id {
    let mut hash = Sha256::new();
    hash.update((row.listed.key.len() as u64).to_le_bytes());
    hash.update(&row.listed.key);
    hash.update(csv::version_id(&row.listed).unwrap_or_default());
    let digest = hash.finalize();
    let mut id = Id::default();
    id.copy_from_slice(&digest[..16]);
    id
}

/// The rows of a list, cut in partitions.
struct Partitions {
    files: Vec<BufWriter<File>>,
    line: Vec<u8>,
}

impl Partitions {
    fn create(scratch: &Path, name: &str, count: u64) -> io::Result<Self> {
        let create = |n| {
            let file = File::create(partition(scratch, name, n))?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            files: (0..count).map(create).collect::<io::Result<_>>()?,
            line: Vec::new(),
        })
    }

    fn add(&mut self, columns: &[Column], row: &Row) -> io::Result<()> {
        self.line.clear();
        csv::write_row(&mut self.line, "", columns, row);
        let id = id_of(row);
        let number = u32::from_le_bytes([id[12], id[13], id[14], id[15]]) as usize;
        let place = number % self.files.len();
        self.files[place].write_all(&self.line)
    }

    fn finish(self) -> io::Result<()> {
        self.files.into_iter().try_for_each(|mut file| file.flush())
    }
}

fn partition(scratch: &Path, name: &str, number: u64) -> PathBuf {
    scratch.join(format!("{name}-{number}"))
}

/// A row of the earlier list, of what is compared: of one that has more versions than the new one does, what is current.
fn row_of(entry: ManifestEntry, with_versions: bool) -> Option<Row> {
    let known = entry.known;
    if !with_versions && (known.is_delete_marker || known.is_latest == Some(false)) {
        return None;
    }
    let mut row = Row::default();
    row.listed.key = entry.key;
    row.listed.version_id = entry.version_id.filter(|_| with_versions);
    row.listed.is_latest = known.is_latest.unwrap_or(true);
    row.listed.is_delete_marker = known.is_delete_marker;
    row.listed.size = known.size.filter(|_| !known.is_delete_marker);
    row.listed.last_modified_ms = known.last_modified.map(|seconds| seconds * 1_000);
    row.listed.etag = known.etag.map(|etag| etag.trim_matches('"').to_owned());
    row.listed.etag = row.listed.etag.filter(|etag| !etag.is_empty());
    row.looked.encryption = known.encryption.map(Mode::inventory_name);
    Some(row)
}

/// Compares the new list with the rows of an earlier one. What is new or changed goes to `take`, what is gone to the gzip CSV `gone`, as bucket, key and version id.
///
/// # Errors
/// A file can't be read or written; `earlier` can't be read.
pub fn compare<E: From<io::Error>>(
    of: &Compared<'_>,
    earlier: impl Iterator<Item = Result<ManifestEntry, E>>,
    mut take: impl FnMut(Row) -> io::Result<()>,
    gone: &Path,
) -> Result<Difference, E> {
    let with_versions = of.columns.contains(&Column::VersionId);
    let count = of
        .earlier_rows
        .div_ceil(PARTITION_ROWS)
        .clamp(1, PARTITIONS_MAX);
    let mut partitions = Partitions::create(of.scratch, "earlier", count)?;
    for entry in earlier {
        let row = row_of(entry?, with_versions);
        if let Some(row) = row.filter(|row| row.listed.key.starts_with(of.prefix)) {
            partitions.add(&EARLIER, &row)?;
        }
    }
    partitions.finish()?;
    let mut partitions = Partitions::create(of.scratch, "now", count)?;
    for path in of.files {
        for row in Rows::new(of.columns, MultiGzDecoder::new(open(path)?)) {
            partitions.add(of.columns, &row?)?;
        }
    }
    partitions.finish()?;
    let mut gone = GzEncoder::new(BufWriter::new(File::create(gone)?), Compression::default());
    let mut difference = Difference::default();
    for number in 0..count {
        let before = partition(of.scratch, "earlier", number);
        let now = partition(of.scratch, "now", number);
        compare_one(of, &before, &now, &mut difference, &mut take, &mut gone)?;
    }
    let file = gone.finish()?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(difference)
}

fn open(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path)?))
}

fn compare_one(
    of: &Compared<'_>,
    before: &Path,
    now: &Path,
    difference: &mut Difference,
    take: &mut impl FnMut(Row) -> io::Result<()>,
    gone: &mut impl io::Write,
) -> io::Result<()> {
    // Whether it was met.
    let mut known: HashMap<Id, (Look, bool)> = HashMap::new();
    for row in Rows::new(&EARLIER, open(before)?) {
        let row = row?;
        known.insert(id_of(&row), (Look::of(&row), false));
    }
    for row in Rows::new(of.columns, open(now)?) {
        let row = row?;
        let is_like = known.get_mut(&id_of(&row)).map(|(look, is_met)| {
            *is_met = true;
            look.is_like(Look::of(&row))
        });
        match is_like {
            Some(true) => {
                difference.unchanged += 1;
                continue;
            }
            Some(false) => difference.changed += 1,
            None => difference.added += 1,
        }
        take(row)?;
    }
    let mut line = Vec::new();
    for row in Rows::new(&EARLIER, open(before)?) {
        let row = row?;
        // A row that the earlier list has twice is gone once.
        let is_gone = known
            .get_mut(&id_of(&row))
            .is_some_and(|(_, is_met)| !std::mem::replace(is_met, true));
        if is_gone {
            difference.gone += 1;
            line.clear();
            let columns = [Column::Bucket, Column::Key, Column::VersionId];
            let shown = if of.columns.contains(&Column::VersionId) {
                3
            } else {
                2
            };
            csv::write_row(&mut line, of.bucket, &columns[..shown], &row);
            gone.write_all(&line)?;
        }
    }
    std::fs::remove_file(before)?;
    std::fs::remove_file(now)
}

/// Data files one after the other, each of so many rows.
pub struct Files<'a> {
    create: &'a dyn Fn(usize) -> io::Result<DataFile>,
    rows_max: u64,
    open: Option<DataFile>,
    /// Those that are whole.
    pub done: Vec<Written>,
}

impl<'a> Files<'a> {
    /// None is begun before there is a row for it.
    pub fn new(rows_max: u64, create: &'a dyn Fn(usize) -> io::Result<DataFile>) -> Self {
        Self {
            create,
            rows_max,
            open: None,
            done: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, row: Row) -> io::Result<()> {
        let file = match &mut self.open {
            Some(file) => file,
            none => none.insert((self.create)(self.done.len())?),
        };
        file.write(row)?;
        match file.counts.rows >= self.rows_max {
            true => self.end(),
            false => Ok(()),
        }
    }

    /// Ends the last file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn end(&mut self) -> io::Result<()> {
        if let Some(file) = self.open.take() {
            let (written, _) = file.finish()?;
            self.done.push(written);
        }
        Ok(())
    }
}
