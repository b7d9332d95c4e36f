//! Ends that come from outside: how long the way to them takes, and what is left for the next run.

use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::support::faults::{Fault, Proxy, Weather};
use crate::support::objects;
use crate::support::{Job, Run, Store, finish, send};

/// The bound that most of these runs are given, and what a process takes for itself on a busy machine.
const DRAIN: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(5);

struct Setup {
    store: Store,
    keys: Vec<String>,
    arn: String,
}

impl Setup {
    async fn with_objects(count: usize) -> Self {
        let store = Store::start().await;
        let keys: Vec<_> = (0..count).map(|n| format!("object/{n}")).collect();
        objects::put_many(&store.client, &keys).await;
        let arn = store.add_kms_key(None);
        Self { store, keys, arn }
    }

    fn target(&self, job: Job) -> Job {
        job.args("--to sse-kms --kms-key-id").args(&self.arn)
    }

    fn job(&self) -> Job {
        self.target(self.store.job(&self.keys))
    }

    fn behind(&self, weather: Weather) -> (Proxy, Job) {
        let proxy = Proxy::start(self.store.s3.addr(), weather);
        let job = self.job().args("--endpoint-url").args(&proxy.url());
        (proxy, job)
    }
}

/// Sends SIGTERM, and holds that the process ends within its bound, and not before `least`.
#[track_caller]
fn terminated(child: Child, least: Duration) -> Run {
    send(&child, Signal::SIGTERM);
    let begun = Instant::now();
    let run = finish(child).expect(75);
    let took = begun.elapsed();
    assert!((least..DRAIN + SLACK).contains(&took), "{took:?}");
    run
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_in_time_and_looked_at_by_the_next_run() {
    let setup = Setup::with_objects(20).await;
    let (proxy, job) = setup.behind(Weather::SilentCopies);
    let job = job.args("--drain-timeout 2s");
    let child = job.command().spawn().expect("it starts");
    while proxy.seen().requests.get("COPY") != Some(&20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let run = terminated(child, DRAIN / 2).says(&["SIGTERM", "20 in flight"]);
    assert_eq!(run.summary()["status"], "interrupted");
    assert_eq!(run.count("succeeded") + run.count("failed"), 0);
    let run = job.run().expect(0);
    assert_eq!(run.summary()["skips"]["done-before-interruption"], 20);
    assert!(setup.store.copies().values().all(|copies| *copies == 1));
}

/// Nothing is in flight there that could have changed something: nobody waits.
#[tokio::test]
async fn before_the_first_row_a_silent_store_holds_nobody_up() {
    let setup = Setup::with_objects(1).await;
    let (proxy, job) = setup.behind(Weather::Rule(|_, _| Some(Fault::Held)));
    let job = job.args("--drain-timeout 1h");
    let child = job.command().spawn().expect("it starts");
    proxy.wait_for(Fault::Held);
    terminated(child, Duration::ZERO);
    // The manifest is there, too.
    let job = setup.target(setup.store.job(&[""; 0]));
    let job = job
        .args("--manifest s3://bucket/list.csv --endpoint-url")
        .args(&proxy.url());
    let child = job.command().spawn().expect("it starts");
    while proxy.seen().requests.get("HEAD") != Some(&1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    terminated(child, Duration::ZERO).says(&["interrupted while preparing"]);
}

/// A pipe that nobody writes to in place of a file that is read where nothing else can happen meanwhile.
#[tokio::test]
async fn what_can_not_be_stopped_does_not_hold_up_the_end() {
    let setup = Setup::with_objects(1).await;
    let job = setup.job().args("--drain-timeout 500ms");
    let pipe = job.path("aws-config");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let job = job.env("AWS_CONFIG_FILE", &pipe.display().to_string());
    let mut child = job.command().spawn().expect("it starts");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        assert_eq!(child.try_wait().expect("asked"), None, "the pipe is read");
        std::thread::sleep(Duration::from_millis(20));
    }
    terminated(child, DRAIN / 4).says(&["still has not answered", "hint: "]);
}

#[tokio::test]
async fn a_run_that_has_no_more_time_drains_and_the_same_command_continues() {
    let setup = Setup::with_objects(60).await;
    let job = setup.job().args("--rate 12 --max-duration 2s");
    let begun = Instant::now();
    let run = job.run().expect(75);
    assert!(begun.elapsed() < DRAIN + SLACK, "{:?}", begun.elapsed());
    let run = run.says(&["rows are admitted until", "(--max-duration is over)"]);
    let first = run.count("succeeded");
    assert!(first < 60, "{first}");
    assert!(!job.path("report").exists());

    // The earlier of both.
    let soon = SystemTime::now() + Duration::from_millis(2_500);
    let soon = jiff::Timestamp::try_from(soon)
        .expect("in range")
        .to_string();
    let job = setup.target(job.without_args());
    let job = job.args("--rate 8 --max-duration 1h --until").args(&soon);
    let run = job.run().expect(75).says(&["the time of --until has come"]);
    assert_eq!(run.count("already_settled"), first);
    assert!((first..60).contains(&run.count("succeeded")));

    // What is over by now is no time to run until.
    job.run().expect(2).says(&["--until", "is over", "hint: "]);
    let run = setup.target(job.without_args()).run().expect(0);
    assert_eq!(run.count("succeeded"), 60);
    assert!(setup.store.copies().values().all(|copies| *copies == 1));
}

/// The last rows end while the run drains: the shard is not finished without its report.
#[tokio::test]
async fn a_job_that_lacks_only_its_report_is_75_and_the_same_command_writes_it() {
    let setup = Setup::with_objects(3).await;
    let copies_wait = |line: &str, attempt: u64| {
        (line.starts_with("PUT ") && attempt == 1).then_some(Fault::Held)
    };
    let (proxy, job) = setup.behind(Weather::Rule(copies_wait));
    let child = job.command().spawn().expect("it starts");
    while proxy.seen().faults.get(&Fault::Held) != Some(&3) {
        std::thread::sleep(Duration::from_millis(5));
    }
    send(&child, Signal::SIGTERM);
    // It waits for what is in flight, and gets it.
    std::thread::sleep(Duration::from_millis(300));
    proxy.let_go();
    let run = finish(child).expect(75);
    assert_eq!(run.count("succeeded"), 3);
    assert_eq!(run.summary()["status"], "interrupted");
    assert!(!job.path("report").exists());
    let requests = setup.store.s3.requests();
    let run = job.run().expect(0);
    assert_eq!(run.count("already_settled"), 3);
    assert_eq!(job.report().len(), 3);
    assert_eq!(setup.store.s3.requests(), requests);
}

#[tokio::test]
async fn limits_that_make_no_sense_are_2() {
    let setup = Setup::with_objects(1).await;
    for (flag, value, phrase) in [
        ("--until", "25:00", "\"25:00\" is no time"),
        (
            "--until",
            "06:00 Mars/Base",
            "\"Mars/Base\" is no time zone",
        ),
        ("--until", "2020-01-01T00:00:00Z", "is over"),
        ("--until", "06:00", "TZ names none"),
        ("--max-duration", "0s", "leaves no time"),
        ("--stop-on", "AccessDenied,", "an empty code"),
        ("--stop-on", "", "an empty code"),
    ] {
        let job = setup.job().env("TZ", "Mars/Base").arg(flag, value);
        job.run().expect(2).says(&[flag, phrase]);
    }
    for zone in ["America/New_York", ""] {
        let job = setup.job().env("TZ", zone).arg("--until", "06:00");
        let run = job.run().expect(0).says(&["until ", " 06:00:00 "]);
        let is_utc = run.stderr.contains("06:00:00 +00:00");
        assert_eq!(is_utc, zone.is_empty(), "{}", run.stderr);
    }
}
