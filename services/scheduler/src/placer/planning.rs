//! When is planned, and what becomes of the answer. Refuses to decide: that is `placement`'s.

use super::{Placer, recent::Held, sentences, turn::Turn};
use domain::{
    device::Ask,
    id::{GangId, HolderId, QueueId},
    runtime::{
        life::{Event, Life, Notice, Preemption as Preempted, Stage},
        reason::Reason,
        rules::listed,
    },
};
use jiff::Timestamp;
use placement::{Assignment, Code, Hint, Place, Plan, Policy, Preemption};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};
use store::ledger::{self, Act, Lost, Placement, PlacementState, StoredLife};

/// Decisions in one transaction.
const ACTS_MAX: usize = 500;
/// Between two plans at least the time that the last one took, and this.
const PAUSE: Duration = Duration::from_millis(2);
/// Whoever waits is thought of again after so long, though nothing happened: time passes for them too.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two plans that say what would help.
const EXPLAIN: Duration = Duration::from_secs(2);
/// Words to those who wait, of one plan; the others hear of the next one.
const NOTICES_MAX: usize = 500;
/// Kinds of asks that are remembered.
const DEMANDS_MAX: usize = 256;
/// After so long, half of what was asked for counts.
const DEMANDS_HALVED: Duration = Duration::from_secs(3_600);

/// What is to be planned, and when.
#[derive(Default)]
pub(super) struct Planning {
    wanted: bool,
    planned_at: Option<Instant>,
    not_before: Option<Instant>,
    explained_at: Option<Instant>,
    /// When others may be stopped for somebody who waits, as the last plan that explained foresaw.
    foreseen: Option<Timestamp>,
    tidied_at: Option<Instant>,
    /// Their projects' quota is used up elsewhere; they wait for fresh terms.
    held_back: HashSet<HolderId>,
    pub(super) demands: BTreeMap<Ask, u64>,
    halved_at: Option<Instant>,
    /// What was kept for these is lost.
    pub(super) denominated: Vec<HolderId>,
}

impl Planning {
    /// Something has changed that a plan depends on.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Somebody asks for this. What was asked for long ago is forgotten, and makes room for what is asked for now.
    pub(super) fn wants(&mut self, ask: &Ask) {
        self.wanted = true;
        if self.halved_at.is_none_or(|at| at.elapsed() >= DEMANDS_HALVED) {
            self.halved_at = Some(Instant::now());
            self.demands.values_mut().for_each(|count| *count /= 2);
            self.demands.retain(|_, count| *count > 0);
        }
        if self.demands.len() < DEMANDS_MAX || self.demands.contains_key(ask) {
            *self.demands.entry(ask.clone()).or_default() += 1;
        }
    }

    /// Somebody who asked for this has left without a place.
    pub(super) fn unwants(&mut self, ask: &Ask) {
        if let Some(count) = self.demands.get_mut(ask) {
            *count = count.saturating_sub(1);
        }
        self.demands.retain(|_, count| *count > 0);
    }

    /// A decision was not done.
    pub(super) fn lost(&mut self, holder: HolderId, why: &Lost) {
        tracing::info!(holder = %holder, why = ?why, "a decision came too late; it is made again");
        self.wanted = true;
        self.held_back.insert(holder);
    }

    /// What people set has changed: what was said to help may help no more.
    pub(super) fn terms_have_changed(&mut self) {
        self.wanted = true;
        self.explained_at = None;
    }

    pub(super) fn terms_are_fresh(&mut self) {
        self.wanted |= !self.held_back.is_empty();
        self.held_back.clear();
    }

    /// Until the next plan, as far as it is known.
    pub(super) fn pause(&self, clock: Timestamp) -> Duration {
        if !self.denominated.is_empty() {
            return Duration::ZERO;
        }
        let foreseen =
            self.foreseen.map_or(AGAIN, |at| Duration::try_from(at.duration_since(clock)).unwrap_or_default());
        if self.wanted || foreseen.is_zero() {
            return self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        }
        foreseen.min(AGAIN)
    }

    /// Notes when others may be stopped first, by a plan that explained.
    fn foresee(&mut self, plan: &Plan) {
        let hints = plan.refusals.iter().flat_map(|refusal| &refusal.hints);
        let times = hints.filter_map(|hint| match hint {
            Hint::Turn { preempts_at, .. } => *preempts_at,
            _ => None,
        });
        self.foreseen = times.min();
    }

