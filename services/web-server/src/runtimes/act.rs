//! Acts on runtimes: what a rule forbids is refused here, the rest is a scheduler's. Refuses to write what is so.

use super::{denied, images, none};
use crate::changed::Changed;
use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use domain::ErrorKind;
use domain::quota::Account;
use domain::runtime::Spec;
use domain::runtime::rules::{self, Admission, Code, Denial};
use jiff::{SignedDuration, Timestamp};
use proto::internal::v1 as internal;
use rpc::status::Problem;
use std::sync::OnceLock;
use store::queues::Queue;
use store::quotas;
use store::runtime_specs::{self, Saved};
use store::runtime_views::{Life, Runtime};
use store::targets::{self, Thing};

/// The longest that nobody may stop a runtime for idleness.
const SNOOZE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// What a scheduler says of one that neither waits nor runs.
const ENDED: &str = "RUNTIME_NOT_FOUND";
/// Tries of a start while somebody edits its spec.
const TRIES_MAX: usize = 3;

/// How a start is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// Waits for a window that is closed.
    pub(crate) wait_for_window: bool,
    /// With the same key, the same life; empty is a key of its own.
    pub(crate) key: &'a str,
    /// With others or not at all.
    pub(crate) gang: Option<&'a Gang>,
}

/// What ties starts to each other.
#[derive(Debug)]
pub(crate) struct Gang {
    /// As schedulers are told.
    pub(crate) message: internal::Gang,
    /// Of the first of them; the others have to be served from the same one.
    pub(crate) pool: OnceLock<String>,
    /// Why they can never start together, though each of them may start alone.
    pub(crate) denial: Option<Denial>,
}

/// Begins a life.
pub(crate) async fn start(core: &Core, caller: &Caller, workspace: &str, start: Start<'_>) -> Result<(), Fault> {
    idempotent::check(start.key)?;
    // Two people may choose the same key: neither learns of the other.
    let unique = || uuid::Uuid::now_v7().to_string();
    let idempotency_key = if start.key.is_empty() { unique() } else { format!("{}/{}", caller.user.id, start.key) };
    let mut tries = 0;
    loop {
        tries += 1;
        let (saved, image) = startable(core, workspace, start.wait_for_window).await?;
        within_quota(core, caller, &saved.spec).await?;
        if let Some(denial) = start.gang.and_then(|gang| gang.denial.clone()) {
            return Err(denied(denial));
        }
        let (_, id) = core.target(workspace).await?;
        if let Some(pool) = start.gang.map(|gang| gang.pool.get_or_init(|| saved.pool.clone()))
            && *pool != saved.pool
        {
            let message =
                format!("its queue is served from pool `{}`, and that of another one from `{pool}`", saved.pool);
            let problem = Problem::new(ErrorKind::FailedPrecondition, "OTHER_POOL", message);
            return Err(Fault(problem.remedy("what starts together has to be in queues of one pool")));
        }
        let command = internal::StartRuntimeRequest {
            workspace_id: id.to_vec(),
            pool: saved.pool,
            spec_version: saved.version,
            requested_by: caller.user.id.to_vec(),
            idempotency_key: idempotency_key.clone(),
            gang: start.gang.map(|gang| gang.message.clone()),
            image,
            forwarded: false,
        };
        match core.commands.start_runtime(command).await {
            // Somebody edited it meanwhile: what is in force now is checked and started.
            Err(fault) if fault.0.kind == ErrorKind::Conflict && tries < TRIES_MAX => {}
            outcome => return outcome,
        }
    }
}

/// Refuses what is more than whoever starts it may ever hold.
async fn within_quota(core: &Core, caller: &Caller, spec: &Spec) -> Result<(), Fault> {
    let person = caller.user.id;
    let quota = quotas::for_person(&core.store.client().await?, person).await?.unwrap_or_default();
    rules::fits(&quota, Account::Person(person).spoken(), &rules::usage(spec)).map_err(denied)
}

/// The spec that would be started now, when the rules let it, and the image that they were asked about: with the digest of
/// what its tag names, where its registry may be asked.
async fn startable(core: &Core, workspace: &str, wait_for_window: bool) -> Result<(Saved, String), Fault> {
    let (target, id) = core.target(workspace).await?;
    let saved = runtime_specs::get(&core.store.client().await?, id).await?.ok_or_else(|| none(workspace))?;
    let queue = core.queue(&saved.queue_name).await?;
    let project = target.project;
    let (terms, (admission, judged)) = admitted(core, &target.name, project, &saved.spec, &queue).await?;
    let waits = wait_for_window && rules::opens_again(&terms.plans, &saved.spec, Timestamp::now());
    if !waits {
        check_window(&terms, &admission, &saved.spec)?;
    }
    let image = match judged {
        Some(image) => image,
        // Allowed by its name, whatever that names.
        None => images::pinned(core, &saved.spec.image).await?.unwrap_or_else(|| saved.spec.image.clone()),
    };
    Ok((saved, image))
}

