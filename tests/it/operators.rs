//! What operators are handed, held against the code: Kubernetes manifests against the API's schema, our exit codes and our
//! command line, dashboards against the table of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, PodSpec, ServiceAccount};
use reseal::cli::{Cli, Command};
use reseal::config::Location;
use reseal::exit::Exit;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const JOB: &str = "manifests/base/job.yaml";
const CRON_JOB: &str = "manifests/overlays/cronjob/cronjob.yaml";

fn at(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = at(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below the folder with that extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The one document of a file, with no field that its type does not know.
fn strict<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut documents = serde_yaml_ng::Deserializer::from_str(text);
    let document = documents.next().ok_or("empty")?;
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()))
        .map_err(|error| error.to_string())?;
    if documents.next().is_some() {
        return Err("more than one document".to_owned());
    }
    if unknown.is_empty() {
        Ok(value)
    } else {
        Err(format!("unknown fields: {}", unknown.join(", ")))
    }
}

fn parsed<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    strict(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    namespace: String,
    #[serde(rename = "kind")]
    _kind: String,
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Target,
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    group: String,
    version: String,
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_tag: String,
}

fn is_kustomization(path: &Path) -> bool {
    path.ends_with("kustomization.yaml")
}

#[test]
fn every_manifest_is_of_the_schema_to_the_last_field() {
    for path in files(&at("manifests"), "yaml") {
        let text = read(&path);
        assert!(
            text.starts_with("# "),
            "{}: says at its head what it is",
            path.display()
        );
        assert!(
            text.contains("\n# Change"),
            "{}: says what to change",
            path.display()
        );
        if is_kustomization(&path) {
            continue;
        }
        let head: Head = serde_yaml_ng::from_str(&text).expect("apiVersion and kind");
        let checked = match (head.api_version.as_str(), head.kind.as_str()) {
            ("batch/v1", "Job") => strict::<Job>(&text).map(drop),
            ("batch/v1", "CronJob") => strict::<CronJob>(&text).map(drop),
            ("v1", "ServiceAccount") => strict::<ServiceAccount>(&text).map(drop),
            ("v1", "PersistentVolumeClaim") => strict::<PersistentVolumeClaim>(&text).map(drop),
            other => Err(format!("this test does not know {other:?}")),
        };
        assert_eq!(checked, Ok(()), "{}", path.display());
    }
}

#[test]
fn the_schema_check_can_fail() {
    let job = read(JOB);
    let typo = job.replace("backoffLimit:", "backOffLimit:");
    let error = strict::<Job>(&typo).expect_err("a field that does not exist");
    assert!(error.contains("backOffLimit"), "{error}");
    let deep = job.replace("readOnlyRootFilesystem:", "readOnlyRootFileSystem:");
    assert!(strict::<Job>(&deep).is_err());
    assert!(strict::<Job>(&format!("{job}---\n{job}")).is_err());
}

#[test]
fn kustomizations_name_every_file_and_no_other() {
    let all = files(&at("manifests"), "yaml");
    let mut referenced = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for path in all.iter().filter(|path| is_kustomization(path)) {
        let kustomization: Kustomization = parsed(path);
        assert_eq!(kustomization.api_version, "kustomize.config.k8s.io/v1beta1");
        namespaces.insert(kustomization.namespace);
        let folder = path.parent().expect("a folder");
        for resource in &kustomization.resources {
            let found = folder
                .join(resource)
                .canonicalize()
                .unwrap_or_else(|error| {
                    panic!("{}: {resource}: {error}", path.display());
                });
            let file = if found.is_dir() {
                found.join("kustomization.yaml")
            } else {
                found
            };
            assert!(
                file.is_file(),
                "{}: {resource} has no kustomization",
                path.display()
            );
            referenced.insert(file);
        }
        for image in &kustomization.images {
            assert_eq!(
                image.name,
                container(&job()).image.as_deref().expect("image")
            );
            assert_eq!(image.new_tag, env!("CARGO_PKG_VERSION"));
        }
        for patch in &kustomization.patches {
            check_deletes_the_job(patch);
        }
    }
    assert_eq!(namespaces.len(), 1, "one namespace everywhere");
    for path in all.iter().filter(|path| !is_kustomization(path)) {
        let path = path.canonicalize().expect("it exists");
        assert!(
            referenced.contains(&path),
            "{}: nobody names it",
            path.display()
        );
    }
}

