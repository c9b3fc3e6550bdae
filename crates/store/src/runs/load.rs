//! Runs and their definitions, as a new owner reads them.

use crate::{Error, Store, query};
use deadpool_postgres::GenericClient;
use domain::{
    graph::Graph,
    id::{BackfillId, ExecutorId, PipelineId, RunId, TriggerId, WorkspaceId},
    pipeline::Pipeline,
    run::{Options, RunRow, RunStatus, unit_key},
    trigger::TimeoutStatus,
    unit::UnitRow,
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

/// Everything that is stored of a run, its units apart.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of run")]
pub struct StoredRun {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub workspace: String,
    pub pipeline_id: PipelineId,
    pub pipeline_version: i64,
    pub trigger_id: TriggerId,
    pub trigger: String,
    pub shard: i16,
    pub row: RunRow,
    pub variables: Value,
    pub execution_date: Timestamp,
    pub options: Options,
    pub backfill_id: Option<BackfillId>,
    /// What an event or a caller told.
    pub event_variables: Option<Value>,
    pub sla_at: Option<Timestamp>,
    pub sla_missed_at: Option<Timestamp>,
    /// Of the latest retry within the run.
    pub retry_key: Option<String>,
    /// The run that is in its place in its backfill.
    pub repeated_by: Option<RunId>,
    pub units: Vec<StoredUnit>,
}

/// A unit with its stored names; [`StoredUnit::resolve`] gives it the keys of its graph.
#[derive(Debug, Clone)]
pub struct StoredUnit {
    block: String,
    child: i32,
    row: UnitRow,
}

impl StoredUnit {
    /// The unit's row in terms of the run's graph; `None` when the graph has no such block.
    #[must_use]
    pub fn resolve(self, graph: &Graph) -> Option<UnitRow> {
        let key = unit_key(graph, &self.block, self.child)?;
        Some(UnitRow { key, ..self.row })
    }
}

/// The definition that a run is pinned to.
#[derive(Debug, Clone)]
pub struct Definition {
    /// As deployed.
    pub pipeline: Pipeline,
    /// The code.
    pub bundle_digest: String,
}

/// A version of a pipeline, and what it says.
pub type Versioned = ((PipelineId, i64), Result<Definition, Error>);

/// How a startable pipeline is named.
#[derive(Debug, Clone)]
pub enum PipelineRef {
    /// By its identifier.
    Id(PipelineId),
    /// By its name in a workspace.
    Name(WorkspaceId, String),
}

/// What a new run of a pipeline starts from.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of pipeline and trigger")]
pub struct StartablePipeline {
    pub id: PipelineId,
    pub workspace_id: WorkspaceId,
    pub workspace: String,
    pub workspace_archived: bool,
    pub name: String,
    pub version: i64,
    pub trigger_id: TriggerId,
    pub trigger: String,
}

/// Every unfinished run of some shards, oldest first.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn unfinished(db: &impl GenericClient, shards: &[i16]) -> Result<Vec<StoredRun>, Error> {
    let rows = query::rows(db, include_str!("../../sql/run/select_unfinished.sql"), &[&shards]).await?;
    with_units(db, &rows).await
}

/// One run, ended or not.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn one(store: &Store, run: RunId) -> Result<Option<StoredRun>, Error> {
    let client = store.client().await?;
    let rows = query::rows(&client, include_str!("../../sql/run/select_state.sql"), &[&run.0]).await?;
    Ok(with_units(&client, &rows).await?.pop())
}

/// The definition of a pipeline version; versions never change, so callers may keep it.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn definition(store: &Store, pipeline: PipelineId, version: i64) -> Result<Option<Definition>, Error> {
    let client = store.client().await?;
    definitions(&client, &[(pipeline, version)]).await?.pop().map(|(_, definition)| definition).transpose()
}

/// The definitions of several pipeline versions, in no order; those that do not exist are left out. One that this version
/// cannot read does not hide the others.
///
/// # Errors
/// When the statement fails.
pub async fn definitions(db: &impl GenericClient, versions: &[(PipelineId, i64)]) -> Result<Vec<Versioned>, Error> {
    if versions.is_empty() {
        return Ok(Vec::new());
    }
    let (pipelines, numbers): (Vec<Uuid>, Vec<i64>) = versions.iter().map(|(id, version)| (id.0, version)).unzip();
    let sql = include_str!("../../sql/pipeline_version/select_specs.sql");
    let versioned = |row: &Row| {
        let (pipeline, version) = (PipelineId(row.get("pipeline_id")), row.get("version"));
        let Json(spec): Json<Value> = row.get("spec");
        let corrupt = |source| Error::Corrupt {
            what: "definition",
            id: format!("pipeline {pipeline} version {version}"),
            source,
        };
        let read = serde_json::from_value(spec).map_err(corrupt);
        let definition = read.map(|pipeline| Definition { pipeline, bundle_digest: row.get("bundle_digest") });
        ((pipeline, version), definition)
    };
    Ok(query::rows(db, sql, &[&pipelines, &numbers]).await?.iter().map(versioned).collect())
}

