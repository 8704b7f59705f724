// How far the newest version is, and the buttons that move it on all nodes that have it.

import { $, Rows, row, say } from "./dom.js";
import { post } from "./session.js";
import { count, seconds } from "./words.js";

const KINDS = { running: "chip", done: "chip good", halted: "chip warn", "rolled back": "chip bad" };
const SURE = {
  advance: "Every node that has this version goes to its next stage.",
  halt: "Every node that has this version stays at its stage.",
  rollback: "Every node puts the version before back, on all keys. This version does not come back.",
};

export class Rollout {
  constructor() {
    this.rows = new Rows($("rollout-rows"), ({ bucket, side }) => {
      const made = row(["name", "name"], ["version"], ["admitted", "n"], ["denied", "n"]);
      say(made.name, bucket);
      say(made.version, side);
      return made;
    }, (made, { admitted, denied }) => {
      say(made.admitted, count(admitted));
      say(made.denied, count(denied), denied ? "n bad-text" : "n dim");
    });
    this.action = "";
    for (const button of $("rollout").querySelectorAll("[data-action]")) {
      button.addEventListener("click", () => this.#sure(button.dataset.action));
    }
    $("sure-yes").addEventListener("click", () => this.#move());
  }

  show(rollout) {
    $("rollout").hidden = !rollout;
    if (!rollout) return;
    say($("rollout-status"), `version ${rollout.version} ${rollout.status}`, KINDS[rollout.status]);
    const hold = rollout.hold === null ? ", until an operator advances it" : ` of ${seconds(rollout.hold)}`;
    const running = rollout.status === "running" ? `, for ${seconds(rollout.since)}${hold}` : "";
    const reason = rollout.reason ? ` (${rollout.reason})` : "";
    say($("rollout-text"), `After version ${rollout.before}${reason}. Stage ${rollout.stage} of ${rollout.stages}: ${rollout.reach}${running}. On this node: ${rollout.percent}% of the keys.`);
    $("rollout-bar").value = rollout.percent;
    const rows = Object.entries(rollout.buckets).flatMap(([bucket, sides]) =>
      Object.entries(sides).map(([side, counts]) => ({ bucket, side, ...counts })));
    this.rows.show(rows, (one) => `${one.side} ${one.bucket}`);
    const over = rollout.status === "rolled back";
    const off = { advance: over || rollout.status === "done", halt: rollout.status !== "running", rollback: over };
    for (const button of $("rollout").querySelectorAll("[data-action]")) button.disabled = off[button.dataset.action];
  }

  #sure(action) {
    this.action = action;
    say($("sure-text"), SURE[action]);
    $("sure-dialog").showModal();
  }

  async #move() {
    $("sure-dialog").close();
    say($("rollout-fault"), "");
    try {
      this.show(await post("rollout", { action: this.action }));
    } catch (error) {
      say($("rollout-fault"), error.message);
    }
  }
}
