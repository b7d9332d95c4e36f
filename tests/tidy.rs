//! Keeps the layering: which room may name which, which outside thing belongs to which room, and the small rules of the house.
//!
//! A scan of text, no parser: comments and `#[cfg(test)] mod tests` at a file's end are left out, and the code is written so that
//! this is enough. A new room or a new dependency gets its line in a table here, or the scan fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders of the library that only tests have, beside `tests.rs`.
const TEST_FILES: &[&str] = &[
    "src/journal/memory.rs",
    "src/local_s3/in_process.rs",
    "src/journal/tests",
    "src/s3/direct/tests",
    "src/simulation",
];

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 700;

const NOUNS: &[&str] = &[
    "bucket",
    "checkpoint",
    "encryption",
    "event",
    "evidence",
    "exit",
    "object",
    "outcome",
    "profile",
    "s3_error",
    "shard",
];

/// Rooms, and what each may name beside the nouns. `*` is everything.
const ROOMS: &[(&str, &[&str])] = &[
    // Nouns name nouns.
    ("bucket", &[]),
    ("checkpoint", &[]),
    ("encryption", &[]),
    ("event", &[]),
    ("exit", &[]),
    ("object", &[]),
    ("outcome", &[]),
    ("profile", &[]),
    ("s3_error", &[]),
    ("shard", &[]),
    // Deciding names no mechanism.
    ("manifest", &["human", "selection"]),
    ("selection", &[]),
    ("closure", &[]),
    ("deadline", &[]),
    ("plan", &["closure", "selection"]),
    ("retry", &[]),
    // Mechanisms don't know each other. The sample's inventory has its keys as a manifest has them.
    // A state may be in S3.
    ("journal", &["durable", "retry", "s3"]),
    // What each that writes files needs.
    ("durable", &[]),
    ("checksum", &[]),
    ("limiter", &["retry"]),
    ("stall", &["human", "retry"]),
    ("control", &["human"]),
    ("http", &[]),
    ("throttle", &["http"]),
    ("local_s3", &["human", "manifest"]),
    // A part that failed on its way up is sent again where it is known that it may be.
    ("s3", &["retry"]),
    // Doing names no listener.
    (
        "engine",
        &[
            "error", "journal", "limiter", "manifest", "shutdown", "task",
        ],
    ),
    ("probe", &["limiter", "retry", "s3"]),
    ("shutdown", &["human"]),
    (
        "task",
        &[
            "checksum", "closure", "journal", "limiter", "plan", "retry", "s3", "stall",
        ],
    ),
    // The only wiring point.
    ("job", &["*"]),
    ("status", &["error", "human", "job", "journal"]),
    ("listing", &["limiter", "retry", "s3", "shutdown", "stall"]),
    // A list of a bucket, wired to what writes it; an earlier one is read as a manifest.
    (
        "inventory",
        &[
            "config", "durable", "error", "http", "human", "job", "limiter", "listing", "manifest",
            "progress", "retry", "s3", "shutdown", "stall",
        ],
    ),
    // An operator's whole day in one command.
    ("demo", &["*"]),
    // The edge.
    ("cli", &["*"]),
    (
        "config",
        &[
            "engine", "error", "http", "limiter", "manifest", "plan", "report", "s3", "task",
        ],
    ),
    ("error", &["journal", "listing", "manifest", "probe"]),
    // Telling knows events and nobody who makes them. A report's keys are URL-encoded as a manifest's are.
    ("human", &[]),
    ("forecast", &["human", "limiter", "plan"]),
    ("pace", &["human"]),
    ("metrics", &["human", "pace"]),
    ("progress", &["human", "pace"]),
    ("chain", &["durable", "manifest"]),
    ("report", &["durable", "human", "manifest"]),
    ("summary", &["human"]),
    ("undo", &["human"]),
    ("verification", &["human"]),
];

/// Rooms that wire others together may be named by the edge alone.
const WIRING: &[(&str, &[&str])] = &[
    ("cli", &["main"]),
    ("demo", &["cli"]),
    ("inventory", &["cli"]),
    ("job", &["cli", "demo", "inventory", "status"]),
    ("status", &["cli"]),
];

