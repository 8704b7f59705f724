// The fleet: which nodes see which, drawn so that a partition is seen at once.
//
// One node tells what it knows. Of its own links it knows how they are; of links between two others
// what these say while it sees them. Between two nodes that it does not see nothing is known.

import { svg } from "./dom.js";
import { counted, cut, names, seconds, version } from "./words.js";

export const LATE_S = 2;
const HEIGHT = 280;
const FEW = 24; // of more nodes the links between others are no picture

// {nodes, links, far}: `far` are the nodes that nobody whom this node sees can see. Of more than a few
// nodes `links` has those of this one, and those that are cut between others on its side.
export function fleetOf(state) {
  const self = {
    name: state.node, region: state.region, state: "alive", self: true, lag: null, unseen: [],
    config: state.private ? state.private.config : null,
  };
  const nodes = [self, ...state.peers.filter((peer) => peer.state !== "left")];
  const far = new Set(nodes.slice(1));
  const near = [self];
  for (const node of near) { // a list that grows while it is gone over
    for (const other of far) {
      const how = linkState(node, other);
      if ((how === "up" || how === "late") && far.delete(other)) near.push(other);
    }
  }
  const links = [];
  nodes.forEach((a, place) => {
    for (const b of nodes.slice(place + 1)) {
      const all = a.self || nodes.length <= FEW;
      const state = all || !(far.has(a) || far.has(b)) ? linkState(a, b) : "unknown";
      if (all || state === "cut") links.push({ a, b, state });
    }
  });
  return { self, nodes, links, far: [...far] };
}

function linkState(a, b) {
  if (a.self) {
    if (b.state !== "alive") return "cut";
    return b.lag !== null && b.lag > LATE_S ? "late" : "up";
  }
  const told = [a, b].filter((one) => one.state === "alive");
  if (!told.length) return "unknown";
  return told.some((one) => one.unseen.includes(one === a ? b.name : a.name)) ? "cut" : "up";
}

// `room`: how wide the picture may be, so that its texts have the size of the page's.
export function drawFleet({ nodes, links, far, self }, room, warmingUp, mode) {
  const width = Math.min(Math.max(room, 300), 560);
  const places = new Map();
  const near = nodes.filter((node) => !far.includes(node));
  if (far.length) {
    put(near, width * 0.27, width, places);
    put(far, width * 0.76, width, places);
  } else put(near, width / 2, width, places);

  const many = nodes.length > FEW;
  const picture = svg("svg", { class: many && "many", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": inWords(nodes, far) });
  if (far.length) {
    picture.append(
      svg("line", { class: "wall", x1: width * 0.51, y1: 26, x2: width * 0.51, y2: HEIGHT - 8 }),
      svg("text", { class: "side", x: width * 0.51, y: 16 }, "partition"),
    );
  }
  const drawn = links.filter(({ a }) => a.self || !many);
  for (const { a, b, state } of drawn) {
    const [from, to] = [places.get(a), places.get(b)];
    const kind = { up: "", late: "late", cut: "cut", unknown: "unknown" }[state];
    picture.append(svg("line", {
      class: `link ${a.self ? "own" : ""} ${kind}`, x1: from.x, y1: from.y, x2: to.x, y2: to.y,
    }));
  }
  for (const { a, b, state } of drawn) {
    const [from, to] = [places.get(a), places.get(b)];
    const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
    if (state === "cut" && nodes.length <= 12) picture.append(svg("path", { class: "cross", d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8` }));
    if (a.self && b.lag !== null && nodes.length <= 12) {
      const cut = state === "cut";
      picture.append(svg("text", { class: cut ? "lag cut" : "lag", x, y: y - 8 }, seconds(b.lag)));
    }
  }
  for (const node of nodes) {
    const { x, y } = places.get(node);
    const kind = node.self ? `self ${warmingUp ? "warm" : ""}` : node.state;
    const low = y > HEIGHT / 2 || nodes.length === 1;
    const under = [node.region, version(node.config), node.self ? mode : node.mode].filter(Boolean).join(" · ");
    const dot = svg("circle", { class: `node ${kind}`, cx: x, cy: y, r: many ? 3 : nodes.length > 12 ? 6 : 10 });
    dot.append(svg("title", {}, node.name));
    picture.append(dot);
    if (node !== self && many) continue;
    picture.append(svg("text", { x, y: low ? y + 26 : y - 29 }, cut(node.name, 20) + (node === self ? " (this)" : "")));
    if (nodes.length <= 12) picture.append(svg("text", { class: "small", x, y: low ? y + 39 : y - 16 }, cut(under, 34)));
  }
  return picture;
}

// On a circle around `centre`; two nodes stand above each other.
function put(nodes, centre, width, places) {
  const side = Math.min(centre, width - centre) - 50;
  const radius = nodes.length === 1 ? 0 : Math.min(side, HEIGHT / 2 - 62);
  nodes.forEach((node, place) => {
    const angle = (2 * Math.PI * place) / nodes.length - Math.PI / 2;
    places.set(node, {
      x: Math.round(centre + (nodes.length > 2 ? 1.25 : 1) * radius * Math.cos(angle)),
      y: Math.round(HEIGHT / 2 + radius * Math.sin(angle)),
    });
  });
}

function inWords(nodes, far) {
  if (!far.length) return `${counted(nodes.length, "node")} without a partition: ${names(nodes)}`;
  return `A partition: ${names(nodes.filter((one) => !far.includes(one)))} do not see ${names(far)}`;
}
