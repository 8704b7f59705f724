// The console: one state a second from the server, and the parts of the page that show it.

import { alertsOf, firstOf } from "./alerts.js";
import { Buckets } from "./buckets.js";
import { $, Rows, el, row, say } from "./dom.js";
import { LATE_S, drawFleet, fleetOf } from "./fleet.js";
import { History } from "./history.js";
import { Keys } from "./keys.js";
import { Rollout } from "./rollout.js";
import { look, session, signIn, signOut } from "./session.js";
import { Stream } from "./stream.js";
import { counted, seconds, version } from "./words.js";

const THEMES = ["", "light", "dark"];
const WORST = ["fallback", "eventual", "strong"];

const history = new History();
const keys = new Keys();
const rollout = new Rollout();
const buckets = new Buckets(history, (name) => keys.of(name));
const nodeRows = new Rows($("node-rows"), () => row(["name", "name"], ["region", "name"], ["state"], ["lag", "n"], ["version", "name"]), showNode);
const alertRows = new Rows($("alerts"), () => ({ element: el("li") }), ({ element }, { text, bad }) => say(element, text, bad ? "bad" : ""));

function showNode(made, node) {
  say(made.name, node.name + (node.self ? " (this)" : ""));
  made.name.title = node.name;
  say(made.region, node.region || "–");
  const silent = node.state === "suspect" || node.state === "dead";
  say(made.state, node.state, silent ? "bad-text" : node.state === "left" ? "dim" : "good-text");
  say(made.lag, node.self ? "–" : seconds(node.lag), silent ? "n bad-text" : node.lag > LATE_S ? "n warn-text" : "n");
  say(made.version, version(node.config) || "–");
}

function showAlerts(all) {
  const alerts = firstOf(all);
  alertRows.show(alerts, (one) => one.spoken);
  say($("spoken"), alerts.map((one) => one.spoken).join(" "));
}

function show(state) {
  history.add(state);
  const fleet = fleetOf(state);
  const modes = new Set(state.buckets.map((one) => one.mode));
  const mode = WORST.find((one) => modes.has(one)) ?? "";
  const alerts = alertsOf(state, fleet);
  showAlerts(alerts);
  document.title = `${alerts.length ? `(${alerts.length}) ` : ""}${state.node} – crdtbucket`;
  say($("who"), [state.node, state.region].filter(Boolean).join(" · "));
  const ready = state.not_ready === "";
  say($("ready"), ready ? "ready" : state.warming_up ? "warming up" : "not ready", ready ? "chip good" : "chip warn");
  $("fleet").hidden = !state.mesh && !state.peers.length;
  say($("fleet-count"), `${counted(fleet.nodes.length, "node")}, ${fleet.nodes.filter((one) => one.state === "alive").length} alive`);
  $("map").replaceChildren(drawFleet(fleet, $("map").clientWidth, state.warming_up, mode));
  const left = state.peers.filter((peer) => peer.state === "left");
  nodeRows.show([...fleet.nodes, ...left], (one) => one.name);
  buckets.show(state.buckets);
  rollout.show(state.private ? state.private.rollout : null);
  if (session.signedIn !== (state.private !== null)) refresh(); // it ended, here or at the server
}

function live(fault) {
  say($("live"), fault || "live", `live ${fault ? "off" : "on"}`);
  document.body.classList.toggle("stale", fault !== "");
}

const stream = new Stream(show, live);

// Where calls need a token nothing is shown without a session.
function follow() {
  const may = session.open || session.signedIn;
  document.querySelector("main").hidden = !may;
  if (may) stream.open();
  else {
    stream.close();
    showAlerts([]);
    live(session.admin ? "sign in to see this node" : "needs --admin-token-file");
  }
}

function showSession() {
  say($("sign"), session.signedIn ? "Sign out" : "Sign in");
  $("sign").hidden = !session.admin;
  for (const one of document.querySelectorAll(".unlocked")) one.hidden = !session.signedIn;
  for (const one of document.querySelectorAll(".locked")) one.hidden = session.signedIn;
  for (const one of document.querySelectorAll(".sign-in")) one.hidden = !session.admin;
  keys.of(keys.bucket);
}

let refreshing = false;

async function refresh() {
  if (refreshing) return;
  refreshing = true;
  try {
    const before = session.signedIn;
    await look();
    if (before !== session.signedIn) follow();
    showSession();
  } catch (error) {
    live(error.message);
  } finally {
    refreshing = false;
  }
}

async function sign() {
  if (!session.admin) return;
  if (!session.signedIn) {
    say($("sign-fault"), "");
    $("sign-dialog").showModal();
    return;
  }
  try {
    await signOut();
    showSession();
    follow();
  } catch (error) {
    live(error.message);
  }
}

$("sign-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await signIn($("token").value);
    $("sign-dialog").close();
    showSession();
    follow();
  } catch (error) {
    say($("sign-fault"), error.message);
  } finally {
    $("token").value = "";
  }
});

// Where a browser keeps nothing, the choice holds for this page alone.
function kept(change) {
  try {
    return change();
  } catch {
    return null;
  }
}

function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  say($("theme"), { "": "Auto", light: "Light", dark: "Dark" }[name]);
  buckets.redraw();
}

function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  kept(() => localStorage.setItem("theme", next));
  theme(next);
}

const KEYS = {
  j: () => buckets.step(1),
  k: () => buckets.step(-1),
  "/": () => $("find").focus(),
  w: () => (session.signedIn ? $("why-key").focus() : sign()),
  s: sign,
  t: nextTheme,
  "?": () => $("help-dialog").showModal(),
};

document.addEventListener("keydown", (event) => {
  const inField = event.target.closest("input, dialog");
  if (event.key === "Escape" && inField) event.target.blur();
  if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

$("theme").addEventListener("click", nextTheme);
$("help").addEventListener("click", KEYS["?"]);
$("sign").addEventListener("click", sign);
for (const button of document.querySelectorAll(".sign-in")) button.addEventListener("click", sign);
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => buckets.redraw());

const chosen = kept(() => localStorage.getItem("theme"));
theme(THEMES.includes(chosen) ? chosen : "");
showSession();
await refresh();
follow();
