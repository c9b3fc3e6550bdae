// The runtimes that one may see: what each is doing and why, how long it has left, and what happened to it.

import { all, call } from "./api.js";
import { cell, h, notice, renew, table } from "./dom.js";
import { ago, span, status, word } from "./format.js";

const EVERY_MS = 2000;
/** How long somebody who is idle may be kept by one click. */
const KEEP_MS = 2 * 3600 * 1000;

export function runtimesPage({ signal, id, workspace }) {
  return id ? one({ signal, workspace: decodeURIComponent(id) }) : many({ signal, chosen: workspace });
}

/** GPUs times share, as quotas count: `0.4`. */
const effective = (runtime) => (runtime.gpus ? String(Number(runtime.effectiveGpuMilli) / 1000) : "–");

const share = (runtime) => (runtime.gpus ? `${runtime.gpus} × ${runtime.smPercent} %` : "no GPU");

/** Against the cluster's clock, which came with the answer. */
function countdown(runtime) {
  if (!runtime.endsAt) return "";
  const seconds = (Date.parse(runtime.endsAt) - Date.parse(runtime.now)) / 1000;
  const text = seconds > 0 ? `${runtime.endsBecause} in ${span(seconds)}` : `${runtime.endsBecause} now`;
  return h("span", { class: seconds < 900 ? "error-text" : "quiet" }, text);
}

const why = (runtime) => [
  [runtime.step, runtime.position ? `#${runtime.position}` : "", runtime.reason].filter(Boolean).join(" "),
  runtime.message && h("div", { class: "small" }, runtime.message),
  runtime.hint && h("div", { class: "quiet small" }, runtime.hint),
].filter(Boolean);

/** What can be done in this state. An act is told by its answer, and the page reads again. */
function acts(runtime, refresh) {
  const readAt = performance.now();
  const act = (label, method, kind, more = () => ({})) => h("button", { class: kind, onclick: async (event) => {
    event.stopPropagation();
    event.target.disabled = true;
    await call(`RuntimeService/${method}`, { workspace: runtime.workspace, ...more() }).catch((error) => notice(error.message));
    refresh();
  } }, label);
  // What keeps it beyond the end that is near: it wins or loses whole, and the answer says which.
  const keep = {
    PLAN_WINDOW_EXPIRED: () => act("Move to the default queue", "SwitchQueue", "primary"),
    IDLE: () => act("Keep", "SnoozeRuntime", "primary", () => ({ until: new Date(Date.parse(runtime.now) + performance.now() - readAt + KEEP_MS).toISOString() })),
  }[runtime.endsBecause];
  const kept = keep ? [" ", keep()] : [];
  const state = word(runtime.state);
  const open = runtime.path && h("a", { class: "button primary", href: runtime.path, target: "_blank", rel: "noopener" }, "Open");
  if (state === "running") return [open, ...kept, " ", act("Restart", "RestartRuntime"), " ", act("Stop", "StopRuntime")];
  if (state === "starting") return [act("Stop", "StopRuntime"), ...kept];
  if (state === "error") return [act("Reset", "ResetRuntime")];
  if (state === "stopped" && runtime.specVersion !== "0") return [act("Start", "StartRuntime", "primary")];
  return [];
}

