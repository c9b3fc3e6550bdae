//! `orrery run`, and following a run to its end.

use super::again::{self, Again};
use crate::{
    arguments,
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Failure, Result},
    json,
    render::{Output, block, line, progress::Progress, short_id},
};
use proto::v1::{Block, CreateRunRequest, GetPipelineRequest, Run, RunStatus, WatchRunRequest};
use rpc::client;
use serde_json::{Map, Value};
use std::path::Path;
use tonic::Status;

/// Starts a run, and with `--wait` follows it.
pub(crate) async fn run(connection: &Connection, output: &Output, options: arguments::Run) -> Result<Code> {
    let mut variables = options.vars_file.as_deref().map(read_variables).transpose()?.unwrap_or_default();
    variables.extend(options.variables);
    let request = CreateRunRequest {
        pipeline: options.pipeline,
        idempotency_key: options.idempotency_key.unwrap_or_default(),
        allow_blocks_to_fail: options.allow_blocks_to_fail,
        timeout: options.timeout.map(|t| prost_types::Duration { seconds: t.as_secs(), nanos: t.subsec_nanos() }),
        ..CreateRunRequest::default()
    };
    let run = create(connection, request, &variables).await?;
    if options.wait {
        return follow_or_leave(connection, output, &run).await;
    }
    output.answer("orrery.v1.Run", &run, || {
        format!("run {} of {} has begun; `orrery logs -f {}` follows it", run.id, run.pipeline, short_id(&run.id))
    })?;
    Ok(Code::Ok)
}

/// Starts a run in the connection's workspace. A server that is lost before it answered is asked again with the same key,
/// so that there is one run and its caller knows it.
pub(crate) async fn create(
    connection: &Connection,
    mut request: CreateRunRequest,
    variables: &Map<String, Value>,
) -> Result<Run> {
    request.workspace.clone_from(&connection.workspace);
    let values = rpc::json::json_to_struct(variables, "variables");
    request.variables = Some(values.map_err(|e| Failure::new(Code::Usage, e.message, "check --var and --vars-file"))?);
    if request.idempotency_key.is_empty() {
        request.idempotency_key = uuid::Uuid::new_v4().to_string();
    }
    let response = again::until_answered(async || {
        connection.runs().create_run(client::within(CALL_TIMEOUT, request.clone())).await
    })
    .await?
    .into_inner();
    response.run.ok_or_else(|| Failure::new(Code::Internal, "the server answered without a run", ""))
}

fn read_variables(path: &Path) -> Result<Map<String, Value>> {
    let wrong = |e: String| {
        Failure::new(Code::Usage, format!("cannot read {}: {e}", path.display()), "give a file with one JSON object")
    };
    let text = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))
}

/// Shows the run until it has ended, or until Ctrl-C, which leaves the run alone.
pub(crate) async fn follow_or_leave(connection: &Connection, output: &Output, run: &Run) -> Result<Code> {
    tokio::select! {
        code = follow(connection, output, run) => code,
        _ = tokio::signal::ctrl_c() => {
            let id = short_id(&run.id);
            eprintln!("the run goes on: `orrery logs -f {id}` follows it, `orrery cancel {id}` stops it");
            Ok(Code::Interrupted)
        }
    }
}

/// Shows the run until it has ended; the code tells how.
pub(crate) async fn follow(connection: &Connection, output: &Output, run: &Run) -> Result<Code> {
    if !output.json {
        line(&format!("run {} of {}", run.id, run.pipeline));
    }
    let blocks = blocks_of(connection, run).await;
    let ended = watch(connection, output, run, &blocks).await?;
    Ok(match ended.status() {
        RunStatus::Completed => Code::Ok,
        RunStatus::Cancelled => Code::RunCancelled,
        _ => Code::RunFailed,
    })
}

/// The pipeline's blocks, for the tree; a run can be shown without.
async fn blocks_of(connection: &Connection, run: &Run) -> Vec<Block> {
    let request = GetPipelineRequest { workspace: run.workspace.clone(), pipeline: run.pipeline.clone() };
    let answer = connection.pipelines().get_pipeline(client::within(CALL_TIMEOUT, request)).await;
    answer.ok().and_then(|a| a.into_inner().pipeline).map(|p| p.blocks).unwrap_or_default()
}

async fn watch(connection: &Connection, output: &Output, run: &Run, blocks: &[Block]) -> Result<Run> {
    let (mut progress, mut again) = (Progress::new(output, blocks), Again::new());
    loop {
        match watch_once(connection, output, run, &mut progress, &mut again).await? {
            Ok(run) => return Ok(run),
            Err(error) => again.after(error).await?,
        };
    }
}

/// Until the run has ended (`Ok(Ok)`), or the stream is lost (`Ok(Err)`).
async fn watch_once(
    connection: &Connection,
    output: &Output,
    run: &Run,
    progress: &mut Progress,
    again: &mut Again,
) -> Result<std::result::Result<Run, Status>> {
    let mut stream = match connection.runs().watch_run(WatchRunRequest { run_id: run.id.clone() }).await {
        Ok(stream) => stream.into_inner(),
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let state = match stream.message().await {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(Err(Status::unavailable("the server ended the stream"))),
            Err(error) => return Ok(Err(error)),
        };
        again.came();
        if output.json {
            line(&json::line("orrery.v1.WatchRunResponse", &state)?);
        } else {
            progress.show(&state.block_runs);
        }
        if let Some(run) = state.run.filter(block::run_ended) {
            if !output.json {
                progress.finish(&run);
            }
            return Ok(Ok(run));
        }
    }
}
