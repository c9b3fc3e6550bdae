//! Running parts of an ended run again. Leases go on where they were: an attempt of an earlier life is never current.

use super::{BlockState, DEATHS_MAX, Halt, Kind, Refused, Run, RunRow, RunStatus, Transition, fan::fan_row, unit_row};
use crate::unit::{Ending, Step, Unit, UnitKey};
use jiff::Timestamp;

impl Run {
    pub(super) fn retry_incomplete(&mut self, now: Timestamp, out: &mut Vec<Transition>) -> Result<(), Refused> {
        if !self.row.status.has_ended() {
            return Err(Refused::NotEnded);
        }
        let incomplete = |block: &BlockState| !matches!(block.ended, Some(Ending::Completed | Ending::ConditionFailed));
        let mut again: Vec<bool> = self.blocks.iter().map(incomplete).collect();
        // What completed from a part of a fan's children has read what is about to change.
        for &at in self.graph.order() {
            let upstream = &self.graph.node(at).upstream;
            again[at] |= upstream.iter().any(|(up, _)| again[*up]);
        }
        if !again.contains(&true) {
            return Err(Refused::NothingToRetry);
        }
        self.reopen_ended(&again, true, now, out);
        Ok(())
    }

    pub(super) fn retry_from(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) -> Result<(), Refused> {
        if !self.row.status.has_ended() {
            return Err(Refused::NotEnded);
        }
        if at >= self.blocks.len() {
            return Err(Refused::NothingToRetry);
        }
        let again = self.graph.closure(at);
        self.reopen_ended(&again, false, now, out);
        Ok(())
    }

    /// The process is gone whose memory held every output: from the beginning, unless it keeps dying. What died is
    /// the process, so each block that starts again carries the count of its deaths.
    pub(super) fn restart(&mut self, deaths: u32, now: Timestamp, out: &mut Vec<Transition>) {
        if deaths >= DEATHS_MAX {
            let reason = format!("{deaths} executors died, one after the other, that held the outputs in memory");
            self.halt(Halt::Failed(reason), now, out);
            return;
        }
        self.drop_callbacks(now, out);
        let again = vec![true; self.blocks.len()];
        self.reopen(&again, false, deaths, now, out);
    }

    /// The most executors that died while they ran any one block.
    pub(super) fn deaths(&self) -> u32 {
        let of = |block: &BlockState| match &block.kind {
            Kind::Waiting => block.carry.deaths,
            Kind::Single(unit) => unit.deaths,
            Kind::Fan(fan) => fan.active().map(|(_, unit)| unit.deaths).max().unwrap_or(0).max(block.carry.deaths),
        };
        self.blocks.iter().map(of).max().unwrap_or(0)
    }

    /// Outputs that lay in the memory of the run's process ended with it: then everything runs again.
    fn reopen_ended(&mut self, again: &[bool], keep_children: bool, now: Timestamp, out: &mut Vec<Transition>) {
        let in_memory = self.graph.pipeline().keeps_outputs_in_memory();
        let again: Vec<bool> = again.iter().map(|again| *again || in_memory).collect();
        self.row = RunRow {
            status: RunStatus::Running,
            started_at: Some(now),
            completed_at: None,
            reason: None,
            cancel_reason: None,
        };
        out.push(Transition::Run(self.row.clone()));
        self.reopen(&again, keep_children && !in_memory, 0, now, out);
    }

    /// With `keep_children`, a fan whose upstreams stay keeps the children that completed.
    fn reopen(&mut self, again: &[bool], keep_children: bool, deaths: u32, now: Timestamp, out: &mut Vec<Transition>) {
        self.ready.clear();
        self.delayed.clear();
        self.open_fans.clear();
        let reopened = |at: &usize| again[*at];
        for at in (0..self.blocks.len()).filter(reopened) {
            let upstream_stays = self.graph.node(at).upstream.iter().all(|(up, _)| !again[*up]);
            self.blocks[at].ended = None;
            self.blocks[at].output = None;
            if !(keep_children && upstream_stays && self.reopen_fan(at, now, out)) {
                self.reopen_block(at, deaths, out);
            }
        }
        self.errors.retain(|key, _| !matches!(key.step, Step::Block(at) if again[at]));
        self.count_open();
        let failed = self.blocks.iter().position(|block| block.ended == Some(Ending::Failed));
        self.any_failed = failed.map(|at| self.failure_reason(UnitKey::block(at, None), None));
        self.settle_all();
    }

    /// Runs the children that did not complete again; false when the block is no fan that can be gone on with.
    fn reopen_fan(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) -> bool {
        let Ok(total) = self.combinations(at) else { return false };
        let Kind::Fan(fan) = &mut self.blocks[at].kind else { return false };
        for child in fan.reopen(total, now) {
            let key = UnitKey::block(at, Some(child));
            if let Some(unit) = fan.child(child) {
                out.push(Transition::Unit(Box::new(unit_row(key, unit))));
            }
            self.ready.push_back(key);
        }
        if fan.has_unleased() {
            self.open_fans.push_back(at);
        }
        out.push(Transition::Unit(Box::new(fan_row(at, fan))));
        true
    }

    fn reopen_block(&mut self, at: usize, deaths: u32, out: &mut Vec<Transition>) {
        let block = &mut self.blocks[at];
        let floor = match &block.kind {
            Kind::Fan(fan) => {
                out.push(Transition::DropChildren(at));
                fan.highest_lease()
            }
            Kind::Single(unit) => unit.lease,
            Kind::Waiting => block.carry.lease,
        };
        block.carry = Unit { deaths, ..Unit::ready(floor) };
        block.kind = Kind::Waiting;
        out.push(Transition::Unit(Box::new(unit_row(UnitKey::block(at, None), &block.carry))));
    }

    /// Counts from the blocks' states what later events count up and down.
    pub(super) fn count_open(&mut self) {
        for at in 0..self.blocks.len() {
            let waits = |(up, _): &&(usize, _)| self.blocks[*up].ended.is_none();
            self.blocks[at].left = self.graph.node(at).upstream.iter().filter(waits).count();
        }
        self.open_blocks = self.blocks.iter().filter(|block| block.ended.is_none()).count();
    }
}