    /// Seldom enough for what nobody waits for.
    pub(super) fn may_tidy(&mut self) -> bool {
        let may = self.tidied_at.is_none_or(|at| at.elapsed() >= AGAIN);
        if may {
            self.tidied_at = Some(Instant::now());
        }
        may
    }

    fn is_due(&self, clock: Timestamp) -> bool {
        let now = Instant::now();
        let stale = self.planned_at.is_none_or(|at| at.elapsed() >= AGAIN);
        let foreseen = self.foreseen.is_some_and(|at| at <= clock);
        (self.wanted || stale || foreseen) && self.not_before.is_none_or(|at| at <= now)
    }
}

/// Whether it has no place yet.
pub(super) fn waits(life: &Life) -> bool {
    matches!(life.stage, Stage::Queued | Stage::Nominated)
}

impl Placer {
    /// Plans, when there is a reason to, and puts the decisions into the turn.
    pub(super) async fn plan(&mut self, turn: &mut Turn) {
        self.remember_use();
        if self.terms_read_at.is_none() || !self.planning.is_due(self.now()) {
            return;
        }
        self.planning.wanted = false;
        self.planning.foreseen = self.planning.foreseen.filter(|at| *at > self.now());
        self.planning.planned_at = Some(Instant::now());
        if !self.lives.iter().any(|stored| waits(&stored.life)) && self.block_requests().next().is_none() {
            return;
        }
        let explains = self.planning.explained_at.is_none_or(|at| at.elapsed() >= EXPLAIN);
        let mut policy = self.policy();
        let explained_max = policy.explained_max;
        if explains {
            self.planning.explained_at = Some(Instant::now());
        } else {
            policy.explained_max = 0;
        }
        let held_back = self.planning.held_back.clone();
        let requests = self.requests().filter(|request| !held_back.contains(&request.holder)).collect();
        let snapshot = self.snapshot(requests);
        let count = snapshot.requests.len() as u64;
        let begun = Instant::now();
        let planned = tokio::task::spawn_blocking(move || placement::plan(&snapshot, &policy)).await;
        let took = begun.elapsed();
        self.planning.not_before = Some(Instant::now() + took + PAUSE);
        self.parts.metrics.placement_decisions.inc_by(count);
        self.parts.metrics.placement_plan_seconds.observe(took.as_secs_f64());
        match planned {
            Ok(plan) => self.decide(plan, explains, explained_max, turn),
            Err(error) => tracing::error!(pool = &*self.pool, error = %error, "planning failed; it is tried again"),
        }
    }

    /// Adds up what is held, for those who hold equally much later on.
    fn remember_use(&mut self) {
        let now = self.now();
        let lives = &self.lives;
        let held = self.placements.values().map(|placement| Held {
            queue: placement.queue,
            project: placement.project,
            milli: placement.effective_milli,
            since: lives.get(placement.holder).and_then(|stored| stored.life.placed_at).unwrap_or(now),
        });
        self.recent.pass(held, now);
    }

    fn decide(&mut self, plan: Plan, explains: bool, explained_max: usize, turn: &mut Turn) {
        if explains {
            self.planning.foresee(&plan);
        }
        for problem in plan.problems.iter().filter(|_| explains) {
            tracing::warn!(pool = &*self.pool, problem, "the planner leaves something out");
        }
        let mounted = self.mounted();
        let mut news = 0;
        for (place, refusal) in plan.refusals.into_iter().enumerate() {
            let code = serde_json::to_value(refusal.code).ok().and_then(|code| code.as_str().map(str::to_owned));
            let code = code.unwrap_or_default();
            self.give_up_place(refusal.holder, refusal.code);
            if self.blocks.refused(refusal.holder, &code, &refusal.sentence) {
                continue;
            }
            let about_room = matches!(refusal.code, Code::NoCapacity | Code::Fragmented | Code::NeverFits);
            let tie = if about_room { self.tie(refusal.holder, &mounted) } else { None };
            let sentence = match tie {
                Some(tie) => format!("{}; {tie}", refusal.sentence),
                None => refusal.sentence,
            };
            let about_window = matches!(refusal.code, Code::WindowClosed | Code::WindowTooShort);
            if about_window && self.lives.get(refusal.holder).is_some_and(|stored| self.never_opens(&stored.life)) {
                let (reason, message) = (Reason::PlanWindowExpired, sentence);
                self.happen(refusal.holder, Event::Stop { reason, message, again: false, actor: None }, turn);
                continue;
            }
            let known = self.lives.get(refusal.holder).map(|stored| &stored.life.notice);
            // How many of a gang are there by now is told at once.
            let counts = refusal.code == Code::GangIncomplete;
            let says_it = |notice: &Notice| notice.code == code && (!counts || notice.message == sentence);
            let keeps_code = known.is_some_and(says_it);
            if (keeps_code && !(explains && place < explained_max)) || news >= NOTICES_MAX {
                continue;
            }
            news += 1;
            let hint = sentences::hints(&refusal.hints, self.now());
            let turn_of = refusal.hints.iter().find_map(|hint| match hint {
                Hint::Turn { position, at, .. } => Some((u32::try_from(*position).ok(), *at)),
                _ => None,
            });
            let (position, expected_at) = turn_of.unwrap_or_default();
            let notice = Notice { code, message: sentence, hint, position, expected_at };
            self.happen(refusal.holder, Event::Waits(notice), turn);
        }
        let mut taken = HashMap::new();
        let assigned = self.together(plan.assignments, |one| one.holder);
        let assigned = self.apart(assigned, &mut taken, |one| (one.holder, one.place.node));
        let mut acts: Vec<Act> = assigned.iter().filter_map(|some| self.assign(some)).collect();
        let nominated = self.together(plan.preemptions, |one| one.holder);
        let nominated = self.apart(nominated, &mut taken, |one| (one.holder, one.place.node));
        acts.extend(nominated.iter().filter_map(|some| self.nominate(some)));
        if acts.len() > ACTS_MAX {
            acts.truncate(ACTS_MAX);
            self.planning.want();
        }
        turn.acts = acts;
    }

