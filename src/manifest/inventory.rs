//! An S3 Inventory: a `manifest.json` and the data files that it names.
//!
//! What it says of its data files is taken from `files[]` alone; their place is never derived from the folder layout,
//! which differs between tools. A key of `files[]` is untrusted: it is looked for beside the `manifest.json` only.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use md5::{Digest as _, Md5};
use serde::Deserialize;

use super::error::{ManifestError, Problem, excerpt};
use super::hash::hex;
use super::schema::{Schema, bucket_name};

/// The largest `manifest.json` that is read, in bytes: some 300,000 data files, of about three million rows each.
pub const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
    /// The columns of every data file.
    pub schema: Schema,
}

/// One data file of an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its key in the inventory's bucket.
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
    /// Anything but an inventory in CSV with the columns Bucket and Key; `name` is in the message.
    pub fn parse(json: &[u8], name: &str) -> Result<Self, ManifestError> {
        Self::parse_problem(json, name).map_err(|problem| ManifestError::fault(name, None, problem))
    }

    fn parse_problem(json: &[u8], name: &str) -> Result<Self, Problem> {
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(Problem::JsonTooLarge);
        }
        let json: Json =
            serde_json::from_slice(json).map_err(|error| Problem::Json(error.to_string()))?;
        // Before the schema, which ORC and Parquet spell otherwise.
        if !json.file_format.eq_ignore_ascii_case("CSV") {
            return Err(Problem::Format(excerpt(json.file_format.as_bytes())));
        }
        let schema = Schema::of_inventory(&json.file_schema)?;
        let source_bucket = bucket_name(json.source_bucket.as_bytes())?;
        let files: Vec<DataFile> = json
            .files
            .into_iter()
            .map(JsonFile::checked)
            .collect::<Result<_, _>>()?;
        let mut keys = HashSet::with_capacity(files.len());
        if let Some(twice) = files.iter().find(|file| !keys.insert(&file.key)) {
            let what = format!("it names {:?} twice", excerpt(twice.key.as_bytes()));
            return Err(Problem::Json(what));
        }
        Ok(Self {
            name: name.to_owned(),
            source_bucket,
            destination_bucket: json.destination_bucket.map(bucket_of_arn),
            files,
            schema,
        })
    }

    /// Holds a `manifest.json` against its `manifest.checksum`, which holds the MD5 in hexadecimal; a file name after
    /// it, as `md5sum` writes, does no harm.
    ///
    /// # Errors
    /// The two differ; `name` is in the message.
    pub fn check_checksum(
        json: &[u8],
        checksum_file: &[u8],
        name: &str,
    ) -> Result<(), ManifestError> {
        let found = hex(&Md5::digest(json));
        let expected = checksum_file
            .split(u8::is_ascii_whitespace)
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        if expected.eq_ignore_ascii_case(found.as_bytes()) {
            return Ok(());
        }
        let expected = excerpt(expected);
        Err(ManifestError::fault(
            name,
            None,
            Problem::Checksum { expected, found },
        ))
    }

    /// Where a data file may lie that was fetched together with a local `manifest.json`: under each folder above it
    /// with the whole key (a mirror of the bucket), in `data/` beside it or beside its folder (a mirror of the
    /// inventory's prefix), or next to it. A key with `..`, or one that begins with `/`, is looked for by its last
    /// part only.
    pub fn local_candidates(manifest_path: &Path, file_key: &str) -> impl Iterator<Item = PathBuf> {
        let key = Path::new(file_key);
        let depth = key.components().count();
        let inside = key
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let folder = manifest_path.parent().unwrap_or(Path::new(""));
        // A mirrored manifest.json is about as deep as its data files, so no other folder needs a look.
        let mirrors = folder
            .ancestors()
            .take(if inside { depth } else { 0 })
            .map(move |root| root.join(key));
        // `file_name` is a plain name or nothing: it takes no `..`.
        let beside = key.file_name().into_iter().flat_map(move |name| {
            let data = Path::new("data").join(name);
            [
                folder.join(&data),
                folder.join("..").join(&data),
                folder.join(name),
            ]
        });
        mirrors.chain(beside)
    }

    /// The first of the [candidates](Self::local_candidates) that is a file.
    ///
    /// # Errors
    /// None is; the message names them all.
    pub fn find_local(manifest_path: &Path, file_key: &str) -> Result<PathBuf, ManifestError> {
        Self::local_candidates(manifest_path, file_key)
            .find(|path| path.is_file())
            .ok_or_else(|| {
                let looked = Self::local_candidates(manifest_path, file_key)
                    .map(|path| path.display().to_string())
                    .collect();
                ManifestError::fault(file_key, None, Problem::DataFileMissing { looked })
            })
    }
}

