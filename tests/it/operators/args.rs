//! What the pods are told to do, parsed by our own command line.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser as _;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use reseal::cli::{Cli, Command, RunArgs};
use reseal::config::Location;

use super::{Setup, container, pod, read, runs, runs_and_base};

pub(super) fn run_args(job: &JobSpec) -> RunArgs {
    let args = container(job).args.as_deref().expect("args");
    let typed = std::iter::once("reseal").chain(args.iter().map(String::as_str));
    let cli = Cli::try_parse_from(typed).unwrap_or_else(|error| panic!("{error}"));
    match cli.command {
        Command::Run(run) => *run,
        other => panic!("not `reseal run`: {other:?}"),
    }
}

#[test]
fn the_args_are_ones_that_reseal_takes() {
    for setup in runs_and_base() {
        let job = setup.job();
        assert_eq!(container(&job).command, None, "{setup}: the image's own");
        let run = run_args(&job);
        let is_in_s3 = |location: &Location| matches!(location, Location::S3 { .. });
        assert!(
            is_in_s3(&run.manifest),
            "{setup}: a pod has no files of its own"
        );
        assert!(
            run.report.as_ref().is_some_and(is_in_s3),
            "{setup}: it outlives the pod"
        );
        run.limits.limits().expect("limits");
        run.budgets.budgets().expect("budgets");
    }
}

#[test]
fn the_shards_are_those_of_the_job() {
    for setup in runs_and_base() {
        let job = setup.job();
        let shards = run_args(&job).shards;
        let completions = u32::try_from(job.completions.expect("completions")).expect("some");
        assert_eq!(shards.shards.unwrap_or(1), completions, "{setup}");
        for index in 0..completions {
            let shard = shards.shard(Some(&index.to_string())).expect("one of them");
            assert_eq!((shard.index, shard.count), (index, completions), "{setup}");
        }
        let beyond = shards.shard(Some(&completions.to_string()));
        assert!(beyond.is_err() || completions == 1, "{setup}");
    }
}

/// In S3, or below the working directory, which is the claim's then: a folder for each job.
#[test]
fn the_state_outlives_the_pod() {
    for setup in runs() {
        let job = setup.job();
        let (pod, container) = (pod(&job), container(&job));
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        let claims: Vec<_> = volumes
            .iter()
            .filter_map(|volume| Some((&volume.name, volume.persistent_volume_claim.as_ref()?)))
            .collect();
        match run_args(&job).state {
            Some(Location::S3 { .. }) => assert!(claims.is_empty(), "{setup}"),
            Some(other) => panic!("{setup}: a state in {other:?}"),
            None => {
                assert_eq!(claims.len(), 1, "{setup}");
                let (name, claim) = claims[0];
                let mut made = setup.all::<PersistentVolumeClaim>("PersistentVolumeClaim");
                let made = made.pop().expect("the claim");
                assert_eq!(made.metadata.name.as_ref(), Some(&claim.claim_name));
                let mounts = container.volume_mounts.as_deref().expect("volumeMounts");
                let mount = mounts.iter().find(|mount| &mount.name == name);
                let path = mount.map(|mount| &mount.mount_path);
                assert_eq!(container.working_dir.as_ref(), path, "{setup}");
                assert_eq!(job.completions, Some(1), "{setup}: one pod mounts it");
            }
        }
    }
}

/// The grace period is the kubelet's: what is not over by then is killed.
#[test]
fn the_drain_is_over_before_the_pod_is_killed() {
    for setup in runs_and_base() {
        let job = setup.job();
        let drain = run_args(&job).limits.drain_timeout.as_secs();
        let grace = pod(&job).termination_grace_period_seconds;
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        let left = grace.expect("a grace period").checked_sub(drain);
        assert!(
            left.is_some_and(|left| left >= 5),
            "{setup}: {grace:?} {drain}"
        );
    }
}

#[test]
fn the_metrics_are_where_scrapes_look() {
    for setup in runs_and_base() {
        let job = setup.job();
        let ports = container(&job).ports.as_deref().expect("ports");
        let port = u16::try_from(ports[0].container_port).expect("a port");
        let listen = run_args(&job).metrics_listen.expect("--metrics-listen");
        assert_eq!(listen.port(), port, "{setup}");
        assert!(listen.ip().is_unspecified(), "{setup}: all addresses");
        let meta = job.template.metadata.as_ref();
        let annotations = meta.and_then(|meta| meta.annotations.as_ref());
        let told = annotations.and_then(|all| all.get("prometheus.io/port"));
        assert_eq!(told, Some(&port.to_string()), "{setup}");
    }
}

