//! The newest complete inventory in a folder of inventories.
//!
//! S3 writes each into a folder that is named after the time its scan began, and its `manifest.checksum` last. Folders whose names are
//! such times are looked at from the newest on.
//! Source: S3 User Guide, "Locating your inventory list".

use std::path::Path;

use time::Date;
use time::macros::format_description;

use super::home::Home;
use super::source::{patiently, unbegun, unreadable};
use super::spec::JobFile;
use crate::config::{INVENTORY, Location};
use crate::error::Error;
use crate::event::Event;
use crate::human;
use crate::object::ObjectRef;
use crate::s3::{Ask, S3};

/// What a dated folder is called: digits stand where there are zeros.
const DATED: &[u8] = b"0000-00-00T00-00Z";
/// Characters of the day in it.
const DATE_CHARS: usize = 10;
/// The list of an inventory's data files.
const MANIFEST: &str = "manifest.json";
/// What says that the inventory is whole.
const CHECKSUM: &str = "manifest.checksum";
/// The most folders that are looked at for one that is complete: of a daily inventory, two months.
const LOOKS_MAX: usize = 60;
/// The most names in a local folder that are read.
const NAMES_MAX: usize = 100_000;
/// Names of incomplete ones that a message shows.
const NAMES_SHOWN_MAX: usize = 3;

