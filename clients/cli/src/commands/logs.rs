//! `orrery logs`.

use crate::{
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    json,
    render::{Output, line, style::harmless, time},
};
use proto::v1::{ListLogsRequest, LogLine, TailLogsRequest};
use rpc::client;

/// Which lines.
pub(crate) struct Wanted {
    pub(crate) run_id: String,
    pub(crate) block: String,
    pub(crate) min_level: String,
}

/// Prints what is there, or with `follow` also what comes until the run has ended.
pub(crate) async fn run(connection: &Connection, output: &Output, wanted: Wanted, follow: bool) -> Result<Code> {
    if follow { tail(connection, output, wanted).await } else { list(connection, output, wanted).await }
}

async fn list(connection: &Connection, output: &Output, wanted: Wanted) -> Result<Code> {
    let mut page_token = String::new();
    loop {
        let request = ListLogsRequest {
            run_id: wanted.run_id.clone(),
            block: wanted.block.clone(),
            min_level: wanted.min_level.clone(),
            page_size: PAGE_SIZE,
            page_token,
            ..ListLogsRequest::default()
        };
        let page = connection.logs().list_logs(client::within(CALL_TIMEOUT, request)).await?.into_inner();
        print(&page.lines, output)?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Code::Ok);
        }
    }
}

async fn tail(connection: &Connection, output: &Output, wanted: Wanted) -> Result<Code> {
    let request = TailLogsRequest { run_id: wanted.run_id, block: wanted.block, min_level: wanted.min_level };
    let mut stream = connection.logs().tail_logs(request).await?.into_inner();
    while let Some(batch) = stream.message().await? {
        print(&batch.lines, output)?;
    }
    Ok(Code::Ok)
}

fn print(lines: &[LogLine], output: &Output) -> Result<()> {
    for log in lines {
        if output.json {
            line(&json::line("orrery.v1.LogLine", log)?);
        } else {
            line(&shown(log, output));
        }
    }
    Ok(())
}

fn shown(log: &LogLine, output: &Output) -> String {
    let style = output.style;
    let level = format!("{:8}", log.level);
    let level = match log.level.as_str() {
        "ERROR" | "CRITICAL" => style.bad(&level),
        "WARNING" => style.warn(&level),
        _ => style.dim(&level),
    };
    let child = if log.child >= 0 && !log.block.is_empty() { format!("[{}]", log.child) } else { String::new() };
    let source = if log.block.is_empty() { "run".to_owned() } else { format!("{}{child}", log.block) };
    let clock = style.dim(&time::clock(time::instant(log.at.as_ref())));
    // A message of several lines stays readable: the further ones are indented.
    let message: Vec<String> = log.message.trim_end().split('\n').map(harmless).collect();
    format!("{clock} {level} {}  {}", style.busy(&source), message.join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::Style;

    #[test]
    fn lines_name_their_block_and_cannot_drive_the_terminal() {
        let output = Output { json: false, style: Style { colour: false } };
        let log = LogLine {
            level: "INFO".into(),
            block: "load".into(),
            child: 3,
            message: "a\x1b[2J\nb\n".into(),
            ..LogLine::default()
        };
        assert_eq!(shown(&log, &output), " INFO     load[3]  a\u{fffd}[2J\n    b");
    }
}
