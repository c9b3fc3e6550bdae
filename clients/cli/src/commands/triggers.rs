//! `orrery triggers` and what follows it.

mod define;
mod show;

use crate::{
    arguments::triggers::{Definition, Triggers},
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    meant::{self, Named},
    render::Output,
};
use domain::id::TriggerId;
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    CreateTriggerRequest, DeleteTriggerRequest, GetTriggerRequest, ListFiringsRequest, ListFiringsResponse,
    ListTriggerTokensRequest, ListTriggersRequest, ListTriggersResponse, PauseTriggerRequest, PreviewScheduleRequest,
    PublishEventRequest, RotateTriggerTokenRequest, Schedule, StartTriggerRequest, Trigger, UpdateTriggerRequest,
};
use rpc::client;

/// A name is looked up among so many triggers.
const RESOLVE_MAX: usize = 10_000;

/// Carries out what was typed.
pub(crate) async fn run(connection: &Connection, output: &Output, command: Option<Triggers>) -> Result<Code> {
    match command.unwrap_or(Triggers::List { pipeline: None, archived: false }) {
        Triggers::List { pipeline, archived } => list(connection, output, pipeline.unwrap_or_default(), archived).await,
        Triggers::Show { trigger } => {
            let trigger = find(connection, &trigger).await?;
            show::whole(output, &trigger)
        }
        Triggers::Create { pipeline, name, paused, definition } => {
            create(connection, output, pipeline, name, paused, *definition).await
        }
        Triggers::Edit { trigger, definition } => edit(connection, output, &trigger, *definition).await,
        Triggers::Start { trigger } => {
            let trigger_id = find(connection, &trigger).await?.id;
            let request = client::within(CALL_TIMEOUT, StartTriggerRequest { trigger_id });
            let started = connection.triggers().start_trigger(request).await?.into_inner().trigger;
            show::changed(output, &answered(started)?, "started")
        }
        Triggers::Pause { trigger } => {
            let trigger_id = find(connection, &trigger).await?.id;
            let request = client::within(CALL_TIMEOUT, PauseTriggerRequest { trigger_id });
            let paused = connection.triggers().pause_trigger(request).await?.into_inner().trigger;
            show::changed(output, &answered(paused)?, "paused")
        }
        Triggers::Delete { trigger } => {
            let trigger = find(connection, &trigger).await?;
            let request = DeleteTriggerRequest { trigger_id: trigger.id.clone() };
            let answer = connection.triggers().delete_trigger(client::within(CALL_TIMEOUT, request)).await?;
            let said = || format!("trigger {} of {} is archived", trigger.name, trigger.pipeline);
            output.answer("orrery.v1.DeleteTriggerResponse", answer.get_ref(), said)?;
            Ok(Code::Ok)
        }
        Triggers::Preview { trigger, every, zone, after, count } => {
            preview(connection, output, trigger, every.map(|every| (every, zone)), after, count).await
        }
        Triggers::History { trigger, archived, limit } => {
            let trigger_id = remembered(connection, trigger, archived).await?;
            history(connection, output, &trigger_id, limit).await
        }
        Triggers::Token { trigger, overlap, list } => token(connection, output, &trigger, overlap, list).await,
        Triggers::Send { event, idempotency_key } => {
            send(connection, output, &event, idempotency_key.unwrap_or_default()).await
        }
    }
}

fn answered(trigger: Option<Trigger>) -> Result<Trigger> {
    trigger.ok_or_else(|| Failure::new(Code::Internal, "the server answered without a trigger", ""))
}

