//! The one decision about a trigger: what starts now, what never will, and when to look again.
//!
//! Nothing here depends on a former decision having led to anything: a *mark* says up to which nominal time everything
//! is decided, and what follows from it is computed anew each time. Refuses to know rows, runs and how long a decision
//! takes to be written; a decision that was not written is simply made again.

use super::{Every, Kind, Overlap, Schedule, Stop, Timetable, Trigger, due, key};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A time that is decided this much late is on time: a restart of the database must not cost a firing.
pub const ON_TIME: SignedDuration = SignedDuration::from_secs(10);
/// How many skipped times are counted one by one.
pub const COUNT_MAX: u32 = 1_000;
/// The most times of which one step decides each by itself; the next step goes on.
pub const STEP_MAX: usize = 2_000;
/// Between the end of a run and the next one of `@always_on`.
pub const ALWAYS_ON_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// A firing that may begin: one logical time of a trigger.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// Names it among all firings of the trigger, forever.
    pub key: String,
    /// The run's execution date: the nominal time, or when the call or event came.
    pub at: Timestamp,
    /// How much its caller said that its run is to be told, as JSON; a time says nothing.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub bytes: usize,
}

const fn is_nothing(bytes: &usize) -> bool {
    *bytes == 0
}

/// Why a logical time has no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A run of the trigger had not ended, or too many starts waited already, or too much with them.
    Overlap,
    /// A limit on runs was reached, and the trigger skips then.
    Limit,
    /// Nobody decided in time, and the trigger does not catch up with it.
    CatchUp,
    /// The trigger was paused, by somebody or by a failure.
    Pause,
    /// It lay outside of the hours or days of the trigger.
    Window,
}

impl SkipReason {
    /// As rows and messages have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Limit => "limit",
            Self::CatchUp => "catch_up",
            Self::Pause => "pause",
            Self::Window => "window",
        }
    }
}

/// Logical times that never start, in a row, for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The first of them, whose key names all.
    pub first: Start,
    /// The execution date of the last of them.
    pub last: Timestamp,
    /// How many; [`COUNT_MAX`] means so many or more.
    pub times: u32,
    /// Why.
    pub reason: SkipReason,
}

/// What is known of a trigger between two steps. Its owner stores it in the transaction that writes the decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every nominal time up to this one is decided; `None` before the first step.
    #[serde(default)]
    pub mark: Option<Timestamp>,
    /// Starts that wait for runs to end.
    #[serde(default)]
    pub waiting: Vec<Start>,
    /// An `@once` has come.
    #[serde(default)]
    pub once: bool,
    /// The trigger's `once_version` by which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once_version: Option<i64>,
    /// The schedule whose times are decided up to the mark. When the trigger has another one, what is left of this one's is
    /// accounted for. As text, since a hundred thousand of them lie in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Box<str>>,
    /// The version that was halted because a run of it failed; a newer one is not halted.
    #[serde(default)]
    pub halted: Option<i64>,
    /// Since when it is paused; while that is not over, it may be started and paused again before anybody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_from: Option<Timestamp>,
}

impl State {
    /// Whether the `@once` that the trigger has now has come, which it never does again.
    #[must_use]
    pub fn has_come(&self, trigger: &Trigger) -> bool {
        let has_come = match self.once_version {
            Some(version) => version >= trigger.once_version,
            // Who wrote this knew of one `@once` in a trigger's life; the mark is where it came.
            None => trigger.once_version <= 1 || self.mark.is_some_and(|mark| mark >= trigger.enabled_at),
        };
        self.once && has_come
    }
}

/// What a step is told about the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// By the database's clock.
    pub now: Timestamp,
    /// Runs of the trigger that have not ended.
    pub running: u32,
    /// How many more runs the limits take where the trigger skips at a limit; `None` where it waits.
    pub room: Option<u32>,
    /// When the latest run of the trigger ended; for `@always_on`.
    pub ended_at: Option<Timestamp>,
    /// With landing times: how long before the landing a run begins, from [`due::lead`]. `None` without history.
    pub lead: Option<SignedDuration>,
    /// Where the trigger was edited since the last step: when that one meant to look at it again.
    pub former_wake: Option<Timestamp>,
}

/// The outcome of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Start now, in this order.
    pub start: Vec<Start>,
    /// Never start.
    pub skip: Vec<Skip>,
    /// What the trigger's runs that have not ended are told.
    pub stop: Option<Stop>,
    /// To be stored with the decisions.
    pub state: State,
    /// When to look again if nothing else happens; `None` until a run ends or the trigger is edited.
    pub wake: Option<Timestamp>,
}

