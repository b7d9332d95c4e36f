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

    /// What a file is that begins with these bytes. A bucket's name might begin with the same letters. But behind them a whole file of
    /// the other two has a control character, where text has none or the end of a line: Parquet's first field, and in ORC the first
    /// field, or the length of a compressed block, which has three bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        let goes_on = |magic: &[u8]| {
            let rest = head.strip_prefix(magic).unwrap_or_default();
            let first = rest.first();
            first.is_some_and(|byte| byte.is_ascii_control() || !byte.is_ascii())
                || rest
                    .iter()
                    .take(3)
                    .any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r'))
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
