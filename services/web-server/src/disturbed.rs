//! Who is disturbed by a change of definitions: it is told before anything is changed, and done only when that is meant.
//! Refuses to know which change is meant.

use crate::fault::Fault;
use domain::ErrorKind;
use proto::v1::AffectedRuntime;
use rpc::status::Problem;
use store::runtime_views::Alive;

/// Runtimes that a refusal names; the others are counted.
const NAMED_MAX: usize = 5;

/// Those of `alive` to whom a change means something, with what it means.
pub(crate) fn affected(alive: &[Alive], effect: impl Fn(&Alive) -> Option<String>) -> Vec<AffectedRuntime> {
    let concerned = |life: &Alive| effect(life).map(|effect| message(life, effect));
    alive.iter().filter_map(concerned).collect()
}

fn message(life: &Alive, effect: String) -> AffectedRuntime {
    AffectedRuntime {
        workspace: life.workspace.clone(),
        project: life.project.clone(),
        state: life.state.clone(),
        queue: life.queue.clone(),
        effective_gpu_milli: i64::try_from(life.spec.ask.effective_milli()).unwrap_or(i64::MAX),
        effect,
        ends_at: life.ends_at.map(rpc::timestamp::to_proto),
        ends_because: life.ends_because.clone(),
    }
}

/// What it means to a life that it could not start any more.
pub(crate) fn barred(life: &Alive, why: &str) -> String {
    match life.state.as_str() {
        _ if waits(life) => format!("waits, and gets no place: {why}"),
        "stopping" => format!("is stopping already, and cannot start again: {why}"),
        _ => format!("goes on, and cannot start again: {why}"),
    }
}

/// What it means to a life that for a while nothing new starts: what runs `becomes` something, what waits goes on waiting.
pub(crate) fn kept_back(life: &Alive, becomes: &str, meanwhile: &str) -> String {
    format!("{}, and {meanwhile}", if waits(life) { "waits on" } else { becomes })
}

/// Whether it has no place yet; a place may be kept for it.
pub(crate) fn waits(life: &Alive) -> bool {
    life.state == "starting" && !life.placed
}

/// Refuses a change that disturbs somebody, unless it is meant.
pub(crate) fn unless_forced(affected: &[AffectedRuntime], force: bool) -> Result<(), Fault> {
    unless_forced_all(affected, i64::try_from(affected.len()).unwrap_or(i64::MAX), force)
}

/// The same where `affected` are the first of so many.
pub(crate) fn unless_forced_all(affected: &[AffectedRuntime], count: i64, force: bool) -> Result<(), Fault> {
    if affected.is_empty() || force {
        return Ok(());
    }
    let named = affected.iter().take(NAMED_MAX).map(|runtime| format!("`{}` {}", runtime.workspace, runtime.effect));
    let named: Vec<String> = named.collect();
    let more = count.saturating_sub(i64::try_from(named.len()).unwrap_or(i64::MAX));
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let named = named.join(", ");
    let message = format!("this concerns what runs or waits now: {named}{more}");
    let problem = Problem::new(ErrorKind::FailedPrecondition, "WOULD_DISTURB", message);
    let problem = problem.with("affected", count.to_string());
    Err(Fault(problem.remedy("set `force` (--force) to do it nevertheless")))
}