/// Customer keys are files of a Secret, mounted for reading; some overlay has one.
#[test]
fn customer_keys_are_files_of_a_secret() {
    let mut keys = BTreeSet::new();
    for setup in runs() {
        let job = setup.job();
        let run = run_args(&job);
        let mounts = container(&job).volume_mounts.as_deref().unwrap_or_default();
        let volumes = pod(&job).volumes.as_deref().unwrap_or_default();
        let is_secret = |name: &str| {
            let volume = volumes.iter().find(|volume| volume.name == name);
            volume.is_some_and(|volume| volume.secret.is_some())
        };
        for key in run
            .source_keys
            .source_sse_c_key_file
            .iter()
            .chain(&run.target.sse_c_key_file)
        {
            let folder = key.parent().expect("a folder");
            let mount = mounts
                .iter()
                .find(|mount| Path::new(&mount.mount_path) == folder)
                .unwrap_or_else(|| panic!("{setup}: nothing is mounted at {}", folder.display()));
            assert!(
                is_secret(&mount.name),
                "{setup}: {} is no Secret",
                mount.name
            );
            keys.insert(key.clone());
        }
    }
    assert!(!keys.is_empty());
}

/// What the docs tell to type is there.
#[test]
fn the_docs_name_every_overlay_and_no_other() {
    for path in ["README.md", "docs/kubernetes.md"] {
        let text = read(path);
        let words = text.split(|c: char| c.is_whitespace() || "`()".contains(c));
        let named: BTreeSet<_> = words
            .filter(|word| word.starts_with("manifests/overlays/"))
            .map(|word| word.trim_end_matches(['.', ',', ':']).to_owned())
            .collect();
        let all: BTreeSet<_> = super::overlays().into_iter().collect();
        let unknown: Vec<_> = named.difference(&all).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
        if path.starts_with("docs") {
            assert_eq!(named, all, "{path}");
        }
    }
}

/// A schedule takes the newest inventory, each with a state of its own; a Job goes on with the one that it was given.
#[test]
fn schedules_take_the_newest_inventory() {
    for setup in runs() {
        let run = run_args(&setup.job());
        let is_scheduled = setup.resources.iter().any(|one| one["kind"] == "CronJob");
        let is_folder = run.manifest.to_string().ends_with('/');
        assert_eq!(is_folder, is_scheduled, "{setup}: {}", run.manifest);
        if let Some(state) = &run.state {
            assert!(state.names_inventory(), "{setup}: {state}");
        }
    }
}

/// There is no shell and no search path in the image: what is run in a pod is named as the image names it.
#[test]
fn what_the_docs_run_in_a_pod_is_there() {
    let image = read("image/Containerfile");
    let entry = image
        .lines()
        .find_map(|line| line.strip_prefix("ENTRYPOINT [\"")?.strip_suffix("\"]"));
    let entry = entry.expect("an entry point");
    let mut told = 0;
    for path in ["README.md", "docs/kubernetes.md", "docs/monitoring.md"] {
        let text = read(path);
        for line in text.lines().filter(|line| line.contains("exec POD")) {
            let (_, command) = line.split_once(" -- ").unwrap_or_else(|| panic!("{line}"));
            assert!(command.starts_with(&format!("{entry} ")), "{path}: {line}");
            told += 1;
        }
    }
    assert!(told > 1);
}

/// The image is that of this version.
#[test]
fn the_image_is_of_this_version() {
    for setup in runs_and_base() {
        let image = container(&setup.job()).image.clone().expect("an image");
        let tag = image.rsplit_once(':').map(|(_, tag)| tag);
        assert_eq!(tag, Some(env!("CARGO_PKG_VERSION")), "{setup}: {image}");
    }
}

#[test]
fn secrets_are_neither_in_args_nor_in_variables() {
    for setup in runs_and_base() {
        let job = setup.job();
        check_no_secrets(&setup, &job);
    }
}

fn check_no_secrets(setup: &Setup, job: &JobSpec) {
    let container = container(job);
    let from = container.env_from.as_deref().unwrap_or_default();
    assert!(from.is_empty(), "{setup}: a Secret is a file");
    for env in container.env.iter().flatten() {
        assert_eq!(env.value_from, None, "{setup}: {}", env.name);
        let is_secret = ["SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"]
            .iter()
            .any(|word| env.name.contains(word));
        assert!(!is_secret, "{setup}: {}", env.name);
    }
    for arg in container.args.iter().flatten() {
        let is_secret = arg.contains("AKIA") || arg.to_lowercase().contains("secret");
        assert!(!is_secret, "{setup}: {arg}");
    }
}