/// Where a manifest is. Of a folder of inventories it is the newest one that is complete; a job that has begun with one of them goes on
/// with that one, if its home is given.
///
/// # Errors
/// There is none, or S3 refuses to say.
pub async fn resolve(
    s3: &S3,
    folder: &Location,
    home: Option<Home>,
    emit: &dyn Fn(Event<'_>),
) -> Result<Location, Error> {
    if !is_folder(folder) {
        return Ok(folder.clone());
    }
    let newest = newest(s3, folder, emit).await;
    if let Some(begun) = begun_with(home, folder).await? {
        if let Ok(newest) = newest
            && newest != begun
        {
            let message = format!(
                "the state belongs to a job over {begun}, which goes on; for {newest}, which is newer, give another --state"
            );
            emit(Event::Warning { message: &message });
        }
        return Ok(begun);
    }
    let newest = newest?;
    tracing::info!("manifest: {newest}, the newest complete inventory in {folder}");
    Ok(newest)
}

/// Where the state of a job over that manifest is: the place that was given, with the date of the inventory where it wants that.
///
/// # Errors
/// It wants one, and the manifest is in no dated folder.
pub fn state_of(state: Option<&Location>, manifest: &Location) -> Result<Option<Location>, Error> {
    let Some(state) = state.filter(|state| state.names_inventory()) else {
        return Ok(state.cloned());
    };
    let place = manifest.to_string();
    let folder = place
        .strip_suffix(MANIFEST)
        .and_then(|folder| folder.trim_end_matches('/').rsplit('/').next())
        .filter(|name| is_dated(name));
    match folder {
        Some(name) => Ok(Some(state.for_inventory(name))),
        None => Err(Error::usage(format!(
            "--state has {INVENTORY}, and {place} is in no folder with a date, as inventories are"
        ))
        .hint("give --manifest the folder with the inventories, or --state a place without it")),
    }
}

/// Whether it is a folder, and not the list itself.
pub fn is_folder(location: &Location) -> bool {
    match location {
        Location::Stdin => false,
        Location::Path(path) => path.is_dir(),
        Location::S3 { key, .. } => key.is_empty() || key.ends_with('/'),
    }
}

/// The inventory of this folder that the state's job has begun with.
async fn begun_with(home: Option<Home>, folder: &Location) -> Result<Option<Location>, Error> {
    let Some(home) = home else {
        return Ok(None);
    };
    let Some(job) = home.root.read_job::<JobFile>().await? else {
        return Ok(None);
    };
    let location: Option<Location> = job.manifest.location.parse().ok();
    Ok(location.filter(|location| match (folder, location) {
        (
            Location::S3 { bucket, key },
            Location::S3 {
                bucket: of,
                key: found,
            },
        ) => bucket == of && found.strip_prefix(key.as_str()).is_some_and(is_one),
        (Location::Path(folder), Location::Path(found)) => found
            .strip_prefix(folder)
            .is_ok_and(|name| name.to_str().is_some_and(is_one)),
        _ => false,
    }))
}

/// Whether it is the list in a dated folder, or in no other.
fn is_one(name: &str) -> bool {
    let folder = name.strip_suffix(MANIFEST);
    let folder = folder.map(|folder| folder.trim_end_matches('/'));
    folder.is_some_and(|folder| folder.is_empty() || is_dated(folder))
}

fn is_dated(name: &str) -> bool {
    let mut pairs = name.bytes().zip(DATED);
    name.len() == DATED.len()
        && pairs.all(|(found, shape)| match shape {
            b'0' => found.is_ascii_digit(),
            shape => found == *shape,
        })
        && Date::parse(
            &name[..DATE_CHARS],
            format_description!("[year]-[month]-[day]"),
        )
        .is_ok()
        && name[DATE_CHARS + 1..DATE_CHARS + 3] < *"24"
        && name[DATE_CHARS + 4..DATE_CHARS + 6] < *"60"
}

async fn newest(s3: &S3, folder: &Location, emit: &dyn Fn(Event<'_>)) -> Result<Location, Error> {
    // One of them by its own name, or one that was put elsewhere.
    let own = match folder {
        Location::S3 { key, .. } => key.trim_end_matches('/').rsplit('/').next(),
        Location::Path(path) => path.file_name().and_then(|name| name.to_str()),
        Location::Stdin => None,
    };
    let holds_one = matches!(folder, Location::Path(path) if path.join(MANIFEST).is_file());
    if holds_one || own.is_some_and(is_dated) {
        return Ok(below(folder, "", MANIFEST));
    }
    let mut names = names_in(s3, folder).await?;
    names.retain(|name| is_dated(name));
    names.sort_unstable_by(|one, other| other.cmp(one));
    let mut incomplete = Vec::new();
    for name in names.iter().take(LOOKS_MAX) {
        if is_there(s3, &below(folder, name, CHECKSUM)).await? {
            if !incomplete.is_empty() {
                let message = format!(
                    "{} in {folder} without {CHECKSUM}, so not complete, and passed over: {}",
                    human::count_of(incomplete.len() as u64, "newer inventory"),
                    shown(&incomplete)
                );
                emit(Event::Warning { message: &message });
            }
            return Ok(below(folder, name, MANIFEST));
        }
        incomplete.push(name.as_str());
    }
    let what = match incomplete.len() {
        0 => "no folder in it is called as S3 calls those of inventories (2026-01-04T01-00Z)"
            .to_owned(),
        n => format!(
            "none of the newest {n} has a {CHECKSUM}: {}",
            shown(&incomplete)
        ),
    };
    Err(
        Error::usage(format!("{folder} has no complete inventory: {what}")).hint(
            "give the folder that holds them, <prefix>/<bucket>/<configuration>/ with a slash at its end, or one's manifest.json; \
             the first inventory takes up to 48 hours",
        ),
    )
}

fn shown(names: &[&str]) -> String {
    let mut shown = names
        .iter()
        .take(NAMES_SHOWN_MAX)
        .copied()
        .collect::<Vec<_>>();
    if names.len() > NAMES_SHOWN_MAX {
        shown.push("…");
    }
    shown.join(", ")
}

/// The place of a file in a folder of a folder.
fn below(folder: &Location, name: &str, file: &str) -> Location {
    match folder {
        Location::S3 { bucket, key } => {
            let slash = if name.is_empty() { "" } else { "/" };
            Location::S3 {
                bucket: bucket.clone(),
                key: format!("{key}{name}{slash}{file}"),
            }
        }
        Location::Path(path) => Location::Path(path.join(name).join(file)),
        Location::Stdin => Location::Stdin,
    }
}

/// The names of the folders in a folder.
async fn names_in(s3: &S3, folder: &Location) -> Result<Vec<String>, Error> {
    match folder {
        Location::Stdin => Ok(Vec::new()),
        Location::S3 { bucket, key } => patiently(&unbegun(), || s3.folders(bucket, key))
            .await
            .map_err(|error| unreadable(folder, error)),
        Location::Path(path) => names_in_path(path)
            .map_err(|error| Error::io(format!("cannot read {}", path.display()), &error)),
    }
}

fn names_in_path(path: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.take(NAMES_MAX).flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.collect())
}

async fn is_there(s3: &S3, location: &Location) -> Result<bool, Error> {
    let Location::S3 { bucket, key } = location else {
        return Ok(matches!(location, Location::Path(path) if path.is_file()));
    };
    let object = ObjectRef {
        bucket,
        key,
        version_id: None,
    };
    match patiently(&unbegun(), || s3.head(object, Ask::default())).await {
        Ok(_) => Ok(true),
        Err(error) if error.http_status == 404 => Ok(false),
        Err(error) => Err(unreadable(location, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_folders_are_known_by_their_names() {
        assert!(is_dated("2026-01-04T01-00Z"));
        for other in [
            "",
            "hive",
            "data",
            "2026-01-04T01-00",
            "2026-01-04 01-00Z",
            "2026-01-0aT01-00Z",
            "2026-01-04T01-00Z/",
        ] {
            assert!(!is_dated(other), "{other}");
        }
        assert!(is_one("2026-01-04T01-00Z/manifest.json") && is_one("manifest.json"));
        assert!(!is_one("2026-01-04T01-00Z/manifest.checksum") && !is_one("x/manifest.json"));
    }
}
