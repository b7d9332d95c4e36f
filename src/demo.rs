//! `reseal demo`: objects of all modes on the embedded S3, an inventory of them, a run through the same code as
//! `reseal run`, and the proof that every object came through whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};

use crate::closure::{Loss, Losses};
use crate::config::{self, JobConfig, Location, Trust};
use crate::encryption::{CUSTOMER_KEY_BYTES, KmsTarget, Mode, Target};
use crate::engine::{self, Settings};
use crate::error::Error;
use crate::exit::Exit;
use crate::job::{self, Done};
use crate::limiter::Budgets;
use crate::local_s3::admin;
use crate::local_s3::sample::{Checked, Sample};
use crate::local_s3::server::{LocalS3, Options};
use crate::manifest::Reading;
use crate::plan::Rules;
use crate::progress::Progress;
use crate::report::Scope;
use crate::s3::{Connection, StaticCredentials};
use crate::shard::Shard;
use crate::shutdown::Shutdown;
use crate::task;

const BUCKET: &str = "demo";
const OLD_KEY: &str = "alias/old";
const NEW_KEY: &str = "alias/new";
/// Tasks in flight: the store is on the same machine.
const CONCURRENCY: usize = 32;

/// What happened.
pub struct Shown {
    /// The run.
    pub done: Done,
    folder: PathBuf,
    before: Checked,
    after: Checked,
    new_key: String,
}

