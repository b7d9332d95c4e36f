//! An S3 Inventory: a `manifest.json` and the data files that it names.
//!
//! What it says of its data files is taken from `files[]` alone; their place is never derived from the folder layout,
//! which differs between tools.

use std::collections::HashSet;

use serde::Deserialize;

use super::decode::KeyEncoding;
use super::error::{ManifestError, Problem, excerpt};
use super::format::Format;
use super::reading::Reading;
use super::schema::{Schema, bucket_name};

/// The largest `manifest.json` that is read, in bytes: of an inventory some 300,000 data files, of about three million rows each.
pub const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The folder of data files in an inventory's prefix.
pub(super) const FOLDER: &str = "data";

/// Length of an MD5 in hexadecimal digits.
const MD5_HEX_LEN: usize = 32;

/// An S3 Inventory of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The name it was read by, for messages.
    pub name: String,
    /// The bucket whose objects it lists.
    pub source_bucket: String,
    /// The bucket where S3 wrote the inventory, out of its ARN. The files may have been copied elsewhere since.
    pub destination_bucket: Option<String>,
    /// The data files, in the order of their rows.
    pub files: Vec<DataFile>,
    /// What they are written in.
    pub format: Format,
    /// The columns of every data file; those of ORC and Parquet say themselves which they have.
    pub schema: Option<Schema>,
}

/// One data file of an inventory, or one result file of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its key in the bucket where it was written.
    pub key: String,
    /// Its size in bytes, as it is stored.
    pub size: Option<u64>,
    /// MD5 of it as it is stored, in lower-case hexadecimal.
    pub md5: Option<String>,
}

/// `manifest.json` as S3 writes it. `version` differs between S3's own documents and says nothing that we need.
/// Source: S3 User Guide, "Locating your inventory list".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    source_bucket: String,
    destination_bucket: Option<String>,
    file_format: String,
    file_schema: String,
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
struct JsonFile {
    key: String,
    size: Option<u64>,
    #[serde(rename = "MD5checksum")]
    md5: Option<String>,
}

impl Inventory {
    /// Reads a `manifest.json`. An inventory without data files is sound: the bucket was empty.
    ///
    /// # Errors
    /// Anything but an inventory with the columns Bucket and Key, or one of another bucket than was asked for; `name` is in the
    /// message.
    pub fn parse(json: &[u8], name: &str, reading: &Reading) -> Result<Self, ManifestError> {
        Self::parse_problem(json, name, reading)
            .map_err(|problem| ManifestError::fault(name, None, problem))
    }

    fn parse_problem(json: &[u8], name: &str, reading: &Reading) -> Result<Self, Problem> {
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(Problem::JsonTooLarge);
        }
        let json: Json =
            serde_json::from_slice(json).map_err(|error| Problem::Json(error.to_string()))?;
        let format = Format::named(&json.file_format)
            .ok_or_else(|| Problem::Format(excerpt(json.file_format.as_bytes())))?;
        let schema = match format {
            Format::Csv => {
                let keys = reading.keys.unwrap_or(KeyEncoding::Url);
                Some(Schema::of_inventory(&json.file_schema, keys)?)
            }
            Format::Orc | Format::Parquet => None,
        };
        let source_bucket = bucket_name(json.source_bucket.as_bytes())?;
        if let Some(asked) = &reading.selection.bucket
            && *asked != source_bucket
        {
            return Err(Problem::OtherBucket {
                expected: asked.clone(),
                found: source_bucket,
            });
        }
        let files: Vec<DataFile> = json
            .files
            .into_iter()
            .map(JsonFile::checked)
            .collect::<Result<_, _>>()?;
        check_once(files.iter().map(|file| &file.key)).map_err(Problem::Json)?;
        Ok(Self {
            name: name.to_owned(),
            source_bucket,
            destination_bucket: json.destination_bucket.map(bucket_of_arn),
            files,
            format,
            schema,
        })
    }
}

impl JsonFile {
    fn checked(self) -> Result<DataFile, Problem> {
        DataFile::checked(self.key, self.size, self.md5).map_err(Problem::Json)
    }
}

impl DataFile {
    /// A file as a `manifest.json` names it, or what is wrong with that.
    pub(super) fn checked(
        key: String,
        size: Option<u64>,
        md5: Option<String>,
    ) -> Result<Self, String> {
        let is_md5 =
            |md5: &String| md5.len() == MD5_HEX_LEN && md5.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(md5) = md5.as_ref().filter(|md5| !is_md5(md5)) {
            return Err(format!("{:?} is no MD5", excerpt(md5.as_bytes())));
        }
        if key.is_empty() {
            return Err("a file without a key".to_owned());
        }
        Ok(Self {
            key,
            size,
            md5: md5.map(|md5| md5.to_ascii_lowercase()),
        })
    }
}

