//! `orrery projects policy`, `orrery groups policy` and `orrery users quota`.

use crate::{
    arguments::{
        amounts::{Bound, Setting},
        gpus::{PolicyOptions, QuotaOptions},
    },
    commands::{
        gpus::{affected, notes},
        workspaces::gpus,
    },
    connection::{CALL_TIMEOUT, Connection},
    failure::Result,
    render::{
        Output,
        table::{self, Tone},
    },
};
use proto::v1::{
    GetGroupPolicyRequest, GetProjectPolicyRequest, GetProjectPolicyResponse, GetUserQuotaRequest, ProjectPolicy,
    ProjectUsage, Quota, SetGroupPolicyRequest, SetProjectPolicyRequest, SetUserQuotaRequest, SharedQuota,
};
use rpc::client::within;

/// Shows a project's policy, or changes it.
pub(crate) async fn of_project(
    connection: &Connection,
    output: &Output,
    project: String,
    policy: PolicyOptions,
) -> Result<()> {
    let request = GetProjectPolicyRequest { project: project.clone() };
    let answer = connection.policies().get_project_policy(within(CALL_TIMEOUT, request)).await?.into_inner();
    if policy.is_empty() {
        return output.answer("orrery.v1.GetProjectPolicyResponse", &answer, || show(&answer, output));
    }
    let force = policy.quota.force;
    let policy = Some(overlay(answer.policy.unwrap_or_default(), policy));
    let request = within(CALL_TIMEOUT, SetProjectPolicyRequest { project: project.clone(), policy, force });
    let answer = connection.policies().set_project_policy(request).await?.into_inner();
    output.answer("orrery.v1.SetProjectPolicyResponse", &answer, || {
        let (affected, notes) = (affected(&answer.affected, output), notes(&answer.warnings, output));
        format!("the policy of {project} is set{affected}{notes}")
    })
}

/// Shows a group's policy, or changes it.
pub(crate) async fn of_group(
    connection: &Connection,
    output: &Output,
    group: String,
    allow_root: Option<bool>,
    change: QuotaOptions,
) -> Result<()> {
    let request = GetGroupPolicyRequest { group: group.clone() };
    let known = connection.policies().get_group_policy(within(CALL_TIMEOUT, request)).await?.into_inner();
    if change.is_empty() && allow_root.is_none() {
        return output.answer("orrery.v1.GetGroupPolicyResponse", &known, || {
            let held = table(known.usage.as_ref(), known.quota.as_ref(), output);
            let root = if known.allow_root { "allowed, where its projects allow it" } else { "not allowed" };
            format!("{held}\nroot: {root}")
        });
    }
    let (allow_root, force) = (allow_root.unwrap_or(known.allow_root), change.force);
    let quota = (!change.is_empty()).then(|| changed(known.quota.unwrap_or_default(), change));
    let request = within(CALL_TIMEOUT, SetGroupPolicyRequest { group: group.clone(), allow_root, force, quota });
    let answer = connection.policies().set_group_policy(request).await?.into_inner();
    output.answer("orrery.v1.SetGroupPolicyResponse", &answer, || {
        let not = if allow_root { "" } else { " not" };
        let (named, all) = (answer.affected.len(), usize::try_from(answer.affected_count).unwrap_or(0));
        let more = if all > named { format!("\nand {} more", all - named) } else { String::new() };
        let (affected, notes) = (affected(&answer.affected, output), notes(&answer.warnings, output));
        format!("the policy of {group} is set; its projects may{not} let containers run as root{affected}{more}{notes}")
    })
}

/// Shows what a person may hold, or everybody without an address who has no quota of their own; or changes it.
pub(crate) async fn of_person(
    connection: &Connection,
    output: &Output,
    email: String,
    change: QuotaOptions,
    remove: bool,
) -> Result<()> {
    let request = GetUserQuotaRequest { email: email.clone() };
    let known = connection.policies().get_user_quota(within(CALL_TIMEOUT, request)).await?.into_inner();
    if change.is_empty() && !remove {
        return output.answer("orrery.v1.GetUserQuotaResponse", &known, || {
            let held = table(known.usage.as_ref(), known.quota.as_ref(), output);
            let whose = match (email.is_empty(), known.own) {
                (true, _) => "everybody's who has none of their own",
                (false, true) => "the person's own",
                (false, false) => "everybody's",
            };
            format!("{held}\nquota: {whose}")
        });
    }
    let (whose, force) = (if email.is_empty() { "everybody".to_owned() } else { email.clone() }, change.force);
    let quota = (!remove).then(|| changed(known.quota.unwrap_or_default(), change));
    let request = within(CALL_TIMEOUT, SetUserQuotaRequest { email, quota, force });
    let answer = connection.policies().set_user_quota(request).await?.into_inner();
    output.answer("orrery.v1.SetUserQuotaResponse", &answer, || {
        let (affected, notes) = (affected(&answer.affected, output), notes(&answer.warnings, output));
        let done = if remove { "is taken away" } else { "is set" };
        format!("the quota of {whose} {done}{affected}{notes}")
    })
}

fn changed(mut quota: Quota, change: QuotaOptions) -> Quota {
    if !change.model_gpu.is_empty() {
        quota.model_gpu_milli = change.model_gpu.into_iter().filter_map(Setting::value).collect();
    }
    quota.gpu_milli = Bound::over(change.gpu, quota.gpu_milli);
    quota.cpu_milli = Bound::over(change.cpu, quota.cpu_milli);
    quota.memory_bytes = Bound::over(change.memory, quota.memory_bytes);
    quota.storage_bytes = Bound::over(change.storage, quota.storage_bytes);
    quota.runtimes = Bound::over(change.runtimes, quota.runtimes);
    quota
}

