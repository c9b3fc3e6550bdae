//! Messages of the contract as definitions. Refuses what the contract can say and a definition cannot.

use crate::encode;
use crate::fault::Fault;
use domain::{
    pipeline::OnLimit,
    trigger::{CatchUp, Day, Kind, Overlap, Schedule, Spec, TimeoutStatus, Window},
};
use prost_types::Struct;
use proto::v1::{self, CatchUpMode, OverlapPolicy, RunLimitPolicy, trigger_spec};
use serde_json::Value;

/// What is configured of a trigger, over what is `stored` of it: variables and patterns that are written back as they are shown
/// stay as they are, since a project's file may say what a message cannot.
pub(crate) fn spec(message: v1::TriggerSpec, stored: Option<&Spec>) -> Result<Spec, Fault> {
    let kind = kind(message.kind, stored)?;
    let variables = message.variables.unwrap_or_default();
    let variables = match stored.filter(|stored| encode::structure(&stored.variables) == variables) {
        Some(stored) => stored.variables.clone(),
        None => rpc::json::struct_to_json(variables, "spec.variables")?,
    };
    Ok(Spec {
        kind,
        description: message.description,
        variables,
        overlap: overlap(message.overlap)?,
        catch_up: message.catch_up.map_or(Ok(CatchUp::default()), catch_up)?,
        jitter_s: seconds(message.jitter, "spec.jitter")?.unwrap_or(0),
        pause_on_failure: message.pause_on_failure,
        landing_time: message.landing_time,
        create_initial_run: message.create_initial_run,
        window: message.window.map(window).transpose()?,
        sla_s: seconds(message.sla, "spec.sla")?,
        timeout_s: seconds(message.timeout, "spec.timeout")?,
        timeout_status: timeout_status(message.timeout_status)?,
        allow_blocks_to_fail: message.allow_blocks_to_fail,
        run_limit: match u32::try_from(message.run_limit) {
            Ok(0) => None,
            Ok(limit) => Some(limit),
            Err(_) => return Err(Fault::field("spec.run_limit", "must not be negative; 0 follows the pipeline")),
        },
        on_limit: on_limit(message.on_run_limit)?,
    })
}

fn kind(kind: Option<trigger_spec::Kind>, stored: Option<&Spec>) -> Result<Kind, Fault> {
    match kind {
        Some(trigger_spec::Kind::Schedule(message)) => Ok(Kind::Schedule(schedule(message, "spec.schedule")?)),
        Some(trigger_spec::Kind::Event(event)) => {
            if event.patterns.is_empty() {
                return Err(Fault::field("spec.event.patterns", "must hold a pattern; `{}` matches every event"));
            }
            let known = match stored.map(|stored| &stored.kind) {
                Some(Kind::Event { patterns }) => patterns.as_slice(),
                _ => &[],
            };
            let pattern = |given: Struct| match known.iter().find(|known| encode::object((*known).clone()) == given) {
                Some(known) => Ok(known.clone()),
                None => Ok(Value::Object(rpc::json::struct_to_json(given, "spec.event.patterns")?)),
            };
            Ok(Kind::Event { patterns: event.patterns.into_iter().map(pattern).collect::<Result<_, Fault>>()? })
        }
        Some(trigger_spec::Kind::Api(_)) => Ok(Kind::Api),
        Some(trigger_spec::Kind::Manual(_)) => {
            Err(Fault::field("spec.manual", "is built into every pipeline; choose schedule, event or api"))
        }
        None => Err(Fault::field("spec", "must hold one of schedule, event and api")),
    }
}

/// A schedule in the field `field`.
pub(crate) fn schedule(message: v1::Schedule, field: &str) -> Result<Schedule, Fault> {
    let instant = |at: Option<prost_types::Timestamp>, name: &str| -> Result<_, Fault> {
        Ok(at.map(|at| rpc::timestamp::from_proto(&at, &format!("{field}.{name}"))).transpose()?)
    };
    Ok(Schedule {
        every: message.every,
        zone: if message.time_zone.is_empty() { "UTC".to_owned() } else { message.time_zone },
        start: instant(message.start_time, "start_time")?,
        end: instant(message.end_time, "end_time")?,
    })
}

