//! What is to be told about runs, and whom: from ends of runs and configurations to notes. Refuses to send any.

use domain::id::PipelineId;
use jiff::Timestamp;
use notify::{Config, Event, Facts};
use secrets::{Keyring, Place};
use serde_json::Value;
use std::collections::HashMap;
use store::{
    Error,
    notifications::{self, Configured, SealedConfig},
    outbox::{Note, Source},
    run_ends::{Ended, Failure, Version},
    secrets::Sealed,
};

/// Versions whose configuration is kept in memory; beyond it the memory starts anew.
const VERSIONS_MAX: usize = 4_096;
/// Characters of an error, and of its traceback, that a message may hold.
const ERROR_CHARS_MAX: usize = 1_000;
const TRACE_CHARS_MAX: usize = 4_000;

/// Configurations of the project files, read once per version: a version never changes.
#[derive(Debug, Default)]
pub struct Versions {
    known: HashMap<(PipelineId, i64), Option<Config>>,
}

impl Versions {
    /// Reads what is not known yet of these runs' versions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn learn(
        &mut self,
        db: &store::Transaction<'_>,
        of: impl IntoIterator<Item = &Version>,
    ) -> Result<(), Error> {
        for of in of {
            let version = (of.pipeline_id, of.pipeline_version);
            if self.known.contains_key(&version) {
                continue;
            }
            if self.known.len() >= VERSIONS_MAX {
                self.known.clear();
            }
            let config = notifications::of_version(db, of.pipeline_id, of.pipeline_version).await?;
            self.known.insert(version, config.and_then(|config| parse(&config, &of.pipeline)));
        }
        Ok(())
    }

    fn get(&self, of: &Version) -> Option<&Config> {
        self.known.get(&(of.pipeline_id, of.pipeline_version))?.as_ref()
    }

    /// The pipelines about whose runs anybody may want to be told.
    #[must_use]
    pub fn listened(&self, of: &[Version], configured: &[Configured]) -> Vec<PipelineId> {
        let is_listened = |of: &&Version| self.get(of).is_some() || configured.iter().any(|c| covers(c, of));
        of.iter().filter(is_listened).map(|of| of.pipeline_id).collect()
    }
}

fn covers(configured: &Configured, of: &Version) -> bool {
    configured.workspace == of.workspace_id && configured.pipeline.is_none_or(|pipeline| pipeline == of.pipeline_id)
}

/// A configuration; one that cannot be used tells nobody, and the log why.
pub fn parse(config: &Value, of: &str) -> Option<Config> {
    let config = Config::parse(config.as_object()?);
    config.inspect_err(|error| tracing::warn!(%error, pipeline = of, "a notification_config cannot be used")).ok()
}

/// A configuration of the API, as far as it lies in clear: enough to know whom it tells on what. Its seal is opened by whoever
/// sends, so that no end waits, and no message is lost, where this scheduler does not have the key, or not yet.
#[must_use]
pub fn outline(configured: &Configured) -> Option<Config> {
    let config = configured.config.as_object()?;
    let read = if configured.sealed.is_some() { Config::outline(config) } else { Config::parse(config) };
    let pipeline = &configured.pipeline_name;
    read.inspect_err(|error| tracing::warn!(%error, pipeline, "a notification_config cannot be used")).ok()
}

/// What is sealed, or else what lies in clear.
///
/// # Errors
/// When there is a seal and no key that opens it.
pub fn open(
    keyring: Option<&Keyring>,
    sealed: Option<&SealedConfig>,
    clear: Option<Value>,
) -> Result<Option<Value>, String> {
    let Some(SealedConfig { scope, version, seal }) = sealed else { return Ok(clear) };
    let keyring = keyring.ok_or("this scheduler has no `secret_keys_file`, which opens it")?;
    let place = Place { scope, name: notifications::SEAL_NAME, version: *version };
    let Sealed { key_id, wrapped_key, value } = seal.clone();
    let opened = keyring.open(&place, &secrets::Sealed { key_id, wrapped_key, value }).map_err(|e| e.to_string())?;
    serde_json::from_slice(&opened).map(Some).map_err(|_| "what is sealed is no JSON".to_owned())
}

/// What these ends, or late runs, are to be told as.
#[must_use]
pub fn notes(
    ends: &[Ended],
    versions: &Versions,
    configured: &[Configured],
    failures: &HashMap<i64, Failure>,
    public_url: Option<&str>,
) -> Vec<Note> {
    let own: Vec<(&Configured, Config)> = configured.iter().filter_map(|c| Some((c, outline(c)?))).collect();
    let mut notes = Vec::new();
    for end in ends {
        let of_project = versions.get(&end.of).map(|config| (Source::Project, config));
        let of_api = own.iter().filter(|(c, _)| covers(c, &end.of));
        let of_api = of_api.map(|(c, config)| (source(c), config));
        for (source, config) in of_project.into_iter().chain(of_api) {
            for event in events(end).into_iter().filter(|event| config.tells(*event)) {
                let facts = facts(end, failures.get(&end.end_id), public_url);
                notes.extend(config.channels.keys().map(|channel| note(end, event, source, channel, &facts)));
            }
        }
    }
    notes
}

/// Where a configuration of the API is.
#[must_use]
pub fn source(configured: &Configured) -> Source {
    if configured.pipeline.is_some() { Source::Pipeline } else { Source::Workspace }
}

