// Chromium with several windows, driven through standard input and output: see processes.py.
// Arguments: path of the browser, a folder for its profile.

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const DEADLINE = 15_000; // ms; for one thing to be seen

const [executablePath, profile] = process.argv.slice(2);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

const browser = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  chromiumSandbox: false,
  viewport: { width: 1000, height: 700 },
  args: ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
browser.setDefaultTimeout(DEADLINE);
const windows = new Map();

// A place is [role, name], as a screen reader would say it: ["button", "Send"].
const find = (command) => {
  const place = windows.get(command.window).getByRole(command.role, { name: command.name, exact: true });
  return command.text === undefined ? place : place.getByText(command.text, { exact: command.exact ?? true }).first();
};

const actions = {
  open: async ({ window, url }) => {
    const page = await browser.newPage();
    page.on("pageerror", (error) => tell({ event: "message", message: [window, "page error", String(error)] }));
    windows.set(window, page);
    return (await page.goto(url)).status();
  },
  click: (command) => find(command).click(),
  check: (command) => find(command).check(),
  fill: ({ value, ...command }) => find(command).fill(value),
  select: ({ value, ...command }) => find(command).selectOption(value),
  see: (command) => find(command).waitFor({ state: "visible" }),
  see_gone: (command) => find(command).waitFor({ state: "hidden" }),
  read: (command) => find(command).allInnerTexts(),
  screenshot: ({ window, path }) => windows.get(window).screenshot({ path }),
};

tell({ event: "open" });
for await (const line of createInterface({ input: process.stdin })) {
  const { call, do: action, ...command } = JSON.parse(line);
  try {
    tell({ event: "answer", call, result: (await actions[action](command)) ?? null });
  } catch (error) {
    tell({ event: "answer", call, error: error.message });
  }
}
await browser.close();
process.exit(0);
