// The page: one connection, one picture, and panels that draw what they are given.

import { drawActions, drawArm, drawControl, drawLink, wireControl } from "./banner.js";
import { by, memory, set, show } from "./dom.js";
import { drawHealth, drawVitals, wireHealth } from "./health.js";
import { wireKeys } from "./keys.js";
import { Link } from "./link.js";
import { drawRecord, wireRecord } from "./record.js";
import { drawTrials, wireTrials } from "./trials.js";
import { Video } from "./video.js";

const root = document.documentElement;
let newest = null;

/** Say a word to the console, and show what became of it. */
async function ask(word, more) {
  try {
    say(await link.ask(word, more), true);
  } catch (error) {
    say(error.message, false);
  }
}

let unsaid = 0;

/** One line above HOLD; a refusal stays longer than what went well. */
function say(words, ok) {
  set("said", ok ? words : `✕ ${words}`);
  by("said").dataset.ok = ok ? "yes" : "no";
  show("said", Boolean(words));
  clearTimeout(unsaid);
  unsaid = setTimeout(() => show("said", false), ok ? 4000 : 12000);
}

function draw(state) {
  newest = state;
  drawArm(state);
  drawControl(state);
  drawActions(state);
  drawRecord(state);
  drawTrials(state);
  drawHealth(state);
  drawVitals(state, video, link);
  video.follow(state.trials.phase);
  if (!memory.get("tab")) choose(state.trials.available && !state.recording.available ? "trials" : "record");
}

function choose(tab) {
  root.dataset.tab = tab;
  for (const button of document.querySelectorAll("[role=tab]")) button.setAttribute("aria-selected", String(button.dataset.tab === tab));
}

let told = "";
const link = new Link({
  state: draw,
  link(status, silent) {
    if (status === "live" && told === "live") return;
    if (status === "live") say("", true);
    told = status;
    drawLink(status, silent);
    if (status === "token") set("token-wrong", memory.get("token") ? "That token is wrong." : "");
  },
});
const video = new Video(link);

for (const button of document.querySelectorAll("[role=tab]")) {
  button.onclick = () => { memory.set("tab", button.dataset.tab); choose(button.dataset.tab); };
}
if (memory.get("tab")) choose(memory.get("tab"));
by("token-form").onsubmit = (event) => {
  event.preventDefault();
  link.retry(by("token").value.trim());
  video.open();
};
wireControl(ask);
wireRecord(ask);
wireTrials(ask);
wireHealth(ask);
wireKeys(ask, () => newest?.recording.active);
