// Values as people read them.

import { h } from "./dom.js";

/** `RUN_STATUS_FAILED` or `EXECUTOR_STATE_LOST` as `failed` and `lost`. */
export const word = (value) => (value ?? "").replace(/^(BLOCK_)?RUN_STATUS_|^EXECUTOR_STATE_|^RUNTIME_STATE_/, "").toLowerCase();

export const status = (value) => h("span", { class: `status ${word(value)}` }, word(value).replaceAll("_", " "));

/** What started a run. */
export const startedBy = (run) => run.backfillId ? `backfill ${run.backfill}` : run.trigger || "–";

export const hasEnded = (run) => ["completed", "failed", "cancelled"].includes(word(run?.status));

/** An instant on the reader's clock, with the name of its zone. */
export const local = (instant) => (instant ? new Date(instant).toLocaleString([], { dateStyle: "medium", timeStyle: "long", hour12: false }) : "–");

export function ago(instant) {
  if (!instant) return "–";
  const seconds = (Date.now() - Date.parse(instant)) / 1000;
  const text = seconds < 5 ? "just now" : `${span(seconds).split(" ").slice(0, 2).join(" ")} ago`;
  return h("time", { datetime: instant, title: local(instant) }, text);
}

export function duration(from, to) {
  if (!from) return "–";
  const seconds = ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;
  return seconds < 10 ? `${Math.max(seconds, 0).toFixed(2)} s` : span(seconds);
}

export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60 ? `${whole % 60} s` : ""}`.trim();
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = Number(count), unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

export const clock = (instant) => (instant ? new Date(instant).toLocaleTimeString([], { hour12: false }) : "");

export function progress(run) {
  const share = run.blocksTotal ? (100 * run.blocksDone) / run.blocksTotal : 0;
  const bar = h("i");
  bar.style.width = `${share}%`;
  return h("span", { class: `progress ${word(run.status)}` }, h("span", { class: "meter" }, bar),
    h("span", { class: "quiet small" }, `${run.blocksDone}/${run.blocksTotal}`));
}
