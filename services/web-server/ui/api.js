// Calls of the public API: JSON over HTTP, and lines of JSON for streams.

const TOKEN = "orrery.token";
/** Codes of failures that pass. */
const PASSING = ["unavailable", "unknown", "resource_exhausted", "deadline_exceeded"];

/** The token comes in the fragment, which no server sees, and leaves the address at once. */
export async function takeToken() {
  const match = /[#&?]token=([^&]+)/.exec(location.hash);
  if (!match) return;
  history.replaceState(null, "", "#/runs");
  await enter(decodeURIComponent(match[1]));
}

/**
 * The operator's token becomes a session's cookies, by which applications of workspaces open too, and is forgotten here.
 * Any other goes with the calls of this window.
 */
export async function enter(token) {
  sessionStorage.removeItem(TOKEN);
  const response = await fetch("/auth/session", { method: "POST", headers: { authorization: `Bearer ${token}` } }).catch(() => null);
  if (!response?.ok) sessionStorage.setItem(TOKEN, token);
}

/** An address and a password for a session's cookies. The reason of a refusal tells whether a new password is needed. */
export async function signIn(email, password, newPassword) {
  sessionStorage.removeItem(TOKEN);
  const body = JSON.stringify({ email, password, newPassword });
  const response = await fetch("/auth/session", { method: "POST", headers: { "content-type": "application/json" }, body });
  if (response.ok) return null;
  const error = await response.json().catch(() => ({}));
  return { reason: error.details?.[0]?.debug?.reason ?? "", message: error.message ?? `HTTP ${response.status}` };
}

/** What the sign-in page offers beside a password: the name of a provider, or null. */
export async function signInElsewhere() {
  const response = await fetch("/auth/options").catch(() => null);
  return response?.ok ? (await response.json()).elsewhere : null;
}

/** Whether there was one. */
export function forgetToken() {
  const had = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  return had;
}

/** Ends the session or the token of this page; the operator's token is only forgotten here. */
export async function signOut() {
  await call("SignInService/SignOut").catch(() => {});
  sessionStorage.removeItem(TOKEN);
}

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

async function post(method, message, signal) {
  const headers = { "content-type": "application/json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  // Without a token the browser's cookie says who we are, and this that our page asked.
  else headers["x-csrf-token"] = /(?:^|; )orrery_csrf=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  let response;
  try {
    response = await fetch(`/orrery.v1.${method}`, { method: "POST", headers, body: JSON.stringify(message), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unavailable", "the server does not answer");
  }
  if (!response.ok) {
    const error = await response.json().catch(() => ({}));
    if (error.code === "unauthenticated") window.dispatchEvent(new Event("signed-out"));
    throw new ApiError(error.code ?? "unknown", error.message ?? `HTTP ${response.status}`);
  }
  return response;
}

export const call = async (method, message = {}, signal) => (await post(method, message, signal)).json();

/** Every row of a list, page by page, up to `limit`. */
export async function all(method, field, message = {}, limit = 2000) {
  const rows = [];
  let pageToken = "";
  do {
    const page = await call(method, { ...message, pageSize: 500, pageToken });
    rows.push(...page[field]);
    pageToken = page.nextPageToken;
  } while (pageToken && rows.length < limit);
  return rows;
}

/** Hands each message to `each` until the stream ends. */
export async function stream(method, message, signal, each) {
  const response = await post(method, message, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ApiError("unavailable", "the stream broke off");
    });
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const parsed = JSON.parse(line);
      if (parsed.error) throw new ApiError(parsed.error.code, parsed.error.message);
      each(parsed);
    }
  }
}

/** As `stream`, opened again after a loss until `isOver()`. */
export async function follow(method, message, signal, each, isOver, restart = () => {}) {
  while (!signal.aborted) {
    try {
      await stream(method, message, signal, each);
    } catch (error) {
      if (signal.aborted) return;
      if (!PASSING.includes(error.code)) throw error;
    }
    if (isOver()) return;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    // Whoever began another one meanwhile has what this one would put away.
    if (signal.aborted) return;
    restart();
  }
}

/** A key for one act. (`crypto.randomUUID` is missing on pages without TLS.) */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
