//! What lies beside a local `manifest.json`: the files that it names, and the file with its checksum.

use std::path::{Component, Path, PathBuf};

use md5::{Digest as _, Md5};

use super::error::{ManifestError, Problem, excerpt};
use crate::human;

/// Where a file may lie that was fetched together with a local `manifest.json`: under each folder above it with the whole
/// key (a mirror of the bucket), in `folder` beside it or beside its own folder (a mirror of the prefix), or next to it. A
/// key with `..`, or one that begins with `/`, is looked for by its last part only.
pub(super) fn candidates(
    manifest_path: &Path,
    file_key: &str,
    folder: &str,
) -> impl Iterator<Item = PathBuf> {
    let key = Path::new(file_key);
    let depth = key.components().count();
    let inside = key
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let beside = manifest_path.parent().unwrap_or(Path::new(""));
    // A mirrored manifest.json is about as deep as its data files, so no other folder needs a look.
    let mirrors = beside
        .ancestors()
        .take(if inside { depth } else { 0 })
        .map(move |root| root.join(key));
    // `file_name` is a plain name or nothing: it takes no `..`.
    let by_name = key.file_name().into_iter().flat_map(move |name| {
        let within = Path::new(folder).join(name);
        [
            beside.join(&within),
            beside.join("..").join(&within),
            beside.join(name),
        ]
    });
    mirrors.chain(by_name)
}

/// The first of the [candidates] that is a file.
///
/// # Errors
/// None is; the message names them all.
pub(super) fn find(
    manifest_path: &Path,
    file_key: &str,
    folder: &str,
) -> Result<PathBuf, ManifestError> {
    candidates(manifest_path, file_key, folder)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let looked = candidates(manifest_path, file_key, folder)
                .map(|path| path.display().to_string())
                .collect();
            ManifestError::fault(file_key, None, Problem::DataFileMissing { looked })
        })
}

/// Holds a `manifest.json` against the content of its checksum file, which is the MD5 in hexadecimal; a file name after
/// it, as `md5sum` writes, does no harm.
///
/// # Errors
/// The two differ; `name`, the manifest's, and `file`, the checksum file's, are in the message.
pub(super) fn check_checksum(
    json: &[u8],
    checksum: &[u8],
    file: &'static str,
    name: &str,
) -> Result<(), ManifestError> {
    let found = human::hex(&Md5::digest(json));
    let expected = checksum
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())
        .unwrap_or_default();
    if expected.eq_ignore_ascii_case(found.as_bytes()) {
        return Ok(());
    }
    let problem = Problem::Checksum {
        file,
        expected: excerpt(expected),
        found,
    };
    Err(ManifestError::fault(name, None, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_file_is_the_md5_of_the_json() {
        let check = |checksum: &[u8]| check_checksum(b"{}", checksum, "m.md5", "m/manifest.json");
        assert!(check(b"99914B932BD37A50B983C5E7C90AE93B").is_ok());
        assert!(check(b"99914b932bd37a50b983c5e7c90ae93b  manifest.json\n").is_ok());
        for bad in [&b""[..], b"99914b932bd37a50b983c5e7c90ae93c", b"9991"] {
            let message = check(bad).expect_err("another MD5").to_string();
            assert!(
                message.contains("MD5 is 99914b932bd37a50b983c5e7c90ae93b, m.md5 beside it says"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_data_file_is_looked_for_beside_the_manifest_only() {
        let paths = |manifest: &str, key: &str| -> Vec<String> {
            candidates(Path::new(manifest), key, "data")
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(
            paths("/m/inv/T/manifest.json", "inv/data/x.gz"),
            [
                "/m/inv/T/inv/data/x.gz",
                "/m/inv/inv/data/x.gz",
                "/m/inv/data/x.gz",
                "/m/inv/T/data/x.gz",
                "/m/inv/T/../data/x.gz",
                "/m/inv/T/x.gz",
            ]
        );
        assert_eq!(paths("manifest.json", "x")[0], "x");
        for key in ["../../etc/passwd", "/etc/passwd", "a/../../etc/passwd"] {
            assert_eq!(
                paths("/m/T/manifest.json", key),
                ["/m/T/data/passwd", "/m/T/../data/passwd", "/m/T/passwd"]
            );
        }
        for key in ["..", "a/..", "/", ""] {
            assert!(paths("/m/T/manifest.json", key).is_empty(), "{key}");
        }
        let message = find(Path::new("/nowhere/manifest.json"), "data/x.gz", "data")
            .expect_err("it is not there")
            .to_string();
        assert!(
            message.starts_with("data/x.gz: ") && message.contains("/nowhere/x.gz"),
            "{message}"
        );
    }
}
