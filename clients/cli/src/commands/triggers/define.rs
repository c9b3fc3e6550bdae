//! What was typed about a trigger as a definition. Refuses only what cannot be said to the server, which checks the rest.

use crate::{
    arguments::{
        amounts::Setting,
        triggers::{CatchUp, Definition, OnLimit, Overlap, TimeoutStatus},
    },
    failure::{Code, Failure, Result},
};
use jiff::{SignedDuration, Timestamp};
use prost_types::Struct;
use proto::v1::{
    self, ApiCall, CatchUpMode, EventPatterns, OverlapPolicy, RunLimitPolicy, Schedule, TriggerSpec, TriggerWindow,
    trigger_spec::Kind,
};
use serde_json::{Map, Value};

/// A new definition: one of `--every`, `--event` and `--api` has to be there.
pub(super) fn new(definition: Definition) -> Result<TriggerSpec> {
    if definition.every.is_none() && definition.event.is_empty() && !definition.api {
        let remedy = "give --every SCHEDULE, --event PATTERN or --api";
        return Err(Failure::new(Code::Usage, "nothing says what starts the trigger", remedy));
    }
    changed(TriggerSpec::default(), definition)
}

/// A definition with what was given in place of what was there.
pub(super) fn changed(mut spec: TriggerSpec, given: Definition) -> Result<TriggerSpec> {
    spec.kind = kind(spec.kind, &given)?;
    if let Some(description) = given.description {
        spec.description = description.value().unwrap_or_default();
    }
    if !given.variables.is_empty() {
        let fields = &mut spec.variables.get_or_insert_default().fields;
        fields.retain(|key, _| !given.variables.iter().any(|(taken, value)| taken == key && value.is_none()));
        let given: Map<String, Value> = given.variables.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
        fields.extend(structure(&given, "--var")?.fields);
    }
    if let Some(overlap) = given.overlap {
        spec.overlap = policy(overlap).into();
    }
    if let Some(mode) = given.catch_up {
        let mode = match mode {
            CatchUp::None => CatchUpMode::None,
            CatchUp::Latest => CatchUpMode::Latest,
            CatchUp::All => CatchUpMode::All,
        };
        spec.catch_up = Some(v1::CatchUp { mode: mode.into(), ..v1::CatchUp::default() });
    }
    if let Some(window) = given.catch_up_window {
        spec.catch_up.get_or_insert_default().window = Some(duration(window));
    }
    if let Some(count) = given.catch_up_count {
        spec.catch_up.get_or_insert_default().count = count;
    }
    match given.window {
        Some(Setting::Of(window)) => spec.window = Some(self::window(&window, given.days)?),
        Some(Setting::None) if given.days.is_empty() => spec.window = None,
        Some(Setting::None) => {
            let what = "--days are those of a window, and `--window none` takes it away";
            return Err(Failure::new(Code::Usage, what, "leave one of them out"));
        }
        None => {}
    }
    lasting(&mut spec.jitter, given.jitter);
    lasting(&mut spec.sla, given.sla);
    lasting(&mut spec.timeout, given.timeout);
    if let Some(status) = given.timeout_status {
        let status = match status {
            TimeoutStatus::Failed => v1::TimeoutStatus::Failed,
            TimeoutStatus::Cancelled => v1::TimeoutStatus::Cancelled,
        };
        spec.timeout_status = status.into();
    }
    spec.pause_on_failure = given.pause_on_failure.unwrap_or(spec.pause_on_failure);
    spec.landing_time = given.landing_time.unwrap_or(spec.landing_time);
    spec.create_initial_run = given.initial_run.unwrap_or(spec.create_initial_run);
    spec.allow_blocks_to_fail = given.allow_blocks_to_fail.unwrap_or(spec.allow_blocks_to_fail);
    spec.run_limit = Setting::over(given.run_limit, Some(spec.run_limit)).unwrap_or_default();
    if let Some(on_limit) = given.on_run_limit {
        let policy = match on_limit {
            OnLimit::None => RunLimitPolicy::Unspecified,
            OnLimit::Wait => RunLimitPolicy::Wait,
            OnLimit::Skip => RunLimitPolicy::Skip,
        };
        spec.on_run_limit = policy.into();
    }
    Ok(spec)
}

fn kind(was: Option<Kind>, given: &Definition) -> Result<Option<Kind>> {
    if given.api {
        return Ok(Some(Kind::Api(ApiCall {})));
    }
    if !given.event.is_empty() {
        let patterns = given.event.iter().map(|text| object(text, "--event")).collect::<Result<_>>()?;
        return Ok(Some(Kind::Event(EventPatterns { patterns })));
    }
    let timed = given.zone.is_some() || given.start.is_some() || given.end.is_some();
    let mut schedule = match (was, &given.every) {
        (Some(Kind::Schedule(schedule)), _) => schedule,
        (_, Some(_)) => Schedule::default(),
        (_, None) if timed => {
            let what = "--zone, --start and --end only mean something with a schedule";
            return Err(Failure::new(Code::Usage, what, "give --every too"));
        }
        (was, None) => return Ok(was),
    };
    schedule.every = given.every.clone().unwrap_or(schedule.every);
    schedule.time_zone = Setting::over(given.zone.clone(), Some(schedule.time_zone)).unwrap_or_default();
    instant(&mut schedule.start_time, given.start);
    instant(&mut schedule.end_time, given.end);
    Ok(Some(Kind::Schedule(schedule)))
}

