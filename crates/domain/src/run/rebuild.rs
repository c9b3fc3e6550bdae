//! A run from its stored rows: what a new owner does when it takes over.

use super::{BlockState, Kind, Options, Run, RunRow, RunStatus, Transition, fan::Fan, row::ending_of, row::unit_of};
use crate::{
    graph::Graph,
    id::RunId,
    unit::{BlockStatus, Ending, Phase, Step, Unit, UnitKey, UnitRow},
};
use jiff::Timestamp;
use std::sync::Arc;

impl Run {
    /// The run as its rows tell it. Answers the transitions that were due but not stored.
    ///
    /// The rows cannot tell whether an executor is still there: the new owner raises
    /// [`super::Event::ExecutorLost`] for every one of [`Run::running_units`] and [`Run::home`] that is not.
    #[must_use]
    pub fn rebuild(
        id: RunId,
        graph: Arc<Graph>,
        options: Options,
        row: RunRow,
        mut units: Vec<UnitRow>,
        now: Timestamp,
    ) -> (Self, Vec<Transition>) {
        let mut run = Self::new(id, graph, options);
        run.row = row;
        run.restore_home(&units);
        run.restore_first_failure(&units);
        // A block's own row before its children, children in index order.
        units.sort_by_key(|unit| unit.key);
        for unit in units {
            run.restore(unit);
        }
        run.count_open();
        run.forget_strays();
        run.requeue();
        let mut out = Vec::new();
        if run.row.status == RunStatus::Running {
            run.resume_halt(now, &mut out);
            run.settle_all();
            run.conclude(now, &mut out);
        }
        (run, out)
    }

    /// Who ran the latest try since the run was last started.
    fn restore_home(&mut self, units: &[UnitRow]) {
        if self.graph.pipeline().one_process && !self.row.status.has_ended() {
            let tries = units.iter().filter_map(|unit| Some((unit.attempt_started_at?, unit.executor?)));
            let latest = tries.filter(|(at, _)| Some(*at) >= self.row.started_at).max();
            self.home = latest.map(|(_, executor)| executor);
        }
    }

    fn restore_first_failure(&mut self, units: &[UnitRow]) {
        let has_failed = |unit: &&UnitRow| {
            matches!(unit.key.step, Step::Block(_)) && unit.status == BlockStatus::Failed && unit.children.is_none()
        };
        let first = units.iter().filter(has_failed).min_by_key(|unit| unit.completed_at);
        self.any_failed = first.map(|unit| self.failure_reason(unit.key, unit.error.as_ref()));
    }

    fn restore(&mut self, row: UnitRow) {
        let unit = unit_of(&row);
        let ending = ending_of(row.status);
        match row.key.step {
            Step::Block(at) => self.restore_block(at, row, unit, ending),
            Step::Callback { .. } if ending.is_some() => {
                self.callback_floor.insert(row.key, unit.lease);
            }
            Step::Callback { .. } => {
                self.callbacks.insert(row.key, unit);
            }
        }
    }

    fn restore_block(&mut self, at: usize, row: UnitRow, unit: Unit, ending: Option<Ending>) {
        if let (Some(error), Some(Ending::Failed), false) =
            (&row.error, ending, self.graph.node(at).callbacks.is_empty())
        {
            self.errors.insert(row.key, error.clone());
        }
        let block: &mut BlockState = &mut self.blocks[at];
        match (row.key.child, &mut block.kind) {
            (Some(child), Kind::Fan(fan)) => {
                fan.restore(child, unit, ending, row.output.and_then(|output| output.items));
            }
            // Children without their block's row cannot be; they would be ignored.
            (Some(_), _) => {}
            (None, _) => {
                block.ended = ending;
                block.carry = Unit::ready(row.lease);
                block.output = row.output.map(Arc::new);
                block.kind = match (row.children, &unit.phase) {
                    (Some(total), _) => Kind::Fan(Fan::new(total, row.lease, row.started_at)),
                    (None, Phase::Ready) => {
                        block.carry = unit;
                        Kind::Waiting
                    }
                    (None, _) => Kind::Single(unit),
                };
            }
        }
    }

    /// What is ahead of nothing that is leased waits: a database that has lost its latest commits may tell of such.
    fn forget_strays(&mut self) {
        for position in 0..self.graph.order().len() {
            let at = self.graph.order()[position];
            let key = UnitKey::block(at, None);
            if self.is_ahead(key)
                && self.follows(key).is_none()
                && let Kind::Single(unit) = &self.blocks[at].kind
            {
                self.blocks[at].carry = Unit { phase: Phase::Ready, ..unit.clone() };
                self.blocks[at].kind = Kind::Waiting;
            }
        }
    }

    /// Puts every open unit where its phase belongs. Blocks that wait are not units yet: they are settled.
    fn requeue(&mut self) {
        let mut open: Vec<(UnitKey, Phase)> = Vec::new();
        for (at, block) in self.blocks.iter().enumerate().filter(|(_, block)| block.ended.is_none()) {
            match &block.kind {
                Kind::Waiting => {}
                Kind::Single(unit) => open.push((UnitKey::block(at, None), unit.phase.clone())),
                Kind::Fan(fan) => {
                    open.extend(
                        fan.active().map(|(child, unit)| (UnitKey::block(at, Some(child)), unit.phase.clone())),
                    );
                    if fan.has_unleased() {
                        self.open_fans.push_back(at);
                    }
                }
            }
        }
        open.extend(self.callbacks.iter().map(|(key, unit)| (*key, unit.phase.clone())));
        for (key, phase) in open {
            match phase {
                Phase::Ready => self.ready.push_back(key),
                Phase::Delayed { not_before } => {
                    self.delayed.insert((not_before, key));
                }
                Phase::Running { .. } | Phase::Ahead { .. } => self.running += 1,
                Phase::Ended(_) => {}
            }
        }
    }
}
