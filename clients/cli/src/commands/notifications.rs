//! `orrery notifications`.

use crate::{
    arguments::Notifications,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    render::{
        Output, block, short_id,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{
    ListNotificationConfigsRequest, ListNotificationConfigsResponse, ListNotificationsRequest,
    ListNotificationsResponse, Notification, SetNotificationConfigRequest, TestNotificationsRequest,
};
use rpc::client;
use std::path::Path;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Notifications>) -> Result<Code> {
    match act.unwrap_or(Notifications::List { run: None, limit: 20 }) {
        Notifications::List { run, limit } => list(connection, output, run, limit).await,
        Notifications::Test { pipeline } => test(connection, output, pipeline.unwrap_or_default()).await,
        Notifications::Show => show(connection, output).await,
        Notifications::Set { file, pipeline } => set(connection, output, &file, pipeline.unwrap_or_default()).await,
    }
}

async fn list(connection: &Connection, output: &Output, run: Option<String>, limit: u32) -> Result<Code> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let run_id = match run {
        Some(part) => connection.resolve_run(&part).await?,
        None => String::new(),
    };
    let mut all = ListNotificationsResponse::default();
    loop {
        let request = ListNotificationsRequest {
            workspace: connection.workspace.clone(),
            run_id: run_id.clone(),
            page_size: i32::try_from(limit - all.notifications.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let request = client::within(CALL_TIMEOUT, request);
        let page = connection.notifications().list_notifications(request).await?.into_inner();
        all.notifications.extend(page.notifications);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.notifications.len() >= limit {
            break;
        }
    }
    output.answer("orrery.v1.ListNotificationsResponse", &all, || shown(&all.notifications, output))?;
    Ok(Code::Ok)
}

fn shown(notifications: &[Notification], output: &Output) -> String {
    let now = Timestamp::now();
    let headings = ["when", "pipeline", "run", "event", "by", "of", "status", "tries", "error"];
    let mut table = table::new(output.style, &headings);
    for notification in notifications {
        let tone = match notification.status.as_str() {
            "sent" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Busy,
        };
        table.add_row([
            table::cell(time::relative(time::instant(notification.created_at.as_ref()), now), Tone::Plain),
            table::cell(&notification.pipeline, Tone::Plain),
            table::cell(short_id(&notification.run_id), Tone::Dim),
            table::cell(&notification.event, Tone::Plain),
            table::cell(notification.channel.trim_end_matches("_config"), Tone::Plain),
            table::cell(&notification.source, Tone::Dim),
            table::cell(&notification.status, tone),
            table::number(notification.attempts),
            table::cell(block::one_line(&notification.error), Tone::Plain),
        ]);
    }
    table::text(&table, "nothing was to be told")
}

async fn test(connection: &Connection, output: &Output, pipeline: String) -> Result<Code> {
    let of = subject(connection, &pipeline);
    let request = TestNotificationsRequest { workspace: connection.workspace.clone(), pipeline };
    let request = client::within(CALL_TIMEOUT, request);
    let answer = connection.notifications().test_notifications(request).await?.into_inner();
    if answer.notifications == 0 {
        let remedy = "set one by `orrery notifications set FILE`, or notification_config in metadata.yaml";
        return Err(Failure::new(Code::NotFound, format!("nobody is told of {of}, so nothing was sent"), remedy));
    }
    output.answer("orrery.v1.TestNotificationsResponse", &answer, || {
        let n = answer.notifications;
        let (are, each) = if n == 1 { ("message is", "it") } else { ("messages are", "each") };
        format!(
            "{n} test {are} on the way to whom is told of {of}; `orrery notifications` shows whether {each} arrived"
        )
    })?;
    Ok(Code::Ok)
}

async fn show(connection: &Connection, output: &Output) -> Result<Code> {
    let request = ListNotificationConfigsRequest { workspace: connection.workspace.clone() };
    let request = client::within(CALL_TIMEOUT, request);
    let answer = connection.notifications().list_notification_configs(request).await?.into_inner();
    output.answer("orrery.v1.ListNotificationConfigsResponse", &answer, || configs(&answer, output))?;
    Ok(Code::Ok)
}

fn configs(answer: &ListNotificationConfigsResponse, output: &Output) -> String {
    let mut table = table::new(output.style, &["for", "keys", "set"]);
    for config in &answer.configs {
        let all = config.pipeline.is_empty();
        let keys = keys(config.config.iter().flat_map(|c| c.fields.keys()));
        table.add_row([
            table::cell(if all { "every pipeline" } else { &config.pipeline }, Tone::Plain),
            table::cell(keys, Tone::Plain),
            table::cell(time::relative(time::instant(config.updated_at.as_ref()), Timestamp::now()), Tone::Dim),
        ]);
    }
    table::text(&table, "nothing is configured here; projects may say more in their metadata.yaml")
}

fn keys<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let mut keys: Vec<&str> = keys.map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(", ")
}

/// What a configuration is about.
fn subject(connection: &Connection, pipeline: &str) -> String {
    let workspace = &connection.workspace;
    match pipeline {
        "" => format!("the runs of workspace {workspace}"),
        pipeline => format!("the runs of pipeline {pipeline} of workspace {workspace}"),
    }
}

async fn set(connection: &Connection, output: &Output, file: &Path, pipeline: String) -> Result<Code> {
    let wrong = |what: String| Failure::new(Code::Usage, what, "give a JSON file in the form of notification_config");
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|e| wrong(format!("cannot read {}: {e}", file.display())))?;
    let config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|e| wrong(format!("{} is no JSON object: {e}", file.display())))?;
    let keys = keys(config.keys());
    let config = rpc::json::json_to_struct(&config, "config").map_err(|e| wrong(e.to_string()))?;
    let (of, try_it) = (subject(connection, &pipeline), format!("orrery notifications test {pipeline}"));
    let request =
        SetNotificationConfigRequest { workspace: connection.workspace.clone(), pipeline, config: Some(config) };
    let request = client::within(CALL_TIMEOUT, request);
    let answer = connection.notifications().set_notification_config(request).await?.into_inner();
    output.answer("orrery.v1.SetNotificationConfigResponse", &answer, || match answer.config {
        Some(_) => format!("set for {of}: {keys}; `{}` tries it", try_it.trim_end()),
        None => format!("nothing is configured here for {of} now; what projects say in metadata.yaml holds"),
    })?;
    Ok(Code::Ok)
}
