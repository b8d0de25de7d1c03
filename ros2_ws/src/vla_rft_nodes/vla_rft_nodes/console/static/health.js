// Vital figures under the picture, the doctor's card, what every node says of itself.

import { by, fill, h, set } from "./dom.js";

const ORDER = ["red", "yellow", "green"];
const MARK = { green: "✓", yellow: "!", red: "✕" };

export function wireHealth(ask) {
  by("doctor").onclick = () => ask("doctor");
}

export function drawVitals(state, video, link) {
  const disk = state.recording.disk;
  const vitals = [
    ...state.vitals,
    { name: "this page", value: video.fps.toFixed(0), unit: "fps", words: link.rtt === null ? "" : `${Math.round(link.rtt)} ms there and back`, ok: true },
    ...(disk ? [{ name: "disk lasts", value: disk.split(" ")[0], unit: disk.split(" ")[1], words: "of recording", ok: true }] : []),
  ];
  fill("vitals", vitals, () => vitals.map((v) => h("div", { "data-ok": v.ok ? "yes" : "no" },
    h("dt", {}, v.name),
    h("dd", { title: v.words || "nothing heard yet" }, v.value || "–", v.value ? h("small", {}, ` ${v.unit}`) : ""))));
}

export function drawHealth(state) {
  const { doctor, nodes } = state;
  const age = doctor.age_s === null ? "" : `, ${doctor.age_s < 90 ? `${Math.round(doctor.age_s)} s` : `${Math.round(doctor.age_s / 60)} min`} ago`;
  set("doctor-words", doctor.running ? "looking …" : doctor.words + age);
  by("doctor").disabled = doctor.running || !state.you.has_lease;
  const worst = [...doctor.checks].sort((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
  fill("checks", worst, (checks) => checks.map((check) => h("li", { "data-status": check.status },
    h("i", { title: check.status }, MARK[check.status]), h("b", {}, check.name), h("span", {}, check.words),
    check.remedy ? h("em", {}, `→ ${check.remedy}`) : null)));
  fill("nodes", nodes, () => nodes.map((node) => h("li", { "data-status": node.ok ? "green" : "red" },
    h("i", {}, node.ok ? "✓" : "✕"), h("b", {}, node.name), h("span", {}, node.words))));
  const troubled = nodes.filter((node) => !node.ok).length + doctor.checks.filter((check) => check.status === "red").length;
  set("health-mark", troubled ? `✕${troubled}` : "");
  set("cell", `cell ${state.cell}`);
}
