// The list of what happens, and the details of one line of it.

import { button, byId, clock, duration, element, facts, short } from "./elements.js";
import { call } from "./service.js";

const KEPT = 1000; // rows that can be filtered
const SHOWN = 500; // rows in the page

const KINDS = {
  received: { label: "client →", group: "frames", spoken: "from client" },
  sent: { label: "→ client", group: "frames", spoken: "to client" },
  opened: { label: "opened", group: "frames", spoken: "opened" },
  closed: { label: "closed", group: "frames", spoken: "closed" },
  refused: { label: "refused", group: "frames", spoken: "client refused" },
  upstream: { label: "→ app", group: "upstream", spoken: "to app" },
  rest: { label: "REST", group: "rest", spoken: "REST" },
};

const rows = new Map(); // key → row, oldest first
let waiting = 0; // rows that came while the list was paused
let selected = null; // key
let onlyConnection = "";
let connectHint = () => {};

const list = byId("rows");
const details = byId("details");

export function setUp(openConsole) {
  connectHint = openConsole;
  for (const toggle of document.querySelectorAll(".toggles button")) {
    toggle.addEventListener("click", () => {
      toggle.setAttribute("aria-pressed", String(toggle.getAttribute("aria-pressed") !== "true"));
      render();
    });
  }
  byId("filter").addEventListener("input", render);
  byId("only").addEventListener("click", () => showOnly(""));
  byId("pause").addEventListener("click", togglePause);
  byId("clear").addEventListener("click", () => {
    rows.clear();
    waiting = 0;
    close();
    render();
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (row) select(row.dataset.key);
  });
  list.addEventListener("keydown", moveSelection);
  details.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      list.focus();
    }
  });
  render();
}

export function add(news) {
  for (const row of news) rows.set(row.key, row);
  while (rows.size > KEPT) rows.delete(rows.keys().next().value);
  if (isPaused()) {
    waiting += news.length;
    byId("pause").textContent = `Resume (${waiting} new)`;
    return;
  }
  const follow = isAtEnd();
  for (const row of news) {
    const before = byId(`row-${row.key}`);
    if (before) before.replaceWith(line(row));
    else if (fits(row)) insert(line(row));
  }
  while (list.childElementCount > SHOWN) list.firstElementChild.remove();
  showEmpty();
  if (follow) list.scrollTop = list.scrollHeight;
  if (selected && news.some((row) => row.key === selected)) open(selected);
}

// Show what concerns one connection; "" shows everything.
export function showOnly(connection, name = "") {
  onlyConnection = connection;
  const only = byId("only");
  only.hidden = !connection;
  only.textContent = `Only ${name || short(connection)} ×`;
  render();
}

// --- the list ---

const isPaused = () => byId("pause").getAttribute("aria-pressed") === "true";
const isAtEnd = () => list.scrollHeight - list.scrollTop - list.clientHeight < 40;
const wanted = (kind) => document.querySelector(`.toggles [data-kind=${kind}]`).getAttribute("aria-pressed") === "true";

function fits(row) {
  if (!wanted(KINDS[row.kind].group) || (row.type === "Ping" && !wanted("pings"))) return false;
  if (onlyConnection && row.connection !== onlyConnection) return false;
  const text = byId("filter").value.trim().toLowerCase();
  return !text || [row.user, row.connection, row.type, row.name, row.text, row.state].join(" ").toLowerCase().includes(text);
}

// A call is told of when it is over, and belongs where it began.
function insert(made) {
  let after = list.lastElementChild;
  while (after && Number(after.dataset.key) > Number(made.dataset.key)) after = after.previousElementSibling;
  if (after) after.after(made);
  else list.prepend(made);
}

function render() {
  const follow = isAtEnd();
  const wantedRows = [...rows.values()].filter(fits).sort((one, other) => Number(one.key) - Number(other.key));
  list.replaceChildren(...wantedRows.slice(-SHOWN).map(line));
  showEmpty();
  if (follow) list.scrollTop = list.scrollHeight;
}

function showEmpty() {
  const empty = byId("rows-empty");
  empty.hidden = list.childElementCount > 0;
  if (empty.hidden) return;
  if (rows.size) empty.replaceChildren("Nothing of what has happened fits the filter.");
  else {
    empty.replaceChildren("Nothing has happened yet. Open a page of your app, or ",
      button("connect a client by hand", connectHint, { class: "link" }), ".");
  }
}

