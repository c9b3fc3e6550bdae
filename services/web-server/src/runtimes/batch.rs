//! One act on many runtimes: each is authorised, done and entered in the trail as if it had been called alone. Refuses to let
//! one of them decide about another.

use super::{act, define};
use crate::authorisation::{self, Trail};
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use domain::role::Role;
use futures_util::{StreamExt, stream};
use proto::v1::{BatchChangeRuntimesRequest, RuntimeAct, RuntimeResult};
use rpc::status::Problem;

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
    let item = Item { core, caller, act, method, need, wait_for_window: request.wait_for_window };
    Ok(stream::iter(request.workspaces).map(|workspace| item.result(workspace)).buffered(AT_ONCE).collect().await)
}

struct Item<'a> {
    core: &'a Core,
    caller: &'a Caller,
    act: RuntimeAct,
    method: &'static str,
    need: Role,
    wait_for_window: bool,
}

impl Item<'_> {
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
        let granted = authorisation::workspace(&self.core.store, self.caller, workspace, self.need).await;
        let outcome = match &granted {
            Ok(_) => self.act_on(workspace).await,
            Err(fault) => Err(fault.clone()),
        };
        let trail = Trail {
            method: &format!("RuntimeService/{}", self.method),
            workspace,
            target: granted.as_ref().ok(),
            problem: outcome.as_ref().err().map(|fault: &Fault| -> &Problem { &fault.0 }),
        };
        trail.record(&self.core.store, self.caller).await;
        outcome
    }

    async fn act_on(&self, workspace: &str) -> Result<(), Fault> {
        let (core, caller) = (self.core, self.caller);
        match self.act {
            RuntimeAct::Start => {
                let start = act::Start { wait_for_window: self.wait_for_window, key: "" };
                act::start(core, caller, workspace, start).await
            }
            RuntimeAct::Stop => act::stop(core, caller, workspace).await,
            RuntimeAct::Restart => act::restart(core, caller, workspace).await,
            RuntimeAct::Reset => act::reset(core, caller, workspace).await,
            RuntimeAct::Delete => define::delete(core, workspace).await,
            RuntimeAct::Unspecified => Ok(()),
        }
    }
}
