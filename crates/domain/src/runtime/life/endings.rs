//! What ends a life by the clock: its steps' limits, its plan's window, its longest time, idleness; and the warnings before.

use super::{Life, Stage};
use crate::runtime::{activity::Verdict, reason::Reason};
use jiff::{SignedDuration, Timestamp};

/// Before an end, whoever is there is warned so often.
const WARNINGS: [SignedDuration; 3] =
    [SignedDuration::from_mins(15), SignedDuration::from_mins(5), SignedDuration::from_mins(1)];
/// After so long an unanswered question about its use is asked again.
pub(super) const PROBE_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// The cluster's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nobody is stopped for idleness or for others sooner after the application came up.
    pub min_running: SignedDuration,
    /// Warned so long before the end by idleness, or half of the time-out where that is less.
    pub idle_warning: SignedDuration,
    /// From asking to end to ending, where a spec says nothing, seconds.
    pub grace_s: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { min_running: SignedDuration::from_mins(10), idle_warning: SignedDuration::from_mins(5), grace_s: 30 }
    }
}

/// What binds a life besides its spec. It is said anew whenever it changes, and not kept in rows.
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
        let fixed = self.fixed_ending().map(|ending| self.next_word(&ending));
        let idle = self.idle_ending(rules).map(|ending| match self.probed_at {
            Some(asked) => ending.at.max(asked + PROBE_PAUSE),
            None if self.ending.as_ref() == Some(&ending) => ending.at,
            None => ending.at - self.idle_warning(rules),
        });
        [step, fixed, idle].into_iter().flatten().min()
    }

    /// The first end that nothing but an administrator or another queue puts off.
    pub(super) fn fixed_ending(&self) -> Option<Ending> {
        if !matches!(self.stage, Stage::Starting(_) | Stage::Running) {
            return None;
        }
        let window = self.bounds.closes_at.map(|at| Ending { at, because: Reason::PlanWindowExpired });
        let lifetime = self.running_at.zip(least(self.spec.lifetime_s, self.bounds.lifetime_max_s));
        let lifetime =
            lifetime.map(|(since, seconds)| Ending { at: after(since, seconds), because: Reason::MaxLifetime });
        let quota = self.bounds.over_quota_until.map(|at| Ending { at, because: Reason::QuotaReduced });
        window.into_iter().chain(lifetime).chain(quota).min_by_key(|ending| ending.at)
    }

    /// When it has been idle for long enough, as far as is known. What nobody knows never ends it.
    pub(super) fn idle_ending(&self, rules: &Rules) -> Option<Ending> {
        let since = self.running_at.filter(|_| self.stage == Stage::Running)?;
        let used = least(self.spec.idle_timeout_s, self.bounds.idle_timeout_max_s).and_then(|timeout| {
            match self.activity.verdict(since) {
                Verdict::IdleSince(idle) => Some(after(idle, timeout)),
                Verdict::Unknown(_) => None,
            }
        });
        let devices = least(self.spec.gpu_idle_timeout_s, None).filter(|_| self.spec.ask.gpus > 0);
        let devices = devices.and_then(|timeout| Some(after(self.activity.devices_idle_since(since)?, timeout)));
        let at = used.into_iter().chain(devices).min()?;
        let at = at.max(since + rules.min_running).max(self.protected_until.unwrap_or(at));
        Some(Ending { at, because: Reason::Idle })
    }

    /// What is shown: the first end, idleness only when it is near.
    pub(super) fn shown_ending(&self, now: Timestamp, rules: &Rules) -> Option<Ending> {
        let idle = self.idle_ending(rules).filter(|ending| ending.at - self.idle_warning(rules) <= now);
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
        let timeouts = [self.spec.idle_timeout_s, self.spec.gpu_idle_timeout_s];
        let shortest = timeouts.into_iter().filter(|seconds| *seconds > 0).min().unwrap_or(0);
        rules.idle_warning.min(SignedDuration::from_secs(i64::from(shortest / 2)))
    }
}

/// The lesser of what is asked for (0 is nothing) and what is allowed.
fn least(asked: u32, allowed: Option<u32>) -> Option<u32> {
    [(asked > 0).then_some(asked), allowed].into_iter().flatten().min()
}

fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}
