//! How the manifest is read, and which of its rows are meant: flags of `reseal run`.

use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::encryption::Mode;
use crate::error::Error;
use crate::manifest::{self, ColumnNames, Reading};
use crate::selection::{Pattern, Selection};

/// How the manifest is read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Manifest")]
pub struct ReadingArgs {
    /// The columns of a CSV that is not S3's own: header (the first row names them), or their names with commas between them, - for
    /// one that is not used [default: bucket,key or bucket,key,version-id].
    #[arg(
        long,
        env = "RESEAL_MANIFEST_COLUMNS",
        value_name = "COLUMNS",
        allow_hyphen_values = true
    )]
    pub manifest_columns: Option<ColumnNames>,
    /// How keys are spelt: url (%20 or + is a space), none (as they are) [default: as S3 does it in this format; in other files a key
    /// with a + or a % is refused until it is said].
    #[arg(long, env = "RESEAL_MANIFEST_ENCODING", value_name = "ENCODING")]
    pub manifest_encoding: Option<KeyEncoding>,
    /// Which rows of a completion report are taken.
    #[arg(
        long,
        env = "RESEAL_MANIFEST_ROWS",
        default_value = "failed",
        value_name = "ROWS"
    )]
    pub manifest_rows: ReportRows,
}

/// Which rows are meant. A row has to pass every filter that is given.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Take the rows of this bucket, where the manifest has others too.
    #[arg(long, env = "RESEAL_BUCKET", value_name = "NAME")]
    pub bucket: Option<String>,
    /// Take keys that match: * is any characters, slashes too, ? is one, \ takes a character as it is; may be given again, one of
    /// them has to match.
    #[arg(long, env = "RESEAL_INCLUDE", value_name = "PATTERN")]
    pub include: Vec<Pattern>,
    /// Leave out keys that match; may be given again.
    #[arg(long, env = "RESEAL_EXCLUDE", value_name = "PATTERN")]
    pub exclude: Vec<Pattern>,
    /// Take objects of so many bytes, and larger ones.
    #[arg(long, env = "RESEAL_MIN_SIZE", value_name = "BYTES")]
    pub min_size: Option<ByteSize>,
    /// Take objects of so many bytes, and smaller ones.
    #[arg(long, env = "RESEAL_MAX_SIZE", value_name = "BYTES")]
    pub max_size: Option<ByteSize>,
    /// Take objects that were written at this time or later: 2026-01-31 (its beginning in UTC), or as RFC 3339 has it.
    #[arg(
        long,
        env = "RESEAL_MODIFIED_AFTER",
        value_name = "TIME",
        value_parser = seconds
    )]
    pub modified_after: Option<i64>,
    /// Take objects that were written before this time.
    #[arg(
        long,
        env = "RESEAL_MODIFIED_BEFORE",
        value_name = "TIME",
        value_parser = seconds
    )]
    pub modified_before: Option<i64>,
    /// Take objects of these storage classes.
    #[arg(
        long,
        env = "RESEAL_STORAGE_CLASS",
        value_name = "CLASS,...",
        value_delimiter = ',',
        value_parser = storage_class
    )]
    pub storage_class: Vec<String>,
    /// Take objects that are encrypted so now: not-sse, sse-s3, sse-kms, dsse-kms, sse-c.
    #[arg(
        long,
        env = "RESEAL_ENCRYPTION",
        value_name = "MODE,...",
        value_delimiter = ',',
        value_parser = mode
    )]
    pub encryption: Vec<Mode>,
    /// Take objects that are under this KMS key now, by its id or ARN; asks HEAD, for no inventory tells.
    #[arg(
        long,
        env = "RESEAL_CURRENT_KMS_KEY",
        value_name = "KEY,...",
        value_delimiter = ',',
        value_parser = kms_key
    )]
    pub current_kms_key: Vec<String>,
    /// Take the current version of each key; where the manifest does not tell, HEAD is asked.
    #[arg(long, env = "RESEAL_LATEST_ONLY", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub latest_only: bool,
}

impl ReadingArgs {
    /// What was meant.
    ///
    /// # Errors
    /// Filters that nothing passes.
    pub fn with(self, filters: FilterArgs) -> Result<Reading, Error> {
        Ok(Reading {
            columns: self.manifest_columns,
            keys: self.manifest_encoding.map(Into::into),
            rows: self.manifest_rows.into(),
            selection: filters.into_selection()?,
        })
    }
}