/// Dependencies, and the rooms that may name them. `*` is every room.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("async_trait", &["journal", "local_s3"]),
    ("aws_config", &["s3"]),
    ("aws_credential_types", &["s3"]),
    ("aws_lc_rs", &["local_s3"]),
    ("aws_sdk_s3", &["s3", "local_s3"]),
    ("aws_sigv4", &["s3"]),
    ("aws_smithy_runtime_api", &["s3"]),
    ("aws_smithy_types", &["s3"]),
    ("aws_types", &["s3"]),
    ("base64", &["*"]),
    ("bytes", &["http", "local_s3", "manifest"]),
    ("bytesize", &["cli"]),
    ("clap", &["cli", "main"]),
    ("crc32fast", &["inventory", "journal", "shard"]),
    ("crc_fast", &["checksum", "local_s3"]),
    ("csv", &["chain", "inventory", "manifest", "report"]),
    ("flate2", &["chain", "demo", "inventory", "manifest"]),
    (
        "futures",
        &[
            "control",
            "engine",
            "inventory",
            "job",
            "journal",
            "limiter",
            "listing",
            "local_s3",
            "s3",
            "task",
        ],
    ),
    ("hmac", &["local_s3"]),
    ("http_body_util", &["http", "local_s3", "s3"]),
    ("humantime", &["cli"]),
    ("hyper", &["http", "local_s3"]),
    ("hyper_rustls", &["http"]),
    ("hyper_util", &["http", "local_s3"]),
    ("indicatif", &["progress"]),
    ("jiff", &["cli", "deadline", "manifest", "shutdown"]),
    ("lz4_flex", &["manifest"]),
    ("md5", &["*"]),
    ("memchr", &["manifest"]),
    ("metrics", &["metrics"]),
    ("metrics_exporter_prometheus", &["metrics"]),
    ("mimalloc", &["main"]),
    ("parquet", &["inventory", "manifest"]),
    ("rand", &["*"]),
    ("rustix", &["cli", "local_s3", "main"]),
    ("s3s", &["local_s3"]),
    ("serde", &["*"]),
    ("serde_json", &["*"]),
    ("sha1", &["checksum"]),
    ("sha2", &["*"]),
    ("snap", &["manifest"]),
    ("subtle", &["local_s3"]),
    ("tempfile", &["*"]),
    ("thiserror", &["*"]),
    ("time", &["*"]),
    ("tokio", &["*"]),
    ("tower_service", &["http"]),
    ("tracing", &["*"]),
    ("tracing_subscriber", &["cli"]),
    ("zeroize", &["*"]),
    ("zstd", &["manifest"]),
];

/// What may stand in no room's code but these rooms'. The words are whole: `sprintln!` is not `println!`.
const WORDS: &[(&str, &[&str])] = &[
    ("print!", &[]),
    ("println!", &[]),
    ("eprint!", &[]),
    ("eprintln!", &[]),
    ("dbg!", &[]),
    ("process::exit", &["main"]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    (".unwrap()", &[]),
    ("#[allow(", &[]),
    ("unsafe ", &[]),
];

/// What makes a room impure.
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "tokio",
    "std::thread",
    "std::net",
    "SystemTime",
    "Instant",
];

