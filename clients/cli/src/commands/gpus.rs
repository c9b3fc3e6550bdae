//! `orrery gpus`.

mod consolidation;
mod hours;
mod usage;

use crate::{
    arguments::gpus::{Class, Enforcement, Gpus, Place, Plan, Sharing, Which},
    commands::workspaces::{gpus, spec},
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
    AffectedRuntime, DeleteDeviceClassRequest, Device, DeviceClass, DrainDevicesRequest, GetRuntimeRequest,
    ListDeviceClassesRequest, ListDevicesRequest, ListDevicesResponse, ListNodesRequest, ListNodesResponse, Node,
    PlanRuntimeRequest, RuntimeForecast, SetDeviceClassRequest, UndrainDevicesRequest,
};
use rpc::client::within;

/// Carries out one act; without one, lists devices.
pub(crate) async fn run(connection: &Connection, output: &Output, act: Option<Gpus>) -> Result<Code> {
    let mut fleet = connection.devices();
    match act {
        None => devices(connection, output, Which::default()).await?,
        Some(Gpus::Devices(which)) => devices(connection, output, which).await?,
        Some(Gpus::Nodes { pool }) => nodes(connection, output, pool.unwrap_or_default()).await?,
        Some(Gpus::Classes) => {
            let request = within(CALL_TIMEOUT, ListDeviceClassesRequest {});
            let answer = fleet.list_device_classes(request).await?.into_inner();
            output.answer("orrery.v1.ListDeviceClassesResponse", &answer, || class_table(&answer.classes, output))?;
        }
        Some(Gpus::SetClass(class)) => set_class(connection, output, class).await?,
        Some(Gpus::DeleteClass { name }) => {
            let request = within(CALL_TIMEOUT, DeleteDeviceClassRequest { name: name.clone() });
            let answer = fleet.delete_device_class(request).await?.into_inner();
            output.answer("orrery.v1.DeleteDeviceClassResponse", &answer, || format!("{name} is gone"))?;
        }
        Some(Gpus::Drain { place: Place { node, device, pool }, reason, dry_run }) => {
            let told = drained(&node, device.as_deref(), dry_run);
            let device = device.unwrap_or_default();
            let request = DrainDevicesRequest { pool, node, device, reason, validate_only: dry_run };
            let answer = fleet.drain_devices(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.DrainDevicesResponse", &answer, || {
                format!("{told}{}", affected(&answer.affected, output))
            })?;
        }
        Some(Gpus::Undrain { place: Place { node, device, pool } }) => {
            let told = undrained(&node, device.as_deref());
            let request = UndrainDevicesRequest { pool, node, device: device.unwrap_or_default() };
            let answer = fleet.undrain_devices(within(CALL_TIMEOUT, request)).await?.into_inner();
            output.answer("orrery.v1.UndrainDevicesResponse", &answer, || told)?;
        }
        Some(Gpus::Usage(asked)) if asked.by.is_empty() => {
            usage::show(connection, output, asked.pool.unwrap_or_default(), asked.hours).await?;
        }
        Some(Gpus::Usage(asked)) => hours::show(connection, output, asked).await?,
        Some(Gpus::Consolidate { pool }) => {
            consolidation::show(connection, output, pool.unwrap_or_default()).await?;
        }
        Some(Gpus::Plan(plan)) => return what_if(connection, output, *plan).await,
    }
    Ok(Code::Ok)
}

/// A drain of a node is one of all its devices; one of a device leaves the others.
fn drained(node: &str, device: Option<&str>, dry_run: bool) -> String {
    let is = if dry_run { "would be" } else { "is" };
    match device {
        Some(device) => format!("device {device} of {node} {is} drained, and no other one"),
        None => format!("{node} {is} drained, with all its devices"),
    }
}

/// The end of one drain leaves others: that of the node where a device's ends, those of devices where the node's does.
fn undrained(node: &str, device: Option<&str>) -> String {
    match device {
        Some(device) => format!("device {device} of {node} takes newcomers again, unless {node} as a whole is drained"),
        None => format!("{node} takes newcomers again, but for devices that are drained by themselves"),
    }
}

