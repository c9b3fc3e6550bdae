//! Leasing: which unit goes to an executor next, and what it reads.

use super::{INPUTS_MAX, Kind, Run, RunStatus, Transition, attempt::End, unit_row};
use crate::{
    graph::Feed,
    id::ExecutorId,
    unit::{Ending, Failure, Phase, Step, UnitKey},
};
use jiff::Timestamp;

/// A claim on one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Which unit.
    pub key: UnitKey,
    /// Which try; the fence.
    pub lease: i64,
    /// Which try of the user's code, from 1.
    pub attempt_number: u32,
    /// What it reads, in the order of the positional arguments.
    pub inputs: Vec<InputRef>,
    /// For callbacks.
    pub callback: Option<CallbackOf>,
}

/// What a callback is told.
#[derive(Debug, Clone, PartialEq)]
pub struct CallbackOf {
    /// success, failure or cancelled.
    pub status: &'static str,
    /// The watched unit.
    pub watched: UnitKey,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// One positional argument.
#[derive(Debug, Clone, PartialEq)]
pub struct InputRef {
    /// The upstream block.
    pub block: usize,
    /// How its outputs become a value.
    pub mode: InputMode,
    /// Committed attempts: child and lease.
    pub outputs: Vec<(Option<u32>, i64)>,
}

/// How outputs become a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputMode {
    /// As returned.
    Whole,
    /// One item of the returned list.
    Item(u32),
    /// All children's outputs as one list.
    Reduced,
}

