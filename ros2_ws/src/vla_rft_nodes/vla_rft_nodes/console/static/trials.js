// A study: which could be run, and the trial that runs: scene, clock, a person's word. Code names only.

import { by, fill, h, seconds, set, show } from "./dom.js";

const MARK = { success: "✓ success", failure: "✕ failure", void: "⊘ void" };

export function wireTrials(ask) {
  const judge = (verdict, more = {}) => ask("judge", { verdict, ...more }).finally(closeAll);
  by("scene-done").onclick = () => judge("scene");
  by("pause").onclick = () => ask("pause");
  for (const button of by("trial").querySelectorAll("[data-verdict]")) button.onclick = () => judge(button.dataset.verdict);
  for (const button of by("trial").querySelectorAll("[data-open]")) {
    button.onclick = () => {
      const form = by(button.dataset.open === "failure" ? "modes" : "void-form");
      const open = form.hidden;
      closeAll();
      show(form, open);
      button.setAttribute("aria-expanded", String(open));
      if (open) {
        form.querySelector("input, button")?.focus({ preventScroll: true });
        form.scrollIntoView({ block: "nearest" });
      }
    };
  }
  by("void-form").onsubmit = (event) => {
    event.preventDefault();
    judge("void", { note: by("void-note").value });
    by("void-note").value = "";
  };
  by("modes").onclick = (event) => {
    const mode = event.target.closest("button")?.dataset.mode;
    if (mode) judge("failure", { mode });
  };
  wireStudies(ask);
}

function closeAll() {
  show("modes", false);
  show("void-form", false);
  for (const button of by("trial").querySelectorAll("[data-open]")) button.setAttribute("aria-expanded", "false");
}

function wireStudies(ask) {
  by("studies").onclick = (event) => {
    const study = event.target.closest("button")?.dataset.study;
    if (study) ask("trials", { study, limit: 0 });
  };
}

export function drawTrials(state) {
  const t = state.trials, mine = state.you.has_lease;
  show("trials-none", !t.available);
  show("studies", t.available && !t.running);
  show("trial", t.available && t.running);
  drawStudies(t, mine);
  if (t.running) drawTrial(t, mine);
  else closeAll();
  show("ended", t.ended.length > 0 && t.available);
  fill("ended", t.ended, (ended) => [
    h("h2", {}, "Trials so far ", h("span", { className: "quiet" }, "blinded")),
    h("ul", { className: "ended" }, ...ended.map((one) => h("li", {},
      h("span", { className: "quiet" }, `#${one.number}`),
      h("span", {}, h("b", {}, MARK[one.outcome] ?? one.outcome), one.failure_mode ? ` ${one.failure_mode}` : "", one.note ? h("span", { className: "quiet" }, ` ${one.note}`) : ""),
      h("span", { className: "quiet" }, one.seconds === null ? "" : `${one.seconds.toFixed(1)} s`)))),
  ]);
}

function drawStudies(t, mine) {
  fill("studies", [t.studies, t.outcome, mine], () => [
    h("h2", {}, "Studies"),
    t.outcome ? h("p", { className: "cue" }, t.outcome) : null,
    ...(t.studies.length ? t.studies.map((study) => card(study, mine)) : [h("div", { className: "empty" },
      h("h2", {}, "No study is locked here yet"),
      h("p", {}, "A protocol is locked before its first trial:"),
      h("code", {}, "python -m vla_rft_trials lock PROTOCOL.yaml runs/STUDY"))]),
  ].filter(Boolean));
}

function card(study, mine) {
  const words = study.problem || `${study.settled} of ${study.planned} places settled${study.complete ? ", complete" : ""}`;
  const button = h("button", { "data-study": study.folder, className: "primary", disabled: !mine || study.complete || Boolean(study.problem) },
    study.settled ? "Go on" : "Run");
  return h("div", { className: "card study" }, h("b", {}, study.title), h("span", { className: "quiet" }, `${study.folder}: ${words}`), button);
}

function drawTrial(t, mine) {
  set("trial-number", `Trial ${t.trial} · policy ${t.code}`);
  set("trial-where", `${t.settled} of ${t.planned} places settled · ${t.study}`);
  let before = true;
  for (const step of by("steps").children) {
    const now = step.dataset.phase === t.phase;
    if (now) before = false;
    step.dataset.now = now ? "yes" : before ? "done" : "no";
  }
  const running = t.phase === "running", asked = t.phase === "scene" && t.text.includes("then say scene");
  set("trial-text", sentence(t, asked));
  drawScene(t, asked, mine);
  show("clock", running || t.phase === "countdown");
  set("seconds", running ? seconds(t.seconds) : t.text);
  set("limit", running ? `of ${t.limit_s} s` : "until the arm moves");
  by("seconds-bar").style.width = running ? `${Math.min(100, (100 * t.seconds) / t.limit_s)}%` : "0";
  show("judging", running);
  show("after", !running && t.ended.length > 0);
  for (const button of by("trial").querySelectorAll("button")) button.disabled = !mine;
  fill("modes", [t.failure_modes, mine], () => t.failure_modes.map((mode) => h("button", { "data-mode": mode, disabled: !mine }, mode)));
}

function sentence(t, asked) {
  if (t.phase === "running") return t.text.replace(/^\s*[\d.]+ s,?\s*/, "");
  if (t.phase === "countdown") return "The arm moves in";
  if (asked) return `Lay the object out at ${t.text.match(/^lay the object out at (.*?): /)?.[1] ?? t.placement}`;
  return t.text;
}

function drawScene(t, asked, mine) {
  const looked = t.phase === "scene" && t.similarity !== null;
  show("scene", looked || asked);
  show("scene-done", asked);
  if (!looked) return;
  const enough = t.similarity >= t.similarity_needed;
  document.querySelector("#scene .meter").dataset.enough = enough ? "yes" : "no";
  by("similarity-bar").style.width = `${100 * t.similarity}%`;
  by("similarity-needed").style.left = `${100 * t.similarity_needed}%`;
  set("similarity", `${enough ? "✓" : "✕"} overlap ${t.similarity.toFixed(2)}`);
  const advice = t.text.match(/overlap [\d.]+; (.*); then say scene/)?.[1] ?? "";
  set("similarity-words", `needed ${t.similarity_needed.toFixed(2)}${advice ? ` – ${advice}` : ""}`);
}
