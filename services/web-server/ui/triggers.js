// What starts the pipelines of a workspace: when each comes next, what became of its times, and a way to halt it.

import { all, call } from "./api.js";
import { h, notice, renew, table } from "./dom.js";
import { ago, local } from "./format.js";

const EVERY_MS = 5000;
const FIRINGS = 20;
const TIMES = 5;

/** What a trigger waits for, in a line. */
function waitsFor({ spec }) {
  if (spec.schedule) return [h("span", { class: "mono" }, spec.schedule.every), " ", h("span", { class: "quiet" }, spec.schedule.timeZone || "UTC")];
  if (spec.event) return h("span", { class: "quiet" }, `events, ${spec.event.patterns.length} pattern${spec.event.patterns.length === 1 ? "" : "s"}`);
  return h("span", { class: "quiet" }, spec.api ? "calls with its token" : "people and programs");
}

/** An instant to come, as people wait for it. */
function soon(instant) {
  if (!instant) return h("span", { class: "quiet" }, "–");
  const seconds = Math.max(0, (Date.parse(instant) - Date.now()) / 1000);
  const text = seconds < 90 ? `in ${Math.round(seconds)} s` : seconds < 5400 ? `in ${Math.round(seconds / 60)} min`
    : seconds < 172800 ? `in ${Math.round(seconds / 3600)} h` : `in ${Math.round(seconds / 86400)} d`;
  return h("time", { datetime: instant, title: local(instant) }, text);
}

function state(trigger) {
  if (trigger.halted) return h("span", { class: "status failed", title: "A run failed; start it again" }, "halted");
  return h("span", { class: `status ${trigger.active ? "completed" : "initial"}` }, trigger.active ? "active" : "paused");
}

/** What became of a time, or of several in a row. */
function firing(row) {
  const times = row.times > 1 ? ` … ${local(row.lastNominalAt)} (${row.times >= 1000 ? "1000 or more" : row.times})` : "";
  return { cells: [
    h("span", { class: `status ${row.decided === "fired" ? "completed" : "cancelled"}` }, row.decided),
    row.nominalAt ? `${local(row.nominalAt)}${times}` : h("span", { class: "quiet" }, "–"),
    row.runId ? h("a", { class: "mono", href: `#/runs/${row.runId}` }, row.runId.slice(-12)) : h("span", { class: "quiet" }, row.reason.replaceAll("_", " ")),
    ago(row.decidedAt),
  ] };
}

export function triggersPage({ workspace, signal, id, enterWorkspace }) {
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const detail = h("div", { class: "below" });
  let shown = false, own = workspace;

  const fail = (place) => (error) => {
    if (!signal.aborted) place.replaceChildren(h("div", { class: "panel" }, h("div", { class: "empty error-text" }, error.message)));
  };

  async function set(trigger, method) {
    try {
      await call(`TriggerService/${method}Trigger`, { triggerId: trigger.id }, signal);
      await refresh();
    } catch (error) {
      if (!signal.aborted) notice(error.message);
    }
  }

  function row(trigger) {
    const act = trigger.active && !trigger.halted ? "Pause" : "Start";
    return {
      class: `link${trigger.id === id ? " chosen" : ""}`,
      "data-key": trigger.id,
      onclick: (event) => { if (!event.target.closest("a, button")) location.hash = `#/triggers/${trigger.id}`; },
      cells: [
        h("a", { href: `#/triggers/${trigger.id}` }, trigger.name),
        h("a", { href: `#/runs?pipeline=${encodeURIComponent(trigger.pipeline)}` }, trigger.pipeline),
        state(trigger), waitsFor(trigger), soon(trigger.active ? trigger.nextAt : ""),
        h("span", { class: "quiet" }, trigger.edited ? `${trigger.source}, edited` : trigger.source),
        h("button", { onclick: () => set(trigger, act) }, act),
      ],
    };
  }

  async function open(trigger) {
    const times = trigger.spec.schedule ? call("TriggerService/PreviewSchedule", { triggerId: trigger.id, count: TIMES }, signal) : { localTimes: [] };
    try {
      const [{ firings }, { localTimes, alwaysOn }] = await Promise.all([
        call("TriggerService/ListFirings", { triggerId: trigger.id, pageSize: FIRINGS }, signal), times]);
      renew(detail,
        h("section", { class: "panel" }, h("div", { class: "title" }, h("h2", null, trigger.name), h("span", { class: "quiet" }, trigger.spec.description)),
          localTimes.length ? h("div", { class: "detail" }, h("span", { class: "quiet small" }, "Next times"),
            h("div", { class: "chips" }, localTimes.map((time) => h("span", { class: "chip mono" }, time.replace(/\[.*/, "").replace("T", " ")))))
            : alwaysOn ? h("div", { class: "quiet small" }, "Starts again as soon as its run has ended.") : "",
          firings.length ? table([["Decided"], ["Time"], ["Run, or why not"], ["When"]], firings.map(firing))
            : h("div", { class: "empty" }, "Nothing has been decided yet.")));
      reveal();
    } catch (error) {
      fail(detail)(error);
    }
  }

  /** Once: a long list hides what stands below it. */
  function reveal() {
    if (!shown && detail.getBoundingClientRect().top > innerHeight / 2) detail.scrollIntoView();
    shown = true;
  }

  /** One that is not in the list may be of another workspace, which a link does not tell; or it is there no more. */
  async function seek() {
    try {
      const { trigger } = await call("TriggerService/GetTrigger", { triggerId: id }, signal);
      if (trigger.workspace !== own && !trigger.archived) {
        own = trigger.workspace;
        enterWorkspace(own);
        return refresh();
      }
      const why = trigger.archived ? `workspace ${trigger.workspace} is archived` : "only people and programs start it";
      renew(detail, h("div", { class: "panel" }, h("div", { class: "empty" }, `${trigger.name} of ${trigger.pipeline} is not listed: ${why}.`)));
    } catch (error) {
      fail(detail)(error);
    }
    reveal();
  }

  function show(triggers) {
    const listed = triggers.filter(({ spec }) => !spec.manual);
    const chosen = listed.find((trigger) => trigger.id === id);
    if (chosen) open(chosen);
    else if (id) seek();
    renew(list, listed.length ? table(
      [["Trigger"], ["Pipeline"], ["State"], ["Waits for"], ["Next"], ["From"], ["", "act"]], listed.map(row))
      : h("div", { class: "empty" }, "Nothing starts pipelines by itself here. Make a trigger with ", h("code", null, "orrery triggers create"),
        " or in a pipeline's ", h("code", null, "triggers.yaml"), "."));
  }

  const refresh = () => document.hidden || all("TriggerService/ListTriggers", "triggers", { workspace: own }).then(show, fail(list));
  const timer = setInterval(refresh, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return [h("div", { class: "head" }, h("h1", null, "Triggers")), list, detail];
}
