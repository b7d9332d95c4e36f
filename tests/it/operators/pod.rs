//! What the pod may do, and what it refers to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::args::run_args;
use super::schema::PodMonitor;
use super::{Setup, container, pod, pod_labels, runs, runs_and_base};

/// Source: Kubernetes, "Pod Security Standards", profile *Restricted*.
#[test]
fn the_pod_is_restricted() {
    for setup in runs_and_base() {
        let job = setup.job();
        let (pod, container) = (pod(&job), container(&job));
        let context = pod.security_context.as_ref().expect("securityContext");
        assert_eq!(context.run_as_non_root, Some(true), "{setup}");
        let ids = [context.run_as_user, context.run_as_group, context.fs_group];
        assert_eq!(ids, [Some(65532); 3], "{setup}: volumes must be readable");
        let seccomp = context.seccomp_profile.as_ref();
        let seccomp = seccomp.map(|profile| profile.type_.as_str());
        assert_eq!(seccomp, Some("RuntimeDefault"), "{setup}");
        assert_eq!([pod.host_network, pod.host_pid, pod.host_ipc], [None; 3]);
        assert_eq!(pod.init_containers, None, "{setup}");
        let own = container.security_context.as_ref();
        let own = own.expect("securityContext");
        assert_eq!(own.allow_privilege_escalation, Some(false), "{setup}");
        assert_eq!(own.read_only_root_filesystem, Some(true), "{setup}");
        assert_eq!([own.privileged, own.run_as_non_root], [None; 2]);
        assert_eq!(own.run_as_user, None, "{setup}");
        let capabilities = own.capabilities.as_ref().expect("capabilities");
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
        assert_eq!(capabilities.add, None, "{setup}");
        assert_eq!(pod.automount_service_account_token, Some(false), "{setup}");
        for volume in pod.volumes.iter().flatten() {
            let is_allowed = volume.empty_dir.is_some()
                || volume.persistent_volume_claim.is_some()
                || volume.secret.is_some();
            assert!(
                is_allowed && volume.host_path.is_none(),
                "{setup}: {}",
                volume.name
            );
        }
    }
}

#[test]
fn what_is_promised_is_reserved() {
    for setup in runs_and_base() {
        let job = setup.job();
        let resources = container(&job).resources.as_ref().expect("resources");
        let memory = |of: &Option<BTreeMap<String, _>>| {
            let of = of.as_ref().and_then(|of| of.get("memory"));
            of.cloned()
        };
        assert!(memory(&resources.limits).is_some(), "{setup}");
        assert_eq!(
            memory(&resources.limits),
            memory(&resources.requests),
            "{setup}"
        );
        for volume in pod(&job).volumes.iter().flatten() {
            let Some(folder) = &volume.empty_dir else {
                continue;
            };
            assert!(folder.size_limit.is_some(), "{setup}: {}", volume.name);
        }
    }
}

#[test]
fn every_mount_has_its_volume() {
    for setup in runs_and_base() {
        let job = setup.job();
        let volumes = pod(&job).volumes.as_deref().unwrap_or_default();
        let mounts = container(&job).volume_mounts.as_deref().unwrap_or_default();
        let mounted: BTreeSet<&str> = mounts.iter().map(|mount| mount.name.as_str()).collect();
        let declared: BTreeSet<&str> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(mounted, declared, "{setup}");
        for volume in volumes {
            let Some(secret) = &volume.secret else {
                continue;
            };
            assert_eq!(
                secret.default_mode,
                Some(0o440),
                "{setup}: its group reads it"
            );
            let mount = mounts.iter().find(|mount| mount.name == volume.name);
            assert_eq!(
                mount.and_then(|mount| mount.read_only),
                Some(true),
                "{setup}"
            );
        }
    }
}

/// By one of the three ways: a role by annotation, a role by association, or a file.
#[test]
fn every_run_has_an_identity() {
    let mut ways = BTreeSet::new();
    for setup in runs() {
        let job = setup.job();
        let accounts = setup.all::<ServiceAccount>("ServiceAccount");
        assert_eq!(accounts.len(), 1, "{setup}");
        let (name, account) = (&pod(&job).service_account_name, &accounts[0]);
        assert_eq!(*name, account.metadata.name, "{setup}");
        assert_eq!(
            account.automount_service_account_token,
            Some(false),
            "{setup}"
        );
        let annotations = account.metadata.annotations.as_ref();
        let role = annotations.and_then(|all| all.get("eks.amazonaws.com/role-arn"));
        let env = container(&job).env.as_deref().unwrap_or_default();
        let file = env
            .iter()
            .find(|env| env.name == "AWS_SHARED_CREDENTIALS_FILE");
        assert!(role.is_none() || file.is_none(), "{setup}: one of them");
        ways.insert((role.is_some(), file.is_some()));
        let Some(path) = file.and_then(|env| env.value.as_deref()) else {
            continue;
        };
        let mounts = container(&job).volume_mounts.as_deref().unwrap_or_default();
        let mount = mounts
            .iter()
            .find(|mount| path.starts_with(&mount.mount_path));
        assert!(mount.is_some(), "{setup}: nothing is mounted at {path}");
    }
    assert_eq!(ways.len(), 3, "irsa, pod-identity, access-keys");
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.match_labels.as_ref().expect("matchLabels");
    assert_eq!(selector.match_expressions, None);
    !wanted.is_empty()
        && wanted
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
}