    /// Whoever may not start any more, or whose place others took, keeps no place from others.
    fn give_up_place(&mut self, holder: HolderId, code: Code) {
        let is_kept = |placement: &Placement| placement.state == PlacementState::Nominated;
        // About the last one nothing was decided.
        let starts_later = matches!(code, Code::WaitingForRelease | Code::PlannerFailed);
        if !starts_later && self.placements.get(&holder).is_some_and(is_kept) {
            self.planning.denominated.push(holder);
        }
    }

    /// Decisions about the members of one gang together, at the place of the first; every other one by itself.
    fn together<T>(&self, decisions: Vec<T>, holder: impl Fn(&T) -> HolderId) -> Vec<Vec<T>> {
        let mut groups: Vec<Vec<T>> = Vec::with_capacity(decisions.len());
        let mut gangs: HashMap<GangId, usize> = HashMap::new();
        for decision in decisions {
            let gang = self.lives.get(holder(&decision)).and_then(|stored| stored.life.gang.as_ref());
            let at = gang.map_or(groups.len(), |gang| *gangs.entry(gang.id).or_insert(groups.len()));
            match groups.get_mut(at) {
                Some(group) => group.push(decision),
                None => groups.push(vec![decision]),
            }
        }
        groups
    }

    fn assign(&self, assignments: &[Assignment]) -> Option<Act> {
        let mut act = Act { placements: Vec::new(), lives: Vec::new(), events: Vec::new(), releasing: Vec::new() };
        for Assignment { holder, place, .. } in assignments {
            if let Some(block) = self.block_placement(*holder, place.clone(), PlacementState::Held, Vec::new()) {
                act.placements.push(block);
                continue;
            }
            let mut stored = self.lives.get(*holder)?.clone();
            let change = stored.life.advance(Event::Placed, self.now(), &self.parts.timing.rules);
            stored.node = Some(place.node);
            act.placements.push(self.placement(&stored, place.clone(), PlacementState::Held, Vec::new()));
            act.events.extend(events(&stored, change.told));
            act.lives.push(stored);
        }
        Some(act)
    }

    /// All of them name the same victims.
    fn nominate(&self, preemptions: &[Preemption]) -> Option<Act> {
        let (now, rules) = (self.now(), &self.parts.timing.rules);
        let victims = preemptions.first()?.victims.clone();
        let mut act = Act { placements: Vec::new(), lives: Vec::new(), events: Vec::new(), releasing: Vec::new() };
        for Preemption { holder, place, .. } in preemptions {
            let state = PlacementState::Nominated;
            if let Some(block) = self.block_placement(*holder, place.clone(), state, victims.clone()) {
                act.placements.push(block);
                continue;
            }
            let mut stored = self.lives.get(*holder)?.clone();
            let change = stored.life.advance(Event::Nominated, now, rules);
            act.events.extend(events(&stored, change.told));
            act.placements.push(self.placement(&stored, place.clone(), PlacementState::Nominated, victims.clone()));
            act.lives.push(stored);
        }
        let first = act.placements.first()?.clone();
        let stops_at = self.end_of_notice(&victims);
        for victim in &victims {
            let mut victim = self.lives.get(*victim)?.clone();
            let message = self.comes_first(&first, victim.life.project);
            let event = match stops_at {
                Some(at) => Event::Preempted(Preempted { at, message }),
                None => Event::Stop { reason: Reason::Preempted, message, again: false, actor: None },
            };
            let change = victim.life.advance(event, now, rules);
            act.events.extend(events(&victim, change.told));
            if matches!(victim.life.stage, Stage::Stopping(_)) {
                act.releasing.push(victim.life.holder);
            }
            act.lives.push(victim);
        }
        Some(act)
    }

