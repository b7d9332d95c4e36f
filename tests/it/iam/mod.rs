//! The IAM policies of `docs/iam/`, held against the requests that reseal can send: each is allowed by a policy, and a policy allows
//! nothing else.
//!
//! The requests are found in the code, so that a new one fails here until its line is in [`CALLS`].

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use calls::{CALLS, On};
use reseal::event::Operation;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Policy {
    version: String,
    statement: Vec<Statement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    sid: String,
    effect: String,
    action: OneOrMany,
    resource: OneOrMany,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// What a policy allows: actions, each on what.
type Allowed = BTreeSet<(String, String)>;

impl Policy {
    fn allowed(self) -> Allowed {
        assert_eq!(self.version, "2012-10-17");
        let mut allowed = BTreeSet::new();
        let mut sids = BTreeSet::new();
        for statement in self.statement {
            let Statement {
                sid,
                effect,
                action,
                resource,
            } = statement;
            assert_eq!(effect, "Allow", "{sid}");
            assert!(sids.insert(sid.clone()), "{sid}: twice");
            for resource in resource.all() {
                for action in action.clone().all() {
                    let pair = (resource.clone(), action);
                    assert!(allowed.insert(pair.clone()), "{sid}: {pair:?} twice");
                }
            }
        }
        allowed
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The policies by their files' names, but those that say who may have a role.
fn policies() -> BTreeMap<String, Allowed> {
    let entries = fs::read_dir(root().join("docs/iam")).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = paths.filter_map(|path| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let policy: Policy = match name.starts_with("trust-") {
            true => return None,
            false => serde_json::from_str(&read(&path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        };
        Some((name, policy.allowed()))
    });
    named.collect()
}

fn wanted() -> BTreeMap<String, Allowed> {
    let mut wanted: BTreeMap<_, Allowed> = BTreeMap::new();
    for (policy, _, takes) in CALLS {
        let actions = takes
            .iter()
            .map(|(on, action)| (on.arn().to_owned(), (*action).to_owned()));
        wanted
            .entry((*policy).to_owned())
            .or_default()
            .extend(actions);
    }
    wanted
}

#[test]
fn the_policies_allow_what_is_sent_and_nothing_else() {
    let (found, wanted) = (policies(), wanted());
    let names = |of: &BTreeMap<String, Allowed>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted));
    for (name, wanted) in wanted {
        let missing: Vec<_> = wanted.difference(&found[&name]).collect();
        let needless: Vec<_> = found[&name].difference(&wanted).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        assert!(needless.is_empty(), "{name} has no use for {needless:?}");
    }
}

/// `get_object_acl` as `GetObjectAcl`.
fn operation_name(method: &str) -> String {
    let words = method.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

/// Every file of the room that sends requests, but its tests.
fn s3_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        match path.is_dir() {
            true => found.extend(s3_files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The operations that the code sends: methods of the SDK's client, and operations whose input is built without it.
fn sent() -> BTreeSet<String> {
    let mut sent = BTreeSet::new();
    for path in s3_files(&root().join("src/s3")) {
        let code: String = read(&path).split_whitespace().collect();
        for (before, may_be_config) in [("client.", true), ("aws_sdk_s3::operation::", false)] {
            for rest in code.split(before).skip(1) {
                let end = rest
                    .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                let is_call = if may_be_config {
                    after.starts_with("()") && name != "config"
                } else {
                    after.starts_with("::")
                };
                if is_call {
                    sent.insert(operation_name(name));
                }
            }
        }
    }
    sent
}

#[test]
fn every_request_has_its_line() {
    let sent = sent();
    let listed: BTreeSet<String> = CALLS
        .iter()
        .map(|(_, name, _)| (*name).to_owned())
        .collect();
    let unlisted: Vec<_> = sent.difference(&listed).collect();
    let unsent: Vec<_> = listed.difference(&sent).collect();
    assert!(unlisted.is_empty(), "CALLS has no line for {unlisted:?}");
    assert!(unsent.is_empty(), "nobody sends {unsent:?}");
    for operation in Operation::ALL {
        assert!(listed.contains(operation.name()), "{operation:?}");
    }
}

/// The README has them in one; its letters stand for the examples' names, and the state is apart.
#[test]
fn the_readme_has_all_of_them_in_one() {
    let readme = read("README.md");
    let (_, rest) = readme
        .split_once("```json\n{\"Version\"")
        .expect("the policy");
    let (policy, _) = rest.split_once("```").expect("its end");
    let policy: Policy = serde_json::from_str(&format!("{{\"Version\"{policy}")).expect("JSON");
    let mut wanted = BTreeSet::new();
    // That of `reseal inventory` is another command's.
    let of_run = CALLS.iter().filter(|(policy, ..)| *policy != "inventory");
    for (on, action) in of_run.flat_map(|(_, _, takes)| *takes) {
        let resource = match on {
            On::Objects => "arn:aws:s3:::B/*",
            On::Bucket => "arn:aws:s3:::B",
            On::Scratch | On::KeyName | On::State | On::StateBucket => continue,
            On::Manifest => "arn:aws:s3:::M/*",
            On::ManifestBucket => "arn:aws:s3:::M",
            On::Report => "arn:aws:s3:::R/*",
            On::OldKeys => "O",
            On::NewKey => "T",
        };
        wanted.insert((resource.to_owned(), (*action).to_owned()));
    }
    // Its text says when these are needed; what they stand for on scratch objects is there.
    for action in ["s3:DeleteObject", "s3:DeleteObjectVersion"] {
        wanted.remove(&("arn:aws:s3:::B/*".to_owned(), action.to_owned()));
        let scratch = "arn:aws:s3:::B/.reseal-scratch/*".to_owned();
        wanted.insert((scratch, action.to_owned()));
    }
    assert_eq!(policy.allowed(), wanted);
}

#[test]
fn the_docs_name_every_policy() {
    let docs = read("docs/iam.md");
    let entries = fs::read_dir(root().join("docs/iam")).expect("the folder");
    for entry in entries {
        let name = entry.expect("an entry").file_name();
        let link = format!("(iam/{})", name.to_string_lossy());
        assert!(docs.contains(&link), "{link}");
    }
    for on in On::ALL {
        let used = CALLS
            .iter()
            .any(|(_, _, takes)| takes.iter().any(|(that, _)| *that == on));
        assert!(used, "{on:?}");
    }
}

/// Whatever compares reads checksums or bytes, under both keys.
#[test]
fn the_docs_give_verify_to_whoever_compares() {
    let docs = read("docs/iam.md");
    let mut rows = docs.lines();
    let row = rows.find(|row| row.starts_with("| [verify.json]"));
    let row = row.expect("a row");
    for flag in [
        "--canary",
        "--verify head",
        "--verify read",
        "--verify sample=",
    ] {
        assert!(row.contains(flag), "{flag}: {row}");
    }
}

/// Examples keep their state and their report where the example policies let them.
#[test]
fn the_examples_are_within_the_policies() {
    let files = ["README.md", "docs/getting-started.md", "docs/kubernetes.md"];
    let files = files.map(str::to_owned).into_iter();
    let components = ["base/job.yaml", "components/state-s3/kustomization.yaml"];
    let components = components
        .map(|path| format!("manifests/{path}"))
        .into_iter();
    let mut seen = BTreeSet::new();
    for path in files.chain(components) {
        for (on, place) in [
            (On::State, "s3://example-state/"),
            (On::Report, "s3://example-reports/"),
        ] {
            let allowed = on.arn().replace("arn:aws:s3:::", "s3://");
            let allowed = allowed.trim_end_matches("/*");
            let text = read(&path);
            for (at, _) in text.match_indices(place) {
                assert!(
                    text[at..].starts_with(allowed),
                    "{path}: {:.40}",
                    &text[at..]
                );
                seen.insert(on);
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([On::State, On::Report]));
}

/// A role is for the pods' service account and nobody else.
#[test]
fn trust_is_in_the_service_account() {
    let of = |name: &str| -> Value {
        serde_json::from_str(&read(format!("docs/iam/trust-{name}.json"))).expect("JSON")
    };
    let equals = |policy: &Value| policy["Statement"][0]["Condition"]["StringEquals"].clone();
    let irsa = equals(&of("irsa"));
    let subject = irsa.as_object().expect("conditions").iter();
    let subject = subject
        .filter(|(name, _)| name.ends_with(":sub"))
        .map(|(_, value)| value);
    assert_eq!(
        subject.collect::<Vec<_>>(),
        ["system:serviceaccount:reseal:reseal"]
    );
    let pods = equals(&of("pod-identity"));
    assert_eq!(pods["aws:RequestTag/kubernetes-namespace"], "reseal");
    assert_eq!(pods["aws:RequestTag/kubernetes-service-account"], "reseal");
}