fn overlay(mut policy: ProjectPolicy, change: PolicyOptions) -> ProjectPolicy {
    if change.any_image || !change.image.is_empty() {
        policy.images = change.image;
    }
    policy.allow_root = change.allow_root.unwrap_or(policy.allow_root);
    let quota = changed(quota_of(&policy), change.quota);
    policy.model_gpu_milli = quota.model_gpu_milli;
    policy.gpu_milli = quota.gpu_milli;
    policy.cpu_milli = quota.cpu_milli;
    policy.memory_bytes = quota.memory_bytes;
    policy.storage_bytes = quota.storage_bytes;
    policy.runtimes = quota.runtimes;
    let small = |old: Option<i32>, new: Option<Bound>| new.map_or(old, |bound| bound.small());
    policy.disruptions_per_hour = small(policy.disruptions_per_hour, change.disruptions);
    policy.over_quota_grace_s = small(policy.over_quota_grace_s, change.over_quota_grace);
    policy.idle_timeout_s_max = small(policy.idle_timeout_s_max, change.idle_timeout_max);
    policy.lifetime_s_max = small(policy.lifetime_s_max, change.lifetime_max);
    policy
}

/// What is held against what may be; what is held is left out where nobody is meant.
fn table(usage: Option<&ProjectUsage>, quota: Option<&Quota>, output: &Output) -> String {
    let is_known = usage.is_some();
    let (usage, quota) = (usage.cloned().unwrap_or_default(), quota.cloned().unwrap_or_default());
    let mebibytes = |bytes: i64| format!("{} MiB", bytes >> 20);
    let mut table = table::new(output.style, &["", "held", "limit"]);
    let mut row = |name: &str, held: String, limit: Option<String>| {
        let held = if is_known { held } else { String::new() };
        table.add_row([
            table::cell(name, Tone::Plain),
            table::number(held),
            table::number(limit.unwrap_or_else(|| "none".to_owned())),
        ]);
    };
    row("effective GPU", gpus(usage.gpu_milli), quota.gpu_milli.map(gpus));
    let mut models: Vec<&String> = quota.model_gpu_milli.keys().chain(usage.model_gpu_milli.keys()).collect();
    models.sort_unstable();
    models.dedup();
    for model in models {
        let held = usage.model_gpu_milli.get(model).copied().unwrap_or_default();
        row(&format!("of {model}"), gpus(held), quota.model_gpu_milli.get(model).copied().map(gpus));
    }
    row("cores", gpus(usage.cpu_milli), quota.cpu_milli.map(gpus));
    row("memory", mebibytes(usage.memory_bytes), quota.memory_bytes.map(mebibytes));
    row("storage", mebibytes(usage.storage_bytes), quota.storage_bytes.map(mebibytes));
    if usage.volume_bytes > 0 {
        row("in volumes", mebibytes(usage.volume_bytes), None);
    }
    row("runtimes", usage.runtimes.to_string(), quota.runtimes.map(|count| count.to_string()));
    table::text(&table, "")
}

/// The part of a project's policy that is a quota.
fn quota_of(policy: &ProjectPolicy) -> Quota {
    Quota {
        gpu_milli: policy.gpu_milli,
        model_gpu_milli: policy.model_gpu_milli.clone(),
        cpu_milli: policy.cpu_milli,
        memory_bytes: policy.memory_bytes,
        storage_bytes: policy.storage_bytes,
        runtimes: policy.runtimes,
        version: policy.version,
    }
}

/// A quota that counts beside the project's.
fn beside(heading: &str, shared: Option<&SharedQuota>, output: &Output) -> String {
    let text = |shared: &SharedQuota| table(shared.usage.as_ref(), shared.quota.as_ref(), output);
    shared.map_or_else(String::new, |shared| format!("\n\n{heading}\n{}", text(shared)))
}

fn show(answer: &GetProjectPolicyResponse, output: &Output) -> String {
    let policy = answer.policy.clone().unwrap_or_default();
    let none = || "none".to_owned();
    let or = |list: &[String], nothing: &str| if list.is_empty() { nothing.to_owned() } else { list.join(", ") };
    let root = match (policy.allow_root, answer.group_allows_root) {
        (true, true) => "allowed",
        (true, false) => "allowed by the project, and not by its group",
        (false, _) => "not allowed",
    };
    let seconds = |bound: Option<i32>| bound.map_or_else(none, |seconds| format!("{seconds} s"));
    format!(
        "{}\nimages: {}\nroot: {root}\nplans: {}\nlongest idle time-out: {}\nlongest lifetime: {}\nstopped for others per hour: {}\nholding more than a smaller quota: {}{}{}",
        table(answer.usage.as_ref(), Some(&quota_of(&policy)), output),
        or(&policy.images, "any"),
        or(&answer.plans, "none; the default queue is open"),
        seconds(policy.idle_timeout_s_max),
        seconds(policy.lifetime_s_max),
        policy.disruptions_per_hour.map_or_else(|| "any number".to_owned(), |count| count.to_string()),
        policy.over_quota_grace_s.map_or_else(|| "goes on".to_owned(), |s| format!("stopped after {s} s")),
        beside("all projects of the group that owns it:", answer.group_quota.as_ref(), output),
        beside("you, in all projects:", answer.your_quota.as_ref(), output),
    )
}
