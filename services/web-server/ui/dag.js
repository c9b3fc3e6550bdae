// Draws a pipeline as layers from left to right: a block stands right of everything it waits for, and an edge over
// several layers gets a place of its own in each, so that it passes between the blocks and not behind them.

import { s } from "./dom.js";

const WIDTH = 172, HEIGHT = 46, LANE = 12, GAP_X = 42, GAP_Y = 18, SWEEPS = 8;
/** A wide drawing shrinks to the page, but not below this share of its size; then it scrolls. */
const SHRINK = 0.75;

const wait = (block, known) => [...new Set(block.upstreamBlocks)].filter((name) => known.has(name) && name !== block.uuid);

/** How many steps each block is from the beginning. */
function depths(blocks, known) {
  const depth = new Map();
  const measure = (uuid, path) => {
    if (depth.has(uuid)) return depth.get(uuid);
    // A deployed pipeline has no cycle; a drawing of one must still end.
    if (path.has(uuid)) return 0;
    path.add(uuid);
    const value = Math.max(-1, ...wait(known.get(uuid), known).map((name) => measure(name, path))) + 1;
    path.delete(uuid);
    depth.set(uuid, value);
    return value;
  };
  blocks.forEach((block) => measure(block.uuid, new Set()));
  return depth;
}

/** Layers of places, and the edges as chains of places. A place holds a block, or lets an edge through. */
function arrange(blocks) {
  const known = new Map(blocks.map((block) => [block.uuid, block]));
  const depth = depths(blocks, known);
  const layers = [], place = new Map(), chains = [];
  const put = (layer, block) => {
    const spot = { layer, block, left: [], right: [], size: block ? HEIGHT : LANE };
    (layers[layer] ??= []).push(spot);
    return spot;
  };
  for (const block of blocks) place.set(block.uuid, put(depth.get(block.uuid), block));
  for (const block of blocks) for (const up of wait(block, known)) {
    const from = place.get(up), to = place.get(block.uuid);
    const chain = [from];
    for (let layer = from.layer + 1; layer < to.layer; layer += 1) chain.push(put(layer, null));
    chain.push(to);
    for (let at = 1; at < chain.length; at += 1) {
      chain[at].left.push(chain[at - 1]);
      chain[at - 1].right.push(chain[at]);
    }
    chains.push(chain);
  }
  return { layers: layers.filter(Boolean), place, chains };
}

/** Fewer crossings: again and again, each layer is sorted by where its neighbours stand. */
function sort(layers) {
  const settle = (layer) => {
    let top = -(layer.reduce((sum, spot) => sum + spot.size + GAP_Y, -GAP_Y)) / 2;
    for (const spot of layer) {
      spot.y = top + spot.size / 2;
      top += spot.size + GAP_Y;
    }
  };
  layers.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const side = sweep % 2 ? "right" : "left";
    for (const layer of sweep % 2 ? [...layers].reverse() : layers) {
      for (const spot of layer) {
        const near = spot[side];
        spot.weight = near.length ? near.reduce((sum, other) => sum + other.y, 0) / near.length : spot.y;
      }
      layer.sort((a, b) => a.weight - b.weight);
      settle(layer);
    }
  }
}

/** Both ends of a long name: nested blocks begin alike, and others end alike. */
const short = (text) => (text.length > 20 ? `${text.slice(0, 8)}…${text.slice(-11)}` : text);

const left = (spot) => spot.layer * (WIDTH + GAP_X);

/** Through the lanes of its chain, flat at each of them. */
function edge(chain) {
  let path = `M${left(chain[0]) + WIDTH} ${chain[0].y}`;
  for (let at = 1; at < chain.length; at += 1) {
    const from = left(chain[at - 1]) + WIDTH, to = left(chain[at]), middle = (from + to) / 2;
    path += `C${middle} ${chain[at - 1].y} ${middle} ${chain[at].y} ${to} ${chain[at].y}`;
    if (at < chain.length - 1) path += `H${to + WIDTH}`;
  }
  return s("path", { class: "edge", d: path });
}

function box({ block, y, layer }, choose) {
  const type = block.type.replaceAll("_", " ");
  const sub = s("text", { class: "sub", y: 35 }, type);
  const node = s("g", { class: "node", transform: `translate(${left({ layer })} ${y - HEIGHT / 2})`, tabindex: 0, role: "button" },
    s("title", null, block.uuid),
    s("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 7 }),
    s("rect", { class: "mark", x: 1, y: 1, width: 4, height: HEIGHT - 2, rx: 2 }),
    // A drawing within the drawing cuts what is too wide for the box in somebody's font.
    s("svg", { x: 16, width: WIDTH - 20, height: HEIGHT }, s("text", { y: 19 }, short(block.uuid)), sub));
  node.addEventListener("click", () => choose(block.uuid));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(block.uuid);
  });
  return { node, sub, type };
}

/** The drawing, and a way to colour it again. `choose` is called with a block's uuid. */
export function draw(blocks, choose) {
  const { layers, place, chains } = arrange(blocks);
  sort(layers);
  const spots = layers.flat();
  const top = Math.min(...spots.map((spot) => spot.y - spot.size / 2)) - 1;
  const bottom = Math.max(...spots.map((spot) => spot.y + spot.size / 2)) + 1;
  const width = layers.length * (WIDTH + GAP_X) - GAP_X + 2;
  const nodes = new Map([...place].map(([uuid, spot]) => [uuid, box(spot, choose)]));
  const svg = s("svg", { role: "group", "aria-label": "Graph of the blocks", width, height: bottom - top, viewBox: `-1 ${top} ${width} ${bottom - top}` },
    chains.map(edge), [...nodes.values()].map(({ node }) => node));
  svg.style.minWidth = `${Math.round(width * SHRINK)}px`;
  const paint = (state, chosen) => {
    for (const [uuid, { node, sub, type }] of nodes) {
      const { status = "initial", text = "" } = state(uuid) ?? {};
      node.setAttribute("class", `node ${status}${chosen === uuid ? " chosen" : ""}`);
      sub.textContent = text ? `${type} · ${text}` : type;
    }
  };
  return { svg, paint };
}
