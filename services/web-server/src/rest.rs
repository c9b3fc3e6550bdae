//! Short paths for what a person types into a browser or curl. Each is a method of the contract under another name.

use crate::router::Api;
use crate::surface::Surface;
use crate::transcode::connect;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Parameters of the query and of the path, by the name of the request's field.
type Parameters = HashMap<String, String>;

/// Path and method; parts of the path and of the query are fields of the request.
const ALIASES: &[(&str, &str)] = &[
    ("/api/v1/workspaces", "/orrery.v1.WorkspaceService/ListWorkspaces"),
    ("/api/v1/workspaces/{workspace}/pipelines", "/orrery.v1.PipelineService/ListPipelines"),
    ("/api/v1/workspaces/{workspace}/pipelines/{pipeline}", "/orrery.v1.PipelineService/GetPipeline"),
    ("/api/v1/workspaces/{workspace}/runs", "/orrery.v1.RunService/ListRuns"),
    ("/api/v1/workspaces/{workspace}/triggers", "/orrery.v1.TriggerService/ListTriggers"),
    ("/api/v1/triggers/{trigger_id}", "/orrery.v1.TriggerService/GetTrigger"),
    ("/api/v1/triggers/{trigger_id}/preview", "/orrery.v1.TriggerService/PreviewSchedule"),
    ("/api/v1/triggers/{trigger_id}/firings", "/orrery.v1.TriggerService/ListFirings"),
    ("/api/v1/runs/{run_id}", "/orrery.v1.RunService/GetRun"),
    ("/api/v1/runs/{run_id}/blocks", "/orrery.v1.RunService/ListBlockRuns"),
    ("/api/v1/runs/{run_id}/watch", "/orrery.v1.RunService/WatchRun"),
    ("/api/v1/runs/{run_id}/logs", "/orrery.v1.LogService/ListLogs"),
    ("/api/v1/runs/{run_id}/blocks/{block}/outputs", "/orrery.v1.OutputService/GetOutputs"),
    ("/api/v1/workspaces/{workspace}/models", "/orrery.v1.ModelService/ListModels"),
    ("/api/v1/workspaces/{workspace}/models/{name}", "/orrery.v1.ModelService/ListModelVersions"),
    ("/api/v1/workspaces/{workspace}/logs", "/orrery.v1.LogService/SearchLogs"),
    ("/api/v1/workspaces/{workspace}/monitor", "/orrery.v1.MonitorService/GetRunStatistics"),
    ("/api/v1/workspaces/{workspace}/monitor/blocks", "/orrery.v1.MonitorService/GetBlockStatistics"),
    ("/api/v1/workspaces/{workspace}/notifications", "/orrery.v1.NotificationService/ListNotifications"),
    ("/api/v1/executors", "/orrery.v1.ExecutorService/ListExecutors"),
];

/// The routes of the table.
pub(crate) fn routes(surface: Surface) -> Surface {
    ALIASES.iter().fold(surface, |surface, (path, method)| {
        let method = *method;
        let handler =
            move |State(api): State<Api>,
                  Path(path): Path<Parameters>,
                  Query(query): Query<Parameters>,
                  request: Request| async move { call(&api, method, request.into_parts().0, path, query).await };
        surface.get(path, handler)
    })
}

/// The path wins over the query; the JSON form of the contract takes numbers as text.
async fn call(api: &Api, method: &str, head: Parts, path: Parameters, query: Parameters) -> Response {
    let mut fields: Map<String, Value> = query.into_iter().map(|(name, text)| field(name, text)).collect();
    fields.extend(path.into_iter().map(|(name, text)| (name, Value::String(text))));
    let message = Value::Object(fields).to_string();
    let answer = api.transcoder.answer(method, &head.headers, &head.extensions, message.as_bytes()).await;
    answer.unwrap_or_else(|status| connect::error(&status))
}

fn field(name: String, text: String) -> (String, Value) {
    let value = match (name.as_str(), text.as_str()) {
        ("statuses", list) => list.split(',').map(Value::from).collect(),
        (_, "true") => Value::Bool(true),
        (_, "false") => Value::Bool(false),
        _ => Value::String(text),
    };
    (name, value)
}
