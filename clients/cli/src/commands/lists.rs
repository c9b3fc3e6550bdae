//! `orrery pipelines`, `executors` and `workspaces`.

use super::{deploy, gpus::affected};
use crate::{
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output, block,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{
    ArchiveWorkspaceRequest, CountModelsRequest, CreateWorkspaceRequest, Executor, ExecutorState, ListExecutorsRequest,
    ListExecutorsResponse, ListPipelinesRequest, ListPipelinesResponse, ListWorkspacesRequest, ListWorkspacesResponse,
    Pipeline, RestoreWorkspaceRequest, Workspace, WorkspaceCounts,
};
use rpc::client;
use std::collections::HashMap;

/// The workspace's pipelines.
pub(crate) async fn pipelines(connection: &Connection, output: &Output) -> Result<Code> {
    let request = ListPipelinesRequest {
        workspace: connection.workspace.clone(),
        page_size: PAGE_SIZE,
        ..ListPipelinesRequest::default()
    };
    let pipelines = pages!(connection.pipelines(), list_pipelines, request, pipelines);
    let all = ListPipelinesResponse { pipelines, next_page_token: String::new() };
    output.answer("orrery.v1.ListPipelinesResponse", &all, || pipeline_table(&all.pipelines, output))?;
    Ok(Code::Ok)
}

fn pipeline_table(pipelines: &[Pipeline], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["pipeline", "type", "blocks", "version", "updated", "description"]);
    for pipeline in pipelines {
        table.add_row([
            table::cell(&pipeline.name, Tone::Plain),
            table::cell(&pipeline.r#type, Tone::Dim),
            table::number(pipeline.block_count),
            table::number(pipeline.version),
            table::cell(time::relative(time::instant(pipeline.updated_at.as_ref()), now), Tone::Plain),
            table::cell(block::one_line(&pipeline.description), Tone::Dim),
        ]);
    }
    table::text(&table, "no pipelines; `orrery deploy DIR` brings some")
}

/// Executors, with how they are.
pub(crate) async fn executors(connection: &Connection, output: &Output) -> Result<Code> {
    let mut request = ListExecutorsRequest { page_size: PAGE_SIZE, ..ListExecutorsRequest::default() };
    let mut all = ListExecutorsResponse::default();
    loop {
        let page =
            connection.executors().list_executors(client::within(CALL_TIMEOUT, request.clone())).await?.into_inner();
        all.executors.extend(page.executors);
        all.withheld = page.withheld;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    output.answer("orrery.v1.ListExecutorsResponse", &all, || match all.withheld {
        true => "executors are shown to who has a role over the whole cluster".to_owned(),
        false => executor_table(&all.executors, output),
    })?;
    Ok(Code::Ok)
}

fn executor_table(executors: &[Executor], output: &Output) -> String {
    let now = Timestamp::now();
    let headings = ["executor", "backend", "state", "running", "slots", "connected", "last seen", "version"];
    let mut table = table::new(output.style, &headings);
    for executor in executors {
        let (word, tone) = match executor.state() {
            ExecutorState::Unspecified => ("unknown", Tone::Dim),
            ExecutorState::Online => ("online", Tone::Good),
            ExecutorState::Draining => ("draining", Tone::Warn),
            ExecutorState::Lost => ("lost", Tone::Bad),
            ExecutorState::Gone => ("gone", Tone::Dim),
        };
        table.add_row([
            table::cell(&executor.name, Tone::Plain),
            table::cell(&executor.backend, Tone::Dim),
            table::cell(word, tone),
            table::number(executor.running),
            table::number(executor.slots),
            table::cell(time::relative(time::instant(executor.connected_at.as_ref()), now), Tone::Plain),
            table::cell(time::relative(time::instant(executor.last_seen_at.as_ref()), now), Tone::Plain),
            table::cell(&executor.version, Tone::Dim),
        ]);
    }
    table::text(&table, "no executors; runs wait until one connects")
}

/// Every workspace that one may see.
pub(crate) async fn workspaces(
    connection: &Connection,
    output: &Output,
    project: String,
    with_archived: bool,
) -> Result<Code> {
    let request =
        ListWorkspacesRequest { page_size: PAGE_SIZE, project, with_archived, ..ListWorkspacesRequest::default() };
    let workspaces = pages!(connection.workspaces(), list_workspaces, request, workspaces);
    let all = ListWorkspacesResponse { workspaces, next_page_token: String::new() };
    let request = CountModelsRequest { page_size: PAGE_SIZE, page_token: String::new() };
    // What each holds is for people; the JSON of the two lists is that of the API.
    let counts = if output.json { Vec::new() } else { pages!(connection.models(), count_models, request, workspaces) };
    output.answer("orrery.v1.ListWorkspacesResponse", &all, || workspace_table(&all.workspaces, &counts, output))?;
    Ok(Code::Ok)
}

fn workspace_table(workspaces: &[Workspace], counts: &[WorkspaceCounts], output: &Output) -> String {
    let now = Timestamp::now();
    let counts: HashMap<_, _> = counts.iter().map(|counts| (counts.workspace.as_str(), counts)).collect();
    let headings = ["workspace", "project", "created", "pipelines", "models", "bundle"];
    let mut table = table::new(output.style, &headings);
    for workspace in workspaces {
        let held = counts.get(workspace.name.as_str());
        table.add_row([
            table::cell(&workspace.name, if workspace.archived { Tone::Dim } else { Tone::Plain }),
            table::cell(&workspace.project, Tone::Dim),
            table::cell(time::relative(time::instant(workspace.created_at.as_ref()), now), Tone::Plain),
            held.map_or_else(|| table::cell("", Tone::Dim), |held| table::number(i64::from(held.pipelines))),
            held.map_or_else(|| table::cell("", Tone::Dim), |held| table::number(i64::from(held.models))),
            table::cell(deploy::short_digest(&workspace.bundle_digest), Tone::Dim),
        ]);
    }
    table::text(&table, "no workspaces")
}

/// Makes a new one.
pub(crate) async fn create_workspace(
    connection: &Connection,
    output: &Output,
    name: String,
    project: String,
) -> Result<Code> {
    let request = CreateWorkspaceRequest { name, project, ..CreateWorkspaceRequest::default() };
    let response = connection.workspaces().create_workspace(client::within(CALL_TIMEOUT, request)).await?.into_inner();
    let workspace = response.workspace.unwrap_or_default();
    output.answer("orrery.v1.Workspace", &workspace, || format!("workspace {} is there", workspace.name))?;
    Ok(Code::Ok)
}

/// Takes one out of use.
pub(crate) async fn archive_workspace(
    connection: &Connection,
    output: &Output,
    name: String,
    force: bool,
) -> Result<Code> {
    let request = client::within(CALL_TIMEOUT, ArchiveWorkspaceRequest { name: name.clone(), force });
    let response = connection.workspaces().archive_workspace(request).await?.into_inner();
    output.answer("orrery.v1.ArchiveWorkspaceResponse", &response, || {
        format!("workspace {name} is archived{}", affected(&response.affected, output))
    })?;
    Ok(Code::Ok)
}

/// Takes one back into use.
pub(crate) async fn restore_workspace(connection: &Connection, output: &Output, name: String) -> Result<Code> {
    let request = client::within(CALL_TIMEOUT, RestoreWorkspaceRequest { name: name.clone() });
    let response = connection.workspaces().restore_workspace(request).await?.into_inner();
    output.answer("orrery.v1.RestoreWorkspaceResponse", &response, || format!("workspace {name} is in use again"))?;
    Ok(Code::Ok)
}
