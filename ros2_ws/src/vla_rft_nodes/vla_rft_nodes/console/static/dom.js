// Small helpers: elements by id, text that is set only when it differs, lists that are rebuilt only when they do.

export const by = (id) => document.getElementById(id);

export function set(id, text) {
  const element = typeof id === "string" ? by(id) : id;
  const wanted = String(text ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function show(id, visible) {
  const element = typeof id === "string" ? by(id) : id;
  if (element.hidden === visible) element.hidden = !visible;
}

export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined) continue;
    if (name in element && !name.startsWith("data-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const drawn = new WeakMap();

/** Fill `id` with what `make(data)` returns, unless it was filled with the same data before. */
export function fill(id, data, make) {
  const element = by(id);
  const key = JSON.stringify(data);
  if (drawn.get(element) === key) return;
  drawn.set(element, key);
  element.replaceChildren(...make(data));
}

export const seconds = (value) => (value < 60 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")} min`);

/** sessionStorage, where a browser allows it. */
export const memory = {
  get(key) { try { return sessionStorage.getItem(key) ?? ""; } catch { return ""; } },
  set(key, value) { try { sessionStorage.setItem(key, value); } catch { /* a page without memory asks again */ } },
};
