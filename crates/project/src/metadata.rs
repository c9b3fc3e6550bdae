//! The project's own `metadata.yaml`: what holds for all of its pipelines.
//!
//! Refuses to act on it: where variables are stored or which backend runs blocks is decided by the cluster.

use crate::{
    Env, YAML_BYTES_MAX,
    diagnostic::{Diagnostic, Place, Report},
    files::{Folder, Refusal},
    keys::Keys,
    limits, nearest, references, template, unresolved,
    yaml::{self, Document},
};
use domain::{pipeline::Concurrency, retry::RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const FILE: &str = "metadata.yaml";
/// As Python's logging has them.
const LOG_LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
/// Keys in which secrets of the cluster are filled in by whoever uses them.
const FILLED_IN: [&str; 3] = ["notification_config", "remote_variables_dir", "variables_dir"];
/// Mage's keys and ours; those of other clouds and of Mage's own server are passed over in silence.
const KNOWN: [&str; 33] = [
    "project_type",
    "subproject_path",
    "project_uuid",
    "cluster_type",
    "variables_dir",
    "remote_variables_dir",
    "variables_retention_period",
    "run_retention_period",
    "secrets",
    "limits",
    "retry_config",
    "concurrency_config",
    "notification_config",
    "logging_config",
    "queue_config",
    "k8s_executor_config",
    "ecs_config",
    "gcp_cloud_run_config",
    "azure_container_instance_config",
    "emr_config",
    "spark_config",
    "features",
    "pipelines",
    "settings_backend",
    "ai_config",
    "openai_api_key",
    "help_improve_mage",
    "ldap_config",
    "workspace_config_defaults",
    "workspace_initial_metadata",
    "overrides",
    "dynamic_blocks",
    "state_store_config",
];
const PROJECT_TYPES: [&str; 3] = ["standalone", "main", "sub"];

/// Project-wide settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// `standalone`, `main` or `sub`.
    pub project_type: String,
    /// Mage's own identifier of the project, if it has one.
    pub project_uuid: Option<String>,
    /// Where outputs are kept instead of the cluster's own store, such as `s3://bucket/prefix`.
    ///
    /// Secrets in it are references, see `domain::references`.
    pub remote_variables_dir: Option<String>,
    /// The secrets that it names, and the keys that open it.
    #[serde(default)]
    pub place_secrets: Vec<String>,
    /// How long outputs are kept after a run's end, seconds; `None` keeps them.
    pub variables_retention_s: Option<u64>,
    /// How long ended runs are kept, seconds; `None` is the cluster's own time.
    #[serde(default)]
    pub runs_retention_s: Option<u64>,
    /// How long log lines are kept after a run's end, seconds; `None` is the cluster's own time, which is also the longest.
    #[serde(default)]
    pub logs_retention_s: Option<u64>,
    /// The least level at which the logging of blocks makes lines; `None` is `INFO`.
    #[serde(default)]
    pub log_level: Option<String>,
    /// The secrets that every pipeline may ask for, unless it names its own.
    #[serde(default)]
    pub secrets: Option<Vec<String>>,
    /// Switches such as `polars`.
    pub features: Map<String, Value>,
    /// Every block's retries, unless its pipeline or itself says otherwise.
    pub retry: RetryPolicy,
    /// Every pipeline's limits, unless it says otherwise; the environment's where the file names none.
    pub concurrency: Concurrency,
    /// Limits on blocks of all pipelines together, by name; see `domain::limits`.
    #[serde(default)]
    pub limits: BTreeMap<String, u32>,
    /// Where and when to notify, as written.
    pub notification_config: Map<String, Value>,
    /// Everything, rendered, as written: backends read their own sections.
    pub settings: Map<String, Value>,
}

