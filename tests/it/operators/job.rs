//! When pods are started again: by exit code, by index, by the clock. Rules that the API server checks and no schema tells, and ours.
//! Sources: Kubernetes, pkg/apis/batch/validation/validation.go; "Jobs"; "Handling retriable and non-retriable pod failures".

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, JobSpec, PodFailurePolicyRule};
use reseal::exit::Exit;

use super::args::run_args;
use super::{Setup, container, pod, runs, runs_and_base};

/// Most rules of a policy.
const RULES_MAX: usize = 20;
/// Most codes of a rule.
const CODES_MAX: usize = 255;
/// Most completions of an Indexed Job whose failed indexes are bounded, and most pods of it at a time.
const INDEXES_MAX: i32 = 100_000;
/// Longest DNS label: a pod's host name.
const LABEL_MAX: usize = 63;
/// What a CronJob adds to its name for a Job's: a dash and ten digits.
const CRON_SUFFIX: usize = 11;

fn rules(job: &JobSpec) -> &[PodFailurePolicyRule] {
    let policy = job.pod_failure_policy.as_ref();
    &policy.expect("podFailurePolicy").rules
}

/// What the policy does with a pod that ended with that code, as Kubernetes decides it: the first rule that matches.
fn action(rules: &[PodFailurePolicyRule], code: i32) -> &str {
    let matches = |rule: &&PodFailurePolicyRule| {
        rule.on_exit_codes.as_ref().is_some_and(|on| {
            let is_listed = on.values.contains(&code);
            is_listed == (on.operator == "In")
        })
    };
    let rule = rules.iter().find(matches);
    rule.map_or("Count", |rule| rule.action.as_str())
}

#[test]
fn every_job_acts_on_our_exit_codes() {
    for setup in runs_and_base() {
        let job = setup.job();
        let rules = rules(&job);
        for exit in Exit::ALL {
            let wanted = match exit {
                Exit::Complete => continue,
                Exit::Internal => "Count",
                Exit::Usage | Exit::JobFailed | Exit::State => "FailJob",
                Exit::RowsFailed => "FailIndex",
                Exit::Interrupted => "Ignore",
            };
            let found = action(rules, exit.code().into());
            assert_eq!(found, wanted, "{setup}: {exit:?}");
        }
        // 137: killed, most likely for its memory.
        assert_eq!(action(rules, 137), "Count", "{setup}");
    }
}

/// What the API server would refuse of a Job, and codes that are not ours. Empty where it takes it.
fn faults(job: &JobSpec, name_bytes: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let is_indexed = job.completion_mode.as_deref() == Some("Indexed");
    let (completions, parallelism) = (job.completions.unwrap_or(1), job.parallelism.unwrap_or(1));
    let per_index = job.backoff_limit_per_index;
    must(
        !is_indexed || job.completions.is_some(),
        "Indexed needs completions",
    );
    must(
        (1..=INDEXES_MAX).contains(&completions) && (1..=INDEXES_MAX).contains(&parallelism),
        "completions and parallelism within bounds",
    );
    must(
        per_index.is_none() || is_indexed,
        "backoffLimitPerIndex needs Indexed",
    );
    must(
        per_index.is_none_or(|limit| limit >= 0),
        "backoffLimitPerIndex below 0",
    );
    must(
        job.max_failed_indexes.is_none() || per_index.is_some(),
        "maxFailedIndexes needs backoffLimitPerIndex",
    );
    must(
        job.max_failed_indexes
            .is_none_or(|max| (0..=completions).contains(&max)),
        "maxFailedIndexes is at most completions",
    );
    let index_bytes = (completions - 1).to_string().len();
    must(
        name_bytes + 1 + index_bytes <= LABEL_MAX,
        "the name of the last index's pod is a DNS label",
    );
    must(
        job.active_deadline_seconds
            .is_none_or(|seconds| seconds > 0),
        "activeDeadlineSeconds is above 0",
    );
    must(
        job.ttl_seconds_after_finished
            .is_none_or(|seconds| seconds >= 0),
        "ttlSecondsAfterFinished below 0",
    );
    must(
        pod(job).restart_policy.as_deref() == Some("Never"),
        "podFailurePolicy needs restartPolicy Never",
    );
    must(
        job.pod_replacement_policy
            .as_deref()
            .is_none_or(|policy| policy == "Failed"),
        "podFailurePolicy allows no other podReplacementPolicy",
    );
    let rules = rules(job);
    must(rules.len() <= RULES_MAX, "too many rules");
    for rule in rules {
        must(
            ["FailJob", "FailIndex", "Ignore", "Count"].contains(&rule.action.as_str()),
            "an action that does not exist",
        );
        must(
            rule.action != "FailIndex" || per_index.is_some(),
            "FailIndex needs backoffLimitPerIndex",
        );
        let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
        must(
            rule.on_exit_codes.is_some() == conditions.is_empty(),
            "a rule has either exit codes or conditions",
        );
        let Some(on) = &rule.on_exit_codes else {
            continue;
        };
        must(
            on.container_name.as_ref() == Some(&container(job).name),
            "there is no such container",
        );
        must(
            ["In", "NotIn"].contains(&on.operator.as_str()),
            "an operator that does not exist",
        );
        must(
            (1..=CODES_MAX).contains(&on.values.len()),
            "no codes, or too many",
        );
        must(
            on.values.is_sorted_by(|a, b| a < b),
            "codes are sorted and unique",
        );
        must(
            on.operator != "In" || !on.values.contains(&0),
            "0 is no failure",
        );
        let ours = |code: &i32| Exit::ALL.iter().any(|exit| i32::from(exit.code()) == *code);
        must(on.values.iter().all(ours), "a code that is not ours");
    }
    faults
}

