//! Definitions as messages of the contract. Refuses to decide anything.

use crate::encode;
use domain::{
    pipeline::OnLimit,
    trigger::{CatchUp, Kind, Overlap, Schedule, Spec, TimeoutStatus, Window},
};
use jiff::Timestamp;
use proto::v1::{self, CatchUpMode, OverlapPolicy, RunLimitPolicy, trigger_spec};
use rpc::timestamp::to_proto;
use store::{
    firing_views::Firing,
    triggers::{Held, Listed},
};

/// A trigger; `now` is what its next time comes after.
pub(crate) fn trigger(listed: Listed, now: Timestamp) -> v1::Trigger {
    let comes = listed.fires() && !listed.once_has_come;
    let trigger = listed.trigger;
    let timetable = trigger.spec.timetable().ok().flatten().filter(|_| comes);
    let window = trigger.spec.window.as_ref();
    let next = timetable.and_then(|timetable| timetable.next_in(window, now.max(trigger.enabled_at)));
    v1::Trigger {
        id: trigger.id.to_string(),
        workspace: listed.workspace,
        pipeline: listed.pipeline,
        name: trigger.name,
        version: trigger.version,
        active: trigger.active,
        source: listed.source,
        spec: Some(spec(trigger.spec)),
        created_at: Some(to_proto(listed.created_at)),
        updated_at: Some(to_proto(listed.updated_at)),
        next_at: next.map(to_proto),
        edited: listed.edited,
        halted: listed.halted,
        archived: listed.archived,
    }
}

fn spec(spec: Spec) -> v1::TriggerSpec {
    let overlap = match spec.overlap {
        Overlap::AllowAll => OverlapPolicy::AllowAll,
        Overlap::Skip => OverlapPolicy::Skip,
        Overlap::BufferOne => OverlapPolicy::BufferOne,
        Overlap::BufferAll => OverlapPolicy::BufferAll,
        Overlap::CancelOther => OverlapPolicy::CancelOther,
        Overlap::TerminateOther => OverlapPolicy::TerminateOther,
    };
    let timeout_status = match spec.timeout_status {
        TimeoutStatus::Failed => v1::TimeoutStatus::Failed,
        TimeoutStatus::Cancelled => v1::TimeoutStatus::Cancelled,
    };
    let on_limit = match spec.on_limit {
        None => RunLimitPolicy::Unspecified,
        Some(OnLimit::Wait) => RunLimitPolicy::Wait,
        Some(OnLimit::Skip) => RunLimitPolicy::Skip,
    };
    v1::TriggerSpec {
        kind: Some(kind(spec.kind)),
        description: spec.description,
        variables: Some(encode::structure(&spec.variables)),
        overlap: overlap.into(),
        catch_up: Some(catch_up(spec.catch_up)),
        jitter: (spec.jitter_s > 0).then(|| seconds(spec.jitter_s)),
        pause_on_failure: spec.pause_on_failure,
        landing_time: spec.landing_time,
        create_initial_run: spec.create_initial_run,
        window: spec.window.map(|window| self::window(&window)),
        sla: spec.sla_s.map(seconds),
        timeout: spec.timeout_s.map(seconds),
        timeout_status: timeout_status.into(),
        allow_blocks_to_fail: spec.allow_blocks_to_fail,
        run_limit: spec.run_limit.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(0),
        on_run_limit: on_limit.into(),
    }
}

fn kind(kind: Kind) -> trigger_spec::Kind {
    match kind {
        Kind::Manual => trigger_spec::Kind::Manual(v1::ManualStart {}),
        Kind::Api => trigger_spec::Kind::Api(v1::ApiCall {}),
        Kind::Event { patterns } => trigger_spec::Kind::Event(v1::EventPatterns {
            patterns: patterns.into_iter().map(encode::object).collect(),
        }),
        Kind::Schedule(Schedule { every, zone, start, end }) => trigger_spec::Kind::Schedule(v1::Schedule {
            every,
            time_zone: zone,
            start_time: start.map(to_proto),
            end_time: end.map(to_proto),
        }),
    }
}

fn catch_up(catch_up: CatchUp) -> v1::CatchUp {
    let (mode, window, count) = match catch_up {
        CatchUp::None => (CatchUpMode::None, None, 0),
        CatchUp::Latest => (CatchUpMode::Latest, None, 0),
        CatchUp::All { window_s, count } => (CatchUpMode::All, Some(seconds(window_s)), count),
    };
    v1::CatchUp { mode: mode.into(), window, count: i32::try_from(count).unwrap_or(i32::MAX) }
}

fn seconds(seconds: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::from(seconds), nanos: 0 }
}

fn window(window: &Window) -> v1::TriggerWindow {
    v1::TriggerWindow {
        from: window.from.strftime("%H:%M").to_string(),
        to: window.to.strftime("%H:%M").to_string(),
        days: window.days.iter().map(encode::name).collect(),
    }
}

/// One decision.
pub(crate) fn firing(firing: Firing) -> v1::Firing {
    v1::Firing {
        logical_key: firing.logical_key,
        decided: firing.decided,
        reason: firing.reason.unwrap_or_default(),
        run_id: firing.run.map(|run| run.to_string()).unwrap_or_default(),
        decided_at: Some(to_proto(firing.created_at)),
        nominal_at: firing.at.map(to_proto),
        last_nominal_at: firing.last.map(to_proto),
        times: firing.times,
        trigger_version: firing.trigger_version,
    }
}

/// What may be shown of a token.
pub(crate) fn token(held: Held) -> v1::TriggerToken {
    v1::TriggerToken {
        id: held.id,
        source: held.source,
        created_at: Some(to_proto(held.created_at)),
        expires_at: held.expires_at.map(to_proto),
    }
}
