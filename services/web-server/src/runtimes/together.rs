//! Whether runtimes that are to start together could ever do so: what they ask for together, against what their queues, their
//! projects, the groups of these and whoever starts them may hold. Refuses to judge one of them alone: its own start does.

use crate::authorisation;
use crate::core::Core;
use crate::fault::Fault;
use crate::identity::Caller;
use domain::id::ProjectId;
use domain::quota::{Account, Quota, Usage};
use domain::role::Role;
use domain::runtime::Spec;
use domain::runtime::rules::{self, Denial, Terms};
use std::collections::{BTreeMap, BTreeSet};
use store::{queues, quotas, runtime_specs};

/// One of them, and by what it is judged.
struct Member {
    project: ProjectId,
    spec: Spec,
    terms: Terms,
}

/// The first limit that they exceed together. `None` too where one of them may not start alone: then none of them does, and
/// what the others ask for is nobody's business.
pub(super) async fn denial(
    core: &Core,
    caller: &Caller,
    workspaces: &[String],
    need: Role,
) -> Result<Option<Denial>, Fault> {
    let mut members = Vec::with_capacity(workspaces.len());
    for workspace in workspaces {
        match member(core, caller, workspace, need).await? {
            Some(member) => members.push(member),
            None => return Ok(None),
        }
    }
    let person = caller.user.id;
    let projects: BTreeSet<ProjectId> = members.iter().map(|member| member.project).collect();
    let shared = quotas::read(&core.store.client().await?, &Vec::from_iter(projects), &[person]).await?;
    let of_person = shared.quotas.get(&Account::Person(person)).map(|(quota, _)| quota.clone()).unwrap_or_default();
    let mut accounts: BTreeMap<Account, (&Quota, Usage)> = BTreeMap::new();
    let mut queues: BTreeMap<&str, (Option<u64>, Usage)> = BTreeMap::new();
    for Member { project, spec, terms } in &members {
        let usage = rules::usage(spec);
        let group = shared.owners.get(project).and_then(|owner| owner.group());
        let of_group = group.map(|group| (Account::Group(group), &terms.policy.group_quota));
        let own = [(Account::Project(*project), &terms.policy.quota), (Account::Person(person), &of_person)];
        for (account, quota) in own.into_iter().chain(of_group) {
            accounts.entry(account).or_insert_with(|| (quota, Usage::default())).1.add(&usage);
        }
        let queue = queues.entry(&terms.queue).or_insert_with(|| (terms.queue_limit_milli, Usage::default()));
        queue.1.add(&usage);
    }
    let quotas = accounts.iter().map(|(account, (quota, wanted))| rules::fits(quota, account.spoken(), wanted));
    let limits = queues.iter().map(|(queue, (limit, wanted))| rules::within_limit(queue, *limit, wanted));
    Ok(quotas.chain(limits).find_map(Result::err))
}

/// What starts in a workspace, if the caller may start it and the rules let it.
async fn member(core: &Core, caller: &Caller, workspace: &str, need: Role) -> Result<Option<Member>, Fault> {
    let path = "/orrery.v1.RuntimeService/StartRuntime";
    let verdict = authorisation::workspace(&core.store, caller, path, workspace, need).await;
    let Some((target, id)) = verdict.target.and_then(|target| target.workspace.map(|id| (target, id))) else {
        return Ok(None);
    };
    let db = core.store.client().await?;
    let Some(saved) = runtime_specs::get(&db, id).await?.filter(|_| verdict.granted.is_ok()) else { return Ok(None) };
    let Some(queue) = queues::get(&db, &saved.queue_name).await? else { return Ok(None) };
    let terms = runtime_specs::terms(&db, target.project, &queue).await?;
    // For its image, a registry may have to be asked: its own start does.
    let spec = Spec { image: String::new(), ..saved.spec };
    let may_start = rules::check(&target.name, &spec, &terms).is_ok();
    Ok(may_start.then_some(Member { project: target.project, spec, terms }))
}
