//! Plans: list, set, archive, grant, revoke. Refuses to judge a runtime by anything but the domain's rules.

use crate::changed::Changed;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use crate::people;
use crate::{disturbed, plans as conversion};
use domain::ErrorKind;
use domain::id::{PlanId, ProjectId};
use domain::runtime::rules;
use domain::window::{self, Access, Window};
use jiff::Timestamp;
use proto::v1::{
    AffectedRuntime, ArchivePlanRequest, ArchivePlanResponse, GrantPlanRequest, GrantPlanResponse, ListPlansRequest,
    ListPlansResponse, RevokePlanRequest, RevokePlanResponse, SetPlanRequest, SetPlanResponse,
    plan_service_server::PlanService,
};
use std::sync::Arc;
use store::plans::{self, Plan};
use store::queues;
use store::runtime_views::{self, Alive, Concerned};
use store::{Transaction, fleet_views, projects};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.PlanService`.
pub(crate) struct Plans(pub(crate) Arc<Core>);

/// What a plan is on the wire.
const KIND: &str = "orrery.v1.Plan";
/// What a page token of this list is for.
const SCOPE: &str = "plans";

impl Plans {
    async fn list(&self, caller: &Caller, request: ListPlansRequest) -> Result<ListPlansResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("{SCOPE}/{}", request.with_archived);
        let after: String = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = plans::list(&db, caller.sees(), request.with_archived, &after, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |plan| plan.rules.name.clone())?;
        let now = Timestamp::now();
        let plans = rows.into_iter().map(|plan| conversion::encode(plan, now)).collect();
        Ok(ListPlansResponse { plans, next_page_token })
    }

    async fn set(&self, request: SetPlanRequest) -> Result<Response<SetPlanResponse>, Fault> {
        let wanted = request.plan.ok_or_else(|| Fault::field("plan", "must say what it shall be"))?;
        people::check_label(&wanted.name, "plan.name")?;
        let (rules, windows) = conversion::decode(&wanted)?;
        if wanted.queues.iter().any(|queue| queue == queues::DEFAULT_NAME) {
            let message =
                format!("must not name `{}`, which is open to every project without a plan", queues::DEFAULT_NAME);
            return Err(Fault::field("plan.queues", message));
        }
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let (now, old) = (Timestamp::now(), plans::lock(&transaction, &wanted.name).await?);
        let was = old.clone().map(|plan| conversion::encode(plan, now));
        let (id, affected) = match old {
            None if wanted.version > 0 => return Err(changed(&wanted.name)),
            None => {
                plans::insert(&transaction, &rules).await?.ok_or_else(|| changed(&wanted.name))?;
                (rules.id, Vec::new())
            }
            Some(old) => {
                if wanted.version > 0 && wanted.version != old.version {
                    return Err(changed(&wanted.name));
                }
                let rules = rules::Plan { id: old.rules.id, ..rules };
                let affected = self.affected(&transaction, &old, &rules, &wanted.queues).await?;
                disturbed::unless_forced(&affected, request.force)?;
                plans::update(&transaction, &rules).await?;
                (rules.id, affected)
            }
        };
        if !plans::set_queues(&transaction, id, &wanted.queues).await? {
            return Err(Fault::field("plan.queues", "must be queues in use, each once; `orrery queues` lists them"));
        }
        plans::set_windows(&transaction, id, &windows).await?;
        let plan = plans::lock(&transaction, &wanted.name).await?.map(|plan| conversion::encode(plan, now));
        let known = fleet_views::models(&transaction).await?;
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let means = |pattern: &str, model: &str| rules::listed(&[pattern.to_owned()], model);
        let warnings = conversion::absent(wanted.models.iter().map(String::as_str), &known, means);
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::between(KIND, "plan", was.as_ref(), plan.as_ref());
        Ok(changed.told_with(SetPlanResponse { plan, affected, warnings }))
    }

    /// To whom a change of a plan means something.
    async fn affected(
        &self,
        db: &Transaction<'_>,
        old: &Plan,
        new: &rules::Plan,
        queues: &[String],
    ) -> Result<Vec<AffectedRuntime>, Fault> {
        let concerned = Concerned { plan: Some(new.id), ..Concerned::default() };
        let alive = runtime_views::alive(db, &concerned).await?;
        let now = Timestamp::now();
        let before: Vec<Window> = old.windows.iter().filter_map(|window| window.compile().ok()).collect();
        let (before, after) = (window::access(&before, now), window::access(&new.windows, now));
        Ok(disturbed::affected(&alive, |life| {
            if !queues.contains(&life.queue) {
                let why = format!("the plan would not open queue `{}` any more", life.queue);
                return Some(disturbed::barred(life, &why));
            }
            breaks(&old.rules, new, life).or_else(|| sooner(&before, &after, disturbed::waits(life)))
        }))
    }

    async fn archive(&self, request: ArchivePlanRequest) -> Result<Response<ArchivePlanResponse>, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let plan = plans::lock(&transaction, &request.name).await?.ok_or_else(|| none(&request.name))?;
        let affected = bereft(&transaction, plan.rules.id, None).await?;
        disturbed::unless_forced(&affected, request.force)?;
        plans::archive(&transaction, plan.rules.id).await?;
        let now = Timestamp::now();
        let is = plans::lock(&transaction, &request.name).await?.map(|plan| conversion::encode(plan, now));
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::between(KIND, "plan", Some(&conversion::encode(plan, now)), is.as_ref());
        Ok(changed.told_with(ArchivePlanResponse { affected }))
    }

    async fn grant(&self, request: GrantPlanRequest) -> Result<Response<GrantPlanResponse>, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let project = project(&transaction, &request.project).await?;
        let plan = plans::lock(&transaction, &request.plan).await?.filter(|plan| !plan.archived);
        let plan = plan.ok_or_else(|| none(&request.plan))?;
        let is_new = plans::grant(&transaction, project, plan.rules.id).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of("granted", Some(!is_new), Some(true)).told_with(GrantPlanResponse {}))
    }

    async fn revoke(&self, request: RevokePlanRequest) -> Result<Response<RevokePlanResponse>, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let project = project(&transaction, &request.project).await?;
        let plan = plans::lock(&transaction, &request.plan).await?.ok_or_else(|| none(&request.plan))?;
        let affected = bereft(&transaction, plan.rules.id, Some(project)).await?;
        disturbed::unless_forced(&affected, request.force)?;
        if !plans::revoke(&transaction, project, plan.rules.id).await? {
            let message = format!("project `{}` does not have plan `{}`", request.project, request.plan);
            return Err(Fault::new(ErrorKind::NotFound, "PLAN_NOT_GRANTED", message));
        }
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::of("granted", Some(true), Some(false)).told_with(RevokePlanResponse { affected }))
    }
}

/// What a life would break of the new plan, and did not of the old one.
fn breaks(old: &rules::Plan, new: &rules::Plan, life: &Alive) -> Option<String> {
    let denial = new.check(&life.spec).err()?;
    old.check(&life.spec).is_ok().then(|| disturbed::barred(life, &denial.sentence))
}

/// Whether a window ends sooner than before, and what that means to who runs, or waits.
fn sooner(before: &Access, after: &Access, waits: bool) -> Option<String> {
    match after {
        _ if after.cmp_use(before).is_ge() => None,
        Access::Always => None,
        Access::Until { closes_at, .. } if waits => {
            Some(format!("waits, and gets no place once its window has closed at {}", closes_at.timestamp()))
        }
        Access::Until { closes_at, .. } => {
            Some(format!("would be stopped at {}, when its window closes", closes_at.timestamp()))
        }
        Access::Closed { opens_at: Some(opens_at) } if waits => {
            Some(format!("waits, and gets no place before its window opens at {}", opens_at.timestamp()))
        }
        Access::Closed { .. } => Some("would be stopped at once: its window would be closed".to_owned()),
    }
}

/// Who would be in a queue without a plan for it.
async fn bereft(db: &Transaction<'_>, plan: PlanId, project: Option<ProjectId>) -> Result<Vec<AffectedRuntime>, Fault> {
    let concerned = Concerned { plan: Some(plan), project, ..Concerned::default() };
    let alive = runtime_views::alive(db, &concerned).await?;
    let effect = |life: &Alive| {
        Some(disturbed::barred(life, &format!("no plan of the project opens queue `{}` then", life.queue)))
    };
    Ok(disturbed::affected(&alive, effect))
}

async fn project(db: &Transaction<'_>, name: &str) -> Result<ProjectId, Fault> {
    Ok(projects::get(db, name).await?.ok_or_else(|| Fault::no_project(name))?.id)
}

fn none(name: &str) -> Fault {
    let message = format!("there is no plan `{name}`; `orrery plans` lists them");
    Fault::new(ErrorKind::NotFound, "PLAN_NOT_FOUND", message)
}

fn changed(name: &str) -> Fault {
    let message = format!("plan `{name}` is not in the version that was edited; read it again");
    Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message)
}

#[async_trait]
impl PlanService for Plans {
    async fn list_plans(&self, request: Request<ListPlansRequest>) -> Result<Response<ListPlansResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list(&caller, request.into_inner()).await?))
    }

    async fn set_plan(&self, request: Request<SetPlanRequest>) -> Result<Response<SetPlanResponse>, Status> {
        Ok(self.set(request.into_inner()).await?)
    }

    async fn archive_plan(
        &self,
        request: Request<ArchivePlanRequest>,
    ) -> Result<Response<ArchivePlanResponse>, Status> {
        Ok(self.archive(request.into_inner()).await?)
    }

    async fn grant_plan(&self, request: Request<GrantPlanRequest>) -> Result<Response<GrantPlanResponse>, Status> {
        Ok(self.grant(request.into_inner()).await?)
    }

    async fn revoke_plan(&self, request: Request<RevokePlanRequest>) -> Result<Response<RevokePlanResponse>, Status> {
        Ok(self.revoke(request.into_inner()).await?)
    }
}
