//! What ends a life by the clock: its steps' limits, its plan's window, its longest time, idleness; and the warnings before.

use super::{Life, Preemption, Stage};
use crate::runtime::{activity::Verdict, reason::Reason};
use jiff::{SignedDuration, Timestamp};

/// Before an end, whoever is there is warned so often.
const WARNINGS: [SignedDuration; 3] =
    [SignedDuration::from_mins(15), SignedDuration::from_mins(5), SignedDuration::from_mins(1)];
/// After so long an unanswered question about its use is asked again.
pub(super) const PROBE_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Reports count from when they arrive: ends by idleness that differ by so little are one.
const SAME: SignedDuration = SignedDuration::from_secs(1);

/// A bound that comes while a life runs ends it no sooner than so long after it came.
pub const NOTICE: SignedDuration = WARNINGS[0];

/// The cluster's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nobody is stopped for idleness or for others sooner after the application came up.
    pub min_running: SignedDuration,
    /// Warned so long before the end by idleness, or half of the time-out where that is less.
    pub idle_warning: SignedDuration,
    /// From telling a life that runs that others come first to stopping it for them; zero is at once.
    pub preemption_notice: SignedDuration,
    /// From asking to end to ending, where a spec says nothing, seconds.
    pub grace_s: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_running: SignedDuration::from_mins(10),
            idle_warning: SignedDuration::from_mins(5),
            preemption_notice: SignedDuration::from_secs(30),
            grace_s: 30,
        }
    }
}

/// What binds a life besides its spec. It is said anew whenever it changes ([`super::Event::Bound`]), and not kept in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// When the window of its plan closes; `None` is never.
    pub closes_at: Option<Timestamp>,
    /// When it has to make room because its project may hold less than it does; `None` is never.
    pub over_quota_until: Option<Timestamp>,
    /// The longest that its plan or project lets it run, seconds.
    pub lifetime_max_s: Option<u32>,
    /// The longest idleness that its project lets it have, seconds.
    pub idle_timeout_max_s: Option<u32>,
}

/// What will end a life, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub because: Reason,
}

impl Life {
    /// When [`super::Event::Wake`] is due; `None` is not at all.
    #[must_use]
    pub fn due(&self, rules: &Rules) -> Option<Timestamp> {
        let step = match self.stage {
            Stage::Starting(step) => Some(self.step_at + step.limit().0),
            _ => None,
        };
        if self.bounds.is_none() {
            return step;
        }
        let fixed = self.fixed_ending();
        // One that comes after another end is never spoken of.
        let idle = self.idle_ending(rules).filter(|idle| fixed.as_ref().is_none_or(|fixed| idle.at < fixed.at));
        let idle = idle.map(|ending| match self.probed_at {
            Some(asked) => ending.at.max(asked + PROBE_PAUSE),
            None if self.ending.as_ref() == Some(&ending) => self.next_word(&ending),
            None => ending.at - self.idle_warning(rules),
        });
        let fixed = fixed.map(|ending| self.next_word(&ending));
        [step, fixed, idle].into_iter().flatten().min()
    }

    /// The first end that nothing but an administrator, another queue or whoever comes first puts off.
    pub(super) fn fixed_ending(&self) -> Option<Ending> {
        if !matches!(self.stage, Stage::Starting(_) | Stage::Running) {
            return None;
        }
        let Bounds { closes_at, over_quota_until, .. } = self.bounds.unwrap_or_default();
        let window = closes_at.map(|at| Ending { at, because: Reason::PlanWindowExpired });
        let lifetime = self.lifetime_end.map(|at| Ending { at, because: Reason::MaxLifetime });
        let quota = over_quota_until.map(|at| Ending { at, because: Reason::QuotaReduced });
        let others = self.preemption.as_ref().map(|told| Ending { at: told.at, because: Reason::Preempted });
        [window, lifetime, quota, others].into_iter().flatten().min_by_key(|ending| ending.at)
    }

    /// When it has been idle for long enough, as far as is known. What nobody knows never ends it.
    pub(super) fn idle_ending(&self, rules: &Rules) -> Option<Ending> {
        let since = self.running_at.filter(|_| self.stage == Stage::Running)?;
        let used = self.idle_timeout_s(self.bounds).and_then(|timeout| match self.activity.verdict(since) {
            Verdict::IdleSince(idle) => Some(after(idle, timeout)),
            Verdict::Unknown(_) => None,
        });
        let devices = self
            .gpu_idle_timeout_s()
            .and_then(|timeout| Some(after(self.activity.devices_idle_since(since)?, timeout)));
        let at = used.into_iter().chain(devices).min()?;
        let at = self.told_idle().filter(|told| at.duration_since(*told).abs() <= SAME).unwrap_or(at);
        let at = at.max(since + rules.min_running).max(self.protected_until.unwrap_or(at));
        Some(Ending { at: at.max(self.idle_not_before.unwrap_or(at)), because: Reason::Idle })
    }

