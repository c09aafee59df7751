// Making and updating parts of the page. What comes from outside becomes text, never markup.

export const byId = (id) => document.getElementById(id);

// element("button", {type: "button", onclick: f}, "Text", child): properties that begin with "on" are listeners.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const button = (text, onclick, attributes = {}) => element("button", { type: "button", onclick, ...attributes }, text);

// Names and values as a list of definitions.
export function facts(pairs, attributes = {}) {
  return element("dl", attributes, ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

const shown = new WeakMap(); // item → the data it was made of

// Make the children of `list` those of `items`. What has not changed is left alone, so that focus and selection stay.
export function showItems(list, items, key, make) {
  const before = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const data = JSON.stringify(item);
    let child = before.get(key(item));
    before.delete(key(item));
    if (child && shown.get(child) !== data) {
      const replacement = remember(make(item), key(item), data);
      const focused = child.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
      if (place === child) place = replacement;
      if (child.querySelector("details[open]")) replacement.querySelector("details")?.setAttribute("open", "");
      child.replaceWith(replacement);
      if (focused) replacement.querySelector(`[data-action="${focused}"]`)?.focus();
      child = replacement;
    }
    child ??= remember(make(item), key(item), data);
    if (place === child) place = child.nextElementSibling;
    else list.insertBefore(child, place);
  }
  for (const child of before.values()) child.remove();
}

function remember(child, key, data) {
  child.dataset.key = key;
  shown.set(child, data);
  return child;
}

export const clock = (seconds) => {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, "0")}`;
};

export const shortClock = (seconds) => clock(seconds).slice(0, 8);

export const short = (id) => id.slice(0, 6);

export const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return "";
  const ms = seconds * 1000;
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${seconds.toFixed(1)} s`;
};
