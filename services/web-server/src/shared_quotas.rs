//! Quotas over several projects, those of groups and of persons: get and set. Refuses to write a project's own.

use crate::changed::Changed;
use crate::core::Core;
use crate::disturbed;
use crate::fault::Fault;
use crate::people;
use crate::plans::absent;
use crate::runtimes::spec::{large, signed};
use domain::ErrorKind;
use domain::device::DeviceModel;
use domain::id::{GroupId, ProjectId, UserId};
use domain::quota::{Account, Excess, Quota, Usage};
use domain::runtime::rules;
use proto::v1::{
    self, AffectedRuntime, GetGroupPolicyResponse, GetUserQuotaResponse, SetGroupPolicyRequest, SetGroupPolicyResponse,
    SetUserQuotaRequest, SetUserQuotaResponse,
};
use store::quotas::{self, EVERYBODY, GroupPolicy};
use store::runtime_views::{self, Alive, Concerned};
use store::{Client, Transaction, fleet_views, groups, users};
use tonic::Response;

/// Models with a quota of their own.
const MODELS_MAX: usize = 100;

/// What is held, as the wire has it.
pub(crate) fn used(usage: Usage, volume_bytes: u64) -> v1::ProjectUsage {
    let models = usage.model_milli.into_iter().map(|(model, milli)| (model.to_string(), signed(milli)));
    v1::ProjectUsage {
        gpu_milli: signed(usage.gpu_milli),
        model_gpu_milli: models.collect(),
        cpu_milli: signed(usage.cpu_milli),
        memory_bytes: signed(usage.memory_bytes),
        storage_bytes: signed(usage.storage_bytes),
        runtimes: signed(usage.holders),
        volume_bytes: signed(volume_bytes),
    }
}

fn message(quota: Quota, version: i64) -> v1::Quota {
    let models = quota.model_milli.into_iter().map(|(model, milli)| (model.to_string(), signed(milli)));
    v1::Quota {
        gpu_milli: quota.gpu_milli.map(signed),
        model_gpu_milli: models.collect(),
        cpu_milli: quota.cpu_milli.map(signed),
        memory_bytes: quota.memory_bytes.map(signed),
        storage_bytes: quota.storage_bytes.map(signed),
        runtimes: quota.holders.map(signed),
        version,
    }
}

fn decode(quota: &v1::Quota) -> Result<Quota, Fault> {
    if quota.model_gpu_milli.len() > MODELS_MAX {
        return Err(Fault::field("quota.model_gpu_milli", format!("must be at most {MODELS_MAX} models")));
    }
    let many = |value: Option<i64>, field: &str| value.map(|value| large(value, &format!("quota.{field}"))).transpose();
    let models = quota.model_gpu_milli.iter();
    let models = models.map(|(model, milli)| Ok((DeviceModel::new(model), large(*milli, "quota.model_gpu_milli")?)));
    Ok(Quota {
        gpu_milli: many(quota.gpu_milli, "gpu_milli")?,
        model_milli: models.collect::<Result<_, Fault>>()?,
        cpu_milli: many(quota.cpu_milli, "cpu_milli")?,
        memory_bytes: many(quota.memory_bytes, "memory_bytes")?,
        storage_bytes: many(quota.storage_bytes, "storage_bytes")?,
        holders: many(quota.runtimes, "runtimes")?,
    })
}

/// Of the group that owns a project and of the caller: their quotas, where these limit anything, and what is held of them.
pub(crate) async fn around(
    db: &Client,
    project: ProjectId,
    caller: UserId,
) -> Result<(Option<v1::SharedQuota>, Option<v1::SharedQuota>), Fault> {
    let mut shared = quotas::read(db, &[project], &[caller]).await?;
    let owner = shared.owners.get(&project).copied();
    let group = match owner.and_then(Account::group) {
        Some(group) => quotas::held_by_group(db, group).await?.1,
        None => 0,
    };
    let mut of = |account: Account, volume_bytes: u64| {
        let (quota, usage) = shared.quotas.remove(&account)?;
        Some(v1::SharedQuota { quota: Some(message(quota, 0)), usage: Some(used(usage, volume_bytes)) })
    };
    let of_group = owner.filter(|owner| owner.group().is_some()).and_then(|owner| of(owner, group));
    Ok((of_group, of(Account::Person(caller), 0)))
}

/// A warning for each model that no node has.
pub(crate) async fn warnings(db: &Transaction<'_>, quota: &Quota) -> Result<Vec<String>, Fault> {
    let known = fleet_views::models(db).await?;
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let named = quota.model_milli.keys().map(DeviceModel::as_str);
    Ok(absent(named, &known, |name, model| name == model))
}

