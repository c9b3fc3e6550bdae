// What became of runs: how many ended how on each day, how long they took, how late schedules were.

import { call } from "./api.js";
import { h, renew, s, table } from "./dom.js";

const EVERY_MS = 15000;
const STATUSES = ["completed", "failed", "cancelled"];
const RANGES = [7, 30, 90];
const WIDTH = 720, HEIGHT = 120;

const isoDay = (offset) => new Date(Date.now() - offset * 86400000).toISOString().slice(0, 10);
const number = (value) => Number(value ?? 0);

function span(text) {
  if (!text) return "–";
  const seconds = parseFloat(text);
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function share(counts) {
  const failed = number(counts?.failed), timed = failed + number(counts?.completed);
  return timed ? `${(100 * failed / timed).toFixed(1)} %` : "–";
}

/** A bar for each day, the parts of which are statuses. */
function bars(days, range) {
  const byDay = new Map(days.map((day) => [day.day, day.countByStatus ?? {}]));
  const all = Array.from({ length: range }, (_, at) => isoDay(range - 1 - at));
  const total = (counts) => STATUSES.reduce((sum, status) => sum + number(counts?.[status]), 0);
  const highest = Math.max(1, ...all.map((day) => total(byDay.get(day))));
  const width = WIDTH / range;
  const parts = all.flatMap((day, at) => {
    const counts = byDay.get(day);
    let top = HEIGHT;
    return STATUSES.filter((status) => number(counts?.[status])).map((status) => {
      const height = (HEIGHT * number(counts[status])) / highest;
      top -= height;
      return s("rect", { x: at * width + 1, y: top, width: Math.max(width - 2, 1), height, class: `part ${status}` },
        s("title", null, `${day}: ${counts[status]} ${status}`));
    });
  });
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "bars", role: "img", "aria-label": `Runs by day, at most ${highest} on one` }, parts);
}

export function monitorPage({ workspace, query, signal }) {
  const state = { range: 30, pipeline: query.get("pipeline") ?? "" };
  const body = h("div", null, h("div", { class: "empty" }, "Loading…"));
  const range = h("select", { "aria-label": "Range", onchange: () => { state.range = Number(range.value); refresh(); } },
    RANGES.map((days) => h("option", { value: days, selected: days === state.range }, `${days} days`)));
  const chip = state.pipeline && h("span", { class: "chip" }, state.pipeline, " ", h("a", { href: "#/monitor", "aria-label": "Show all pipelines" }, "×"));

  function rows(statistics) {
    return statistics.map(({ pipeline, name, total }) => {
      const counts = total.countByStatus, shown = state.pipeline ? name : pipeline;
      return { cells: [
        state.pipeline ? shown : h("a", { href: `#/monitor?pipeline=${encodeURIComponent(shown)}` }, shown),
        number(counts?.completed), h("span", { class: number(counts?.failed) ? "error-text" : "quiet" }, number(counts?.failed)),
        number(counts?.cancelled), share(counts), span(total.durations?.p50), span(total.durations?.p95),
        span(total.durations?.longest), span(total.lateness?.p95), span(total.lateness?.longest),
      ] };
    });
  }

  function show([together, single]) {
    const unfinished = (together.unfinished ?? []).reduce((sum, { runs }) => sum + number(runs), 0);
    const all = together.statistics[0];
    if (!all) {
      renew(body, h("div", { class: "panel" }, h("div", { class: "empty" }, unfinished
        ? `${unfinished} ${unfinished === 1 ? "run has" : "runs have"} not ended yet.` : "No run has ended in these days.")));
      return;
    }
    const counts = all.total.countByStatus ?? {};
    const facts = [["completed", number(counts.completed)], ["failed", number(counts.failed)], ["cancelled", number(counts.cancelled)],
      ["not ended", unfinished], ["share failed", share(counts)], ["median", span(all.total.durations?.p50)], ["95 %", span(all.total.durations?.p95)]];
    const columns = [[state.pipeline ? "Trigger" : "Pipeline"], ["Completed", "number"], ["Failed", "number"], ["Cancelled", "number"],
      ["Share failed", "number"], ["Median", "number"], ["95 %", "number"], ["Longest", "number"], ["Late, 95 %", "number"], ["Late, most", "number"]];
    renew(body,
      h("div", { class: "panel" }, h("div", { class: "figures" }, facts.map(([label, value]) =>
        h("div", null, h("b", null, value), h("span", { class: "quiet small" }, label)))), bars(all.days, state.range),
        h("div", { class: "axis quiet small" }, h("span", null, isoDay(state.range - 1)), h("span", null, "days in UTC"), h("span", null, isoDay(0)))),
      h("div", { class: "panel" }, table(columns, rows(single.statistics))),
      together.cut || single.cut ? h("p", { class: "quiet" }, "There is more than is added up at once; choose fewer days, or one pipeline.") : "");
  }

  let reading = false;
  async function refresh() {
    if (reading || document.hidden) return;
    reading = true;
    const request = { workspace, pipeline: state.pipeline, firstDay: isoDay(state.range - 1), lastDay: isoDay(0) };
    const groupBy = state.pipeline ? "RUN_GROUPING_TRIGGER" : "RUN_GROUPING_PIPELINE";
    try {
      show(await Promise.all([call("MonitorService/GetRunStatistics", request, signal),
        call("MonitorService/GetRunStatistics", { ...request, groupBy }, signal)]));
    } catch (error) {
      if (!signal.aborted) body.replaceChildren(h("div", { class: "panel" }, h("div", { class: "empty error-text" }, error.message)));
    } finally {
      reading = false;
    }
  }

  const timer = setInterval(refresh, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return [h("div", { class: "head" }, h("h1", null, "Monitor"), chip, h("span", { class: "space" }), range), body];
}
