//! One act on many runtimes: each is authorised, done and entered in the trail as if it had been called alone. Refuses to let
//! one of them decide about another.

use super::{act, define, together};
use crate::authorisation::{self, Trail};
use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent::Key;
use crate::identity::Caller;
use domain::id::GangId;
use domain::role::Role;
use domain::runtime::gang::GANG_MAX;
use futures_util::{StreamExt, stream};
use proto::internal::v1 as internal;
use proto::v1::{BatchChangeRuntimesRequest, RuntimeAct, RuntimeResult};
use rpc::status::Problem;
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// Runtimes of one request.
const ITEMS_MAX: usize = 500;
/// Of these, so many at once.
const AT_ONCE: usize = 8;

/// Acts on each; the results are in the order of the request.
pub(crate) async fn change(
    core: &Core,
    caller: &Caller,
    request: BatchChangeRuntimesRequest,
) -> Result<Vec<RuntimeResult>, Fault> {
    let act = RuntimeAct::try_from(request.act).unwrap_or(RuntimeAct::Unspecified);
    let (method, need) = match act {
        RuntimeAct::Unspecified => return Err(Fault::field("act", "must be an act, such as RUNTIME_ACT_STOP")),
        RuntimeAct::Start => ("StartRuntime", Role::Editor),
        RuntimeAct::Stop => ("StopRuntime", Role::Editor),
        RuntimeAct::Restart => ("RestartRuntime", Role::Editor),
        RuntimeAct::Reset => ("ResetRuntime", Role::Editor),
        RuntimeAct::Delete => ("DeleteRuntime", Role::Admin),
    };
    if request.workspaces.len() > ITEMS_MAX {
        return Err(Fault::field("workspaces", format!("must be at most {ITEMS_MAX}")));
    }
    let mut gang = gang(&request, act)?;
    if let Some(gang) = gang.as_mut() {
        gang.denial = together::denial(core, caller, &request.workspaces, need).await?;
    }
    let item = Item { core, caller, act, method, need, wait_for_window: request.wait_for_window, gang };
    let results = stream::iter(request.workspaces).map(|workspace| item.result(workspace)).buffered(AT_ONCE);
    let results: Vec<RuntimeResult> = results.collect().await;
    Ok(if item.gang.is_some() { item.all_or_none(results).await } else { results })
}

/// What ties the starts of a request to each other, if they shall start together.
fn gang(request: &BatchChangeRuntimesRequest, act: RuntimeAct) -> Result<Option<act::Gang>, Fault> {
    if !request.together {
        return match request.one_zone {
            true => Err(Fault::field("one_zone", "is for runtimes that start together")),
            false => Ok(None),
        };
    }
    if act != RuntimeAct::Start {
        return Err(Fault::field("together", "is for RUNTIME_ACT_START"));
    }
    let distinct: BTreeSet<&String> = request.workspaces.iter().collect();
    let size = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
    if !(2..=GANG_MAX).contains(&size) || distinct.len() < request.workspaces.len() {
        return Err(Fault::field("workspaces", format!("must be 2 to {GANG_MAX}, each once, to start together")));
    }
    let message = internal::Gang { id: GangId(uuid::Uuid::now_v7()).to_vec(), size, one_zone: request.one_zone };
    Ok(Some(act::Gang { message, pool: OnceLock::new(), denial: None }))
}

struct Item<'a> {
    core: &'a Core,
    caller: &'a Caller,
    act: RuntimeAct,
    method: &'static str,
    need: Role,
    wait_for_window: bool,
    gang: Option<act::Gang>,
}

impl Item<'_> {
    /// One that cannot start keeps the others from ever doing so: they are told to stop, and their results say why.
    async fn all_or_none(&self, mut results: Vec<RuntimeResult>) -> Vec<RuntimeResult> {
        let refused = results.iter().find(|result| !result.done);
        let Some(culprit) = refused.map(|result| result.workspace.clone()) else { return results };
        for result in results.iter_mut().filter(|result| result.done) {
            result.done = false;
            result.reason = "GANG_INCOMPLETE".to_owned();
            result.message = match act::stop(self.core, self.caller, &result.workspace).await {
                Ok(()) => format!("did not start, since `{culprit}` cannot; see there"),
                Err(Fault(problem)) => format!("waits for `{culprit}`, which cannot start; stop it: {problem}"),
            };
        }
        results
    }

    async fn result(&self, workspace: String) -> RuntimeResult {
        match self.carry_out(&workspace).await {
            Ok(()) => RuntimeResult { workspace, done: true, ..RuntimeResult::default() },
            Err(Fault(problem)) => {
                let message = problem.to_string();
                RuntimeResult { workspace, done: false, reason: problem.reason, message }
            }
        }
    }

    async fn carry_out(&self, workspace: &str) -> Result<(), Fault> {
        let (store, path) = (&self.core.store, format!("/orrery.v1.RuntimeService/{}", self.method));
        let verdict = authorisation::workspace(store, self.caller, &path, workspace, self.need).await;
        let outcome = match &verdict.granted {
            Ok(()) => self.act_on(workspace).await,
            Err(fault) => Err(fault.clone()),
        };
        let trail = Trail {
            method: &format!("RuntimeService/{}", self.method),
            workspace,
            target: verdict.target.as_ref(),
            granted: verdict.granted.is_ok(),
            problem: outcome.as_ref().err().map(|fault: &Fault| -> &Problem { &fault.0 }),
        };
        trail.record(&self.core.store, self.caller).await;
        outcome
    }

    async fn act_on(&self, workspace: &str) -> Result<(), Fault> {
        let (core, caller) = (self.core, self.caller);
        match self.act {
            RuntimeAct::Start => {
                let gang = self.gang.as_ref();
                let start = act::Start { wait_for_window: self.wait_for_window, key: "", gang };
                act::start(core, caller, workspace, start).await
            }
            RuntimeAct::Stop => act::stop(core, caller, workspace).await,
            RuntimeAct::Restart => act::restart(core, caller, workspace, &Key::none("RestartRuntime")).await,
            RuntimeAct::Reset => act::reset(core, caller, workspace).await,
            RuntimeAct::Delete => define::delete(core, workspace).await,
            RuntimeAct::Unspecified => Ok(()),
        }
    }
}