/// One file: its code without comments and without its tests.
struct Source {
    path: PathBuf,
    room: String,
    /// How many times `super` leads from it to the crate's root.
    depth: usize,
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` below a folder, relative to the root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code of a file: line comments cut, everything from a test module at the end on left out.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let comment = line
            .match_indices("//")
            .map(|(at, _)| at)
            .find(|&at| !line[..at].ends_with(':') && !inside_string(&line[..at]));
        code.push_str(&line[..comment.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

fn inside_string(before: &str) -> bool {
    before.replace("\\\"", "").matches('"').count() % 2 == 1
}

/// The product's files but those that hold tests only.
fn sources() -> Vec<Source> {
    let files: Vec<_> = rust_files("src")
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("lib.rs"))
        .filter(|path| !TEST_FILES.iter().any(|test| path.starts_with(test)))
        .map(|path| {
            let names: Vec<_> = path
                .with_extension("")
                .iter()
                .skip(1)
                .map(|name| name.to_string_lossy().into_owned())
                .filter(|name| name != "mod")
                .collect();
            Source {
                room: names[0].clone(),
                depth: names.len(),
                code: code_of(&text(&path)),
                path,
            }
        })
        .collect();
    assert!(files.len() > 50, "the scan found {} files", files.len());
    files
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifiers that follow `prefix`, where `prefix` does not continue a longer path.
fn after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c| is_word(c) || c == ':'))
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
        })
        .collect()
}

/// The rooms that a file names.
fn named_rooms(source: &Source) -> BTreeSet<&str> {
    let mut rooms: BTreeSet<_> = after(&source.code, "crate::").into_iter().collect();
    rooms.extend(after(&source.code, &"super::".repeat(source.depth)));
    for group in source.code.split("use crate::{").skip(1) {
        let group = group.split("};").next().unwrap_or_default();
        let roots = group.split(',').map(str::trim);
        rooms.extend(roots.map(|path| path.split(|c| !is_word(c)).next().unwrap_or_default()));
    }
    // `super` goes on further up in files of a deeper folder; the empty name is the head of a group.
    rooms.retain(|room| !room.is_empty() && *room != "super");
    rooms
}

fn allows(list: &[&str], name: &str) -> bool {
    list.contains(&"*") || list.contains(&name)
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn rooms_know_only_whom_they_may() {
    let table: BTreeMap<_, _> = ROOMS.iter().copied().collect();
    let wiring: BTreeMap<_, _> = WIRING.iter().copied().collect();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        seen.insert(source.room.clone());
        let at = source.path.display();
        for room in named_rooms(&source) {
            if room == source.room || NOUNS.contains(&room) {
                continue;
            }
            let Some(allowed) = table.get(source.room.as_str()) else {
                faults.push(format!("{at}: no line in ROOMS for {}", source.room));
                break;
            };
            let wired = wiring
                .get(room)
                .is_none_or(|by| by.contains(&source.room.as_str()));
            if !allows(allowed, room) || !wired {
                faults.push(format!("{at}: {} must not know {room}", source.room));
            }
        }
    }
    for (room, _) in ROOMS.iter().filter(|(room, _)| !seen.contains(*room)) {
        faults.push(format!("ROOMS has a line for {room}, which does not exist"));
    }
    assert_none(&faults);
}

/// The crates under `[dependencies]`, by the names that code uses.
fn dependencies() -> BTreeSet<String> {
    let manifest = text(Path::new("Cargo.toml"));
    let section = manifest
        .split("\n[")
        .find(|section| section.starts_with("dependencies]"))
        .expect("[dependencies]");
    section
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| match name {
            "md-5" => "md5".to_owned(),
            name => name.replace('-', "_"),
        })
        .collect()
}

#[test]
fn outside_things_stay_in_their_rooms() {
    let mut faults = Vec::new();
    let mut unused = dependencies();
    let listed: BTreeSet<_> = DEPENDENCIES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    for name in unused.symmetric_difference(&listed) {
        faults.push(format!(
            "{name} is either in Cargo.toml or in DEPENDENCIES: it must be in both"
        ));
    }
    for source in sources() {
        for (name, rooms) in DEPENDENCIES {
            // With a leading `::` where a room has the crate's name.
            let paths = [format!("{name}::"), format!("::{name}::")];
            if paths
                .iter()
                .all(|path| after(&source.code, path).is_empty())
            {
                continue;
            }
            unused.remove(*name);
            if !allows(rooms, &source.room) {
                let (at, rooms) = (source.path.display(), rooms.join(", "));
                faults.push(format!("{at}: {name} belongs to {rooms} only"));
            }
        }
    }
    for name in unused {
        faults.push(format!("{name} is in Cargo.toml and no code names it"));
    }
    assert_none(&faults);
}

#[test]
fn words_that_the_house_does_without() {
    let mut faults = Vec::new();
    for source in sources() {
        for (word, rooms) in WORDS {
            if allows(rooms, &source.room) {
                continue;
            }
            for (number, line) in source.code.lines().enumerate() {
                let found = line.match_indices(word).any(|(at, _)| {
                    !word.starts_with(is_word) || !line[..at].ends_with(|c| is_word(c) || c == ':')
                });
                if found && !line.contains("deny(") {
                    let at = source.path.display();
                    faults.push(format!("{at}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn deciding_is_pure() {
    let mut faults = Vec::new();
    for source in sources() {
        let mut words = match source.room.as_str() {
            "manifest" => IMPURE.to_vec(),
            "deadline" | "plan" | "retry" => [IMPURE, &["std::fs", "std::io"]].concat(),
            room if NOUNS.contains(&room) => [IMPURE, &["std::fs"]].concat(),
            _ => continue,
        };
        words.retain(|word| source.code.contains(word));
        for word in words {
            faults.push(format!("{}: {word}", source.path.display()));
        }
    }
    assert_none(&faults);
}

#[test]
fn files_are_short() {
    let long: Vec<_> = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(rust_files)
        .filter_map(|path| {
            let lines = text(&path).lines().count();
            (lines >= FILE_LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert_none(&long);
}

/// Files that `file` declares as its modules.
fn modules_of(file: &Path) -> Vec<PathBuf> {
    let text = text(file);
    let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("main" | "lib" | "mod") => file.parent().expect("a folder").to_owned(),
        _ => file.with_extension(""),
    };
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.split_once("mod ").filter(|(visibility, _)| {
                visibility.is_empty() || visibility.starts_with("pub") && !visibility.contains('/')
            })?;
            line.1.strip_suffix(';')
        })
        .map(|name| {
            let beside = folder.join(format!("{name}.rs"));
            if root().join(&beside).exists() {
                beside
            } else {
                folder.join(name).join("mod.rs")
            }
        })
        .collect()
}

#[test]
fn no_file_is_forgotten() {
    let mut forgotten: BTreeSet<_> = rust_files("src").into_iter().collect();
    forgotten.extend(rust_files("tests/it"));
    let mut reached = vec![
        PathBuf::from("src/lib.rs"),
        PathBuf::from("src/main.rs"),
        PathBuf::from("tests/it/main.rs"),
    ];
    while let Some(file) = reached.pop() {
        reached.extend(modules_of(&file));
        forgotten.remove(&file);
    }
    let forgotten: Vec<_> = forgotten
        .iter()
        .map(|path| format!("{}: no `mod` names it", path.display()))
        .collect();
    assert_none(&forgotten);
}
