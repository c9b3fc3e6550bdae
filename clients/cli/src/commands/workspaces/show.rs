//! Runtimes for people.

use crate::render::{
    Output,
    style::one_line,
    table::{self, Tone},
    time,
};
use comfy_table::Cell;
use jiff::Timestamp;
use proto::v1::{Runtime, RuntimeApp, RuntimeEvent, RuntimeSpec, RuntimeState};

/// A state and its colour.
fn state(state: RuntimeState) -> (&'static str, Tone) {
    match state {
        RuntimeState::Unspecified => ("unknown", Tone::Dim),
        RuntimeState::Stopped => ("stopped", Tone::Dim),
        RuntimeState::Starting => ("starting", Tone::Busy),
        RuntimeState::Running => ("running", Tone::Good),
        RuntimeState::Stopping => ("stopping", Tone::Warn),
        RuntimeState::Error => ("error", Tone::Bad),
    }
}

/// `0.4`: thousandths without what is not there.
pub(crate) fn gpus(milli: i64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `2 × 40 %`; nothing without a GPU.
fn devices(runtime: &Runtime) -> String {
    if runtime.gpus == 0 { String::new() } else { format!("{} × {} %", runtime.gpus, runtime.sm_percent) }
}

/// What will end it: `idle in 2 h`.
fn ends(runtime: &Runtime) -> String {
    let (Some(now), Some(at)) = (time::instant(runtime.now.as_ref()), time::instant(runtime.ends_at.as_ref())) else {
        return String::new();
    };
    format!("{} {}", runtime.ends_because, time::relative(Some(at), now)).trim().to_owned()
}

/// Step, reason and place in the queue, as far as they say something.
fn why(runtime: &Runtime) -> String {
    let now = time::instant(runtime.now.as_ref());
    let expected = time::instant(runtime.expected_at.as_ref()).zip(now);
    let expected = expected.map_or_else(String::new, |(at, now)| format!(", {} or so", time::relative(Some(at), now)));
    let position = if runtime.position > 0 { format!("#{}{expected}", runtime.position) } else { String::new() };
    let parts = [runtime.step.clone(), position, runtime.reason.clone()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Many, a row each.
pub(super) fn table(runtimes: &[Runtime], output: &Output) -> String {
    let headings = ["workspace", "project", "state", "why", "queue", "GPU", "effective", "node", "ends"];
    let mut table = table::new(output.style, &headings);
    for runtime in runtimes {
        let (word, tone) = state(runtime.state());
        table.add_row([
            table::cell(&runtime.workspace, Tone::Plain),
            table::cell(&runtime.project, Tone::Dim),
            table::cell(word, tone),
            table::cell(why(runtime), Tone::Plain),
            table::cell(&runtime.queue, Tone::Dim),
            table::cell(devices(runtime), Tone::Plain),
            if runtime.gpus == 0 { Cell::new("") } else { table::number(gpus(runtime.effective_gpu_milli)) },
            table::cell(&runtime.node, Tone::Dim),
            table::cell(ends(runtime), Tone::Warn),
        ]);
    }
    table::text(&table, "no runtimes; `orrery workspaces set` says what one shall be")
}

/// One, in a line.
pub(super) fn line(runtime: &Runtime, output: &Output) -> String {
    let (word, tone) = state(runtime.state());
    let word = match tone {
        Tone::Good => output.style.good(word),
        Tone::Bad => output.style.bad(word),
        Tone::Busy => output.style.busy(word),
        Tone::Warn => output.style.warn(word),
        Tone::Plain | Tone::Dim => output.style.dim(word),
    };
    let place = if runtime.node.is_empty() { String::new() } else { format!(" on {}", runtime.node) };
    let why = why(runtime);
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    let tail = [&runtime.message, &runtime.hint].into_iter().filter(|text| !text.is_empty());
    let tail: String = tail.map(|text| format!("; {}", one_line(text))).collect();
    format!("{}: {word}{place}{why}{tail}", runtime.workspace)
}

/// One, with everything that is known about it.
pub(super) fn whole(runtime: &Runtime, spec: Option<&RuntimeSpec>, output: &Output) -> String {
    let mut lines = vec![line(runtime, output)];
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            // The name of a device may be longer than the column.
            lines.push(format!("  {name:<11} {value}"));
        }
    };
    let now = time::instant(runtime.now.as_ref()).unwrap_or_else(Timestamp::now);
    let ago = |at: Option<&prost_types::Timestamp>| time::relative(time::instant(at), now);
    say("project", runtime.project.clone());
    let plan = if runtime.plan.is_empty() { String::new() } else { format!(" by plan {}", runtime.plan) };
    say("queue", format!("{}{plan}", runtime.queue));
    say("application", spec.map(|spec| app(spec.app()).to_owned()).unwrap_or_default());
    say("image", spec.map(|spec| spec.image.clone()).unwrap_or_default());
    if runtime.gpus > 0 {
        let effective = gpus(runtime.effective_gpu_milli);
        say("GPU", format!("{}, effective {effective}", devices(runtime)));
    }
    if runtime.gang_size > 0 {
        say("gang", format!("starts with {} others or not at all", runtime.gang_size - 1));
    }
    if runtime.storage_bytes > 0 {
        say("disk", format!("{} MiB", runtime.storage_bytes >> 20));
    }
    say("host", format!("{} cores, {} MiB", gpus(runtime.cpu_milli), runtime.memory_bytes >> 20));
    for device in &runtime.devices {
        let ill = if device.healthy { "" } else { ", unhealthy" };
        let share = format!(
            "{} {} %, {} MiB, {}{ill}",
            device.model,
            device.milli / 10,
            device.memory_bytes >> 20,
            device.enforcement
        );
        say(&device.name, share);
    }
    say("asked", ago(runtime.submitted_at.as_ref()));
    say("by", runtime.requested_by.clone());
    match &runtime.stopped_at {
        Some(at) => say("stopped", ago(Some(at))),
        None => say("running", ago(runtime.running_at.as_ref())),
    }
    say("used", ago(runtime.active_at.as_ref()));
    say("kept until", time::day_and_clock(time::instant(runtime.protected_until.as_ref())));
    say("ends", ends(runtime));
    if runtime.spec_changed {
        say(
            "note",
            "what is set differs from what it was started with; `orrery workspaces restart` makes it so".to_owned(),
        );
    }
    lines.join("\n")
}

const fn app(app: RuntimeApp) -> &'static str {
    match app {
        RuntimeApp::Unspecified | RuntimeApp::Jupyter => "JupyterLab",
        RuntimeApp::VsCode => "VS Code",
        RuntimeApp::Custom => "of the image",
    }
}

