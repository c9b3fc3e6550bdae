//! `orrery cancel` and `orrery retry`.

use crate::{
    commands::run,
    connection::{CALL_TIMEOUT, Connection},
    failure::{Code, Failure, Result},
    render::{Output, block, short_id},
};
use proto::v1::{CancelRunRequest, RetryMode, RetryRunRequest, Run};
use rpc::client;

/// Asks the run to stop; that it was asked is the answer.
pub(crate) async fn cancel(connection: &Connection, output: &Output, run_id: String, reason: String) -> Result<Code> {
    let request = client::within(CALL_TIMEOUT, CancelRunRequest { run_id, reason });
    let run = answered(connection.runs().cancel_run(request).await?.into_inner().run)?;
    output.answer("orrery.v1.Run", &run, || match block::run_ended(&run) {
        true => format!("run {} has ended: {}", short_id(&run.id), block::run_status(run.status()).0),
        false => format!("run {} was asked to stop", short_id(&run.id)),
    })?;
    Ok(Code::Ok)
}

/// Runs again, and with `wait` follows it.
pub(crate) async fn retry(
    connection: &Connection,
    output: &Output,
    run_id: String,
    mode: RetryMode,
    from_block: String,
    wait: bool,
) -> Result<Code> {
    let request = RetryRunRequest { run_id, mode: mode.into(), from_block, idempotency_key: String::new() };
    let response = connection.runs().retry_run(client::within(CALL_TIMEOUT, request)).await?.into_inner();
    let run = answered(response.run)?;
    if wait {
        return run::follow_or_leave(connection, output, &run).await;
    }
    output.answer("orrery.v1.Run", &run, || {
        format!("run {} runs again; `orrery logs -f {}` follows it", run.id, short_id(&run.id))
    })?;
    Ok(Code::Ok)
}

fn answered(run: Option<Run>) -> Result<Run> {
    run.ok_or_else(|| Failure::new(Code::Internal, "the server answered without a run", ""))
}
