// Builds elements. Text is always a text node: nothing that a user wrote is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

let timer;

/** Says something at the foot of the page for a while. */
export function notice(text) {
  const element = document.getElementById("notice");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { element.hidden = true; }, 6000);
}

/** A table; `columns` are [title, class] pairs, `rows` are lists of cells with optional attributes of the row. */
export function table(columns, rows) {
  const head = h("tr", null, columns.map(([title, kind]) => h("th", { class: kind, scope: "col" }, title)));
  const body = rows.map(({ cells, ...attributes }) =>
    h("tr", attributes, cells.map((cell, at) => h("td", { class: columns[at][1] }, cell))));
  return h("div", { class: "scroll" }, h("table", null, h("thead", null, head), h("tbody", null, body)));
}
