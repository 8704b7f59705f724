// What is wrong, in sentences, the worst first. As `crdtbucket status` says it. `spoken` is without the
// numbers that change all the time, so that a screen reader reads a sentence once.

import { LATE_S } from "./fleet.js";
import { count, counted, names, seconds } from "./words.js";

export function alertsOf(state, fleet) {
  const found = [];
  const bad = (text, spoken = text) => found.push({ text, spoken, bad: true });
  const warn = (text, spoken = text) => found.push({ text, spoken, bad: false });

  if (fleet.far.length) {
    const lags = fleet.far.map((one) => one.lag).filter((lag) => lag !== null);
    const since = lags.length ? `, for ${seconds(Math.min(...lags))}` : "";
    const near = fleet.nodes.filter((one) => !fleet.far.includes(one));
    const sides = `: ${names(near)} | ${names(fleet.far)}. Until it heals each side limits with the last updates of the other.`;
    bad(`Partition${since}${sides}`, `Partition${sides}`);
  }
  for (const bucket of state.buckets) {
    if (bucket.mode === "fallback") bad(`${bucket.name} is in fallback: the rule for an outage decides.`);
    if (state.mesh && bucket.slots === null && bucket.over_admission > bucket.bound) {
      const above = "over-admission, above what lag explains";
      bad(`${bucket.name}: ${counted(bucket.over_admission, "token")} of ${above} (${count(bucket.bound)}).`, `${bucket.name}: ${above}.`);
    }
  }
  for (const peer of state.peers) {
    const node = fleet.nodes.find((one) => one.name === peer.name);
    if (peer.state === "alive" && peer.lag > LATE_S) {
      warn(`${peer.name} lags: its last update is ${seconds(peer.lag)} old.`, `${peer.name} lags.`);
    }
    if ((peer.state === "suspect" || peer.state === "dead") && !fleet.far.includes(node)) {
      warn(`The link to ${peer.name} is down; others see it.`);
    }
  }
  for (const { a, b, state: how } of fleet.links) {
    if (!a.self && how === "cut" && !fleet.far.includes(a) && !fleet.far.includes(b)) {
      warn(`${a.name} and ${b.name} do not see each other; this node relays.`);
    }
  }
  if (state.warming_up) warn("This node has no answer from the mesh yet and serves only a part of its share.");
  else if (state.not_ready) warn(`Not ready: ${state.not_ready}.`);
  if (state.alone && !state.warming_up) warn("This node has no peer: none of its calls made a link, and its log says why.");
  versions(state, fleet, warn);
  if (state.private) privately(state.private, warn);
  return found.sort((a, b) => b.bad - a.bad);
}

const LISTED = 10;

// As many as fit above the page.
export function firstOf(alerts) {
  if (alerts.length <= LISTED) return alerts;
  const text = `And ${alerts.length - LISTED} more.`;
  return [...alerts.slice(0, LISTED), { text, spoken: text, bad: false }];
}

function versions(state, fleet, warn) {
  const split = new Map();
  for (const node of fleet.nodes) {
    if (!node.config || !node.config.hash || node.state === "dead") continue;
    const name = `${node.config.version ? `v${node.config.version} ` : ""}${node.config.hash.slice(0, 8)}`;
    split.set(name, [...(split.get(name) ?? []), node]);
  }
  if (split.size > 1) {
    const parts = [...split].map(([name, nodes]) => `${names(nodes)} on ${name}`);
    warn(`Version split: ${parts.join("; ")}.`);
  }
}

function privately({ redis, regions, region_conflict, rollout, snapshot }, warn) {
  for (const [address, mode] of Object.entries(redis)) {
    if (mode !== "strong") warn(`Redis ${address} is slow or out of reach: mode ${mode}.`);
  }
  for (const [name, { state, late }] of Object.entries(regions)) {
    const silent = `Region ${name} is silent`;
    if (state === "silent") warn(`${silent}, ${seconds(late)} behind: its share is held back.`, `${silent}.`);
  }
  if (snapshot && snapshot.fault) {
    const lost = `No snapshot is kept: ${snapshot.fault}`;
    warn(`${lost}; the last one is ${seconds(snapshot.age)} old, and a restart loses what was taken since.`, `${lost}.`);
  }
  if (region_conflict) warn("Two Redis have one region's name, or regions hash otherwise: see the log.");
  if (rollout && rollout.status === "halted") warn(`The roll-out of version ${rollout.version} is halted${rollout.reason ? `: ${rollout.reason}` : ""}.`);
}
