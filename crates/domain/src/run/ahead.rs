//! Leasing ahead: in a chain the next block goes to the executor that runs the one before it, which begins it by itself.
//!
//! What is leased ahead was never begun as far as the run knows: it starts to run, for the run, when what it follows has
//! completed, and in every other case it waits again as if it had not been leased. Only its lease has risen. Refuses to know
//! how far ahead is worth while: that is the owner's to say.

use super::{InputMode, InputRef, Kind, Lease, Refused, Run, RunStatus, Transition, unit_row};
use crate::{
    graph::Feed,
    id::ExecutorId,
    unit::{Outcome, Phase, Step, UnitKey},
};
use jiff::Timestamp;

impl Run {
    /// Claims the block that follows `key`, which is leased itself, for the same executor. `None` unless that block follows it
    /// alone and reads its output whole, nothing limits how much of the run goes on at once, and `may` agrees.
    pub fn lease_ahead(
        &mut self,
        key: UnitKey,
        may: &mut dyn FnMut(Step) -> bool,
        out: &mut Vec<Transition>,
    ) -> Option<Lease> {
        if self.row.status != RunStatus::Running || self.halt.is_some() || self.limit().is_some() {
            return None;
        }
        let (Step::Block(before), None) = (key.step, key.child) else { return None };
        let unit = self.unit(key)?;
        let (executor, output) = (unit.leased_to()?, (None, unit.lease));
        let at = self.follower(before).filter(|at| may(Step::Block(*at)))?;
        let (lease, attempt_number) = self.claim_ahead(at, executor, out);
        let inputs = vec![InputRef { block: before, mode: InputMode::Whole, outputs: vec![output] }];
        Some(Lease { key: UnitKey::block(at, None), lease, attempt_number, inputs, callback: None })
    }

    /// The block that waits for this one and for nothing else, while nothing but this one waits for it.
    fn follower(&self, before: usize) -> Option<usize> {
        let [at] = self.graph.node(before).downstream[..] else { return None };
        let node = self.graph.node(at);
        let follows = matches!(node.upstream[..], [(_, Feed::Whole)]) && !node.is_fan;
        let waits = matches!(self.blocks[at].kind, Kind::Waiting) && self.blocks[at].ended.is_none();
        // How many items a dynamic block has made is judged when it has ended.
        let is_plain = !self.graph.block(before).dynamic && !self.graph.block(at).kind.is_inert();
        (follows && waits && is_plain).then_some(at)
    }

    fn claim_ahead(&mut self, at: usize, executor: ExecutorId, out: &mut Vec<Transition>) -> (i64, u32) {
        let block = &mut self.blocks[at];
        let mut unit = block.carry.clone();
        unit.lease = (unit.lease + 1).max(self.lease_floor + 1);
        unit.phase = Phase::Ahead { executor };
        out.push(Transition::Unit(Box::new(unit_row(UnitKey::block(at, None), &unit))));
        let claimed = (unit.lease, unit.attempts + 1);
        block.kind = Kind::Single(unit);
        self.running += 1;
        claimed
    }

    /// Whether it is leased ahead, and what it follows has not completed.
    #[must_use]
    pub fn is_ahead(&self, key: UnitKey) -> bool {
        self.unit(key).is_some_and(|unit| matches!(unit.phase, Phase::Ahead { .. }))
    }

    /// Of a unit that is leased ahead: which attempt it follows. `None` as well while that is not leased itself.
    #[must_use]
    pub fn follows(&self, key: UnitKey) -> Option<(UnitKey, i64)> {
        let (true, Step::Block(at)) = (self.is_ahead(key), key.step) else { return None };
        let (up, _) = *self.graph.node(at).upstream.first()?;
        let before = UnitKey::block(up, None);
        let unit = self.unit(before)?;
        unit.leased_to().map(|_| (before, unit.lease))
    }

    /// What it follows has ended. Where that completed, this one runs, and has since.
    pub(super) fn begin_ahead(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) {
        if self.inherited_ending(at).is_some() {
            return;
        }
        let Kind::Single(unit) = &mut self.blocks[at].kind else { return };
        let Phase::Ahead { executor } = unit.phase else { return };
        unit.attempts += 1;
        unit.started_at.get_or_insert(now);
        unit.phase = Phase::Running { executor, started_at: now };
        out.push(Transition::Unit(Box::new(unit_row(UnitKey::block(at, None), unit))));
    }

    /// What it follows did not complete: with everything behind it, it waits again. Its executor gives it back as well; what it
    /// says of it from here on says nothing new ([`Run::has_passed`]).
    pub(super) fn take_back_behind(&mut self, key: UnitKey, now: Timestamp, out: &mut Vec<Transition>) {
        let (Step::Block(before), None) = (key.step, key.child) else { return };
        let [at] = self.graph.node(before).downstream[..] else { return };
        let behind = UnitKey::block(at, None);
        if self.is_ahead(behind) {
            // The last one first, so that each is still behind something.
            self.take_back_behind(behind, now, out);
            // It is ahead, so it is not refused.
            let _ = self.ahead_ended(behind, &Outcome::executor_lost(), now, out);
        }
    }

    /// Its executor gave it back, or is lost. Any other end of it follows from an end of what it follows.
    pub(super) fn ahead_ended(
        &mut self,
        key: UnitKey,
        outcome: &Outcome,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) -> Result<(), Refused> {
        let (Step::Block(at), true) = (key.step, outcome.is_given_back()) else { return Err(Refused::Early) };
        let block = &mut self.blocks[at];
        if let Kind::Single(unit) = &mut block.kind {
            unit.phase = Phase::Ready;
            block.carry = unit.clone();
            out.push(Transition::Unit(Box::new(unit_row(key, unit))));
        }
        block.kind = Kind::Waiting;
        self.running -= 1;
        if self.halt.is_some() {
            self.halt_block(at, now, out);
        } else if self.blocks[at].left == 0 {
            self.due.push_back(at);
        }
        Ok(())
    }
}
