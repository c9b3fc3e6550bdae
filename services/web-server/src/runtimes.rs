//! Workspaces' runtimes: what they shall be is checked and kept here, what becomes of them is a scheduler's. Refuses to
//! place anything, and to write what is so.

pub(crate) mod act;
pub(crate) mod batch;
pub(crate) mod define;
pub(crate) mod forecast;
pub(crate) mod images;
pub(crate) mod spec;
mod together;
pub(crate) mod view;
pub(crate) mod watch;

use crate::core::Core;
use crate::fault::Fault;
use domain::ErrorKind;
use domain::id::WorkspaceId;
use domain::runtime::rules::{self, Denial};
use rpc::status::Problem;
use store::queues::{self, Queue};
use store::runtime_views::{self, Runtime};
use store::targets::{self, Target, Thing};

/// A rule's refusal, for the caller.
pub(crate) fn denied(denial: Denial) -> Fault {
    let problem = Problem::new(denial.kind(), denial.code.as_str(), denial.sentence.clone());
    let field = if denial.kind() == ErrorKind::InvalidArgument {
        problem.field(denial.field, denial.sentence)
    } else {
        problem
    };
    Fault(field.remedy(denial.remedy))
}

impl Core {
    /// Where the workspace of this name is. That the caller may see it was found out before.
    pub(crate) async fn target(&self, workspace: &str) -> Result<(Target, WorkspaceId), Fault> {
        let db = self.store.client().await?;
        let target = targets::find(&db, Thing::Workspace(workspace), None).await?;
        target.and_then(|target| target.workspace.map(|id| (target, id))).ok_or_else(|| Fault::no_workspace(workspace))
    }

    /// A workspace's runtime, as it is now.
    pub(crate) async fn runtime(&self, workspace: &str) -> Result<Runtime, Fault> {
        let (_, id) = self.target(workspace).await?;
        let db = self.store.client().await?;
        runtime_views::get(&db, id).await?.ok_or_else(|| Fault::no_workspace(workspace))
    }

    /// The queue of this name that is in use; the default one, when empty. One that is not there is refused in the words of one
    /// that no plan opens: queues of others are nobody's business.
    pub(crate) async fn queue(&self, name: &str) -> Result<Queue, Fault> {
        let name = if name.is_empty() { queues::DEFAULT_NAME } else { name };
        let found = queues::get(&self.store.client().await?, name).await?;
        found.filter(|queue| !queue.archived).ok_or_else(|| denied(rules::not_bound(name)))
    }
}

/// There is no spec.
fn none(workspace: &str) -> Fault {
    let message = format!("workspace `{workspace}` has no runtime");
    let problem = Problem::new(ErrorKind::FailedPrecondition, "NO_RUNTIME", message);
    Fault(problem.remedy("say what it shall be: `orrery workspaces set`, or SetRuntimeSpec"))
}