function reader(signal, read, show, failed) {
  let reading = false;
  const refresh = async () => {
    if (reading || document.hidden) return;
    reading = true;
    try {
      show(await read());
    } catch (error) {
      if (!signal.aborted) failed(error);
    } finally {
      reading = false;
    }
  };
  const timer = setInterval(refresh, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return refresh;
}

/** For the chosen workspace that has no runtime: what is needed for a first one, and no more. */
function firstOf(workspace, refresh) {
  const number = (value, min, max) => h("input", { type: "number", value, min, max, required: true });
  const gpus = number(0, 0, 32);
  const share = number(100, 1, 100);
  const begin = (label, app) => h("button", { class: "primary", onclick: async () => {
    const spec = { app, gpus: gpus.valueAsNumber || 0, smPercent: gpus.valueAsNumber ? share.valueAsNumber || 100 : 0 };
    try {
      await call("RuntimeService/SetRuntimeSpec", { workspace, spec });
      await call("RuntimeService/StartRuntime", { workspace });
    } catch (error) {
      notice(error.message);
    }
    refresh();
  } }, label);
  return h("div", { class: "panel" }, h("div", { class: "empty" }, h("b", null, workspace), " has no runtime yet. ",
    h("label", null, "GPUs ", gpus), " ", h("label", null, "percent of each ", share), " ",
    begin("Start JupyterLab", "RUNTIME_APP_JUPYTER"), " ", begin("Start VS Code", "RUNTIME_APP_VS_CODE")));
}

function many({ signal, chosen }) {
  const first = h("div", null);
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const failed = (error) => list.replaceChildren(h("div", { class: "empty error-text" }, error.message));
  const link = (runtime) => `#/runtimes/${encodeURIComponent(runtime.workspace)}`;
  let offered = false;
  const offer = (runtimes) => {
    const wanted = Boolean(chosen) && !runtimes.some((runtime) => runtime.workspace === chosen);
    // Only when that changes: what somebody types into it stays.
    if (wanted !== offered) first.replaceChildren(...(wanted ? [firstOf(chosen, () => refresh())] : []));
    offered = wanted;
  };
  const show = (runtimes) => renew(list, runtimes.length ? table(
    [["Workspace"], ["State"], ["Why"], ["Queue"], ["GPU", "short"], ["Effective", "number"], ["Ends"], ["", "act"]],
    runtimes.map((runtime) => ({
      class: "link",
      "data-key": runtime.workspace,
      onclick: (event) => { if (!event.target.closest("a, button")) location.hash = link(runtime); },
      cells: [
        [h("a", { href: link(runtime) }, runtime.workspace), h("div", { class: "quiet small" }, runtime.project)],
        status(runtime.state), h("div", { class: "clamp" }, why(runtime)), h("span", { class: "quiet" }, runtime.queue), share(runtime), effective(runtime),
        countdown(runtime), acts(runtime, () => refresh()),
      ],
    }))) : h("div", { class: "empty" }, "Everything that a runtime can be is said with ",
    h("code", null, "orrery workspaces set <workspace> --gpus 1 --sm 40"), "."));
  const refresh = reader(signal, () => all("RuntimeService/ListRuntimes", "runtimes"), (runtimes) => {
    offer(runtimes);
    show(runtimes);
  }, failed);
  return [h("div", { class: "head" }, h("h1", null, "Workspaces")), first, list];
}

function one({ signal, workspace }) {
  const head = h("div", { class: "head" }, h("h1", null, workspace));
  const about = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const events = h("div", { class: "panel" });
  const failed = (error) => about.replaceChildren(h("div", { class: "empty error-text" }, error.message));
  const read = () => Promise.all([
    call("RuntimeService/GetRuntime", { workspace }, signal),
    call("RuntimeService/ListRuntimeEvents", { workspace, pageSize: 50 }, signal),
  ]);
  const facts = (runtime) => [
    ["Why", why(runtime)], ["Project", runtime.project], ["Queue", [runtime.queue, runtime.plan && ` by plan ${runtime.plan}`]],
    ["GPU", [share(runtime), runtime.gpus ? `, effective ${effective(runtime)}` : ""]],
    ["Devices", runtime.devices.map((device) => h("div", null, `${device.name}: ${device.model} ${device.milli / 10} %, `,
      h("span", { class: "quiet" }, device.enforcement.replace("_", " "), device.healthy ? "" : ", unhealthy")))],
    ["Node", runtime.node], ["Asked", [ago(runtime.submittedAt), runtime.requestedBy && ` by ${runtime.requestedBy}`]],
    ["Last used", ago(runtime.activeAt)], ["Ends", countdown(runtime)],
    ["Note", runtime.specChanged && "What is set differs from what it was started with: restart it to make it so."],
  ].filter(([, value]) => value && value.length !== 0);
  const show = ([{ runtime }, timeline]) => {
    renew(head, h("h1", null, workspace), status(runtime.state), h("span", { class: "space" }), ...acts(runtime, () => refresh()));
    renew(about, h("table", null, h("tbody", null, facts(runtime).map(([name, value]) =>
      h("tr", null, h("th", { scope: "row" }, name), cell("td", null, value))))));
    renew(events, h("div", { class: "title" }, h("h2", null, "Timeline")), timeline.events.length ? table(
      [["When"], ["Life", "number"], ["State"], ["Step"], ["Reason"], ["By"], ["Message"]],
      timeline.events.map((event) => ({ cells: [ago(event.at), event.number, status(event.state), event.step, event.reason,
        h("span", { class: "quiet" }, event.actor), event.message] }))) : h("div", { class: "empty" }, "Nothing has happened yet."));
  };
  const refresh = reader(signal, read, show, failed);
  return [head, about, events];
}
