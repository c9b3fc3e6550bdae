//! Whose start elsewhere would free whole devices, as the planner of a pool says. Refuses to plan by itself, and to move
//! anybody: whoever works there is asked first.

use crate::core::Core;
use crate::fault::Fault;
use placement::{Move, Plan};
use proto::internal::v1::PlanRuntimesRequest;
use proto::v1::{ConsolidationMove, PlanConsolidationResponse};
use std::collections::{BTreeSet, HashMap};
use store::{fleet_views, runtime_views};

/// The names of a device and of its node.
type Places = HashMap<domain::id::DeviceId, (String, String)>;

/// What could be done in a pool.
pub(crate) async fn plan(core: &Core, pool: &str) -> Result<PlanConsolidationResponse, Fault> {
    let command =
        PlanRuntimesRequest { pool: pool.to_owned(), requests: "[]".to_owned(), ..PlanRuntimesRequest::default() };
    let plan = core.commands.plan_runtimes(command).await?;
    let plan: Plan = serde_json::from_str(&plan).map_err(|e| Fault::internal(&e))?;
    let db = core.store.client().await?;
    let holders: Vec<_> = plan.moves.iter().map(|step| step.holder).collect();
    let mut whose = runtime_views::of_holders(&db, &holders).await?;
    let to = plan.moves.iter().flat_map(|step| &step.to.grants).map(|grant| grant.device);
    let devices: Vec<_> = plan.moves.iter().map(|step| step.device).chain(to).collect();
    let places = fleet_views::places(&db, &devices).await?;
    let freed: BTreeSet<_> = plan.moves.iter().map(|step| step.device).collect();
    let named = |step: &Move| Some(named(step, whose.remove(&step.holder)?, &places));
    Ok(PlanConsolidationResponse {
        moves: plan.moves.iter().filter_map(named).collect(),
        devices_freed: i32::try_from(freed.len()).unwrap_or(i32::MAX),
    })
}

fn named(step: &Move, whose: runtime_views::Whose, places: &Places) -> ConsolidationMove {
    let place = |device: Option<domain::id::DeviceId>| device.and_then(|d| places.get(&d)).cloned().unwrap_or_default();
    let grant = step.to.grants.first();
    let (node, device) = place(Some(step.device));
    let (to_node, to_device) = place(grant.map(|grant| grant.device));
    ConsolidationMove {
        workspace: whose.workspace,
        project: whose.project,
        queue: whose.queue,
        preemptible: whose.preemptible,
        milli: grant.map_or(0, |grant| i32::try_from(grant.milli).unwrap_or(i32::MAX)),
        node,
        device,
        to_node,
        to_device,
    }
}
