//! Triggers, their times and their history as people read them.

use crate::{
    failure::{Code, Result},
    render::{
        Output, block, short_id,
        table::{self, Tone},
        time,
    },
};
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    CatchUp, EventPatterns, ListFiringsResponse, ListTriggerTokensResponse, ListTriggersResponse,
    PreviewScheduleResponse, PublishEventResponse, RotateTriggerTokenResponse, RunLimitPolicy, Schedule, Trigger,
    TriggerSpec, TriggerWindow, trigger_spec::Kind,
};

/// What a trigger waits for, in a few words.
fn waits_for(spec: Option<&TriggerSpec>) -> String {
    match spec.and_then(|spec| spec.kind.as_ref()) {
        Some(Kind::Schedule(Schedule { every, time_zone, .. })) if time_zone == "UTC" => every.clone(),
        Some(Kind::Schedule(Schedule { every, time_zone, .. })) => format!("{every} ({time_zone})"),
        Some(Kind::Event(EventPatterns { patterns })) => match patterns.len() {
            1 => "events that match".to_owned(),
            count => format!("events that match one of {count}"),
        },
        Some(Kind::Api(_)) => "calls".to_owned(),
        Some(Kind::Manual(_)) => "`orrery run`".to_owned(),
        None => String::new(),
    }
}

fn state(trigger: &Trigger) -> (&'static str, Tone) {
    if trigger.archived {
        return ("archived", Tone::Dim);
    }
    match (trigger.active, trigger.halted) {
        (true, false) => ("active", Tone::Good),
        (true, true) => ("halted", Tone::Bad),
        (false, _) => ("paused", Tone::Dim),
    }
}

/// A table of triggers.
pub(super) fn list(output: &Output, all: &ListTriggersResponse) -> Result<Code> {
    let now = Timestamp::now();
    let rows = || {
        let headings = ["trigger", "pipeline", "waits for", "state", "next", "source", "version"];
        let mut table = table::new(output.style, &headings);
        for trigger in &all.triggers {
            let (word, tone) = state(trigger);
            let source = if trigger.edited { "project, edited" } else { trigger.source.as_str() };
            table.add_row([
                table::cell(block::one_line(&trigger.name), Tone::Plain),
                table::cell(&trigger.pipeline, Tone::Plain),
                table::cell(block::one_line(&waits_for(trigger.spec.as_ref())), Tone::Plain),
                table::cell(word, tone),
                table::cell(time::relative(time::instant(trigger.next_at.as_ref()), now), Tone::Plain),
                table::cell(source, Tone::Dim),
                table::number(trigger.version),
            ]);
        }
        table::text(&table, "no triggers; `orrery triggers create` makes one")
    };
    output.answer("orrery.v1.ListTriggersResponse", all, rows)?;
    Ok(Code::Ok)
}

/// Everything about one.
pub(super) fn whole(output: &Output, trigger: &Trigger) -> Result<Code> {
    output.answer("orrery.v1.Trigger", trigger, || text(output, trigger))?;
    Ok(Code::Ok)
}

fn text(output: &Output, trigger: &Trigger) -> String {
    let spec = trigger.spec.clone().unwrap_or_default();
    let lasting = |duration: Option<prost_types::Duration>| {
        duration.map(|d| time::duration(SignedDuration::from_secs(d.seconds))).unwrap_or_default()
    };
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    let instant = |at: Option<&prost_types::Timestamp>| time::instant(at).map(|at| at.to_string()).unwrap_or_default();
    let (start, end) = match &spec.kind {
        Some(Kind::Schedule(schedule)) => (instant(schedule.start_time.as_ref()), instant(schedule.end_time.as_ref())),
        _ => Default::default(),
    };
    let patterns = match &spec.kind {
        Some(Kind::Event(event)) => event.patterns.iter().filter_map(json).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    };
    let window = spec.window.as_ref().map(hours).unwrap_or_default();
    let timeout_status = spec.timeout.map(|_| word(spec.timeout_status().as_str_name(), "TIMEOUT_STATUS_"));
    let on_run_limit = match spec.on_run_limit() {
        RunLimitPolicy::Unspecified => String::new(),
        policy => word(policy.as_str_name(), "RUN_LIMIT_POLICY_"),
    };
    let run_limit = if spec.run_limit > 0 { spec.run_limit.to_string() } else { String::new() };
    let facts = [
        ("id", trigger.id.clone()),
        ("pipeline", trigger.pipeline.clone()),
        ("state", format!("{}, version {}", state(trigger).0, trigger.version)),
        ("source", if trigger.edited { "project, edited since".to_owned() } else { trigger.source.clone() }),
        ("waits for", waits_for(Some(&spec))),
        ("patterns", patterns),
        ("start", start),
        ("end", end),
        ("next", instant(trigger.next_at.as_ref())),
        ("description", block::one_line(&spec.description)),
        ("variables", spec.variables.as_ref().filter(|v| !v.fields.is_empty()).and_then(json).unwrap_or_default()),
        ("overlap", word(spec.overlap().as_str_name(), "OVERLAP_POLICY_")),
        ("catch-up", spec.catch_up.as_ref().map(catch_up).unwrap_or_default()),
        ("window", window),
        ("jitter", lasting(spec.jitter)),
        ("sla", lasting(spec.sla)),
        ("timeout", lasting(spec.timeout)),
        ("timeout status", timeout_status.unwrap_or_default()),
        ("run limit", run_limit),
        ("on run limit", on_run_limit),
        ("pause on failure", yes(spec.pause_on_failure)),
        ("landing time", yes(spec.landing_time)),
        ("initial run", yes(spec.create_initial_run)),
        ("blocks may fail", yes(spec.allow_blocks_to_fail)),
    ];
    let mut table = table::new(output.style, &["trigger", &trigger.name]);
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([table::cell(name, Tone::Dim), table::cell(value, Tone::Plain)]);
    }
    table::text(&table, "")
}

