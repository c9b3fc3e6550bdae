//! `orrery plans`.

use crate::{
    arguments::{
        amounts::{Bound, DAYS, Setting},
        gpus::{Plans, SetPlan},
    },
    commands::{
        gpus::{affected, notes},
        workspaces::gpus,
    },
    connection::{CALL_TIMEOUT, Connection, PAGE_SIZE},
    failure::{Code, Result},
    render::{
        Output,
        table::{self, Tone},
        time,
    },
};
use jiff::Timestamp;
use proto::v1::{
    ArchivePlanRequest, GrantPlanRequest, ListPlansRequest, ListPlansResponse, Plan, PlanWindow, RevokePlanRequest,
    SetPlanRequest,
};
use rpc::client::within;

/// Carries out one act; without one, lists.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Plans>) -> Result<Code> {
    let mut plans = connection.plans();
    match act {
        None => {
            let all = ListPlansResponse { plans: list(connection).await?, next_page_token: String::new() };
            output.answer("orrery.v1.ListPlansResponse", &all, || rows(&all.plans, output))?;
        }
        Some(Plans::Set(set)) => define(connection, output, *set).await?,
        Some(Plans::Archive { name, force }) => {
            let request = within(CALL_TIMEOUT, ArchivePlanRequest { name: name.clone(), force });
            let answer = plans.archive_plan(request).await?.into_inner();
            output.answer("orrery.v1.ArchivePlanResponse", &answer, || {
                format!("plan {name} is out of use{}", affected(&answer.affected, output))
            })?;
        }
        Some(Plans::Grant { plan, project }) => {
            let request = GrantPlanRequest { project: project.clone(), plan: plan.clone() };
            let answer = plans.grant_plan(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.GrantPlanResponse", &answer, || format!("project {project} has plan {plan}"))?;
        }
        Some(Plans::Revoke { plan, project, force }) => {
            let request = RevokePlanRequest { project: project.clone(), plan: plan.clone(), force };
            let answer = plans.revoke_plan(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.RevokePlanResponse", &answer, || {
                format!("project {project} has plan {plan} no more{}", affected(&answer.affected, output))
            })?;
        }
    }
    Ok(Code::Ok)
}

async fn list(connection: &Connection) -> Result<Vec<Plan>> {
    let request = ListPlansRequest { page_size: PAGE_SIZE, ..ListPlansRequest::default() };
    Ok(pages!(connection.plans(), list_plans, request, plans))
}

async fn define(connection: &Connection, output: &Output, set: SetPlan) -> Result<()> {
    let known = list(connection).await?.into_iter().find(|plan| plan.name == set.name);
    let mut plan = known.unwrap_or_else(|| Plan { name: set.name.clone(), ..Plan::default() });
    if !set.queue.is_empty() {
        plan.queues = set.queue.into_iter().filter_map(Setting::value).collect();
    }
    if set.any_model || !set.model.is_empty() {
        plan.models = set.model;
    }
    if set.always || !set.window.is_empty() {
        plan.windows = set.window;
    }
    let large = |old: Option<i64>, new: Option<Bound>| Bound::over(new, old);
    let small = |old: Option<i32>, new: Option<Bound>| new.map_or(old, |bound| bound.small());
    plan.gpus_max = small(plan.gpus_max, set.gpus);
    plan.gpu_milli_max = large(plan.gpu_milli_max, set.effective);
    plan.cpu_milli_max = large(plan.cpu_milli_max, set.cpu);
    plan.memory_bytes_max = large(plan.memory_bytes_max, set.memory);
    plan.lifetime_s_max = small(plan.lifetime_s_max, set.lifetime);
    let request = within(CALL_TIMEOUT, SetPlanRequest { plan: Some(plan), force: set.force });
    let answer = connection.plans().set_plan(request).await?.into_inner();
    output.answer("orrery.v1.SetPlanResponse", &answer, || {
        let (affected, notes) = (affected(&answer.affected, output), notes(&answer.warnings, output));
        format!("plan {} is set{affected}{notes}", set.name)
    })
}

fn rows(plans: &[Plan], output: &Output) -> String {
    let now = Timestamp::now();
    let mut table =
        table::new(output.style, &["plan", "open", "queues", "windows", "models", "one runtime", "projects"]);
    for plan in plans {
        let changes = time::instant(plan.changes_at.as_ref());
        let (word, tone) = if plan.open { ("open", Tone::Good) } else { ("closed", Tone::Warn) };
        let changes = changes
            .map(|at| format!(", {} {}", if plan.open { "closes" } else { "opens" }, time::relative(Some(at), now)));
        let models = if plan.models.is_empty() { "any".to_owned() } else { plan.models.join(", ") };
        let windows: Vec<String> = plan.windows.iter().map(window).collect();
        table.add_row([
            table::cell(&plan.name, Tone::Plain),
            table::cell(format!("{word}{}", changes.unwrap_or_default()), tone),
            table::cell(plan.queues.join(", "), Tone::Plain),
            table::cell(if windows.is_empty() { "always".to_owned() } else { windows.join("; ") }, Tone::Dim),
            table::cell(models, Tone::Dim),
            table::cell(limits(plan), Tone::Plain),
            table::cell(plan.projects.join(", "), Tone::Dim),
        ]);
    }
    table::text(&table, "no plans; every project may use the default queue")
}

fn limits(plan: &Plan) -> String {
    let limits = [
        plan.gpus_max.map(|gpus| format!("{gpus} GPUs")),
        plan.gpu_milli_max.map(|milli| format!("{} effective", gpus(milli))),
        plan.cpu_milli_max.map(|milli| format!("{} cores", gpus(milli))),
        plan.memory_bytes_max.map(|bytes| format!("{} MiB", bytes >> 20)),
        plan.lifetime_s_max.map(|seconds| format!("{seconds} s")),
    ];
    limits.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// As it is typed.
fn window(window: &PlanWindow) -> String {
    if let (Some(from), Some(to)) = (time::instant(window.starts_at.as_ref()), time::instant(window.ends_at.as_ref())) {
        return format!("{from}/{to}");
    }
    let day = |day: &i32| usize::try_from(*day).ok().and_then(|day| DAYS.get(day.checked_sub(1)?)).copied();
    let days: Vec<&str> = window.weekdays.iter().filter_map(day).collect();
    let clock = |minute: i32| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} {}-{} {}", days.join(","), clock(window.start_minute), clock(window.end_minute), window.time_zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::amounts;

    #[test]
    fn windows_are_shown_as_they_are_typed() {
        for text in ["mon,tue,sun 08:00-24:00 Europe/Berlin", "2026-12-01T08:00:00Z/2026-12-02T08:00:00Z"] {
            assert_eq!(window(&amounts::window(text).unwrap()), text);
        }
    }
}
