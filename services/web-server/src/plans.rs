//! Plans and windows on the wire and in the domain. Refuses to store any.

use crate::fault::Fault;
use crate::runtimes::spec::{large, signed, signed_small, small};
use domain::id::PlanId;
use domain::runtime::rules;
use domain::window::{self, Access, Definition, WINDOWS_MAX};
use jiff::Timestamp;
use proto::v1;
use rpc::timestamp::{from_proto, to_proto};
use store::plans::Plan;

/// Names and patterns in one list.
const LIST_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 512;
/// Models that a warning lists.
const KNOWN_MAX: usize = 10;

/// The limits of a new plan, and its windows as they were written.
pub(crate) fn decode(plan: &v1::Plan) -> Result<(rules::Plan, Vec<Definition>), Fault> {
    check_list(&plan.models, "plan.models")?;
    check_list(&plan.queues, "plan.queues")?;
    if plan.queues.is_empty() {
        return Err(Fault::field("plan.queues", "must name the queues that it opens"));
    }
    if plan.windows.len() > WINDOWS_MAX {
        return Err(Fault::field("plan.windows", format!("must be at most {WINDOWS_MAX}")));
    }
    let written: Vec<Definition> = plan.windows.iter().enumerate().map(window).collect::<Result<_, _>>()?;
    let compile = |(at, window): (usize, &Definition)| {
        window.compile().map_err(|e| Fault::field(format!("plan.windows[{at}].{}", e.field), e.reason))
    };
    let windows = written.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
    let lifetime_max_s = plan.lifetime_s_max.map(|seconds| lifetime(seconds, "plan.lifetime_s_max")).transpose()?;
    let gpus_max = plan.gpus_max.map(|gpus| small(gpus, "plan.gpus_max")).transpose()?;
    if gpus_max.is_some_and(|gpus| gpus > domain::device::GPUS_MAX) {
        return Err(Fault::field("plan.gpus_max", format!("must be at most {}", domain::device::GPUS_MAX)));
    }
    let rules = rules::Plan {
        id: PlanId(uuid::Uuid::now_v7()),
        name: plan.name.clone(),
        models: plan.models.clone(),
        gpus_max,
        gpu_milli_max: plan.gpu_milli_max.map(|value| large(value, "plan.gpu_milli_max")).transpose()?,
        cpu_milli_max: plan.cpu_milli_max.map(|value| large(value, "plan.cpu_milli_max")).transpose()?,
        memory_max: plan.memory_bytes_max.map(|value| large(value, "plan.memory_bytes_max")).transpose()?,
        lifetime_max_s,
        windows,
    };
    Ok((rules, written))
}

/// A bound of lifetimes and time-outs.
pub(crate) fn lifetime(seconds: i32, field: &str) -> Result<u32, Fault> {
    let least = rules::TIMEOUT_S_MIN;
    match small(seconds, field)? {
        seconds if seconds >= least => Ok(seconds),
        _ => Err(Fault::field(field, format!("must be {least} or more"))),
    }
}

/// Refuses a list of names or patterns that is too long, or that holds one that is.
pub(crate) fn check_list(list: &[String], field: &str) -> Result<(), Fault> {
    let odd = |text: &String| {
        let star = text.find('*').is_some_and(|at| at + 1 < text.len());
        text.is_empty() || text.len() > PATTERN_BYTES_MAX || star || text.chars().any(char::is_control)
    };
    if list.len() > LIST_MAX || list.iter().any(odd) {
        return Err(Fault::field(field, format!("must be at most {LIST_MAX} texts, with a `*` only at an end")));
    }
    Ok(())
}

/// A warning for each name of a model that is none of `known`, with those. The fleet may grow, so it is no error.
pub(crate) fn absent<'a>(
    names: impl IntoIterator<Item = &'a str>,
    known: &[&str],
    means: impl Fn(&str, &str) -> bool,
) -> Vec<String> {
    let there = match known {
        [] => "no device is known at all".to_owned(),
        known => format!("there are {}", known.iter().take(KNOWN_MAX).copied().collect::<Vec<_>>().join(", ")),
    };
    let more = known.len().saturating_sub(KNOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let absent = names.into_iter().filter(|name| !known.iter().any(|model| means(name, model)));
    absent.map(|name| format!("no node has a device of model `{name}` at present; {there}{more}")).collect()
}

fn window((at, window): (usize, &v1::PlanWindow)) -> Result<Definition, Fault> {
    let field = |name: &str| format!("plan.windows[{at}].{name}");
    let time_zone = if window.time_zone.is_empty() { "UTC".to_owned() } else { window.time_zone.clone() };
    match (&window.starts_at, &window.ends_at) {
        (Some(starts), Some(ends)) if window.weekdays.is_empty() => Ok(Definition::Once {
            time_zone,
            starts_at: from_proto(starts, &field("starts_at"))?,
            ends_at: from_proto(ends, &field("ends_at"))?,
        }),
        (None, None) => {
            let minute = |value: i32, name: &str| {
                u16::try_from(value).map_err(|_| Fault::field(field(name), "must be minutes after midnight"))
            };
            Ok(Definition::Weekly {
                time_zone,
                weekdays: window.weekdays.iter().map(|day| u8::try_from(*day).unwrap_or(u8::MAX)).collect(),
                start_minute: minute(window.start_minute, "start_minute")?,
                end_minute: minute(window.end_minute, "end_minute")?,
            })
        }
        _ => Err(Fault::field(field("starts_at"), "must come with an end and without weekdays")),
    }
}

/// A plan as a message, with whether it is open at `now`.
pub(crate) fn encode(plan: Plan, now: Timestamp) -> v1::Plan {
    let compiled: Vec<window::Window> = plan.windows.iter().filter_map(|window| window.compile().ok()).collect();
    let (open, changes_at) = match window::access(&compiled, now) {
        Access::Always => (true, None),
        Access::Until { closes_at, .. } => (true, Some(closes_at.timestamp())),
        Access::Closed { opens_at } => (false, opens_at.map(|at| at.timestamp())),
    };
    v1::Plan {
        name: plan.rules.name,
        models: plan.rules.models,
        gpus_max: plan.rules.gpus_max.map(signed_small),
        gpu_milli_max: plan.rules.gpu_milli_max.map(signed),
        cpu_milli_max: plan.rules.cpu_milli_max.map(signed),
        memory_bytes_max: plan.rules.memory_max.map(signed),
        lifetime_s_max: plan.rules.lifetime_max_s.map(signed_small),
        queues: plan.queues,
        windows: plan.windows.into_iter().map(written).collect(),
        version: plan.version,
        archived: plan.archived,
        projects: plan.projects,
        open: open && !plan.archived,
        changes_at: changes_at.map(to_proto),
    }
}

fn written(window: Definition) -> v1::PlanWindow {
    match window {
        Definition::Weekly { time_zone, weekdays, start_minute, end_minute } => v1::PlanWindow {
            time_zone,
            weekdays: weekdays.into_iter().map(i32::from).collect(),
            start_minute: start_minute.into(),
            end_minute: end_minute.into(),
            ..v1::PlanWindow::default()
        },
        Definition::Once { time_zone, starts_at, ends_at } => v1::PlanWindow {
            time_zone,
            starts_at: Some(to_proto(starts_at)),
            ends_at: Some(to_proto(ends_at)),
            ..v1::PlanWindow::default()
        },
    }
}