fn port_names(setup: &Setup) -> BTreeSet<String> {
    let job = setup.job();
    let ports = container(&job).ports.as_deref().unwrap_or_default();
    ports.iter().filter_map(|port| port.name.clone()).collect()
}

#[test]
fn the_network_policy_is_for_these_pods() {
    for setup in runs() {
        let policies = setup.all::<NetworkPolicy>("NetworkPolicy");
        let pushes = run_args(&setup.job()).pushgateway.is_some();
        assert_eq!(policies.len(), 1 + usize::from(pushes), "{setup}");
        for policy in policies {
            let is_whole = policy.metadata.name.as_deref() == Some("reseal");
            let spec = policy.spec.expect("spec");
            let pods = spec.pod_selector.as_ref().expect("podSelector");
            assert!(selects(pods, pod_labels(&setup.job())), "{setup}");
            let types = spec.policy_types.unwrap_or_default();
            // The policies that allow something come together; one of them forbids the rest.
            let wanted: &[_] = if is_whole {
                &["Ingress", "Egress"]
            } else {
                &["Egress"]
            };
            assert_eq!(types, wanted, "{setup}");
            let ports = spec.ingress.iter().flatten();
            let ports = ports.flat_map(|rule| rule.ports.iter().flatten());
            for port in ports {
                match &port.port {
                    Some(IntOrString::String(name)) => {
                        assert!(port_names(&setup).contains(name), "{setup}: {name}");
                    }
                    other => panic!("{setup}: {other:?} is not by name"),
                }
            }
        }
    }
}

/// What is pushed can get there, and each group is of one schedule.
#[test]
fn what_is_pushed_may_leave_the_pod() {
    let mut pushing = 0;
    for setup in runs() {
        let Some(gateway) = run_args(&setup.job()).pushgateway else {
            continue;
        };
        pushing += 1;
        let address = gateway.to_string();
        let (host, group) = address
            .split_once("/metrics/job/")
            .unwrap_or_else(|| panic!("{setup}: {address} has no group"));
        assert!(!group.is_empty(), "{setup}");
        let port: i32 = host
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .expect("a port");
        let policies = setup.all::<NetworkPolicy>("NetworkPolicy");
        let specs = policies.into_iter().filter_map(|policy| policy.spec);
        let egress = specs.flat_map(|spec| spec.egress.unwrap_or_default());
        let ports = egress.flat_map(|rule| rule.ports.unwrap_or_default());
        let mut numbers = ports.filter_map(|port| port.port);
        assert!(
            numbers.any(|open| open == IntOrString::Int(port)),
            "{setup}"
        );
    }
    assert!(pushing > 1, "every schedule pushes");
}

#[test]
fn the_pod_monitor_finds_these_pods() {
    let monitoring = Setup::build("manifests/overlays/monitoring");
    let monitors = monitoring.all::<PodMonitor>("PodMonitor");
    assert_eq!(monitors.len(), 1);
    let monitor = &monitors[0].spec;
    // Source: Kubernetes, "Well-Known Labels": the Job controller's.
    assert_eq!(monitor.job_label, "batch.kubernetes.io/job-name");
    for setup in runs() {
        assert!(
            selects(&monitor.selector, pod_labels(&setup.job())),
            "{setup}"
        );
        for endpoint in &monitor.pod_metrics_endpoints {
            assert!(port_names(&setup).contains(&endpoint.port), "{setup}");
            assert_eq!(endpoint.path, "/metrics");
            // Of the name of a CronJob's Job the controller's digits are cut off.
            let [cut] = &endpoint.relabelings[..] else {
                panic!("one relabeling");
            };
            assert_eq!(
                (&cut.source_labels[..], &*cut.target_label),
                (&["job".to_owned()][..], "job")
            );
            assert_eq!(cut.regex, "(.+)-[0-9]{8,}");
            let interval = humantime::parse_duration(&endpoint.interval).expect("a duration");
            let linger = run_args(&setup.job()).metrics_linger;
            assert!(
                linger >= interval * 2,
                "{setup}: its end is scraped, and once more"
            );
        }
    }
}
