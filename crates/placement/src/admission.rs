//! What has to be true before a place is looked for: the ask, the plan's window, quota and limit.

use crate::{
    accounts::{Accounts, QueueAccount, Whose},
    fleet::Fleet,
    plan::Code,
    policy::Policy,
    snapshot::Request,
};
use domain::{
    device::DeviceModel,
    id::QueueId,
    quota::{Account, Excess, Quota, Usage},
    window::Access,
};
use jiff::{SignedDuration, Timestamp, Zoned};
use std::collections::BTreeMap;

/// Why not, in a word and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) code: Code,
    pub(crate) sentence: String,
}

impl Reason {
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

/// The models that a request may have: what its plan permits, less what its project, its group or its person has enough of.
pub(crate) fn check(
    request: &Request,
    accounts: &Accounts,
    fleet: &Fleet,
    now: Timestamp,
    policy: &Policy,
) -> Result<Vec<DeviceModel>, Reason> {
    request.ask.check().map_err(|message| Reason::new(Code::AskInvalid, message))?;
    if accounts.queue(request.queue).is_none() {
        return Err(Reason::new(Code::QueueUnknown, "its queue is not known yet, or was taken away"));
    }
    if accounts.project(request.project).is_none() {
        return Err(Reason::new(Code::ProjectUnknown, "its project is not known yet, or was taken away"));
    }
    check_access(request, now, policy)?;
    if let Some((whose, excess)) = accounts.excess(request) {
        return Err(quota_reason(whose, &excess, 1));
    }
    if let Some(account) = accounts.over_limit(request) {
        return Err(limit_reason(account, request.ask.effective_milli(), 1));
    }
    check_models(request, accounts, fleet)
}

/// Why several that start together never do: together they are more than one of their queues or quotas may ever hold.
pub(crate) fn too_much_together(members: &[(Whose, Usage)], accounts: &Accounts) -> Option<Reason> {
    let mut quotas: BTreeMap<Account, (&Quota, Usage)> = BTreeMap::new();
    let mut queues: BTreeMap<QueueId, Usage> = BTreeMap::new();
    for (whose, usage) in members {
        for (account, quota, _) in accounts.quotas_of(*whose) {
            quotas.entry(account).or_insert_with(|| (quota, Usage::default())).1.add(usage);
        }
        queues.entry(whose.queue).or_default().add(usage);
    }
    let of_quota = |(account, (quota, wanted)): (Account, (&Quota, Usage))| {
        let excess = quota.excess(&Usage::default(), &wanted)?;
        Some(quota_reason(account, &excess, wanted.holders))
    };
    let of_queue = |(queue, wanted): (QueueId, Usage)| {
        let account = accounts.queue(queue)?;
        (wanted.gpu_milli > account.queue.limit_milli?).then(|| limit_reason(account, wanted.gpu_milli, wanted.holders))
    };
    quotas.into_iter().find_map(of_quota).or_else(|| queues.into_iter().find_map(of_queue))
}

fn check_access(request: &Request, now: Timestamp, policy: &Policy) -> Result<(), Reason> {
    match &request.access {
        Access::Always => Ok(()),
        Access::Closed { opens_at } => {
            let sentence = match opens_at {
                Some(at) => format!("the plan's window is closed; it opens on {}", spoken(at)),
                None => "the plan's window is closed and does not open again".to_owned(),
            };
            Err(Reason::new(Code::WindowClosed, sentence))
        }
        until @ Access::Until { .. } => match too_short(until, request.runtime_s, now, policy) {
            Some(sentence) => Err(Reason::new(Code::WindowTooShort, sentence)),
            None => Ok(()),
        },
    }
}

/// Why a start at `now` would not be worthwhile in a window that is open, in a sentence; `None` where it would.
#[must_use]
pub fn too_short(access: &Access, runtime_s: Option<u64>, now: Timestamp, policy: &Policy) -> Option<String> {
    let Access::Until { closes_at, opens_again_at } = access else { return None };
    let left = closes_at.timestamp().as_second() - now.as_second();
    let useful = runtime_s.map_or(policy.useful_s, |runtime| runtime.min(policy.useful_s));
    let least = policy.start_s.saturating_add(useful);
    if u64::try_from(left).is_ok_and(|left| left >= least) {
        return None;
    }
    let next = opens_again_at
        .as_ref()
        .map_or_else(|| "does not open again".to_owned(), |at| format!("opens again on {}", spoken(at)));
    Some(format!(
        "the plan's window closes on {}, too soon for a start of {} and {} of use; it {next}",
        spoken(closes_at),
        duration(policy.start_s),
        duration(useful),
    ))
}

fn check_models(request: &Request, accounts: &Accounts, fleet: &Fleet) -> Result<Vec<DeviceModel>, Reason> {
    if request.ask.gpus == 0 {
        return Ok(Vec::new());
    }
    let permitted = |model: &&DeviceModel| request.permitted.is_empty() || request.permitted.contains(model);
    if !request.ask.models.is_empty() && !request.ask.models.iter().any(|model| permitted(&model)) {
        let named = names(&request.ask.models);
        return Err(Reason::new(Code::ModelNotAllowed, format!("the plan does not allow {named}")));
    }
    let class = request.class.as_deref();
    let offered = |at: &usize| class.is_none() || fleet.kinds.iter().any(|k| k.model == *at && k.is_of(class));
    let offered = (0..fleet.models.len()).filter(offered).map(|at| &fleet.models[at]);
    let wanted: Vec<&DeviceModel> = offered.filter(|m| request.ask.accepts(m)).filter(permitted).collect();
    if wanted.is_empty() {
        let what = match (class, &request.ask.models[..]) {
            (Some(class), []) => format!("class {class}"),
            (None, []) => "the models of the plan".to_owned(),
            (_, models) => names(models),
        };
        return Err(Reason::new(Code::ModelAbsent, format!("no node has a device of {what}")));
    }
    if !accounts.limits_models(request) {
        return Ok(request.permitted.clone());
    }
    let mut first_excess = None;
    let mut left = Vec::with_capacity(wanted.len());
    for model in &wanted {
        match accounts.model_excess(request, model) {
            Some(excess) => first_excess = first_excess.or(Some(excess)),
            None => left.push((*model).clone()),
        }
    }
    match first_excess {
        Some((whose, excess)) if left.is_empty() => Err(quota_reason(whose, &excess, 1)),
        // Where nothing is ruled out, the request's own list keeps equal requests equal.
        None => Ok(request.permitted.clone()),
        Some(_) => Ok(left),
    }
}

/// Of one, or of all `members` of a gang.
fn quota_reason(whose: Account, excess: &Excess, members: u64) -> Reason {
    let Excess { what, limit, used, wanted } = excess;
    let (unit, scale): (&str, fn(u64) -> String) = match what.as_str() {
        "memory" => ("MiB of memory", |bytes| (bytes >> 20).to_string()),
        "storage" => ("MiB of storage", |bytes| (bytes >> 20).to_string()),
        "holders" => ("running at once", |count| count.to_string()),
        unit => (unit, thousandths),
    };
    let [limit_is, used, wanted_is] = [*limit, *used, *wanted].map(scale);
    if wanted > limit {
        let (by, fewer) = together(members);
        let (whose, more) = (whose.spoken(), "ask for less, or an administrator for more quota");
        let sentence = format!(
            "{wanted_is} {unit} is asked for{by}, and {whose} may never hold more than {limit_is}; {fewer}{more}"
        );
        return Reason::new(Code::QuotaTooSmall, sentence);
    }
    let (holds, helps) = match whose {
        Account::Project(_) => ("holds", "what its runtimes give back makes room"),
        Account::Group(_) => ("holds in all its projects", "what runtimes of any of these give back makes room"),
        Account::Person(_) => ("holds in all projects", "what this person's other runtimes give back makes room"),
    };
    let whose = whose.spoken();
    let sentence = format!("{whose} {holds} {used} of {limit_is} {unit}, and {wanted_is} is asked for; {helps}");
    Reason::new(Code::QuotaExceeded, sentence)
}

/// Of one, or of all `members` of a gang.
fn limit_reason(account: &QueueAccount, wanted: u64, members: u64) -> Reason {
    let (name, held) = (&account.queue.name, account.held_milli);
    let limit = account.queue.limit_milli.unwrap_or_default();
    let [held_is, limit_is, wanted_is] = [held, limit, wanted].map(gpus);
    if wanted > limit {
        let (by, fewer) = together(members);
        let more = "ask for less, or for another queue, or an administrator for a higher limit";
        let sentence = format!(
            "{wanted_is} is asked for{by}, and queue {name} may never hold more than {limit_is}; {fewer}{more}"
        );
        return Reason::new(Code::QueueTooSmall, sentence);
    }
    let sentence = format!("queue {name} holds {held_is} of its limit of {limit_is}, and {wanted_is} is asked for");
    Reason::new(Code::QueueLimit, sentence)
}

/// Who asks, where it is a gang, and what helps that besides.
fn together(members: u64) -> (String, &'static str) {
    match members {
        0 | 1 => (String::new(), ""),
        several => (format!(" by {several} that start together"), "start fewer together, "),
    }
}

/// `1.5 GPU`
pub(crate) fn gpus(milli: u64) -> String {
    format!("{} GPU", thousandths(milli))
}

pub(crate) fn thousandths(value: u64) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `A10 or T4`
pub(crate) fn names(models: &[DeviceModel]) -> String {
    models.iter().map(DeviceModel::as_str).collect::<Vec<_>>().join(" or ")
}

/// `Monday 2026-11-23 08:00 (CET)`: a weekday alone would mislead further ahead than a week, and a clock without its zone.
pub(crate) fn spoken(at: &Zoned) -> String {
    at.strftime("%A %Y-%m-%d %H:%M (%Z)").to_string()
}

/// About how long, in the largest unit that makes sense.
pub(crate) fn duration(seconds: u64) -> String {
    let unit = |value: u64, name: &str| format!("{value} {name}{}", if value == 1 { "" } else { "s" });
    match seconds {
        0..120 => unit(seconds, "second"),
        120..7_200 => unit(seconds.div_ceil(60), "minute"),
        7_200..172_800 => unit(seconds.div_ceil(3600), "hour"),
        _ => unit(seconds.div_ceil(86_400), "day"),
    }
}

/// When somebody who starts now ends at the latest, and whether the window's end is what stops him.
pub(crate) fn end_of(request: &Request, now: Timestamp) -> (Option<Timestamp>, bool) {
    let own = request.runtime_s.and_then(|seconds| {
        let seconds = i64::try_from(seconds).ok()?;
        now.checked_add(SignedDuration::from_secs(seconds)).ok()
    });
    let Access::Until { closes_at, .. } = &request.access else { return (own, false) };
    let closes = closes_at.timestamp();
    match own {
        Some(own) if own <= closes => (Some(own), false),
        Some(_) => (Some(closes), true),
        None => (Some(closes), false),
    }
}
