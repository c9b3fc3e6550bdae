//! `orrery workspaces`: acts on their runtimes.

mod show;
pub(crate) mod spec;

pub(crate) use show::gpus;

use crate::{
    arguments::workspaces::{Set, State, Workspaces},
    commands::gpus::notes,
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Failure, Result},
    render::{Output, line, time},
};
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    BatchChangeRuntimesRequest, BatchChangeRuntimesResponse, DeleteRuntimeRequest, FenceRuntimeRequest,
    GetRuntimeRequest, GetRuntimeResponse, ListRuntimeEventsRequest, ListRuntimeEventsResponse, ListRuntimesRequest,
    ListRuntimesResponse, ResetRuntimeRequest, RestartRuntimeRequest, Runtime, RuntimeAct, RuntimeState,
    SetRuntimeSpecRequest, SnoozeRuntimeRequest, StartRuntimeRequest, StopRuntimeRequest, SwitchQueueRequest,
    WatchRuntimeRequest,
};
use rpc::client::within;
use std::time::Duration;

/// How long a stream may be open.
const WATCH_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How long nobody stops it for idleness, where that is not said.
const SNOOZE_USUAL: SignedDuration = SignedDuration::from_hours(2);

/// Carries out one act.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Workspaces) -> Result<Code> {
    let named = |name: Option<String>| name.unwrap_or_else(|| connection.workspace.clone());
    match act {
        Workspaces::Status { name: Some(name), follow, .. } if follow => {
            return follow_one(connection, output, name).await;
        }
        Workspaces::Status { name: Some(name), .. } => status(connection, output, name).await?,
        Workspaces::Status { name: None, of_project, state, queue, .. } => {
            list(connection, output, of_project.unwrap_or_default(), &state, queue.unwrap_or_default()).await?;
        }
        Workspaces::Set(set) => define(connection, output, *set).await?,
        Workspaces::Start { names, wait_for_window, together, one_zone, wait } => {
            let act = RuntimeAct::Start;
            return change(
                connection,
                output,
                Change { act, names, wait_for_window, together: together.then_some(one_zone), wait },
            )
            .await;
        }
        Workspaces::Stop { names } => return change(connection, output, Change::of(RuntimeAct::Stop, names)).await,
        Workspaces::Restart { names } => {
            return change(connection, output, Change::of(RuntimeAct::Restart, names)).await;
        }
        Workspaces::Reset { names } => return change(connection, output, Change::of(RuntimeAct::Reset, names)).await,
        Workspaces::Delete { names } => return change(connection, output, Change::of(RuntimeAct::Delete, names)).await,
        Workspaces::Fence { name } => {
            let request = within(CALL_TIMEOUT, FenceRuntimeRequest { workspace: name });
            let runtime = connection.runtimes().fence_runtime(request).await?.into_inner().runtime.unwrap_or_default();
            output.answer("orrery.v1.Runtime", &runtime, || show::line(&runtime, output))?;
        }
        Workspaces::Events { name, limit } => events(connection, output, named(name), limit).await?,
        Workspaces::Open { name } => open(connection, output, named(name)).await?,
        Workspaces::SwitchQueue { queue, name } => {
            let is_named = name.is_some();
            let request = SwitchQueueRequest { workspace: named(name), queue: queue.clone() };
            let answer = connection.runtimes().switch_queue(within(CALL_TIMEOUT, request)).await;
            let told = |status: tonic::Status| unnamed(status.into(), is_named, &format!("switch-queue {queue}"));
            let answer = answer.map_err(told)?.into_inner();
            let runtime = answer.runtime.clone().unwrap_or_default();
            output.answer("orrery.v1.SwitchQueueResponse", &answer, || show::line(&runtime, output))?;
        }
        Workspaces::Snooze { words } => {
            let (name, duration) = snoozed(words)?;
            let is_named = name.is_some();
            let done = snooze(connection, output, named(name), duration).await;
            done.map_err(|failure| unnamed(failure, is_named, "snooze 2h"))?;
        }
    }
    Ok(Code::Ok)
}

/// Says of an act on a workspace that is not there and that nobody named how one is named.
fn unnamed(failure: Failure, is_named: bool, act: &str) -> Failure {
    if is_named || failure.code != Code::NotFound {
        return failure;
    }
    Failure { remedy: format!("name the workspace: `orrery workspaces {act} NAME`, or by --workspace"), ..failure }
}