/// Decides about every time that is due. To be called at `wake`, when a run of the trigger ends, and when it is edited.
#[must_use]
pub fn step(trigger: &Trigger, timetable: Option<&Timetable>, state: &State, facts: &Facts) -> Step {
    let mut step = Step { state: state.clone(), ..Step::default() };
    let mut facts = *facts;
    if step.replace(trigger, timetable, facts.now) {
        // What the former schedule meant to look at says nothing of the times of this one.
        facts.former_wake = None;
    }
    let facts = &facts;
    if !trigger.active || state.halted == Some(trigger.version) {
        if !trigger.active {
            step.pause(trigger, timetable);
        }
        step.give_up_waiting();
        return step;
    }
    let mut starts = std::mem::take(&mut step.state.waiting);
    starts.extend(step.resume(trigger, timetable, facts));
    if let (Kind::Schedule(_), Some(timetable)) = (&trigger.spec.kind, timetable) {
        match timetable.every() {
            Every::AlwaysOn => starts.extend(step.always_on(trigger, timetable, facts)),
            _ => starts.extend(step.due(trigger, timetable, facts)),
        }
    }
    step.settle(trigger.spec.overlap, starts, facts);
    step
}

/// Decides about one start that somebody asked for: a call or an event.
#[must_use]
pub fn offer(trigger: &Trigger, state: &State, facts: &Facts, start: Start) -> Step {
    let mut step = Step { state: state.clone(), ..Step::default() };
    if !trigger.active || state.halted == Some(trigger.version) {
        step.give_up_waiting();
        step.skip.push(Skip::one(start, SkipReason::Pause));
        return step;
    }
    step.state.halted = None;
    let mut starts = std::mem::take(&mut step.state.waiting);
    starts.push(start);
    step.settle(trigger.spec.overlap, starts, facts);
    step
}

impl Skip {
    fn one(start: Start, reason: SkipReason) -> Self {
        Self { last: start.at, first: start, times: 1, reason }
    }
}

impl Step {
    /// Notes since when the trigger is paused. Where it was started and paused again since the last look, the times that came
    /// while it was active are those before the second pause; where none came, the first one goes on.
    fn pause(&mut self, trigger: &Trigger, timetable: Option<&Timetable>) {
        let known = self.paused_from(trigger);
        let set_at = trigger.former_paused_at.and(trigger.replaced_at);
        self.state.paused_from = known.or(trigger.paused_at).or(set_at);
        let (Some(known), Some(again), Some(mark), Some(timetable)) =
            (known, trigger.paused_at, self.state.mark, timetable)
        else {
            return;
        };
        let started = trigger.enabled_at;
        let comes = |after: Timestamp, until: Timestamp| timetable.next_after(after).is_some_and(|at| at <= until);
        if *timetable.every() != Every::Once
            && started > known.max(mark)
            && comes(started, again)
            && !comes(mark, known)
        {
            self.skip_span(timetable, known.max(mark), started, SkipReason::Pause);
            self.state.mark = Some(started);
            self.state.paused_from = Some(again);
        }
    }

    /// Since when the trigger is known to be paused; one that was made again under its name was not.
    fn paused_from(&mut self, trigger: &Trigger) -> Option<Timestamp> {
        let is_of_this_one = trigger.paused_at.is_some() || trigger.former_paused_at.is_some();
        self.state.paused_from.take().filter(|_| is_of_this_one)
    }