impl Run {
    /// True when some unit could be leased to some executor.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.may_lease() && (!self.ready.is_empty() || !self.open_fans.is_empty())
    }

    /// How many units could be leased now, counted up to `max`.
    #[must_use]
    pub fn ready_units(&self, max: usize) -> usize {
        self.count_ready(self.ready.len(), max, &|_| true)
    }

    /// As [`Run::ready_units`], of the steps that `counts` names.
    #[must_use]
    pub fn ready_units_where(&self, max: usize, counts: &dyn Fn(Step) -> bool) -> usize {
        self.count_ready(self.ready.iter().filter(|key| counts(key.step)).take(max).count(), max, counts)
    }

    fn count_ready(&self, ready: usize, max: usize, counts: &dyn Fn(Step) -> bool) -> usize {
        if !self.may_lease() {
            return 0;
        }
        let mut count = ready;
        for at in self.open_fans.iter().filter(|at| counts(Step::Block(**at))) {
            if count >= max {
                break;
            }
            if let Kind::Fan(fan) = &self.blocks[*at].kind {
                count += fan.unleased();
            }
        }
        let room = self.limit().map_or(max, |limit| limit.saturating_sub(self.running) as usize);
        count.min(room).min(max)
    }

    /// The executor that must run the rest of a one-process run, once it has begun.
    #[must_use]
    pub fn home(&self) -> Option<ExecutorId> {
        self.home
    }

    fn may_lease(&self) -> bool {
        self.row.status == RunStatus::Running && self.limit().is_none_or(|limit| self.running < limit)
    }

    /// Units of the run at once.
    pub(super) fn limit(&self) -> Option<u32> {
        let pipeline = self.graph.pipeline();
        // A limit of zero would stop the run for ever: like no limit, as for Mage's other limits.
        let configured = pipeline.concurrency.block_run_limit.filter(|limit| *limit > 0);
        if pipeline.one_process { Some(1) } else { configured }
    }

    /// Claims the next ready unit for an executor. `None` when nothing is ready (for it).
    pub fn lease(&mut self, executor: ExecutorId, now: Timestamp, out: &mut Vec<Transition>) -> Option<Lease> {
        self.lease_where(executor, now, &mut |_| true, out)
    }

    /// As [`Run::lease`], passing over the steps that `has_room` refuses: they stay ready.
    pub fn lease_where(
        &mut self,
        executor: ExecutorId,
        now: Timestamp,
        has_room: &mut dyn FnMut(Step) -> bool,
        out: &mut Vec<Transition>,
    ) -> Option<Lease> {
        while self.may_lease() && self.home.is_none_or(|home| home == executor) {
            let Some(key) = self.next_ready(has_room) else { break };
            match self.arguments(key) {
                Ok((inputs, callback)) => {
                    if self.graph.pipeline().one_process {
                        self.home = Some(executor);
                    }
                    return self.claim(key, executor, now, out).map(|(lease, attempt_number)| Lease {
                        key,
                        lease,
                        attempt_number,
                        inputs,
                        callback,
                    });
                }
                Err(end) => {
                    if let Some(unit) = self.unit(key).cloned() {
                        self.end_unit(key, unit, *end, now, out);
                        self.settle_due(now, out);
                    }
                }
            }
        }
        self.conclude(now, out);
        None
    }

    fn next_ready(&mut self, has_room: &mut dyn FnMut(Step) -> bool) -> Option<UnitKey> {
        if let Some(position) = self.ready.iter().position(|key| has_room(key.step)) {
            return self.ready.remove(position);
        }
        let position = self.open_fans.iter().position(|at| has_room(Step::Block(*at)))?;
        let at = self.open_fans[position];
        let Kind::Fan(fan) = &mut self.blocks[at].kind else { return None };
        let child = fan.take_next();
        if !fan.has_unleased() {
            self.open_fans.remove(position);
        }
        child.map(|child| UnitKey::block(at, Some(child)))
    }

    fn claim(
        &mut self,
        key: UnitKey,
        executor: ExecutorId,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) -> Option<(i64, u32)> {
        let above = self.lease_floor + 1;
        let unit = self.unit_mut(key)?;
        unit.lease = (unit.lease + 1).max(above);
        unit.attempts += 1;
        unit.started_at.get_or_insert(now);
        unit.phase = Phase::Running { executor, started_at: now };
        let claimed = (unit.lease, unit.attempts);
        out.push(Transition::Unit(Box::new(unit_row(key, unit))));
        self.running += 1;
        Some(claimed)
    }

    /// What a unit is given, or how it ends without being run.
    fn arguments(&self, key: UnitKey) -> Result<(Vec<InputRef>, Option<CallbackOf>), Box<End>> {
        match key.step {
            Step::Block(at) => {
                // The child that this child reads did not complete.
                let inputs = self.inputs(at, key.child).map_err(|ending| Box::new(End::plain(ending)))?;
                check_size(&inputs).map_err(|failure| Box::new(End::failed(failure)))?;
                Ok((inputs, None))
            }
            Step::Callback { block, .. } => {
                let watched = UnitKey::block(block, key.child);
                let (status, outputs) = match self.committed(block, key.child) {
                    Some(lease) => ("success", vec![(key.child, lease)]),
                    None if self.errors.contains_key(&watched) => ("failure", Vec::new()),
                    None => ("cancelled", Vec::new()),
                };
                let inputs = vec![InputRef { block, mode: InputMode::Whole, outputs }];
                Ok((inputs, Some(CallbackOf { status, watched, error: self.errors.get(&watched).cloned() })))
            }
        }
    }

    /// What a block, or its child with this index, reads. The index counts through the multiplying upstreams like an
    /// odometer: the last one turns fastest.
    fn inputs(&self, at: usize, child: Option<u32>) -> Result<Vec<InputRef>, Ending> {
        let upstream = &self.graph.node(at).upstream;
        let mut inputs = Vec::with_capacity(upstream.len());
        let mut rest = u64::from(child.unwrap_or(0));
        for (up, feed) in upstream.iter().rev() {
            let position = if feed.multiplies() {
                let base = self.offered(*up, *feed).max(1);
                let position = rest % base;
                rest /= base;
                u32::try_from(position).unwrap_or(u32::MAX)
            } else {
                0
            };
            inputs.push(self.input(*up, *feed, position)?);
        }
        inputs.reverse();
        Ok(inputs)
    }

    fn input(&self, up: usize, feed: Feed, position: u32) -> Result<InputRef, Ending> {
        let whole = |lease: Option<i64>, child| lease.map(|lease| vec![(child, lease)]).unwrap_or_default();
        let (mode, outputs) = match (feed, &self.blocks[up].kind) {
            (Feed::Items, _) => (InputMode::Item(position), whole(self.committed(up, None), None)),
            (Feed::Children, Kind::Fan(fan)) => {
                let lease = fan.output_lease(position).ok_or_else(|| fan.missing(position))?;
                (InputMode::Whole, vec![(Some(position), lease)])
            }
            (Feed::ChildItems, Kind::Fan(fan)) => {
                let (child, item) = fan.locate_item(position);
                let lease = fan.output_lease(child).ok_or_else(|| fan.missing(child))?;
                (InputMode::Item(item), vec![(Some(child), lease)])
            }
            (Feed::Reduced, Kind::Fan(fan)) => {
                (InputMode::Reduced, fan.completed_children().map(|(child, lease)| (Some(child), lease)).collect())
            }
            _ => (InputMode::Whole, whole(self.committed(up, None), None)),
        };
        Ok(InputRef { block: up, mode, outputs })
    }

    /// The lease of the attempt whose output counts.
    fn committed(&self, at: usize, child: Option<u32>) -> Option<i64> {
        match (&self.blocks[at].kind, child) {
            // Blocks that complete without running have lease 0 and no output.
            (Kind::Single(unit), None) if unit.phase == Phase::Ended(Ending::Completed) => {
                Some(unit.lease).filter(|lease| *lease > 0)
            }
            (Kind::Fan(fan), Some(child)) => fan.output_lease(child),
            _ => None,
        }
    }
}

/// An assignment that no stream takes would come back for ever.
fn check_size(inputs: &[InputRef]) -> Result<(), Failure> {
    let count: usize = inputs.iter().map(|input| input.outputs.len()).sum();
    if count <= INPUTS_MAX {
        return Ok(());
    }
    let message =
        format!("it reads {count} outputs, more than the limit of {INPUTS_MAX}; reduce them in several blocks");
    Err(Failure::new("OUTPUT", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_too_much_is_not_leased() {
        let input = |block, count| InputRef { block, mode: InputMode::Reduced, outputs: vec![(Some(0), 1); count] };
        assert_eq!(check_size(&[input(0, INPUTS_MAX - 1), input(1, 1)]), Ok(()));
        let failure = check_size(&[input(0, INPUTS_MAX), input(1, 1)]).expect_err("one too many");
        assert!(failure.code == "OUTPUT" && failure.message.contains("1000001 outputs"), "{failure:?}");
    }
}
