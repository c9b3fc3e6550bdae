// The log of a run as it is written: filtered by block and level at the server, by text here.

import { follow } from "./api.js";
import { h } from "./dom.js";
import { clock } from "./format.js";

const LINES_MAX = 5000;
const LEVELS = ["", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

export function logPanel({ id, signal, isOver }) {
  const state = { block: "", level: "", text: "", last: 0n, tail: null };
  const lines = h("div", { class: "log", tabindex: 0, "aria-label": "Log" });
  const empty = h("div", { class: "empty" });
  const block = h("span", { class: "chip", hidden: true });
  const level = h("select", { "aria-label": "Level", onchange: () => { state.level = level.value; restart(); } },
    LEVELS.map((name) => h("option", { value: name }, name ? `${name.toLowerCase()} and above` : "all levels")));
  const text = h("input", { type: "search", placeholder: "Find in log", "aria-label": "Find in log", oninput: () => { state.text = text.value.toLowerCase(); filter(); } });
  const title = h("div", { class: "title" }, h("h2", null, "Log"), block, h("span", { class: "space" }), text, level);
  const element = h("section", { class: "panel" }, title, lines);

  const fits = (row) => !state.text || row.textContent.toLowerCase().includes(state.text);
  const filter = () => { for (const row of lines.children) if (row !== empty) row.hidden = !fits(row); };

  function add(message) {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    empty.remove();
    for (const line of message.lines) {
      const from = line.child >= 0 ? `${line.block}[${line.child}]` : line.block;
      const row = h("div", { class: line.level }, h("span", { class: "at" }, clock(line.at)), h("span", { class: "level" }, line.level.toLowerCase()),
        h("span", { class: "from", title: from }, from || "run"), h("span", { class: "text" }, line.message));
      row.hidden = !fits(row);
      lines.append(row);
    }
    while (lines.childElementCount > LINES_MAX) lines.firstElementChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  function clear() {
    empty.textContent = state.block || state.level ? "Nothing that fits was written." : isOver() ? "Nothing was written." : "Nothing was written yet.";
    lines.replaceChildren(empty);
  }

  function restart() {
    state.tail?.abort();
    const tail = new AbortController();
    state.tail = tail;
    signal.addEventListener("abort", () => tail.abort());
    clear();
    const request = { runId: id, block: state.block, minLevel: state.level };
    follow("LogService/TailLogs", request, tail.signal, add, isOver, clear).catch((error) => {
      if (!tail.signal.aborted) lines.replaceChildren(h("div", { class: "empty error-text" }, error.message));
    });
  }

  function focus(uuid) {
    state.block = uuid;
    block.hidden = !uuid;
    block.textContent = uuid;
    restart();
  }

  return { element, restart, focus };
}