/// Refuses a start that would get no place now, whatever is free: the window is closed, or closes too soon.
fn check_window(terms: &rules::Terms, admission: &Admission, spec: &Spec) -> Result<(), Fault> {
    if let Some(denial) = rules::closed(terms, &admission.access) {
        return Err(denied(denial));
    }
    let (now, policy) = (Timestamp::now(), placement::Policy::default());
    match placement::too_short(&admission.access, runtime_s(terms, admission, spec), now, &policy) {
        Some(sentence) => {
            let problem = Problem::new(ErrorKind::FailedPrecondition, "WINDOW_TOO_SHORT", sentence);
            Err(Fault(problem.remedy("wait for the next window, or switch to the default queue now")))
        }
        None => Ok(()),
    }
}

/// How long it runs at most, where something bounds it, seconds.
pub(super) fn runtime_s(terms: &rules::Terms, admission: &Admission, spec: &Spec) -> Option<u64> {
    let plan = terms.plans.iter().find(|plan| Some(plan.id) == admission.plan);
    let own = Some(spec.lifetime_s).filter(|seconds| *seconds > 0);
    let bounds = [own, plan.and_then(|plan| plan.lifetime_max_s), terms.policy.lifetime_max_s];
    bounds.into_iter().flatten().min().map(u64::from)
}

/// Whether a project's runtime may be in a queue, and when; and its image, as [`images::judged`] answers it.
pub(super) async fn admitted(
    core: &Core,
    workspace: &str,
    project: domain::id::ProjectId,
    spec: &Spec,
    queue: &Queue,
) -> Result<(rules::Terms, (Admission, Option<String>)), Fault> {
    let db = core.store.client().await?;
    let terms = runtime_specs::terms(&db, project, queue).await?;
    drop(db);
    let now = Timestamp::now();
    let admission = images::judged(core, spec, |spec| rules::admit(workspace, spec, &terms, now)).await?;
    Ok((terms, admission))
}

/// Ends a life; one that has ended stays so.
pub(crate) async fn stop(core: &Core, caller: &Caller, workspace: &str) -> Result<(), Fault> {
    let runtime = core.runtime(workspace).await?;
    let Some(life) = alive(&runtime) else { return Ok(()) };
    let reason = reason(core, caller, workspace).await?;
    core.commands.stop_runtime(command(&runtime, life, caller, reason, false)).await
}

/// Ends a life and begins the next one. With a key, whoever repeats it means the life that the first request found.
pub(crate) async fn restart(core: &Core, caller: &Caller, workspace: &str, key: &idempotent::Key) -> Result<(), Fault> {
    let found = to_restart(core, caller, workspace).await;
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    let restart = match key.answered(&transaction).await? {
        Some(before) => before,
        None => {
            let restart = found?;
            key.record(&transaction, &restart).await?;
            restart
        }
    };
    transaction.commit().await.map_err(store::Error::from)?;
    drop(db);
    if restart.number == 0 {
        // The first request found none, so it began one: with this key it is that one.
        return start(core, caller, workspace, Start { key: key.chosen(), ..Start::default() }).await;
    }
    core.commands.stop_runtime(restart).await
}

/// The life that is there, as a scheduler is told to restart it; of number 0 without one.
async fn to_restart(core: &Core, caller: &Caller, workspace: &str) -> Result<internal::StopRuntimeRequest, Fault> {
    let runtime = core.runtime(workspace).await?;
    let Some(life) = going(&runtime) else { return Ok(internal::StopRuntimeRequest::default()) };
    // What cannot start again is not stopped.
    let (saved, image) = startable(core, workspace, false).await?;
    if saved.pool != life.pool {
        return Err(other_pool(&saved.queue_name, &saved.pool, &life.pool));
    }
    let restart = command(&runtime, life, caller, "RESTART", true);
    Ok(internal::StopRuntimeRequest { image, ..restart })
}

/// Puts an error away.
pub(crate) async fn reset(core: &Core, caller: &Caller, workspace: &str) -> Result<(), Fault> {
    let runtime = core.runtime(workspace).await?;
    match &runtime.life {
        Some(life) if life.state == "error" => {
            core.commands.stop_runtime(command(&runtime, life, caller, "RESET", false)).await
        }
        Some(life) if life.state != "stopped" => Err(wrong_state(&runtime, "only an error is reset; stop it instead")),
        _ => Ok(()),
    }
}

/// Takes an administrator's word that the node of a life is off for good.
pub(crate) async fn fence(core: &Core, caller: &Caller, workspace: &str) -> Result<(), Fault> {
    let runtime = core.runtime(workspace).await?;
    match alive(&runtime) {
        Some(life) => core.commands.stop_runtime(command(&runtime, life, caller, "FENCED", false)).await,
        None => Ok(()),
    }
}

