//! A trigger of a file as the scheduler's definition: Mage's settings, and those that Orrery adds to them.
//!
//! Refuses to know whether the trigger holds in an environment.

use super::{Trigger, TriggerKind};
use domain::{
    pipeline::OnLimit,
    trigger::{CatchUp, Invalid, Kind, Overlap, Schedule, Spec, TimeoutStatus, Window},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The `settings` of a trigger. Keys that nobody knows are Mage's own business.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    skip_if_previous_running: Option<bool>,
    allow_blocks_to_fail: Option<bool>,
    create_initial_pipeline_run: Option<bool>,
    landing_time_enabled: Option<bool>,
    pipeline_run_limit: Option<u32>,
    on_pipeline_run_limit_reached: Option<OnLimit>,
    timeout: Option<u32>,
    timeout_status: Option<TimeoutStatus>,
    overlap: Option<Overlap>,
    catch_up: Option<Catch>,
    jitter: Option<u32>,
    pause_on_failure: Option<bool>,
    window: Option<Window>,
}

/// `none`, `latest`, or how far back and how many.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Catch {
    Word(Word),
    All { window: u32, count: u32 },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    None,
    Latest,
}

impl Trigger {
    /// The definition, checked.
    ///
    /// # Errors
    /// When something in it is not understood or out of bounds.
    pub fn definition(&self) -> Result<Spec, Invalid> {
        let settings = settings(&self.settings)?;
        let overlap = match (settings.overlap, settings.skip_if_previous_running) {
            (Some(overlap), _) => overlap,
            (None, Some(true)) => Overlap::Skip,
            (None, _) => Overlap::AllowAll,
        };
        let mut spec = Spec {
            description: self.description.clone(),
            variables: self.variables.clone(),
            overlap,
            pause_on_failure: settings.pause_on_failure.unwrap_or(false),
            sla_s: self.sla_s,
            timeout_s: settings.timeout.filter(|seconds| *seconds > 0),
            timeout_status: settings.timeout_status.unwrap_or_default(),
            allow_blocks_to_fail: settings.allow_blocks_to_fail.unwrap_or(false),
            run_limit: settings.pipeline_run_limit.filter(|limit| *limit > 0),
            on_limit: settings.on_pipeline_run_limit_reached,
            ..Spec::new(self.kind())
        };
        // Mage keeps these with triggers of any kind, where they mean nothing.
        if let Kind::Schedule(schedule) = &spec.kind {
            // So it does with periods that have no landing.
            let periods = ["@hourly", "@daily", "@weekly", "@monthly"];
            let lands = periods.contains(&schedule.every.as_str()) && schedule.start.is_some();
            spec.landing_time = settings.landing_time_enabled.unwrap_or(false) && lands;
            spec.create_initial_run = settings.create_initial_pipeline_run.unwrap_or(false);
            spec.jitter_s = settings.jitter.unwrap_or(0);
            spec.window = settings.window;
            spec.catch_up = match settings.catch_up {
                None | Some(Catch::Word(Word::Latest)) => CatchUp::Latest,
                Some(Catch::Word(Word::None)) => CatchUp::None,
                Some(Catch::All { window, count }) => CatchUp::All { window_s: window, count },
            };
        }
        spec.check()?;
        Ok(spec)
    }

    fn kind(&self) -> Kind {
        match self.kind {
            TriggerKind::Api => Kind::Api,
            // Mage's files cannot say what they wait for: such a trigger is there, and its patterns come by the API.
            TriggerKind::Event => Kind::Event { patterns: self.event_patterns.clone() },
            TriggerKind::Time => Kind::Schedule(Schedule {
                every: self.schedule_interval.clone().unwrap_or_default(),
                zone: self.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
                start: self.start_time,
                end: self.end_time,
            }),
        }
    }
}

fn settings(settings: &Map<String, Value>) -> Result<Settings, Invalid> {
    let wrong = |error: serde_json::Error| Invalid::new(error.to_string()).of("settings");
    serde_json::from_value(Value::Object(settings.clone())).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trigger(kind: TriggerKind, interval: &str, settings: Value) -> Trigger {
        Trigger {
            name: "t".into(),
            description: String::new(),
            kind,
            schedule_interval: Some(interval.into()),
            start_time: None,
            end_time: None,
            time_zone: None,
            event_patterns: vec![json!({})],
            active: true,
            last_enabled_at: None,
            variables: Map::new(),
            sla_s: Some(60),
            settings: serde_json::from_value(settings).unwrap(),
            envs: Vec::new(),
            token: None,
        }
    }

    #[test]
    fn settings_of_mage_and_of_orrery() {
        let spec = trigger(
            TriggerKind::Time,
            "0 6 * * 1",
            json!({
                "skip_if_previous_running": true, "pipeline_run_limit": 2, "timeout": 90, "timeout_status": "cancelled",
                "landing_time_enabled": true, "unknown": {"a": 1}, "jitter": 30, "catch_up": {"window": 3600, "count": 4},
                "on_pipeline_run_limit_reached": "skip", "window": {"from": "08:00", "to": "18:00", "days": ["mon"]},
            }),
        );
        let spec = spec.definition().unwrap();
        assert_eq!((spec.overlap, spec.run_limit, spec.on_limit), (Overlap::Skip, Some(2), Some(OnLimit::Skip)));
        assert_eq!((spec.timeout_s, spec.timeout_status, spec.jitter_s), (Some(90), TimeoutStatus::Cancelled, 30));
        assert_eq!(spec.catch_up, CatchUp::All { window_s: 3600, count: 4 });
        assert!(!spec.landing_time && spec.window.is_some());
    }

    #[test]
    fn what_an_old_file_says_without_meaning_is_passed_over() {
        let spec =
            trigger(TriggerKind::Api, "", json!({"create_initial_pipeline_run": true, "timeout": 0, "jitter": 5}));
        assert_eq!(spec.definition().unwrap().timeout_s, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for settings in [
            json!({"timeout": -5}),
            json!({"pipeline_run_limit": "many"}),
            json!({"overlap": "sometimes"}),
            json!({"catch_up": {"window": 0, "count": 1}}),
            json!({"catch_up": {"window": 60, "count": 100_000}}),
            json!({"jitter": 1_000_000}),
            json!({"window": {"from": "25:00", "to": "26:00"}}),
        ] {
            assert!(trigger(TriggerKind::Time, "@daily", settings.clone()).definition().is_err(), "{settings}");
        }
    }
}
