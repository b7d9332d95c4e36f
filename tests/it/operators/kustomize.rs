//! As much of kustomize as `manifests/` uses, stricter than itself: what it does not know, and a patch that meets nothing, is an error.
//! Where the machine has kubectl, what it builds is held against what this builds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::{BASE, at, files, overlays, read};

/// What a folder comes to.
pub(super) struct Built {
    pub(super) resources: Vec<Value>,
    pub(super) namespace: Option<String>,
    /// The files that it was made of.
    pub(super) files: BTreeSet<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    images: Vec<Image>,
    #[serde(default)]
    replacements: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Selector,
    patch: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Operation {
    Add { path: String, value: Value },
    Replace { path: String, value: Value },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    source: Source,
    targets: Vec<Destination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    kind: String,
    name: String,
    field_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Destination {
    select: Selector,
    field_paths: Vec<String>,
    options: Options,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    create: bool,
}

/// `kubectl kustomize <folder>`.
pub(super) fn build(folder: &str) -> Built {
    let mut built = Built {
        resources: Vec::new(),
        namespace: None,
        files: BTreeSet::new(),
    };
    let folder = at(folder).canonicalize().expect("the folder");
    built.namespace = accumulate(&folder, "Kustomization", &mut built);
    built
}

/// Adds a kustomization's resources, and changes those that a component finds. Returns its namespace.
fn accumulate(folder: &Path, kind: &str, built: &mut Built) -> Option<String> {
    let file = folder.join("kustomization.yaml");
    let kustomization: Kustomization = serde_yaml_ng::from_str(&read(&file))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let version = match kind {
        "Kustomization" => "kustomize.config.k8s.io/v1beta1",
        _ => "kustomize.config.k8s.io/v1alpha1",
    };
    let (found, wanted) = (&kustomization.kind, &kustomization.api_version);
    assert_eq!(
        (found.as_str(), wanted.as_str()),
        (kind, version),
        "{}",
        file.display()
    );
    built.files.insert(file.clone());
    for resource in &kustomization.resources {
        let path = existing(folder, resource);
        if path.is_dir() {
            accumulate(&path, "Kustomization", built);
        } else {
            let text = read(&path);
            let document = serde_yaml_ng::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: one document: {error}", path.display()));
            built.resources.push(document);
            built.files.insert(path);
        }
    }
    for component in &kustomization.components {
        accumulate(&existing(folder, component), "Component", built);
    }
    let resources = &mut built.resources;
    for patch in &kustomization.patches {
        apply(patch, resources)
            .unwrap_or_else(|error| panic!("{}: {:?}: {error}", file.display(), patch.target));
    }
    if let Some(namespace) = &kustomization.namespace {
        for resource in &mut *resources {
            resource["metadata"]["namespace"] = namespace.as_str().into();
        }
    }
    for image in &kustomization.images {
        let tagged: usize = resources
            .iter_mut()
            .map(|resource| tag(resource, image))
            .sum();
        assert!(tagged > 0, "{}: no image {}", file.display(), image.name);
    }
    for replacement in &kustomization.replacements {
        replace(replacement, resources)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    kustomization.namespace
}

fn existing(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn position(resources: &[Value], kind: &str, name: &str) -> Result<usize, String> {
    resources
        .iter()
        .position(|resource| resource["kind"] == kind && resource["metadata"]["name"] == name)
        .ok_or_else(|| format!("there is no {kind} {name}"))
}

fn apply(patch: &Patch, resources: &mut Vec<Value>) -> Result<(), String> {
    let at = position(resources, &patch.target.kind, &patch.target.name)?;
    let body: Value = serde_yaml_ng::from_str(&patch.patch).map_err(|error| error.to_string())?;
    if body["$patch"] == "delete" {
        assert_eq!(body["kind"], patch.target.kind.as_str());
        assert_eq!(body["metadata"]["name"], patch.target.name.as_str());
        resources.remove(at);
        return Ok(());
    }
    let operations: Vec<Operation> =
        serde_json::from_value(body).map_err(|error| error.to_string())?;
    for operation in operations {
        match operation {
            Operation::Add { path, value } => add(&mut resources[at], &path, value)?,
            Operation::Replace { path, value } => {
                let there = resources[at].pointer_mut(&path);
                *there.ok_or_else(|| format!("nothing to replace at {path}"))? = value;
            }
        }
    }
    Ok(())
}

/// JSON Patch's `add`, but for what is there already: it would be replaced silently.
fn add(resource: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (parent, name) = path.rsplit_once('/').ok_or("no path")?;
    match resource.pointer_mut(parent) {
        Some(Value::Array(list)) if name == "-" => list.push(value),
        Some(Value::Object(fields)) if !fields.contains_key(name) => {
            fields.insert(name.to_owned(), value);
        }
        _ => return Err(format!("{path} can't be added")),
    }
    Ok(())
}

/// Tags every container's image of that name, and counts them.
fn tag(value: &mut Value, image: &Image) -> usize {
    match value {
        Value::Array(list) => list.iter_mut().map(|item| tag(item, image)).sum(),
        Value::Object(fields) => {
            let mut tagged = 0;
            for (name, value) in fields {
                if name == "image" && *value == image.name.as_str() {
                    *value = format!("{}:{}", image.name, image.new_tag).into();
                    tagged += 1;
                } else {
                    tagged += tag(value, image);
                }
            }
            tagged
        }
        _ => 0,
    }
}

fn replace(replacement: &Replacement, resources: &mut [Value]) -> Result<(), String> {
    let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
    let source = &replacement.source;
    let from = &resources[position(resources, &source.kind, &source.name)?];
    let value = from.pointer(&pointer(&source.field_path));
    let value = value.cloned().ok_or("nothing at the source's path")?;
    for target in &replacement.targets {
        assert!(target.options.create, "what is there is not overwritten");
        let at = position(resources, &target.select.kind, &target.select.name)?;
        for path in &target.field_paths {
            add(&mut resources[at], &pointer(path), value.clone())?;
        }
    }
    Ok(())
}

#[test]
fn every_file_belongs_to_an_overlay() {
    let mut used = build(BASE).files;
    for overlay in overlays() {
        used.extend(build(&overlay).files);
    }
    for path in files(&at("manifests").canonicalize().expect("it exists"), "yaml") {
        assert!(used.contains(&path), "{}: nobody names it", path.display());
    }
}

#[test]
fn everything_is_in_one_namespace() {
    let folders = overlays().into_iter().chain([BASE.to_owned()]);
    let namespaces: BTreeSet<_> = folders.map(|folder| build(&folder).namespace).collect();
    assert_eq!(namespaces, BTreeSet::from([Some("reseal".to_owned())]));
}

#[test]
fn a_patch_that_meets_nothing_is_an_error() {
    let target = |name: &str| Selector {
        kind: "Job".to_owned(),
        name: name.to_owned(),
    };
    let patched = |name: &str, patch: &str| {
        let patch = Patch {
            target: target(name),
            patch: patch.to_owned(),
        };
        let mut resources = build(BASE).resources;
        apply(&patch, &mut resources).map(|()| resources)
    };
    let of = |op: &str, path: &str| format!("- {{op: {op}, path: {path}, value: 8}}");
    assert!(patched("another", &of("replace", "/spec/completions")).is_err());
    assert!(patched("reseal", &of("replace", "/spec/compeltions")).is_err());
    assert!(patched("reseal", &of("add", "/spec/completions")).is_err());
    assert!(patched("reseal", &of("add", "/spec/nowhere/-")).is_err());
    assert!(patched("reseal", &of("remove", "/spec/completions")).is_err());
    let resources = patched("reseal", &of("replace", "/spec/completions")).expect("it is there");
    assert_eq!(resources[0]["spec"]["completions"], 8);
}

/// For checkers that don't know kustomize: `.ci/checkov.yaml`.
#[test]
fn everything_is_put_together_for_others() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manifests");
    // What an overlay was that is gone.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for setup in overlays().into_iter().chain([BASE.to_owned()]) {
        let documents = build(&setup).resources.into_iter().map(|resource| {
            let text = serde_yaml_ng::to_string(&resource).expect("YAML");
            format!("---\n{text}")
        });
        let (_, name) = setup.rsplit_once('/').expect("a folder in a folder");
        let text: String = documents.collect();
        std::fs::write(folder.join(format!("{name}.yaml")), text).expect("a file");
    }
}

/// Where there is none, or one from before components, the rest of this file has to do.
#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn kubectl_builds_the_same() {
    let version = Command::new("kubectl")
        .args(["version", "--client"])
        .output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = version.unwrap_or_default();
    if !version.contains("Kustomize Version: v5") {
        eprintln!("no kubectl with kustomize 5: not compared");
        return;
    }
    for folder in overlays().into_iter().chain([BASE.to_owned()]) {
        let output = Command::new("kubectl")
            .arg("kustomize")
            .arg(at(&folder))
            .output();
        let output = output.expect("it was there just now");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{folder}: {errors}");
        let documents = serde_yaml_ng::Deserializer::from_slice(&output.stdout);
        let theirs = documents.map(|document| Value::deserialize(document).expect("YAML"));
        assert_eq!(sorted(theirs), sorted(build(&folder).resources), "{folder}");
    }
}

fn sorted(resources: impl IntoIterator<Item = Value>) -> Vec<(String, Value)> {
    let named = |resource: Value| {
        let name = format!("{} {}", resource["kind"], resource["metadata"]["name"]);
        (name, resource)
    };
    let mut all: Vec<_> = resources.into_iter().map(named).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