fn instant(field: &mut Option<prost_types::Timestamp>, given: Option<Setting<Timestamp>>) {
    if let Some(given) = given {
        *field = given.value().map(rpc::timestamp::to_proto);
    }
}

fn lasting(field: &mut Option<prost_types::Duration>, given: Option<Setting<SignedDuration>>) {
    if let Some(given) = given {
        *field = given.value().map(duration);
    }
}

fn policy(overlap: Overlap) -> OverlapPolicy {
    match overlap {
        Overlap::AllowAll => OverlapPolicy::AllowAll,
        Overlap::Skip => OverlapPolicy::Skip,
        Overlap::BufferOne => OverlapPolicy::BufferOne,
        Overlap::BufferAll => OverlapPolicy::BufferAll,
        Overlap::CancelOther => OverlapPolicy::CancelOther,
        Overlap::TerminateOther => OverlapPolicy::TerminateOther,
    }
}

fn window(text: &str, days: Vec<String>) -> Result<TriggerWindow> {
    let wrong = || Failure::new(Code::Usage, format!("`{text}` is no window"), "write it as 08:00-18:00");
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    Ok(TriggerWindow { from: from.trim().to_owned(), to: to.trim().to_owned(), days })
}

/// A length of time on the wire.
pub(super) fn duration(duration: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs(), nanos: duration.subsec_nanos() }
}

/// A JSON object that was typed, or that lies in the file after `@`.
pub(super) fn object(text: &str, what: &str) -> Result<Struct> {
    let remedy = "give a JSON object, or @FILE with one";
    let wrong = |why: String| Failure::new(Code::Usage, format!("{what} is not understood: {why}"), remedy);
    let file;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            file = std::fs::read_to_string(path).map_err(|e| wrong(format!("{path}: {e}")))?;
            file.as_str()
        }
        None => text,
    };
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    structure(&object, what)
}

fn structure(object: &Map<String, Value>, what: &str) -> Result<Struct> {
    rpc::json::json_to_struct(object, what).map_err(|e| Failure::new(Code::Usage, e.message, format!("check {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command, triggers::Triggers};
    use clap::Parser;

    fn definition(words: &str) -> Definition {
        let typed = ["orrery", "triggers", "edit", "t"].into_iter().chain(words.split_whitespace());
        match Arguments::try_parse_from(typed).unwrap().command {
            Command::Triggers { command: Some(Triggers::Edit { definition, .. }) } => *definition,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_edit_changes_what_is_given_and_nothing_else() {
        let words = "--every @daily --zone Europe/Berlin --overlap skip --var n=1 --sla 90s --catch-up all \
                     --catch-up-window 1h --catch-up-count 3 --window 08:00-18:00 --days mon,tue";
        let spec = new(definition(words)).unwrap();
        let edited = changed(spec.clone(), definition("--every @hourly --var m=2 --pause-on-failure")).unwrap();
        let Some(Kind::Schedule(schedule)) = &edited.kind else { panic!("{edited:?}") };
        assert_eq!((schedule.every.as_str(), schedule.time_zone.as_str()), ("@hourly", "Europe/Berlin"));
        assert_eq!((edited.overlap(), edited.sla, &edited.window), (OverlapPolicy::Skip, spec.sla, &spec.window));
        assert_eq!(edited.variables.unwrap().fields.len(), 2);
        assert!(edited.pause_on_failure && edited.catch_up == spec.catch_up);
        assert!(!changed(spec.clone(), definition("--pause-on-failure=false")).unwrap().pause_on_failure);
        let cancels = changed(spec, definition("--timeout 2h --timeout-status cancelled")).unwrap();
        assert_eq!(cancels.timeout_status(), v1::TimeoutStatus::Cancelled);
        let longer = changed(cancels.clone(), definition("--timeout 3h")).unwrap();
        assert_eq!(longer.timeout_status(), v1::TimeoutStatus::Cancelled, "what is not said stays");
        let fails = changed(cancels, definition("--timeout-status failed")).unwrap();
        assert_eq!(fails.timeout_status(), v1::TimeoutStatus::Failed);
    }

    #[test]
    fn what_may_be_absent_is_taken_back_by_none() {
        let set = "--every @daily --zone Europe/Berlin --start 2026-01-01T00:00:00Z --end 2027-01-01T00:00:00Z --var a=1 \
                   --var b=2 --description nightly --window 08:00-18:00 --days mon --jitter 5m --sla 90s --timeout 2h \
                   --run-limit 3 --on-run-limit skip";
        let taken = "--zone none --start none --end none --var a --description none --window none --jitter none --sla none \
                     --timeout none --run-limit none --on-run-limit none";
        let bare = new(definition("--every @daily --var b=2")).unwrap();
        let spec = new(definition(set)).unwrap();
        assert_eq!(changed(spec.clone(), definition(taken)).unwrap(), bare);
        assert_eq!(
            changed(spec.clone(), definition("--pause-on-failure=false")).unwrap(),
            spec,
            "what is not said stays"
        );
        assert!(changed(spec, definition("--window none --days mon")).is_err());
    }

    #[test]
    fn what_starts_it_has_to_be_said() {
        assert!(new(definition("--sla 5s")).is_err());
        assert!(changed(TriggerSpec::default(), definition("--zone UTC")).is_err());
        assert!(new(definition("--event {")).is_err() && new(definition("--event {}")).is_ok());
        assert!(new(definition("--event @/nowhere")).is_err());
        assert!(new(definition("--every @daily --window 8")).is_err());
    }
}
