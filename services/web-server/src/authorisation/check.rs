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
use store::pipelines::{self, Head};
use store::targets::{self, Target};

/// What was decided, and where.
pub(crate) struct Verdict {
    /// The addressed thing when the row names one and it is there, whether or not the caller may act on it.
    pub(crate) target: Option<Target>,
    /// The pipeline that the row names beside it, whether or not the caller may act on it; `None` too when it could not be read.
    pipeline: Option<Head>,
    /// Whether the caller may.
    pub(crate) granted: Result<(), Fault>,
}

/// A pipeline that was read while its caller was authorised, among the extensions of what was granted. Without it the act reads
/// the pipeline itself, and tells what is wrong with that.
#[derive(Debug, Clone)]
pub(crate) struct Beside(Head);

impl Beside {
    /// Takes it out of the request.
    pub(crate) fn take<T>(request: &mut tonic::Request<T>) -> Option<Head> {
        request.extensions_mut().remove::<Self>().map(|beside| beside.0)
    }
}

/// What is looked up for one decision.
#[derive(Clone, Copy)]
struct Sought<'a> {
    thing: Thing,
    text: &'a str,
    /// The name of a pipeline of that workspace.
    pipeline: Option<&'a str>,
}

impl Verdict {
    /// What is handed on to the act, once that is granted.
    pub(super) fn take_beside(&mut self) -> Option<Beside> {
        self.pipeline.take().filter(|_| self.granted.is_ok()).map(Beside)
    }

    /// Whether the caller is refused for who it is.
    pub(super) fn is_denied(&self) -> bool {
        let kind = self.granted.as_ref().err().map(|fault| fault.0.kind);
        matches!(kind, Some(ErrorKind::PermissionDenied | ErrorKind::Unauthenticated))
    }

    fn nowhere(granted: Result<(), Fault>) -> Self {
        Self { target: None, pipeline: None, granted }
    }

    /// Nothing that changes it is done to what is out of use.
    fn unless_archived(self) -> Self {
        match self.target {
            Some(target) if self.granted.is_ok() && target.archived => {
                let granted = Err(Fault::archived(&target.name));
                Self { target: Some(target), pipeline: None, granted }
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
                let sought = Sought { thing, text, pipeline: None };
                let (target, pipeline) = find(&self.store, caller, sought).await.unwrap_or_default();
                Verdict { target, pipeline, granted: cluster(caller, need) }
            }
            // A route is never called as a method.
            Who::AsMethod => Verdict::nowhere(Err(Fault::not_allowed())),
            Who::On(thing, need) => {
                let thing = thing.narrowed(addressed);
                let text = addressed.get(thing.field()).map_or("", String::as_str);
                let pipeline = rule.row.pipeline.and_then(|field| addressed.get(field)).map(String::as_str);
                self.on(rule, caller, Sought { thing, text, pipeline }, need).await
            }
        }
    }

    async fn on(&self, rule: &Rule, caller: &Caller, sought: Sought<'_>, need: Role) -> Verdict {
        match (sought.thing, sought.text) {
            (Thing::ProjectOrOwn(_) | Thing::WorkspaceOrOwn(_) | Thing::TriggerOrNothing(_), "") => {
                return Verdict::nowhere(Ok(()));
            }
            (Thing::WorkspaceOrCluster(_), "") => return Verdict::nowhere(cluster(caller, need)),
            _ => {}
        }
        let verdict = reach(&self.store, caller, sought, need).await;
        if rule.row.even_archived { verdict } else { verdict.unless_archived() }
    }
}

/// For a request that addresses many workspaces: as the row of a method would decide about one of them.
pub(crate) async fn workspace(store: &Store, caller: &Caller, method: &str, name: &str, need: Role) -> Verdict {
    let sought = Sought { thing: Thing::Workspace("workspaces"), text: name, pipeline: None };
    let verdict = reach(store, caller, sought, need).await;
    if table::even_archived(method) { verdict } else { verdict.unless_archived() }
}

/// Whether the caller has the role on the addressed thing.
async fn reach(store: &Store, caller: &Caller, sought: Sought<'_>, need: Role) -> Verdict {
    let Sought { thing, text, .. } = sought;
    let (target, pipeline) = match find(store, caller, sought).await {
        Ok(found) => found,
        Err(fault) => return Verdict::nowhere(Err(fault)),
    };
    let role = target.as_ref().and_then(|target| caller.user.role.max(target.role));
    let granted = match role {
        None => Err(not_found(thing, text)),
        role if role < Some(need) => Err(not_enough(need, role)),
        _ => Ok(()),
    };
    Verdict { target, pipeline, granted }
}

/// The thing, and the pipeline beside it: two questions that go to the database together.
async fn find(store: &Store, caller: &Caller, sought: Sought<'_>) -> Result<(Option<Target>, Option<Head>), Fault> {
    let addressed = named(sought.thing, sought.text)?;
    let db = store.client().await?;
    let pipeline = async {
        match sought.pipeline {
            Some(name) => pipelines::get_by_names(&db, sought.text, name).await.unwrap_or_default(),
            None => None,
        }
    };
    let target = targets::find(&db, addressed, Some(caller.user.id));
    let (target, pipeline) = tokio::join!(biased; target, pipeline);
    Ok((target?, pipeline))
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
