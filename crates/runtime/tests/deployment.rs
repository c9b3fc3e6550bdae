//! What the images, the compose file and the chart give the services: every variable is a setting of whoever gets it, and what
//! an executor keeps and runs fits into its pod.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use runtime::settings::{Key, Kind, Sources, load_from};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const TEMPLATES: &str = "deploy/helm/orrery/templates";
/// Templates with pods, and the service that runs in each.
const PODS: [(&str, &str); 5] = [
    ("web-server.yaml", "web-server"),
    ("scheduler.yaml", "scheduler"),
    ("executor.yaml", "executor"),
    ("runtimes.yaml", "executor"),
    ("jobs.yaml", "executor"),
];
/// Templates with variables that are for all pods.
const SHARED: [&str; 2] = ["configmap.yaml", "_labels.tpl"];
const SERVICES: [(&str, &str); 3] =
    [("web-server", "WEB_SERVER"), ("scheduler", "SCHEDULER"), ("executor", "EXECUTOR")];
const KINDS: [Kind; 10] = [
    Kind::Text,
    Kind::Path,
    Kind::SecretFile,
    Kind::Address,
    Kind::Uri,
    Kind::Integer,
    Kind::Bytes,
    Kind::Duration,
    Kind::Boolean,
    Kind::List,
];

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The settings of a service as docs/configuration.md shows them, which tests of that service hold against it.
fn keys(service: &str) -> Vec<Key> {
    let page = read("docs/configuration.md");
    let (_, section) = page.split_once(&format!("<!-- settings:{service} -->")).unwrap();
    let (section, _) = section.split_once("<!-- /settings").unwrap();
    section.lines().filter_map(key).collect()
}

