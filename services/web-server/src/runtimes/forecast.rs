//! What would become of a start, as the planner of its pool says. Refuses to plan by itself, and to name workspaces that the
//! caller may not see.

use super::act::{admitted, runtime_s};
use super::{none, spec};
use crate::authorisation;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use domain::ErrorKind;
use domain::device::DeviceModel;
use domain::id::{HolderId, NodeId};
use domain::role::Role;
use domain::runtime::{Spec, rules};
use jiff::Timestamp;
use placement::{Hint, Place, Plan, Refusal, Request};
use proto::internal::v1::PlanRuntimesRequest;
use proto::v1::{PlanRuntimeRequest, RuntimeForecast};
use rpc::timestamp::to_proto;
use std::collections::BTreeSet;
use store::queues::{self, Queue};
use store::runtime_specs;
use store::volumes::{self, Mounter};
use store::{Client, fleet_views, runtime_views};
use uuid::Uuid;

/// Runtimes that are imagined at once.
const COUNT_MAX: i32 = 100;
/// Refusals that may be due to a volume.
const ABOUT_ROOM: [&str; 3] = ["NO_CAPACITY", "FRAGMENTED", "NEVER_FITS"];
/// Runtimes that are imagined to have ended.
const WITHOUT_MAX: usize = 100;

/// What would become of each.
pub(crate) async fn forecast(
    core: &Core,
    caller: &Caller,
    request: PlanRuntimeRequest,
) -> Result<Vec<RuntimeForecast>, Fault> {
    let count = match request.count {
        0 => 1,
        count if (1..=COUNT_MAX).contains(&count) => count,
        _ => return Err(Fault::field("count", format!("must be 1 to {COUNT_MAX}"))),
    };
    let (target, workspace) = core.target(&request.workspace).await?;
    let saved = runtime_specs::get(&core.store.client().await?, workspace).await?;
    let queue = match (request.queue.as_str(), &saved) {
        ("", Some(saved)) => saved.queue_name.clone(),
        (named, _) => named.to_owned(),
    };
    let spec = match (request.spec, saved) {
        (Some(spec), _) => spec::decode(spec)?,
        (None, Some(saved)) => saved.spec,
        (None, None) => return Err(none(&request.workspace)),
    };
    let queue = core.queue(&queue).await?;
    let mut gone = gone(core, caller, &request.without, &queue.pool).await?;
    // What waits already is what is asked about: it does not stand behind itself.
    let own = core.runtime(&target.name).await?.life;
    gone.extend(own.filter(|life| life.state == "starting" && life.pool == queue.pool).map(|life| life.holder.0));
    let mounter = Mounter { project: target.project, pool: &queue.pool, workspace, gone: &gone };
    let tie = tie(core, &mounter, &spec).await?;
    let (terms, (admission, _)) = admitted(core, &target.name, target.project, &spec, &queue).await?;
    let (now, runtime_s) = (Timestamp::now(), runtime_s(&terms, &admission, &spec));
    let imagined = |_| Request {
        holder: HolderId(Uuid::now_v7()),
        project: target.project,
        person: Some(caller.user.id),
        queue: queue.definition.id,
        priority: spec.priority,
        submitted_at: now,
        ask: spec.ask.clone(),
        storage_bytes: spec.storage_bytes,
        nodes: tie.as_ref().map(|tie| tie.nodes.clone()),
        gang: None,
        runtime_s,
        access: admission.access.clone(),
        permitted: permitted(&spec, &terms, admission.plan),
        class: None,
        alternatives: alternatives(&queue),
    };
    let requests: Vec<Request> = (0..count).map(imagined).collect();
    let plan = ask(core, &queue, &requests, &gone).await?;
    let db = core.store.client().await?;
    let mut forecasts = Vec::with_capacity(requests.len());
    for request in &requests {
        let mut forecast = one(&db, caller, &plan, request.holder, now).await?;
        if let Some(tie) = tie.as_ref().filter(|_| ABOUT_ROOM.contains(&forecast.code.as_str())) {
            forecast.message = format!("{}; {}", forecast.message, tie.sentence);
        }
        forecasts.push(forecast);
    }
    Ok(forecasts)
}

/// What volumes that others mount leave to a runtime.
struct Tie {
    nodes: BTreeSet<NodeId>,
    sentence: String,
}

/// One node mounts a volume at a time: so say the schedulers' placers of what waits.
async fn tie(core: &Core, mounter: &Mounter<'_>, spec: &Spec) -> Result<Option<Tie>, Fault> {
    if spec.mounts.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = spec.mounts.iter().map(|mount| mount.volume.as_str()).collect();
    let mounted = volumes::mounted(&core.store.client().await?, mounter, &names).await?;
    let named = mounted.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let nodes = mounted.into_values().reduce(|all, nodes| all.intersection(&nodes).copied().collect());
    let sentence = format!("others mount its volumes ({named}), and one node mounts a volume at a time");
    Ok(nodes.map(|nodes| Tie { nodes, sentence }))
}

