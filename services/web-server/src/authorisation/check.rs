//! One decision: a row, a person, an addressed thing. What a person may not see is not found, in the words that are used
//! when it is not there.

use super::table::{self, Thing, Who};
use super::{Authority, Rule};
use crate::fault::Fault;
use crate::identity::{Caller, Identity};
use crate::models;
use crate::services::backfills;
use crate::triggers;
use domain::ErrorKind;
use domain::id::{BackfillId, ModelVersionId, RunId, TriggerId, UploadId};
use domain::role::Role;
use std::collections::HashMap;
use store::Store;
use store::targets::{self, Target};

/// What was decided, and where.
pub(crate) struct Verdict {
    /// The addressed thing when the row names one and it is there, whether or not the caller may act on it.
    pub(crate) target: Option<Target>,
    /// Whether the caller may.
    pub(crate) granted: Result<(), Fault>,
}

impl Verdict {
    /// Whether the caller is refused for who it is.
    pub(super) fn is_denied(&self) -> bool {
        let kind = self.granted.as_ref().err().map(|fault| fault.0.kind);
        matches!(kind, Some(ErrorKind::PermissionDenied | ErrorKind::Unauthenticated))
    }

    fn nowhere(granted: Result<(), Fault>) -> Self {
        Self { target: None, granted }
    }

    /// Nothing that changes it is done to what is out of use.
    fn unless_archived(self) -> Self {
        match self.target {
            Some(target) if self.granted.is_ok() && target.archived => {
                let granted = Err(Fault::archived(&target.name));
                Self { target: Some(target), granted }
            }
            target => Self { target, ..self },
        }
    }
}

impl Authority {
    /// Whether a rule lets somebody act on what a message addresses.
    pub(super) async fn check(
        &self,
        rule: &Rule,
        identity: &Identity,
        addressed: &HashMap<&'static str, String>,
    ) -> Verdict {
        if matches!(rule.row.who, Who::Everybody) {
            return Verdict::nowhere(Ok(()));
        }
        let Identity::Person(caller) = identity else {
            let fault = Fault::unauthenticated("a credential is needed; sign in by `orrery login`");
            return Verdict::nowhere(Err(fault));
        };
        match rule.row.who {
            Who::Everybody | Who::SignedIn => Verdict::nowhere(Ok(())),
            Who::Cluster(need) => Verdict::nowhere(cluster(caller, need)),
            Who::ClusterOn(thing, need) => {
                let text = addressed.get(thing.field()).map_or("", String::as_str);
                // What is not found there the act itself tells.
                let target = find(&self.store, caller, thing, text).await.unwrap_or_default();
                Verdict { target, granted: cluster(caller, need) }
            }
            // A route is never called as a method.
            Who::AsMethod => Verdict::nowhere(Err(Fault::not_allowed())),
            Who::On(thing, need) => {
                let thing = thing.narrowed(addressed);
                let text = addressed.get(thing.field()).map_or("", String::as_str);
                self.on(rule, caller, thing, text, need).await
            }
        }
    }

    async fn on(&self, rule: &Rule, caller: &Caller, thing: Thing, text: &str, need: Role) -> Verdict {
        match (thing, text) {
            (Thing::ProjectOrOwn(_) | Thing::WorkspaceOrOwn(_) | Thing::TriggerOrNothing(_), "") => {
                return Verdict::nowhere(Ok(()));
            }
            (Thing::WorkspaceOrCluster(_), "") => return Verdict::nowhere(cluster(caller, need)),
            _ => {}
        }
        let verdict = reach(&self.store, caller, thing, text, need).await;
        if rule.row.even_archived { verdict } else { verdict.unless_archived() }
    }
}

/// For a request that addresses many workspaces: as the row of a method would decide about one of them.
pub(crate) async fn workspace(store: &Store, caller: &Caller, method: &str, name: &str, need: Role) -> Verdict {
    let verdict = reach(store, caller, Thing::Workspace("workspaces"), name, need).await;
    if table::even_archived(method) { verdict } else { verdict.unless_archived() }
}