/// Runs the demo in `folder`, which must be absent or empty and stays for looking around.
///
/// # Errors
/// The folder is not empty, or something on the way failed.
pub async fn run(
    folder: &Path,
    objects: usize,
    progress: Progress,
    shutdown: Shutdown,
) -> Result<Shown, Error> {
    let folder =
        std::path::absolute(folder).map_err(|error| Error::io(folder.display(), &error))?;
    let is_free = match fs::read_dir(&folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_free {
        return Err(
            Error::usage(format!("{} is not an empty folder", folder.display()))
                .hint("remove it, or choose another with --data"),
        );
    }
    let data = folder.join("s3");
    let old_key = admin::add_key(&data, Some(OLD_KEY)).map_err(internal)?;
    let new_key = admin::add_key(&data, Some(NEW_KEY)).map_err(internal)?;
    let server = LocalS3::start(Options::new(
        &data,
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    ))
    .map_err(internal)?;

    let key_file = folder.join("customer.key");
    write_private(&key_file, &rand::random::<[u8; CUSTOMER_KEY_BYTES]>())?;
    let customer_key = config::customer_key(&key_file)?;
    let sample = Sample::fill(&server, BUCKET, objects, &old_key.arn, &customer_key)
        .await
        .map_err(internal)?;
    let before = sample.check().await.map_err(internal)?;
    let manifest = write_inventory(&folder.join("inventory"), &sample)?;

    let config = JobConfig {
        manifest: Location::Path(manifest),
        reading: Reading::default(),
        target: Target::SseKms(KmsTarget {
            key_id: Some(new_key.arn.clone()),
            ..KmsTarget::default()
        }),
        source_keys: vec![customer_key.clone()],
        connection: Connection {
            endpoint_url: Some(server.endpoint_url()),
            region: Some(server.region().to_owned()),
            profile: None,
            credentials: Some(StaticCredentials {
                access_key: server.credentials().access_key().to_owned(),
                secret_key: server.credentials().secret_key().to_owned(),
            }),
            path_style: true,
        },
        state: Some(Location::Path(folder.join("state"))),
        shard: Shard::ONLY,
        report: Some(Location::Path(folder.join("report"))),
        report_scope: Scope::All,
        evidence: None,
        settings: Settings {
            tasks: engine::tasks_for(CONCURRENCY),
            failure_threshold_percent: 50,
            stop_on: BTreeSet::new(),
        },
        rewriting: task::Settings {
            rules: Rules {
                allowed: Losses::new(vec![Loss::KmsContext]),
                ..Rules::default()
            },
            ..task::Settings::default()
        },
        trust: Trust::default(),
        budgets: Budgets::default(),
        concurrency: CONCURRENCY,
        throttle_file: None,
        throttle_url: None,
        control_socket: None,
        deadline: None,
        pushgateway: None,
        metrics_listen: None,
        max_stall: std::time::Duration::ZERO,
        acknowledged_wrong: 0,
        metrics_linger: std::time::Duration::ZERO,
    };
    let mut done = None;
    job::run(config, progress, shutdown, |told| done = Some(told)).await;
    let done = done.expect("a run tells its end")?;
    let after = sample.check().await.map_err(internal)?;
    Ok(Shown {
        done,
        folder,
        before,
        after,
        new_key: new_key.arn,
    })
}

impl Shown {
    /// How the command ends: as the run, unless an object was altered.
    pub fn exit(&self) -> Exit {
        if self.after.altered.is_empty() {
            self.done.exit
        } else {
            Exit::Internal
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count =
            |modes: &BTreeMap<Mode, u64>, mode: Mode| modes.get(&mode).copied().unwrap_or(0);
        let objects: u64 = self.after.modes.values().sum();
        writeln!(f, "encryption      before   after")?;
        for mode in Mode::ALL {
            let (before, after) = (
                count(&self.before.modes, mode),
                count(&self.after.modes, mode),
            );
            if before + after > 0 {
                writeln!(f, "{mode:<12}  {before:>8}{after:>8}")?;
            }
        }
        writeln!(f)?;
        if self.after.altered.is_empty() {
            writeln!(
                f,
                "All {objects} objects were read back: bytes, metadata, tags, content type and storage class are what was put."
            )?;
        } else {
            writeln!(
                f,
                "ALTERED: {} of {objects} objects",
                self.after.altered.len()
            )?;
            for altered in &self.after.altered {
                writeln!(f, "  {altered}")?;
            }
        }
        writeln!(f, "\n{}", self.done.summary.to_string().trim_end())?;
        let folder = self.folder.display();
        // As it was called, so that the lines can be typed as they stand.
        let reseal = std::env::args()
            .next()
            .unwrap_or_else(|| "reseal".to_owned());
        write!(
            f,
            "\nLook around in {folder}:\n  \
             inventory/   the manifest that was run\n  \
             report/      the completion report, as S3 Batch Operations writes it\n  \
             state/       the journal: {reseal} status --state {folder}/state\n  \
             s3/          the objects, encrypted, and the keys\n\n\
             Try next:\n  \
             {reseal} local-s3 serve --data {folder}/s3\n  \
             {reseal} local-s3 keys --data {folder}/s3\n  \
             {reseal} local-s3 keys --data {folder}/s3 disable {NEW_KEY}    (key {key}; now GETs fail)",
            key = self.new_key
        )
    }
}

/// Writes an inventory as S3 lays it out, and returns its `manifest.json`.
fn write_inventory(folder: &Path, sample: &Sample<'_>) -> Result<PathBuf, Error> {
    let io =
        |error: std::io::Error| Error::io(format!("cannot write {}", folder.display()), &error);
    let dated = folder.join("2026-01-01T00-00Z");
    let data_key = "data/sample.csv.gz";
    fs::create_dir_all(folder.join("data")).map_err(io)?;
    fs::create_dir_all(&dated).map_err(io)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(sample.inventory_csv().as_bytes())
        .map_err(io)?;
    let data = gzip.finish().map_err(io)?;
    fs::write(folder.join(data_key), &data).map_err(io)?;
    let manifest = serde_json::json!({
        "sourceBucket": BUCKET,
        "destinationBucket": format!("arn:aws:s3:::{BUCKET}"),
        "version": "2016-11-30",
        "creationTimestamp": "1767225600000",
        "fileFormat": "CSV",
        "fileSchema": Sample::INVENTORY_SCHEMA,
        "files": [{ "key": data_key, "size": data.len(), "MD5checksum": md5_hex(&data) }],
    });
    let manifest = serde_json::to_vec_pretty(&manifest).expect("a literal");
    let path = dated.join("manifest.json");
    fs::write(&path, &manifest).map_err(io)?;
    fs::write(dated.join("manifest.checksum"), md5_hex(&manifest)).map_err(io)?;
    Ok(path)
}

fn md5_hex(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Writes a new file that only its owner may read.
fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.map_err(|error| Error::io(format!("cannot write {}", path.display()), &error))
}

fn internal(error: impl fmt::Display) -> Error {
    Error::new(Exit::Internal, error.to_string())
}