/// What happened to a run that ended, or that goes on beyond its time.
fn events(end: &Ended) -> Vec<Event> {
    let ended = match end.status.as_str() {
        "failed" => Some(Event::Failure),
        "completed" => Some(Event::Success),
        _ => None,
    };
    let is_late = end.due_at.is_some_and(|due| end.completed_at.is_none_or(|at| at > due));
    ended.into_iter().chain(is_late.then_some(Event::PassedSla)).collect()
}

fn note(end: &Ended, event: Event, source: Source, channel: &str, facts: &Facts) -> Note {
    // A run ends as often as it is retried in place, and is late once.
    let what = match event {
        Event::PassedSla => event.as_str().to_owned(),
        _ => format!("{}/{}", end.end_id, event.as_str()),
    };
    Note {
        key: format!("{}/{what}/{}/{channel}", end.run, source.as_str()),
        workspace: end.of.workspace_id,
        pipeline: end.of.pipeline_id,
        pipeline_version: end.of.pipeline_version,
        run: Some(end.run),
        event: event.as_str(),
        source,
        channel: channel.to_owned(),
        facts: serde_json::to_value(facts).unwrap_or_default(),
    }
}

fn facts(end: &Ended, failure: Option<&Failure>, public_url: Option<&str>) -> Facts {
    let instant = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let cut = |text: &str, max: usize| text.chars().take(max).collect::<String>();
    let of_failure = |key: &str, max: usize| {
        failure.and_then(|failure| failure.error.get(key)?.as_str()).map(|text| cut(text, max)).unwrap_or_default()
    };
    let error = of_failure("message", ERROR_CHARS_MAX);
    Facts {
        workspace: end.workspace.clone(),
        pipeline_uuid: end.of.pipeline.clone(),
        pipeline_run_id: end.run.to_string(),
        pipeline_run_url: public_url
            .map(|url| format!("{}/#/runs/{}", url.trim_end_matches('/'), end.run))
            .unwrap_or_default(),
        pipeline_schedule_id: end.trigger_id.to_string(),
        pipeline_schedule_name: end.trigger.clone(),
        execution_time: end.execution_date.to_string(),
        status: end.status.clone(),
        started_at: instant(end.started_at),
        completed_at: instant(end.completed_at),
        due_at: instant(end.due_at),
        block_uuid: failure.map(|failure| failure.block.clone()).unwrap_or_default(),
        error: if error.is_empty() { cut(&end.reason, ERROR_CHARS_MAX) } else { error },
        stacktrace: of_failure("traceback", TRACE_CHARS_MAX),
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::{RunId, TriggerId, WorkspaceId};
    use serde_json::json;
    use uuid::Uuid;

    fn end(status: &str, took_s: i64, sla_s: Option<i64>) -> Ended {
        let created_at = Timestamp::from_second(1_800_000_000).unwrap();
        let completed_at = (status != "running").then(|| Timestamp::from_second(1_800_000_000 + took_s).unwrap());
        Ended {
            end_id: 7,
            run: RunId(Uuid::nil()),
            status: status.into(),
            started_at: Some(created_at),
            completed_at,
            of: Version {
                workspace_id: WorkspaceId(Uuid::nil()),
                pipeline_id: PipelineId(Uuid::nil()),
                pipeline: "p".into(),
                pipeline_version: 1,
            },
            workspace: "w".into(),
            trigger_id: TriggerId(Uuid::nil()),
            trigger: "t".into(),
            execution_date: created_at,
            reason: "it was told to".into(),
            due_at: sla_s.map(|s| Timestamp::from_second(1_800_000_000 + s).unwrap()),
        }
    }

    fn keys(end: Ended, config: Value) -> Vec<String> {
        let configured = Configured {
            workspace: end.of.workspace_id,
            pipeline: None,
            pipeline_name: String::new(),
            config,
            version: 1,
            sealed: None,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        let notes = notes(&[end], &Versions::default(), &[configured], &HashMap::new(), Some("https://o.example/"));
        notes
            .into_iter()
            .map(|note| note.key.trim_start_matches("00000000-0000-0000-0000-000000000000/").to_owned())
            .collect()
    }

    #[test]
    fn who_is_told_follows_from_how_a_run_ended() {
        let slack = json!({ "slack_config": { "webhook_url": "https://h.example/x" } });
        let all = json!({ "alert_on": ["trigger_success", "trigger_failure", "trigger_passed_sla"],
                          "slack_config": { "webhook_url": "https://h.example/x" },
                          "discord_config": { "webhook_url": "https://h.example/x" } });
        assert_eq!(keys(end("failed", 5, None), slack.clone()), ["7/failure/workspace/slack_config"]);
        assert!(keys(end("completed", 5, None), slack.clone()).is_empty());
        assert!(keys(end("cancelled", 5, None), all.clone()).is_empty());
        assert_eq!(
            keys(end("completed", 61, Some(60)), all.clone()),
            [
                "7/success/workspace/discord_config",
                "7/success/workspace/slack_config",
                "passed_sla/workspace/discord_config",
                "passed_sla/workspace/slack_config"
            ]
        );
        assert_eq!(keys(end("completed", 60, Some(60)), all).len(), 2, "in time");
        assert_eq!(keys(end("running", 0, Some(60)), slack), ["passed_sla/workspace/slack_config"]);
        assert!(keys(end("failed", 5, None), json!({ "pager": {} })).is_empty(), "what cannot be used harms nobody");
    }
}
