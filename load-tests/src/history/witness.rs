//! A witness inside the test's database, and the database's part of a history.
//!
//! Tables that hold one row for each thing show only how it ended. The witness notes what they forget, by triggers in a
//! schema of its own; the services that are tested do not know of it. Refuses to be installed anywhere but in tests.

use anyhow::{Context, Result};
use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    pin::pin,
};
use tokio_postgres::Client;
use tokio_stream::StreamExt;

const INSTALL: &str = include_str!("witness.sql");
const INSTALL_UNITS: &str = include_str!("witness_units.sql");
/// Beyond this a statement waits for a lock that somebody will not give back.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";

/// What of everything that happens is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Owners of shards and versions of triggers, which change seldom.
    Owners,
    /// Each write of a unit as well, at the price of an insert for each.
    Units,
}

/// See the module's page.
#[derive(Debug)]
pub struct Witness;

impl Witness {
    /// Begins to note. Call it before the load begins, in the database of the cluster.
    ///
    /// # Errors
    /// When the schema is not migrated yet, a witness is installed already, or a table stays locked for ten seconds.
    pub async fn install(sql: &Client, detail: Detail) -> Result<()> {
        sql.batch_execute(LOCK_TIMEOUT).await?;
        sql.batch_execute(&format!("BEGIN; {INSTALL}; COMMIT")).await.context("install the witness")?;
        if detail == Detail::Units {
            sql.batch_execute(INSTALL_UNITS).await.context("install the witness of units")?;
        }
        Ok(())
    }

    /// Writes `database.jsonl` into the folder of a history, as of one instant.
    ///
    /// # Errors
    /// When there is no witness, the database does not answer, or the file cannot be written.
    pub async fn dump(sql: &Client, folder: &Path) -> Result<()> {
        let path = folder.join("database.jsonl");
        let mut file = BufWriter::new(File::create(&path).with_context(|| format!("create {}", path.display()))?);
        sql.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let written = write_all(sql, &mut file).await;
        sql.batch_execute("ROLLBACK").await?;
        written?;
        file.flush().with_context(|| format!("write {}", path.display()))
    }
}

async fn write_all(sql: &Client, file: &mut impl Write) -> Result<()> {
    for select in ROWS {
        let rows = sql.query_raw::<_, &str, _>(*select, []).await.with_context(|| format!("read {select}"))?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.next().await {
            let line: String = row?.get(0);
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

/// The lines, one statement for each kind; the instant comes last, so that a file without it is known to be cut.
const ROWS: &[&str] = &[
    "SELECT json_build_object('row', 'pipeline', 'id', p.id, 'workspace', w.name, 'name', p.name)::text
       FROM pipeline p JOIN workspace w ON w.id = p.workspace_id",
    "SELECT json_build_object('row', 'graph', 'pipeline_id', pipeline_id, 'version', version, 'blocks', coalesce((
            SELECT json_object_agg(block ->> 'uuid', coalesce(block -> 'upstream', '[]'))
              FROM jsonb_array_elements(spec -> 'blocks') AS block), '{}'))::text
       FROM pipeline_version",
    "SELECT json_build_object('row', 'trigger', 'id', id, 'pipeline_id', pipeline_id, 'kind', kind, 'version', version,
            'active', active, 'spec', spec, 'enabled_at_us', history.us(enabled_at),
            'archived', archived_at IS NOT NULL, 'at_us', history.us(at))::text
       FROM history.trigger_version ORDER BY seq",
    "SELECT json_build_object('row', 'trigger_state', 'trigger_id', trigger_id, 'version', version,
            'waiting', coalesce(state -> 'waiting', '[]'), 'halted', state -> 'halted',
            'once', coalesce((state ->> 'once')::boolean, false), 'next_due_us', history.us(next_due))::text
       FROM trigger_state",
    "SELECT json_build_object('row', 'backfill', 'id', id, 'pipeline_id', pipeline_id, 'name', name, 'status', status,
            'total', total, 'start_at_us', history.us(start_at), 'end_at_us', history.us(end_at), 'unit', unit,
            'every', every, 'cron', cron, 'time_zone', time_zone)::text
       FROM backfill",
    "SELECT json_build_object('row', 'firing', 'trigger_id', trigger_id, 'logical_key', logical_key, 'decided', decided,
            'reason', reason, 'run_id', run_id, 'shard_epoch', shard_epoch, 'created_at_us', history.us(created_at),
            'committed_at_us', history.us(history.committed(xmin)), 'trigger_version', trigger_version, 'execution_date_us', history.us(execution_date),
            'last_date_us', history.us(last_date), 'times', times)::text
       FROM firing",
    "SELECT json_build_object('row', 'run', 'id', id, 'pipeline_id', pipeline_id, 'pipeline_version', pipeline_version,
            'trigger_id', trigger_id, 'shard', shard, 'status', status, 'execution_date_us', history.us(execution_date), 'created_at_us', history.us(created_at),
            'started_at_us', history.us(started_at), 'completed_at_us', history.us(completed_at))::text
       FROM run",
    "SELECT json_build_object('row', 'unit', 'run_id', run_id, 'block', block, 'child', child, 'status', status,
            'lease', lease, 'executor_id', executor_id, 'attempt_started_at_us', history.us(attempt_started_at),
            'completed_at_us', history.us(completed_at))::text
       FROM block_run",
    "SELECT json_build_object('row', 'unit_write', 'seq', seq, 'run_id', run_id, 'block', block, 'child', child,
            'status', status, 'lease', lease, 'executor_id', executor_id, 'at_us', history.us(at))::text
       FROM history.unit_write ORDER BY seq",
    "SELECT json_build_object('row', 'lost', 'run_id', run_id, 'block', block, 'child', child, 'lease', lease,
            'outcome', outcome, 'ended_at_us', history.us(ended_at))::text
       FROM attempt",
    "SELECT json_build_object('row', 'shard', 'id', id, 'epoch', epoch, 'owner', owner)::text FROM shard ORDER BY id",
    "SELECT json_build_object('row', 'taking', 'seq', seq, 'shard', shard, 'epoch', epoch, 'owner', owner,
            'at_us', history.us(at))::text
       FROM history.taking ORDER BY seq",
    "SELECT json_build_object('row', 'executor', 'id', id, 'name', name, 'state', state)::text FROM executor",
    "SELECT json_build_object('row', 'placement', 'holder', holder, 'state', state)::text FROM placement",
    "SELECT json_build_object('row', 'taken', 'at_us', history.us(clock_timestamp()))::text",
];