async fn devices(connection: &Connection, output: &Output, which: Which) -> Result<()> {
    let request = ListDevicesRequest {
        pool: which.pool.unwrap_or_default(),
        node: which.node.unwrap_or_default(),
        model: which.model.unwrap_or_default(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    let devices = pages!(connection.devices(), list_devices, request, devices);
    let all = ListDevicesResponse { devices, next_page_token: String::new() };
    output.answer("orrery.v1.ListDevicesResponse", &all, || device_table(&all.devices, output))
}

fn device_table(devices: &[Device], output: &Output) -> String {
    let headings =
        ["node", "device", "model", "memory", "sharing", "enforced", "state", "held", "strangers", "free", "holders"];
    let mut table = table::new(output.style, &headings);
    for device in devices {
        let (word, tone) = state(device);
        let share = |milli: i32| format!("{} %", milli / 10);
        let known = |milli: Option<i32>| milli.map_or_else(|| "?".to_owned(), share);
        let holder = |holder: &proto::v1::DeviceHolder| {
            let name = match (holder.workspace.as_str(), holder.stranger.as_str()) {
                ("", "") => "a block",
                ("", stranger) => stranger,
                (workspace, _) => workspace,
            };
            let kept = if holder.state == "nominated" { " (kept)" } else { "" };
            // How much a stranger has, and whether of this one, may not be known.
            if holder.milli > 0 { format!("{name} {}{kept}", share(holder.milli)) } else { format!("{name}{kept}") }
        };
        table.add_row([
            table::cell(&device.node, Tone::Plain),
            table::cell(&device.name, Tone::Plain),
            table::cell(&device.model, Tone::Plain),
            table::number(format!("{} MiB", device.memory_bytes >> 20)),
            table::cell(&device.sharing, Tone::Dim),
            table::cell(device.enforcement.replace('_', " "), Tone::Dim),
            table::cell(word, tone),
            table::number(share(device.held_milli)),
            table::number(known(device.foreign_milli)),
            table::number(known(device.free_milli)),
            table::cell(device.holders.iter().map(holder).collect::<Vec<_>>().join(", "), Tone::Plain),
        ]);
    }
    table::text(&table, "no devices; an executor with nodes brings some")
}

/// Whether a device takes newcomers; else why not. A server of the version before tells no code.
fn state(device: &Device) -> (String, Tone) {
    match (device.code.as_str(), device.healthy, device.drained) {
        ("", false, _) if device.condition.is_empty() => ("unhealthy".to_owned(), Tone::Bad),
        ("", false, _) => (device.condition.clone(), Tone::Bad),
        ("", true, true) => ("drained".to_owned(), Tone::Warn),
        ("", true, false) => ("ready".to_owned(), Tone::Good),
        (code, healthy, drained) => {
            (format!("{code}: {}", device.condition), if healthy && drained { Tone::Warn } else { Tone::Bad })
        }
    }
}

async fn nodes(connection: &Connection, output: &Output, pool: String) -> Result<()> {
    let request = ListNodesRequest { pool, page_size: PAGE_SIZE, page_token: String::new() };
    let nodes = pages!(connection.devices(), list_nodes, request, nodes);
    let all = ListNodesResponse { nodes, next_page_token: String::new() };
    output.answer("orrery.v1.ListNodesResponse", &all, || node_table(&all.nodes, output))
}

fn node_table(nodes: &[Node], output: &Output) -> String {
    let mut table = table::new(
        output.style,
        &["pool", "node", "zone", "state", "GPU held", "cores held", "memory held", "strangers"],
    );
    for node in nodes {
        let tone = if node.state == "ready" { Tone::Good } else { Tone::Bad };
        let (word, tone) = match (node.code.as_str(), node.drained) {
            ("", true) | ("NODE_DRAINED", _) => (format!("{}, drained {}", node.state, node.drain_reason), Tone::Warn),
            ("", false) => (node.state.clone(), tone),
            (code, true) => (format!("{code}: {}; drained {}", node.condition, node.drain_reason), Tone::Bad),
            (code, false) => (format!("{code}: {}", node.condition), Tone::Bad),
        };
        let thousandths = |held: i64, all: i64| format!("{} of {}", gpus(held), gpus(all));
        let memory = format!("{} of {} MiB", node.memory_held_bytes >> 20, node.memory_bytes >> 20);
        let strangers = match (node.gpu_foreign_milli, node.cpu_foreign_milli, node.memory_foreign_bytes) {
            (Some(gpu), Some(cpu), Some(memory)) => {
                format!("{} GPU, {} cores, {} MiB", gpus(gpu), gpus(cpu), memory >> 20)
            }
            _ => "?".to_owned(),
        };
        table.add_row([
            table::cell(&node.pool, Tone::Dim),
            table::cell(&node.name, Tone::Plain),
            table::cell(&node.zone, Tone::Dim),
            table::cell(word.trim(), tone),
            table::number(thousandths(node.gpu_held_milli, node.gpu_milli)),
            table::number(thousandths(node.cpu_held_milli, node.cpu_milli)),
            table::number(memory),
            table::cell(strangers, Tone::Dim),
        ]);
    }
    table::text(&table, "no nodes; an executor with nodes brings some")
}

fn class_table(classes: &[DeviceClass], output: &Output) -> String {
    let mut table = table::new(
        output.style,
        &["class", "sharing", "step", "enforced", "models", "claims name", "worth", "devices"],
    );
    for class in classes {
        let models = if class.models.is_empty() { "any".to_owned() } else { class.models.join(", ") };
        table.add_row([
            table::cell(&class.name, Tone::Plain),
            table::cell(&class.sharing, Tone::Plain),
            table::number(gpus(i64::from(class.step_milli))),
            table::cell(class.enforcement.replace('_', " "), Tone::Plain),
            table::cell(models, Tone::Dim),
            table::cell(&class.claim_class, Tone::Dim),
            table::number(class.worth),
            table::number(class.devices),
        ]);
    }
    table::text(&table, "no device classes; devices of classes that nobody set are only counted")
}

async fn set_class(connection: &Connection, output: &Output, set: Class) -> Result<()> {
    let request = within(CALL_TIMEOUT, ListDeviceClassesRequest {});
    let known = connection.devices().list_device_classes(request).await?.into_inner().classes;
    let fresh = || DeviceClass {
        name: set.name.clone(),
        sharing: "exclusive".to_owned(),
        // Who knows that more keeps a holder within its share says so.
        enforcement: "accounting_only".to_owned(),
        ..DeviceClass::default()
    };
    let mut class = known.into_iter().find(|class| class.name == set.name).unwrap_or_else(fresh);
    if let Some(sharing) = set.sharing {
        class.sharing = match sharing {
            Sharing::Exclusive => "exclusive",
            Sharing::Shared => "shared",
            Sharing::Mps => "mps",
            Sharing::Mig => "mig",
        }
        .to_owned();
    }
    if let Some(enforcement) = set.enforcement {
        class.enforcement = match enforcement {
            Enforcement::Hard => "hard",
            Enforcement::Soft => "soft",
            Enforcement::AccountingOnly => "accounting_only",
        }
        .to_owned();
    }
    if let Some(step) = set.step {
        class.step_milli = i32::try_from(step).unwrap_or(i32::MAX);
    }
    if !set.model.is_empty() {
        class.models = set.model;
    }
    if let Some(claim_class) = set.claim_class {
        class.claim_class = claim_class.value().unwrap_or_default();
    }
    class.worth = set.worth.unwrap_or(class.worth);
    let request = SetDeviceClassRequest { class: Some(class), force: set.force };
    let answer = connection.devices().set_device_class(within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.SetDeviceClassResponse", &answer, || {
        format!("{} is set{}", set.name, affected(&answer.affected, output))
    })
}

/// Whom a change concerns, below what was done.
pub(crate) fn affected(affected: &[AffectedRuntime], output: &Output) -> String {
    let line = |runtime: &AffectedRuntime| {
        let note = output.style.warn("concerns");
        format!("\n{note} {} ({}, {}): {}", runtime.workspace, runtime.project, runtime.state, runtime.effect)
    };
    affected.iter().map(line).collect()
}

/// What is odd and may be meant, below what was done.
pub(crate) fn notes(warnings: &[String], output: &Output) -> String {
    warnings.iter().map(|warning| format!("\n{} {warning}", output.style.warn("note:"))).collect()
}

async fn what_if(connection: &Connection, output: &Output, plan: Plan) -> Result<Code> {
    let workspace = connection.workspace.clone();
    let wanted = if plan.what_if {
        let request = within(CALL_TIMEOUT, GetRuntimeRequest { workspace: workspace.clone() });
        let saved = connection.runtimes().get_runtime(request).await?.into_inner().spec;
        Some(spec::overlay(saved.unwrap_or_default(), plan.spec)?)
    } else {
        None
    };
    let request = PlanRuntimeRequest {
        workspace,
        spec: wanted,
        queue: plan.queue.unwrap_or_default(),
        count: plan.count,
        without: plan.without,
    };
    let answer = connection.runtimes().plan_runtime(within(CALL_TIMEOUT, request)).await?.into_inner();
    output.answer("orrery.v1.PlanRuntimeResponse", &answer, || {
        answer.forecasts.iter().map(|one| forecast(one, output)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if answer.forecasts.iter().all(|one| one.fits) { Code::Ok } else { Code::Data })
}

fn forecast(one: &RuntimeForecast, output: &Output) -> String {
    if !one.fits {
        let hints: String = one.hints.iter().map(|hint| format!("\n  {hint}")).collect();
        return format!("{} {}: {}{hints}", output.style.warn("waits"), one.code, one.message);
    }
    let devices = if one.devices.is_empty() { String::new() } else { format!(", {}", one.devices.join(", ")) };
    let stopped = time::instant(one.stopped_at.as_ref());
    let stopped = stopped.map(|at| format!("; its window stops it {}", time::relative(Some(at), Timestamp::now())));
    let place = format!("on {}{devices}{}", one.node, stopped.unwrap_or_default());
    if one.preempted == 0 {
        return format!("{} {place}", output.style.good("fits"));
    }
    let names = if one.preempted_workspaces.is_empty() {
        String::new()
    } else {
        format!(": {}", one.preempted_workspaces.join(", "))
    };
    let runtimes = if one.preempted == 1 {
        "1 other is stopped".to_owned()
    } else {
        format!("{} others are stopped", one.preempted)
    };
    format!("{} {place}, once {runtimes}{names}", output.style.warn("fits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::style::Style;

    #[test]
    fn a_drain_says_of_what_it_is() {
        assert_eq!(drained("n", Some("gpu-0"), false), "device gpu-0 of n is drained, and no other one");
        assert_eq!(drained("n", None, true), "n would be drained, with all its devices");
        assert!(undrained("n", Some("gpu-0")).starts_with("device gpu-0 of n takes newcomers again, unless"));
        assert!(undrained("n", None).ends_with("but for devices that are drained by themselves"));
    }

    #[test]
    fn a_device_says_what_is_free_and_why_nobody_comes() {
        let output = Output { json: false, style: Style { colour: false } };
        let stranger = proto::v1::DeviceHolder { stranger: "others/train".into(), milli: 300, ..Default::default() };
        let part = Device {
            healthy: true,
            held_milli: 400,
            foreign_milli: Some(300),
            free_milli: Some(300),
            holders: vec![stranger],
            ..Device::default()
        };
        let anywhere = proto::v1::DeviceHolder { stranger: "others/run: 1 × a.b/gpu".into(), ..Default::default() };
        let taken =
            Device { holders: vec![anywhere], foreign_milli: Some(0), free_milli: Some(0), ..Device::default() };
        let lost = Device { code: "NODE_LOST".into(), condition: "its node: gone".into(), ..Device::default() };
        let text = device_table(&[part, lost, taken], &output);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let held = ["ready", "40", "%", "30", "%", "30", "%", "others/train", "30", "%"];
        assert!(rows[1].ends_with(&held), "{text}");
        assert!(rows[2].ends_with(&["NODE_LOST:", "its", "node:", "gone", "0", "%", "?", "?"]), "{text}");
        assert!(rows[3].ends_with(&["0", "%", "0", "%", "others/run:", "1", "×", "a.b/gpu"]), "{text}");
    }
}