/// What a new run of a pipeline starts from; `None` when it does not exist or is archived.
///
/// # Errors
/// When the database does not answer.
pub async fn current_pipeline(store: &Store, pipeline: &PipelineRef) -> Result<Option<StartablePipeline>, Error> {
    let (id, workspace, name) = match pipeline {
        PipelineRef::Id(id) => (Some(id.0), None, None),
        PipelineRef::Name(workspace, name) => (None, Some(workspace.0), Some(name.as_str())),
    };
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../../sql/pipeline/select_current.sql")).await?;
    let row = client.query_opt(&statement, &[&id, &workspace, &name]).await?;
    Ok(row.as_ref().map(startable))
}

/// What new runs of several pipelines start from; those that do not exist or are archived are left out.
///
/// # Errors
/// When the database does not answer.
pub async fn current_pipelines(
    db: &impl GenericClient,
    pipelines: &[PipelineId],
) -> Result<Vec<StartablePipeline>, Error> {
    if pipelines.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = pipelines.iter().map(|id| id.0).collect();
    let sql = include_str!("../../sql/pipeline/select_current_many.sql");
    Ok(query::rows(db, sql, &[&ids]).await?.iter().map(startable).collect())
}

fn startable(row: &Row) -> StartablePipeline {
    StartablePipeline {
        id: PipelineId(row.get("id")),
        workspace_id: WorkspaceId(row.get("workspace_id")),
        workspace: row.get("workspace"),
        workspace_archived: row.get("archived"),
        name: row.get("name"),
        version: row.get("version"),
        trigger_id: TriggerId(row.get("trigger_id")),
        trigger: row.get("trigger"),
    }
}

/// The status of a pipeline's latest run, or of one block in it, with an execution date in the seconds up to an instant; and the
/// version of the pipeline that it runs.
///
/// # Errors
/// When the database does not answer.
pub async fn latest_status(
    store: &Store,
    workspace: WorkspaceId,
    pipeline: &str,
    block: Option<&str>,
    (until, seconds): (Timestamp, f64),
) -> Result<Option<(String, PipelineId, i64)>, Error> {
    let client = store.client().await?;
    let sql = include_str!("../../sql/run/select_latest_status.sql");
    let row = client.query_opt(sql, &[&workspace.0, &pipeline, &block, &until, &seconds]).await?;
    Ok(row.map(|row| (row.get("status"), PipelineId(row.get("pipeline_id")), row.get("pipeline_version"))))
}

/// Where a block's committed output lies (run, lease and the run's bundle): of one run, or of the latest completed one.
///
/// # Errors
/// When the database does not answer.
pub async fn committed_output(
    store: &Store,
    workspace: WorkspaceId,
    (pipeline, block): (&str, &str),
    run: Option<RunId>,
) -> Result<Option<(RunId, i64, String)>, Error> {
    let client = store.client().await?;
    let sql = include_str!("../../sql/run/select_committed_output.sql");
    let row = client.query_opt(sql, &[&workspace.0, &pipeline, &block, &run.map(|run| run.0)]).await?;
    Ok(row.map(|row| (RunId(row.get("run_id")), row.get("lease"), row.get("bundle_digest"))))
}

/// The bundle whose files a run executes; `None` when there is no such run.
///
/// # Errors
/// When the database does not answer.
pub async fn bundle(store: &Store, run: RunId) -> Result<Option<String>, Error> {
    let row = query::row(&store.client().await?, include_str!("../../sql/run/select_bundle.sql"), &[&run.0]).await?;
    Ok(row.map(|row| row.get("bundle_digest")))
}

/// Which of these attempts (run, block, child, lease) are the accepted one of their unit, in order.
///
/// # Errors
/// When the database does not answer.
pub async fn accepted(store: &Store, attempts: &[(RunId, &str, i32, i64)]) -> Result<Vec<bool>, Error> {
    let runs: Vec<Uuid> = attempts.iter().map(|(run, ..)| run.0).collect();
    let blocks: Vec<&str> = attempts.iter().map(|(_, block, ..)| *block).collect();
    let children: Vec<i32> = attempts.iter().map(|(_, _, child, _)| *child).collect();
    let leases: Vec<i64> = attempts.iter().map(|(.., lease)| *lease).collect();
    let client = store.client().await?;
    let statement = client.prepare_cached(include_str!("../../sql/run/select_accepted.sql")).await?;
    let rows = client.query(&statement, &[&runs, &blocks, &children, &leases]).await?;
    Ok(rows.iter().map(|row| row.get("accepted")).collect())
}