/// Whole seconds, rounded up; what is not there is `None`.
pub(crate) fn seconds(duration: Option<prost_types::Duration>, field: &str) -> Result<Option<u32>, Fault> {
    let Some(duration) = duration else { return Ok(None) };
    let whole = duration.seconds.saturating_add(i64::from(duration.nanos > 0));
    match u32::try_from(whole) {
        Ok(seconds) if duration.nanos >= 0 => Ok(Some(seconds)),
        _ => Err(Fault::field(field, "must be a length of time that is not negative and at most 136 years")),
    }
}

fn overlap(value: i32) -> Result<Overlap, Fault> {
    Ok(match OverlapPolicy::try_from(value) {
        Ok(OverlapPolicy::Unspecified | OverlapPolicy::AllowAll) => Overlap::AllowAll,
        Ok(OverlapPolicy::Skip) => Overlap::Skip,
        Ok(OverlapPolicy::BufferOne) => Overlap::BufferOne,
        Ok(OverlapPolicy::BufferAll) => Overlap::BufferAll,
        Ok(OverlapPolicy::CancelOther) => Overlap::CancelOther,
        Ok(OverlapPolicy::TerminateOther) => Overlap::TerminateOther,
        Err(_) => return Err(Fault::field("spec.overlap", "must be a policy such as OVERLAP_POLICY_SKIP")),
    })
}

fn catch_up(message: v1::CatchUp) -> Result<CatchUp, Fault> {
    let mode = CatchUpMode::try_from(message.mode)
        .map_err(|_| Fault::field("spec.catch_up.mode", "must be a mode such as CATCH_UP_MODE_LATEST"))?;
    if mode != CatchUpMode::All && (message.window.is_some() || message.count != 0) {
        return Err(Fault::field("spec.catch_up", "has a window or a count, which only go with CATCH_UP_MODE_ALL"));
    }
    Ok(match mode {
        CatchUpMode::None => CatchUp::None,
        CatchUpMode::Unspecified | CatchUpMode::Latest => CatchUp::Latest,
        CatchUpMode::All => CatchUp::All {
            window_s: seconds(message.window, "spec.catch_up.window")?
                .ok_or_else(|| Fault::field("spec.catch_up.window", "must say how far back"))?,
            count: u32::try_from(message.count)
                .map_err(|_| Fault::field("spec.catch_up.count", "must not be negative"))?,
        },
    })
}

fn timeout_status(value: i32) -> Result<TimeoutStatus, Fault> {
    Ok(match v1::TimeoutStatus::try_from(value) {
        Ok(v1::TimeoutStatus::Unspecified | v1::TimeoutStatus::Failed) => TimeoutStatus::Failed,
        Ok(v1::TimeoutStatus::Cancelled) => TimeoutStatus::Cancelled,
        Err(_) => return Err(Fault::field("spec.timeout_status", "must be TIMEOUT_STATUS_FAILED or _CANCELLED")),
    })
}

fn on_limit(value: i32) -> Result<Option<OnLimit>, Fault> {
    Ok(match RunLimitPolicy::try_from(value) {
        Ok(RunLimitPolicy::Unspecified) => None,
        Ok(RunLimitPolicy::Wait) => Some(OnLimit::Wait),
        Ok(RunLimitPolicy::Skip) => Some(OnLimit::Skip),
        Err(_) => return Err(Fault::field("spec.on_run_limit", "must be RUN_LIMIT_POLICY_WAIT or _SKIP")),
    })
}

fn window(message: v1::TriggerWindow) -> Result<Window, Fault> {
    let time = |text: &str, field: &str| {
        text.parse()
            .map_err(|_| Fault::field(format!("spec.window.{field}"), "must be a time of the day such as 08:00"))
    };
    let day = |text: &String| {
        let day: Result<Day, _> = serde_json::from_value(Value::from(text.as_str()));
        day.map_err(|_| Fault::field("spec.window.days", "must be days of the week such as mon"))
    };
    Ok(Window {
        from: time(&message.from, "from")?,
        to: time(&message.to, "to")?,
        days: message.days.iter().take(8).map(day).collect::<Result<_, _>>()?,
    })
}