/// Bytes of the Job's name.
fn name_bytes(setup: &Setup) -> usize {
    let named = |kind: &str| setup.resources.iter().find(|one| one["kind"] == kind);
    let (resource, suffix) = match named("CronJob") {
        Some(cron) => (cron, CRON_SUFFIX),
        None => (named("Job").expect("one of the two"), 0),
    };
    let name = resource["metadata"]["name"].as_str();
    name.expect("a name").len() + suffix
}

#[test]
fn every_job_is_one_that_the_api_server_takes() {
    for setup in runs_and_base() {
        let none: [&str; 0] = [];
        assert_eq!(faults(&setup.job(), name_bytes(&setup)), none, "{setup}");
    }
}

#[test]
fn a_job_that_it_would_not_take_is_found() {
    type Break = fn(&mut JobSpec);
    let breaks: [(Break, &str); 9] = [
        (
            |job| job.backoff_limit_per_index = None,
            "FailIndex needs backoffLimitPerIndex",
        ),
        (
            |job| job.completion_mode = None,
            "backoffLimitPerIndex needs Indexed",
        ),
        (
            |job| job.max_failed_indexes = Some(2),
            "maxFailedIndexes is at most completions",
        ),
        (
            |job| job.pod_replacement_policy = Some("TerminatingOrFailed".to_owned()),
            "podFailurePolicy allows no other podReplacementPolicy",
        ),
        (
            |job| pod_of(job).restart_policy = Some("OnFailure".to_owned()),
            "podFailurePolicy needs restartPolicy Never",
        ),
        (
            |job| pod_of(job).containers[0].name = "other".to_owned(),
            "there is no such container",
        ),
        (|job| codes_of(job).reverse(), "codes are sorted and unique"),
        (|job| codes_of(job).insert(0, 0), "0 is no failure"),
        (|job| codes_of(job).push(77), "a code that is not ours"),
    ];
    let base = Setup::build(super::BASE).job();
    for (damage, fault) in breaks {
        let mut job = base.clone();
        damage(&mut job);
        let found = faults(&job, "reseal".len());
        assert!(
            found.iter().any(|found| found == fault),
            "{fault}: {found:?}"
        );
    }
    let long = "the name of the last index's pod is a DNS label";
    assert_eq!(faults(&base, 51 + CRON_SUFFIX), [long]);
    assert!(faults(&base, 50 + CRON_SUFFIX).is_empty());
}

fn pod_of(job: &mut JobSpec) -> &mut k8s_openapi::api::core::v1::PodSpec {
    job.template.spec.as_mut().expect("a pod spec")
}

fn codes_of(job: &mut JobSpec) -> &mut Vec<i32> {
    let rules = &mut job.pod_failure_policy.as_mut().expect("a policy").rules;
    let codes = rules
        .iter_mut()
        .find_map(|rule| rule.on_exit_codes.as_mut());
    &mut codes.expect("a rule with codes").values
}

#[test]
fn a_disruption_comes_before_its_exit_code() {
    for setup in runs_and_base() {
        let job = setup.job();
        let first = &rules(&job)[0];
        let conditions = first.on_pod_conditions.as_deref().unwrap_or_default();
        assert_eq!(conditions.len(), 1, "{setup}");
        let (kind, status) = (&conditions[0].type_, &conditions[0].status);
        assert_eq!(
            (kind.as_str(), status.as_str()),
            ("DisruptionTarget", "True")
        );
        assert_eq!(first.action, "Ignore", "{setup}");
    }
}

/// Of an Indexed Job one shard's failed rows, or a pod that was replaced, must not stop the others.
#[test]
fn an_indexed_job_fails_by_index() {
    for setup in runs_and_base() {
        let job = setup.job();
        assert_eq!(job.completion_mode.as_deref(), Some("Indexed"), "{setup}");
        assert_eq!(job.completions, job.parallelism, "{setup}: no shard waits");
        assert_eq!(job.max_failed_indexes, job.completions, "{setup}");
        assert!(job.backoff_limit_per_index.is_some_and(|limit| limit > 0));
        assert_eq!(job.pod_replacement_policy.as_deref(), Some("Failed"));
        assert!(job.ttl_seconds_after_finished.is_some_and(|ttl| ttl > 3600));
    }
}

fn cron(setup: &Setup) -> Option<CronJobSpec> {
    let found = setup.all::<CronJob>("CronJob").pop();
    found.map(|cron| cron.spec.expect("spec"))
}