/// What is held and what is allowed, in the first dimension in which the new quota is less than what is held, and less than the
/// old one.
pub(crate) fn newly_over(usage: &Usage, old: &Quota, new: &Quota) -> Option<(String, String)> {
    let nothing = Usage::default();
    let before: Vec<Excess> = old.excesses(&nothing, usage).collect();
    let was_less = |excess: &Excess| before.iter().any(|old| old.what == excess.what && old.limit <= excess.limit);
    let excess = new.excesses(&nothing, usage).find(|excess| !was_less(excess))?;
    Some(held_and_allowed(&excess))
}

/// Both in words.
pub(crate) fn held_and_allowed(excess: &Excess) -> (String, String) {
    (excess.spoken(excess.wanted), excess.spoken(excess.limit))
}

/// What a quota that becomes smaller means to a life: it could not start again, or else `over`, where more is held.
fn smaller(life: &Alive, whose: Account, [old, new]: [&Quota; 2], over: Option<&String>) -> Option<String> {
    let fits = |quota: &Quota| rules::fits(quota, whose.spoken(), &rules::usage(&life.spec));
    let barred = fits(new).err().filter(|_| fits(old).is_ok());
    let barred = barred.map(|denial| disturbed::barred(life, &denial.sentence));
    barred.or_else(|| Some(disturbed::kept_back(life, "goes on", over?)))
}

fn unchanged_since(edited: i64, version: i64, what: &str) -> Result<(), Fault> {
    if edited > 0 && edited != version {
        let message = format!("{what} is not in the version that was edited; read it again");
        return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
    }
    Ok(())
}

/// A group's policy, and what its projects hold.
pub(crate) async fn of_group(core: &Core, name: &str) -> Result<GetGroupPolicyResponse, Fault> {
    let db = core.store.client().await?;
    let group = groups::get(&db, name).await?.ok_or_else(|| Fault::no_group(name))?;
    let GroupPolicy { allow_root, quota, version } = quotas::of_group(&db, group.id).await?.unwrap_or_default();
    let (usage, volume_bytes) = quotas::held_by_group(&db, group.id).await?;
    let (quota, usage) = (Some(message(quota, version)), Some(used(usage, volume_bytes)));
    Ok(GetGroupPolicyResponse { allow_root, quota, usage })
}

/// Sets whether projects of a group may let containers run as root, and what they may hold together.
pub(crate) async fn set_group(
    core: &Core,
    request: SetGroupPolicyRequest,
) -> Result<Response<SetGroupPolicyResponse>, Fault> {
    let mut db = core.store.client().await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    let name = &request.group;
    let group = groups::get(&transaction, name).await?.ok_or_else(|| Fault::no_group(name))?.id;
    quotas::lock_group(&transaction, group).await?;
    let stored = quotas::of_group(&transaction, group).await?;
    let had_root = stored.as_ref().map(|policy| policy.allow_root);
    let old = stored.unwrap_or_default();
    let quota = match &request.quota {
        Some(quota) => {
            unchanged_since(quota.version, old.version, &format!("the policy of group `{name}`"))?;
            decode(quota)?
        }
        None => old.quota.clone(),
    };
    let new = GroupPolicy { allow_root: request.allow_root, quota, version: old.version };
    let (affected, affected_count) = of_projects(&transaction, group, &old, &new).await?;
    disturbed::unless_forced_all(&affected, affected_count, request.force)?;
    quotas::set_group(&transaction, group, &new).await?;
    let warnings = warnings(&transaction, &new.quota).await?;
    let set = quotas::of_group(&transaction, group).await?.unwrap_or_default();
    transaction.commit().await.map_err(store::Error::from)?;
    let (was, is) = (message(old.quota, old.version), message(set.quota, set.version));
    let changed = Changed::of("allow_root", had_root, Some(request.allow_root));
    let changed = changed.and(Changed::between("orrery.v1.Quota", "quota", Some(&was), Some(&is)));
    Ok(changed.told_with(SetGroupPolicyResponse { affected, affected_count, quota: Some(is), warnings }))
}

/// To whom another policy of a group means something, and how many they are.
async fn of_projects(
    db: &Transaction<'_>,
    group: GroupId,
    old: &GroupPolicy,
    new: &GroupPolicy,
) -> Result<(Vec<AffectedRuntime>, i64), Fault> {
    let (rooted, mut count) = match old.allow_root && !new.allow_root {
        true => runtime_views::rooted(db, group).await?,
        false => (Vec::new(), 0),
    };
    let why = "the group that owns the project does not let containers run as root";
    let mut affected = disturbed::affected(&rooted, |life| Some(disturbed::barred(life, why)));
    if old.quota == new.quota {
        return Ok((affected, count));
    }
    let alive = runtime_views::alive(db, &Concerned { group: Some(group), ..Concerned::default() }).await?;
    let (usage, _) = quotas::held_by_group(db, group).await?;
    let over = newly_over(&usage, &old.quota, &new.quota)
        .map(|(held, limit)| format!("nothing new starts in projects of the group, which hold {held} of {limit} then"));
    let account = Account::Group(group);
    let is_told = |life: &Alive| rooted.iter().any(|told| told.workspace == life.workspace);
    let by_quota = disturbed::affected(&alive, |life| {
        let smaller = || smaller(life, account, [&old.quota, &new.quota], over.as_ref());
        if is_told(life) { None } else { smaller() }
    });
    count += i64::try_from(by_quota.len()).unwrap_or(i64::MAX);
    affected.extend(by_quota);
    Ok((affected, count))
}

