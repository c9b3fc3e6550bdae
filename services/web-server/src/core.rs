//! What every service of this server works with. Refuses to know any protocol.

use crate::changes::Changes;
use crate::commands::Commands;
use crate::fault::Fault;
use crate::identity::passwords::Guesses;
use crate::models::Transfers;
use crate::outputs::OutputStores;
use crate::settings::{Limits, Projects};
use crate::storage_classes::StorageClasses;
use domain::id::RunId;
use runtime::rates::Rates;
use store::{Store, run_views, workspaces};
use tokio_util::sync::CancellationToken;

/// Shared by all services; one per process.
pub(crate) struct Core {
    /// The database.
    pub(crate) store: Store,
    /// Bundles.
    pub(crate) blobs: blobs::Blobs,
    /// The schedulers.
    pub(crate) commands: Commands,
    /// Who waits for news.
    pub(crate) changes: Changes,
    /// Set once this server takes nothing new.
    pub(crate) draining: CancellationToken,
    /// What blocks left.
    pub(crate) outputs: OutputStores,
    /// What holds for projects that do not say it.
    pub(crate) projects: Projects,
    /// What is too much.
    pub(crate) limits: Limits,
    /// What seals secrets; `None` where none are kept.
    pub(crate) keyring: Option<secrets::Keyring>,
    /// Who says what a tag of an image names.
    pub(crate) registries: registry::Registries,
    /// Of which kinds volumes may be.
    pub(crate) storage_classes: StorageClasses,
    /// Wrong passwords of late.
    pub(crate) guesses: Guesses,
    /// Models and outputs on their way in and out.
    pub(crate) transfers: Transfers,
    /// Calls by token that this replica lets pass; the owner of a trigger counts those of all.
    pub(crate) rates: Rates,
    /// What `envs` of a project's triggers is held against.
    pub(crate) environment: String,
}

impl Core {
    /// The workspace of this name.
    pub(crate) async fn workspace(&self, name: &str) -> Result<workspaces::Workspace, Fault> {
        if name.is_empty() {
            return Err(Fault::field("workspace", "must name a workspace"));
        }
        let db = self.store.client().await?;
        workspaces::get(&db, name).await?.ok_or_else(|| Fault::no_workspace(name))
    }

    /// The run of this id.
    pub(crate) async fn run(&self, id: RunId) -> Result<run_views::Run, Fault> {
        let db = self.store.client().await?;
        run_views::get(&db, id).await?.ok_or_else(|| Fault::no_run(id))
    }
}