#[test]
fn the_cron_job_is_the_job_on_a_schedule() {
    let of = |name: &str| Setup::build(&format!("manifests/overlays/{name}"));
    let mut cron = of("cronjob-shards").job();
    assert!(cron.active_deadline_seconds.take().is_some());
    let args = pod_of(&mut cron).containers[0].args.as_mut();
    let added = ["--pushgateway=", "--until="];
    let is_added = |arg: &String| added.iter().any(|added| arg.starts_with(added));
    let args = args.expect("args");
    assert_eq!(args.extract_if(.., |arg| is_added(arg)).count(), 2);
    let mut job = of("shards").job();
    for of in [&mut cron, &mut job] {
        let args = pod_of(of).containers[0].args.as_mut().expect("args");
        assert!(args.remove(1).starts_with("--manifest="));
    }
    assert_eq!(cron, job);
}

/// The end of the window that Kubernetes knows is the one that reseal knows: only so it can tell whether it will be in time.
#[test]
fn the_run_knows_when_its_window_ends() {
    for setup in runs() {
        let Some(spec) = cron(&setup) else {
            continue;
        };
        let job = setup.job();
        let fields: Vec<_> = spec.schedule.split(' ').collect();
        let [minute, hour] = [fields[0], fields[1]].map(|field| {
            let number: i64 = field.parse().expect("once a day");
            number
        });
        let window = job.active_deadline_seconds.expect("a window");
        let end = (hour * 3_600 + minute * 60 + window) % 86_400;
        let (hour, minute) = (end / 3_600, end % 3_600 / 60);
        let zone = spec.time_zone.expect("a zone");
        let wanted = format!("{hour:02}:{minute:02} {zone}");
        assert_eq!(run_args(&job).limits.until, Some(wanted), "{setup}");
    }
}

/// Whether a field of a schedule is made of numbers within bounds, `*`, ranges, steps and lists.
fn is_field(text: &str, (low, high): (u32, u32)) -> bool {
    let number = |text: &str| text.parse().is_ok_and(|n: u32| (low..=high).contains(&n));
    text.split(',').all(|item| {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let is_step = step.parse().is_ok_and(|n: u32| n > 0);
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        is_step && (range == "*" || (number(from) && number(to)))
    })
}

fn is_schedule(text: &str) -> bool {
    let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    let fields: Vec<_> = text.split(' ').collect();
    let mut both = fields.iter().zip(bounds);
    fields.len() == bounds.len() && both.all(|(field, bounds)| is_field(field, bounds))
}

#[test]
fn schedules_are_told_from_their_like() {
    for good in ["0 22 * * *", "*/5 0-6 1,15 * 1-5"] {
        assert!(is_schedule(good), "{good}");
    }
    for bad in [
        "0 24 * * *",
        "0 22 * *",
        "0 22 0 * *",
        "TZ=UTC 0 22 * * *",
        "*/0 * * * *",
    ] {
        assert!(!is_schedule(bad), "{bad}");
    }
}

#[test]
fn cron_jobs_keep_the_clock() {
    let crons: Vec<_> = runs()
        .iter()
        .filter_map(|setup| Some((setup.to_string(), cron(setup)?)))
        .collect();
    assert!(crons.len() > 1);
    for (setup, spec) in crons {
        assert!(is_schedule(&spec.schedule), "{setup}: {}", spec.schedule);
        let zone = spec.time_zone.expect("else it is the controller's");
        assert!(TimeZone::get(&zone).is_ok(), "{setup}: no zone {zone}");
        assert_eq!(spec.concurrency_policy.as_deref(), Some("Forbid"));
        // Below ten seconds a run may be missed: the controller looks every ten.
        let deadline = spec.starting_deadline_seconds;
        assert!(deadline.is_some_and(|seconds| seconds >= 10), "{setup}");
        let job = spec.job_template.spec.expect("spec");
        assert!(job.active_deadline_seconds.is_some(), "{setup}: a window");
    }
    assert!(TimeZone::get("Europe/Belrin").is_err());
}

#[test]
fn every_comment_on_an_exit_code_is_right() {
    let text = super::read("manifests/base/job.yaml");
    let told: BTreeSet<u8> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("# "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()))
        .flat_map(|line| line.split([' ', ',']).filter_map(|word| word.parse().ok()))
        .collect();
    let wanted = [Exit::Usage, Exit::RowsFailed, Exit::JobFailed, Exit::State];
    let mut wanted: BTreeSet<u8> = wanted.map(Exit::code).into();
    wanted.insert(Exit::Interrupted.code());
    assert_eq!(told, wanted);
}

#[test]
fn the_docs_tell_how_each_exit_code_ends() {
    let text = super::read("docs/kubernetes.md");
    let (_, section) = text.split_once("\n## How a job ends\n").expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = cells.filter_map(|row| row.split('|').next());
    let words = cells.flat_map(|cell| cell.split(|c: char| !c.is_ascii_digit()));
    let told: BTreeSet<u8> = words.filter_map(|word| word.parse().ok()).collect();
    let mut wanted: BTreeSet<u8> = Exit::ALL.map(Exit::code).into();
    wanted.insert(137);
    assert_eq!(told, wanted);
}
