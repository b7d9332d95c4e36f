//! Every resource against its type, to the last field.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{BASE, Setup, at, files, overlays, read};

/// The resource, with no field that its type does not know.
pub(super) fn strict<T: DeserializeOwned>(resource: Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(resource, |path| unknown.push(path.to_string()))
        .map_err(|error| error.to_string())?;
    if unknown.is_empty() {
        Ok(value)
    } else {
        Err(format!("unknown fields: {}", unknown.join(", ")))
    }
}

/// As much of the type as is used here. Source: prometheus-operator, API reference, monitoring.coreos.com/v1.
#[derive(Deserialize)]
pub(super) struct PodMonitor {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    pub(super) spec: PodMonitorSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodMonitorSpec {
    pub(super) job_label: String,
    pub(super) selector: LabelSelector,
    pub(super) pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
pub(super) struct Endpoint {
    pub(super) port: String,
    pub(super) path: String,
    pub(super) interval: String,
    pub(super) relabelings: Vec<Relabeling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Relabeling {
    pub(super) source_labels: Vec<String>,
    pub(super) regex: String,
    pub(super) target_label: String,
}

/// As much of the type as is used here. Source: the same.
#[derive(Deserialize)]
struct PrometheusRule {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: ObjectMeta,
    #[serde(rename = "spec")]
    _spec: PrometheusRuleSpec,
}

#[derive(Deserialize)]
struct PrometheusRuleSpec {
    #[serde(rename = "groups")]
    _groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "interval")]
    _interval: Option<String>,
    #[serde(rename = "rules")]
    _rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "alert")]
    _alert: Option<String>,
    #[serde(rename = "record")]
    _record: Option<String>,
    #[serde(rename = "expr")]
    _expr: String,
    #[serde(rename = "for")]
    _for: Option<String>,
    #[serde(rename = "keep_firing_for")]
    _keep_firing_for: Option<String>,
    #[serde(rename = "labels", default)]
    _labels: std::collections::BTreeMap<String, String>,
    #[serde(rename = "annotations", default)]
    _annotations: std::collections::BTreeMap<String, String>,
}

fn check(resource: &Value) -> Result<(), String> {
    let (api, kind) = (resource["apiVersion"].as_str(), resource["kind"].as_str());
    let resource = resource.clone();
    match (api.unwrap_or_default(), kind.unwrap_or_default()) {
        ("batch/v1", "Job") => strict::<Job>(resource).map(drop),
        ("batch/v1", "CronJob") => strict::<CronJob>(resource).map(drop),
        ("v1", "ServiceAccount") => strict::<ServiceAccount>(resource).map(drop),
        ("v1", "PersistentVolumeClaim") => strict::<PersistentVolumeClaim>(resource).map(drop),
        ("networking.k8s.io/v1", "NetworkPolicy") => strict::<NetworkPolicy>(resource).map(drop),
        ("monitoring.coreos.com/v1", "PodMonitor") => strict::<PodMonitor>(resource).map(drop),
        ("monitoring.coreos.com/v1", "PrometheusRule") => {
            strict::<PrometheusRule>(resource).map(drop)
        }
        other => Err(format!("this test does not know {other:?}")),
    }
}

#[test]
fn every_resource_is_of_the_schema_to_the_last_field() {
    for folder in overlays().into_iter().chain([BASE.to_owned()]) {
        let setup = Setup::build(&folder);
        assert!(!setup.resources.is_empty(), "{setup}");
        for resource in &setup.resources {
            assert_eq!(check(resource), Ok(()), "{setup}: {}", resource["kind"]);
        }
    }
}

#[test]
fn the_schema_check_can_fail() {
    let broken = |folder: &str, kind: &str, from: &str, to: &str| {
        let resources = Setup::build(folder).resources;
        let found = resources
            .into_iter()
            .find(|resource| resource["kind"] == kind);
        let text = found.expect("it is there").to_string();
        let typo = text.replace(from, to);
        assert_ne!(text, typo, "{from}");
        check(&serde_json::from_str(&typo).expect("JSON"))
    };
    for (folder, kind, field, typo) in [
        (BASE, "Job", "backoffLimitPerIndex", "backOffLimitPerIndex"),
        (
            BASE,
            "Job",
            "readOnlyRootFilesystem",
            "readOnlyRootFileSystem",
        ),
        (
            "manifests/overlays/cronjob",
            "CronJob",
            "timeZone",
            "timezone",
        ),
        (
            "manifests/overlays/cronjob",
            "NetworkPolicy",
            "ipBlock",
            "ipblock",
        ),
        (
            "manifests/overlays/monitoring",
            "PrometheusRule",
            "annotations",
            "anotations",
        ),
        (
            "manifests/overlays/monitoring",
            "PodMonitor",
            "interval",
            "scrapeInterval",
        ),
        (
            "manifests/overlays/monitoring",
            "PodMonitor",
            "\"path\"",
            "\"metricsPath\"",
        ),
    ] {
        let error = broken(folder, kind, field, typo).expect_err(typo);
        let typo = typo.trim_matches('"');
        assert!(
            error.contains(typo) || error.contains("missing field"),
            "{error}"
        );
    }
    let error = broken(BASE, "Job", "\"batch/v1\"", "\"batch/v2\"").expect_err("no such version");
    assert!(error.contains("batch/v2"), "{error}");
}

#[test]
fn every_file_says_what_it_is_and_what_to_change() {
    for path in files(&at("manifests"), "yaml") {
        let text = read(&path);
        let at = path.display();
        assert!(text.starts_with("# "), "{at}: says at its head what it is");
        assert!(text.contains("\n# Change"), "{at}: says what to change");
    }
}
