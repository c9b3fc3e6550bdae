//! Stopping a run: what waits ends at once, what runs is told to stop and is awaited.

use super::{AGAIN_AFTER, Halt, Halting, Kind, Run, RunStatus, Transition, attempt::End};
use crate::unit::{Ending, Phase, Step, Unit, UnitKey};
use jiff::Timestamp;

impl Run {
    pub(super) fn cancel(&mut self, reason: String, now: Timestamp, out: &mut Vec<Transition>) {
        if self.row.status.has_ended() || self.row.cancel_reason.is_some() {
            return;
        }
        self.row.cancel_reason = Some(reason.clone());
        if self.row.status == RunStatus::Initial {
            self.row.status = RunStatus::Running;
        }
        out.push(Transition::Run(self.row.clone()));
        self.halt(Halt::Cancelled(reason), now, out);
    }

    /// Whoever asks again while it is being stopped wants an end of its callbacks too. That is kept by the present owner
    /// alone: where it is lost, they may ask once more.
    pub(super) fn cancel_by_hand(&mut self, reason: String, now: Timestamp, out: &mut Vec<Transition>) {
        if self.halt.as_ref().is_some_and(|halt| now.duration_since(halt.since) >= AGAIN_AFTER) {
            self.stop_callbacks(now, out);
        }
        self.cancel(reason, now, out);
    }

    /// A run waits for its callbacks no longer than its time limit says.
    pub(super) fn stop_overdue_callbacks(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        if let Some(halt) = self.halt.as_mut().filter(|halt| !halt.overdue) {
            halt.overdue = true;
            self.stop_callbacks(now, out);
        }
    }

    fn stop_callbacks(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        let Some(halt) = &mut self.halt else { return };
        halt.callbacks = true;
        // Nothing else waits in a run that is being stopped.
        self.ready.clear();
        self.delayed.clear();
        let callbacks: Vec<(UnitKey, Unit)> = self.callbacks.iter().map(|(key, unit)| (*key, unit.clone())).collect();
        for (key, unit) in callbacks {
            self.halt_unit(key, unit, now, out);
        }
    }

    /// The first reason to stop is the one that counts, and it is stored so that a new owner goes on stopping.
    /// Callbacks are not stopped.
    pub(super) fn halt(&mut self, why: Halt, now: Timestamp, out: &mut Vec<Transition>) {
        if self.halt.is_some() {
            return;
        }
        if let (Halt::Failed(reason), None) = (&why, &self.row.reason) {
            self.row.reason = Some(reason.clone());
            out.push(Transition::Run(self.row.clone()));
        }
        self.halt = Some(Halting { why, since: now, called_at: None, callbacks: false, overdue: false });
        let is_callback = |key: &UnitKey| matches!(key.step, Step::Callback { .. });
        self.ready.retain(is_callback);
        self.delayed.retain(|(_, key)| is_callback(key));
        self.open_fans.clear();
        for position in 0..self.graph.order().len() {
            let at = self.graph.order()[position];
            if self.blocks[at].ended.is_none() {
                self.halt_block(at, now, out);
            }
        }
    }

    pub(super) fn halt_block(&mut self, at: usize, now: Timestamp, out: &mut Vec<Transition>) {
        match &mut self.blocks[at].kind {
            Kind::Waiting => {
                let ending = if self.needs_a_failure(at) { Ending::UpstreamFailed } else { Ending::Cancelled };
                self.end_unstarted(at, ending, now, out);
            }
            Kind::Single(unit) => {
                let unit = unit.clone();
                self.halt_unit(UnitKey::block(at, None), unit, now, out);
            }
            Kind::Fan(fan) => {
                fan.close();
                let units: Vec<(u32, Unit)> = fan.active().map(|(child, unit)| (child, unit.clone())).collect();
                for (child, unit) in units {
                    self.halt_unit(UnitKey::block(at, Some(child)), unit, now, out);
                }
                self.end_fan_if_over(at, now, out);
            }
        }
    }

    fn halt_unit(&mut self, key: UnitKey, unit: Unit, now: Timestamp, out: &mut Vec<Transition>) {
        match unit.phase {
            Phase::Ready | Phase::Delayed { .. } => {
                self.end_unit(key, unit, End::plain(Ending::Cancelled), now, out);
            }
            Phase::Running { executor, .. } | Phase::Ahead { executor } => {
                out.push(Transition::Stop { key, lease: unit.lease, executor });
            }
            Phase::Ended(_) => {}
        }
    }

    fn needs_a_failure(&self, at: usize) -> bool {
        self.graph.node(at).upstream.iter().any(|(up, _)| {
            matches!(self.blocks[*up].ended, Some(Ending::Failed | Ending::UpstreamFailed))
                || matches!(&self.blocks[*up].kind, Kind::Fan(fan) if fan.has_failed())
        })
    }

    /// Whether a unit that runs was told to stop.
    #[must_use]
    pub fn is_stopping(&self, key: UnitKey) -> bool {
        self.halt.as_ref().is_some_and(|halt| halt.callbacks || matches!(key.step, Step::Block(_)))
    }

    /// Takes up stopping where it was left.
    pub(super) fn resume_halt(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        if let Some(reason) = self.row.reason.clone() {
            self.halt(Halt::Failed(reason), now, out);
        } else if let Some(reason) = self.row.cancel_reason.clone() {
            self.halt(Halt::Cancelled(reason), now, out);
        }
    }
}
