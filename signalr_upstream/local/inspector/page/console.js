// The console: clients that are connected by hand, and what they are told.

import { byId, clock, element, short } from "./elements.js";
import { call } from "./service.js";

const LINES = 300; // kept in the output
const TARGETS = 50; // methods that are offered

const clients = new Map(); // connection id → name
const seen = new Set(); // ids that the service has told of
const targets = new Set();

export function setUp() {
  byId("connect").addEventListener("submit", (event) => {
    event.preventDefault();
    connect();
  });
  byId("call").addEventListener("submit", (event) => {
    event.preventDefault();
    callApp(true);
  });
  byId("send").addEventListener("click", () => {
    if (byId("call").reportValidity()) callApp(false);
  });
  byId("disconnect").addEventListener("click", () => call("DELETE", `console/${byId("console-client").value}`));
  byId("console-clear").addEventListener("click", () => {
    byId("output").replaceChildren();
    byId("output-empty").hidden = false;
  });
  showClients();
}

// What the service knows: the hubs, and the clients of the console that are still there.
export function update(state) {
  const hub = byId("console-hub");
  if (!hub.value && state.hubs.length && document.activeElement !== hub) hub.value = state.hubs[0];
  byId("hubs").replaceChildren(...state.hubs.map((name) => element("option", { value: name })));
  const there = state.connections.filter((connection) => connection.console);
  for (const [id, name] of clients) {
    if (seen.has(id) && !there.some((connection) => connection.id === id)) {
      clients.delete(id);
      seen.delete(id);
      tell("end", name, "disconnected", "");
    }
  }
  for (const { id, user, hub: where } of there) {
    clients.set(id, `${user || "nobody"} in ${where} (${short(id)})`);
    seen.add(id);
  }
  showClients();
}

// Messages for the console's clients, and methods that were called before.
export function add(rows) {
  for (const row of rows) {
    if (row.kind === "upstream" && row.name !== "connected" && row.name !== "disconnected") offer(row.name);
    if (row.kind === "sent" && row.type === "Invocation" && clients.has(row.connection)) {
      tell("message", clients.get(row.connection), row.name, row.text);
    }
  }
}

async function connect() {
  const answer = await call("POST", "console", {
    hub: byId("console-hub").value.trim(),
    user: byId("console-user").value,
    protocol: byId("console-protocol").value,
    claims: readClaims(byId("console-claims").value),
  });
  const name = `${byId("console-user").value || "nobody"} in ${byId("console-hub").value}`;
  if (answer.error) {
    tell("error", name, "not connected", answer.error);
    return;
  }
  clients.set(answer.connection, `${name} (${short(answer.connection)})`);
  showClients(answer.connection);
  tell("result", clients.get(answer.connection), "connected", "");
}

function readClaims(text) {
  const claims = {};
  for (const each of text.split("\n")) {
    const [name, ...value] = each.split(":");
    if (name.trim()) (claims[name.trim()] ??= []).push(value.join(":").trim());
  }
  return claims;
}

async function callApp(wait) {
  const id = byId("console-client").value;
  const name = clients.get(id);
  const target = byId("console-target").value;
  tell("call", name, `${wait ? "invoke" : "send"} ${target}`, byId("console-arguments").value);
  offer(target);
  const answer = await call("POST", `console/${id}/call`, { target, arguments: byId("console-arguments").value, wait });
  if (answer.error) tell("error", name, `${target} failed`, answer.error);
  else if (wait) tell("result", name, `${target} →`, answer.result);
}

function offer(target) {
  if (targets.has(target) || targets.size >= TARGETS) return;
  targets.add(target);
  byId("targets").append(element("option", { value: target }));
}

function showClients(chosen) {
  const select = byId("console-client");
  const before = chosen ?? select.value;
  const options = [...clients].map(([id, name]) => element("option", { value: id }, name));
  if (!options.length) options.push(element("option", { value: "" }, "none is connected"));
  if (select.textContent !== options.map((option) => option.textContent).join("") || chosen) {
    select.replaceChildren(...options);
    select.value = clients.has(before) ? before : options[0].value;
  }
  for (const id of ["console-client", "disconnect", "invoke", "send"]) byId(id).disabled = !clients.size;
}

function tell(kind, who, what, text) {
  const output = byId("output");
  const follow = output.scrollHeight - output.scrollTop - output.clientHeight < 40;
  output.append(element("li", { class: kind }, element("time", {}, clock(Date.now() / 1000)),
    element("span", { class: "who" }, who), element("span", { class: "name" }, what), element("span", { class: "text" }, text)));
  while (output.childElementCount > LINES) output.firstElementChild.remove();
  byId("output-empty").hidden = true;
  if (follow) output.scrollTop = output.scrollHeight;
}
