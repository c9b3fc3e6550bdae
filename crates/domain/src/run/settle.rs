//! What becomes of a block when its upstreams have ended, and who learns of its own end.
//!
//! An ended block only notes whom it releases; [`Run::settle_due`] works that list off. A chain of any length is a
//! loop, not a recursion.

use super::{Kind, Run, unit_row};
use crate::run::Transition;
use crate::unit::{Ending, Output, Unit, UnitKey};
use jiff::Timestamp;
use std::sync::Arc;

impl Run {
    /// Notes every block that waits for nothing. Only at start, retry and rebuild; afterwards counters tell.
    pub(super) fn settle_all(&mut self) {
        let waits_for_nothing = |at: &usize| self.blocks[*at].left == 0 && self.blocks[*at].ended.is_none();
        let due: Vec<usize> = self.graph.order().iter().copied().filter(waits_for_nothing).collect();
        self.due.extend(due);
    }

    /// Settles every noted block, and those that they release.
    pub(super) fn settle_due(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        while let Some(at) = self.due.pop_front() {
            match self.blocks[at].kind {
                Kind::Waiting if self.blocks[at].ended.is_none() && self.halt.is_none() => self.settle(at, now, out),
                Kind::Single(_) => self.begin_ahead(at, now, out),
                Kind::Waiting | Kind::Fan(_) => {}
            }
        }
    }

    /// All upstreams of a waiting block have ended: it becomes ready, a fan, or ends without running.
    fn settle(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) {
        if let Some(ending) = self.inherited_ending(at) {
            self.end_unstarted(at, ending, now, out);
        } else if self.graph.block(at).kind.is_inert() {
            self.blocks[at].output = Some(Arc::default());
            self.end_unstarted(at, Ending::Completed, now, out);
        } else if self.graph.node(at).is_fan {
            self.expand(at, now, out);
        } else {
            self.blocks[at].kind = Kind::Single(self.blocks[at].carry.clone());
            self.ready.push_back(UnitKey::block(at, None));
        }
    }

    /// How a block ends because of its upstreams, if it does. A fan of which some children completed lets its
    /// downstream run when blocks are allowed to fail.
    pub(super) fn inherited_ending(&self, at: usize) -> Option<Ending> {
        let mut inherited = None;
        for (up, _) in &self.graph.node(at).upstream {
            match self.blocks[*up].ended {
                Some(Ending::Failed | Ending::UpstreamFailed | Ending::Cancelled) => {
                    let partly = matches!(&self.blocks[*up].kind, Kind::Fan(fan) if fan.completed() > 0);
                    if !(partly && self.options.allow_blocks_to_fail) {
                        return Some(Ending::UpstreamFailed);
                    }
                }
                Some(Ending::ConditionFailed) => inherited = Some(Ending::ConditionFailed),
                Some(Ending::Completed) | None => {}
            }
        }
        inherited
    }

    pub(super) fn end_unstarted(&mut self, at: usize, ending: Ending, now: Timestamp, out: &mut Vec<Transition>) {
        let unit = Unit::ended(self.blocks[at].carry.lease, ending);
        let mut row = unit_row(UnitKey::block(at, None), &unit);
        row.completed_at = Some(now);
        row.output = (ending == Ending::Completed).then(Output::default);
        out.push(Transition::Unit(Box::new(row)));
        self.blocks[at].kind = Kind::Single(unit);
        self.end_block(at, ending);
    }

    /// The block as a whole is over: its downstream learns of it.
    pub(super) fn end_block(&mut self, at: usize, ending: Ending) {
        self.blocks[at].ended = Some(ending);
        self.open_blocks -= 1;
        for &down in &self.graph.node(at).downstream {
            self.blocks[down].left -= 1;
            if self.blocks[down].left == 0 {
                self.due.push_back(down);
            }
        }
    }
}