/// Of which workspace, and for how long, in either order.
fn snoozed(words: Vec<String>) -> Result<(Option<String>, SignedDuration)> {
    let time = |word: &String| word.parse::<SignedDuration>().ok();
    let begins_so = |word: &String| word.starts_with(|c: char| c.is_ascii_digit());
    let times: Vec<Option<SignedDuration>> = words.iter().map(time).collect();
    let mut words = words.into_iter();
    match (times.as_slice(), words.next(), words.next()) {
        ([], ..) => Ok((None, SNOOZE_USUAL)),
        ([Some(duration)], ..) => Ok((None, *duration)),
        ([None], Some(name), _) if !begins_so(&name) => Ok((Some(name), SNOOZE_USUAL)),
        ([Some(duration), _], _, name) | ([None, Some(duration)], name, _) => Ok((name, *duration)),
        (_, first, second) => {
            let no_time = first.into_iter().chain(second).max_by_key(begins_so).unwrap_or_default();
            let remedy = "write it in hours and minutes, at most 24h: `orrery workspaces snooze 2h NAME`";
            Err(Failure::new(Code::Usage, format!("`{no_time}` is no time"), remedy))
        }
    }
}

async fn get(connection: &Connection, workspace: &str) -> Result<GetRuntimeResponse> {
    let request = GetRuntimeRequest { workspace: workspace.to_owned() };
    Ok(connection.runtimes().get_runtime(within(CALL_TIMEOUT, request)).await?.into_inner())
}

async fn status(connection: &Connection, output: &Output, name: String) -> Result<()> {
    let answer = get(connection, &name).await?;
    let runtime = answer.runtime.clone().unwrap_or_default();
    output.answer("orrery.v1.GetRuntimeResponse", &answer, || show::whole(&runtime, answer.spec.as_ref(), output))
}

async fn list(
    connection: &Connection,
    output: &Output,
    project: String,
    states: &[State],
    queue: String,
) -> Result<()> {
    let state = |state: &State| match state {
        State::Stopped => RuntimeState::Stopped.into(),
        State::Starting => RuntimeState::Starting.into(),
        State::Running => RuntimeState::Running.into(),
        State::Stopping => RuntimeState::Stopping.into(),
        State::Error => RuntimeState::Error.into(),
    };
    let states = states.iter().map(state).collect();
    let request = ListRuntimesRequest { project, states, queue, page_size: PAGE_SIZE, page_token: String::new() };
    let runtimes = pages!(connection.runtimes(), list_runtimes, request, runtimes);
    let all = ListRuntimesResponse { runtimes, next_page_token: String::new() };
    output.answer("orrery.v1.ListRuntimesResponse", &all, || show::table(&all.runtimes, output))
}

async fn define(connection: &Connection, output: &Output, set: Set) -> Result<()> {
    let workspace = set.name.unwrap_or_else(|| connection.workspace.clone());
    let saved = get(connection, &workspace).await?;
    let runtime = saved.runtime.unwrap_or_default();
    // While it has a life, the queue that is shown is that of the life.
    let queue = set.queue.unwrap_or(runtime.queue);
    let spec = spec::overlay(saved.spec.unwrap_or_default(), set.spec)?;
    let request = SetRuntimeSpecRequest {
        workspace: workspace.clone(),
        spec: Some(spec),
        queue,
        version: runtime.spec_version,
        validate_only: set.validate_only,
    };
    let answer = connection.runtimes().set_runtime_spec(within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.SetRuntimeSpecResponse", &answer, || {
        let done = match set.validate_only {
            true => format!("{workspace}: this can be set"),
            false => format!("{workspace}: set, version {}; it counts from the next start on", answer.version),
        };
        done + &notes(&answer.warnings, output)
    })
}

struct Change {
    act: RuntimeAct,
    names: Vec<String>,
    wait_for_window: bool,
    /// All or none; and then, whether in one zone.
    together: Option<bool>,
    wait: bool,
}

impl Change {
    fn of(act: RuntimeAct, names: Vec<String>) -> Self {
        Self { act, names, wait_for_window: false, together: None, wait: false }
    }
}

