//! `orrery logs`.

use super::again::Again;
use crate::{
    arguments::Logs,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    json,
    render::{Output, line, short_id, style::harmless, time},
};
use jiff::{SignedDuration, Timestamp};
use proto::v1::{GetRunRequest, ListLogsRequest, LogLine, SearchLogsRequest, TailLogsRequest, TailLogsResponse};
use rpc::client;
use std::collections::{HashSet, VecDeque};
use tonic::{Status, Streaming};

/// A line that is written at the end of a run is there after that.
const LATE: SignedDuration = SignedDuration::from_secs(10);
/// More lines than may come out of the order of their ids, but for floods.
const RECENT_LINES_MAX: usize = 10_000;

/// Prints what is there, or with `--follow` also what comes until the run has ended, or what a search finds.
pub(crate) async fn run(connection: &Connection, output: &Output, options: Logs) -> Result<Code> {
    let run_id = match &options.run {
        Some(part) => connection.resolve_run(part).await?,
        None => String::new(),
    };
    if options.is_search() {
        return search(connection, output, run_id, options).await;
    }
    if options.follow || has_just_ended(connection, &run_id).await? {
        tail(connection, output, run_id, options).await
    } else {
        list(connection, output, run_id, options).await
    }
}

/// Its last lines may still be on their way.
async fn has_just_ended(connection: &Connection, run_id: &str) -> Result<bool> {
    let request = GetRunRequest { run_id: run_id.to_owned() };
    let run = connection.runs().get_run(client::within(CALL_TIMEOUT, request)).await?.into_inner().run;
    let ended =
        run.and_then(|run| run.completed_at).and_then(|at| rpc::timestamp::from_proto(&at, "completed_at").ok());
    Ok(ended.is_some_and(|at| Timestamp::now().duration_since(at) < LATE))
}

fn level(options: &Logs) -> String {
    options.level.map(|l| l.name().to_owned()).unwrap_or_default()
}

async fn list(connection: &Connection, output: &Output, run_id: String, options: Logs) -> Result<Code> {
    let mut page_token = String::new();
    loop {
        let request = ListLogsRequest {
            run_id: run_id.clone(),
            block: options.block.clone().unwrap_or_default(),
            min_level: level(&options),
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

/// Goes on where it was, when the server is lost that serves it.
async fn tail(connection: &Connection, output: &Output, run_id: String, options: Logs) -> Result<Code> {
    let min_level = level(&options);
    let wanted = options.search.unwrap_or_default().to_ascii_lowercase();
    let request = TailLogsRequest { run_id, block: options.block.unwrap_or_default(), min_level, after: 0 };
    // Without any server there is nothing to wait for.
    let mut stream = connection.logs().tail_logs(request.clone()).await?.into_inner();
    let (mut seen, mut again) = (Seen::default(), Again::new());
    loop {
        let error = match stream.message().await {
            Ok(None) => return Ok(Code::Ok),
            Ok(Some(mut batch)) => {
                again.came();
                batch.lines.retain(|line| seen.is_new(line.id) && line.message.to_ascii_lowercase().contains(&wanted));
                print(&batch.lines, output)?;
                continue;
            }
            Err(error) => error,
        };
        stream =
            reopened(connection, &mut again, TailLogsRequest { after: seen.floor, ..request.clone() }, error).await?;
    }
}

async fn reopened(
    connection: &Connection,
    again: &mut Again,
    request: TailLogsRequest,
    mut error: Status,
) -> Result<Streaming<TailLogsResponse>> {
    loop {
        if again.after(error).await? == 1 {
            eprintln!("the connection was lost; trying to go on from the last line");
        }
        match connection.logs().tail_logs(request.clone()).await {
            Ok(stream) => return Ok(stream.into_inner()),
            Err(another) => error = another,
        }
    }
}

/// The lines that came. Lines come a little out of the order of their ids, so what is asked for again begins some lines
/// earlier, and what came before is left out.
#[derive(Default)]
struct Seen {
    /// Up to here nothing is asked for again, once a stream was lost.
    floor: i64,
    recent: VecDeque<i64>,
    known: HashSet<i64>,
}

impl Seen {
    /// Notes a line; whether it comes for the first time.
    fn is_new(&mut self, id: i64) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.recent.push_back(id);
        if self.recent.len() > RECENT_LINES_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.known.remove(&oldest);
            self.floor = self.floor.max(oldest);
        }
        true
    }
}

/// The newest lines that fit, in the order in which they were written.
async fn search(connection: &Connection, output: &Output, run_id: String, options: Logs) -> Result<Code> {
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let mut request = SearchLogsRequest {
        workspace: connection.workspace.clone(),
        run_id,
        min_level: level(&options),
        pipeline: options.pipeline.unwrap_or_default(),
        trigger: options.trigger.unwrap_or_default(),
        block: options.block.unwrap_or_default(),
        block_type: options.block_type.unwrap_or_default(),
        text: options.search.unwrap_or_default(),
        since: options.since.map(rpc::timestamp::to_proto),
        until: options.until.map(rpc::timestamp::to_proto),
        ..SearchLogsRequest::default()
    };
    let mut found = Vec::new();
    loop {
        request.page_size = i32::try_from(limit - found.len()).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let page = connection.logs().search_logs(client::within(CALL_TIMEOUT, request.clone())).await?.into_inner();
        found.extend(page.lines);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || found.len() >= limit {
            break;
        }
    }
    found.reverse();
    print(&found, output)?;
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
    // Among lines of many runs, each says where it is from, and on which day.
    let far = !log.pipeline.is_empty();
    let source = if far { format!("{} {} {source}", log.pipeline, short_id(&log.run_id)) } else { source };
    let at = time::instant(log.at.as_ref());
    let clock = style.dim(&if far { time::day_and_clock(at) } else { time::clock(at) });
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

    #[test]
    fn a_line_comes_once_and_a_late_one_as_well() {
        let mut seen = Seen::default();
        assert!(seen.is_new(7) && seen.is_new(9) && seen.is_new(8) && !seen.is_new(9));
        assert_eq!(seen.floor, 0, "all of it is asked for again");
        let more = 10 + i64::try_from(RECENT_LINES_MAX).unwrap();
        assert!((10..more).all(|id| seen.is_new(id)));
        assert_eq!(seen.floor, 9);
        assert!((10..more).all(|id| !seen.is_new(id)) && seen.is_new(more));
        // In a flood one may come even later.
        assert!(seen.is_new(1) && seen.floor >= 9);
    }
}
