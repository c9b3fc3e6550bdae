//! What queues and projects had lately, in milli-GPU seconds of which half is forgotten with each week. Breaks ties between
//! those who hold equally much. It lives in memory: a new owner of the pool knows it only of those who hold something now.
//! Refuses to know who comes first.

use domain::id::{ProjectId, QueueId};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// After so long, half of a use counts.
const HALF_LIFE_S: u64 = 7 * 86_400;
/// A use that goes on for ever approaches what it is in so long: the half-life by the logarithm of two.
const MEMORY_S: u64 = HALF_LIFE_S * 1_000 / 693;
/// The longest time that is taken for short against the half-life.
const STEP_S: u64 = 3_600;
/// Between two looks at what is held.
const LOOK_S: u64 = 60;
/// Less than a GPU-hour makes no difference, so that turns do not change with every look.
const GRAIN: u64 = 3_600_000;

/// What was used.
#[derive(Debug, Default)]
pub(super) struct Recent {
    at: Option<Timestamp>,
    queues: BTreeMap<QueueId, u64>,
    projects: BTreeMap<ProjectId, u64>,
}

/// Milli-GPU that somebody holds, and since when.
pub(super) struct Held {
    pub(super) queue: QueueId,
    pub(super) project: ProjectId,
    pub(super) milli: u64,
    pub(super) since: Timestamp,
}

impl Recent {
    /// Begins anew, with what is held.
    pub(super) fn begin(&mut self, held: impl Iterator<Item = Held>, now: Timestamp) {
        *self = Self { at: Some(now), ..Self::default() };
        for Held { queue, project, milli, since } in held {
            let used = milli * seconds(now.duration_since(since)).min(MEMORY_S);
            *self.queues.entry(queue).or_default() += used;
            *self.projects.entry(project).or_default() += used;
        }
    }

    /// Time passes with this held.
    pub(super) fn pass(&mut self, held: impl Iterator<Item = Held>, now: Timestamp) {
        let Some(before) = self.at else { return self.begin(held, now) };
        let passed = seconds(now.duration_since(before));
        if passed < LOOK_S {
            return;
        }
        self.at = Some(now);
        for used in self.queues.values_mut().chain(self.projects.values_mut()) {
            *used = faded(*used, passed);
        }
        for Held { queue, project, milli, .. } in held {
            let used = milli * passed.min(MEMORY_S);
            *self.queues.entry(queue).or_default() += used;
            *self.projects.entry(project).or_default() += used;
        }
        self.queues.retain(|_, used| *used > 0);
        self.projects.retain(|_, used| *used > 0);
    }

    /// Of a queue, in whole GPU-hours.
    pub(super) fn of_queue(&self, queue: QueueId) -> u64 {
        whole(self.queues.get(&queue))
    }

    /// Of a project, likewise.
    pub(super) fn of_project(&self, project: ProjectId) -> u64 {
        whole(self.projects.get(&project))
    }
}

fn whole(used: Option<&u64>) -> u64 {
    used.map_or(0, |used| used / GRAIN * GRAIN)
}

/// What is left of a use: so much less for each step, as if the rest of it were one.
fn faded(mut used: u64, passed_s: u64) -> u64 {
    let mut left = passed_s.min(MEMORY_S * 40);
    while left > 0 && used > 0 {
        let step = left.min(STEP_S);
        let lost = (u128::from(used) * u128::from(step)).div_ceil(u128::from(MEMORY_S));
        used -= u64::try_from(lost).unwrap_or(used).min(used);
        left -= step;
    }
    used
}

fn seconds(duration: SignedDuration) -> u64 {
    u64::try_from(duration.as_secs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const WEEK: i64 = 7 * 86_400;

    fn held(queue: u128, milli: u64, since: i64) -> Held {
        let since = Timestamp::from_second(since).unwrap();
        Held { queue: QueueId(Uuid::from_u128(queue)), project: ProjectId(Uuid::from_u128(queue)), milli, since }
    }

    #[test]
    fn half_of_a_use_is_forgotten_with_each_week() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, other) = (QueueId(Uuid::from_u128(1)), QueueId(Uuid::from_u128(2)));
        let mut recent = Recent::default();
        recent.begin([held(1, 1000, 0)].into_iter(), at(86_400));
        assert_eq!(recent.of_queue(one), 86_400_000, "a day of a GPU");
        recent.pass(std::iter::empty(), at(86_400 + WEEK));
        let half = recent.of_queue(one);
        assert!((39_600_000..=43_200_000).contains(&half), "11 or 12 hours: {half}");
        // By many small steps it is the same as by few large ones.
        let mut often = Recent::default();
        often.begin([held(1, 1000, 0)].into_iter(), at(86_400));
        (1..=168).for_each(|hour| often.pass(std::iter::empty(), at(86_400 + hour * 3_600)));
        assert_eq!(often.of_queue(one), half);
        recent.pass([held(2, 500, 0)].into_iter(), at(2 * 86_400 + WEEK));
        assert_eq!(recent.of_project(ProjectId(other.0)), 43_200_000);
        recent.pass(std::iter::empty(), at(400 * WEEK));
        assert_eq!((recent.of_queue(one), recent.of_queue(other)), (0, 0), "in the end nothing is left of it");
    }
}
