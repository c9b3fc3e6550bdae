//! What would help somebody who waits. Every way out is tried on what is left at the end of the plan before it is named.

use crate::{
    admission::{self, duration, end_of, spoken, thousandths},
    candidate,
    order::{Order, Turn},
    plan::{Code, Hint, Plan, Preemption},
    planner::Planner,
    snapshot::{Holding, Request},
};
use domain::{
    device::{Ask, DeviceModel, GPUS_MAX, WHOLE_MILLI},
    id::{HolderId, QueueId},
    window::Access,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Other models that are named at most.
const MODELS_MAX: usize = 3;

/// Steps in which shares are tried, milli-GPU: people think in percent.
const SHARE_STEP: u64 = 10;

/// Steps in which processor is tried, thousandths of a core.
const CPU_STEP: u64 = 500;

/// Steps in which memory is tried, bytes.
const MEMORY_STEP: u64 = 256 << 20;

/// Who is safe from others for longer is so for good, as far as those who wait are concerned.
const FORESEEN: SignedDuration = SignedDuration::from_hours(24 * 7);

/// Departures that are looked ahead to.
const DEPARTURES_MAX: usize = 64;

impl Planner {
    /// Adds hints to the refusals of a plan that was made on this planner.
    pub(crate) fn explain(&self, requests: &[Request], plan: &mut Plan) {
        if plan.refusals.is_empty() {
            return;
        }
        let by_holder: HashMap<HolderId, &Request> = requests.iter().map(|r| (r.holder, r)).collect();
        let refused = || plan.refusals.iter().filter_map(|r| by_holder.get(&r.holder).copied());
        let (next, sure) = self.as_planned_next(refused());
        let all_wait = sure.len() == plan.refusals.len();
        let waiting: Vec<&Request> = plan
            .refusals
            .iter()
            .filter(|r| r.code.is_about_turn())
            .filter_map(|r| by_holder.get(&r.holder).copied())
            .collect();
        let (turns, preempting) = (self.turns(&waiting), self.foresee(&waiting));
        for refusal in plan.refusals.iter_mut().take(self.policy.explained_max) {
            let Some(request) = by_holder.get(&refusal.holder) else { continue };
            let mut hints = Vec::from_iter(when_it_opens(request));
            if request.gang.is_none() && all_wait {
                hints.extend(next.other_queues(request));
            }
            if request.gang.is_none() && refusal.code.has_ways_out() && sure.contains(&request.holder) {
                hints.extend(next.ways_out(request, refusal.code));
            }
            if let Some(position) =
                waiting.iter().filter(|w| w.queue == request.queue).position(|w| w.holder == request.holder)
            {
                let at = turns.get(&request.holder).copied();
                let preempts_at = preempting.get(&request.holder).copied();
                hints.push(Hint::Turn { position: position + 1, at, preempts_at });
            }
            refusal.hints = hints;
        }
    }

    /// The state in which the next plan finds itself when it comes to whoever changed his mind: what was assigned is
    /// taken, and the others have made their reservations anew. With those whose turn comes before anybody gets a place in
    /// it: where reservations move, or where somebody who started now may be stopped again, somebody does, and what helps
    /// whoever comes later is told by that plan.
    fn as_planned_next<'a>(&self, refused: impl Iterator<Item = &'a Request>) -> (Self, HashSet<HolderId>) {
        let mut next = self.clone();
        let (mut sure, mut all_wait) = (HashSet::new(), true);
        next.keeping = crate::keeping::Keeping::default();
        let exposed = next.close_plan();
        let mut order = Order::new(refused, self.now, &self.policy);
        while let Some(turn) = order.next(&next.accounts, self.now, &self.policy) {
            let members = match &turn {
                Turn::Gang(members) => &members[..],
                Turn::Single(request) => std::slice::from_ref(request),
            };
            all_wait &= next.waits_again(&turn, exposed);
            sure.extend(members.iter().filter(|_| all_wait).map(|member| member.holder));
        }
        (next, sure)
    }

    /// Whoever was told to leave does, and whoever started is as everybody else. Answers whether one of these may be stopped.
    fn close_plan(&mut self) -> bool {
        let leaving = std::mem::take(&mut self.leaving);
        let mut exposed = false;
        for holding in &mut self.holdings {
            holding.releasing |= leaving.contains(&holding.holder);
            if let Some(owner) = holding.owner.as_mut().filter(|owner| owner.protected_until == Some(Timestamp::MAX)) {
                owner.protected_until = None;
                exposed |= self.accounts.queue(owner.queue).is_some_and(|account| account.queue.preemptible);
            }
        }
        exposed
    }

    /// Whether they wait in the next plan, too; then their reservation is made.
    fn waits_again(&mut self, turn: &Turn<'_>, exposed: bool) -> bool {
        match turn {
            Turn::Gang(members) if exposed && self.could_make_room(members) => false,
            Turn::Gang(members) => self.reserve_if_waiting(members),
            Turn::Single(request) if self.nominations.contains_key(&request.holder) => true,
            Turn::Single(request) if self.could_start(request) => false,
            Turn::Single(request) if exposed && self.least_costly(request, None).is_some() => false,
            Turn::Single(request) => {
                self.reserve(request);
                true
            }
        }
    }

    /// Whether nothing is missing. Looks at every node, but does not compare them.
    fn could_start(&self, request: &Request) -> bool {
        let Ok(permitted) = self.admit(request) else { return false };
        let shape = self.shape(request, &permitted);
        let ends_at = end_of(request, self.now).0;
        shape.is_possible()
            && self.nodes_for(request, None).into_iter().any(|at| {
                let view = self.keeping.view(at, &self.fleet.states[at], request.holder, ends_at);
                candidate::fits(&self.fleet, at, &view, &shape)
            })
    }

    fn could_start_with(&self, request: &Request, change: impl FnOnce(&mut Ask)) -> bool {
        let mut changed = request.clone();
        change(&mut changed.ask);
        self.could_start(&changed)
    }

    fn ways_out(&self, request: &Request, code: Code) -> Vec<Hint> {
        let mut hints = Vec::new();
        let ask = &request.ask;
        if code == Code::ShareUnsupported {
            let whole = self.could_start_with(request, |ask| ask.gpu_milli = WHOLE_MILLI);
            hints.extend(whole.then_some(Hint::Share { gpu_milli: WHOLE_MILLI }));
        } else if ask.gpus > 0 {
            let share = greatest(u64::from(ask.gpu_milli), SHARE_STEP, |milli| {
                milli > 0 && self.could_start_with(request, |ask| ask.gpu_milli = narrow(milli))
            });
            hints.extend(share.map(|milli| Hint::Share { gpu_milli: narrow(milli) }));
        }
        let gpus = greatest(u64::from(ask.gpus.min(GPUS_MAX + 1)), 1, |gpus| {
            gpus > 0 && self.could_start_with(request, |ask| ask.gpus = narrow(gpus))
        });
        hints.extend(gpus.map(|gpus| Hint::FewerGpus { gpus: narrow(gpus) }));
        hints.extend(self.other_models(request));
        let cpu = greatest(ask.cpu_milli, CPU_STEP, |cpu_milli| {
            self.could_start_with(request, |ask| ask.cpu_milli = cpu_milli)
        });
        hints.extend(cpu.map(|cpu_milli| Hint::LessCpu { cpu_milli }));
        let memory = greatest(ask.memory_bytes, MEMORY_STEP, |memory_bytes| {
            self.could_start_with(request, |ask| ask.memory_bytes = memory_bytes)
        });
        hints.extend(memory.map(|memory_bytes| Hint::LessMemory { memory_bytes }));
        hints
    }

    /// Models that were not asked for, are permitted, and would do.
    fn other_models(&self, request: &Request) -> Vec<Hint> {
        if request.ask.models.is_empty() {
            return Vec::new();
        }
        let permitted = |model: &&DeviceModel| request.permitted.is_empty() || request.permitted.contains(model);
        let others = self.fleet.models.iter().filter(|model| !request.ask.models.contains(model)).filter(permitted);
        others
            .filter(|model| self.could_start_with(request, |ask| ask.models = vec![(*model).clone()]))
            .take(MODELS_MAX)
            .map(|model| Hint::OtherModel { model: model.clone() })
            .collect()
    }

    /// Queues without a window that have room.
    fn other_queues(&self, request: &Request) -> Vec<Hint> {
        let others = request.alternatives.iter().filter(|queue| **queue != request.queue);
        // They need no plan: neither its window nor its models bind there.
        let free = |queue: &QueueId| Request {
            queue: *queue,
            access: Access::Always,
            permitted: Vec::new(),
            ..request.clone()
        };
        let has_room = |queue: &QueueId| self.could_start(&free(queue));
        let name = |queue: &QueueId| self.accounts.queue(*queue).map(|account| account.queue.name.clone());
        others
            .filter_map(|queue| {
                Some(Hint::OtherQueue { queue: *queue, name: name(queue)? }).filter(|_| has_room(queue))
            })
            .collect()
    }

    /// When each gets a place, if nobody else comes and everybody ends in time: the planner, run ahead.
    fn turns(&self, waiting: &[&Request]) -> BTreeMap<HolderId, Timestamp> {
        let mut ahead = self.clone();
        ahead.policy.preemption = false;
        let mut waiting: Vec<&Request> = waiting.iter().copied().take(self.policy.explained_max).collect();
        let mut turns = BTreeMap::new();
        for _ in 0..DEPARTURES_MAX {
            let ends = ahead.holdings.iter().filter_map(|holding| holding.ends_at);
            let Some(next) = ends.filter(|end| *end > ahead.now).min() else { break };
            if waiting.is_empty() {
                break;
            }
            ahead.depart(next);
            let started = ahead.run(waiting.iter().copied()).assignments;
            let started: BTreeSet<HolderId> = started.iter().map(|assignment| assignment.holder).collect();
            turns.extend(started.iter().map(|holder| (*holder, next)));
            waiting.retain(|request| !started.contains(&request.holder));
        }
        turns
    }

    /// For whom others may be stopped later, and when the first enough of them: the plan, as it would be if nobody were safe
    /// any more who is for a while, and all had waited for long enough.
    fn foresee(&self, waiting: &[&Request]) -> BTreeMap<HolderId, Timestamp> {
        let until = self.now.saturating_add(FORESEEN).unwrap_or(Timestamp::MAX);
        let later = |at: Timestamp| at > self.now && at <= until;
        let safe_until = |holding: &Holding| holding.owner.as_ref().and_then(|owner| owner.protected_until);
        let may_leave = |holding: &&Holding| {
            let queue = holding.owner.as_ref().and_then(|owner| self.accounts.queue(owner.queue));
            queue.is_some_and(|account| account.queue.preemptible)
        };
        let waiting: Vec<&Request> = waiting.iter().copied().take(self.policy.explained_max).collect();
        let is_news = self.holdings.iter().filter(may_leave).filter_map(safe_until).any(later)
            || waiting.iter().any(|request| later(self.preempts_from(request)));
        if !is_news {
            return BTreeMap::new();
        }
        let mut ahead = self.clone();
        ahead.foreseen_until = Some(until);
        let foreseen = ahead.run(waiting.iter().copied()).preemptions;
        let when = |preemption: &Preemption| {
            let request = waiting.iter().find(|request| request.holder == preemption.holder)?;
            let victims = self.holdings.iter().filter(|holding| preemption.victims.contains(&holding.holder));
            let at = victims.filter_map(safe_until).fold(self.preempts_from(request), Timestamp::max);
            // Its window may be closed by then.
            let admitted = admission::check(request, &self.accounts, &self.fleet, at, &self.policy).is_ok();
            (admitted && later(at)).then_some((request.holder, at))
        };
        foreseen.iter().filter_map(when).collect()
    }

    /// Lets time pass until somebody has ended.
    fn depart(&mut self, now: Timestamp) {
        self.now = now;
        self.keeping = crate::keeping::Keeping::default();
        let holdings = std::mem::take(&mut self.holdings);
        let (ended, rest): (Vec<_>, Vec<_>) =
            holdings.into_iter().partition(|holding| holding.ends_at.is_some_and(|end| end <= now));
        self.holdings = rest;
        for holding in ended {
            if let Some(taking) = self.fleet.taking_of(&holding) {
                self.fleet.give(&taking);
            }
            if let Some(owner) = &holding.owner {
                let usage = crate::accounts::usage_of(&holding, owner, &self.fleet);
                self.accounts.remove(owner, &usage);
            }
        }
    }
}

