// The connection to console_node: state in, words out. It notices within a second that nobody answers.

import { memory } from "./dom.js";

const LOST_MS = 750;          // the server speaks at least every 200 ms
const AGAIN_MS = [200, 400, 800, 1500];
const ANSWER_MS = 60000;      // going home takes its time
const NO_TOKEN = 4401;

const fromAddress = new URLSearchParams(location.hash.slice(1)).get("token");
if (fromAddress) {            // not to be read over a shoulder, bookmarked or sent on
  memory.set("token", fromAddress);
  history.replaceState(null, "", location.pathname);
}

export const hello = () => JSON.stringify({ token: memory.get("token"), page: memory.get("page") });
export const address = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

export class Link {
  /** `on.state(snapshot)`, `on.link("live" | "lost" | "token", silent_ms)`: called whenever there is something to say. */
  constructor(on) {
    this.on = on;
    this.status = "connecting";
    this.heard = performance.now();
    this.rtt = null;
    this.waiting = new Map();
    this.next = 0;
    this.tries = 0;
    this.open();
    setInterval(() => this.watch(), 100);
    setInterval(() => this.measure(), 2000);
  }

  get live() { return this.status === "live"; }

  open() {
    const socket = this.socket = new WebSocket(address("/ws/state"));
    socket.onopen = () => socket.send(hello());
    socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(event, socket);
  }

  closed(event, socket) {
    if (socket !== this.socket) return;
    for (const { reject } of this.waiting.values()) reject(new Error("the connection was lost before the answer came"));
    this.waiting.clear();
    if (event.code === NO_TOKEN) return this.tell("token");
    this.tell("lost", performance.now() - this.heard);
    setTimeout(() => this.open(), AGAIN_MS[Math.min(this.tries++, AGAIN_MS.length - 1)]);
  }

  hear(message) {
    this.heard = performance.now();
    if (message.type === "welcome") return memory.set("page", message.page);
    if (message.type === "state") {
      this.tries = 0;
      this.tell("live");
      return this.on.state(message);
    }
    const asked = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (asked) message.ok ? asked.resolve(message.words) : asked.reject(new Error(message.words));
  }

  watch() {
    const silent = performance.now() - this.heard;
    if (this.status === "token" || silent < LOST_MS) return;
    this.tell("lost", silent);
    if (silent > 3000 && this.socket.readyState === WebSocket.OPEN) {  // half open: the other end is gone
      this.heard = performance.now() - LOST_MS;
      this.socket.close();
    }
  }

  tell(status, silent = 0) {
    this.status = status;
    this.on.link(status, silent);
  }

  async measure() {
    if (!this.live) return;
    const began = performance.now();
    try { await this.ask("ping"); this.rtt = performance.now() - began; } catch { this.rtt = null; }
  }

  /** Say a word; the answer's words, or an Error with the refusal. */
  ask(word, more = {}) {
    if (this.socket.readyState !== WebSocket.OPEN || !this.live) return Promise.reject(new Error("no connection: nothing was sent"));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      setTimeout(() => { if (this.waiting.delete(id)) reject(new Error("no answer came")); }, ANSWER_MS);
      this.socket.send(JSON.stringify({ ...more, do: word, id }));
    });
  }

  retry(token) {
    memory.set("token", token);
    this.status = "connecting";
    this.heard = performance.now();
    this.open();
  }
}
