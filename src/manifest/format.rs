//! What a data file is written in.

use serde::{Deserialize, Serialize};

/// The format of data files. The magic bytes decide; names mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Comma-separated values, gzip or not.
    #[default]
    Csv,
    /// Apache ORC.
    Orc,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The name in an inventory's `fileFormat`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Csv => "CSV",
            Self::Orc => "ORC",
            Self::Parquet => "Parquet",
        }
    }

    /// The format that an inventory's `fileFormat` names.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Csv, Self::Orc, Self::Parquet]
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// What a file is that begins with these bytes. A bucket's name might begin with the same letters, but no text goes on with a
    /// control character, or a byte of none of ASCII, and a whole file of the other two does.
    pub(super) fn of(head: &[u8]) -> Self {
        let goes_on = |magic: &[u8]| {
            let rest = head.strip_prefix(magic).and_then(|rest| rest.first());
            rest.is_some_and(|byte| byte.is_ascii_control() || !byte.is_ascii())
        };
        if goes_on(b"PAR1") {
            Self::Parquet
        } else if goes_on(b"ORC") {
            Self::Orc
        } else {
            Self::Csv
        }
    }
}
