// The recording session: what → and ← mean now, the verdict of the last attempt, the count, the map of starts.

import { by, fill, h, seconds, set, show } from "./dom.js";

const MARK = { good: "✓ good", suspect: "! suspect", bad: "✕ bad" };
const KEEP = { recording: "Keep", deciding: "Keep" };

export function wireRecord(ask) {
  for (const button of by("keys").children) button.onclick = () => ask("key", { key: button.dataset.key });
  by("session-form").onsubmit = (event) => {
    event.preventDefault();
    ask("session", { task: by("task").value, prompt: by("prompt").value, count: Number(by("count").value) });
  };
}

let suggested = false;

function suggest(values) {
  if (suggested) return;
  suggested = true;
  for (const name of ["task", "prompt", "count"]) by(name).value = values[name];
}

export function drawRecord(state) {
  const r = state.recording, mine = state.you.has_lease;
  suggest(state.suggested);
  show("record-none", !r.available && !r.active);
  show("session-form", r.available && !r.active);
  show("session", r.active);
  set("session-ended", r.moment === "ended" ? r.cue : "");
  for (const element of by("session-form").elements) if (element.disabled === mine) element.disabled = !mine;
  show("rec", r.active && r.moment === "recording");
  if (r.attempt_s !== null) set("rec", `● REC ${seconds(r.attempt_s)}${r.attempt_dropped ? ` · ${r.attempt_dropped} missed` : ""}`);
  drawKeys(r, mine);
  drawCount(r);
  drawLast(r.last);
  drawMap(r.coverage);
  fill("lines", r.active || r.last ? r.lines : [], (lines) => lines.map((line) => h("li", {}, line)));
}

function drawKeys(r, mine) {
  const asking = r.moment === "asking", ended = ["recording", "deciding"].includes(r.moment);
  const goes = asking ? (r.cue.split("→")[1] ?? "go on").trim() : "";
  const words = { busy: r.lines.at(-1)?.slice(10) ?? "", judging: "Writing and judging the attempt …" };
  set("cue", words[r.moment] ?? r.cue.replace(/;?\s*→.*$/, ""));
  const [keep, discard, undo, stop] = by("keys").children;
  set(keep.lastElementChild, KEEP[r.moment] ?? (goes ? goes[0].toUpperCase() + goes.slice(1) : "Wait"));
  set(discard.lastElementChild, ended ? "Discard" : "Discard the last");
  keep.disabled = !mine || !(asking || ended);
  discard.disabled = !mine || !(ended || (asking && r.last !== null));
  undo.disabled = !mine || !(asking || r.moment === "recording");
  stop.disabled = !mine || r.moment === "ended";
}

function drawCount(r) {
  set("kept", r.kept);
  set("goal", `of ${r.goal} kept`);
  const pace = [r.per_hour ? `${Math.round(r.per_hour)} per hour` : "", r.discarded ? `${r.discarded} discarded` : "",
    r.undecided ? `${r.undecided} undecided` : "", r.disk ? `disk ${r.disk}` : ""];
  set("pace", pace.filter(Boolean).join(" · "));
  by("kept-bar").style.width = `${r.goal ? Math.min(100, (100 * r.kept) / r.goal) : 0}%`;
}

function drawLast(last) {
  show("last", last !== null);
  fill("last", last, () => !last ? [] : [
    h("p", { className: "verdict", "data-quality": last.quality },
      h("b", {}, MARK[last.quality] ?? last.quality),
      h("span", { className: "decision" }, last.decision || "nothing decided"),
      h("span", { className: "quiet" }, `${last.duration_s.toFixed(1)} s, ${last.frames} pictures, ${last.dropped} missed`)),
    h("ul", { className: "reasons" }, ...last.reasons.map((reason) => h("li", {}, reason))),
    h("p", { className: "id" }, last.episode),
  ]);
}

const SVG = "http://www.w3.org/2000/svg";

function drawMap(map) {
  show("coverage", map !== null && map.filled > 0);
  fill("coverage", map, () => !map ? [] : [
    h("h2", {}, "Towel starts ", h("span", { className: "quiet" }, `${map.filled} of ${map.cells.length * map.cells[0].length} cells of ${map.cell_cm.toFixed(0)} cm`)),
    grid(map),
    h("p", { className: "quiet" }, "From above, away from the arm is up. Ringed: the newest."),
  ]);
}

function grid({ cells, newest }) {
  const rows = cells.length, columns = cells[0].length;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  svg.setAttribute("class", "map");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "map of towel starts");
  const add = (name, attributes, text = "") => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    svg.append(element);
  };
  cells.forEach((row, i) => row.forEach((n, j) => {
    const x = columns - 1 - j, y = rows - 1 - i;      // y of base grows to the left, x upwards
    add("rect", { x, y, width: 1, height: 1, "data-n": Math.min(n, 3) });
    if (n) add("text", { x: x + 0.5, y: y + 0.54 }, n);
  }));
  if (newest) add("rect", { x: columns - 1 - newest[1] + 0.07, y: rows - 1 - newest[0] + 0.07, width: 0.86, height: 0.86, rx: 0.2, class: "newest" });
  return svg;
}
