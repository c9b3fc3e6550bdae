//! `orrery cancel` and `orrery retry`.

use crate::{
    commands::{again, run},
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
    let request = request(run_id, mode, from_block);
    let response = again::until_answered(async || {
        connection.runs().retry_run(client::within(CALL_TIMEOUT, request.clone())).await
    })
    .await?
    .into_inner();
    let run = answered(response.run)?;
    if wait {
        return run::follow_or_leave(connection, output, &run).await;
    }
    output.answer("orrery.v1.Run", &run, || {
        format!("run {} runs again; `orrery logs -f {}` follows it", run.id, short_id(&run.id))
    })?;
    Ok(Code::Ok)
}

/// With a key of its own, by which it is one retry however often it is asked for.
fn request(run_id: String, mode: RetryMode, from_block: String) -> RetryRunRequest {
    RetryRunRequest { run_id, mode: mode.into(), from_block, idempotency_key: uuid::Uuid::new_v4().to_string() }
}

fn answered(run: Option<Run>) -> Result<Run> {
    run.ok_or_else(|| Failure::new(Code::Internal, "the server answered without a run", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_retry_has_a_key_of_its_own() {
        let key = || request("r".to_owned(), RetryMode::Incomplete, String::new()).idempotency_key;
        let (first, second) = (key(), key());
        assert!(!first.is_empty() && first != second, "{first:?}, {second:?}");
    }
}
