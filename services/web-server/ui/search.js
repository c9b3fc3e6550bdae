// A search over what all runs of a workspace wrote, newest first.

import { call } from "./api.js";
import { h, remember } from "./dom.js";

const PAGE = 100;
const LEVELS = ["", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const TYPES = ["data_loader", "transformer", "data_exporter", "sensor", "callback", "conditional", "custom", "scratchpad", "dbt"];
/** Hours, and what they are called. */
const SPANS = [[0, "any time"], [1, "last hour"], [24, "last day"], [168, "last week"]];

const when = (instant) => new Date(instant).toLocaleString([], { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export function searchPage({ workspace, query, signal }) {
  const lines = h("div", { class: "log found" });
  const status = h("p", { class: "quiet", role: "status" });
  const more = h("button", { hidden: true, onclick: () => read() }, "Older");
  const text = h("input", { type: "search", placeholder: "Text", "aria-label": "Text", value: query.get("text") ?? "" });
  const pipeline = h("input", { placeholder: "Pipeline", "aria-label": "Pipeline", value: query.get("pipeline") ?? "" });
  const trigger = h("input", { placeholder: "Trigger", "aria-label": "Trigger, of the pipeline", value: query.get("trigger") ?? "" });
  const block = h("input", { placeholder: "Block", "aria-label": "Block", value: query.get("block") ?? "" });
  const type = h("select", { "aria-label": "Block type" }, h("option", { value: "" }, "all types"),
    TYPES.map((name) => h("option", { value: name, selected: name === query.get("type") }, name.replace("_", " "))));
  const span = h("select", { "aria-label": "Time" }, SPANS.map(([hours, name]) => h("option", { value: hours, selected: String(hours) === query.get("hours") }, name)));
  const level = h("select", { "aria-label": "Level" }, LEVELS.map((name) => h("option", { value: name, selected: name === (query.get("level") ?? "") }, name ? `${name.toLowerCase()} and above` : "all levels")));
  const form = h("form", { class: "head search", onsubmit: (event) => { event.preventDefault(); begin(); keep(); } },
    h("h1", null, "Logs"), h("span", { class: "space" }), text, pipeline, trigger, block, type, level, span, h("button", { class: "primary" }, "Search"));
  let request, round = 0;

  const keep = () => remember("logs", { text: text.value, pipeline: pipeline.value.trim(), trigger: trigger.value.trim(),
    block: block.value.trim(), type: type.value, level: level.value, hours: Number(span.value) && span.value });

  function begin() {
    const hours = Number(span.value);
    request = { workspace, text: text.value, pipeline: pipeline.value.trim(), trigger: trigger.value.trim(), block: block.value.trim(),
      blockType: type.value, minLevel: level.value, since: hours ? new Date(Date.now() - hours * 3600e3).toISOString() : undefined,
      pageSize: PAGE, pageToken: "" };
    round += 1;
    lines.replaceChildren();
    read();
  }

  function row(line) {
    const from = line.block ? `${line.pipeline} · ${line.block}` : line.pipeline;
    return h("div", { class: line.level }, h("span", { class: "at" }, when(line.at)),
      h("span", { class: "level" }, line.level.toLowerCase()), h("a", { class: "from", title: from, href: `#/runs/${line.runId}` }, from),
      h("span", { class: "text" }, line.message));
  }

  async function read() {
    const mine = round;
    more.hidden = true;
    status.textContent = "Searching…";
    try {
      // A page may be empty and yet not the last: the search goes on where its time was over.
      for (let found = 0; found < PAGE;) {
        const page = await call("LogService/SearchLogs", request, signal);
        if (mine !== round) return;
        lines.append(...page.lines.map(row));
        found += page.lines.length;
        request.pageToken = page.nextPageToken;
        if (!request.pageToken) break;
      }
      more.hidden = !request.pageToken;
      status.textContent = lines.childElementCount ? "" : "No line fits.";
    } catch (error) {
      if (!signal.aborted && mine === round) status.textContent = error.message;
    }
  }

  begin();
  return [form, h("section", { class: "panel" }, lines), status, more];
}