/// Whether the caller has the role on the addressed thing.
async fn reach(store: &Store, caller: &Caller, thing: Thing, text: &str, need: Role) -> Verdict {
    let target = match find(store, caller, thing, text).await {
        Ok(target) => target,
        Err(fault) => return Verdict::nowhere(Err(fault)),
    };
    let role = target.as_ref().and_then(|target| caller.user.role.max(target.role));
    let granted = match role {
        None => Err(not_found(thing, text)),
        role if role < Some(need) => Err(not_enough(need, role)),
        _ => Ok(()),
    };
    Verdict { target, granted }
}

async fn find(store: &Store, caller: &Caller, thing: Thing, text: &str) -> Result<Option<Target>, Fault> {
    let db = store.client().await?;
    Ok(targets::find(&db, named(thing, text)?, Some(caller.user.id)).await?)
}

fn cluster(caller: &Caller, need: Role) -> Result<(), Fault> {
    if caller.user.role >= Some(need) { Ok(()) } else { Err(not_enough(need, caller.user.role)) }
}

fn named(thing: Thing, text: &str) -> Result<targets::Thing<'_>, Fault> {
    Ok(match thing {
        Thing::Project(field) | Thing::ProjectOrOwn(field) => {
            targets::Thing::Project(named_by(field, text, "a project")?)
        }
        Thing::Workspace(field) | Thing::WorkspaceOrCluster(field) | Thing::WorkspaceOrOwn(field) => {
            targets::Thing::Workspace(named_by(field, text, "a workspace")?)
        }
        Thing::Trigger(field) | Thing::TriggerOrNothing(field) => {
            targets::Thing::Trigger(rpc::ids::parse::<TriggerId>(text, field)?.0)
        }
        Thing::Backfill(field) => targets::Thing::Backfill(rpc::ids::parse::<BackfillId>(text, field)?.0),
        Thing::ModelVersion(field) => targets::Thing::ModelVersion(rpc::ids::parse::<ModelVersionId>(text, field)?.0),
        Thing::Upload(field) => targets::Thing::Upload(rpc::ids::parse::<UploadId>(text, field)?.0),
        // Narrowed before: it is one of the two above by now.
        Thing::Scope => return Err(Fault::not_allowed()),
        Thing::Run(field) => targets::Thing::Run(rpc::ids::parse::<RunId>(text, field)?.0),
    })
}

fn named_by<'a>(field: &'static str, text: &'a str, what: &str) -> Result<&'a str, Fault> {
    if text.is_empty() { Err(Fault::field(field, format!("must name {what}"))) } else { Ok(text) }
}

fn not_found(thing: Thing, text: &str) -> Fault {
    match thing {
        Thing::Project(_) | Thing::ProjectOrOwn(_) => Fault::no_project(text),
        Thing::Workspace(_) | Thing::WorkspaceOrCluster(_) | Thing::WorkspaceOrOwn(_) | Thing::Scope => {
            Fault::no_workspace(text)
        }
        Thing::Trigger(_) | Thing::TriggerOrNothing(_) => {
            text.parse().map_or_else(|_| Fault::field(thing.field(), "must be an id"), triggers::none)
        }
        Thing::Backfill(_) => {
            text.parse().map_or_else(|_| Fault::field(thing.field(), "must be an id"), backfills::none)
        }
        Thing::ModelVersion(_) => {
            text.parse().map_or_else(|_| Fault::field(thing.field(), "must be an id"), models::no_version)
        }
        Thing::Upload(_) => {
            text.parse().map_or_else(|_| Fault::field(thing.field(), "must be an id"), models::no_upload)
        }
        // As the handler writes it: the id, not what was typed.
        Thing::Run(_) => Fault::no_run(text.parse::<RunId>().map_or_else(|_| text.to_owned(), |id| id.to_string())),
    }
}

fn not_enough(need: Role, have: Option<Role>) -> Fault {
    let have = have.map_or_else(|| "you have no role".to_owned(), |role| format!("you are {role}"));
    let message = format!("this needs the role {need} there, and {have}; ask an owner");
    Fault::new(ErrorKind::PermissionDenied, "PERMISSION_DENIED", message)
}
