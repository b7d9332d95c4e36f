//! What a verification comes to, as JSON and as lines for a person.

use std::fmt;

use super::{Answer, Verification};
use crate::human;

/// Characters of a key, or of a version id, that the text shows.
const NAME_CHARS_MAX: usize = 256;
/// Failure codes that the text names.
const CODES_SHOWN_MAX: usize = 10;

/// What no look at one bucket can tell.
pub const ELSEWHERE: &str = "not looked at: other buckets (replicas, inventories, reports, logs), copies elsewhere (backups, snapshots), and \
                             whatever else uses the key outside of S3";

impl Verification {
    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }

    fn write_keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &str| human::sanitize(text, NAME_CHARS_MAX);
        for key in &self.keys {
            let answer = match key.may_be_retired {
                Answer::Yes => "may be retired, as far as this bucket goes",
                Answer::No => "may NOT be retired",
                Answer::Unknown => "not known whether it may be retired",
            };
            writeln!(f, "key           {}", clean(&key.key))?;
            writeln!(f, "  verdict     {answer}")?;
            for reason in &key.reasons {
                writeln!(f, "  because     {}", clean(reason))?;
            }
            for example in &key.examples {
                let version = example.version_id.as_deref().map(clean);
                let version = version.map_or(String::new(), |id| format!(" (version {id})"));
                writeln!(f, "  under it    {}{version}", clean(&example.key))?;
            }
        }
        if let Some(uploads) = self.uploads.as_ref().filter(|_| !self.keys.is_empty()) {
            for key in &uploads.examples {
                writeln!(f, "  uploading   {}", clean(key))?;
            }
            writeln!(f, "note          {ELSEWHERE}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean = |text: &str| human::sanitize(text, NAME_CHARS_MAX);
        let is_refuted =
            self.failed > 0 || self.keys.iter().any(|key| key.may_be_retired == Answer::No);
        let verdict = match self.holds {
            true => "holds",
            false if is_refuted => "does not hold",
            false => "not known: nothing speaks against it, and not all was seen",
        };
        writeln!(f, "verdict       {verdict}")?;
        if let Some(evidence) = &self.evidence {
            writeln!(
                f,
                "evidence      {}",
                human::sanitize(&evidence.index, usize::MAX)
            )?;
            writeln!(
                f,
                "  chain       whole, {}",
                human::count_of(evidence.rewrites, "rewrite")
            )?;
            writeln!(
                f,
                "  rows        {} succeeded",
                human::count(evidence.succeeded)
            )?;
            writeln!(f, "  sha256      {}", evidence.sha256)?;
            if self.rows == 0 {
                return write!(
                    f,
                    "objects       not looked at: that takes --to or --retire-key"
                );
            }
        }
        if let Some(target) = &self.target {
            writeln!(f, "target        {target}")?;
        }
        let coverage = &self.coverage;
        let versions = match coverage.versions {
            "all" => "all versions",
            "current" => "current versions",
            _ => "versions as it lists them",
        };
        let of = clean(&coverage.of);
        writeln!(f, "looked at     {} {of}, {versions}", coverage.source)?;
        writeln!(f, "rows          {}", human::count(self.rows))?;
        writeln!(f, "  hold        {}", human::count(self.held))?;
        if self.nothing > 0 {
            writeln!(
                f,
                "  nothing     {} (delete markers, or gone)",
                human::count(self.nothing)
            )?;
        }
        if self.failed > 0 {
            writeln!(f, "  fail        {}", human::count(self.failed))?;
        }
        let mut codes: Vec<_> = self.failures.iter().collect();
        codes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (code, n) in codes.iter().take(CODES_SHOWN_MAX) {
            writeln!(f, "    {} {}", clean(code), human::count(**n))?;
        }
        for found in &self.found {
            let key = found.key.as_deref().map(|key| format!(" {}", clean(key)));
            let bucket_key = match found.bucket_key {
                Some(true) => ", bucket key",
                _ => "",
            };
            writeln!(
                f,
                "found         {:<8} {}, {}{}{bucket_key}",
                found.encryption,
                human::count_of(found.rows, "version"),
                human::bytes(found.bytes),
                key.unwrap_or_default(),
            )?;
        }
        if let Some(read) = &self.read {
            write!(f, "read back     {} the same", human::count(read.same))?;
            for (n, what) in [
                (read.differ, "DIFFER"),
                (
                    read.nothing_to_compare,
                    "without a checksum to compare with",
                ),
                (read.archived, "archived, not read"),
                (read.unread, "could not be read"),
            ] {
                if n > 0 {
                    write!(f, ", {} {what}", human::count(n))?;
                }
            }
            writeln!(f, "; {}", human::bytes(read.bytes))?;
        }
        self.write_keys(f)?;
        for note in &coverage.notes {
            writeln!(f, "note          {}", clean(note))?;
        }
        if let Some(report) = &self.report {
            writeln!(f, "report        {}", human::sanitize(report, usize::MAX))?;
        }
        write!(
            f,
            "took          {}",
            human::duration(std::time::Duration::from_secs_f64(self.elapsed_seconds))
        )
    }
}
