//! Projects' policies: get and set; those of groups and persons are `shared_quotas`'. Refuses to judge a runtime by anything
//! but the domain's rules.

use crate::changed::Changed;
use crate::core::Core;
use crate::disturbed;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::plans::{check_list, lifetime};
use crate::runtimes::images;
use crate::runtimes::spec::{large, signed, signed_small, small};
use crate::shared_quotas;
use domain::ErrorKind;
use domain::device::DeviceModel;
use domain::quota::{Quota, Usage};
use domain::runtime::life::{NOTICE, least};
use domain::runtime::reason::Reason;
use domain::runtime::rules;
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    self, AffectedRuntime, GetGroupPolicyRequest, GetGroupPolicyResponse, GetProjectPolicyRequest,
    GetProjectPolicyResponse, GetUserQuotaRequest, GetUserQuotaResponse, SetGroupPolicyRequest, SetGroupPolicyResponse,
    SetProjectPolicyRequest, SetProjectPolicyResponse, SetUserQuotaRequest, SetUserQuotaResponse,
    policy_service_server::PolicyService,
};
use std::sync::Arc;
use store::policies::{self, Policy};
use store::projects::{self, Project};
use store::runtime_views::{self, Alive, Concerned};
use store::{Transaction, plans};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.PolicyService`.
pub(crate) struct Policies(pub(crate) Arc<Core>);

/// Models with a quota of their own.
const MODELS_MAX: usize = 100;

fn message(policy: Policy) -> v1::ProjectPolicy {
    let (rules, quota) = (policy.rules.clone(), policy.rules.quota);
    let models = quota.model_milli.into_iter().map(|(model, milli)| (model.to_string(), signed(milli)));
    v1::ProjectPolicy {
        images: rules.images,
        allow_root: rules.allow_root,
        gpu_milli: quota.gpu_milli.map(signed),
        model_gpu_milli: models.collect(),
        cpu_milli: quota.cpu_milli.map(signed),
        memory_bytes: quota.memory_bytes.map(signed),
        storage_bytes: quota.storage_bytes.map(signed),
        runtimes: quota.holders.map(signed),
        disruptions_per_hour: policy.disruptions_per_hour.map(signed_small),
        idle_timeout_s_max: rules.idle_timeout_max_s.map(signed_small),
        lifetime_s_max: rules.lifetime_max_s.map(signed_small),
        version: policy.version,
        over_quota_grace_s: policy.over_quota_grace_s.map(signed_small),
    }
}

fn decode(policy: v1::ProjectPolicy) -> Result<Policy, Fault> {
    check_list(&policy.images, "policy.images")?;
    if policy.model_gpu_milli.len() > MODELS_MAX {
        return Err(Fault::field("policy.model_gpu_milli", format!("must be at most {MODELS_MAX} models")));
    }
    let many =
        |value: Option<i64>, field: &str| value.map(|value| large(value, &format!("policy.{field}"))).transpose();
    let models = policy
        .model_gpu_milli
        .iter()
        .map(|(model, milli)| Ok((DeviceModel::new(model), large(*milli, "policy.model_gpu_milli")?)));
    let quota = Quota {
        gpu_milli: many(policy.gpu_milli, "gpu_milli")?,
        model_milli: models.collect::<Result<_, Fault>>()?,
        cpu_milli: many(policy.cpu_milli, "cpu_milli")?,
        memory_bytes: many(policy.memory_bytes, "memory_bytes")?,
        storage_bytes: many(policy.storage_bytes, "storage_bytes")?,
        holders: many(policy.runtimes, "runtimes")?,
    };
    let seconds = |value: Option<i32>, field: &str| value.map(|s| lifetime(s, &format!("policy.{field}"))).transpose();
    let over_quota_grace_s = seconds(policy.over_quota_grace_s, "over_quota_grace_s")?;
    let rules = rules::Policy {
        images: policy.images,
        allow_root: policy.allow_root,
        group_allows_root: None,
        quota,
        group_quota: Quota::default(),
        idle_timeout_max_s: seconds(policy.idle_timeout_s_max, "idle_timeout_s_max")?,
        lifetime_max_s: seconds(policy.lifetime_s_max, "lifetime_s_max")?,
    };
    let disruptions = policy.disruptions_per_hour.map(|count| small(count, "policy.disruptions_per_hour"));
    Ok(Policy { rules, disruptions_per_hour: disruptions.transpose()?, over_quota_grace_s, version: policy.version })
}

impl Policies {
    async fn get(&self, caller: &Caller, name: &str) -> Result<GetProjectPolicyResponse, Fault> {
        let db = self.0.store.client().await?;
        let project = projects::get(&db, name).await?.ok_or_else(|| Fault::no_project(name))?;
        let policy = policies::get(&db, project.id).await?.unwrap_or_default();
        let (usage, volume_bytes) = policies::usage(&db, project.id).await?;
        let (group_quota, your_quota) = shared_quotas::around(&db, project.id, caller.user.id).await?;
        Ok(GetProjectPolicyResponse {
            group_allows_root: policy.rules.group_allows_root.unwrap_or(true),
            policy: Some(message(policy)),
            usage: Some(shared_quotas::used(usage, volume_bytes)),
            plans: plans::names(&db, project.id).await?,
            group_quota,
            your_quota,
        })
    }

    async fn set(&self, request: SetProjectPolicyRequest) -> Result<Response<SetProjectPolicyResponse>, Fault> {
        let wanted = decode(request.policy.ok_or_else(|| Fault::field("policy", "must say what it shall be"))?)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let name = &request.project;
        let project = projects::get(&transaction, name).await?.ok_or_else(|| Fault::no_project(name))?;
        if !projects::lock(&transaction, project.id).await? {
            return Err(Fault::no_project(name));
        }
        let old = policies::get(&transaction, project.id).await?.unwrap_or_default();
        if wanted.version > 0 && wanted.version != old.version {
            let message =
                format!("the policy of project `{name}` is not in the version that was edited; read it again");
            return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
        }
        check_images(&old.rules.images, &wanted.rules.images)?;
        let affected = affected(&transaction, &project, &old, &wanted).await?;
        disturbed::unless_forced(&affected, request.force)?;
        policies::set(&transaction, project.id, &wanted).await?;
        let warnings = shared_quotas::warnings(&transaction, &wanted.rules.quota).await?;
        let policy = policies::get(&transaction, project.id).await?.map(message);
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::between("orrery.v1.ProjectPolicy", "policy", Some(&message(old)), policy.as_ref());
        Ok(changed.told_with(SetProjectPolicyResponse { policy, affected, warnings }))
    }
}

/// Refuses entries that no image could be. What was set before may stay: it is not what is edited.
fn check_images(old: &[String], new: &[String]) -> Result<(), Fault> {
    let mut added = new.iter().filter(|image| !old.contains(image));
    match added.find_map(|image| Some((image, rules::never_matches(image)?))) {
        Some((image, why)) => {
            Err(Fault::field("policy.images", format!("must not have `{image}`, which no image could be: {why}")))
        }
        None => Ok(()),
    }
}

/// To whom a change of a policy means something: quotas that are less than what is held, and rules that are broken then.
async fn affected(
    db: &Transaction<'_>,
    project: &Project,
    old: &Policy,
    new: &Policy,
) -> Result<Vec<AffectedRuntime>, Fault> {
    let concerned = Concerned { project: Some(project.id), ..Concerned::default() };
    let alive = runtime_views::alive(db, &concerned).await?;
    let (usage, _) = policies::usage(db, project.id).await?;
    let over = newly_over(&usage, old, new);
    let new_rules = rules::Policy {
        group_allows_root: old.rules.group_allows_root,
        group_quota: old.rules.group_quota.clone(),
        ..new.rules.clone()
    };
    let now = Timestamp::now();
    Ok(disturbed::affected(&alive, |life| {
        let sooner = sooner(&old.rules, &new_rules, life, now);
        let effect = match (sooner, breaks(&old.rules, &new_rules, life)) {
            (Some(sooner), Some(why)) => Some(format!("{sooner}, and cannot start again: {why}")),
            (sooner, why) => sooner.or_else(|| Some(disturbed::barred(life, &why?))),
        };
        effect.or_else(|| over.as_ref().map(|(becomes, meanwhile)| disturbed::kept_back(life, becomes, meanwhile)))
    }))
}

/// What shorter times mean to a life, whether or not it could have started under the old ones.
fn sooner(old: &rules::Policy, new: &rules::Policy, life: &Alive, now: Timestamp) -> Option<String> {
    if life.state == "stopping" {
        return None;
    }
    let shorter = |own: u32, old: Option<u32>, new: Option<u32>| {
        let (before, after) = (least(own, old), least(own, new));
        after.filter(|after| before.is_none_or(|before| *after < before))
    };
    let lifetime = shorter(life.spec.lifetime_s, old.lifetime_max_s, new.lifetime_max_s);
    let idle = shorter(life.spec.idle_timeout_s, old.idle_timeout_max_s, new.idle_timeout_max_s);
    let lifetime = lifetime.and_then(|seconds| outlived(life, seconds, now));
    let idle = idle.map(|seconds| match life.running_at {
        Some(_) => format!("will be stopped when it was idle for {seconds} s, at {:.0} at the soonest", now + NOTICE),
        None => format!("will be stopped when it was idle for {seconds} s"),
    });
    lifetime.or(idle)
}

/// When a life ends that may run for so long, if nothing else ends it before.
fn outlived(life: &Alive, seconds: u32, now: Timestamp) -> Option<String> {
    let Some(running_at) = life.running_at else { return Some(format!("will be stopped after {seconds} s")) };
    let over = running_at + SignedDuration::from_secs(i64::from(seconds));
    let end = over.max(now + NOTICE);
    let known = life.ends_at.filter(|_| life.ends_because != Reason::Idle.as_str());
    known.is_none_or(|known| end < known).then(|| format!("will be stopped at {end:.0}"))
}

/// What a life would break of the new rules, and did not of the old ones.
fn breaks(old: &rules::Policy, new: &rules::Policy, life: &Alive) -> Option<String> {
    // What runs is its image's content; what is allowed may be the tag that named it.
    let named = images::as_named(&life.spec);
    let judged = |policy: &rules::Policy| policy.check(&life.spec).or_else(|_| policy.check(&named));
    let denial = judged(new).err()?;
    judged(old).is_ok().then_some(denial.sentence)
}

/// What becomes of what runs where more is held than the new quota allows, and the old one allowed more, or longer; and what
/// holds meanwhile.
fn newly_over(usage: &Usage, old: &Policy, new: &Policy) -> Option<(String, String)> {
    let grace = |policy: &Policy| policy.over_quota_grace_s.unwrap_or(u32::MAX);
    let excess = || new.rules.quota.excess(&Usage::default(), usage).filter(|_| grace(new) < grace(old));
    let smaller = shared_quotas::newly_over(usage, &old.rules.quota, &new.rules.quota);
    let (held, limit) = smaller.or_else(|| Some(shared_quotas::held_and_allowed(&excess()?)))?;
    let becomes = match new.over_quota_grace_s {
        Some(seconds) => format!("may be stopped after {seconds} s, those that were placed last first"),
        None => "goes on".to_owned(),
    };
    Some((becomes, format!("nothing new starts in the project, which holds {held} of {limit} then")))
}

#[async_trait]
impl PolicyService for Policies {
    async fn get_project_policy(
        &self,
        request: Request<GetProjectPolicyRequest>,
    ) -> Result<Response<GetProjectPolicyResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.get(&caller, &request.get_ref().project).await?))
    }

    async fn set_project_policy(
        &self,
        request: Request<SetProjectPolicyRequest>,
    ) -> Result<Response<SetProjectPolicyResponse>, Status> {
        Ok(self.set(request.into_inner()).await?)
    }

    async fn set_group_policy(
        &self,
        request: Request<SetGroupPolicyRequest>,
    ) -> Result<Response<SetGroupPolicyResponse>, Status> {
        Ok(shared_quotas::set_group(&self.0, request.into_inner()).await?)
    }

    async fn get_group_policy(
        &self,
        request: Request<GetGroupPolicyRequest>,
    ) -> Result<Response<GetGroupPolicyResponse>, Status> {
        Ok(Response::new(shared_quotas::of_group(&self.0, &request.get_ref().group).await?))
    }

    async fn get_user_quota(
        &self,
        request: Request<GetUserQuotaRequest>,
    ) -> Result<Response<GetUserQuotaResponse>, Status> {
        Ok(Response::new(shared_quotas::of_person(&self.0, &request.get_ref().email).await?))
    }

    async fn set_user_quota(
        &self,
        request: Request<SetUserQuotaRequest>,
    ) -> Result<Response<SetUserQuotaResponse>, Status> {
        Ok(shared_quotas::set_person(&self.0, request.into_inner()).await?)
    }
}
