//! The journal of a simulated job, and what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::journal::{Outcomes, Replay, StateDir, StateError, Writer, replay_unlocked};
use crate::outcome::TaskOutcome;

const JOB: &str = "simulated";

pub struct Book {
    folder: PathBuf,
}

impl Book {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.join("state"),
        }
    }

    /// Takes the journal over.
    pub fn open(&self) -> Result<(Replay, Writer), StateError> {
        StateDir::open(&self.folder)?.journal(JOB)
    }

    /// What is durable.
    pub fn replay(&self) -> Replay {
        let replay = replay_unlocked(&self.folder).expect("a journal");
        replay.unwrap_or_default()
    }

    /// The outcomes that are durable.
    pub fn outcomes(&self, rows: u64) -> BTreeMap<u64, TaskOutcome> {
        let mut outcomes = Outcomes::open(&self.folder, JOB).expect("a journal");
        let of = |row| Some((row, outcomes.of(row).expect("a journal")?));
        (0..rows).filter_map(of).collect()
    }
}
