// A program asks to be let in: `orrery login --browser` made a token, and this page is told its hash, never the token.

import { call } from "./api.js";
import { h } from "./dom.js";

/** As long as a token that comes from a password. */
const LIFETIME = "2592000s";

const code = (prefix) => prefix.slice(4).toUpperCase().match(/.{1,4}/g).join("-");

export function connectPage({ query }) {
  const [prefix, hash, name] = ["prefix", "sha256", "name"].map((key) => query.get(key) ?? "");
  const panel = h("div", { class: "panel connect" });
  const say = (title, ...rest) => panel.replaceChildren(h("h1", null, title), ...rest);
  if (!/^orr_[0-9a-f]{12}$/.test(prefix) || !/^[0-9a-f]{64}$/.test(hash) || !name) {
    say("Nothing to let in", h("p", null, "This address is not whole. Run ", h("code", null, "orrery login --browser"), " again."));
    return [panel];
  }
  const told = h("p", { class: "error-text", role: "alert" });
  const allow = async () => {
    told.textContent = "";
    try {
      await call("TokenService/CreateToken", { name, lifetime: LIFETIME, made: { prefix, secretSha256: hash } });
      say("Signed in", h("p", null, "The terminal goes on by itself. You can close this page."));
    } catch (error) {
      told.textContent = error.message;
    }
  };
  const deny = () => say("Not let in", h("p", null, "Nothing was allowed. You can close this page."));
  const who = h("b", null, "you");
  call("SignInService/WhoAmI").then(({ user }) => { who.textContent = user.email; }, () => {});
  say("Let a program in?",
    h("p", null, h("b", null, name), " asks to act as ", who, " for 30 days."),
    h("p", null, "Allow it only if your own terminal shows this code:"),
    h("p", { class: "code" }, code(prefix)), told,
    h("div", { class: "actions" }, h("button", { class: "primary", onclick: allow }, "Allow"), h("button", { onclick: deny }, "Do not allow")));
  return [panel];
}
