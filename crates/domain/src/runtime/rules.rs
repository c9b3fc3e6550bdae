//! Whether a runtime may be what somebody wants: in itself, by its project's policy and by a plan that opens its queue.
//! The web-server asks when a spec is saved and when a start is wanted; the scheduler asks before it gives a place to whoever
//! waits, since what is set may have changed meanwhile.
//!
//! Refuses to know what is free at the moment, and who asks: that is the planner's and the authorisation's.

mod denial;
mod form;
mod images;
mod plan;
mod policy;

pub use denial::{Code, Denial};
pub use form::{
    ENV_BYTES_MAX, ENV_MAX, GRACE_S_MAX, MOUNTS_MAX, NAME_CHARS_MAX, RESERVED, SCRIPT_BYTES_MAX, TIMEOUT_S_MIN,
    is_reserved,
};
pub use images::never_matches;
pub use plan::Plan;
pub use policy::{Policy, fits, usage};

use super::Spec;
use crate::device::{DeviceModel, Enforcement, Sharing, WHOLE_MILLI};
use crate::id::PlanId;
use crate::quota::{Excess, Usage};
use crate::window::Access;
use jiff::Timestamp;

/// What is set about a runtime's project and queue, and what the fleet offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// The project's.
    pub policy: Policy,
    /// The queue's name; for sentences.
    pub queue: String,
    /// Milli-GPU that the queue never exceeds; `None` is no limit.
    pub queue_limit_milli: Option<u64>,
    /// It is the default queue, which every project may use at any time.
    pub is_default_queue: bool,
    /// The project's plans that open the queue.
    pub plans: Vec<Plan>,
    /// Kinds of devices in the fleet, as far as they are known; none is not knowing.
    pub offers: Vec<Offer>,
}

/// A kind of device in the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its model.
    pub model: DeviceModel,
    /// How it is divided.
    pub sharing: Sharing,
    /// Its memory, bytes.
    pub memory_bytes: u64,
    /// What keeps a holder within its share.
    pub enforcement: Enforcement,
}

/// By what a runtime may start, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// The plan that lets it; `None` in the default queue.
    pub plan: Option<PlanId>,
    /// When.
    pub access: Access,
}

/// Whether a spec may be saved for a workspace of this name. Windows do not matter yet.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(name: &str, spec: &Spec, terms: &Terms) -> Result<(), Denial> {
    form::check_name(name)?;
    form::check(spec)?;
    terms.policy.check(spec)?;
    if !terms.is_default_queue {
        // One that allows it is enough; else the first one's reason is told.
        let verdicts = terms.plans.iter().map(|plan| plan.check(spec));
        let verdict = verdicts.reduce(|first, next| first.or_else(|denial| next.map_err(|_| denial)));
        verdict.unwrap_or_else(|| Err(not_bound(&terms.queue)))?;
    }
    within_limit(&terms.queue, terms.queue_limit_milli, &usage(spec))?;
    check_offers(spec, &terms.offers)
}

/// Under which plan a runtime may start at `now`: of those that allow it, the one that is open for longest; while all are
/// closed, the one that opens first.
///
/// # Errors
/// As [`check`]. A closed window is no error here: whoever asks may want to wait for it.
pub fn admit(name: &str, spec: &Spec, terms: &Terms, now: Timestamp) -> Result<Admission, Denial> {
    check(name, spec, terms)?;
    if terms.is_default_queue {
        return Ok(Admission { plan: None, access: Access::Always });
    }
    let allowing = terms.plans.iter().filter(|plan| plan.check(spec).is_ok());
    let best = allowing.map(|plan| (plan, crate::window::access(&plan.windows, now))).max_by(|a, b| a.1.cmp_use(&b.1));
    let (plan, access) = best.ok_or_else(|| not_bound(&terms.queue))?;
    Ok(Admission { plan: Some(plan.id), access })
}

/// The denial of a start while every window is closed.
#[must_use]
pub fn closed(terms: &Terms, access: &Access) -> Option<Denial> {
    let Access::Closed { opens_at } = access else { return None };
    let when = opens_at.as_ref().map_or_else(
        || "does not open again".to_owned(),
        |at| format!("opens on {}", at.strftime("%A %Y-%m-%d %H:%M (%Z)")),
    );
    let sentence = format!("queue `{}` is closed to the project by its plan's window, which {when}", terms.queue);
    Some(Denial::new(Code::WindowClosed, "queue", sentence, "wait for the window, or switch to the default queue now"))
}

/// Whether waiting for a window can help: of the plans that allow a spec, one is always open or opens once more.
#[must_use]
pub fn opens_again(plans: &[Plan], spec: &Spec, now: Timestamp) -> bool {
    let last = |access: &Access| {
        matches!(access, Access::Closed { opens_at: None } | Access::Until { opens_again_at: None, .. })
    };
    let allowing = plans.iter().filter(|plan| plan.check(spec).is_ok());
    allowing.map(|plan| crate::window::access(&plan.windows, now)).any(|access| !last(&access))
}

