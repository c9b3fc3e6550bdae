//! A batch as the arrays that the statements of a commit take: one value for each column of each row, in one global order of
//! row locks. Decides nothing, and asks the database nothing.

use super::{Batch, LostColumns, NewRun, UnitColumns};
use domain::{id::RunId, run::RunRow};
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A value as JSON text that PostgreSQL takes.
pub(super) fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    // These types serialise to JSON without failing: no maps with odd keys, no custom serialisers.
    value.and_then(|value| serde_json::to_string(value).ok()).map(|text| without_nul(&text))
}

/// JSON without the one character that PostgreSQL refuses: one caller's value must not fail everybody's commit.
///
/// Escapes are stepped over one by one: in `\\u0000` it is the backslash that is escaped, and the text is harmless.
pub(super) fn without_nul(json: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        kept.push_str(plain);
        rest = escape.strip_prefix("\\u0000").unwrap_or_else(|| {
            // Whatever follows a backslash in JSON begins with one byte of ASCII.
            let (escaped, rest) = escape.split_at_checked(2).unwrap_or((escape, ""));
            kept.push_str(escaped);
            rest
        });
    }
    kept.push_str(rest);
    kept
}

macro_rules! columns {
    ($(#[$about:meta])* $struct:ident { $($name:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Default)]
        pub(super) struct $struct { $($name: Vec<$type>,)* }

        impl $struct {
            /// Each of them, as a parameter.
            fn arrays(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

columns! {
    /// Shards, runs and ended attempts.
    Rows {
        shard: i16,
        epoch: i64,
        n_id: Uuid,
        n_trigger: Uuid,
        n_key: String,
        n_shard: i16,
        n_epoch: i64,
        n_workspace: Uuid,
        n_pipeline: Uuid,
        n_version: i64,
        n_status: &'static str,
        n_variables: String,
        n_execution_date: Timestamp,
        n_started: Option<Timestamp>,
        n_completed: Option<Timestamp>,
        n_timeout: Option<i32>,
        n_allow: bool,
        n_reason: Option<String>,
        n_parent: Option<Uuid>,
        r_id: Uuid,
        r_shard: i16,
        r_status: &'static str,
        r_started: Option<Timestamp>,
        r_completed: Option<Timestamp>,
        r_reason: Option<String>,
        r_cancel: Option<String>,
        a_run: Uuid,
        a_shard: i16,
        a_block: String,
        a_child: i32,
        a_lease: i64,
        a_executor: Uuid,
        a_outcome: &'static str,
        a_started: Timestamp,
        a_error: Option<String>,
        n_cancel: Option<String>,
        n_source: Uuid,
        n_trigger_version: Option<i64>,
        n_backfill: Option<Uuid>,
        n_event: Option<String>,
        n_sla: Option<Timestamp>,
        n_cancels: bool,
        n_if_current: bool,
    }
}

columns! {
    /// Block runs.
    Units {
        run: Uuid,
        shard: i16,
        block: String,
        child: i32,
        status: &'static str,
        lease: i64,
        attempts: i32,
        deaths: i16,
        executor: Option<Uuid>,
        not_before: Option<Timestamp>,
        started: Option<Timestamp>,
        attempt_started: Option<Timestamp>,
        completed: Option<Timestamp>,
        output: Option<String>,
        error: Option<String>,
        children: Option<i32>,
    }
}

/// The parameters of a commit.
#[derive(Default)]
pub(super) struct Columns {
    rows: Rows,
    /// Of runs that are made in the same commit.
    new_units: Units,
    units: Units,
}

impl Columns {
    /// The parameters of run/commit.sql, in its order.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        [self.rows.arrays(), self.units.arrays(), self.new_units.arrays()].concat()
    }

    /// The parameters of run/commit_units.sql, in its order.
    pub(super) fn unit_parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.rows.shard, &self.rows.epoch];
        parameters.extend(self.units.arrays());
        parameters
    }

    /// The parameters of run/commit_step.sql, in its order; `None` unless it is two units of one run.
    pub(super) fn step_parameters(&self) -> Option<Vec<&(dyn ToSql + Sync)>> {
        let units = &self.units;
        let ([shard], [epoch], [run, other]) = (&self.rows.shard[..], &self.rows.epoch[..], &units.run[..]) else {
            return None;
        };
        if run != other {
            return None;
        }
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![shard, epoch, run];
        for at in 0..2 {
            parameters.extend([
                &units.block[at] as &(dyn ToSql + Sync),
                &units.child[at],
                &units.status[at],
                &units.lease[at],
                &units.attempts[at],
                &units.deaths[at],
                &units.executor[at],
                &units.not_before[at],
                &units.started[at],
                &units.attempt_started[at],
                &units.completed[at],
                &units.output[at],
                &units.error[at],
                &units.children[at],
            ]);
        }
        Some(parameters)
    }

    /// What a batch changes of runs and units, and the shards that all of it depends on.
    pub(super) fn of(batch: &Batch) -> Self {
        let mut columns = Self::default();
        for (shard, epoch) in &batch.shards {
            columns.rows.shard.push(*shard);
            columns.rows.epoch.push(*epoch);
        }
        for (run, shard) in &batch.new {
            columns.rows.new_run(run, *shard, batch);
        }
        // One global order of row locks: by key.
        let mut runs: Vec<_> = batch.runs.iter().collect();
        runs.sort_unstable_by_key(|(run, _)| **run);
        for (run, (shard, row)) in runs {
            columns.rows.run(*run, *shard, row);
        }
        for lost in &batch.lost {
            columns.rows.attempt(lost);
        }
        let mut units: Vec<_> = batch.units.iter().collect();
        units.sort_unstable_by_key(|(key, _)| **key);
        for ((run, _), unit) in units {
            let columns = if unit.is_new { &mut columns.new_units } else { &mut columns.units };
            columns.push(*run, unit);
        }
        columns
    }
}

impl Rows {
    fn new_run(&mut self, run: &NewRun, shard: i16, batch: &Batch) {
        let row = batch.new_rows.get(&run.id);
        self.n_id.push(run.id.0);
        self.n_trigger.push(run.trigger_id.0);
        self.n_key.push(run.logical_key.clone());
        self.n_shard.push(shard);
        self.n_epoch.push(batch.epoch(shard));
        self.n_workspace.push(run.workspace_id.0);
        self.n_pipeline.push(run.pipeline_id.0);
        self.n_version.push(run.pipeline_version);
        self.n_status.push(row.map_or("initial", |row| row.status.as_str()));
        self.n_variables.push(without_nul(&run.variables));
        self.n_execution_date.push(run.execution_date);
        self.n_started.push(row.and_then(|row| row.started_at));
        self.n_completed.push(row.and_then(|row| row.completed_at));
        self.n_timeout.push(run.timeout_s);
        self.n_allow.push(run.allow_blocks_to_fail);
        self.n_reason.push(row.and_then(|row| row.reason.clone()));
        self.n_cancel.push(row.and_then(|row| row.cancel_reason.clone()));
        self.n_parent.push(run.parent_run_id.map(|parent| parent.0));
        self.n_source.push(run.source.0);
        self.n_trigger_version.push(run.trigger_version);
        self.n_backfill.push(run.backfill_id.map(|backfill| backfill.0));
        self.n_event.push(run.event_variables.as_deref().map(without_nul));
        self.n_sla.push(run.sla_at);
        self.n_cancels.push(run.timeout_cancels);
        self.n_if_current.push(run.if_current);
    }

    fn run(&mut self, run: RunId, shard: i16, row: &RunRow) {
        self.r_id.push(run.0);
        self.r_shard.push(shard);
        self.r_status.push(row.status.as_str());
        self.r_started.push(row.started_at);
        self.r_completed.push(row.completed_at);
        self.r_reason.push(row.reason.as_ref().map(|reason| reason.replace('\0', "")));
        self.r_cancel.push(row.cancel_reason.as_ref().map(|reason| reason.replace('\0', "")));
    }

    fn attempt(&mut self, lost: &LostColumns) {
        let attempt = &lost.attempt;
        self.a_run.push(lost.run.0);
        self.a_shard.push(lost.shard);
        self.a_block.push(lost.block.clone());
        self.a_child.push(lost.child);
        self.a_lease.push(attempt.lease);
        self.a_executor.push(attempt.executor.0);
        self.a_outcome.push(attempt.outcome);
        self.a_started.push(attempt.started_at);
        self.a_error.push(json(attempt.error.as_ref()));
    }
}

impl Units {
    fn push(&mut self, run: RunId, unit: &UnitColumns) {
        let row = &unit.row;
        self.run.push(run.0);
        self.shard.push(unit.shard);
        self.block.push(unit.block.clone());
        self.child.push(unit.child);
        self.status.push(row.status.as_str());
        self.lease.push(row.lease);
        self.attempts.push(i32::try_from(row.attempts).unwrap_or(i32::MAX));
        self.deaths.push(i16::try_from(row.deaths).unwrap_or(i16::MAX));
        self.executor.push(row.executor.map(|executor| executor.0));
        self.not_before.push(row.not_before);
        self.started.push(row.started_at);
        self.attempt_started.push(row.attempt_started_at);
        self.completed.push(row.completed_at);
        self.output.push(json(row.output.as_ref()));
        self.error.push(json(row.error.as_ref()));
        self.children.push(row.children.map(|children| i32::try_from(children).unwrap_or(i32::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_character_goes_that_postgres_refuses() {
        for (value, kept) in [
            ("a\0b\0", "ab"),
            // Source text that names the character, as a traceback shows it.
            ("s.replace(\"\\u0000\", '')", "s.replace(\"\\u0000\", '')"),
            ("\\\0", "\\"),
            ("ä\\", "ä\\"),
            ("\u{1}\"\n\0", "\u{1}\"\n"),
        ] {
            let text = json(Some(&value)).unwrap();
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), kept, "{text}");
        }
    }
}
