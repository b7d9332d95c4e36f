//! The PrometheusRule has the alerts of `dashboards/alerts.yml`: kustomize can't include a file from outside of its folder.

use serde_json::Value;

use super::{Setup, read};

const ALERTS: &str = "dashboards/alerts.yml";

#[test]
fn the_rule_has_the_alerts() {
    let alerts: Value = serde_yaml_ng::from_str(&read(ALERTS)).expect("YAML");
    let groups = alerts["groups"].as_array().expect("groups");
    assert!(!groups.is_empty());
    let rules = Setup::build("manifests/overlays/monitoring").all::<Value>("PrometheusRule");
    assert_eq!(rules.len(), 1);
    assert_eq!(
        rules[0]["spec"], alerts,
        "the end of prometheusrule.yaml, from `spec:` on, is {ALERTS} from `groups:` on: sed -n '/^groups:/,$p' {ALERTS} | sed 's/^./  &/'"
    );
}
