//! What ends of runs mean to triggers, and runs that do not end in time. Refuses to know why a run ended.

use super::Engine;
use crate::engine::turn::Turn;
use domain::{
    id::{RunId, TriggerId},
    run::RunStatus,
};
use store::runs::Decision;

impl Engine {
    /// A run has ended, in memory: its trigger may have waited for that.
    pub(in crate::engine) fn trigger_run_ended(&mut self, run: RunId, turn: &mut Turn) {
        let Some(live) = self.runs.get(&run).filter(|live| live.life.backfill.is_none()) else { return };
        let (id, shard, row) = (live.life.trigger, live.shard, live.run.row().clone());
        let now = self.now();
        let ended_at = row.completed_at.unwrap_or(now);
        let Some(armed) = self.triggers.get_mut(id) else {
            // It was overtaken a moment ago, and hears of it when it is read again.
            return self.reading.kept.get_mut(&id).into_iter().for_each(|kept| kept.ended(&row, ended_at));
        };
        if !armed.watches_ends {
            return;
        }
        armed.history.ended(row.started_at, ended_at);
        if armed.halts && row.status == RunStatus::Failed {
            tracing::info!(trigger.id = %id, run.id = %run, "a run failed; its trigger is halted until it is started");
            armed.state.halted = Some(armed.version);
        }
        let decision = Decision {
            trigger: id,
            version: armed.version,
            skips: Vec::new(),
            state: armed.state.clone(),
            waiting: armed.waits.unstored(),
            history: serde_json::to_value(&armed.history).unwrap_or_default(),
            next_due: Some(now),
            latest: None,
        };
        turn.batch.decide(decision, shard);
        self.triggers.rearm(id, Some(now));
        self.again = true;
    }

    /// A run of a trigger was not made, since its key was known: what the trigger waits for has come already.
    pub(in crate::engine) fn trigger_run_void(&mut self, id: TriggerId) {
        let now = self.now();
        if let Some(armed) = self.triggers.get_mut(id).filter(|armed| armed.watches_ends) {
            // The next key of `@always_on` is another one.
            armed.history.ended(None, now);
            self.triggers.rearm(id, Some(now));
        }
    }

    /// Runs that have not ended when they should have.
    pub(in crate::engine) fn miss_slas(&mut self, turn: &mut Turn) {
        let now = self.now();
        while let Some(&(at, run)) = self.slas.first().filter(|(at, _)| *at <= now) {
            self.slas.remove(&(at, run));
            let Some(live) = self.runs.get_mut(&run) else { continue };
            live.life.sla_at = None;
            if !live.run.row().status.has_ended() {
                turn.batch.miss_sla(run, now, live.shard);
                turn.changed.insert(run);
                self.metrics.slas_missed.inc();
            }
        }
    }
}