/// How a run stands, and the run that is in its place in its backfill; `None` when there is no such run.
///
/// # Errors
/// When the database does not answer or holds what this version cannot read.
pub async fn repeated(store: &Store, run: RunId) -> Result<Option<(RunStatus, Option<RunId>)>, Error> {
    let row = query::row(&store.client().await?, include_str!("../../sql/run/select_repeated.sql"), &[&run.0]).await?;
    let Some(row) = row else { return Ok(None) };
    let status = row.get::<_, &str>("status").parse().map_err(|e| unreadable("status", run.0, e))?;
    Ok(Some((status, row.get::<_, Option<Uuid>>("repeated_by").map(RunId))))
}

async fn with_units(db: &impl GenericClient, rows: &[Row]) -> Result<Vec<StoredRun>, Error> {
    let mut runs = rows.iter().map(run).collect::<Result<Vec<_>, _>>()?;
    if runs.is_empty() {
        return Ok(runs);
    }
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id.0).collect();
    let places: HashMap<Uuid, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    for row in query::rows(db, include_str!("../../sql/run/select_units.sql"), &[&ids]).await? {
        if let Some(at) = places.get(&row.get::<_, Uuid>("run_id")) {
            runs[*at].units.push(unit(&row)?);
        }
    }
    Ok(runs)
}

fn run(row: &Row) -> Result<StoredRun, Error> {
    let id: Uuid = row.get("id");
    let Json(variables): Json<Value> = row.get("variables");
    Ok(StoredRun {
        id: RunId(id),
        workspace_id: WorkspaceId(row.get("workspace_id")),
        workspace: row.get("workspace"),
        pipeline_id: PipelineId(row.get("pipeline_id")),
        pipeline_version: row.get("pipeline_version"),
        trigger_id: TriggerId(row.get("trigger_id")),
        trigger: row.get("trigger"),
        shard: row.get("shard"),
        row: RunRow {
            status: row.get::<_, &str>("status").parse().map_err(|e| unreadable("status", id, e))?,
            started_at: row.get("started_at"),
            completed_at: row.get("completed_at"),
            reason: row.get("reason"),
            cancel_reason: row.get("cancel_reason"),
        },
        variables,
        execution_date: row.get("execution_date"),
        options: Options {
            allow_blocks_to_fail: row.get("allow_blocks_to_fail"),
            timeout_s: row.get::<_, Option<i32>>("timeout_s").and_then(|s| u32::try_from(s).ok()),
            timeout_status: match row.get("timeout_cancels") {
                true => TimeoutStatus::Cancelled,
                false => TimeoutStatus::Failed,
            },
        },
        backfill_id: row.get::<_, Option<Uuid>>("backfill_id").map(BackfillId),
        event_variables: row.get::<_, Option<Json<Value>>>("event_variables").map(|Json(value)| value),
        sla_at: row.get("sla_at"),
        sla_missed_at: row.get("sla_missed_at"),
        retry_key: row.get("retry_key"),
        repeated_by: row.get::<_, Option<Uuid>>("repeated_by").map(RunId),
        units: Vec::new(),
    })
}

fn unit(row: &Row) -> Result<StoredUnit, Error> {
    let run: Uuid = row.get("run_id");
    let output: Option<Json<Value>> = row.get("output");
    let error: Option<Json<Value>> = row.get("error");
    let corrupt = |source| Error::Corrupt { what: "block run", id: run.to_string(), source };
    Ok(StoredUnit {
        block: row.get("block"),
        child: row.get("child"),
        row: UnitRow {
            // Replaced by `resolve`, which knows the graph.
            key: domain::unit::UnitKey::block(0, None),
            status: row.get::<_, &str>("status").parse().map_err(|e| unreadable("block run", run, e))?,
            lease: row.get("lease"),
            attempts: u32::try_from(row.get::<_, i32>("attempts")).unwrap_or(0),
            deaths: u32::try_from(row.get::<_, i16>("deaths")).unwrap_or(0),
            executor: row.get::<_, Option<Uuid>>("executor_id").map(ExecutorId),
            not_before: row.get("not_before"),
            started_at: row.get("started_at"),
            attempt_started_at: row.get("attempt_started_at"),
            completed_at: row.get("completed_at"),
            output: output.map(|Json(v)| serde_json::from_value(v)).transpose().map_err(corrupt)?,
            error: error.map(|Json(v)| serde_json::from_value(v)).transpose().map_err(corrupt)?,
            children: row.get::<_, Option<i32>>("children").and_then(|n| u32::try_from(n).ok()),
        },
    })
}

pub(super) fn unreadable(what: &'static str, id: Uuid, error: domain::unit::UnknownStatus) -> Error {
    Error::Corrupt { what, id: id.to_string(), source: serde::de::Error::custom(error) }
}
