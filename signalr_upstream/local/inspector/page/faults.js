// The switches of what goes wrong on purpose. What is changed counts at once.

import { byId, element } from "./elements.js";
import { call } from "./service.js";

const STATUSES = [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504];
const HARMLESS = new Set(["rest_retry_after", "client_retry_after"]); // say nothing without a status

const form = byId("fault-settings");
let settings = {};

export function setUp() {
  for (const select of form.querySelectorAll("select")) {
    select.append(element("option", { value: "" }, "off"), ...STATUSES.map((status) => element("option", { value: status }, status)));
  }
  form.addEventListener("change", save);
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("faults-off").addEventListener("click", () => call("POST", "faults/clear"));
}

export function update(state) {
  settings = state.faults;
  for (const input of form.elements) {
    if (!(input.name in settings) || input === document.activeElement && input.type === "number") continue;
    if (input.type === "checkbox") input.checked = settings[input.name];
    else input.value = settings[input.name] ?? "";
  }
  const held = state.connections.filter((connection) => connection.held).length;
  const on = Object.entries(settings).filter(([name, value]) => value && !HARMLESS.has(name)).length + held;
  byId("fault-count").textContent = on || "";
  byId("faults-summary").textContent = on === 0 ? "Nothing goes wrong on purpose." : on === 1 ? "One fault is on." : `${on} faults are on.`;
}

async function save() {
  if (!form.reportValidity()) return;
  const wanted = { ...settings };
  for (const input of form.elements) {
    if (!(input.name in wanted)) continue;
    if (input.type === "checkbox") wanted[input.name] = input.checked;
    else if (input.type === "number") wanted[input.name] = Number(input.value);
    else wanted[input.name] = input.value ? Number(input.value) : null;
  }
  const answer = await call("PUT", "faults", wanted);
  if (answer.error) byId("faults-summary").textContent = answer.error;
}