fn key(line: &str) -> Option<Key> {
    let cells: Vec<&str> = line.split(" | ").collect();
    let [name, _, kind, ..] = cells[..] else { return None };
    let kind = KINDS.into_iter().find(|known| known.name() == kind)?;
    let name: &'static str = name.strip_prefix("| `")?.strip_suffix('`')?.to_owned().leak();
    Some(Key::new(name, kind, "", ""))
}

/// What a variable holds that is one of this service, shared or its own.
fn kind(service: &str, variable: &str) -> Option<Kind> {
    let (_, prefix) = SERVICES.into_iter().find(|(name, _)| *name == service)?;
    let named = |key: &Key| key.name.to_ascii_uppercase().replace('.', "__");
    let is_it = |key: &Key| {
        variable == format!("ORRERY_{}", named(key)) || variable == format!("ORRERY_{prefix}_{}", named(key))
    };
    keys(service).into_iter().find(is_it).map(|key| key.kind)
}

/// Of a value that only rendering would tell.
fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Path | Kind::SecretFile | Kind::List => "x",
        Kind::Address => "127.0.0.1:1",
        Kind::Uri => "http://x",
        Kind::Integer => "1",
        Kind::Bytes => "1 MiB",
        Kind::Duration => "1s",
        Kind::Boolean => "true",
    }
}

/// Every variable of ours that a text names.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("ORRERY_")).map(str::to_owned).collect()
}

/// Starts a service as far as its settings.
fn load(service: &str, environment: BTreeMap<String, String>) {
    let (_, prefix) = SERVICES.into_iter().find(|(name, _)| *name == service).unwrap();
    let sources = Sources { arguments: vec!["service".into()], environment };
    let loaded = load_from::<Value>("service", prefix, &keys(service), sources);
    loaded.unwrap_or_else(|error| panic!("{service}: {error}"));
}

#[test]
fn every_variable_of_the_chart_is_a_setting_of_the_pod_that_gets_it() {
    let of_all = variables(&(read(&format!("{TEMPLATES}/configmap.yaml")) + &read("deploy/helm/orrery/values.yaml")));
    let known = |variable: &String| {
        let kind = SERVICES.iter().find_map(|(service, _)| kind(service, variable));
        (variable.clone(), sample(kind.unwrap_or_else(|| panic!("no service has {variable}"))).to_owned())
    };
    let of_all: BTreeMap<String, String> = of_all.iter().map(known).collect();
    for (file, service) in PODS {
        let own = variables(&read(&format!("{TEMPLATES}/{file}")));
        assert!(own.len() > 3, "{file}: {own:?}");
        let own = own.into_iter().map(|variable| match kind(service, &variable) {
            Some(kind) => (variable, sample(kind).to_owned()),
            None => panic!("{file}: {service} has no {variable}"),
        });
        load(service, of_all.clone().into_iter().chain(own).collect());
    }
}

#[test]
fn no_template_gives_a_variable_unseen() {
    for entry in std::fs::read_dir(format!("{ROOT}/{TEMPLATES}")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let seen = SHARED.contains(&file.as_str()) || PODS.iter().any(|(pod, _)| *pod == file);
        assert!(seen || variables(&read(&format!("{TEMPLATES}/{file}"))).is_empty(), "{file}");
    }
}

#[test]
fn what_the_compose_file_gives_is_understood() {
    let text = read("deploy/compose.yaml");
    let mut given: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    let mut service = "";
    for line in text.lines() {
        let heading = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        service = heading.and_then(|heading| heading.strip_suffix(':')).unwrap_or(service);
        if let Some((name, value)) = line.trim().split_once(": ").filter(|(name, _)| name.starts_with("ORRERY_")) {
            assert!(kind(service, name).is_some(), "{service} has no {name}");
            given.entry(service).or_default().insert(name.to_owned(), value.to_owned());
        }
    }
    assert_eq!(given.keys().copied().collect::<Vec<_>>(), ["executor", "scheduler", "web-server"]);
    given.into_iter().for_each(|(service, environment)| load(service, environment));
}

#[test]
fn what_the_image_of_executors_says_is_understood() {
    let variables = variables(&read("deploy/Dockerfile"));
    assert!(variables.contains("ORRERY_EXECUTOR_BASE_ENV"), "{variables:?}");
    variables.iter().for_each(|variable| assert!(kind("executor", variable).is_some(), "{variable}"));
}

/// A value of `executor` in the chart's values, in MiB where it is an amount.
fn value(key: &str) -> u64 {
    let values = read("deploy/helm/orrery/values.yaml");
    let (_, section) = values.split_once("\nexecutor:\n").unwrap();
    let mut lines = section.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
    let text = lines.find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
    let text = text.unwrap_or_else(|| panic!("{key} is not there"));
    let text = text.trim_start_matches("{ memory: ").trim_end_matches(" }");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<u64>().unwrap(), text[digits..].trim());
    match unit {
        "" | "Mi" | "MiB" => number,
        "Gi" | "GiB" => number * 1024,
        _ => panic!("{key}: {unit}"),
    }
}

/// A quarter is left: of the disk for attempts and installers, of the memory for interpreters and the executor itself.
#[test]
fn what_an_executor_keeps_and_runs_fits_into_its_pod() {
    let kept: u64 = ["environmentsCache", "bundlesCache", "outputsCache"].map(value).iter().sum();
    assert!(kept * 4 <= value("stateSize") * 3, "{kept} MiB");
    let run = value("slots") * value("attemptMemory");
    assert!(run * 4 <= value("limits") * 3, "{run} MiB");
}

/// A stage `FROM` whose image is `name`, by its tag.
fn tag(name: &str) -> String {
    let dockerfile = read("deploy/Dockerfile");
    let mut images = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    images
        .find_map(|image| image.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name}"))
        .to_owned()
}

/// rust-toolchain.toml stays outside, since its components would be fetched for each build: so the image has to say the same.
#[test]
fn images_are_built_by_the_compiler_of_the_workspace() {
    let toolchain = read("rust-toolchain.toml");
    let (_, channel) = toolchain.split_once("channel = \"").unwrap();
    let (channel, _) = channel.split_once('"').unwrap();
    assert_eq!(tag("rust").split_once('-').unwrap().0, channel);
}

/// A path of this repository that a build of images sees.
fn is_in_the_context(path: &str) -> bool {
    let ignored = read("deploy/Dockerfile.dockerignore");
    assert_eq!(ignored.lines().next(), Some("**"), "a list of what is let in");
    ignored.lines().filter_map(|line| line.strip_prefix('!')).any(|top| path.split('/').next() == Some(top))
}

#[test]
fn what_the_image_copies_and_cargo_reads_is_in_the_context() {
    let dockerfile = read("deploy/Dockerfile");
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")?.split(' ').next());
    let copied: Vec<&str> = copied.filter(|path| *path != "." && !path.starts_with("--from")).collect();
    assert!(!copied.is_empty());
    let workspace = read("Cargo.toml");
    let (_, members) = workspace.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let members = members.split(',').map(|member| member.trim().trim_matches('"').trim_end_matches("/*"));
    for path in copied.into_iter().chain(members).chain(["Cargo.toml", "Cargo.lock", "migrations"]) {
        assert!(is_in_the_context(path), "{path}");
        assert!(std::fs::exists(format!("{ROOT}/{path}")).unwrap(), "{path}");
    }
}
