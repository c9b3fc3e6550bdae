//! Which runs of one pipeline may start: Mage's `pipeline_run_limit`, `pipeline_run_limit_all_triggers`, and the
//! parallelism of backfills.
//!
//! Every run asks here before it starts, whoever wants it: a schedule, a person, a retry, a backfill, another run. A run
//! that has to wait waits in the order of its id. Refuses to know blocks, and other pipelines: see [`crate::permits`].

use crate::{id::RunId, pipeline::OnLimit};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// What counts a run: its trigger or its backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(pub Uuid);

/// What holds for one run; a limit of zero would stop it for ever and counts as none, like Mage's other limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunLimits {
    /// Runs of its source at once.
    pub per_source: Option<u32>,
    /// Runs of the pipeline at once.
    pub all: Option<u32>,
    /// What becomes of a run over the limit.
    pub on_limit: OnLimit,
}

/// The answer to one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may start; it is counted from now on.
    Start,
    /// It is in the queue; [`Admission::leave`] of others answers it when its turn comes.
    Wait,
    /// It is not to be; nothing of it is kept here.
    Skip,
}

/// The running and the waiting runs of one pipeline.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    running: HashMap<RunId, Source>,
    by_source: HashMap<Source, u32>,
    waiting: BTreeMap<Source, BTreeMap<RunId, RunLimits>>,
    waiting_count: usize,
}

