//! What operators are handed for Kubernetes, held against the API's schema and rules, our exit codes and our command line: the base
//! and every overlay, as kustomize puts them together.

mod alerts;
mod args;
mod job;
mod kustomize;
mod pod;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

const BASE: &str = "manifests/base";
const OVERLAYS: &str = "manifests/overlays";

/// What one `kubectl apply -k` sends.
struct Setup {
    name: String,
    resources: Vec<Value>,
}

impl Setup {
    fn build(folder: &str) -> Self {
        Self {
            name: folder.to_owned(),
            resources: kustomize::build(folder).resources,
        }
    }

    /// The resources of a kind, which have passed the schema.
    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let of_kind = |resource: &&Value| resource["kind"] == kind;
        self.resources
            .iter()
            .filter(of_kind)
            .map(|resource| {
                schema::strict(resource.clone()).unwrap_or_else(|error| panic!("{self}: {error}"))
            })
            .collect()
    }

    /// The Job, or what the CronJob makes one of.
    fn job(&self) -> JobSpec {
        let mut found: Vec<JobSpec> = Vec::new();
        for job in self.all::<Job>("Job") {
            found.extend(job.spec);
        }
        for cron in self.all::<CronJob>("CronJob") {
            found.extend(cron.spec.and_then(|spec| spec.job_template.spec));
        }
        assert_eq!(found.len(), 1, "{self}: one Job, or one CronJob");
        found.remove(0)
    }
}

impl std::fmt::Display for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// Folders of the overlays.
fn overlays() -> Vec<String> {
    let entries = fs::read_dir(at(OVERLAYS)).expect("the folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| format!("{OVERLAYS}/{}", name.to_string_lossy()))
        .collect();
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// The overlays that run something.
fn runs() -> Vec<Setup> {
    let all = overlays().into_iter().map(|folder| Setup::build(&folder));
    let runs: Vec<_> = all
        .filter(|setup| {
            setup
                .resources
                .iter()
                .any(|resource| resource["kind"] == "Job" || resource["kind"] == "CronJob")
        })
        .collect();
    assert!(runs.len() > 4);
    runs
}

/// These and the base.
fn runs_and_base() -> Vec<Setup> {
    let mut all = runs();
    all.push(Setup::build(BASE));
    all
}

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

fn pod(job: &JobSpec) -> &PodSpec {
    job.template.spec.as_ref().expect("a pod spec")
}

fn container(job: &JobSpec) -> &Container {
    let containers = &pod(job).containers;
    assert_eq!(containers.len(), 1);
    &containers[0]
}

fn pod_labels(job: &JobSpec) -> &BTreeMap<String, String> {
    let meta = job.template.metadata.as_ref().expect("metadata");
    meta.labels.as_ref().expect("labels")
}