/// The settings; a broken file gives the defaults.
pub(crate) fn read(folder: &Folder, env: Env<'_>) -> (Metadata, Vec<Diagnostic>) {
    let mut report = Report::new(FILE, "");
    let written = document(folder, env, &mut report);
    let keys = written.as_ref().and_then(|written| Keys::of(&written.document.root, "", &mut report));
    let mut metadata = match keys {
        Some(keys) => settings(&keys, env, &mut report),
        None => Metadata { concurrency: limits::from_environment(env, &mut report), ..Metadata::default() },
    };
    if let Some(config) = written.and_then(|written| referring_config(&written.referring?)) {
        metadata.notification_config = config;
    }
    (metadata, report.finish())
}

/// The file as it reads without secrets, and, where it names any, with their marks.
struct Written {
    document: Document,
    referring: Option<Document>,
}

/// What it says of notifications, by references. What is broken in it was told already.
fn referring_config(document: &Document) -> Option<Map<String, Value>> {
    let mut told = Report::new(FILE, "");
    let keys = Keys::of(&document.root, "", &mut told)?;
    Some(references::written(keys.object("notification_config", &mut told)))
}

fn document(folder: &Folder, env: Env<'_>, report: &mut Report) -> Option<Written> {
    let text = match folder.read(FILE, YAML_BYTES_MAX) {
        Ok(text) => text,
        Err(Refusal::Absent) => {
            report.warn(
                Place::file(),
                "the project has no metadata.yaml; defaults hold",
                "add one if you need project-wide settings",
            );
            return None;
        }
        Err(refusal) => {
            report.error(Place::file(), refusal.to_string(), refusal.remedy());
            return None;
        }
    };
    let rendered = template::render(&text, env)
        .map_err(|broken| {
            let message = format!("the template is broken: {}", broken.message);
            report.error(Place::new("", broken.line), message, "correct the `{{ … }}` expression");
        })
        .ok()?;
    let filled_in = |place: &Place| place.key.split('.').next().is_some_and(|key| FILLED_IN.contains(&key));
    let elsewhere = unresolved::places(&text, env).into_iter().filter(|place| !filled_in(place));
    for place in elsewhere {
        report.warn(place, "only blocks are given secrets: the value is empty here", "use env_var(…)");
    }
    for place in unresolved::foreign_places(&text, env).into_iter().filter(filled_in) {
        report.warn(place, "only secrets of the cluster are known here: the value is empty", "use mage_secret_var(…)");
    }
    let referring = template::names_secrets(&text)
        .then(|| yaml::parse(&template::render_with(&text, env, references::mark).ok()?).ok())
        .flatten();
    let document = yaml::parse(&rendered)
        .map_err(|broken| report.error(Place::new("", broken.line), broken.message, "correct the YAML at this line"))
        .ok()?;
    Some(Written { document, referring })
}

