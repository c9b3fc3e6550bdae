// A look at what a block left: columns, first rows, or a value. Asked for when somebody opens it.

import { call } from "./api.js";
import { h, table } from "./dom.js";
import { ago, bytes } from "./format.js";

const ROWS_MAX = 50;

const cell = (value) => (value === null || value === undefined ? h("span", { class: "quiet" }, "–")
  : typeof value === "object" ? JSON.stringify(value) : String(value));

function body(output) {
  const sample = output.sample ?? [];
  const more = Math.max(Number(output.rows), sample.length) - Math.min(sample.length, ROWS_MAX);
  const rest = more > 0 && h("p", { class: "quiet small" }, `… and ${more.toLocaleString()} more`);
  if (output.columns?.length) {
    const columns = output.columns.map(({ name, type }) => [[name, " ", h("span", { class: "quiet small" }, type)]]);
    return [table(columns, sample.slice(0, ROWS_MAX).map((row) => ({ cells: row.map(cell) }))), rest];
  }
  if (sample.length) return [h("pre", null, sample.slice(0, ROWS_MAX).map((item) => `${cell(item)}\n`).join("")), rest];
  return output.text ? h("pre", null, output.text) : null;
}

async function load(place, runId, block) {
  try {
    const { outputs, expiredAt, unavailable } = await call("OutputService/GetOutputs", { runId, block });
    place.replaceChildren(...[expiredAt && h("p", { class: "quiet" }, "The outputs are gone since ", ago(expiredAt), "."),
      unavailable && h("p", { class: "quiet" }, unavailable),
      outputs.map((output) => h("div", null, h("p", null, h("span", { class: "mono" }, output.name), ` · ${output.kind} · `,
        Number(output.rows) >= 0 ? `${Number(output.rows).toLocaleString()} rows · ` : "", bytes(output.sizeBytes)), body(output)))]
      .flat(Infinity).filter(Boolean));
  } catch (error) {
    place.replaceChildren(h("p", { class: "error-text" }, error.message));
  }
}

/** A closed panel; `key` says when the outputs may have changed, and the same panel is handed out until then. */
export function outputsPanel(cache, runId, block) {
  const key = `${block.block}/${block.attempts}/${block.completedAt ?? ""}`;
  if (cache.key === key) return cache.element;
  const place = h("div", null, h("p", { class: "quiet" }, "Loading…"));
  const element = h("details", { class: "outputs", ontoggle: (event) => {
    if (event.target.open && !cache.asked) {
      cache.asked = true;
      load(place, runId, block.block);
    }
  } }, h("summary", { class: "quiet" }, "First rows"), place);
  Object.assign(cache, { key, element, asked: false });
  return element;
}
