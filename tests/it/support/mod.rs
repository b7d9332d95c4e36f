//! A store with objects, a manifest of them, the binary run on it, and what it left behind.

pub mod canned;
pub mod chance;
mod counting;
pub mod direct;
pub mod faults;
pub mod lister;
pub mod moto;
pub mod objects;
pub mod prometheus;
pub mod promql;
pub mod versioned;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use aws_sdk_s3::Client;
pub use counting::Counting;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reseal::local_s3::admin;
use reseal::local_s3::credentials::Credentials;
use reseal::local_s3::server::{LocalS3, Options};
use serde_json::Value;
use tempfile::TempDir;

/// The bucket of every test.
pub const BUCKET: &str = "bucket";

/// An embedded S3 with one bucket.
pub struct Store {
    pub s3: LocalS3,
    pub client: Client,
    folder: TempDir,
}

impl Store {
    pub async fn start() -> Self {
        let store = Self::without_bucket();
        let bucket = store.client.create_bucket().bucket(BUCKET);
        bucket.send().await.expect("a bucket");
        store
    }

    pub fn without_bucket() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let s3 = LocalS3::start(Options::for_tests(folder.path())).expect("an embedded S3");
        Self {
            client: s3.client(),
            s3,
            folder,
        }
    }

    /// The folder with the store's data and keys.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// A new KMS key; its ARN.
    pub fn add_kms_key(&self, alias: Option<&str>) -> String {
        let key = admin::add_key(self.data(), alias).expect("a key");
        key.arn
    }

    /// How often each key was copied onto itself, by the store's own count.
    pub fn copies(&self) -> BTreeMap<String, u64> {
        let mut copies = BTreeMap::new();
        for (request, count) in self.s3.requests() {
            if request.operation == "REST.COPY.OBJECT" && request.status == 200 {
                *copies.entry(request.key).or_default() += count;
            }
        }
        copies
    }

    /// How many requests came that could have changed something.
    pub fn writes(&self) -> u64 {
        let requests = self.s3.requests();
        let writes = requests.iter().filter(|(request, _)| {
            // A copy is two lines; the other one is its reading.
            ["PUT", "POST", "DELETE", "COPY"].iter().any(|verb| {
                request.operation.starts_with(&format!("REST.{verb}."))
                    && request.operation != "REST.COPY.OBJECT_GET"
            })
        });
        writes.map(|(_, count)| count).sum()
    }

    /// The job that puts `keys` under a target.
    pub fn job(&self, keys: &[impl AsRef<str>]) -> Job {
        Job::new(&self.s3.endpoint_url(), self.s3.credentials(), keys)
    }
}

/// One `reseal run` with a folder of its own for manifest, state and report.
pub struct Job {
    folder: TempDir,
    endpoint: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    with_defaults: bool,
}

impl Job {
    pub fn new(endpoint: &str, credentials: &Credentials, keys: &[impl AsRef<str>]) -> Self {
        let mut job = Self::bare(endpoint);
        job.with_defaults = true;
        job.write_manifest(&csv_of(keys));
        job.env("AWS_ACCESS_KEY_ID", credentials.access_key())
            .env("AWS_SECRET_ACCESS_KEY", credentials.secret_key())
    }