/// What happened.
pub(super) fn events(events: &[RuntimeEvent], output: &Output) -> String {
    let mut table = table::new(output.style, &["when", "life", "state", "step", "reason", "by", "message"]);
    for event in events {
        let (word, tone) = state(event.state());
        table.add_row([
            table::cell(time::day_and_clock(time::instant(event.at.as_ref())), Tone::Dim),
            table::number(event.number),
            table::cell(word, tone),
            table::cell(&event.step, Tone::Plain),
            table::cell(&event.reason, Tone::Plain),
            table::cell(&event.actor, Tone::Dim),
            table::cell(one_line(&event.message), Tone::Plain),
        ]);
    }
    table::text(&table, "nothing has happened yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Output;
    use proto::v1::RuntimeDevice;

    #[test]
    fn a_line_says_why_and_what_helps() {
        let runtime = Runtime {
            workspace: "lab".into(),
            state: RuntimeState::Starting.into(),
            step: "queued".into(),
            position: 2,
            reason: "NO_CAPACITY".into(),
            message: "every place is taken".into(),
            hint: "it fits now with 30 % of each GPU".into(),
            ..Runtime::default()
        };
        let text = line(&runtime, &Output::new(true));
        assert_eq!(
            text,
            "lab: starting (queued #2 NO_CAPACITY); every place is taken; it fits now with 30 % of each GPU"
        );
        assert_eq!((gpus(400), gpus(2000), gpus(0)), ("0.4".into(), "2".into(), "0".into()));
    }

    #[test]
    fn a_device_of_a_long_name_is_apart_from_its_model() {
        let device = |name: &str| RuntimeDevice {
            name: name.into(),
            model: "H200".into(),
            milli: 400,
            memory_bytes: 1 << 30,
            enforcement: "soft".into(),
            healthy: true,
            ..RuntimeDevice::default()
        };
        let devices = vec![device("gpu-0"), device("shared-0/hami-gpu-3")];
        let text = whole(&Runtime { devices, ..Runtime::default() }, None, &Output::new(true));
        for line in ["  gpu-0       H200 40 %, 1024 MiB, soft", "  shared-0/hami-gpu-3 H200 40 %, 1024 MiB, soft"] {
            assert!(text.lines().any(|known| known == line), "{line} in {text}");
        }
    }
}
