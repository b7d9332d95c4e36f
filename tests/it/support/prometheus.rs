//! A real Prometheus and a real Pushgateway, as Debian has them: the one scrapes what a test tells it to, the other among it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::url_encode;

/// Longest wait until it answers.
const START_MAX: Duration = Duration::from_secs(20);

const PUSHGATEWAY: &str = "prometheus-pushgateway";

/// Whether all of it is here. Where it is not there is a line on standard error; in CI that is a failure.
pub fn is_installed(test: &str) -> bool {
    let programs = ["prometheus", "promtool", PUSHGATEWAY];
    let missing = programs.into_iter().find(|program| {
        let mut command = Command::new(program);
        command.arg("--version");
        !command.output().is_ok_and(|output| output.status.success())
    });
    let Some(missing) = missing else {
        return true;
    };
    let required = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!required, "CI=true and there is no {missing}");
    // Past the test harness, which keeps to itself what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no {missing}");
    false
}

/// `promtool`, which must find nothing wrong.
#[track_caller]
pub fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("taken");
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("it ends");
    let told = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        status.success(),
        "promtool {args:?}: {status}\n{}",
        told.concat()
    );
}

/// What a server answers to a GET, from the status line on.
fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn body(answer: &str) -> String {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

/// A page of metrics.
pub fn scrape(addr: SocketAddr) -> String {
    body(&get(addr, "/metrics").expect("the page"))
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A server that answers when it is ready, and ends with the test.
struct Server {
    addr: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Server {
    fn start(program: &str, folder: TempDir, args: &[String]) -> Self {
        let addr = free_port();
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(program)
            .arg(format!("--web.listen-address={addr}"))
            .arg("--log.level=warn")
            .args(args)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        let server = Self {
            addr,
            child,
            folder,
        };
        let begun = Instant::now();
        while !get(addr, "/-/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.0 200 ")) {
            assert!(begun.elapsed() < START_MAX, "{program}: {}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running Pushgateway.
pub struct Pushgateway(Server);

impl Pushgateway {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Debian's keeps what it has, for all of the machine, where nothing else is said.
        let data = folder.path().join("data");
        let args = [format!("--persistence.file={}", data.display())];
        Self(Server::start(PUSHGATEWAY, folder, &args))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.addr)
    }
}

/// A running Prometheus.
pub struct Prometheus(Server);

impl Prometheus {
    /// Scrapes and evaluates rules every second. A target is a pod's name and its address.
    pub fn start(
        targets: &[(String, SocketAddr)],
        pushgateway: &Pushgateway,
        rules: &Path,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - job_name: pushed\n  honor_labels: true\n  static_configs: [targets: [\"{}\"]]\n\
             - job_name: reseal\n  static_configs:\n",
            rules.display(),
            pushgateway.0.addr,
        );
        for (pod, addr) in targets {
            let labels = format!("{{namespace: batch, pod: {pod}}}");
            config += &format!("  - targets: [\"{addr}\"]\n    labels: {labels}\n");
        }
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("written");
        let data = folder.path().join("data");
        let args = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", data.display()),
        ];
        Self(Server::start("prometheus", folder, &args))
    }

    /// The `data` of an answer of its API.
    #[track_caller]
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={}", url_encode(value)))
            .collect();
        let path = format!("/api/v1/{path}?{}", parameters.join("&"));
        let answer = body(&get(self.0.addr, &path).expect("an answer"));
        let mut answer: Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{path}: {error}: {answer}\n{}", self.0.log()));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }
}