    /// Where it would end for idleness sooner than was told, or than whoever is there can answer a warning, that is told
    /// first: what comes to be known late ends nobody by itself. Later looks find it told.
    pub(super) fn settle_idle(&mut self, now: Timestamp, rules: &Rules) {
        let Some(idle) = self.idle_ending(rules) else { return };
        let comes_first = self.fixed_ending().is_none_or(|fixed| idle.at < fixed.at);
        let is_settled = idle.at > now && self.idle_not_before == Some(idle.at);
        let warned = now + self.idle_warning(rules);
        let soonest = self.told_idle().map_or(warned, |told| told.min(warned));
        if comes_first && !is_settled && idle.at + SAME < soonest {
            self.idle_not_before = Some(soonest);
        }
    }

    /// The end by idleness that is shown.
    fn told_idle(&self) -> Option<Timestamp> {
        self.ending.as_ref().filter(|ending| ending.because == Reason::Idle).map(|ending| ending.at)
    }

    /// What is shown: the first end, idleness only when it is near, or was brought near by a bound that came meanwhile.
    pub(super) fn shown_ending(&self, now: Timestamp, rules: &Rules) -> Option<Ending> {
        let near = |at: Timestamp| at - self.idle_warning(rules) <= now || self.idle_not_before == Some(at);
        let idle = self.idle_ending(rules).filter(|ending| near(ending.at));
        self.fixed_ending().into_iter().chain(idle).min_by_key(|ending| ending.at)
    }

    /// Warnings of an end that are due at `now`.
    pub(super) fn warnings_due(ending: &Ending, now: Timestamp) -> usize {
        WARNINGS.iter().filter(|before| ending.at - **before <= now).count()
    }

    /// When an end is next to be spoken of: by a warning, or by itself.
    fn next_word(&self, ending: &Ending) -> Timestamp {
        let given = if self.ending.as_ref() == Some(ending) { self.warned } else { 0 };
        WARNINGS.get(given).map_or(ending.at, |before| ending.at - *before)
    }

    fn idle_warning(&self, rules: &Rules) -> SignedDuration {
        let shortest = least(self.gpu_idle_timeout_s().unwrap_or(0), self.idle_timeout_s(self.bounds)).unwrap_or(0);
        rules.idle_warning.min(SignedDuration::from_secs(i64::from(shortest / 2)))
    }

    fn idle_timeout_s(&self, bounds: Option<Bounds>) -> Option<u32> {
        least(self.spec.idle_timeout_s, bounds.and_then(|bounds| bounds.idle_timeout_max_s))
    }

    fn gpu_idle_timeout_s(&self) -> Option<u32> {
        least(self.spec.gpu_idle_timeout_s, None).filter(|_| self.spec.ask.gpus > 0)
    }

    /// Why a time-out of its own does not end it now: who should tell whether it is idle, and does not; empty where all do.
    pub(super) fn idle_doubts(&self) -> String {
        let (any, devices) = (self.idle_timeout_s(self.bounds).is_some(), self.gpu_idle_timeout_s().is_some());
        match self.activity.doubts(any, devices) {
            none if none.is_empty() || self.stage != Stage::Running => String::new(),
            doubts => format!("whether it is idle is not known: {doubts}"),
        }
    }

    /// When its longest time is over, by its spec and what binds it now.
    pub(super) fn lifetime(&self) -> Option<Timestamp> {
        let bound = self.bounds.and_then(|bounds| bounds.lifetime_max_s);
        let (since, seconds) = self.running_at.zip(least(self.spec.lifetime_s, bound))?;
        Some(after(since, seconds))
    }

    /// Where its longest time is shorter than was told, it ends no sooner than [`NOTICE`] from now; later looks find that told.
    pub(super) fn settle_lifetime(&mut self, now: Timestamp) {
        let told = self.lifetime_end.unwrap_or(Timestamp::MAX);
        self.lifetime_end = self.lifetime().map(|end| end.max(told.min(now + NOTICE)));
    }

    /// Takes what binds it. A shorter time-out than before is told [`NOTICE`] before it stops anybody; of one that a former
    /// owner had, what was told holds, and what was not is told first.
    pub(super) fn bind(&mut self, bounds: Bounds, now: Timestamp, rules: &Rules) {
        let former = self.bounds.replace(bounds);
        if self.stage != Stage::Running {
            return;
        }
        let told = self.told_idle();
        let (before, timeout) = (self.idle_timeout_s(former), self.idle_timeout_s(self.bounds));
        self.idle_not_before = match former {
            None => told.or(Some(now + self.idle_warning(rules))),
            Some(_) if is_less(timeout, before) => told.into_iter().chain([now + NOTICE]).min(),
            Some(_) => return,
        };
    }

    /// As its row tells it, to a new owner, who has not read yet what binds it.
    pub fn take_over(&mut self, ending: Option<Ending>) {
        self.bounds = None;
        let end = |because: Reason| ending.as_ref().filter(|ending| ending.because == because).map(|ending| ending.at);
        self.lifetime_end = end(Reason::MaxLifetime);
        self.preemption = end(Reason::Preempted).map(|at| Preemption { at, message: String::new() });
        self.ending = ending;
    }
}

/// Whether a time-out is shorter than another; none is never.
fn is_less(seconds: Option<u32>, other: Option<u32>) -> bool {
    seconds.is_some_and(|seconds| other.is_none_or(|other| seconds < other))
}

/// The lesser of what is asked for (0 is nothing) and what is allowed.
#[must_use]
pub fn least(asked: u32, allowed: Option<u32>) -> Option<u32> {
    [(asked > 0).then_some(asked), allowed].into_iter().flatten().min()
}

fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}
