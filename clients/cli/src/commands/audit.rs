//! `orrery audit`.

use crate::{
    arguments::people::Audit,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        style::harmless,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{AuditEntry, ListAuditEntriesRequest, ListAuditEntriesResponse};
use rpc::client::within;

/// Lists the newest entries.
pub(crate) async fn run(connection: &Connection, output: &Output, options: Audit) -> Result<Code> {
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let workspace = if options.all { String::new() } else { connection.workspace.clone() };
    let mut all = ListAuditEntriesResponse::default();
    loop {
        let request = ListAuditEntriesRequest {
            workspace: workspace.clone(),
            actor: options.actor.clone().unwrap_or_default(),
            page_size: i32::try_from(limit - all.entries.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = connection.audit().list_audit_entries(within(CALL_TIMEOUT, request)).await?.into_inner();
        all.entries.extend(page.entries);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() || all.entries.len() >= limit {
            break;
        }
    }
    output.answer("orrery.v1.ListAuditEntriesResponse", &all, || table_of(&all.entries, output))?;
    Ok(Code::Ok)
}

fn table_of(entries: &[AuditEntry], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table = table::new(output.style, &["when", "who", "by", "what", "on", "outcome", "detail"]);
    for entry in entries {
        let tone = match entry.outcome.as_str() {
            "ok" => Tone::Good,
            "denied" => Tone::Bad,
            _ => Tone::Warn,
        };
        let outcome = if entry.reason.is_empty() { entry.outcome.clone() } else { entry.reason.clone() };
        let mut detail: Vec<String> = entry.detail.iter().map(|(name, text)| format!("{name}={text}")).collect();
        detail.sort();
        table.add_row([
            table::cell(time::relative(time::instant(entry.at.as_ref()), now), Tone::Plain),
            table::cell(harmless(&entry.actor), Tone::Plain),
            table::cell(&entry.via, Tone::Dim),
            table::cell(&entry.method, Tone::Plain),
            table::cell(harmless(&entry.object), Tone::Plain),
            table::cell(outcome, tone),
            table::cell(harmless(&detail.join(" ")), Tone::Dim),
        ]);
    }
    table::text(&table, "nothing yet")
}
