// The arm in words, who has control, HOLD, and what may be asked of the arm in its present mode.

import { by, memory, set, show } from "./dom.js";

const root = document.documentElement;

export function drawLink(status, silent) {
  root.dataset.link = status;
  const lost = status === "lost";
  show("token-form", status === "token");
  by("work").inert = status === "lost";
  by("hold").disabled = status !== "live";
  set("hold-words", status === "live" ? "stops the arm, is not the e-stop" : "no connection: use the e-stop");
  if (status === "live") return;
  root.dataset.tone = "lost";
  set("headline", status === "token" ? "TOKEN NEEDED" : lost ? "NO CONNECTION" : "CONNECTING");
  set("detail", lost ? `for ${(silent / 1000).toFixed(0)} s, trying again; the arm goes on as it was, what you see is old` : "");
  set("todo", lost ? "HOLD cannot be sent: use the e-stop." : "");
  set("mode", "");
}

export function drawArm(state) {
  const { words, mode, source } = state.arm;
  root.dataset.tone = words.tone;
  set("headline", words.headline);
  set("detail", words.detail);
  set("todo", words.todo);
  set("mode", mode ? `${mode.replace("_", " ")}${source ? ` · ${source}` : ""}` : "");
  set("shadow", state.simulated ? "simulated cell" : "");
  document.title = `${words.headline} – cell console`;
}

export function drawControl(state) {
  const { holder, holder_at_cell: atCell, holder_absent_s: absent, viewers, you } = state;
  const others = viewers > 1 ? `; ${viewers - 1} other page${viewers > 2 ? "s" : ""} open` : "";
  const where = atCell ? "at the workstation" : "from another machine";
  let words = `Nobody has control${others}.`;
  if (you.has_lease) words = `You have control, ${holder}${others}.`;
  else if (absent > 0) words = `${holder} has control, and is gone since ${absent.toFixed(0)} s.`;
  else if (holder) words = `${holder} has control ${where}. You look on.`;
  set("control-words", words);
  show("give", you.has_lease);
  const mayTake = !you.has_lease && (!holder || you.loopback);
  show("take-form", mayTake);
  set("take", holder ? "Take over" : "Take control");
  by("take").dataset.word = holder ? "take over" : "take";
}

/** Three buttons that never move or change places: a second tap must not land on another one. */
export function drawActions(state) {
  const { mode } = state.arm, { has_lease: mine, loopback } = state.you;
  show("arm-actions", mine);
  const busy = state.recording.active || state.trials.running, held = mode === "HOLD_LATCHED";
  const [ready, home, maintenance] = by("arm-actions").children;
  set(ready, held ? (loopback ? "Re-arm" : "Re-arm at the cell") : "Make ready");
  ready.dataset.word = held ? "rearm" : "ready";
  ready.disabled = !mine || !((held && loopback) || mode === "MAINTENANCE");
  home.disabled = !mine || mode !== "READY" || busy;
  maintenance.disabled = !mine || mode !== "READY" || busy;
}

export function wireControl(ask) {
  by("name").value = memory.get("name");
  by("take-form").onsubmit = (event) => {
    event.preventDefault();
    memory.set("name", by("name").value);
    by("name").blur();
    ask(by("take").dataset.word, { name: by("name").value });
  };
  by("give").onclick = () => ask("give");
  for (const button of by("arm-actions").children) button.onclick = () => ask(button.dataset.word);
  by("hold").onclick = () => ask("hold");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (memory.get("theme")) root.dataset.theme = memory.get("theme");
  by("theme").onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; memory.set("theme", root.dataset.theme); };
}
