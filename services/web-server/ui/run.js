// One run: its facts, its graph, its blocks and its log, all of them live.

import { call, follow, newKey } from "./api.js";
import { draw } from "./dag.js";
import { h, notice, renew, table } from "./dom.js";
import { ago, bytes, duration, hasEnded, local, progress, span, startedBy, status, word } from "./format.js";
import { logPanel } from "./log.js";
import { outputsPanel } from "./outputs.js";

export function runPage({ id, signal, enterWorkspace }) {
  const state = { run: null, blocks: [], chosen: null, graph: null, preview: {} };
  const head = h("div", { class: "head" });
  const facts = h("section", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const graph = h("section", { class: "panel", hidden: true });
  const blocks = h("section", { class: "panel", hidden: true });
  const detail = h("section", { class: "detail", hidden: true });
  const log = logPanel({ id, signal, isOver: () => hasEnded(state.run) });

  const act = (label, method, message, kind) => h("button", { class: kind, onclick: async (event) => {
    event.target.disabled = true;
    try {
      const { run } = await call(method, { runId: id, ...message });
      if (run.id !== id) location.hash = `#/runs/${run.id}`;
      else if (!hasEnded(run)) restart();
    } catch (error) {
      notice(error.message);
      event.target.disabled = false;
    }
  } }, label);
  const retry = (label, mode) => act(label, "RunService/RetryRun", { mode, idempotencyKey: newKey() });

  function showFacts() {
    const { run } = state;
    const name = h("a", { href: `#/runs?pipeline=${encodeURIComponent(run.pipeline)}` }, run.pipeline);
    renew(head, ...[h("h1", null, name), status(run.status), h("span", { class: "space" }),
      !hasEnded(run) && act("Cancel", "RunService/CancelRun", { reason: "cancelled in the UI" }),
      hasEnded(run) && word(run.status) !== "completed" && retry("Retry what is left", "RETRY_MODE_INCOMPLETE"),
      hasEnded(run) && retry("Run again", "RETRY_MODE_WHOLE")].filter(Boolean));
    const fact = (title, value) => h("div", null, h("dt", null, title), h("dd", null, value));
    const variables = Object.keys(run.variables ?? {}).length > 0
      && h("details", { class: "facts", open: facts.querySelector("details")?.open }, h("summary", { class: "quiet" }, "Variables"), h("pre", null, JSON.stringify(run.variables, null, 2)));
    const parent = run.parentRunId && fact("Parent", h("a", { class: "mono", href: `#/runs/${run.parentRunId}` }, run.parentRunId.slice(-12)));
    renew(facts, ...[h("dl", { class: "facts" },
      fact("Blocks", progress(run)), fact("Duration", duration(run.startedAt, run.completedAt)), fact("Created", ago(run.createdAt)),
      fact("Execution date", local(run.executionDate)), fact("Started by", startedBy(run)),
      fact("Version", run.pipelineVersion), parent || "", fact("Run", h("span", { class: "mono" }, run.id))),
      variables, run.reason && h("p", { class: "reason" }, run.reason)].filter(Boolean));
  }

  const find = (uuid) => state.blocks.find((block) => block.block === uuid && block.child < 0);

  function choose(uuid) {
    state.chosen = state.chosen === uuid ? null : uuid;
    showBlocks();
    log.focus(state.chosen ?? "");
  }

  const counted = (block) => `${block.childrenCompleted}/${block.childrenTotal}`;

  function attempts(block) {
    const children = block.childrenTotal ? `${counted(block)} children` : "";
    return children || (block.attempts > 1 ? `try ${block.attempts}` : "");
  }

  /** What a block that does not run yet waits for: its next try or look, or what the cluster says. */
  function ahead(block) {
    const seconds = hasEnded(state.run) ? 0 : (Date.parse(block.notBefore) - Date.now()) / 1000;
    return word(block.status) === "initial" && (seconds > 0 ? `again in ${span(seconds)}` : block.waitReason);
  }

  function showBlocks() {
    state.graph?.paint((uuid) => {
      const block = find(uuid);
      return block && { status: word(block.status), text: (block.childrenTotal ? counted(block) : attempts(block)) || (block.startedAt ? duration(block.startedAt, block.completedAt) : "") };
    }, state.chosen);
    const rows = state.blocks.map((block) => ({
      class: `link${state.chosen === block.block ? " chosen" : ""}`,
      "data-key": `${block.block}/${block.child}`,
      onclick: (event) => { if (!event.target.closest("button")) choose(block.block); },
      cells: [h("button", { class: "plain mono", "aria-expanded": String(state.chosen === block.block), "data-key": block.block, onclick: () => choose(block.block) }, block.block), h("span", { class: "quiet" }, (block.type ?? "").replaceAll("_", " ")),
        status(block.status), h("span", { class: "quiet" }, [attempts(block), ahead(block)].filter(Boolean).join(", ")), outputs(block),
        h("span", { class: "quiet" }, block.executor || "–"), duration(block.startedAt, block.completedAt)],
    }));
    blocks.hidden = !rows.length;
    renew(blocks, h("div", { class: "title" }, h("h2", null, "Blocks")),
      table([["Block"], ["Type"], ["Status"], ["Progress"], ["Output"], ["Executor", "short"], ["Duration", "number"]], rows), detail);
    showDetail();
  }

  const outputs = (block) => h("span", { class: "chips" }, (block.outputs ?? []).slice(0, 3).map((output) =>
    h("span", { class: "chip", title: output.name }, Number(output.rows) >= 0 ? `${Number(output.rows).toLocaleString()} rows` : bytes(output.sizeBytes))));

  function showDetail() {
    const block = state.chosen && find(state.chosen);
    detail.hidden = !block;
    if (!block) return;
    const error = block.error && [h("p", { class: "error-text" }, h("strong", null, block.error.code), " · ", block.error.message),
      block.error.traceback && h("pre", null, block.error.traceback)];
    const waits = block.waitReason && h("p", { class: "error-text" }, block.waitReason);
    const kept = (block.outputs ?? []).map((output) => h("li", null, h("span", { class: "mono" }, output.name), ` · ${output.kind} · `,
      Number(output.rows) >= 0 ? `${Number(output.rows).toLocaleString()} rows · ` : "", bytes(output.sizeBytes)));
    const from = hasEnded(state.run) && h("p", null, act("Run again from here", "RunService/RetryRun",
      { mode: "RETRY_MODE_FROM_BLOCK", fromBlock: block.block, idempotencyKey: newKey() }));
    const look = kept.length > 0 && outputsPanel(state.preview, id, block);
    const key = JSON.stringify([block, hasEnded(state.run)]);
    if (key === state.detail) return;
    state.detail = key;
    detail.replaceChildren(...[h("h2", { class: "mono" }, block.block), waits, error, kept.length ? h("ul", null, kept) : !error
      && h("p", { class: "quiet" }, "No outputs yet."), look, from].flat().filter(Boolean));
  }

  async function showGraph() {
    const { workspace, pipeline } = state.run;
    let known = [];
    try {
      known = (await call("PipelineService/GetPipeline", { workspace, pipeline }, signal)).pipeline.blocks;
    } catch {
      // A pipeline that was archived since has no graph to show; its blocks are in the table.
    }
    const names = new Set(state.blocks.map((block) => block.block));
    const shown = known.filter((block) => names.has(block.uuid));
    if (!shown.length) return;
    state.graph = draw(shown, choose);
    const view = h("div", { class: "graph" }, state.graph.svg);
    graph.replaceChildren(view);
    graph.hidden = false;
    // All layers stand around one line from left to right: there the first blocks are.
    view.scrollTop = (view.scrollHeight - view.clientHeight) / 2;
    showBlocks();
  }

  function changed({ run, blockRuns }) {
    const first = !state.run;
    Object.assign(state, { run, blocks: blockRuns });
    document.title = `${run.pipeline} · ${word(run.status)} · Orrery`;
    showFacts();
    showBlocks();
    if (first) {
      enterWorkspace(run.workspace);
      showGraph();
    }
  }

  let watching;
  function restart() {
    watching?.abort();
    watching = new AbortController();
    signal.addEventListener("abort", () => watching.abort());
    // The log comes when it is known whether the run goes on: else the end of what was written would look like a loss.
    let known = false;
    follow("RunService/WatchRun", { runId: id }, watching.signal, (message) => {
      changed(message);
      if (!known) log.restart();
      known = true;
    }, () => hasEnded(state.run))
      .catch((error) => {
        if (signal.aborted) return;
        facts.replaceChildren(h("div", { class: "empty error-text" }, error.message));
        log.element.hidden = !state.run;
      });
  }

  const ticking = setInterval(() => { if (state.run && !hasEnded(state.run)) { showFacts(); showBlocks(); } }, 1000);
  signal.addEventListener("abort", () => clearInterval(ticking));
  restart();
  return [head, facts, graph, blocks, log.element];
}