/// What becomes of missed times, with how far back and how many where all of them come.
fn catch_up(catch_up: &CatchUp) -> String {
    let mode = word(catch_up.mode().as_str_name(), "CATCH_UP_MODE_");
    match catch_up.window {
        Some(window) => {
            let window = time::duration(SignedDuration::from_secs(window.seconds));
            format!("{mode} of the last {window}, at most {}", catch_up.count)
        }
        None => mode,
    }
}

fn hours(TriggerWindow { from, to, days }: &TriggerWindow) -> String {
    if days.is_empty() { format!("{from}-{to}") } else { format!("{from}-{to} {}", days.join(",")) }
}

fn json(object: &prost_types::Struct) -> Option<String> {
    let object = rpc::json::shown_to_json(object.clone()).ok()?;
    serde_json::to_string(&object).ok()
}

/// A name of the contract's enumerations as it is typed.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_ascii_lowercase().replace('_', "-")
}

/// What was done to a trigger.
pub(super) fn changed(output: &Output, trigger: &Trigger, done: &str) -> Result<Code> {
    let said = || {
        let next = time::instant(trigger.next_at.as_ref());
        let next =
            next.map(|at| format!("; it fires {}", time::relative(Some(at), Timestamp::now()))).unwrap_or_default();
        format!("trigger {} of {} is {done}, version {}{next}", trigger.name, trigger.pipeline, trigger.version)
    };
    output.answer("orrery.v1.Trigger", trigger, said)?;
    Ok(Code::Ok)
}

/// The next times, and why others are not among them.
pub(super) fn times(output: &Output, answer: &PreviewScheduleResponse, window: Option<&TriggerWindow>) -> Result<Code> {
    output.answer("orrery.v1.PreviewScheduleResponse", answer, || coming(answer, window.map(hours)))?;
    Ok(Code::Ok)
}

fn coming(answer: &PreviewScheduleResponse, window: Option<String>) -> String {
    let times = answer.local_times.join("\n");
    match (answer.always_on, times.is_empty(), window) {
        (true, _, None) => "it starts again as soon as its run has ended".to_owned(),
        (true, _, Some(window)) => format!("it starts again as soon as its run has ended, in its window, {window}"),
        (false, true, None) => "it does not come any more".to_owned(),
        (false, true, Some(window)) => format!("it does not come any more in its window, {window}"),
        (false, false, None) => times,
        (false, false, Some(window)) => format!("{times}\ntimes outside of its window, {window}, are skipped"),
    }
}

/// What became of its times.
pub(super) fn history(output: &Output, all: &ListFiringsResponse) -> Result<Code> {
    let now = Timestamp::now();
    let rows = || {
        let mut table = table::new(output.style, &["time", "decided", "reason", "times", "run", "when", "key"]);
        for firing in &all.firings {
            let tone = if firing.decided == "fired" { Tone::Good } else { Tone::Warn };
            let nominal = time::instant(firing.nominal_at.as_ref()).map(|at| at.to_string()).unwrap_or_default();
            table.add_row([
                table::cell(nominal, Tone::Plain),
                table::cell(&firing.decided, tone),
                table::cell(&firing.reason, Tone::Plain),
                table::number(firing.times),
                table::cell(short_id(&firing.run_id), Tone::Plain),
                table::cell(time::relative(time::instant(firing.decided_at.as_ref()), now), Tone::Plain),
                table::cell(block::one_line(&firing.logical_key), Tone::Dim),
            ]);
        }
        table::text(&table, "nothing was decided yet")
    };
    output.answer("orrery.v1.ListFiringsResponse", all, rows)?;
    Ok(Code::Ok)
}