impl JsonFile {
    fn checked(self) -> Result<DataFile, Problem> {
        let is_md5 =
            |md5: &String| md5.len() == MD5_HEX_LEN && md5.bytes().all(|b| b.is_ascii_hexdigit());
        if let Some(md5) = self.md5.as_ref().filter(|md5| !is_md5(md5)) {
            let what = format!("MD5checksum {:?} is no MD5", excerpt(md5.as_bytes()));
            return Err(Problem::Json(what));
        }
        if self.key.is_empty() {
            return Err(Problem::Json("a file without a key".to_owned()));
        }
        Ok(DataFile {
            key: self.key,
            size: self.size,
            md5: self.md5.map(|md5| md5.to_ascii_lowercase()),
        })
    }
}

/// `arn:aws:s3:::name` is `name`, in every partition; a plain name stays one.
fn bucket_of_arn(arn: String) -> String {
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

    #[test]
    fn an_inventory_is_read_and_its_md5_normalised() {
        let file = r#"{"key": "p/data/x.csv.gz", "size": 7, "MD5checksum": "F11166069F1990ABEB9C97ACE9CDFABC"},
            {"key": "p/data/y.csv"}"#;
        let text = json("CSV", "Bucket, Key , versionid, Whatever, SIZE", file);
        let inventory = Inventory::parse(text.as_bytes(), "manifest.json").expect("sound");
        assert_eq!(inventory.source_bucket, "src");
        assert_eq!(inventory.destination_bucket.as_deref(), Some("dst"));
        assert_eq!(inventory.schema.identity(), "Bucket,Key,VersionId,,Size");
        let md5 = inventory.files[0].md5.as_deref();
        assert_eq!(md5, Some("f11166069f1990abeb9c97ace9cdfabc"));
        assert_eq!(
            (inventory.files[0].size, inventory.files[1].size),
            (Some(7), None)
        );
        let empty = json("CSV", "Bucket, Key", "");
        assert!(Inventory::parse(empty.as_bytes(), "m").is_ok_and(|empty| empty.files.is_empty()));
    }

    #[test]
    fn what_is_no_usable_inventory_is_refused() {
        let twice = r#"{"key": "x"}, {"key": "x"}"#;
        let no_md5 = r#"{"key": "x", "MD5checksum": "zz"}"#;
        let table = [
            (
                json("ORC", "struct<bucket:string>", ""),
                "ORC, which this version does not read",
            ),
            (
                json("Parquet", "message s3.inventory {}", ""),
                "Parquet, which",
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
            (
                r#"{"Format": "Report_CSV_20180820"}"#.to_owned(),
                "sourceBucket",
            ),
            ("{".to_owned(), "not the manifest.json"),
        ];
        for (text, phrase) in table {
            let message = Inventory::parse(text.as_bytes(), "dir/manifest.json")
                .expect_err(phrase)
                .to_string();
            assert!(message.starts_with("dir/manifest.json: "), "{message}");
            assert!(message.contains(phrase), "{phrase}: {message}");
        }
    }

    #[test]
    fn the_checksum_file_is_the_md5_of_the_json() {
        let check = |checksum: &[u8]| Inventory::check_checksum(b"{}", checksum, "m/manifest.json");
        assert!(check(b"99914B932BD37A50B983C5E7C90AE93B").is_ok());
        assert!(check(b"99914b932bd37a50b983c5e7c90ae93b  manifest.json\n").is_ok());
        for bad in [&b""[..], b"99914b932bd37a50b983c5e7c90ae93c", b"9991"] {
            let message = check(bad).expect_err("another MD5").to_string();
            assert!(
                message.contains("MD5 is 99914b932bd37a50b983c5e7c90ae93b"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_data_file_is_looked_for_beside_the_manifest_only() {
        let candidates = |manifest: &str, key: &str| -> Vec<String> {
            Inventory::local_candidates(Path::new(manifest), key)
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            candidates("/m/inv/T/manifest.json", "inv/data/x.gz"),
            [
                "/m/inv/T/inv/data/x.gz",
                "/m/inv/inv/data/x.gz",
                "/m/inv/data/x.gz",
                "/m/inv/T/data/x.gz",
                "/m/inv/T/../data/x.gz",
                "/m/inv/T/x.gz",
            ]
        );
        assert_eq!(candidates("manifest.json", "x")[0], "x");
        for key in ["../../etc/passwd", "/etc/passwd", "a/../../etc/passwd"] {
            assert_eq!(
                candidates("/m/T/manifest.json", key),
                ["/m/T/data/passwd", "/m/T/../data/passwd", "/m/T/passwd"]
            );
        }
        for key in ["..", "a/..", "/", ""] {
            assert!(candidates("/m/T/manifest.json", key).is_empty(), "{key}");
        }
        let message = Inventory::find_local(Path::new("/nowhere/manifest.json"), "data/x.gz")
            .expect_err("it is not there")
            .to_string();
        assert!(
            message.starts_with("data/x.gz: ") && message.contains("/nowhere/x.gz"),
            "{message}"
        );
    }
}
