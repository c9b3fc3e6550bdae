// The runtimes that one may see: what each is doing and why, how long it has left, and what happened to it.

import { all, call } from "./api.js";
import { h, notice, table } from "./dom.js";
import { ago, span, status, word } from "./format.js";

const EVERY_MS = 2000;

export function runtimesPage({ signal, id }) {
  return id ? one({ signal, workspace: decodeURIComponent(id) }) : many({ signal });
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
];

/** What can be done in this state. An act is told by its answer, and the page reads again. */
function acts(runtime, refresh) {
  const act = (label, method, kind) => h("button", { class: kind, onclick: async (event) => {
    event.stopPropagation();
    event.target.disabled = true;
    await call(`RuntimeService/${method}`, { workspace: runtime.workspace }).catch((error) => notice(error.message));
    refresh();
  } }, label);
  const state = word(runtime.state);
  const open = runtime.path && h("a", { class: "button primary", href: runtime.path, target: "_blank", rel: "noopener" }, "Open");
  if (state === "running") return [open, " ", act("Stop", "StopRuntime")];
  if (state === "starting") return [act("Stop", "StopRuntime")];
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

function many({ signal }) {
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const failed = (error) => list.replaceChildren(h("div", { class: "empty error-text" }, error.message));
  const link = (runtime) => `#/runtimes/${encodeURIComponent(runtime.workspace)}`;
  const show = (runtimes) => list.replaceChildren(runtimes.length ? table(
    [["Workspace"], ["State"], ["Why"], ["Queue"], ["GPU"], ["Effective", "number"], ["Ends"], ["", "act"]],
    runtimes.map((runtime) => ({
      class: "link",
      onclick: (event) => { if (!event.target.closest("a, button")) location.hash = link(runtime); },
      cells: [
        [h("a", { href: link(runtime) }, runtime.workspace), h("div", { class: "quiet small" }, runtime.project)],
        status(runtime.state), why(runtime), h("span", { class: "quiet" }, runtime.queue), share(runtime), effective(runtime),
        countdown(runtime), acts(runtime, () => refresh()),
      ],
    }))) : h("div", { class: "empty" }, "No workspace has a runtime yet. Say what one shall be with ",
    h("code", null, "orrery workspaces set <workspace> --gpus 1 --sm 40"), "."));
  const refresh = reader(signal, () => all("RuntimeService/ListRuntimes", "runtimes"), show, failed);
  return [h("div", { class: "head" }, h("h1", null, "Workspaces")), list];
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
    head.replaceChildren(h("h1", null, workspace), status(runtime.state), h("span", { class: "space" }), ...acts(runtime, () => refresh()));
    about.replaceChildren(h("table", null, h("tbody", null, facts(runtime).map(([name, value]) =>
      h("tr", null, h("th", { scope: "row" }, name), h("td", null, value))))));
    events.replaceChildren(h("div", { class: "title" }, h("h2", null, "Timeline")), timeline.events.length ? table(
      [["When"], ["Life", "number"], ["State"], ["Step"], ["Reason"], ["By"], ["Message"]],
      timeline.events.map((event) => ({ cells: [ago(event.at), event.number, status(event.state), event.step, event.reason,
        h("span", { class: "quiet" }, event.actor), event.message] }))) : h("div", { class: "empty" }, "Nothing has happened yet."));
  };
  const refresh = reader(signal, read, show, failed);
  return [head, about, events];
}
