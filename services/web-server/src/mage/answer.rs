//! Answers in Mage's form. Refuses to decide anything.

use crate::fault::Fault;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};
use store::{run_views::Run, triggers::Listed};

/// A body as an answer, or the error as one.
pub(super) fn of(outcome: Result<(http::StatusCode, Value), Fault>) -> Response {
    let (status, body, wait) = match outcome {
        Ok((status, body)) => (status, body, None),
        Err(Fault(problem)) => {
            let (status, wait) = (problem.http_status(), problem.retry_after_s());
            let message = problem.to_string();
            (status, json!({ "error": { "code": status.as_u16(), "type": problem.reason, "message": message } }), wait)
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if status == http::StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A run that a call started. What Mage answers and Orrery does not have is null.
pub(super) fn pipeline_run(listed: &Listed, run: &Run, event_variables: Map<String, Value>) -> Value {
    json!({ "pipeline_run": {
        "id": run.id.to_string(),
        "created_at": run.created_at.to_string(),
        "updated_at": run.created_at.to_string(),
        "pipeline_schedule_id": listed.trigger.id.to_string(),
        "pipeline_uuid": listed.pipeline,
        "execution_date": run.execution_date.to_string(),
        "status": run.status,
        "started_at": run.started_at.map(|at| at.to_string()),
        "completed_at": run.completed_at.map(|at| at.to_string()),
        "variables": run.variables,
        "event_variables": event_variables,
        "passed_sla": false,
        "metrics": null,
        "backfill_id": null,
        "executor_type": null,
    } })
}

/// A call whose run waits for others to end. The same key, once it has begun, is told the run.
pub(super) fn later(listed: &Listed) -> Value {
    json!({ "pipeline_run": null, "pipeline_schedule_id": listed.trigger.id.to_string(), "waits": true })
}

/// What an event did, from the contract's answer.
pub(super) fn event(published: &Value) -> Value {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let run = |outcome: &Value| {
        json!({
            "id": text(&outcome["runId"]),
            "skipped": text(&outcome["skipped"]),
            "waits": outcome["waits"],
            "pipeline_schedule_id": outcome["triggerId"],
            "pipeline_schedule_name": outcome["trigger"],
            "pipeline_uuid": outcome["pipeline"],
        })
    };
    let runs: Vec<Value> = published["outcomes"].as_array().into_iter().flatten().map(run).collect();
    json!({ "event": { "pipeline_runs": runs } })
}