function line(row) {
  const kind = KINDS[row.kind];
  const who = row.connection ? row.user || short(row.connection) : "";
  const name = row.name || (["Handshake", "Completion", "StreamItem", "Ping", "Close"].includes(row.type) ? row.type.toLowerCase() : row.type);
  return element("div",
    {
      role: "option", id: `row-${row.key}`, "data-key": row.key, "aria-selected": String(row.key === selected),
      class: `row ${row.kind}${row.failed ? " failed" : ""}`,
    },
    element("time", {}, clock(row.time)),
    element("span", { class: "who", title: row.connection }, who),
    element("span", { class: "kind", "aria-label": kind.spoken }, kind.label),
    element("span", { class: "name" }, row.kind === "rest" && !name.includes("/:") ? `${row.type} ${name}` : name),
    element("span", { class: "text" }, row.text),
    element("span", { class: /^(2..|…)?$/.test(row.state) ? "state" : "state bad" }, row.state),
    element("span", { class: "took" }, duration(row.seconds)));
}

function togglePause() {
  const paused = !isPaused();
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Resume" : "Pause";
  waiting = 0;
  if (!paused) render();
}

function moveSelection(event) {
  const options = [...list.children];
  const at = options.findIndex((option) => option.dataset.key === selected);
  const next = { ArrowDown: at + 1, ArrowUp: at < 0 ? options.length - 1 : at - 1, Home: 0, End: options.length - 1 }[event.key];
  if (event.key === "Escape") close();
  if (next === undefined) return;
  event.preventDefault();
  const option = options[Math.max(0, Math.min(options.length - 1, next))];
  if (option) select(option.dataset.key);
}

function select(key) {
  byId(`row-${selected}`)?.setAttribute("aria-selected", "false");
  selected = key;
  const row = byId(`row-${key}`);
  row?.setAttribute("aria-selected", "true");
  list.setAttribute("aria-activedescendant", `row-${key}`);
  open(key);
  row?.scrollIntoView({ block: "nearest" });
}

// --- the details ---

function close() {
  byId(`row-${selected}`)?.setAttribute("aria-selected", "false");
  list.removeAttribute("aria-activedescendant");
  selected = null;
  details.hidden = true;
}

async function open(key) {
  const entry = await call("GET", `entries/${key.split(".")[0]}`);
  if (key !== selected) return; // another row was chosen meanwhile
  const head = element("div", { class: "line" }, element("h2", {}, entry.title ?? "No details"),
    element("span", { class: "space" }), button("Close", close, { "aria-label": "Close details" }));
  details.replaceChildren(head, ...(entry.error ? [element("p", { class: "empty" }, entry.error)] : parts(entry)));
  details.hidden = false;
  byId(`row-${key}`)?.scrollIntoView({ block: "nearest" }); // the list has less room now
}

function parts(entry) {
  const actions = element("div", { class: "line" });
  if (entry.connection) actions.append(button("Only this connection", () => showOnly(entry.connection)));
  if (entry.replay) actions.append(button("Replay", (event) => replay(event.target, entry.number)));
  const sections = entry.sections.flatMap((section) => [
    element("h3", {}, section.title),
    section.headers.length ? element("p", { class: "request" }, section.text) : element("pre", { tabindex: "0" }, section.text),
    section.headers.length ? facts(section.headers, { class: "headers" }) : null,
  ]);
  if (entry.curl) {
    const curl = element("pre", { tabindex: "0", "aria-label": "Shell command" }, entry.curl);
    sections.push(element("div", { class: "line" }, element("h3", {}, "For a shell"), element("span", { class: "space" }),
      button("Copy", (event) => copy(event.target, entry.curl))),
      element("p", { class: "hint" }, "Signed with the access key in $ACCESS_KEY: it is in the connection string."), curl);
  }
  if (entry.no_curl) sections.push(element("h3", {}, "For a shell"), element("p", { class: "hint" }, entry.no_curl));
  return [facts(entry.facts, { class: "facts" }), actions, ...sections].filter(Boolean);
}

async function replay(pressed, number) {
  pressed.disabled = true;
  const answer = await call("POST", `entries/${number}/replay`);
  pressed.disabled = false;
  pressed.textContent = answer.error ?? "Replayed";
  if (!answer.error) select(String(answer.number));
}

async function copy(pressed, text) {
  try {
    await navigator.clipboard.writeText(text);
    pressed.textContent = "Copied";
  } catch {
    pressed.textContent = "Select it, and copy";
  }
}
