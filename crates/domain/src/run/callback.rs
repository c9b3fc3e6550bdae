//! Callbacks: tracked steps after a block, awaited by the run. (In Mage they run after the status is written, and a
//! crash in between loses them: here the row that makes one due is stored with the end of the unit that it watches.)

use super::{Run, Transition, unit_row};
use crate::unit::{BlockStatus, Ending, Failure, Step, Unit, UnitKey};
use jiff::Timestamp;

impl Run {
    /// Makes the callbacks that watch a unit ready.
    pub(super) fn call_back(
        &mut self,
        key: UnitKey,
        ending: Ending,
        error: Option<Failure>,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) {
        let Step::Block(block) = key.step else { return };
        let watched = matches!(ending, Ending::Completed | Ending::Failed | Ending::Cancelled);
        let are_stopped = self.halt.as_ref().is_some_and(|halt| halt.callbacks);
        if !watched || are_stopped || self.graph.node(block).callbacks.is_empty() {
            return;
        }
        if let Some(halt) = &mut self.halt {
            halt.called_at = Some(now);
        }
        for &callback in &self.graph.node(block).callbacks {
            let own = UnitKey { step: Step::Callback { callback, block }, child: key.child };
            let unit = Unit::ready(self.callback_floor.get(&own).copied().unwrap_or(0));
            out.push(Transition::Unit(Box::new(unit_row(own, &unit))));
            self.callbacks.insert(own, unit);
            self.ready.push_back(own);
        }
        if let Some(error) = error {
            self.errors.insert(key, error);
        }
    }

    /// Voids every callback, due or over: what they watch will run again and call them again. Their leases are kept.
    pub(super) fn drop_callbacks(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        for (key, unit) in std::mem::take(&mut self.callbacks) {
            self.callback_floor.insert(key, unit.lease);
        }
        for (key, lease) in &self.callback_floor {
            let mut row = unit_row(*key, &Unit::ready(*lease));
            row.status = BlockStatus::Cancelled;
            row.completed_at = Some(now);
            out.push(Transition::Unit(Box::new(row)));
        }
    }
}
