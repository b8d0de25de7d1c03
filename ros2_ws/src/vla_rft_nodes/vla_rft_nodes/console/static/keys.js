// The keyboard: the recorder's keys, and H for HOLD. What is typed into a field is left alone.

const RECORDER = { ArrowRight: "keep", ArrowLeft: "discard", u: "undo", Escape: "stop" };

export function wireKeys(ask, sessionRuns) {
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input")) return;
    if (event.key === "h" || event.key === "H") return void ask("hold");
    const key = RECORDER[event.key];
    if (!key || !sessionRuns()) return;
    event.preventDefault();
    ask("key", { key });
  });
}
