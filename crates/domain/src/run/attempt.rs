//! The end of an attempt: its unit is over, or tried again.

use super::{DEATHS_MAX, Halt, Kind, POKE_INTERVAL_S, POKE_INTERVAL_S_MIN, Refused, Run, Transition, unit_row};
use crate::{
    id::ExecutorId,
    unit::{Ending, Failure, LostAttempt, Outcome, Output, Phase, Step, Unit, UnitKey},
};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// The try that has just ended, and its unit as it was meanwhile.
struct Try {
    key: UnitKey,
    unit: Unit,
    executor: ExecutorId,
    started_at: Timestamp,
}

impl Try {
    /// A try that the user's code did not have.
    fn uncounted(mut self) -> Self {
        self.unit.attempts = self.unit.attempts.saturating_sub(1);
        self
    }

    fn lost(&self, outcome: &'static str, error: Option<Failure>) -> Transition {
        let Self { key, executor, started_at, .. } = *self;
        Transition::Lost(Box::new(LostAttempt { key, lease: self.unit.lease, executor, outcome, started_at, error }))
    }
}

/// What a unit leaves behind when it is over.
#[derive(Debug)]
pub(super) struct End {
    pub(super) ending: Ending,
    pub(super) output: Option<Output>,
    pub(super) error: Option<Failure>,
}

impl End {
    pub(super) fn completed(output: Output) -> Self {
        Self { ending: Ending::Completed, output: Some(output), error: None }
    }

    pub(super) fn failed(error: Failure) -> Self {
        Self { ending: Ending::Failed, output: None, error: Some(error) }
    }

    pub(super) fn plain(ending: Ending) -> Self {
        Self { ending, output: None, error: None }
    }
}

impl Run {
    pub(super) fn attempt_ended(
        &mut self,
        key: UnitKey,
        lease: i64,
        outcome: Outcome,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) -> Result<(), Refused> {
        let unit = self.unit(key).filter(|unit| unit.lease == lease).ok_or(Refused::Stale)?;
        let (executor, started_at) = match unit.phase {
            Phase::Running { executor, started_at } => (executor, started_at),
            Phase::Ahead { .. } => {
                self.ahead_ended(key, &outcome, now, out)?;
                self.take_back_behind(key, now, out);
                return Ok(());
            }
            _ => return Err(Refused::Stale),
        };
        let last = Try { key, unit: unit.clone(), executor, started_at };
        self.running -= 1;
        if !matches!(outcome, Outcome::Completed(_)) {
            self.take_back_behind(key, now, out);
        }
        match outcome {
            Outcome::Completed(output) => match self.check_output(key, &output) {
                Ok(()) => self.end_unit(key, last.unit, End::completed(output), now, out),
                Err(failure) => self.fail_or_retry(last, failure, now, out),
            },
            Outcome::Failed(failure) => self.fail_or_retry(last, failure, now, out),
            Outcome::ConditionFailed => self.end_unit(key, last.unit, End::plain(Ending::ConditionFailed), now, out),
            Outcome::Cancelled if self.halt.is_some() => {
                self.end_unit(key, last.unit, End::plain(Ending::Cancelled), now, out);
            }
            Outcome::NotYet => self.poke_again(last.uncounted(), now, out),
            // A stop that nobody wanted (a drained executor's SIGTERM) is a try that never counted.
            Outcome::Cancelled | Outcome::Released => {
                out.push(last.lost("released", None));
                self.again(last.uncounted(), None, None, now, out);
            }
            Outcome::Lost(why) => self.lose(last.uncounted(), why, now, out),
            Outcome::ProcessLost(failure) => self.process_lost(last, self.deaths() + 1, failure, now, out),
            Outcome::ProcessLetGo(failure) => self.process_lost(last, self.deaths(), failure, now, out),
        }
        Ok(())
    }

    fn check_output(&self, key: UnitKey, output: &Output) -> Result<(), Failure> {
        let Step::Block(at) = key.step else { return Ok(()) };
        if self.graph.block(at).dynamic && output.items.is_none() && !self.graph.node(at).downstream.is_empty() {
            return Err(Failure::new(
                "OUTPUT",
                "the block is dynamic but did not return a list of items; return `[items]` or `[items, metadata]`",
            ));
        }
        Ok(())
    }

