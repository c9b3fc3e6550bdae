//! What a new run must be before a scheduler sees it. Refuses to start any.

use crate::core::Core;
use crate::encode;
use crate::fault::Fault;
use crate::idempotent;
use crate::settings::Limits;
use domain::pipeline::{Pipeline, PipelineKind};
use domain::{ErrorKind, id::PipelineId, trigger::key};
use proto::internal::v1::NewRun;
use proto::v1::{BatchCreateRunsRequest, CreateRunRequest};
use store::pipelines::{self, Head};

/// The most runs of one batch.
pub(crate) const BATCH_MAX: usize = 1_000;
/// The most bytes of variables of one batch, which goes on to a scheduler as one message.
const BATCH_BYTES_MAX: usize = rpc::server::MESSAGE_BYTES_MAX / 4 * 3;

/// The pipeline that is to run, if it can. That there is such a workspace was seen by whoever let the caller in.
pub(crate) async fn target(core: &Core, workspace: &str, pipeline: &str) -> Result<PipelineId, Fault> {
    let head = pipelines::get_by_names(&core.store.client().await?, workspace, pipeline).await?;
    startable(head, workspace, pipeline)
}

/// As [`target`], where the pipeline may have been `read` when the caller was let in.
pub(crate) async fn target_read(
    core: &Core,
    read: Option<Head>,
    workspace: &str,
    pipeline: &str,
) -> Result<PipelineId, Fault> {
    if read.is_some() { startable(read, workspace, pipeline) } else { target(core, workspace, pipeline).await }
}

fn startable(head: Option<Head>, workspace: &str, pipeline: &str) -> Result<PipelineId, Fault> {
    let head = head.filter(|head| !head.archived).ok_or_else(|| Fault::no_pipeline(workspace, pipeline))?;
    runnable(&head.pipeline()?)?;
    Ok(head.id)
}

fn runnable(pipeline: &Pipeline) -> Result<(), Fault> {
    if pipeline.kind == PipelineKind::Python {
        return Ok(());
    }
    let message = format!(
        "pipeline `{}` is of type `{}`, which this cluster does not run; only type `python` (a batch DAG) runs",
        pipeline.name,
        encode::name(&pipeline.kind)
    );
    Err(Fault::new(ErrorKind::FailedPrecondition, "PIPELINE_TYPE_NOT_RUNNABLE", message))
}

/// The key of the firing: the client's, or one that nobody else has.
pub(crate) fn logical_key(idempotency_key: &str) -> String {
    key::of_request(idempotency_key, uuid::Uuid::now_v7)
}

/// One run, as a scheduler takes it.
pub(crate) fn check(pipeline: PipelineId, request: CreateRunRequest, limits: &Limits) -> Result<NewRun, Fault> {
    idempotent::check(&request.idempotency_key)?;
    let variables = rpc::json::struct_to_json(request.variables.unwrap_or_default(), "variables")?;
    let variables = serde_json::Value::Object(variables).to_string();
    if variables.len() > limits.variables_bytes {
        let limit = limits.variables_bytes;
        return Err(Fault::field(
            "variables",
            format!("must be at most {limit} bytes of JSON; pass a reference instead"),
        ));
    }
    Ok(NewRun {
        pipeline_id: pipeline.to_vec(),
        logical_key: logical_key(&request.idempotency_key),
        variables,
        execution_date_us: request.execution_date.map(micros).transpose()?,
        timeout_s: request.timeout.map_or(Ok(0), seconds)?,
        allow_blocks_to_fail: request.allow_blocks_to_fail,
        ..NewRun::default()
    })
}

/// A batch, each of whose requests must be for the batch's own pipeline.
pub(crate) fn check_all(
    pipeline: PipelineId,
    batch: BatchCreateRunsRequest,
    limits: &Limits,
) -> Result<Vec<NewRun>, Fault> {
    if batch.requests.is_empty() || batch.requests.len() > BATCH_MAX {
        return Err(Fault::field("requests", format!("must hold 1 to {BATCH_MAX} requests")));
    }
    let mut runs = Vec::with_capacity(batch.requests.len());
    let mut bytes = 0;
    for (at, request) in batch.requests.into_iter().enumerate() {
        for (own, outer, field) in
            [(&request.workspace, &batch.workspace, "workspace"), (&request.pipeline, &batch.pipeline, "pipeline")]
        {
            if !own.is_empty() && own != outer {
                return Err(Fault::field(format!("requests[{at}].{field}"), format!("must be empty or `{outer}`")));
            }
        }
        let run = check(pipeline, request, limits)?;
        bytes += run.variables.len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Fault::field("requests", "hold too many bytes of variables together; send smaller batches"));
        }
        runs.push(run);
    }
    Ok(runs)
}

fn micros(at: prost_types::Timestamp) -> Result<i64, Fault> {
    Ok(rpc::timestamp::from_proto(&at, "execution_date")?.as_microsecond())
}

fn seconds(timeout: prost_types::Duration) -> Result<i32, Fault> {
    let whole = timeout.seconds.saturating_add(i64::from(timeout.nanos > 0));
    match i32::try_from(whole) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(Fault::field("timeout", "must be longer than 0 s and at most 68 years; leave it out for none")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn timeouts_are_rounded_up_to_seconds() {
        let of = |seconds, nanos| super::seconds(prost_types::Duration { seconds, nanos }).ok();
        assert_eq!(of(0, 1), Some(1));
        assert_eq!(of(90, 0), Some(90));
        assert_eq!(of(0, 0), None);
        assert_eq!(of(-5, 0), None);
        assert_eq!(of(i64::MAX, 1), None);
    }
}