impl Admission {
    /// Runs that are counted.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Runs in the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting_count
    }

    /// Runs of one source that are counted or wait.
    #[must_use]
    pub fn unfinished_of(&self, source: Source) -> usize {
        let running = self.by_source.get(&source).copied().unwrap_or(0) as usize;
        running + self.waiting.get(&source).map_or(0, BTreeMap::len)
    }

    /// True when nothing is counted and nothing waits: it can be forgotten.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting_count == 0
    }

    /// How many more runs of a source its limits take, counting those that wait; `None` without any limit.
    #[must_use]
    pub fn room(&self, source: Source, limits: RunLimits) -> Option<u32> {
        let left = |limit: Option<u32>, count: usize| {
            let limit = limit.filter(|limit| *limit > 0)?;
            Some(limit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX)))
        };
        let of_source = left(limits.per_source, self.unfinished_of(source));
        let of_all = left(limits.all, self.running.len() + self.waiting_count);
        of_source.into_iter().chain(of_all).min()
    }

    /// A run wants to start. Runs that wait already go first where they wait for the same thing.
    pub fn ask(&mut self, run: RunId, source: Source, limits: RunLimits) -> Verdict {
        let behind = self.waiting.get(&source).is_some_and(|queue| !queue.is_empty());
        if !behind && self.fits(source, limits) {
            self.count(run, source);
            return Verdict::Start;
        }
        if limits.on_limit == OnLimit::Skip {
            return Verdict::Skip;
        }
        self.wait(run, source, limits);
        Verdict::Wait
    }

    /// A run that was found running or waiting when its owner took over.
    pub fn restore(&mut self, run: RunId, source: Source, limits: RunLimits, is_running: bool) {
        if is_running {
            self.count(run, source);
        } else {
            self.wait(run, source, limits);
        }
    }

    /// Other limits hold for the runs of a source that wait, where `limits` knows any. It may make room: see
    /// [`Admission::start_next`].
    pub fn relimit(&mut self, source: Source, limits: impl Fn(RunId) -> Option<RunLimits>) {
        for (run, held) in self.waiting.get_mut(&source).into_iter().flatten() {
            *held = limits(*run).unwrap_or(*held);
        }
    }

    /// A run has ended, or will never start. It may make room: see [`Admission::start_next`].
    pub fn leave(&mut self, run: RunId) {
        if let Some(source) = self.running.remove(&run) {
            if let Some(count) = self.by_source.get_mut(&source) {
                *count -= 1;
                if *count == 0 {
                    self.by_source.remove(&source);
                }
            }
            return;
        }
        let found = self.waiting.iter().find(|(_, queue)| queue.contains_key(&run)).map(|(source, _)| *source);
        if let Some(source) = found {
            self.take_waiting(source, run);
        }
    }

    /// The next waiting run that may start, oldest first; it is counted from now on.
    pub fn start_next(&mut self) -> Option<RunId> {
        let heads: BTreeSet<(RunId, Source)> =
            self.waiting.iter().filter_map(|(source, queue)| Some((*queue.first_key_value()?.0, *source))).collect();
        for (run, source) in heads {
            let limits = self.waiting.get(&source).and_then(|queue| queue.get(&run)).copied().unwrap_or_default();
            if self.fits(source, limits) {
                self.take_waiting(source, run);
                self.count(run, source);
                return Some(run);
            }
        }
        None
    }

    fn fits(&self, source: Source, limits: RunLimits) -> bool {
        let below = |limit: Option<u32>, count: usize| {
            limit.filter(|limit| *limit > 0).is_none_or(|limit| count < limit as usize)
        };
        below(limits.per_source, self.by_source.get(&source).copied().unwrap_or(0) as usize)
            && below(limits.all, self.running.len())
    }

    fn count(&mut self, run: RunId, source: Source) {
        if self.running.insert(run, source).is_none() {
            *self.by_source.entry(source).or_default() += 1;
        }
    }

    fn wait(&mut self, run: RunId, source: Source, limits: RunLimits) {
        if self.waiting.entry(source).or_default().insert(run, limits).is_none() {
            self.waiting_count += 1;
        }
    }

    fn take_waiting(&mut self, source: Source, run: RunId) {
        let Some(queue) = self.waiting.get_mut(&source) else { return };
        if queue.remove(&run).is_some() {
            self.waiting_count -= 1;
        }
        if queue.is_empty() {
            self.waiting.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(n: u128) -> RunId {
        RunId(Uuid::from_u128(n))
    }

    fn source(n: u128) -> Source {
        Source(Uuid::from_u128(n))
    }

    fn limits(per_source: u32, all: u32) -> RunLimits {
        RunLimits { per_source: Some(per_source), all: Some(all), on_limit: OnLimit::Wait }
    }

    #[test]
    fn a_full_source_does_not_hold_up_another() {
        let mut admission = Admission::default();
        assert_eq!(admission.ask(run(1), source(1), limits(1, 2)), Verdict::Start);
        assert_eq!(admission.ask(run(2), source(1), limits(1, 2)), Verdict::Wait);
        assert_eq!(admission.ask(run(3), source(2), limits(1, 2)), Verdict::Start);
        admission.leave(run(3));
        assert_eq!(admission.start_next(), None, "the only waiting run's source is full");
        admission.leave(run(1));
        assert_eq!(admission.start_next(), Some(run(2)));
    }

    #[test]
    fn other_limits_hold_for_those_that_wait_already() {
        let mut admission = Admission::default();
        for n in 1..=6 {
            admission.ask(run(n), source(1), limits(2, 0));
        }
        admission.relimit(source(1), |_| Some(limits(1, 0)));
        admission.leave(run(1));
        assert_eq!(admission.start_next(), None, "there is one already");
        admission.relimit(source(2), |_| Some(limits(9, 0)));
        admission.relimit(source(1), |_| None);
        assert_eq!(admission.start_next(), None, "another source's limits, and none");
        admission.relimit(source(1), |_| Some(limits(3, 0)));
        assert_eq!((admission.start_next(), admission.start_next()), (Some(run(3)), Some(run(4))));
        assert_eq!((admission.start_next(), admission.waiting()), (None, 2));
    }

    #[test]
    fn skip_refuses_also_when_the_pipeline_is_full_already() {
        let mut admission = Admission::default();
        let skip = RunLimits { on_limit: OnLimit::Skip, ..limits(1, 0) };
        assert_eq!(admission.ask(run(1), source(1), skip), Verdict::Start);
        assert_eq!(admission.ask(run(2), source(1), skip), Verdict::Skip);
        assert_eq!((admission.running(), admission.waiting()), (1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes and ends, no limit is exceeded, and nobody waits who could run.
        #[test]
        fn limits_hold_and_room_is_used(
            per_source in 0..4_u32, all in 0..6_u32,
            acts in prop::collection::vec((0..3_u128, any::<bool>(), any::<prop::sample::Index>()), 1..80),
        ) {
            let limits = RunLimits { per_source: Some(per_source), all: Some(all), on_limit: OnLimit::Wait };
            let mut admission = Admission::default();
            let mut alive: Vec<(RunId, Source)> = Vec::new();
            for (n, (of, ends, pick)) in acts.into_iter().enumerate() {
                if ends && !alive.is_empty() {
                    let (ended, _) = alive.remove(pick.index(alive.len()));
                    admission.leave(ended);
                    while admission.start_next().is_some() {}
                } else {
                    admission.ask(run(n as u128 + 1), source(of), limits);
                    alive.push((run(n as u128 + 1), source(of)));
                }
                let started: Vec<_> = alive.iter().filter(|(run, _)| admission.running.contains_key(run)).collect();
                prop_assert_eq!(started.len(), admission.running());
                prop_assert_eq!(alive.len(), admission.running() + admission.waiting());
                prop_assert!(all == 0 || started.len() <= all as usize);
                for of in 0..3 {
                    let count = started.iter().filter(|(_, by)| *by == source(of)).count();
                    prop_assert!(per_source == 0 || count <= per_source as usize);
                    let waits = admission.unfinished_of(source(of)) > count;
                    let source_full = per_source > 0 && count == per_source as usize;
                    let all_full = all > 0 && started.len() == all as usize;
                    prop_assert!(!waits || source_full || all_full, "a run waits that could start");
                }
            }
        }
    }
}
