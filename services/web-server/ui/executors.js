// The executors that are, and that were.

import { call } from "./api.js";
import { h, renew, table } from "./dom.js";
import { ago, status, word } from "./format.js";

const EVERY_MS = 2000;

export function executorsPage({ signal }) {
  const list = h("div", { class: "panel" }, h("div", { class: "empty" }, "Loading…"));
  const meter = (executor) => {
    const bar = h("i");
    bar.style.width = `${executor.slots ? (100 * executor.running) / executor.slots : 0}%`;
    return h("span", { class: "progress" }, h("span", { class: "meter" }, bar), h("span", { class: "quiet small" }, `${executor.running}/${executor.slots}`));
  };
  const none = (withheld) => withheld ? "Executors are shown to who has a role over the whole cluster." : "No executor has connected yet.";
  const show = ({ executors, withheld }) => renew(list, executors.length ? table(
    [["Executor", "short"], ["State"], ["Slots"], ["Backend"], ["Connected"], ["Last seen"], ["Version"]],
    executors.map((executor) => ({ cells: [executor.name, status(executor.state), word(executor.state) === "online" || word(executor.state) === "draining" ? meter(executor) : "–",
      h("span", { class: "quiet" }, executor.backend), ago(executor.connectedAt), ago(executor.lastSeenAt),
      h("span", { class: "mono quiet" }, executor.version)] }))) : h("div", { class: "empty" }, none(withheld)));
  const refresh = () => document.hidden || call("ExecutorService/ListExecutors", { pageSize: 200 }, signal).then(show, (error) => {
    if (!signal.aborted) list.replaceChildren(h("div", { class: "empty error-text" }, error.message));
  });
  const timer = setInterval(refresh, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return [h("div", { class: "head" }, h("h1", null, "Executors")), list];
}