/// How the starts of several ended, one after the other as they settle; each has begun already.
async fn settled(connection: &Connection, output: &Output, names: Vec<String>) -> Result<Code> {
    let mut worst = Code::Ok;
    for name in names {
        if follow_until(connection, output, name, true).await? != Code::Ok {
            worst = Code::RunFailed;
        }
    }
    Ok(worst)
}

/// One by its own method, so that what is wrong is the failure of the command; several as a batch with a line each.
async fn change(connection: &Connection, output: &Output, change: Change) -> Result<Code> {
    let workspace = match change.names.as_slice() {
        [] => connection.workspace.clone(),
        [name] => name.clone(),
        _ => return batch(connection, output, change).await,
    };
    let mut runtimes = connection.runtimes();
    let runtime = match change.act {
        RuntimeAct::Start | RuntimeAct::Unspecified => {
            let wait_for_window = change.wait_for_window;
            let request = StartRuntimeRequest { workspace: workspace.clone(), wait_for_window, ..Default::default() };
            runtimes.start_runtime(within(CALL_TIMEOUT, request)).await?.into_inner().runtime
        }
        RuntimeAct::Stop => {
            let request = StopRuntimeRequest { workspace };
            runtimes.stop_runtime(within(CALL_TIMEOUT, request)).await?.into_inner().runtime
        }
        RuntimeAct::Restart => {
            let request = RestartRuntimeRequest { workspace, ..RestartRuntimeRequest::default() };
            runtimes.restart_runtime(within(CALL_TIMEOUT, request)).await?.into_inner().runtime
        }
        RuntimeAct::Reset => {
            let request = ResetRuntimeRequest { workspace };
            runtimes.reset_runtime(within(CALL_TIMEOUT, request)).await?.into_inner().runtime
        }
        RuntimeAct::Delete => {
            let request = DeleteRuntimeRequest { workspace: workspace.clone() };
            let answer = runtimes.delete_runtime(within(CALL_TIMEOUT, request)).await?.into_inner();
            let done = || format!("{workspace}: forgotten; its volumes are still there");
            output.answer("orrery.v1.DeleteRuntimeResponse", &answer, done)?;
            return Ok(Code::Ok);
        }
    };
    let runtime = runtime.unwrap_or_default();
    if change.wait {
        return follow_until(connection, output, runtime.workspace, true).await;
    }
    output.answer("orrery.v1.Runtime", &runtime, || show::line(&runtime, output))?;
    Ok(Code::Ok)
}

async fn batch(connection: &Connection, output: &Output, change: Change) -> Result<Code> {
    let Change { act, names, wait_for_window, together, wait } = change;
    let request = BatchChangeRuntimesRequest {
        act: act.into(),
        workspaces: names,
        wait_for_window,
        together: together.is_some(),
        one_zone: together.unwrap_or(false),
    };
    let answer = connection.runtimes().batch_change_runtimes(within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.BatchChangeRuntimesResponse", &answer, || results(&answer, output))?;
    let all = answer.results.iter().all(|result| result.done);
    let begun = answer.results.into_iter().filter(|result| result.done).map(|result| result.workspace).collect();
    let ended = if wait { settled(connection, output, begun).await? } else { Code::Ok };
    Ok(if all { ended } else { Code::Data })
}

fn results(answer: &BatchChangeRuntimesResponse, output: &Output) -> String {
    let result = |result: &proto::v1::RuntimeResult| match result.done {
        true => format!("{} {}", output.style.good("done  "), result.workspace),
        false => format!("{} {}: {} {}", output.style.bad("failed"), result.workspace, result.reason, result.message),
    };
    answer.results.iter().map(result).collect::<Vec<_>>().join("\n")
}

async fn events(connection: &Connection, output: &Output, workspace: String, limit: u32) -> Result<()> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut events, mut page_token) = (Vec::new(), String::new());
    while events.len() < limit {
        let request = ListRuntimeEventsRequest { workspace: workspace.clone(), page_size: PAGE_SIZE, page_token };
        let page = connection.runtimes().list_runtime_events(within(CALL_TIMEOUT, request)).await?.into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    events.truncate(limit);
    let all = ListRuntimeEventsResponse { events, next_page_token: String::new() };
    output.answer("orrery.v1.ListRuntimeEventsResponse", &all, || show::events(&all.events, output))
}