    pub(super) fn placement(
        &self,
        stored: &StoredLife,
        place: Place,
        state: PlacementState,
        victims: Vec<HolderId>,
    ) -> Placement {
        let first = place.grants.first().and_then(|grant| self.fleet.device(place.node, grant.device));
        Placement {
            holder: stored.life.holder,
            node: place.node,
            project: stored.life.project,
            person: self.person_of(stored.life.project, stored.life.requested_by),
            workspace: None,
            queue: stored.life.queue,
            state,
            cpu_milli: place.cpu_milli,
            memory_bytes: place.memory_bytes,
            effective_milli: stored.life.spec.ask.effective_milli(),
            storage_bytes: stored.life.spec.storage_bytes,
            model: first.map(|device| device.model.clone()).unwrap_or_default(),
            victims,
            grants: place.grants,
        }
    }

    pub(super) fn policy(&self) -> Policy {
        let preempt_after_s = self.parts.timing.preempt_after.as_secs();
        let mut policy = Policy { preempt_after_s, ..Policy::default() };
        for model in self.fleet.models() {
            let worth = self.terms.worths.iter().find(|(names, _)| !names.is_empty() && listed(names, model.as_str()));
            if let Some((_, worth)) = worth {
                policy.model_value_percent.insert(model, *worth);
            }
        }
        policy
    }

    /// Effective milli-GPU that count for a queue.
    pub(super) fn used_of_queue(&self, queue: QueueId) -> u64 {
        self.placements.values().filter(|p| p.queue == queue).map(|p| p.effective_milli).sum()
    }

    /// Somebody got a place, or is to get one.
    pub(super) fn observe(&self, placement: &Placement) {
        let metrics = &self.parts.metrics;
        if placement.state == PlacementState::Nominated {
            if !placement.victims.is_empty() {
                metrics.preemptions.with_label_values(&[&*self.pool]).inc();
            }
            return;
        }
        let queue = self.terms.queues.iter().find(|queue| queue.id == placement.queue);
        let stored = self.lives.get(placement.holder);
        if let (Some(queue), Some(stored)) = (queue, stored) {
            let waited = seconds_since(stored.life.submitted_at, self.now());
            metrics.runtime_wait_seconds.with_label_values(&[&*self.pool, &queue.name]).observe(waited);
        }
    }
}

fn events(stored: &StoredLife, told: Vec<domain::runtime::life::Entry>) -> Vec<ledger::Event> {
    let (workspace, number) = (stored.life.workspace, stored.life.number);
    told.into_iter().map(|entry| ledger::Event { workspace, number, entry }).collect()
}

pub(super) fn seconds_since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use placement::Refusal;

    #[test]
    fn a_plan_is_due_when_others_may_be_stopped_for_somebody() {
        let now = Timestamp::UNIX_EPOCH;
        let then = now + SignedDuration::from_secs(2);
        let mut planning = Planning { planned_at: Some(Instant::now()), ..Planning::default() };
        assert_eq!((planning.is_due(now), planning.pause(now)), (false, AGAIN));
        let refusal = |preempts_at| Refusal {
            holder: HolderId(uuid::Uuid::nil()),
            code: Code::NoCapacity,
            sentence: String::new(),
            hints: vec![Hint::Turn { position: 1, at: Some(now), preempts_at }],
        };
        let later = then + SignedDuration::from_secs(1);
        let refusals = vec![refusal(None), refusal(Some(later)), refusal(Some(then))];
        planning.foresee(&Plan { refusals, ..Plan::default() });
        assert_eq!((planning.is_due(now), planning.pause(now)), (false, Duration::from_secs(2)));
        assert_eq!((planning.is_due(then), planning.pause(then)), (true, Duration::ZERO));
        planning.foresee(&Plan::default());
        assert_eq!((planning.is_due(then), planning.pause(then)), (false, AGAIN));
    }
}
