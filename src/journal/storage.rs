//! Where the bytes of a journal are: the seam to the disk, in a handful of verbs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A growing run of bytes that outlives the process.
pub trait Storage: Send {
    /// What to call it in messages.
    fn place(&self) -> &str;
    /// How many bytes there are.
    fn size(&self) -> io::Result<u64>;
    /// Reads from `offset` on, as much as `buffer` takes or there is; returns how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes at the end. After an error any part of `bytes` may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything appended survives a power failure.
    fn sync(&mut self) -> io::Result<()>;
    /// Forgets what is beyond `len`.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A file.
pub struct FileStorage {
    file: File,
    place: String,
}

impl FileStorage {
    /// An existing file, to read and to append.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).append(true).open(path)?;
        Ok(Self::new(file, path))
    }

    /// An existing file, to read only: the writing verbs fail.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?, path))
    }

    fn new(file: File, path: &Path) -> Self {
        Self {
            file,
            place: path.display().to_string(),
        }
    }
}

impl Storage for FileStorage {
    fn place(&self) -> &str {
        &self.place
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