/// The address below the server. It is printed, not opened: the one who calls may sit on another machine.
async fn open(connection: &Connection, output: &Output, workspace: String) -> Result<()> {
    let runtime = get(connection, &workspace).await?.runtime.unwrap_or_default();
    if runtime.path.is_empty() {
        return Err(Failure::new(
            Code::Data,
            show::line(&runtime, output),
            format!("start it with `orrery workspaces start {workspace} --wait`"),
        ));
    }
    output.answer("orrery.v1.Runtime", &runtime, || format!("{}{}", connection.server(), runtime.path))
}

async fn snooze(connection: &Connection, output: &Output, workspace: String, duration: SignedDuration) -> Result<()> {
    let until = Timestamp::now().checked_add(duration).map_err(|e| Failure::new(Code::Usage, e, "use at most 24h"))?;
    let request = SnoozeRuntimeRequest { workspace, until: Some(rpc::timestamp::to_proto(until)) };
    let answer = connection.runtimes().snooze_runtime(within(CALL_TIMEOUT, request)).await?.into_inner();
    let runtime = answer.runtime.clone().unwrap_or_default();
    output.answer("orrery.v1.SnoozeRuntimeResponse", &answer, || {
        let until = time::day_and_clock(time::instant(runtime.protected_until.as_ref()));
        format!("{}: nobody stops it for idleness before {until}", runtime.workspace)
    })
}

async fn follow_one(connection: &Connection, output: &Output, workspace: String) -> Result<Code> {
    follow_until(connection, output, workspace, false).await
}

/// A line for each change; with `settled`, until it runs or has stopped.
async fn follow_until(connection: &Connection, output: &Output, workspace: String, settled: bool) -> Result<Code> {
    let request = within(WATCH_TIMEOUT, WatchRuntimeRequest { workspace });
    let mut stream = connection.runtimes().watch_runtime(request).await?.into_inner();
    let mut said = String::new();
    while let Some(message) = stream.message().await? {
        let runtime = message.runtime.unwrap_or_default();
        say(output, &runtime, &mut said)?;
        match runtime.state() {
            RuntimeState::Running if settled => return Ok(Code::Ok),
            RuntimeState::Error | RuntimeState::Stopped if settled => return Ok(Code::RunFailed),
            _ => {}
        }
    }
    Ok(Code::Ok)
}

fn say(output: &Output, runtime: &Runtime, said: &mut String) -> Result<()> {
    if output.json {
        return output.answer("orrery.v1.Runtime", runtime, String::new);
    }
    let text = show::line(runtime, output);
    if *said != text {
        line(&text);
        *said = text;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snooze_takes_its_time_and_its_workspace_in_either_order() {
        let read = |words: &[&str]| snoozed(words.iter().map(|word| (*word).to_owned()).collect());
        let of = |name: &str, minutes: i64| (Some(name.to_owned()), SignedDuration::from_mins(minutes));
        assert_eq!(read(&[]).unwrap(), (None, SNOOZE_USUAL));
        assert_eq!(read(&["45m"]).unwrap(), (None, SignedDuration::from_mins(45)));
        assert_eq!(read(&["lab"]).unwrap(), of("lab", 120));
        assert_eq!(read(&["45m", "lab"]).unwrap(), of("lab", 45));
        assert_eq!(read(&["lab", "45m"]).unwrap(), of("lab", 45));
        assert_eq!(read(&["1h", "2h"]).unwrap(), of("2h", 60));
        for words in [&["1d"][..], &["lab", "1d"], &["1d", "lab"]] {
            assert_eq!(read(words).unwrap_err().what, "`1d` is no time");
        }
        assert_eq!(read(&["lab", "pit"]).unwrap_err().what, "`pit` is no time");
    }

    #[test]
    fn who_named_no_workspace_is_told_how_one_is_named() {
        let none = || Failure::new(Code::NotFound, "there is no workspace `default`", "");
        assert!(unnamed(none(), false, "snooze 2h").remedy.contains("`orrery workspaces snooze 2h NAME`"));
        assert_eq!(unnamed(none(), true, "snooze 2h").remedy, "");
    }
}
