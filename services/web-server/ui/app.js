// Which page is shown: the fragment of the address says so. Each page ends what it began when it is left.

import { all, setToken, signIn, takeToken } from "./api.js";
import { h } from "./dom.js";
import { executorsPage } from "./executors.js";
import { monitorPage } from "./monitor.js";
import { pipelinesPage } from "./pipelines.js";
import { runPage } from "./run.js";
import { runtimesPage } from "./runtimes.js";
import { runsPage } from "./runs.js";
import { searchPage } from "./search.js";

const WORKSPACE = "orrery.workspace";
const page = document.getElementById("page");
const chooser = document.getElementById("workspace");
let leaving = new AbortController();

function show() {
  leaving.abort();
  leaving = new AbortController();
  const [path, search = ""] = location.hash.slice(1).split("?");
  const [, name = "runs", id] = path.split("/");
  const context = { workspace: chooser.value, query: new URLSearchParams(search), signal: leaving.signal, id };
  document.title = "Orrery";
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const pages = { runs: id ? runPage : runsPage, pipelines: pipelinesPage, executors: executorsPage, monitor: monitorPage, logs: searchPage, runtimes: runtimesPage };
  if (!chooser.value && name !== "executors" && name !== "runtimes") return page.replaceChildren(h("div", { class: "panel" },
    h("div", { class: "empty" }, "There is no workspace yet. Bring a project with ", h("code", null, "orrery deploy <folder>"), ".")));
  const build = pages[name];
  page.replaceChildren(...(build ? build(context) : [h("div", { class: "empty" }, "There is no such page.")]));
  page.focus({ preventScroll: true });
}

function askSignIn() {
  const field = (label, type, autocomplete) => h("input", { type, autocomplete, "aria-label": label, placeholder: label });
  const email = field("E-mail address", "email", "username");
  const password = field("Password", "password", "current-password");
  const next = field("New password, 12 characters or more", "password", "new-password");
  const told = h("p", { class: "error-text", role: "alert" });
  next.hidden = true;
  const submit = async (event) => {
    event.preventDefault();
    const refused = await signIn(email.value, password.value, next.hidden ? "" : next.value).catch(() => ({ reason: "", message: "the server does not answer" }));
    if (!refused) return start();
    if (refused.reason === "NEW_PASSWORD_NEEDED") next.hidden = false;
    told.textContent = refused.message;
  };
  const people = h("form", { onsubmit: submit }, h("p", null, "Sign in"), email, " ", password, " ", next, " ", h("button", { class: "primary" }, "Sign in"), told);
  const token = field("Token", "password", "off");
  const programs = h("form", { onsubmit: (event) => { event.preventDefault(); setToken(token.value.trim()); start(); } },
    h("p", null, "or with a token of yours"), token, " ", h("button", null, "Enter"));
  page.replaceChildren(h("div", { class: "panel" }, h("div", { class: "empty" }, people, programs)));
  email.focus();
}

async function start() {
  takeToken();
  try {
    const workspaces = await all("WorkspaceService/ListWorkspaces", "workspaces");
    const kept = localStorage.getItem(WORKSPACE);
    chooser.replaceChildren(...workspaces.map(({ name }) => h("option", { value: name, selected: name === kept }, name)));
  } catch (error) {
    if (error.code === "unauthenticated") return askSignIn();
    return page.replaceChildren(h("div", { class: "panel" }, h("div", { class: "empty error-text" }, error.message)));
  }
  show();
}

chooser.addEventListener("change", () => {
  localStorage.setItem(WORKSPACE, chooser.value);
  if (location.hash.startsWith("#/runs/")) location.hash = "#/runs"; else show();
});
window.addEventListener("hashchange", () => { if (/token=/.test(location.hash)) start(); else show(); });
start();