impl FilterArgs {
    fn into_selection(self) -> Result<Selection, Error> {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.as_u64());
        let mut selection = Selection {
            bucket: self.bucket,
            include: self.include,
            exclude: self.exclude,
            min_size: bytes(self.min_size),
            max_size: bytes(self.max_size),
            modified_after: self.modified_after,
            modified_before: self.modified_before,
            storage_classes: self.storage_class,
            encryptions: self.encryption,
            current_kms_keys: self.current_kms_key,
            latest_only: self.latest_only,
        };
        // They are part of what the job is: the order in which they were typed is not.
        selection.include.sort_by_key(ToString::to_string);
        selection.exclude.sort_by_key(ToString::to_string);
        selection.storage_classes.sort();
        selection.encryptions.sort();
        selection.current_kms_keys.sort();
        if selection.bucket.as_deref() == Some("") {
            return Err(Error::usage("--bucket is empty"));
        }
        let nothing = |what: &str| Error::usage(format!("{what}: no object passes both"));
        if let (Some(min), Some(max)) = (selection.min_size, selection.max_size)
            && min > max
        {
            return Err(nothing("--min-size is above --max-size"));
        }
        if let (Some(from), Some(until)) = (selection.modified_after, selection.modified_before)
            && from >= until
        {
            return Err(nothing(
                "--modified-after is not earlier than --modified-before",
            ));
        }
        Ok(selection)
    }
}

/// A point in time, in seconds since 1970.
fn seconds(text: &str) -> Result<i64, String> {
    let day = format_description!("[year]-[month]-[day]");
    if let Ok(day) = Date::parse(text, &day) {
        return Ok(day.midnight().assume_utc().unix_timestamp());
    }
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        format!("{text:?} is neither a date (2026-01-31) nor a time as RFC 3339 has it (2026-01-31T06:00:00Z)")
    })?;
    if at.nanosecond() != 0 {
        return Err("S3 tells times to the second: leave out the fraction".to_owned());
    }
    Ok(at.unix_timestamp())
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_inventory(text.trim())
        .ok_or_else(|| format!("{text:?} is none of not-sse, sse-s3, sse-kms, dsse-kms, sse-c"))
}

fn storage_class(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || !text.bytes().all(is_name) {
        return Err(format!(
            "{text:?} is no storage class, such as STANDARD or STANDARD_IA"
        ));
    }
    Ok(text.to_ascii_uppercase())
}

/// An alias says nothing here: S3 shows the key, and the alias may have been moved since.
fn kms_key(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("an empty key".to_owned());
    }
    if text.starts_with("alias/") || text.contains(":alias/") {
        return Err(
            "an alias; S3 shows which key an object is under, not by which alias it came there: give the key's id or ARN"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// How keys are spelt, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyEncoding {
    /// URL-encoded.
    Url,
    /// As they are.
    None,
}

impl From<KeyEncoding> for manifest::KeyEncoding {
    fn from(keys: KeyEncoding) -> Self {
        match keys {
            KeyEncoding::Url => Self::Url,
            KeyEncoding::None => Self::None,
        }
    }
}

/// Which rows of a report, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportRows {
    /// Those that failed.
    Failed,
    /// Those that succeeded or were skipped.
    Succeeded,
    /// All.
    All,
}

impl From<ReportRows> for manifest::ReportRows {
    fn from(rows: ReportRows) -> Self {
        match rows {
            ReportRows::Failed => Self::Failed,
            ReportRows::Succeeded => Self::Succeeded,
            ReportRows::All => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_instants_to_the_second() {
        assert_eq!(seconds("1970-01-02"), Ok(86_400));
        assert_eq!(seconds("1970-01-01T00:00:01Z"), Ok(1));
        assert_eq!(seconds("1970-01-01T02:00:00+02:00"), Ok(0));
        for bad in [
            "",
            "1970",
            "1970-13-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.5Z",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(mode("sse-kms"), Ok(Mode::SseKms));
        assert_eq!(storage_class("standard_ia").as_deref(), Ok("STANDARD_IA"));
        assert!(storage_class("a b").is_err() && mode("aes").is_err());
        for alias in ["alias/a", "arn:aws:kms:us-east-1:1:alias/a", ""] {
            assert!(kms_key(alias).is_err(), "{alias}");
        }
    }

    #[test]
    fn filters_that_nothing_passes_are_told() {
        use clap::Parser as _;
        #[derive(Debug, clap::Parser)]
        struct Just {
            #[command(flatten)]
            reading: ReadingArgs,
            #[command(flatten)]
            filters: FilterArgs,
        }
        let parse = |args: &[&str]| {
            let args = ["x"].iter().chain(args);
            let just = Just::try_parse_from(args).expect("typed well");
            just.reading.with(just.filters)
        };
        for (args, phrase) in [
            (
                &["--min-size", "2", "--max-size", "1"][..],
                "--min-size is above",
            ),
            (
                &[
                    "--modified-after",
                    "2026-01-01",
                    "--modified-before",
                    "2026-01-01",
                ],
                "is not earlier",
            ),
            (&["--bucket", ""], "--bucket is empty"),
        ] {
            let error = parse(args).expect_err(phrase);
            assert!(error.message.contains(phrase), "{error}");
        }
        let one = parse(&[
            "--include",
            "b*",
            "--include",
            "a*",
            "--min-size",
            "1",
            "--max-size",
            "1",
        ]);
        let other = parse(&[
            "--max-size",
            "1",
            "--min-size",
            "1",
            "--include",
            "a*",
            "--include",
            "b*",
        ]);
        assert_eq!(one.expect("sound"), other.expect("sound"));
        assert!(parse(&[]).is_ok_and(|reading| reading.is_default()));
    }
}