    /// The executor, or the warm interpreter, died under the unit. That is no try of the user's code, but a block that kills
    /// everyone must end.
    fn lose(&mut self, mut last: Try, why: Failure, now: Timestamp, out: &mut Vec<Transition>) {
        out.push(last.lost("lost", Some(why)));
        last.unit.deaths += 1;
        let deaths = last.unit.deaths;
        if deaths >= DEATHS_MAX {
            let poison = format!("{deaths} executors or warm interpreters died while they ran it, one after the other");
            self.end_unit(last.key, last.unit, End::failed(Failure::new("POISON", poison)), now, out);
        } else {
            self.again(last, None, None, now, out);
        }
    }

    /// The process is gone, and its executor is not. With outputs in its memory the run begins anew, whatever the retries:
    /// no try of this block alone could have its inputs. Without, a try has failed.
    fn process_lost(&mut self, last: Try, deaths: u32, failure: Failure, now: Timestamp, out: &mut Vec<Transition>) {
        if !self.graph.pipeline().keeps_outputs_in_memory() || self.halt.is_some() {
            return self.fail_or_retry(last, failure, now, out);
        }
        let mut last = last.uncounted();
        out.push(last.lost("lost", Some(failure.clone())));
        if deaths >= DEATHS_MAX {
            let why = failure.message;
            let poison =
                format!("{deaths} processes died, one after the other, that held the outputs in memory: {why}");
            return self.end_unit(last.key, last.unit, End::failed(Failure::new("POISON", poison)), now, out);
        }
        last.unit.deaths = deaths;
        let (key, attempts) = (last.key, last.unit.attempts);
        self.again(last, None, None, now, out);
        self.home = None;
        self.restart(deaths, now, out);
        self.keep_tries(key, attempts, out);
    }

    /// What a block has tried it has tried, however often the run around it begins anew.
    fn keep_tries(&mut self, key: UnitKey, attempts: u32, out: &mut Vec<Transition>) {
        let Step::Block(at) = key.step else { return };
        let block = &mut self.blocks[at];
        let unit = match &mut block.kind {
            Kind::Waiting => &mut block.carry,
            Kind::Single(unit) => unit,
            Kind::Fan(_) => return,
        };
        unit.attempts = attempts;
        out.push(Transition::Unit(Box::new(unit_row(UnitKey::block(at, None), unit))));
    }

    fn fail_or_retry(&mut self, last: Try, failure: Failure, now: Timestamp, out: &mut Vec<Transition>) {
        let policy = match last.key.step {
            Step::Block(at) => self.graph.block(at).retry,
            Step::Callback { callback, .. } => self.graph.pipeline().callbacks[callback].retry,
        };
        match policy.pause_after(last.unit.attempts) {
            Some(pause) if self.halt.is_none() => {
                out.push(last.lost("failed", Some(failure.clone())));
                let seconds = u32::try_from(pause.as_secs()).unwrap_or(u32::MAX);
                self.again(last, Some(seconds), Some(failure), now, out);
            }
            _ => self.end_unit(last.key, last.unit, End::failed(failure), now, out),
        }
    }

    /// A sensor has seen nothing. Its time-out counts from its first look, and it looks a last time when that is over.
    fn poke_again(&mut self, mut last: Try, now: Timestamp, out: &mut Vec<Transition>) {
        // Its executor lived.
        last.unit.deaths = 0;
        let (key, mut pause_s) = (last.key, self.poke_interval(last.key));
        if let (Step::Block(at), Some(first)) = (key.step, last.unit.started_at)
            && let Some(limit) = self.graph.block(at).timeout_s
        {
            let waited = now.duration_since(first).max(SignedDuration::ZERO);
            let left = SignedDuration::from_secs(i64::from(limit)) - waited;
            if left <= SignedDuration::ZERO {
                let why = format!("the sensor has waited {limit} s, its `timeout`, for what did not come");
                return self.end_unit(key, last.unit, End::failed(Failure::new("TIMEOUT", why)), now, out);
            }
            let whole_s = left.as_secs() + i64::from(left.subsec_nanos() > 0);
            pause_s = pause_s.min(u32::try_from(whole_s).unwrap_or(u32::MAX));
        }
        self.again(last, Some(pause_s), None, now, out);
    }

