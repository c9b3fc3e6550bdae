// Which page is shown: the fragment of the address says so. Each page ends what it began when it is left.

import { all, call, enter, forgetToken, signIn, signInElsewhere, signOut, takeToken } from "./api.js";
import { connectPage } from "./connect.js";
import { h } from "./dom.js";
import { executorsPage } from "./executors.js";
import { monitorPage } from "./monitor.js";
import { pipelinesPage } from "./pipelines.js";
import { runPage } from "./run.js";
import { runtimesPage } from "./runtimes.js";
import { runsPage } from "./runs.js";
import { searchPage } from "./search.js";
import { triggersPage } from "./triggers.js";

const WORKSPACE = "orrery.workspace";
/** Where a sign-in at a provider was begun, if that was no common page. */
const AFTER = "orrery.after";
const page = document.getElementById("page");
const chooser = document.getElementById("workspace");
const me = document.getElementById("me");
let leaving = new AbortController();

function show() {
  leaving.abort();
  leaving = new AbortController();
  const [path, search = ""] = location.hash.slice(1).split("?");
  const [, name = "runs", id] = path.split("/");
  const context = { workspace: chooser.value, query: new URLSearchParams(search), signal: leaving.signal, id, enterWorkspace };
  document.title = "Orrery";
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page !== name) { link.removeAttribute("aria-current"); continue; }
    link.setAttribute("aria-current", "page");
    document.title = `${link.textContent} · Orrery`;
  }
  const pages = { runs: id ? runPage : runsPage, pipelines: pipelinesPage, triggers: triggersPage, executors: executorsPage, monitor: monitorPage, logs: searchPage, runtimes: runtimesPage, connect: connectPage };
  if (!chooser.value && !["executors", "runtimes", "connect"].includes(name)) return page.replaceChildren(h("div", { class: "panel" },
    h("div", { class: "empty" }, "There is no workspace yet. Bring a project with ", h("code", null, "orrery deploy <folder>"), ".")));
  const build = pages[name];
  page.replaceChildren(...(build ? build(context) : [h("div", { class: "empty" }, "There is no such page.")]));
  page.focus({ preventScroll: true });
}

/** A run or a trigger that somebody was sent may be of another workspace than the chosen one; what its page leads to is of its
    own. */
function enterWorkspace(name) {
  if (![...chooser.options].some((option) => option.value === name)) return;
  chooser.value = name;
  localStorage.setItem(WORKSPACE, name);
}

/** Why a provider's sign-in came to nothing; the address has only the word. */
const REFUSED = {
  NOT_INVITED: "Nobody has invited you. Ask an owner of a workspace to invite your address.",
  ADDRESS_NOT_VERIFIED: "The provider has not verified your e-mail address.",
  ACCOUNT_TAKEN: "The account with your address belongs to somebody else at the provider. Ask an admin.",
  ACCOUNT_DISABLED: "Your account is disabled. Ask an admin.",
  SIGN_IN_OVER: "This sign-in was not begun in this browser, or took too long. Sign in again.",
  PROVIDER_AWAY: "The provider does not answer. Try again, or sign in with a password.",
  TOO_MANY_SIGN_INS: "Too many people sign in at this moment. Try again soon.",
};

function remember() {
  if (location.hash.startsWith("#/connect?")) sessionStorage.setItem(AFTER, location.hash);
}

async function askSignIn(because = "") {
  leaving.abort();
  document.body.classList.add("signed-out");
  document.title = "Sign in · Orrery";
  const labelled = (label, type, autocomplete) => {
    const input = h("input", { type, autocomplete, required: true });
    return { input, row: h("label", { class: "field" }, h("span", null, label), input) };
  };
  const email = labelled("E-mail address", "email", "username");
  const password = labelled("Password", "password", "current-password");
  const next = labelled("New password, 12 characters or more", "password", "new-password");
  const told = h("p", { class: "error-text", role: "alert" }, because);
  const needNew = (needed) => { next.row.hidden = !needed; next.input.required = needed; };
  needNew(false);
  const submit = async (event) => {
    event.preventDefault();
    const refused = await signIn(email.input.value, password.input.value, next.row.hidden ? "" : next.input.value)
      .catch(() => ({ reason: "", message: "The server does not answer." }));
    if (!refused) return start();
    if (refused.reason === "NEW_PASSWORD_NEEDED") needNew(true);
    told.textContent = refused.message;
  };
  const why = /^#\/sign-in\?refused=([A-Z_]+)/.exec(location.hash)?.[1];
  if (why) {
    told.textContent = REFUSED[why] ?? "The provider did not sign you in. Try again, or sign in with a password.";
    history.replaceState(null, "", "#/runs");
  }
  const elsewhere = await signInElsewhere();
  const people = h("form", { onsubmit: submit }, email.row, password.row, next.row, h("button", { class: "primary" }, "Sign in"));
  const token = labelled("Token", "password", "off");
  const programs = h("form", { onsubmit: async (event) => { event.preventDefault(); await enter(token.input.value.trim()); start(); } },
    token.row, h("button", null, "Enter"));
  page.replaceChildren(h("div", { class: "panel sign-in" }, h("h1", null, "Sign in"), told,
    elsewhere && h("a", { class: "button primary", href: "/auth/oidc", onclick: remember }, elsewhere), people,
    h("details", null, h("summary", null, "With a token"), programs)));
  email.input.focus();
}

async function start() {
  leaving.abort();
  await takeToken();
  try {
    const workspaces = await all("WorkspaceService/ListWorkspaces", "workspaces");
    const kept = localStorage.getItem(WORKSPACE);
    chooser.replaceChildren(...workspaces.map(({ name }) => h("option", { value: name, selected: name === kept }, name)));
  } catch (error) {
    if (error.code === "unauthenticated") return askSignIn(forgetToken() ? "This token is not valid, or not any more." : "");
    return page.replaceChildren(h("div", { class: "panel" }, h("div", { class: "empty" },
      h("p", { class: "error-text" }, error.message), h("button", { onclick: start }, "Try again"))));
  }
  document.body.classList.remove("signed-out");
  greet();
  const after = sessionStorage.getItem(AFTER);
  if (after) {
    sessionStorage.removeItem(AFTER);
    history.replaceState(null, "", after);
  }
  show();
}

/** Says who is signed in, and ends that when asked. */
async function greet() {
  const { user } = await call("SignInService/WhoAmI").catch(() => ({}));
  me.hidden = !user;
  me.open = false;
  me.querySelector("summary").textContent = user?.email ?? "";
}

me.querySelector("button").addEventListener("click", async () => {
  await signOut();
  start();
});
chooser.addEventListener("change", () => {
  localStorage.setItem(WORKSPACE, chooser.value);
  // What was looked at is of the workspace that was left.
  const one = /^#\/(runs|triggers)\//.exec(location.hash);
  if (one) location.hash = `#/${one[1]}`; else show();
});
window.addEventListener("signed-out", () => {
  if (!leaving.signal.aborted) askSignIn("You are signed in no more. Sign in to go on.");
});
window.addEventListener("hashchange", () => { 
  if (/token=/.test(location.hash)) start();
  // Who is signed out is asked who they are, and goes on where the address leads.
  else if (!document.body.classList.contains("signed-out")) show();
});
start();
