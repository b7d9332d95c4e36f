//! moto: an S3 that this project did not write, in a virtual environment that is made when it is needed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region};

use super::BUCKET;

/// Pinned: the tests hold what this version gets right and wrong.
const REQUIREMENT: &str = "moto[server]==5.2.5";

/// Serves until its standard input ends, so that it never outlives the test.
const SERVER: &str = "
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger('werkzeug').setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
";

/// A Python that has moto, or why there is none.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    if let Some(python) = std::env::var_os("RESEAL_TEST_PYTHON") {
        return Ok(PathBuf::from(python));
    }
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto-venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENT) {
        return Ok(python);
    }
    // The first that works: a half-made environment is made again.
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&venv))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", REQUIREMENT]))?;
    fs::write(&stamp, REQUIREMENT).map_err(|error| error.to_string())?;
    Ok(python)
});

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = told.lines().last().unwrap_or_default();
    Err(format!("{command:?}: {}: {last}", output.status))
}

/// A running moto with one bucket.
pub struct Moto {
    pub client: Client,
    pub url: String,
    server: Child,
}

impl Moto {
    /// `None`, with a line on standard error, where there is no Python with moto; in CI that is a failure.
    pub async fn start(test: &str) -> Option<Self> {
        let python = match &*PYTHON {
            Ok(python) => python,
            Err(why) => {
                let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!required, "CI=true and there is no moto: {why}");
                // Past the test harness, which keeps to itself what a passing test prints.
                let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no moto: {why}");
                return None;
            }
        };
        let mut server = Command::new(python)
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        let stdout = server.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("an address");
        let (host, port) = line.trim().split_once(' ').expect("host and port");
        let url = format!("http://{host}:{port}");
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&url)
            .credentials_provider(Credentials::new("AKIAMOTO", "secret", None, None, "test"))
            .force_path_style(true)
            .build();
        let client = Client::from_conf(config);
        let moto = Self {
            client,
            url,
            server,
        };
        let bucket = moto.client.create_bucket().bucket(BUCKET);
        bucket.send().await.expect("a bucket");
        Some(moto)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