/// The tokens that hold.
pub(super) fn tokens(output: &Output, all: &ListTriggerTokensResponse) -> Result<Code> {
    let now = Timestamp::now();
    let rows = || {
        let mut table = table::new(output.style, &["token", "source", "created", "expires"]);
        for token in &all.tokens {
            let relative = |at| time::relative(time::instant(at), now);
            table.add_row([
                table::cell(&token.id, Tone::Plain),
                table::cell(&token.source, Tone::Dim),
                table::cell(relative(token.created_at.as_ref()), Tone::Plain),
                table::cell(relative(token.expires_at.as_ref()), Tone::Plain),
            ]);
        }
        table::text(&table, "no tokens; `orrery triggers token` makes one")
    };
    output.answer("orrery.v1.ListTriggerTokensResponse", all, rows)?;
    Ok(Code::Ok)
}

/// A token, this once, and how to use it.
pub(super) fn new_token(output: &Output, trigger: &str, answer: &RotateTriggerTokenResponse) -> Result<Code> {
    let said = || {
        format!(
            "{}\nnobody can show it again; call POST /api/pipeline_schedules/{trigger}/api_trigger with it as \
             `Authorization: Bearer …`",
            answer.token
        )
    };
    output.answer("orrery.v1.RotateTriggerTokenResponse", answer, said)?;
    Ok(Code::Ok)
}

/// What an event did.
pub(super) fn outcomes(output: &Output, answer: &PublishEventResponse) -> Result<Code> {
    let rows = || {
        let mut table = table::new(output.style, &["trigger", "pipeline", "run", "skipped"]);
        for outcome in &answer.outcomes {
            table.add_row([
                table::cell(block::one_line(&outcome.trigger), Tone::Plain),
                table::cell(&outcome.pipeline, Tone::Plain),
                table::cell(short_id(&outcome.run_id), Tone::Good),
                table::cell(if outcome.waits { "waits for others" } else { &outcome.skipped }, Tone::Warn),
            ]);
        }
        table::text(&table, "no active trigger has a pattern that matches")
    };
    output.answer("orrery.v1.PublishEventResponse", answer, rows)?;
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{CatchUpMode, TimeoutStatus};

    #[test]
    fn what_is_always_on_comes_again_without_a_time() {
        let on = PreviewScheduleResponse { always_on: true, ..PreviewScheduleResponse::default() };
        assert_eq!(coming(&on, None), "it starts again as soon as its run has ended");
        assert!(coming(&on, Some("08:00-18:00".to_owned())).ends_with("ended, in its window, 08:00-18:00"));
        assert_eq!(coming(&PreviewScheduleResponse::default(), None), "it does not come any more");
    }

    #[test]
    fn what_was_set_is_shown() {
        let lasting = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let catch_up = CatchUp { mode: CatchUpMode::All.into(), window: lasting(7_200), count: 3 };
        let spec = TriggerSpec {
            catch_up: Some(catch_up),
            timeout: lasting(60),
            timeout_status: TimeoutStatus::Cancelled.into(),
            run_limit: 2,
            on_run_limit: RunLimitPolicy::Skip.into(),
            ..TriggerSpec::default()
        };
        let trigger = Trigger { name: "nightly".to_owned(), spec: Some(spec), ..Trigger::default() };
        let shown = text(&Output::new(true), &trigger);
        let line = |name: &str| {
            let found = shown.lines().find(|line| line.trim_start().starts_with(name));
            found.unwrap_or_else(|| panic!("no {name} in {shown}")).to_owned()
        };
        assert!(line("catch-up").contains("all of the last 2 h, at most 3"), "{shown}");
        assert!(line("timeout status").contains("cancelled") && line("on run limit").contains("skip"), "{shown}");
        let bare = text(&Output::new(true), &Trigger { spec: Some(TriggerSpec::default()), ..trigger });
        assert!(!bare.contains("timeout status") && !bare.contains("on run limit"), "{bare}");
    }
}