    /// Without credentials, and with no flags but those that are given.
    pub fn bare(endpoint: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            endpoint: endpoint.to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            with_defaults: false,
        }
    }

    /// Adds arguments, separated by white space.
    pub fn args(mut self, args: &str) -> Self {
        self.args.extend(args.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds one argument with its value, whatever is in it.
    pub fn arg(mut self, flag: &str, value: impl AsRef<Path>) -> Self {
        self.args.push(flag.to_owned());
        self.args.push(value.as_ref().display().to_string());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With a file of AWS's in place of credentials in the environment.
    pub fn with_aws_file(mut self, variable: &str, content: &str) -> Self {
        self.env.retain(|name, _| {
            !name.starts_with("AWS_ACCESS_KEY") && !name.starts_with("AWS_SECRET")
        });
        let path = self.write(variable, content);
        self.env(variable, path.to_str().expect("UTF-8"))
    }

    /// Forgets the arguments that were added.
    pub fn without_args(mut self) -> Self {
        self.args.clear();
        self
    }

    /// A path in the job's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("written");
        path
    }

    pub fn write_manifest(&self, csv: &str) {
        self.write("manifest.csv", csv);
    }

    /// What comes after the name of the program.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        let mut add = |flag: &str, value: String| {
            if !self.args.iter().any(|given| given == flag) {
                arguments.extend([flag.to_owned(), value]);
            }
        };
        if self.with_defaults {
            add(
                "--manifest",
                self.path("manifest.csv").display().to_string(),
            );
            add("--state", self.state().display().to_string());
            add("--report", self.path("report").display().to_string());
            add("--output", "json".to_owned());
            add("--progress", "none".to_owned());
            // Tests of what is tried on scratch objects ask for it.
            add("--probe", "off".to_owned());
        }
        if !self.endpoint.is_empty() {
            add("--endpoint-url", self.endpoint.clone());
            arguments.push("--path-style".to_owned());
        }
        arguments.extend(self.args.iter().cloned());
        arguments
    }

    /// The binary with an environment of its own, ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reseal"));
        command.args(self.arguments());
        self.prepare(&mut command);
        command
    }

    /// Gives any command the job's environment and working folder.
    pub fn prepare(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(&self.env)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    pub fn run(&self) -> Run {
        Run::of(self.command().output().expect("the binary starts"))
    }

    /// Every row of the completion report.
    pub fn report(&self) -> Vec<ReportRow> {
        read_report(&self.path("report"))
    }
}

/// A CSV manifest of keys in [`BUCKET`].
pub fn csv_of(keys: &[impl AsRef<str>]) -> String {
    keys.iter()
        .map(|key| format!("{BUCKET},{}\n", url_encode(key.as_ref())))
        .collect()
}

/// Percent-encoding of everything but unreserved characters and `/`.
pub fn url_encode(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Undoes percent-encoding.
pub fn url_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Holds the exit code, and that the summary adds up where there is one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        if self.stdout.contains("\"already_settled\":") {
            let summary = self.summary();
            let rows = ["succeeded", "skipped", "failed"].map(|name| count(&summary, name));
            let sums = ["methods", "skips", "failures"].map(|name| sum(&summary[name]));
            assert_eq!(rows, sums, "{summary}");
            if summary["status"] == "complete" {
                assert_eq!(count(&summary, "total"), rows.iter().sum::<u64>());
            }
        }
        self
    }

    /// Holds that the error tells each of `phrases`.
    #[track_caller]
    pub fn says(self, phrases: &[&str]) -> Self {
        for phrase in phrases {
            let said = self.stderr.contains(phrase);
            assert!(said, "{phrase:?} is not in:\n{}", self.stderr);
        }
        self
    }

    /// The JSON summary.
    #[track_caller]
    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// One count of the summary.
    #[track_caller]
    pub fn count(&self, name: &str) -> u64 {
        count(&self.summary(), name)
    }
}

#[track_caller]
fn count(summary: &Value, name: &str) -> u64 {
    summary[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {summary}"))
}

fn sum(map: &Value) -> u64 {
    let map = map.as_object().expect("a map");
    map.values().filter_map(Value::as_u64).sum()
}

/// Sends a signal to a run.
pub fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("signalled");
}

/// Waits for the end of a run.
pub fn finish(child: Child) -> Run {
    Run::of(child.wait_with_output().expect("it ends"))
}

/// One row of a completion report.
#[derive(Clone, Debug)]
pub struct ReportRow {
    /// As it is written: URL-encoded.
    pub key: String,
    pub status: String,
    pub http_status: String,
    pub code: String,
    pub message: String,
}

/// Every row of the one report below `folder`, by way of its `manifest.json`.
pub fn read_report(folder: &Path) -> Vec<ReportRow> {
    let jobs: Vec<_> = fs::read_dir(folder)
        .expect("a report")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(jobs.len(), 1, "one report in {}", folder.display());
    let json = fs::read_to_string(jobs[0].join("manifest.json")).expect("manifest.json");
    let manifest: Value = serde_json::from_str(&json).expect("JSON");
    let mut rows = Vec::new();
    for result in manifest["Results"].as_array().expect("Results") {
        let path = folder.join(result["Key"].as_str().expect("Key"));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for record in reader.records() {
            let record = record.expect("CSV");
            assert_eq!((record.len(), &record[0]), (7, BUCKET));
            rows.push(ReportRow {
                key: record[1].to_owned(),
                status: record[3].to_owned(),
                http_status: record[4].to_owned(),
                code: record[5].to_owned(),
                message: record[6].to_owned(),
            });
        }
    }
    rows
}
