//! The project's own `metadata.yaml`: what holds for all of its pipelines.
//!
//! Refuses to act on it: where variables are stored or which backend runs blocks is decided by the cluster.

use crate::{
    Env, YAML_BYTES_MAX,
    diagnostic::{Diagnostic, Place, Report},
    files::{Folder, Refusal},
    keys::Keys,
    limits, nearest, template,
    yaml::{self, Document},
};
use domain::{pipeline::Concurrency, retry::RetryPolicy};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const FILE: &str = "metadata.yaml";
const PROJECT_TYPES: [&str; 3] = ["standalone", "main", "sub"];

/// Project-wide settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// `standalone`, `main` or `sub`.
    pub project_type: String,
    /// Mage's own identifier of the project, if it has one.
    pub project_uuid: Option<String>,
    /// Where outputs are kept besides the cluster's own store, such as `s3://bucket/prefix`.
    pub remote_variables_dir: Option<String>,
    /// Such as `90d`.
    pub variables_retention_period: Option<String>,
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
    let document = document(folder, env, &mut report);
    let keys = document.as_ref().and_then(|document| Keys::of(&document.root, "", &mut report));
    let metadata = match keys {
        Some(keys) => settings(&keys, env, &mut report),
        None => Metadata { concurrency: limits::from_environment(env, &mut report), ..Metadata::default() },
    };
    (metadata, report.finish())
}

fn document(folder: &Folder, env: Env<'_>, report: &mut Report) -> Option<Document> {
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
    yaml::parse(&rendered)
        .map_err(|broken| report.error(Place::new("", broken.line), broken.message, "correct the YAML at this line"))
        .ok()
}

fn settings(keys: &Keys<'_>, env: Env<'_>, report: &mut Report) -> Metadata {
    let trimmed = |key: &str, report: &mut Report| {
        keys.text(key, report).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Metadata {
        project_type: project_type(keys, env, report),
        project_uuid: env("PROJECT_UUID").or_else(|| trimmed("project_uuid", report)),
        // Mage's template ships this placeholder.
        remote_variables_dir: trimmed("remote_variables_dir", report).filter(|dir| dir != "s3://bucket/path_prefix"),
        variables_retention_period: retention(keys, report),
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

fn retention(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    let period = keys.text("variables_retention_period", report)?.trim().to_owned();
    let number = period.strip_suffix(['h', 'd', 'w']).unwrap_or_default();
    if number.parse::<u32>().is_err() {
        let message = format!("the period {period:?} is not understood and is ignored");
        report.warn(keys.place("variables_retention_period"), message, "write a number and h, d or w, such as 90d");
        return None;
    }
    Some(period)
}

/// The settings as written, after a word about the one that cannot hold on a cluster.
fn variables_dir(keys: &Keys<'_>, report: &mut Report) -> Map<String, Value> {
    if let Some(dir) = keys.text("variables_dir", report).filter(|dir| dir.starts_with('/')) {
        let message = format!("the absolute folder {dir:?} is ignored: outputs live in the cluster's own store");
        report.warn(keys.place("variables_dir"), message, "remove the key, or set remote_variables_dir");
    }
    keys.here_object()
}
