//! The one-shot mode, `orrery-executor run-attempt`: an executor with one place, which runs one attempt and leaves. What
//! it is told to run and by whom it is told is as for any executor; here is what differs around it.

use crate::{
    process::outcome,
    settings::{self, Settings},
};
use anyhow::Context;
use domain::runtime::rules::is_reserved;
use proto::internal::v1::result::Outcome;
use runtime::exit::Code;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// The word on the command line.
pub const COMMAND: &str = "run-attempt";
/// Settings that whoever launches it passes on, besides where it comes back to.
const PASSED_ON: [&str; 11] = [
    "outputs_dir",
    "outputs_url",
    "outputs_cache",
    "project_outputs",
    "blobs_url",
    "python",
    "base_env",
    "runner_dir",
    "memory_limit",
    "log_limit",
    "pass_env",
];
/// Bytes of the text in an outcome file. An escaped character takes up to six times as many there.
const TEXT_BYTES_MAX: usize = 640;

/// The settings of one that has a single attempt: nothing is kept warm for a second one.
#[must_use]
pub(crate) fn settings(given: &Settings) -> Settings {
    let mut settings = given.clone();
    settings.slots = 1;
    settings.idle_children = 0;
    // What a driver says in a container keeps the block within its share of the devices: it has to reach the block.
    settings.pass_env.extend(of_devices(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())));
    settings
}

fn of_devices(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let is_of_devices =
        |name: &String| name.starts_with("CUDA_") || (is_reserved(name) && !name.starts_with("ORRERY_"));
    names.filter(is_of_devices)
}

/// The environment with which it has the settings of this executor, and comes back to `url`.
pub(crate) fn environment(settings: &Settings, url: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let values = serde_json::to_value(settings).context("write the settings of a container")?;
    let known = PASSED_ON.iter().filter_map(|name| Some((*name, text(&values[*name])?)));
    let come_back = [("scheduler_urls", url.to_owned()), ("data_dir", "/tmp/orrery-attempt".to_owned())];
    let variable = |name: &str| format!("ORRERY_{}_{}", settings::PREFIX, name.to_ascii_uppercase());
    Ok(known.chain(come_back).map(|(name, value)| (variable(name), value)).collect())
}

/// A value as one writes it into a variable; `None` where nothing is set.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
        Value::Null => None,
        other => Some(other.to_string()),
    }
    .filter(|text| !text.is_empty())
}

/// The exit code: 0 when the attempt ended as its code meant it to, 1 when it failed, 75 when there was none or it was
/// given back.
#[must_use]
pub fn code(outcome: Option<&Outcome>) -> Code {
    match outcome {
        Some(Outcome::Completed(_) | Outcome::ConditionFailed(_) | Outcome::NotYet(_) | Outcome::Cancelled(_)) => {
            Code::Ok
        }
        Some(Outcome::Failed(_)) => Code::Failure,
        Some(Outcome::Released(_)) | None => Code::Temporary,
    }
}

/// Writes how the attempt ended, for whoever looks at what is left of its container. It is no message: results travel
/// over the session.
///
/// # Errors
/// When the file cannot be written.
pub fn tell(path: &Path, outcome: Option<&Outcome>) -> std::io::Result<()> {
    let mut told = json!({ "outcome": outcome.map_or("none", outcome::name) });
    if let Some(Outcome::Failed(failed)) = outcome {
        let end = failed.message.floor_char_boundary(TEXT_BYTES_MAX);
        told["code"] = failed.code.clone().into();
        told["message"] = failed.message[..end].into();
    }
    std::fs::write(path, format!("{told}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_gives_the_same_settings_again() {
        let given = Settings {
            outputs_url: Some("s3://lake/outputs".to_owned()),
            blobs_url: Some("s3://lake/blobs".to_owned()),
            project_outputs: vec!["s3://a/".to_owned(), "s3://b/".to_owned()],
            memory_limit: Some(1 << 30),
            ..Settings::default()
        };
        let sources = runtime::settings::Sources {
            arguments: vec!["orrery-executor".into()],
            environment: environment(&given, "http://10.0.0.7:7073").unwrap(),
        };
        let read: Settings =
            runtime::settings::load_from("orrery-executor", settings::PREFIX, settings::KEYS, sources).unwrap();
        let values = |settings: &Settings| serde_json::to_value(settings).unwrap();
        for name in PASSED_ON {
            assert_eq!(values(&read)[name], values(&given)[name], "{name}");
        }
        assert_eq!(read.scheduler_urls, ["http://10.0.0.7:7073"]);
    }

    #[test]
    fn what_a_driver_says_of_devices_reaches_the_block() {
        let names =
            ["PATH", "CUDA_DEVICE_SM_LIMIT_0", "NVIDIA_VISIBLE_DEVICES", "ORRERY_CLUSTER_TOKEN", "HOME", "LD_PRELOAD"];
        let passed: Vec<String> = of_devices(names.map(str::to_owned).into_iter()).collect();
        assert_eq!(passed, ["CUDA_DEVICE_SM_LIMIT_0", "NVIDIA_VISIBLE_DEVICES", "LD_PRELOAD"]);
    }

    #[test]
    fn an_outcome_file_is_short_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outcome.json");
        let failed = crate::attempt::failed("USER_CODE", "\n€".repeat(10_000));
        tell(&path, Some(&failed)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let told: Value = serde_json::from_str(&text).unwrap();
        assert!(text.len() <= 4_096, "{}", text.len());
        assert_eq!((told["outcome"].as_str(), told["code"].as_str()), (Some("failed"), Some("USER_CODE")));
        assert_eq!((code(None).number(), code(Some(&failed)).number()), (75, 1));
    }
}