async fn all(connection: &Connection, pipeline: &str, with_archived: bool) -> Result<Vec<Trigger>> {
    let mut all = Vec::new();
    let mut request = ListTriggersRequest {
        workspace: connection.workspace.clone(),
        pipeline: pipeline.to_owned(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
        with_archived,
    };
    loop {
        let page = connection.triggers().list_triggers(client::within(CALL_TIMEOUT, request.clone())).await?;
        let page = page.into_inner();
        all.extend(page.triggers);
        if page.next_page_token.is_empty() || all.len() >= RESOLVE_MAX {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

async fn list(connection: &Connection, output: &Output, pipeline: String, archived: bool) -> Result<Code> {
    let triggers = all(connection, &pipeline, archived).await?;
    show::list(output, &ListTriggersResponse { triggers, next_page_token: String::new() })
}

/// The trigger that was meant: by its id, its name, or its pipeline's name and its own.
async fn find(connection: &Connection, named: &str) -> Result<Trigger> {
    if named.parse::<TriggerId>().is_ok() {
        let request = GetTriggerRequest { trigger_id: named.to_owned() };
        let found = connection.triggers().get_trigger(client::within(CALL_TIMEOUT, request)).await?;
        return answered(found.into_inner().trigger);
    }
    meant::by_name(all(connection, "", false).await?, named, &connection.workspace)
}

/// The id of the trigger that was meant, which may be archived: that of one that is not comes first.
async fn remembered(connection: &Connection, named: String, archived: bool) -> Result<String> {
    if named.parse::<TriggerId>().is_ok() {
        return Ok(named);
    }
    let all = all(connection, "", true).await?;
    let (gone, alive): (Vec<_>, Vec<_>) = all.into_iter().partition(|trigger| trigger.archived);
    let found = match meant::by_name(if archived { Vec::new() } else { alive }, &named, &connection.workspace) {
        Err(none) if none.code == Code::NotFound => meant::by_name(gone, &named, &connection.workspace),
        found => found,
    };
    Ok(found?.id)
}

impl Named for Trigger {
    const KIND: &'static str = "trigger";

    fn pipeline(&self) -> &str {
        &self.pipeline
    }

    fn name(&self) -> &str {
        &self.name
    }
}

async fn create(
    connection: &Connection,
    output: &Output,
    pipeline: String,
    name: String,
    paused: bool,
    definition: Definition,
) -> Result<Code> {
    let spec = define::new(definition)?;
    let request = CreateTriggerRequest {
        workspace: connection.workspace.clone(),
        pipeline,
        name,
        active: !paused,
        spec: Some(spec),
        idempotency_key: String::new(),
    };
    let created = connection.triggers().create_trigger(client::within(CALL_TIMEOUT, request)).await?;
    show::changed(output, &answered(created.into_inner().trigger)?, "created")
}

async fn edit(connection: &Connection, output: &Output, named: &str, definition: Definition) -> Result<Code> {
    let trigger = find(connection, named).await?;
    let spec = define::changed(trigger.spec.unwrap_or_default(), definition)?;
    let request = UpdateTriggerRequest { trigger_id: trigger.id, version: trigger.version, spec: Some(spec) };
    let edited = connection.triggers().update_trigger(client::within(CALL_TIMEOUT, request)).await?;
    show::changed(output, &answered(edited.into_inner().trigger)?, "edited")
}

async fn preview(
    connection: &Connection,
    output: &Output,
    trigger: Option<String>,
    schedule: Option<(String, String)>,
    after: Option<Timestamp>,
    count: i32,
) -> Result<Code> {
    let trigger = match &trigger {
        Some(named) => find(connection, named).await?,
        None => Trigger::default(),
    };
    let schedule = schedule.map(|(every, time_zone)| Schedule { every, time_zone, ..Schedule::default() });
    let after = after.map(rpc::timestamp::to_proto);
    let request = PreviewScheduleRequest { trigger_id: trigger.id, schedule, after, count };
    let answer = connection.triggers().preview_schedule(client::within(CALL_TIMEOUT, request)).await?.into_inner();
    show::times(output, &answer, trigger.spec.and_then(|spec| spec.window).as_ref())
}

async fn history(connection: &Connection, output: &Output, trigger_id: &str, limit: u32) -> Result<Code> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut all = ListFiringsResponse::default();
    loop {
        let request = ListFiringsRequest {
            trigger_id: trigger_id.to_owned(),
            page_size: i32::try_from(limit - all.firings.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = connection.triggers().list_firings(client::within(CALL_TIMEOUT, request)).await?.into_inner();
        all.firings.extend(page.firings);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.firings.len() >= limit {
            return show::history(output, &all);
        }
    }
}

async fn token(
    connection: &Connection,
    output: &Output,
    named: &str,
    overlap: SignedDuration,
    list: bool,
) -> Result<Code> {
    let trigger_id = find(connection, named).await?.id;
    if list {
        let request = client::within(CALL_TIMEOUT, ListTriggerTokensRequest { trigger_id });
        return show::tokens(output, connection.triggers().list_trigger_tokens(request).await?.get_ref());
    }
    let request = RotateTriggerTokenRequest {
        trigger_id: trigger_id.clone(),
        overlap: Some(define::duration(overlap)),
        ..RotateTriggerTokenRequest::default()
    };
    let answer = connection.triggers().rotate_trigger_token(client::within(CALL_TIMEOUT, request)).await?;
    show::new_token(output, &trigger_id, answer.get_ref())
}

async fn send(connection: &Connection, output: &Output, event: &str, idempotency_key: String) -> Result<Code> {
    let event = Some(define::object(event, "the event")?);
    let request = PublishEventRequest { workspace: connection.workspace.clone(), event, idempotency_key };
    let answer = connection.events().publish_event(client::within(CALL_TIMEOUT, request)).await?;
    show::outcomes(output, answer.get_ref())
}