/// No file may be named twice: its rows would be, too.
pub(super) fn check_once<'a>(keys: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut known = HashSet::new();
    for key in keys {
        if !known.insert(key) {
            return Err(format!("it names {:?} twice", excerpt(key.as_bytes())));
        }
    }
    Ok(())
}

/// `arn:aws:s3:::name` is `name`, in every partition; a plain name stays one.
pub(super) fn bucket_of_arn(arn: String) -> String {
    match arn.rsplit_once(":::") {
        Some((_, bucket)) => bucket.to_owned(),
        None => arn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(format: &str, schema: &str, files: &str) -> String {
        format!(
            r#"{{"sourceBucket": "src", "destinationBucket": "arn:aws-cn:s3:::dst", "version": "2016-11-30",
                "creationTimestamp": "1514944800000", "fileFormat": "{format}", "fileSchema": "{schema}",
                "files": [{files}]}}"#
        )
    }

    fn parse(text: &str, name: &str) -> Result<Inventory, ManifestError> {
        Inventory::parse(text.as_bytes(), name, &Reading::default())
    }

    #[test]
    fn an_inventory_is_read_and_its_md5_normalised() {
        let file = r#"{"key": "p/data/x.csv.gz", "size": 7, "MD5checksum": "F11166069F1990ABEB9C97ACE9CDFABC"},
            {"key": "p/data/y.csv"}"#;
        let text = json("CSV", "Bucket, Key , versionid, Whatever, SIZE", file);
        let inventory = parse(&text, "manifest.json").expect("sound");
        assert_eq!(inventory.source_bucket, "src");
        assert_eq!(inventory.destination_bucket.as_deref(), Some("dst"));
        let schema = inventory.schema.expect("of CSV");
        assert_eq!(schema.identity(), "Bucket,Key,VersionId,,Size");
        let md5 = inventory.files[0].md5.as_deref();
        assert_eq!(md5, Some("f11166069f1990abeb9c97ace9cdfabc"));
        assert_eq!(
            (inventory.files[0].size, inventory.files[1].size),
            (Some(7), None)
        );
        let empty = json("CSV", "Bucket, Key", "");
        assert!(parse(&empty, "m").is_ok_and(|empty| empty.files.is_empty()));
        for (format, schema) in [
            ("ORC", "struct<bucket:string>"),
            ("Parquet", "message s3.inventory {}"),
        ] {
            let inventory = parse(&json(format, schema, ""), "m").expect("sound");
            assert_eq!((inventory.format.name(), inventory.schema), (format, None));
        }
    }

    #[test]
    fn what_is_no_usable_inventory_is_refused() {
        let twice = r#"{"key": "x"}, {"key": "x"}"#;
        let no_md5 = r#"{"key": "x", "MD5checksum": "zz"}"#;
        let table = [
            (
                json("AVRO", "", ""),
                "in a format that is not read (AVRO); CSV, ORC and Parquet are",
            ),
            (json("CSV", "Key, Size", ""), "no column Bucket"),
            (json("CSV", "Bucket, Size", ""), "no column Key"),
            (json("CSV", "Bucket, Key, key", ""), "Key more than once"),
            (
                json("CSV", &"Bucket, Key,".repeat(99), ""),
                "too many columns",
            ),
            (json("CSV", "Bucket, Key", twice), "twice"),
            (json("CSV", "Bucket, Key", no_md5), "no MD5"),
            (
                json("CSV", "Bucket, Key", r#"{"key": ""}"#),
                "without a key",
            ),
            (
                json("CSV", "Bucket, Key", "").replace("src", "s/c"),
                "no bucket name",
            ),
            ("{}".to_owned(), "sourceBucket"),
            ("{".to_owned(), "of neither an S3 Inventory nor"),
        ];
        for (text, phrase) in table {
            let message = parse(&text, "dir/manifest.json")
                .expect_err(phrase)
                .to_string();
            assert!(message.starts_with("dir/manifest.json: "), "{message}");
            assert!(message.contains(phrase), "{phrase}: {message}");
        }
        let mut other = Reading::default();
        other.selection.bucket = Some("elsewhere".to_owned());
        let text = json("CSV", "Bucket, Key", "");
        let refused = Inventory::parse(text.as_bytes(), "m", &other);
        let message = refused.expect_err("of another bucket").to_string();
        assert!(
            message.contains("bucket \"src\" where \"elsewhere\""),
            "{message}"
        );
    }
}