/// Moves what waits or runs to another queue, and its next starts too. Answers what changed.
pub(crate) async fn switch_queue(core: &Core, caller: &Caller, workspace: &str, queue: &str) -> Result<Changed, Fault> {
    let runtime = core.runtime(workspace).await?;
    let queue = core.queue(queue).await?;
    let life = going(&runtime);
    let spec = life.map(|life| &life.spec).or(runtime.saved.as_ref().map(|saved| &saved.spec));
    let spec = spec.ok_or_else(|| none(workspace))?;
    let was = life.map(|life| &life.queue).or(runtime.saved.as_ref().map(|saved| &saved.queue));
    let whole = admitted(core, &runtime.name, runtime.project_id, spec, &queue).await;
    let (terms, (admission, _)) = match whole {
        // What its tag named was allowed when it started.
        Err(Fault(problem)) if life.is_some() && problem.reason == Code::ImageNotAllowed.as_str() => {
            admitted(core, &runtime.name, runtime.project_id, &images::as_named(spec), &queue).await?
        }
        whole => whole?,
    };
    if let Some(life) = life {
        if life.state == "starting" && life.node.is_empty() {
            // It waits: as if it were started there.
            check_window(&terms, &admission, spec)?;
        } else if let Some(denial) = rules::closed(&terms, &admission.access) {
            return Err(denied(denial));
        }
        if life.pool != queue.pool {
            return Err(other_pool(&queue.definition.name, &queue.pool, &life.pool));
        }
        let command = internal::SwitchQueueRequest {
            workspace_id: runtime.workspace.to_vec(),
            pool: life.pool.clone(),
            queue_id: queue.definition.id.to_vec(),
            requested_by: caller.user.id.to_vec(),
            forwarded: false,
        };
        match core.commands.switch_queue(command).await {
            // It has ended meanwhile: what is left to be moved is its next start.
            Err(Fault(problem)) if problem.reason == ENDED => {}
            switched => switched?,
        }
    }
    runtime_specs::set_queue(&core.store.client().await?, runtime.workspace, queue.definition.id).await?;
    Ok(Changed::of("queue", was, Some(&queue.definition.name)))
}

/// Lets nobody stop it for idleness for a while.
pub(crate) async fn snooze(core: &Core, caller: &Caller, workspace: &str, until: Timestamp) -> Result<(), Fault> {
    let runtime = core.runtime(workspace).await?;
    let wanted = until.duration_since(runtime.now);
    if wanted <= SignedDuration::ZERO || wanted > SNOOZE_MAX {
        return Err(Fault::field("until", "must lie within the next 24 hours"));
    }
    let kept = "only what waits or runs can be kept";
    let Some(life) = going(&runtime) else { return Err(wrong_state(&runtime, kept)) };
    let command = internal::SnoozeRuntimeRequest {
        workspace_id: runtime.workspace.to_vec(),
        pool: life.pool.clone(),
        until_us: until.as_microsecond(),
        requested_by: caller.user.id.to_vec(),
        forwarded: false,
    };
    core.commands.snooze_runtime(command).await.map_err(|fault| match fault {
        Fault(problem) if problem.reason == ENDED => {
            let message = format!("the runtime of workspace `{}` has ended meanwhile", runtime.name);
            Fault(Problem::new(ErrorKind::FailedPrecondition, "WRONG_STATE", message).remedy(kept))
        }
        other => other,
    })
}

/// What runs stays in its pool.
fn other_pool(queue: &str, its: &str, here: &str) -> Fault {
    let message = format!("queue `{queue}` is served from pool `{its}`, and the runtime is in `{here}`");
    let problem = Problem::new(ErrorKind::FailedPrecondition, "OTHER_POOL", message);
    Fault(problem.remedy("stop it, and start it in that queue"))
}

/// The life that waits, runs or stops.
fn going(runtime: &Runtime) -> Option<&Life> {
    alive(runtime).filter(|life| life.state != "error")
}

/// The life that has not ended, or ended with an error that nobody has put away.
fn alive(runtime: &Runtime) -> Option<&Life> {
    runtime.life.as_ref().filter(|life| life.state != "stopped")
}

/// Whoever has no part in the workspace acts as an administrator, and the timeline says so.
async fn reason(core: &Core, caller: &Caller, workspace: &str) -> Result<&'static str, Fault> {
    let db = core.store.client().await?;
    let target = targets::find(&db, Thing::Workspace(workspace), Some(caller.user.id)).await?;
    Ok(if target.is_some_and(|target| target.role.is_some()) { "USER" } else { "ADMIN" })
}

fn command(
    runtime: &Runtime,
    life: &Life,
    caller: &Caller,
    reason: &str,
    start_again: bool,
) -> internal::StopRuntimeRequest {
    internal::StopRuntimeRequest {
        workspace_id: runtime.workspace.to_vec(),
        pool: life.pool.clone(),
        reason: reason.to_owned(),
        requested_by: caller.user.id.to_vec(),
        start_again,
        // A command is repeated where its answer was lost, and meanwhile somebody may have begun the next life.
        number: life.number,
        image: String::new(),
        forwarded: false,
    }
}

/// An act that its state forbids.
pub(super) fn wrong_state(runtime: &Runtime, remedy: &str) -> Fault {
    let state = runtime.life.as_ref().map_or("stopped", |life| life.state.as_str());
    let message = format!("the runtime of workspace `{}` is {state}", runtime.name);
    Fault(Problem::new(ErrorKind::FailedPrecondition, "WRONG_STATE", message).remedy(remedy))
}