/// Whose quota it is: of the person with this address, or everybody's without one.
async fn person(db: &Client, email: &str) -> Result<UserId, Fault> {
    if email.is_empty() {
        return Ok(EVERYBODY);
    }
    let email = people::email(email, "email")?;
    Ok(users::get(db, &email).await?.ok_or_else(|| Fault::no_user(&email))?.id)
}

/// The quota that a person has, or that everybody has without one, and what the person holds.
pub(crate) async fn of_person(core: &Core, email: &str) -> Result<GetUserQuotaResponse, Fault> {
    let db = core.store.client().await?;
    let person = person(&db, email).await?;
    let own = quotas::own_of_person(&db, person).await?;
    let is_own = own.is_some() && person != EVERYBODY;
    let everybodys = quotas::own_of_person(&db, EVERYBODY).await?;
    let (quota, version) = own.or(everybodys).unwrap_or_default();
    let usage = if person == EVERYBODY {
        None
    } else {
        Some(quotas::held_by_persons(&db, &[person]).await?.remove(&person).unwrap_or_default())
    };
    // What is edited is the person's own: everybody's version says nothing about that.
    let version = if is_own || person == EVERYBODY { version } else { 0 };
    let (quota, usage) = (Some(message(quota, version)), usage.map(|usage| used(usage, 0)));
    Ok(GetUserQuotaResponse { quota, own: is_own, usage })
}

/// Sets what a person may hold, or everybody who has no quota of their own.
pub(crate) async fn set_person(
    core: &Core,
    request: SetUserQuotaRequest,
) -> Result<Response<SetUserQuotaResponse>, Fault> {
    let wanted = request.quota.as_ref().map(decode).transpose()?;
    let mut db = core.store.client().await?;
    let person = person(&db, &request.email).await?;
    let transaction = db.transaction().await.map_err(store::Error::from)?;
    quotas::lock_persons(&transaction).await?;
    let old = quotas::own_of_person(&transaction, person).await?;
    let version = old.as_ref().map_or(0, |(_, version)| *version);
    unchanged_since(request.quota.as_ref().map_or(0, |quota| quota.version), version, "the quota")?;
    let everybodys = if person == EVERYBODY { None } else { quotas::own_of_person(&transaction, EVERYBODY).await? };
    let in_force =
        |own: Option<&Quota>| own.or(everybodys.as_ref().map(|(quota, _)| quota)).cloned().unwrap_or_default();
    let (before, after) = (in_force(old.as_ref().map(|(quota, _)| quota)), in_force(wanted.as_ref()));
    let affected = of_persons(&transaction, person, &before, &after).await?;
    disturbed::unless_forced(&affected, request.force)?;
    quotas::set_person(&transaction, person, wanted.as_ref()).await?;
    let warnings = warnings(&transaction, &after).await?;
    let set = quotas::own_of_person(&transaction, person).await?;
    transaction.commit().await.map_err(store::Error::from)?;
    let [was, quota] = [old, set].map(|own| own.map(|(quota, version)| message(quota, version)));
    let changed = Changed::between("orrery.v1.Quota", "quota", was.as_ref(), quota.as_ref());
    Ok(changed.told_with(SetUserQuotaResponse { quota, affected, warnings }))
}

/// To whose runtimes another quota means something.
async fn of_persons(
    db: &Transaction<'_>,
    person: UserId,
    old: &Quota,
    new: &Quota,
) -> Result<Vec<AffectedRuntime>, Fault> {
    if old == new {
        return Ok(Vec::new());
    }
    let persons = if person == EVERYBODY { quotas::persons_without(db).await? } else { vec![person] };
    let held = quotas::held_by_persons(db, &persons).await?;
    let mut affected = Vec::new();
    for person in persons {
        let alive = runtime_views::alive(db, &Concerned { person: Some(person), ..Concerned::default() }).await?;
        let over = held.get(&person).and_then(|usage| newly_over(usage, old, new)).map(|(held, limit)| {
            format!("nothing new of the person who started it starts, who holds {held} of {limit} then")
        });
        let account = Account::Person(person);
        affected.extend(disturbed::affected(&alive, |life| smaller(life, account, [old, new], over.as_ref())));
    }
    Ok(affected)
}