    /// Never 0: a sensor that is poked without a pause would keep a slot and the engine busy.
    fn poke_interval(&self, key: UnitKey) -> u32 {
        let Step::Block(at) = key.step else { return POKE_INTERVAL_S };
        let configured = self.graph.block(at).configuration.get("poke_interval").and_then(serde_json::Value::as_u64);
        configured.and_then(|s| u32::try_from(s).ok()).unwrap_or(POKE_INTERVAL_S).max(POKE_INTERVAL_S_MIN)
    }

    /// The unit will be leased again, at once or after a pause; in a run that is being stopped it ends instead.
    fn again(
        &mut self,
        last: Try,
        pause_s: Option<u32>,
        failure: Option<Failure>,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) {
        let Try { key, mut unit, executor, started_at } = last;
        if self.is_stopping(key) {
            self.end_unit(key, unit, End::plain(Ending::Cancelled), now, out);
            return;
        }
        let not_before =
            pause_s.and_then(|seconds| now.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok());
        if let Some(not_before) = not_before {
            unit.phase = Phase::Delayed { not_before };
            self.delayed.insert((not_before, key));
        } else {
            unit.phase = Phase::Ready;
            self.ready.push_back(key);
        }
        let mut row = unit_row(key, &unit);
        row.executor = Some(executor);
        row.attempt_started_at = Some(started_at);
        row.error = failure;
        out.push(Transition::Unit(Box::new(row)));
        self.put_unit(key, unit);
    }

    /// The unit is over for good.
    pub(super) fn end_unit(
        &mut self,
        key: UnitKey,
        mut unit: Unit,
        end: End,
        now: Timestamp,
        out: &mut Vec<Transition>,
    ) {
        let has_run = unit.has_run();
        let mut row = unit_row(key, &unit);
        unit.phase = Phase::Ended(end.ending);
        row.status = end.ending.into();
        row.not_before = None;
        row.completed_at = Some(now);
        row.output = end.output.clone();
        row.error = end.error.clone();
        out.push(Transition::Unit(Box::new(row)));
        match (key.step, key.child) {
            (Step::Block(at), None) => {
                self.blocks[at].kind = Kind::Single(unit);
                self.blocks[at].output = end.output.clone().map(Arc::new);
                self.end_block(at, end.ending);
                self.after_unit(key, has_run, end, now, out);
            }
            (Step::Block(at), Some(child)) => {
                if let Kind::Fan(fan) = &mut self.blocks[at].kind {
                    fan.end_child(child, unit, end.ending, end.output.as_ref().and_then(|output| output.items));
                }
                self.after_unit(key, has_run, end, now, out);
                self.end_fan_if_over(at, now, out);
            }
            (Step::Callback { .. }, _) => {
                self.callbacks.remove(&key);
                self.callback_floor.insert(key, unit.lease);
            }
        }
    }

    /// Callbacks are due, but a unit that was cancelled before it ever ran calls nobody; the first failure stops the
    /// run unless blocks may fail.
    fn after_unit(&mut self, key: UnitKey, has_run: bool, end: End, now: Timestamp, out: &mut Vec<Transition>) {
        let End { ending, error, .. } = end;
        let reason = (ending == Ending::Failed).then(|| self.failure_reason(key, error.as_ref()));
        if has_run || ending != Ending::Cancelled {
            self.call_back(key, ending, error, now, out);
        }
        let Some(reason) = reason else { return };
        self.any_failed.get_or_insert_with(|| reason.clone());
        if !self.options.allow_blocks_to_fail {
            self.halt(Halt::Failed(reason), now, out);
        }
    }

    /// One line about a unit that failed.
    pub(super) fn failure_reason(&self, key: UnitKey, error: Option<&Failure>) -> String {
        let (name, child) = self.unit_name(key);
        let label = if child < 0 { format!("block `{name}`") } else { format!("child {child} of block `{name}`") };
        let why = error.map_or(String::new(), |e| format!(": {}", e.message.lines().next().unwrap_or_default()));
        format!("{label} failed{why}")
    }
}