fn settings(keys: &Keys<'_>, env: Env<'_>, report: &mut Report) -> Metadata {
    keys.warn_unknown(&KNOWN, report);
    let trimmed = |key: &str, report: &mut Report| {
        keys.text(key, report).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let (logs_retention_s, log_level) = logging(keys, report);
    Metadata {
        project_type: project_type(keys, env, report),
        project_uuid: env("PROJECT_UUID").or_else(|| trimmed("project_uuid", report)),
        // With the secrets that it names, whoever reads the whole project fills it in: as executors read it.
        remote_variables_dir: trimmed("remote_variables_dir", report)
            .filter(|dir| is_bucket(dir))
            .or_else(|| trimmed("variables_dir", report).filter(|dir| is_bucket(dir))),
        place_secrets: Vec::new(),
        variables_retention_s: retention("variables_retention_period", keys, report),
        runs_retention_s: retention("run_retention_period", keys, report),
        logs_retention_s,
        log_level,
        secrets: secrets(keys, report),
        features: keys.object("features", report),
        retry: limits::retry(RetryPolicy::default(), keys, report),
        concurrency: limits::concurrency(&limits::from_environment(env, report), keys, report),
        limits: limits::defined(keys, report),
        notification_config: keys.object("notification_config", report),
        settings: variables_dir(keys, report),
    }
}

fn project_type(keys: &Keys<'_>, env: Env<'_>, report: &mut Report) -> String {
    let written = keys.text("project_type", report).map(|text| text.trim().to_owned());
    let given = env("PROJECT_TYPE").or(written).unwrap_or_else(|| "standalone".to_owned());
    if !PROJECT_TYPES.contains(&given.as_str()) {
        let message = format!("the project type {given:?} is not known; the project is read as standalone");
        report.warn(keys.place("project_type"), message, nearest::choose(&given, &PROJECT_TYPES));
        return "standalone".to_owned();
    }
    given
}

/// Whether a folder of variables is in an object store. Mage's template ships a placeholder, which is none.
pub(crate) fn is_bucket(dir: &str) -> bool {
    (dir.starts_with("s3://") || dir.starts_with("gs://")) && dir != "s3://bucket/path_prefix"
}

/// A period of time after the end of a run.
pub(crate) fn retention(key: &str, keys: &Keys<'_>, report: &mut Report) -> Option<u64> {
    let period = keys.text(key, report)?.trim().to_owned();
    let seconds = seconds_of(&period);
    if seconds.is_none() {
        let message = format!("the period {period:?} is not understood, so nothing is removed because of it");
        report.warn(keys.place(key), message, "write a number above 0 and h, d or w, such as 90d");
    }
    seconds
}

/// The names under `secrets`; an empty list names none, no list says nothing.
pub(crate) fn secrets(keys: &Keys<'_>, report: &mut Report) -> Option<Vec<String>> {
    keys.node("secrets")?;
    Some(keys.list("secrets", report).into_iter().map(|named| named.name).collect())
}

/// `12h`, `90d` or `2w`.
fn seconds_of(period: &str) -> Option<u64> {
    let unit = match period.chars().last()? {
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let number = period[..period.len() - 1].trim_end().parse::<u32>().ok().filter(|number| *number > 0)?;
    Some(u64::from(number) * unit)
}

/// How long log lines are kept, and from which level on there are any; where they lie is the cluster's business.
fn logging(keys: &Keys<'_>, report: &mut Report) -> (Option<u64>, Option<String>) {
    let Some(logging) = keys.nested("logging_config") else { return (None, None) };
    for key in logging.names().filter(|key| !["retention_period", "level"].contains(key)) {
        let message = format!("logging_config.{key} is ignored: log lines are kept by the cluster");
        report.warn(logging.place(key), message, "remove the key; `orrery logs` shows the lines");
    }
    let level = logging.text("level", report).map(|level| level.trim().to_uppercase());
    let level = level.filter(|level| {
        let known = LOG_LEVELS.contains(&level.as_str());
        if !known {
            let message = format!("{level:?} is no level; lines of INFO and above are kept");
            report.warn(logging.place("level"), message, "write DEBUG, INFO, WARNING, ERROR or CRITICAL");
        }
        known
    });
    (retention("retention_period", &logging, report), level)
}

/// The settings as written, after a word about the one that cannot hold on a cluster.
fn variables_dir(keys: &Keys<'_>, report: &mut Report) -> Map<String, Value> {
    if let Some(dir) = keys.text("variables_dir", report).filter(|dir| dir.starts_with('/')) {
        let message =
            format!("outputs of blocks are not kept in the folder {dir:?}, but where the executors keep them");
        report.warn(
            keys.place("variables_dir"),
            message,
            "remove the key, set remote_variables_dir, or set outputs_url of the executors",
        );
    }
    keys.here_object()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_and_buckets() {
        for (period, seconds) in
            [("12h", Some(43_200)), ("90d", Some(7_776_000)), ("2w", Some(1_209_600)), ("1 d", Some(86_400))]
        {
            assert_eq!(seconds_of(period), seconds, "{period}");
        }
        for period in ["", "d", "90", "0d", "-1d", "1.5d", "3m", "90D", "1d2h", "99999999999h", "٣d"] {
            assert_eq!(seconds_of(period), None, "{period}");
        }
        for (dir, bucket) in
            [("s3://b/p", true), ("gs://b", true), ("s3://bucket/path_prefix", false), ("/data", false), ("", false)]
        {
            assert_eq!(is_bucket(dir), bucket, "{dir}");
        }
    }
}
