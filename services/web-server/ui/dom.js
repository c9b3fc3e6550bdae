// Builds elements. Text is always a text node: nothing that a user wrote is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";
// Elements that act, and so may stand for another thing than one that looks alike; `data-key` names what they stand for.
const acting = new WeakSet();

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
      acting.add(element);
    }
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Whether `old` may become `fresh` in place: it is the same kind of thing, and what it does is not in question. */
const isTheSame = (old, fresh) => old.nodeName === fresh.nodeName && old.getAttribute("data-key") === fresh.getAttribute("data-key")
  && ((!acting.has(old) && !acting.has(fresh)) || fresh.hasAttribute("data-key"));

function dress(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    // The page's policy refuses an attribute with a style, and lets a script set one.
    if (name === "style") old.style.cssText = value; else old.setAttribute(name, value);
  }
}

function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) old.data = fresh.data;
  else if (old.nodeType === Node.ELEMENT_NODE && fresh.nodeType === Node.ELEMENT_NODE && isTheSame(old, fresh)) {
    dress(old, fresh);
    renew(old, ...fresh.childNodes);
  } else old.replaceWith(fresh);
}

/** Shows these children in place of the former ones. What looks as before stays, with its focus, its selection and the press that
    has begun on it: pages are shown anew each second, and only their durations differ. */
export function renew(parent, ...children) {
  const old = [...parent.childNodes];
  const fresh = children.map((child) => (child instanceof Node ? child : document.createTextNode(child)));
  old.slice(0, fresh.length).forEach((node, at) => become(node, fresh[at]));
  old.slice(fresh.length).forEach((node) => node.remove());
  parent.append(...fresh.slice(old.length));
}

/** Writes what a page was asked for into its address, so that a link, a reload and the way back find it again. */
export function remember(page, asked) {
  const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
  history.replaceState(null, "", `#/${page}${query.size ? `?${query}` : ""}`);
}

let timer;

/** Says something at the foot of the page for a while. */
export function notice(text) {
  const element = document.getElementById("notice");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { element.hidden = true; }, 6000);
}

// Of more letters than any word or code that people read: ids, digests, images, paths.
const TOKEN = /(\S{25,})/;

/** A cell of a table in which long tokens may break, and no word: where anything may, a narrow column is as wide as a letter. */
export function cell(tag, attributes, ...children) {
  const mark = (element) => [...element.childNodes].forEach((node) => {
    if (node instanceof HTMLElement) {
      if (node.tagName !== "PRE" && !node.classList.contains("token")) mark(node);
    } else if (node.nodeType === Node.TEXT_NODE && TOKEN.test(node.data)) {
      node.replaceWith(...node.data.split(TOKEN).map((part, at) => (at % 2 ? h("span", { class: "token" }, part) : part)));
    }
  });
  const made = h(tag, attributes, ...children);
  mark(made);
  return made;
}

/** A table; `columns` are [title, class] pairs, `rows` are lists of cells with optional attributes of the row. */
export function table(columns, rows) {
  const head = h("tr", null, columns.map(([title, kind]) => h("th", { class: kind, scope: "col" }, title)));
  const body = rows.map(({ cells, ...attributes }) =>
    h("tr", attributes, cells.map((content, at) => cell("td", { class: columns[at][1] }, content))));
  return h("div", { class: "scroll" }, h("table", null, h("thead", null, head), h("tbody", null, body)));
}
