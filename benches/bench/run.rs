//! Commands under a stopwatch: what they cost in CPU time and memory, and what the store saw of them.

use std::error::Error;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::null_s3::{Counts, ETAG};

/// The bucket of every manifest.
pub const BUCKET: &str = "bench";
/// The target's key.
pub const KEY_ARN: &str =
    "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// The key of an object, 60 bytes long, sixteen prefixes.
pub fn key(number: u64) -> String {
    format!(
        "tenant-{:02}/2024/03/01/part-{number:012}-0123456789abcdef.parquet",
        number % 16
    )
}

/// What a command has cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Cost {
    /// User and system time of all its threads, in seconds.
    pub cpu: f64,
    /// From start to end, in seconds.
    pub wall: f64,
    /// Peak of its resident memory, in bytes.
    pub memory: u64,
}

impl Cost {
    /// The peak of its memory.
    pub fn mebibytes(&self) -> f64 {
        self.memory as f64 / f64::from(1 << 20)
    }
}

/// Runs a command in a process of this program's that has no other child, so that what the system tells of children is the command's.
pub fn measured(command: &[&OsStr]) -> Result<Cost, Box<dyn Error>> {
    let mut measure = Command::new(std::env::current_exe()?);
    measure.arg("measure").args(command).stdout(Stdio::piped());
    // Nothing of this machine's set-up reaches what is measured.
    measure.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    measure.env("AWS_SECRET_ACCESS_KEY", "bench");
    measure.env("AWS_CONFIG_FILE", "/dev/null");
    measure.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    measure.env_remove("AWS_CA_BUNDLE");
    let output = measure.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {said}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The other side of [`measured`]: runs the command and tells what it cost, as JSON on standard output.
pub fn measure(command: &[String]) -> Result<(), Box<dyn Error>> {
    let (program, arguments) = command.split_first().ok_or("nothing to measure")?;
    let began = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    let wall = began.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{program}: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    let cost = Cost {
        cpu: cpu.num_microseconds() as f64 / 1e6,
        wall,
        memory: u64::try_from(usage.max_rss())? * 1024,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

/// A null store in a process of its own, killed when dropped.
pub struct NullStore {
    process: Child,
    /// Where it listens.
    pub url: String,
}

impl NullStore {
    /// Starts one that behaves so, see [`Behaviour`](super::null_s3::Behaviour).
    pub fn start(behaviour: &str) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["null-s3", "127.0.0.1:0", behaviour])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        let stdout = process.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut url)?;
        Ok(Self {
            process,
            url: url.trim().to_owned(),
        })
    }

    /// What it was asked for.
    pub fn counts(&self) -> Result<Counts, Box<dyn Error>> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET /_null/counts HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        Ok(serde_json::from_str(body)?)
    }
}

impl Drop for NullStore {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a manifest's rows tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All that S3 Inventory can: an object costs one request.
    Full,
    /// Bucket and key: an object is looked at first.
    Bare,
}

/// A folder with a manifest in it.
pub struct Manifest {
    folder: TempDir,
    /// What `--manifest` takes.
    pub path: PathBuf,
    /// The file with the rows.
    pub data: PathBuf,
}

impl Manifest {
    /// Writes one of so many rows: an inventory's `manifest.json` with gzip CSV, or a plain CSV.
    pub fn write(rows: Rows, objects: u64) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let (path, data) = match rows {
            Rows::Full => {
                let data = folder.path().join("data.csv.gz");
                let md5 = write_full(&data, objects)?;
                let path = folder.path().join("manifest.json");
                let manifest = serde_json::json!({
                    "sourceBucket": BUCKET,
                    "destinationBucket": "arn:aws:s3:::inventories",
                    "version": "2016-11-30",
                    "creationTimestamp": "1709251200000",
                    "fileFormat": "CSV",
                    "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag, StorageClass, EncryptionStatus",
                    "files": [{"key": "data.csv.gz", "size": std::fs::metadata(&data)?.len(), "MD5checksum": md5}],
                });
                std::fs::write(&path, manifest.to_string())?;
                (path, data)
            }
            Rows::Bare => {
                let path = folder.path().join("objects.csv");
                let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
                for number in 0..objects {
                    writeln!(file, "{BUCKET},{}", key(number))?;
                }
                file.flush()?;
                (path.clone(), path)
            }
        };
        Ok(Self { folder, path, data })
    }

    /// A folder for a state beside it, new each time.
    pub fn state(&self) -> Result<TempDir, Box<dyn Error>> {
        Ok(tempfile::tempdir_in(self.folder.path())?)
    }
}

fn write_full(path: &Path, objects: u64) -> Result<String, Box<dyn Error>> {
    let etag = ETAG.trim_matches('"');
    let mut gzip = GzEncoder::new(std::fs::File::create(path)?, Compression::fast());
    let mut text = Vec::new();
    for number in 0..objects {
        writeln!(
            text,
            "\"{BUCKET}\",\"{}\",\"1024\",\"2024-03-01T00:00:00.000Z\",\"{etag}\",\"STANDARD\",\"SSE-S3\"",
            key(number)
        )?;
        if text.len() > 1 << 20 {
            gzip.write_all(&text)?;
            text.clear();
        }
    }
    gzip.write_all(&text)?;
    gzip.finish()?.sync_all()?;
    let mut hash = Md5::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// What is measured: the release binary, brought up to date first, or the one that `RESEAL_BENCH_BINARY` names.
pub fn binary() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(named) = std::env::var_os("RESEAL_BENCH_BINARY") {
        return Ok(named.into());
    }
    let build = ["build", "--quiet", "--release", "--bin", "reseal"];
    let status = Command::new(env!("CARGO"))
        .args(build)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() {
        return Err(format!("cargo {}: {status}", build.join(" ")).into());
    }
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).ok_or("no folder of binaries")?;
    Ok(folder.join("reseal"))
}

/// Runs `reseal run` over a manifest against a store, with a state of its own.
pub fn reseal(manifest: &Manifest, url: &str, more: &[&str]) -> Result<Cost, Box<dyn Error>> {
    let state = manifest.state()?;
    let binary = binary()?;
    let mut command: Vec<&OsStr> = vec![binary.as_os_str(), "run".as_ref()];
    command.extend(["--manifest".as_ref(), manifest.path.as_os_str()]);
    command.extend(["--state".as_ref(), state.path().as_os_str()]);
    let usual = [
        "--to",
        "sse-kms",
        "--kms-key-id",
        KEY_ARN,
        "--probe",
        "off",
        "--endpoint-url",
        url,
        "--region",
        "us-east-1",
        "--path-style",
        "--progress",
        "none",
        "--concurrency",
        "256",
    ];
    command.extend(usual.iter().chain(more).map(OsStr::new));
    measured(&command)
}
