// The pipelines of a workspace, and a way to run them.

import { all, call, newKey } from "./api.js";
import { h, notice, table } from "./dom.js";
import { ago } from "./format.js";

async function askAndRun(workspace, name) {
  const { pipeline } = await call("PipelineService/GetPipeline", { workspace, pipeline: name });
  const variables = h("textarea", { id: "variables", spellcheck: "false", value: JSON.stringify(pipeline.variables ?? {}, null, 2) });
  const problem = h("p", { class: "error-text", role: "alert" });
  const key = newKey();
  const start = h("button", { class: "primary", type: "submit" }, "Run");
  const form = h("form", { method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    problem.textContent = "";
    start.disabled = true;
    try {
      const parsed = JSON.parse(variables.value || "{}");
      if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) throw new Error("the variables must be a JSON object, such as {\"day\": \"2026-01-31\"}");
      const { run } = await call("RunService/CreateRun", { workspace, pipeline: name, variables: parsed, idempotencyKey: key });
      dialog.close();
      location.hash = `#/runs/${run.id}`;
    } catch (error) {
      problem.textContent = error.message;
      start.disabled = false;
    }
  } }, h("h1", null, `Run ${name}`), h("label", { for: "variables" }, "Variables, as a JSON object"), variables, problem,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Close"), start));
  const dialog = h("dialog", { onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();
}

export function pipelinesPage({ workspace, signal }) {
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const show = (pipelines) => list.replaceChildren(pipelines.length ? table(
    [["Pipeline"], ["Description"], ["Type"], ["Blocks", "number"], ["Version", "number"], ["Updated"], ["", "act"]],
    pipelines.map((pipeline) => ({ cells: [
      h("a", { href: `#/runs?pipeline=${encodeURIComponent(pipeline.name)}` }, pipeline.name), h("span", { class: "quiet" }, pipeline.description),
      h("span", { class: "quiet" }, pipeline.type), pipeline.blockCount, pipeline.version, ago(pipeline.updatedAt),
      h("button", { onclick: () => askAndRun(workspace, pipeline.name).catch((error) => notice(error.message)), disabled: pipeline.type !== "python",
        title: pipeline.type === "python" ? undefined : "Only pipelines of type python run" }, "Run"),
    ] }))) : h("div", { class: "empty" }, "No pipelines. Bring some with ", h("code", null, "orrery deploy <folder>"), "."));
  const fail = (error) => { if (!signal.aborted) list.replaceChildren(h("div", { class: "empty error-text" }, error.message)); };
  all("PipelineService/ListPipelines", "pipelines", { workspace }).then(show, fail);
  return [h("div", { class: "head" }, h("h1", null, "Pipelines")), list];
}