/// The denial of a queue that no plan of a project opens, whether it is there or not.
#[must_use]
pub fn not_bound(queue: &str) -> Denial {
    let sentence = format!("no plan of the project opens queue `{queue}`");
    Denial::new(Code::QueueNotBound, "queue", sentence, "use the default queue, or ask an administrator for a plan")
}

/// Whether one runtime, or several that start together, are no more than a queue's whole limit: what others hold may be given
/// back.
///
/// # Errors
/// When they are more.
pub fn within_limit(queue: &str, limit_milli: Option<u64>, wanted: &Usage) -> Result<(), Denial> {
    let milli = wanted.gpu_milli;
    let Some(limit) = limit_milli.filter(|limit| milli > *limit) else { return Ok(()) };
    let excess = Excess { what: "GPU".to_owned(), limit, used: 0, wanted: milli };
    let sentence = never(&excess, wanted, &format!("queue `{queue}`"));
    let remedy = remedy(wanted, "ask for less, use another queue, or ask an administrator for a higher limit");
    Err(Denial::new(Code::QueueTooSmall, "spec", sentence, remedy))
}

/// What is asked for, by one or by several, and what `whose` limit is.
fn never(excess: &Excess, wanted: &Usage, whose: &str) -> String {
    let together = match wanted.holders {
        0 | 1 => String::new(),
        several => format!(" by {several} that start together"),
    };
    let (wanted, limit) = (excess.spoken(excess.wanted), excess.spoken(excess.limit));
    format!("{wanted} is asked for{together}, and {whose} may never hold more than {limit}")
}

/// What helps one helps several, and so does being fewer.
fn remedy(wanted: &Usage, of_one: &str) -> String {
    if wanted.holders > 1 { format!("start fewer together, {of_one}") } else { of_one.to_owned() }
}

/// Whether some kind of device could ever serve it, share and memory considered.
fn check_offers(spec: &Spec, offers: &[Offer]) -> Result<(), Denial> {
    let ask = &spec.ask;
    let wanted: Vec<&Offer> = offers.iter().filter(|offer| ask.accepts(&offer.model)).collect();
    // Nothing of it in the fleet at present is for the planner to say: it may come.
    if ask.gpus == 0 || wanted.is_empty() {
        return Ok(());
    }
    let shared = ask.gpu_milli < WHOLE_MILLI;
    let divides = |offer: &&Offer| !shared || !matches!(offer.sharing, Sharing::Exclusive);
    let dividing: Vec<&Offer> = wanted.into_iter().filter(divides).collect();
    let percent = ask.gpu_milli.div_ceil(10);
    if dividing.is_empty() {
        let sentence = format!("a share of {percent} % is asked for, and these devices are only given whole");
        return Err(Denial::new(Code::SmUnsupported, "sm_percent", sentence, "ask for 100 %, or for another model"));
    }
    let joining: Vec<&Offer> = dividing.into_iter().filter(|offer| offer.sharing.joins(ask)).collect();
    if joining.is_empty() {
        let sentence = format!(
            "{percent} % of each of {} GPUs is asked for, and MPS shares these: one holder has a part of one only",
            ask.gpus
        );
        let remedy = "ask for one GPU, for 100 % of each, or for another model";
        return Err(Denial::new(Code::SmUnsupported, "sm_percent", sentence, remedy));
    }
    let asked = ask.gpu_memory_bytes.unwrap_or_default();
    let most = joining.iter().map(|offer| offer.memory_bytes).max().unwrap_or_default();
    if asked > most {
        let sentence = format!(
            "{} MiB of device memory are asked for, and no such device has more than {}",
            asked >> 20,
            most >> 20
        );
        return Err(Denial::new(Code::MemInvalid, "gpu_memory_bytes", sentence, "ask for less, or for another model"));
    }
    root_share(spec, offers)
}

/// Whether a share of a device is safe with somebody who is root there: of every device that it may be a share of, something
/// that root cannot change keeps its holders within theirs.
///
/// # Errors
/// When it is not.
pub fn root_share(spec: &Spec, offers: &[Offer]) -> Result<(), Denial> {
    let ask = &spec.ask;
    let divides = |offer: &&Offer| ask.accepts(&offer.model) && !matches!(offer.sharing, Sharing::Exclusive);
    let is_shared = spec.root && ask.gpus > 0 && ask.gpu_milli < WHOLE_MILLI;
    if is_shared && offers.iter().filter(divides).any(|offer| offer.enforcement != Enforcement::Hard) {
        let sentence =
            "as root, a share of a device could be exceeded: not all of these devices enforce it in hardware";
        let remedy = "ask for whole devices, for a model whose shares are enforced, or run without root";
        return Err(Denial::new(Code::RootNotAllowed, "root", sentence, remedy));
    }
    Ok(())
}

/// Whether a name is one of `patterns`: exact, or with the beginning that a pattern ending in `*` gives. No pattern is any name.
#[must_use]
pub fn listed(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests;
