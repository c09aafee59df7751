// The page: its views, who is connected, and what the service says.

import * as activity from "./activity.js";
import * as console_ from "./console.js";
import { button, byId, element, facts, shortClock, showItems } from "./elements.js";
import * as faults from "./faults.js";
import { call, follow } from "./service.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(view) {
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === view;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}

for (const tab of tabs) {
  tab.addEventListener("click", () => show(tab.getAttribute("aria-controls")));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    show(next.getAttribute("aria-controls"));
    next.focus();
  });
}

function openConsole() {
  show("console");
  byId("console-hub").focus();
}

for (const link of document.querySelectorAll("[data-view]")) {
  link.addEventListener("click", () => (link.dataset.view === "console" ? openConsole() : show(link.dataset.view)));
}

// --- who is there ---

function connection(item) {
  const act = (action) => async () => {
    const { error } = await call("POST", `connections/${item.id}/${action}`);
    if (error) notify(error);
  };
  const name = item.user || "nobody";
  const claims = item.claims.length
    ? element("details", {}, element("summary", {}, `${item.claims.length} claims`), facts(item.claims, { class: "headers" }))
    : null;
  const reading = item.held
    ? button("Let it read on", act("release"), { "data-action": "hold", "aria-label": `Let ${name} read on` })
    : button("Stop reading", act("hold"), { "data-action": "hold", "aria-label": `Let ${name} stop reading`, title: "Treat it as a client that does not read" });
  return element("li", { class: item.held ? "held" : "" },
    element("div", { class: "what" },
      element("strong", { class: item.user ? "" : "nobody" }, name),
      element("span", {}, `${item.hub} · ${item.transport} · ${item.protocol || "before the handshake"} · since ${shortClock(item.since)}`),
      item.console ? element("span", { class: "mark" }, "console") : null,
      item.held ? element("span", { class: "mark warning" }, "does not read") : null,
      element("code", {}, item.id)),
    element("div", { class: "actions" },
      button("Activity", () => {
        activity.showOnly(item.id, item.user);
        show("activity");
      }, { "data-action": "activity", "aria-label": `Activity of ${name}` }),
      reading,
      button("Close", act("close"), { "data-action": "close", "aria-label": `Close ${name}`, title: "In good order, with a reason" }),
      button("Drop", act("drop"), { "data-action": "drop", "aria-label": `Drop ${name}`, title: "Cut its socket, as a broken network does" })),
    claims);
}

function user(item) {
  const groups = item.groups.map(({ group, until }) => element("span", { class: "mark" }, until ? `${group} until ${shortClock(until)}` : group));
  return element("li", {}, element("div", { class: "what" }, element("strong", {}, item.name), element("span", {}, `${item.hub} · ${count(item.connections)}`), ...groups));
}

function group(item) {
  return element("li", {}, element("div", { class: "what" }, element("strong", {}, item.name), element("span", {}, `${item.hub} · ${count(item.connections)}`)));
}

const count = (number) => (number === 1 ? "1 connection" : `${number} connections`);

function update(state) {
  byId("connection-count").textContent = state.totals.connections || "";
  for (const [name, make, key] of [["connections", connection, (item) => item.id], ["users", user, keyOf], ["groups", group, keyOf]]) {
    showItems(byId(name), state[name], key, make);
    byId(`${name}-empty`).hidden = state[name].length > 0;
    const more = state.totals[name] - state[name].length;
    byId(`${name}-more`).textContent = more > 0 ? `and ${more} more that are not listed` : "";
  }
  console_.update(state);
  faults.update(state);
}

const keyOf = (item) => `${item.hub}/${item.name}`;

// --- the service ---

function notify(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function setStatus(status, detail = "") {
  byId("status").textContent = { live: "live", gone: "not reachable", refused: "refused" }[status];
  byId("status").className = status;
  if (status === "live") notify("");
  if (status === "gone") notify("The service does not answer. This page goes on when it does; a new run of it has a new URL.");
  if (status === "refused") notify(detail);
}

activity.setUp(openConsole);
console_.setUp();
faults.setUp();
follow(({ rows, state }) => {
  if (state) update(state);
  if (rows) {
    activity.add(rows);
    console_.add(rows);
  }
}, setStatus);
addEventListener("hashchange", () => location.reload());
