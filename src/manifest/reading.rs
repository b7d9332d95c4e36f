//! What the operator says about how the manifest is to be read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::decode::KeyEncoding;
use super::schema::Schema;
use crate::selection::Selection;

/// How the manifest is to be read, and which of its rows are meant. The default is what S3 writes, and all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// `--manifest-columns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<ColumnNames>,
    /// `--manifest-encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyEncoding>,
    /// `--manifest-rows`.
    pub rows: ReportRows,
    /// The filters.
    pub selection: Selection,
}

impl Reading {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The flags in which two differ.
    pub fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let (a, b) = (&self.selection, &other.selection);
        [
            ("--manifest-columns", self.columns != other.columns),
            ("--manifest-encoding", self.keys != other.keys),
            ("--manifest-rows", self.rows != other.rows),
            ("--bucket", a.bucket != b.bucket),
            ("--include", a.include != b.include),
            ("--exclude", a.exclude != b.exclude),
            ("--min-size", a.min_size != b.min_size),
            ("--max-size", a.max_size != b.max_size),
            ("--modified-after", a.modified_after != b.modified_after),
            ("--modified-before", a.modified_before != b.modified_before),
            ("--storage-class", a.storage_classes != b.storage_classes),
            ("--encryption", a.encryptions != b.encryptions),
            (
                "--current-kms-key",
                a.current_kms_keys != b.current_kms_keys,
            ),
            ("--latest-only", a.latest_only != b.latest_only),
        ]
        .into_iter()
        .filter_map(|(flag, differs)| differs.then_some(flag))
    }
}

/// What the columns of a CSV are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnNames {
    /// The first row names them.
    Header,
    /// These; `-` is one that is not used.
    Named(Vec<String>),
}

/// The word for a first row that names the columns.
const HEADER: &str = "header";

/// The words for a column that is not used.
const UNUSED: [&str; 2] = ["-", "ignore"];

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(HEADER) {
            return Ok(Self::Header);
        }
        let names = text.split(',').map(|name| {
            let name = name.trim();
            if UNUSED
                .iter()
                .any(|unused| unused.eq_ignore_ascii_case(name))
            {
                return Ok(UNUSED[0].to_owned());
            }
            // A name with a slip in it would be a column that is not used, without a word.
            Schema::known_name(name).map(str::to_owned).ok_or_else(|| {
                format!(
                    "{name:?} is none of {}, and not - for a column that is not used",
                    Schema::known_names().join(", ")
                )
            })
        });
        names.collect::<Result<_, _>>().map(Self::Named)
    }
}

/// Which rows of a completion report are meant, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportRows {
    /// Those that failed.
    #[default]
    Failed,
    /// Those that succeeded, what was skipped among them.
    Succeeded,
    /// All.
    All,
}

/// How rows end in a completion report, and the files that list them. Source: S3 User Guide, "Examples: S3 Batch Operations completion
/// reports".
const STATUSES: [&str; 2] = ["failed", "succeeded"];

impl ReportRows {
    /// Whether rows of that status are meant.
    pub(super) fn has(self, status: &str) -> bool {
        match self {
            Self::All => STATUSES.contains(&status),
            one => status == one.name(),
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
            Self::All => "all",
        }
    }
}

impl fmt::Display for ReportRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_one_way_and_a_slip_is_told() {
        let named = |names: &[&str]| {
            Ok(ColumnNames::Named(
                names.iter().map(|&name| name.to_owned()).collect(),
            ))
        };
        assert_eq!("header".parse(), Ok(ColumnNames::Header));
        assert_eq!(
            "bucket, KEY,version_id,-,ignore,e_tag".parse(),
            named(&["Bucket", "Key", "VersionId", "-", "-", "ETag"])
        );
        for bad in ["", "bucket,", "bucket,key,sise", "bucket;key"] {
            let error = bad.parse::<ColumnNames>().expect_err(bad);
            assert!(
                error.contains("is none of Bucket, Key, VersionId"),
                "{error}"
            );
        }
    }
}