/// The lives that are imagined to have ended, as the ledger calls them.
async fn gone(core: &Core, caller: &Caller, names: &[String], pool: &str) -> Result<Vec<Uuid>, Fault> {
    if names.len() > WITHOUT_MAX {
        return Err(Fault::field("without", format!("must be at most {WITHOUT_MAX} workspaces")));
    }
    let mut gone = Vec::with_capacity(names.len());
    for name in names {
        let path = "/orrery.v1.RuntimeService/PlanRuntime";
        let verdict = authorisation::workspace(&core.store, caller, path, name, Role::Viewer).await;
        verdict.granted?;
        let target = verdict.target.ok_or_else(|| Fault::no_workspace(name))?;
        let life = core.runtime(&target.name).await?.life;
        let life = life.filter(|life| life.state != "stopped" && life.pool == pool).ok_or_else(|| {
            Fault::field("without", format!("workspace `{name}` has no runtime that waits or runs in pool `{pool}`"))
        })?;
        gone.push(life.holder.0);
    }
    Ok(gone)
}

/// The models of the pool that its plan lets it have; none is any.
fn permitted(spec: &Spec, terms: &rules::Terms, plan: Option<domain::id::PlanId>) -> Vec<DeviceModel> {
    let plan = terms.plans.iter().find(|known| Some(known.id) == plan).filter(|plan| !plan.models.is_empty());
    let Some(plan) = plan else { return Vec::new() };
    let known = terms.offers.iter().map(|offer| &offer.model).chain(&spec.ask.models);
    let permitted: BTreeSet<&DeviceModel> = known.filter(|model| rules::listed(&plan.models, model.as_str())).collect();
    permitted.into_iter().cloned().collect()
}

fn alternatives(queue: &Queue) -> Vec<domain::id::QueueId> {
    if queue.definition.id == queues::DEFAULT { Vec::new() } else { vec![queues::DEFAULT] }
}

async fn ask(core: &Core, queue: &Queue, requests: &[Request], gone: &[Uuid]) -> Result<Plan, Fault> {
    let requests = serde_json::to_string(requests).map_err(|e| Fault::internal(&e))?;
    let gone = gone.iter().map(|holder| holder.as_bytes().to_vec()).collect();
    let command = PlanRuntimesRequest { pool: queue.pool.clone(), requests, gone, forwarded: false };
    let plan = core.commands.plan_runtimes(command).await?;
    serde_json::from_str(&plan).map_err(|e| Fault::internal(&e))
}

async fn one(
    db: &Client,
    caller: &Caller,
    plan: &Plan,
    holder: HolderId,
    now: Timestamp,
) -> Result<RuntimeForecast, Fault> {
    if let Some(assignment) = plan.assignments.iter().find(|assignment| assignment.holder == holder) {
        let forecast = placed(db, &assignment.place).await?;
        let stopped_at = assignment.stopped_at.map(to_proto);
        return Ok(RuntimeForecast { fits: true, stopped_at, starts_at: Some(to_proto(now)), ..forecast });
    }
    if let Some(preemption) = plan.preemptions.iter().find(|preemption| preemption.holder == holder) {
        let forecast = placed(db, &preemption.place).await?;
        let preempted = i32::try_from(preemption.victims.len()).unwrap_or(i32::MAX);
        let preempted_workspaces = runtime_views::names(db, &preemption.victims, caller.sees()).await?;
        return Ok(RuntimeForecast { fits: true, preempted, preempted_workspaces, ..forecast });
    }
    let refusal = plan.refusals.iter().find(|refusal| refusal.holder == holder);
    refusal
        .map(|refusal| refused(refusal, now))
        .ok_or_else(|| Fault::new(ErrorKind::Internal, "INTERNAL", "the planner said nothing about what it was asked"))
}

async fn placed(db: &Client, place: &Place) -> Result<RuntimeForecast, Fault> {
    let devices: Vec<_> = place.grants.iter().map(|grant| grant.device).collect();
    let names = fleet_views::device_names(db, &devices).await?;
    Ok(RuntimeForecast {
        node: fleet_views::node_name(db, place.node).await?.unwrap_or_default(),
        devices: devices.iter().filter_map(|device| names.get(device).cloned()).collect(),
        ..RuntimeForecast::default()
    })
}

fn refused(refusal: &Refusal, now: Timestamp) -> RuntimeForecast {
    let turn = refusal.hints.iter().find_map(|hint| match hint {
        Hint::Turn { position, at, .. } => Some((*position, *at)),
        _ => None,
    });
    let code = serde_json::to_value(refusal.code).ok().and_then(|code| code.as_str().map(str::to_owned));
    RuntimeForecast {
        fits: false,
        code: code.unwrap_or_default(),
        message: refusal.sentence.clone(),
        hints: refusal.hints.iter().map(|hint| hint.sentence(now)).collect(),
        position: turn.map_or(0, |(position, _)| i32::try_from(position).unwrap_or(i32::MAX)),
        starts_at: turn.and_then(|(_, at)| at).map(to_proto),
        ..RuntimeForecast::default()
    }
}
