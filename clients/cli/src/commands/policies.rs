//! `orrery projects policy` and `orrery groups policy`.

use crate::{
    arguments::{
        amounts::{Bound, Setting},
        gpus::PolicyOptions,
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
    GetProjectPolicyRequest, GetProjectPolicyResponse, ProjectPolicy, SetGroupPolicyRequest, SetProjectPolicyRequest,
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
    let force = policy.force;
    let policy = Some(overlay(answer.policy.unwrap_or_default(), policy));
    let request = within(CALL_TIMEOUT, SetProjectPolicyRequest { project: project.clone(), policy, force });
    let answer = connection.policies().set_project_policy(request).await?.into_inner();
    output.answer("orrery.v1.SetProjectPolicyResponse", &answer, || {
        let (affected, notes) = (affected(&answer.affected, output), notes(&answer.warnings, output));
        format!("the policy of {project} is set{affected}{notes}")
    })
}

/// Sets whether projects of a group may let containers run as root.
pub(crate) async fn of_group(
    connection: &Connection,
    output: &Output,
    group: String,
    allow_root: bool,
    force: bool,
) -> Result<()> {
    let request = within(CALL_TIMEOUT, SetGroupPolicyRequest { group: group.clone(), allow_root, force });
    let answer = connection.policies().set_group_policy(request).await?.into_inner();
    output.answer("orrery.v1.SetGroupPolicyResponse", &answer, || {
        let not = if allow_root { "" } else { " not" };
        let (named, all) = (answer.affected.len(), usize::try_from(answer.affected_count).unwrap_or(0));
        let more = if all > named { format!("\nand {} more", all - named) } else { String::new() };
        format!("projects of {group} may{not} let containers run as root{}{more}", affected(&answer.affected, output))
    })
}

fn overlay(mut policy: ProjectPolicy, change: PolicyOptions) -> ProjectPolicy {
    if change.any_image || !change.image.is_empty() {
        policy.images = change.image;
    }
    if !change.model_gpu.is_empty() {
        policy.model_gpu_milli = change.model_gpu.into_iter().filter_map(Setting::value).collect();
    }
    policy.allow_root = change.allow_root.unwrap_or(policy.allow_root);
    let large = |old: Option<i64>, new: Option<Bound>| Bound::over(new, old);
    let small = |old: Option<i32>, new: Option<Bound>| new.map_or(old, |bound| bound.small());
    policy.gpu_milli = large(policy.gpu_milli, change.gpu);
    policy.cpu_milli = large(policy.cpu_milli, change.cpu);
    policy.memory_bytes = large(policy.memory_bytes, change.memory);
    policy.storage_bytes = large(policy.storage_bytes, change.storage);
    policy.runtimes = large(policy.runtimes, change.runtimes);
    policy.disruptions_per_hour = small(policy.disruptions_per_hour, change.disruptions);
    policy.over_quota_grace_s = small(policy.over_quota_grace_s, change.over_quota_grace);
    policy.idle_timeout_s_max = small(policy.idle_timeout_s_max, change.idle_timeout_max);
    policy.lifetime_s_max = small(policy.lifetime_s_max, change.lifetime_max);
    policy
}

fn show(answer: &GetProjectPolicyResponse, output: &Output) -> String {
    let (policy, usage) = (answer.policy.clone().unwrap_or_default(), answer.usage.clone().unwrap_or_default());
    let none = || "none".to_owned();
    let mebibytes = |bytes: i64| format!("{} MiB", bytes >> 20);
    let mut table = table::new(output.style, &["", "held", "limit"]);
    let mut row = |name: &str, held: String, limit: Option<String>| {
        table.add_row([table::cell(name, Tone::Plain), table::number(held), table::number(limit.unwrap_or_else(none))]);
    };
    row("effective GPU", gpus(usage.gpu_milli), policy.gpu_milli.map(gpus));
    let mut models: Vec<&String> = policy.model_gpu_milli.keys().chain(usage.model_gpu_milli.keys()).collect();
    models.sort_unstable();
    models.dedup();
    for model in models {
        let held = usage.model_gpu_milli.get(model).copied().unwrap_or_default();
        row(&format!("of {model}"), gpus(held), policy.model_gpu_milli.get(model).copied().map(gpus));
    }
    row("cores", gpus(usage.cpu_milli), policy.cpu_milli.map(gpus));
    row("memory", mebibytes(usage.memory_bytes), policy.memory_bytes.map(mebibytes));
    row("storage", mebibytes(usage.storage_bytes), policy.storage_bytes.map(mebibytes));
    if usage.volume_bytes > 0 {
        row("in volumes", mebibytes(usage.volume_bytes), None);
    }
    row("runtimes", usage.runtimes.to_string(), policy.runtimes.map(|count| count.to_string()));
    let or = |list: &[String], nothing: &str| if list.is_empty() { nothing.to_owned() } else { list.join(", ") };
    let root = match (policy.allow_root, answer.group_allows_root) {
        (true, true) => "allowed",
        (true, false) => "allowed by the project, and not by its group",
        (false, _) => "not allowed",
    };
    let seconds = |bound: Option<i32>| bound.map_or_else(none, |seconds| format!("{seconds} s"));
    format!(
        "{}\nimages: {}\nroot: {root}\nplans: {}\nlongest idle time-out: {}\nlongest lifetime: {}\nstopped for others per hour: {}\nholding more than a smaller quota: {}",
        table::text(&table, ""),
        or(&policy.images, "any"),
        or(&answer.plans, "none; the default queue is open"),
        seconds(policy.idle_timeout_s_max),
        seconds(policy.lifetime_s_max),
        policy.disruptions_per_hour.map_or_else(|| "any number".to_owned(), |count| count.to_string()),
        policy.over_quota_grace_s.map_or_else(|| "goes on".to_owned(), |s| format!("stopped after {s} s")),
    )
}