/// The one patch that there is: the overlay takes the base's Job away.
fn check_deletes_the_job(patch: &Patch) {
    let name = parsed::<Job>(JOB).metadata.name.expect("a name");
    let target = &patch.target;
    assert_eq!(format!("{}/{}", target.group, target.version), "batch/v1");
    assert_eq!((target.kind.as_str(), &target.name), ("Job", &name));
    let body: BTreeMap<String, serde_yaml_ng::Value> =
        serde_yaml_ng::from_str(&patch.patch).expect("YAML");
    assert_eq!(body["$patch"], "delete");
    assert_eq!(body["kind"], "Job");
    assert_eq!(body["metadata"]["name"], name.as_str());
}

fn job() -> JobSpec {
    parsed::<Job>(JOB).spec.expect("spec")
}

fn pod(job: &JobSpec) -> &PodSpec {
    job.template.spec.as_ref().expect("a pod spec")
}

fn container(job: &JobSpec) -> &Container {
    let containers = &pod(job).containers;
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn args(job: &JobSpec) -> &[String] {
    container(job).args.as_deref().expect("args")
}

/// What the policy does with a pod that ended with that code, as Kubernetes decides it: the first rule that matches.
fn action(rules: &[PodFailurePolicyRule], code: i32) -> &str {
    let matches = |rule: &&PodFailurePolicyRule| {
        rule.on_exit_codes.as_ref().is_some_and(|on| {
            let is_listed = on.values.contains(&code);
            if on.operator == "In" {
                is_listed
            } else {
                !is_listed
            }
        })
    };
    rules
        .iter()
        .find(matches)
        .map_or("Count", |rule| rule.action.as_str())
}

#[test]
fn the_job_acts_on_our_exit_codes() {
    let job = job();
    let rules = job
        .pod_failure_policy
        .as_ref()
        .expect("podFailurePolicy")
        .rules
        .as_slice();
    for exit in Exit::ALL {
        let wanted = match exit {
            Exit::Complete => continue,
            Exit::Internal => "Count",
            Exit::Usage | Exit::RowsFailed | Exit::JobFailed | Exit::State => "FailJob",
            Exit::Interrupted => "Ignore",
        };
        assert_eq!(action(rules, exit.code().into()), wanted, "{exit:?}");
    }
    // 137: killed, most likely for its memory.
    assert_eq!(action(rules, 137), "Count");
}

/// Of an Indexed Job one shard's failed rows, or a pod that was replaced, must not stop the others.
#[test]
fn an_indexed_job_fails_by_index() {
    let readme = read("README.md");
    let from = readme
        .find("    spec:\n      completionMode: Indexed\n")
        .expect("it is in the README");
    let lines = readme[from..].lines();
    let snippet: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    let spec: BTreeMap<String, JobSpec> = strict(&snippet.join("\n")).expect("the API's schema");
    let job = &spec["spec"];
    assert_eq!(job.completion_mode.as_deref(), Some("Indexed"));
    assert_eq!(job.completions, job.parallelism);
    assert_eq!(pod(job).restart_policy.as_deref(), Some("Never"));
    assert_eq!(job.pod_replacement_policy.as_deref(), Some("Failed"));
    assert!(job.backoff_limit_per_index.is_some(), "FailIndex needs it");
    let policy = job.pod_failure_policy.as_ref().expect("podFailurePolicy");
    for rule in policy
        .rules
        .iter()
        .filter_map(|rule| rule.on_exit_codes.as_ref())
    {
        assert_eq!(rule.container_name.as_ref(), Some(&container(job).name));
    }
    for exit in Exit::ALL {
        let wanted = match exit {
            Exit::Complete => continue,
            Exit::Usage | Exit::JobFailed => "FailJob",
            Exit::RowsFailed => "FailIndex",
            Exit::Internal | Exit::State => "Count",
            Exit::Interrupted => "Ignore",
        };
        let found = action(&policy.rules, exit.code().into());
        assert_eq!(found, wanted, "{exit:?}");
    }
}

/// Rules that the API server checks and no schema tells.
/// Source: Kubernetes, pkg/apis/batch/validation, and "Handling retriable and non-retriable pod failures".
#[test]
fn the_job_is_one_that_the_api_server_takes() {
    let job = job();
    let rules = job
        .pod_failure_policy
        .as_ref()
        .expect("podFailurePolicy")
        .rules
        .as_slice();
    assert!(rules.len() <= 20);
    assert_eq!(
        pod(&job).restart_policy.as_deref(),
        Some("Never"),
        "podFailurePolicy needs it"
    );
    assert_eq!(
        job.pod_replacement_policy.as_deref(),
        Some("Failed"),
        "podFailurePolicy allows no other"
    );
    assert!(job.backoff_limit.is_some_and(|limit| limit > 0));
    let codes: BTreeSet<i32> = Exit::ALL.map(|exit| exit.code().into()).into();
    for rule in rules {
        match rule.action.as_str() {
            "FailIndex" => assert!(
                job.backoff_limit_per_index.is_some(),
                "FailIndex needs backoffLimitPerIndex"
            ),
            action => assert!(["FailJob", "Ignore", "Count"].contains(&action), "{action}"),
        }
        let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
        assert_ne!(
            rule.on_exit_codes.is_some(),
            !conditions.is_empty(),
            "exactly one of the two"
        );
        let Some(on) = &rule.on_exit_codes else {
            continue;
        };
        assert_eq!(on.container_name.as_ref(), Some(&container(&job).name));
        assert!(["In", "NotIn"].contains(&on.operator.as_str()));
        assert!((1..=255).contains(&on.values.len()));
        assert!(
            on.values.is_sorted_by(|a, b| a < b),
            "sorted and unique: {:?}",
            on.values
        );
        assert!(
            on.operator != "In" || !on.values.contains(&0),
            "0 is no failure"
        );
        let strange: Vec<_> = on
            .values
            .iter()
            .filter(|code| !codes.contains(code))
            .collect();
        assert!(strange.is_empty(), "not ours: {strange:?}");
    }
    // A disruption ends the pod with an exit code too: its rule must come before them.
    let first = rules[0].on_pod_conditions.as_deref().unwrap_or_default();
    assert_eq!(first.len(), 1);
    assert_eq!(
        (first[0].type_.as_str(), first[0].status.as_str()),
        ("DisruptionTarget", "True")
    );
    assert_eq!(rules[0].action, "Ignore");
}

/// Source: Kubernetes, "Pod Security Standards", profile *Restricted*.
#[test]
fn the_pod_is_restricted() {
    let job = job();
    let (pod, container) = (pod(&job), container(&job));
    let context = pod.security_context.as_ref().expect("securityContext");
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(
        (context.run_as_user, context.run_as_group),
        (Some(65532), Some(65532))
    );
    assert_eq!(
        context.fs_group,
        Some(65532),
        "the state's volume must be writable"
    );
    let seccomp = context
        .seccomp_profile
        .as_ref()
        .map(|profile| profile.type_.as_str());
    assert_eq!(seccomp, Some("RuntimeDefault"));
    let own = container
        .security_context
        .as_ref()
        .expect("securityContext");
    assert_eq!(own.allow_privilege_escalation, Some(false));
    assert_eq!(own.read_only_root_filesystem, Some(true));
    let capabilities = own.capabilities.as_ref().expect("capabilities");
    assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
    assert_eq!(capabilities.add, None);
    assert_eq!(pod.automount_service_account_token, Some(false));
    let resources = container.resources.as_ref().expect("resources");
    let memory =
        |of: &Option<BTreeMap<String, _>>| of.as_ref().and_then(|of| of.get("memory").cloned());
    assert!(memory(&resources.limits).is_some());
    assert_eq!(memory(&resources.limits), memory(&resources.requests));
}

#[test]
fn what_the_pod_refers_to_exists() {
    let job = job();
    let (pod, container) = (pod(&job), container(&job));
    let account: ServiceAccount = parsed("manifests/base/serviceaccount.yaml");
    assert_eq!(pod.service_account_name, account.metadata.name);
    let claim: PersistentVolumeClaim = parsed("manifests/base/pvc.yaml");
    let volumes = pod.volumes.as_deref().expect("volumes");
    let claims: Vec<_> = volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .collect();
    assert_eq!(claims.len(), 1);
    assert_eq!(Some(&claims[0].claim_name), claim.metadata.name.as_ref());

    let mounts = container.volume_mounts.as_deref().expect("volumeMounts");
    let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
    let declared: BTreeSet<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(mounted, declared);
    // Without --state the state is below the working directory, which must be the claim's.
    let state = volumes
        .iter()
        .find(|volume| volume.persistent_volume_claim.is_some())
        .expect("checked");
    let path = mounts
        .iter()
        .find(|mount| mount.name == state.name)
        .map(|mount| mount.mount_path.as_str());
    assert_eq!(container.working_dir.as_deref(), path);
    assert!(args(&job).iter().all(|arg| !arg.starts_with("--state")));

    let ports = container.ports.as_deref().expect("ports");
    let port = ports[0].container_port.to_string();
    let listen = args(&job)
        .iter()
        .find_map(|arg| arg.strip_prefix("--metrics-listen="));
    assert_eq!(listen, Some(format!("0.0.0.0:{port}").as_str()));
    let annotations = job
        .template
        .metadata
        .as_ref()
        .and_then(|meta| meta.annotations.as_ref());
    assert_eq!(
        annotations.expect("annotations").get("prometheus.io/port"),
        Some(&port)
    );
}

#[test]
fn no_secret_is_written_down() {
    let job = job();
    for env in container(&job).env.iter().flatten() {
        let is_secret = ["SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"]
            .iter()
            .any(|word| env.name.contains(word));
        assert!(
            !(is_secret && env.value.is_some()),
            "{}: from a Secret",
            env.name
        );
    }
    for arg in args(&job) {
        assert!(
            !arg.contains("AKIA") && !arg.to_lowercase().contains("secret"),
            "{arg}"
        );
    }
}

#[test]
fn the_cron_job_is_the_job_on_a_schedule() {
    let cron: CronJob = parsed(CRON_JOB);
    let name = cron.metadata.name.expect("a name");
    assert!(
        name.len() <= 52,
        "the controller appends 11 characters to make a Job's name of at most 63"
    );
    let spec = cron.spec.expect("spec");
    assert_eq!(spec.concurrency_policy.as_deref(), Some("Forbid"));
    assert!(
        spec.time_zone.is_some_and(|zone| zone.contains('/')),
        "else it is the controller's"
    );
    assert_eq!(spec.schedule.split(' ').count(), 5, "{}", spec.schedule);
    assert!(
        !spec.schedule.contains("TZ="),
        "timeZone and TZ= exclude each other"
    );
    // Below ten seconds a run may be missed: the controller looks every ten.
    assert!(
        spec.starting_deadline_seconds
            .is_some_and(|deadline| deadline >= 10)
    );

    let without_manifest = |mut job: JobSpec| {
        let container = &mut job.template.spec.as_mut().expect("a pod spec").containers[0];
        let args = container.args.as_mut().expect("args");
        args.retain(|arg| !arg.starts_with("--manifest="));
        job
    };
    let cron_job = spec.job_template.spec.expect("spec");
    assert_eq!(args(&cron_job).len(), args(&job()).len());
    assert_eq!(without_manifest(cron_job), without_manifest(job()));
}

#[test]
fn the_args_are_ones_that_reseal_takes() {
    let cron = parsed::<CronJob>(CRON_JOB)
        .spec
        .and_then(|spec| spec.job_template.spec);
    for job in [job(), cron.expect("spec")] {
        let typed = std::iter::once("reseal").chain(args(&job).iter().map(String::as_str));
        let cli = Cli::try_parse_from(typed).unwrap_or_else(|error| panic!("{error}"));
        let Command::Run(run) = cli.command else {
            panic!("not `reseal run`");
        };
        assert!(
            matches!(run.manifest, Location::S3 { .. }),
            "a pod has no files of its own"
        );
        assert!(
            matches!(run.report, Some(Location::S3 { .. })),
            "the report outlives the volume"
        );
        assert_eq!(run.state, None, "a folder for each job");
    }
}
