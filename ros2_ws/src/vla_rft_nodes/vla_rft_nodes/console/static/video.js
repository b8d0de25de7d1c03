// Pictures, and how old they are. A picture that is not fresh is never shown as if it were.

import { by, set, show } from "./dom.js";
import { address, hello } from "./link.js";

const SLOW_S = 0.25;
const STALE_S = 0.5;
const DEAD_S = 1.0;
const GHOST_STALE_S = 2.0;    // the required start is drawn twice a second
const HEADER = 13;            // view uint8, number uint32, age float64
const VIEWS = 2;

export class Video {
  constructor(link) {
    this.link = link;
    this.canvas = by("picture");
    this.draw2d = this.canvas.getContext("2d", { alpha: false });
    this.view = 0;
    this.chosen = false;
    this.last = Array.from({ length: VIEWS }, () => null);   // {at, age} of the newest of each view
    this.arrivals = [];
    for (const button of by("views").children) {
      button.onclick = () => { this.chosen = true; this.choose(Number(button.dataset.view)); };
    }
    this.open();
    setInterval(() => this.judge(), 100);
  }

  open() {
    const socket = new WebSocket(address("/ws/video"));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(hello());
    socket.onmessage = async (event) => {
      try { await this.take(event.data); } finally {
        if (socket.readyState === WebSocket.OPEN) socket.send("1");
      }
    };
    socket.onclose = (event) => { if (event.code < 4400) setTimeout(() => this.open(), 500); };
    this.socket = socket;
  }

  get fps() {
    const now = performance.now();
    this.arrivals = this.arrivals.filter((at) => now - at < 2000);
    return this.arrivals.length / 2;
  }

  async take(data) {
    const at = performance.now();
    const header = new DataView(data, 0, HEADER);
    const view = header.getUint8(0);
    this.last[view] = { at, age: header.getFloat64(5, true), data };
    if (view === 0) this.arrivals.push(at);
    if (view === this.view) await this.draw(data);
  }

  async draw(data) {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }));
    if (this.canvas.width !== bitmap.width || this.canvas.height !== bitmap.height) {
      this.canvas.width = bitmap.width;
      this.canvas.height = bitmap.height;
    }
    this.draw2d.drawImage(bitmap, 0, 0);
    bitmap.close();
  }

  /** The required start is shown by itself while a scene is laid out, unless somebody chose otherwise. */
  follow(phase) {
    const wanted = phase === "scene" && this.ageOf(1) < GHOST_STALE_S;
    show("views", wanted || this.view === 1);
    if (!wanted) { this.chosen = false; if (this.view !== 0) this.choose(0); }
    else if (!this.chosen && this.view !== 1) this.choose(1);
  }

  choose(view) {
    this.view = view;
    if (this.last[view]) this.draw(this.last[view].data);
    for (const button of by("views").children) button.setAttribute("aria-pressed", String(Number(button.dataset.view) === view));
  }

  ageOf(view) {
    const last = this.last[view];
    return last ? last.age + (performance.now() - last.at) / 1000 : Infinity;
  }

  judge() {
    const age = this.ageOf(this.view);
    const ghost = this.view === 1;
    const frame = this.canvas.parentElement;
    const words = age < 10 ? `${Math.round(age * 1000)} ms` : `${Math.round(age)} s`;
    let state = "live", text = `● live · ${words}`;
    if (age === Infinity) [state, text] = ["none", "✕ no picture"];
    else if (ghost && age < GHOST_STALE_S) text = `● required start · ${age.toFixed(1)} s`;
    else if (age > STALE_S) [state, text] = ["stale", `✕ old picture · ${age < 10 ? `${age.toFixed(1)} s` : words}`];
    else if (age > SLOW_S) [state, text] = ["slow", `▲ late · ${words}`];
    const badge = by("age");
    if (badge.dataset.age !== state) badge.dataset.age = state;
    set(badge, text);
    const dead = ghost ? age > GHOST_STALE_S : age > DEAD_S;
    frame.dataset.live = age === Infinity ? "never" : dead || this.link.status !== "live" ? "no" : "yes";
  }
}