/// Only while it is closed: where it is open, and closes too soon, the reason itself says when it opens again.
fn when_it_opens(request: &Request) -> Option<Hint> {
    match &request.access {
        Access::Closed { opens_at } => opens_at.clone().map(|at| Hint::WindowOpens { at }),
        Access::Until { .. } | Access::Always => None,
    }
}

impl Code {
    /// Whether waiting helps, so that one has a place in the queue.
    fn is_about_turn(self) -> bool {
        self.is_about_room() || matches!(self, Self::QuotaExceeded | Self::QueueLimit | Self::GangIncomplete)
    }

    /// Whether asking for something else may help.
    fn has_ways_out(self) -> bool {
        self.is_about_turn()
            || matches!(self, Self::QuotaTooSmall | Self::QueueTooSmall | Self::ShareUnsupported | Self::NeverFits)
            || matches!(self, Self::ModelAbsent | Self::ModelNotAllowed)
    }
}

impl Hint {
    /// A sentence for the person who asked.
    #[must_use]
    pub fn sentence(&self, now: Timestamp) -> String {
        match self {
            Self::Share { gpu_milli } => {
                let percent = format!("{}.{}", gpu_milli / 10, gpu_milli % 10);
                format!("it fits now with {} % of each GPU", percent.trim_end_matches(".0"))
            }
            Self::FewerGpus { gpus } => format!("it fits now with {gpus} GPU{}", if *gpus == 1 { "" } else { "s" }),
            Self::OtherModel { model } => format!("it fits now on {model}"),
            Self::LessCpu { cpu_milli } => format!("it fits now with {} CPU", thousandths(*cpu_milli)),
            Self::LessMemory { memory_bytes } => format!("it fits now with {} MiB of memory", memory_bytes >> 20),
            Self::OtherQueue { name, .. } => format!("it fits now in queue {name}"),
            Self::WindowOpens { at } => format!("the window opens on {}", spoken(at)),
            Self::Turn { position, at, preempts_at } => {
                let wait =
                    |at: &Timestamp| duration(u64::try_from(at.as_second() - now.as_second()).unwrap_or_default());
                let turn = at.as_ref().map(|at| format!(", about {}", wait(at)));
                let turn = turn.unwrap_or_else(|| "; when is not known".to_owned());
                let others = preempts_at.as_ref().map(|at| format!("; others may be stopped for it in {}", wait(at)));
                format!("position {position}{turn}{}", others.unwrap_or_default())
            }
        }
    }
}

/// The greatest multiple of `step` below `limit` for which it holds; whatever holds has to hold for less, too.
fn greatest(limit: u64, step: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    // In steps: it holds for `low` (as 0 it may not), and not beyond `high`.
    let (mut low, mut high) = (0, limit.saturating_sub(1) / step);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if holds(middle * step) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    (limit > 0 && holds(low * step)).then_some(low * step)
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
