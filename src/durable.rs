//! Names that a crash must not take back: a file that is synced is lost with the entry that leads to it, and that is in its folder.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes the entry of a file or folder durable that was made, renamed or removed.
///
/// # Errors
/// Its folder can't be opened or synced.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}