    /// A paused trigger starts nothing, not even what waited.
    fn give_up_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.state.waiting);
        self.skip.extend(waiting.into_iter().map(|start| Skip::one(start, SkipReason::Pause)));
    }

    /// Where the trigger has another schedule than the one that was decided about, accounts for what nobody had decided of
    /// that one, and begins with the new one: none of its times before it was set are its own.
    /// Answers whether it has.
    fn replace(&mut self, trigger: &Trigger, timetable: Option<&Timetable>, now: Timestamp) -> bool {
        let schedule = trigger.spec.schedule_of_times();
        let schedule = schedule.and_then(|schedule| serde_json::to_string(&schedule).ok()).map(String::into_boxed_str);
        if self.state.schedule == schedule {
            return false;
        }
        let former = std::mem::replace(&mut self.state.schedule, schedule);
        // One that is not known was not noted by the version of this program that decided about it.
        if former.is_none() && trigger.replaced_at.is_none() {
            return false;
        }
        let remembered = self.paused_from(trigger);
        let Some(mark) = self.state.mark else { return true };
        let replaced_at = trigger.replaced_at.unwrap_or(trigger.enabled_at);
        if let Some(former) = former.and_then(|text| serde_json::from_str::<Schedule>(&text).ok()?.compile().ok()) {
            let until = replaced_at.min(now);
            let halted = self.state.halted.is_some_and(|version| version != trigger.version);
            let paused_from =
                if halted { Some(mark) } else { remembered.or(trigger.former_paused_at).map(|at| at.max(mark)) };
            let paused_from = paused_from.map_or(until, |from| from.min(until));
            if !matches!(former.every(), Every::Once | Every::AlwaysOn) {
                self.skip_span(&former, mark, paused_from, SkipReason::CatchUp);
                self.skip_span(&former, paused_from, until, SkipReason::Pause);
            }
            if halted {
                self.state.halted = None;
            }
        }
        if let Some(timetable) = timetable {
            self.state.mark = Some(mark.max(replaced_at.min(trigger.first_mark(timetable))));
        }
        true
    }

    /// Moves the mark over the times that came before the trigger was enabled, or while it was paused. Answers what had come
    /// before the pause and was not decided by then, since its jitter was not over or nobody was there.
    fn resume(&mut self, trigger: &Trigger, timetable: Option<&Timetable>, facts: &Facts) -> Vec<Start> {
        let (halted, now) = (self.state.halted.take().is_some(), facts.now);
        let known_from = self.paused_from(trigger).or(trigger.paused_at);
        let Some(timetable) = timetable else { return Vec::new() };
        let floor = trigger.first_mark(timetable);
        let Some(mark) = self.state.mark else {
            // It was paused before anybody looked at it for the first time.
            if let Some(from) = known_from.filter(|_| *timetable.every() != Every::Once) {
                self.skip_span(timetable, from, floor.min(now), SkipReason::Pause);
            }
            self.state.mark = Some(floor);
            return Vec::new();
        };
        if mark >= trigger.enabled_at {
            // An edit ended the halt, and nobody noted when.
            if halted && *timetable.every() != Every::Once {
                self.skip_span(timetable, mark, now, SkipReason::Pause);
                self.state.mark = Some(mark.max(now));
            }
            return Vec::new();
        }
        // The schedule that was set in a pause is paused from then on.
        let set_at = trigger.replaced_at.filter(|at| trigger.former_paused_at.is_some() && *at >= mark);
        let paused_from = if halted { Some(mark) } else { known_from.or(set_at) };
        let mut starts = Vec::new();
        // `@once` that was paused comes when it is started.
        if let Some(from) = paused_from.filter(|_| *timetable.every() != Every::Once) {
            let (from, until) = (from.max(mark), floor.min(now));
            if from > mark && timetable.next_after(from).is_none_or(|next| next > until) {
                // No time came in the pause: those before it are decided like any others.
                return starts;
            }
            // None is due as late as the next one, so by now all of them are.
            let plan = due::Plan::new(trigger, timetable, facts);
            if timetable.next_after(mark).is_some_and(|first| first <= from) {
                self.give_up_late(&plan, trigger, timetable, from);
                let mut next = timetable.next_after(self.mark(trigger));
                while let Some(at) = next.filter(|at| *at <= from) {
                    self.take(&plan, trigger, timetable, at, &mut starts);
                    next = timetable.next_after(at);
                }
            }
            self.skip_span(timetable, from, until, SkipReason::Pause);
        }
        self.state.mark = Some(mark.max(floor));
        starts
    }

    /// Moves the mark over the times that are too late at `now` to be caught up with.
    fn give_up_late(&mut self, plan: &due::Plan<'_>, trigger: &Trigger, timetable: &Timetable, now: Timestamp) {
        let mark = self.mark(trigger);
        if let Some(from) = plan.worth_from(mark, now)
            && plan.next_after(mark).is_some_and(|first| first < from)
        {
            let given_up = due::before(from);
            self.skip_span(timetable, mark, given_up, SkipReason::CatchUp);
            self.state.mark = Some(given_up);
        }
    }

    fn always_on(&mut self, trigger: &Trigger, timetable: &Timetable, facts: &Facts) -> Option<Start> {
        // A start that waits is the run that is always on.
        if facts.running > 0 || !self.state.waiting.is_empty() {
            return None;
        }
        let after_last = facts.ended_at.and_then(|ended| ended.checked_add(ALWAYS_ON_PAUSE).ok());
        let at = trigger.enabled_at.max(after_last.unwrap_or(trigger.enabled_at));
        let at = timetable.opens_at(at);
        let at = trigger.spec.window.as_ref().map_or(at, |window| window.opens_at(at.max(facts.now), timetable.zone()));
        if timetable.closed_at(at) {
            return None;
        }
        // It has no times of its own that a limit could skip: it is on as soon as there is room.
        let at =
            if facts.room == Some(0) { at.max(facts.now.saturating_add(ALWAYS_ON_PAUSE).unwrap_or(at)) } else { at };
        if at > facts.now {
            self.wake = Some(at);
            return None;
        }
        Some(Start { key: key::of_always_on(at), at, bytes: 0 })
    }

    /// The nominal times that are due, after those that are given up.
    fn due(&mut self, trigger: &Trigger, timetable: &Timetable, facts: &Facts) -> Vec<Start> {
        if *timetable.every() == Every::Once && self.state.has_come(trigger) {
            return Vec::new();
        }
        let plan = due::Plan::new(trigger, timetable, facts);
        let mut starts = Vec::new();
        let mut next = plan.next_after(self.mark(trigger));
        // What a first activation asks for is older than the activation, and not late.
        if trigger.spec.create_initial_run
            && let Some(at) = next.filter(|at| *at <= trigger.enabled_at)
        {
            self.take(&plan, trigger, timetable, at, &mut starts);
            next = plan.next_after(at);
        }
        if next.is_some_and(|first| plan.due(first) <= facts.now) {
            self.give_up_late(&plan, trigger, timetable, facts.now);
            next = plan.next_after(self.mark(trigger));
        }
        while let Some(at) = next {
            let due = plan.due(at);
            if due > facts.now || starts.len() >= STEP_MAX {
                self.wake = Some(due.max(facts.now));
                return starts;
            }
            self.take(&plan, trigger, timetable, at, &mut starts);
            next = plan.next_after(at);
        }
        starts
    }

    fn mark(&self, trigger: &Trigger) -> Timestamp {
        self.state.mark.unwrap_or(trigger.enabled_at)
    }

    /// Decides one nominal time: it starts, unless it lies outside of the trigger's hours.
    fn take(
        &mut self,
        plan: &due::Plan<'_>,
        trigger: &Trigger,
        timetable: &Timetable,
        at: Timestamp,
        starts: &mut Vec<Start>,
    ) {
        self.state.mark = Some(at);
        if *timetable.every() == Every::Once {
            self.state.once = true;
            self.state.once_version = Some(trigger.once_version);
        }
        let start = Start { key: plan.key(at), at, bytes: 0 };
        match &trigger.spec.window {
            Some(window) if !window.holds(at, timetable.zone()) => self.skip_one(start, SkipReason::Window),
            _ => starts.push(start),
        }
    }

    /// Applies the overlap policy and the limit, and keeps what waits.
    fn settle(&mut self, overlap: Overlap, starts: Vec<Start>, facts: &Facts) {
        let sorted = overlap.sort(starts, facts.running > 0);
        let room = facts.room.map_or(usize::MAX, |room| usize::try_from(room).unwrap_or(usize::MAX));
        for (position, start) in sorted.start.into_iter().enumerate() {
            if position < room { self.start.push(start) } else { self.skip_one(start, SkipReason::Limit) }
        }
        for start in sorted.skip {
            self.skip_one(start, SkipReason::Overlap);
        }
        self.stop = sorted.stop;
        self.state.waiting = sorted.wait;
    }

    fn skip_one(&mut self, start: Start, reason: SkipReason) {
        self.skip.push(Skip::one(start, reason));
    }

    /// One skip for all nominal times in `(after, until]`.
    fn skip_span(&mut self, timetable: &Timetable, after: Timestamp, until: Timestamp, reason: SkipReason) {
        let Some(first) = timetable.next_after(after).filter(|first| *first <= until) else { return };
        let Some(last) = timetable.last_until(until, after) else { return };
        let mut times = 1;
        let mut at = first;
        while at < last && times < COUNT_MAX {
            let Some(next) = timetable.next_after(at) else { break };
            at = next;
            times += 1;
        }
        let key = key::of_time(first);
        self.skip.push(Skip { first: Start { key, at: first, bytes: 0 }, last, times, reason });
    }
}
