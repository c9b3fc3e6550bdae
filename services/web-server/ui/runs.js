// The runs of a workspace, newest first, read again while the page is looked at.

import { call } from "./api.js";
import { h, remember, renew, table } from "./dom.js";
import { ago, duration, progress, startedBy, status } from "./format.js";

const EVERY_MS = 2000;
const STATUSES = ["INITIAL", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"];

export function runsPage({ workspace, query, signal }) {
  const state = { pipeline: query.get("pipeline") ?? "", status: query.get("status") ?? "", pages: [""] };
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const more = h("button", { hidden: true, onclick: () => turn(1) }, "Older");
  const back = h("button", { hidden: true, onclick: () => turn(-1) }, "Newer");
  const filter = h("select", { "aria-label": "Status", onchange: () => {
    state.status = filter.value;
    state.pages = [""];
    remember("runs", { pipeline: state.pipeline, status: state.status });
    refresh();
  } }, h("option", { value: "" }, "Any status"),
    STATUSES.map((name) => h("option", { value: name, selected: name === state.status }, name.toLowerCase())));
  state.status = filter.value;
  const pipeline = state.pipeline && h("span", { class: "chip" }, state.pipeline, " ", h("a", { href: "#/runs", "aria-label": "Show all pipelines" }, "×"));

  function turn(by) {
    if (by > 0) state.pages.push(state.next); else state.pages.pop();
    refresh();
  }

  function show(page) {
    state.next = page.nextPageToken;
    more.hidden = !page.nextPageToken;
    back.hidden = state.pages.length < 2;
    if (!page.runs.length) {
      if (state.status || state.pipeline) return list.replaceChildren(h("div", { class: "empty" }, "No run fits."));
      list.replaceChildren(h("div", { class: "empty" }, "No runs yet. Start one from ", h("a", { href: "#/pipelines" }, "Pipelines"),
        " or with ", h("code", null, "orrery run <pipeline>"), "."));
      return;
    }
    renew(list, table(
      [["Pipeline"], ["Status"], ["Blocks"], ["Started by"], ["Started"], ["Duration", "number"], ["Run"]],
      page.runs.map((run) => ({
        class: "link",
        "data-key": run.id,
        onclick: (event) => { if (!event.target.closest("a")) location.hash = `#/runs/${run.id}`; },
        cells: [
          [h("a", { href: `#/runs/${run.id}` }, run.pipeline), run.reason && h("div", { class: "why quiet small", title: run.reason }, run.reason)], status(run.status), progress(run),
          h("span", { class: "quiet" }, startedBy(run)), ago(run.startedAt ?? run.createdAt),
          duration(run.startedAt, run.completedAt), h("span", { class: "mono quiet" }, run.id.slice(-12)),
        ],
      }))));
  }

  let reading = false;
  async function refresh() {
    if (reading || document.hidden) return;
    reading = true;
    try {
      const statuses = state.status ? [`RUN_STATUS_${state.status}`] : [];
      const pageToken = state.pages[state.pages.length - 1];
      show(await call("RunService/ListRuns", { workspace, pipeline: state.pipeline, statuses, pageSize: 50, pageToken }, signal));
    } catch (error) {
      if (!signal.aborted) list.replaceChildren(h("div", { class: "empty error-text" }, error.message));
    } finally {
      reading = false;
    }
  }

  const timer = setInterval(refresh, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return [h("div", { class: "head" }, h("h1", null, "Runs"), pipeline, h("span", { class: "space" }), filter, back, more), list];
}
