// Chromium with several windows, driven through standard input and output: see processes.py.
// Arguments: path of the browser, a folder for its files.

import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const DEADLINE = 15_000; // ms; for one thing to be seen

const [executablePath, folder] = process.argv.slice(2);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

process.env.TMPDIR = folder; // where Playwright makes a new profile
const browser = await chromium.launch({
  executablePath,
  headless: true,
  chromiumSandbox: false,
  args: ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const windows = new Map();

// A place is a role and perhaps a name, as a screen reader says them; a text is looked for inside of it.
const find = ({ window, role, name, text, exact = true }) => {
  const place = windows.get(window).getByRole(role, name ? { name, exact: true } : {});
  return text === undefined ? place : place.getByText(text, { exact }).first();
};

const actions = {
  open: async ({ window, url, without, width = 1000, height = 700, scheme = "light" }) => { // the status of the answer
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme });
    await page.addInitScript((names) => names.forEach((name) => delete globalThis[name]), without);
    page.setDefaultTimeout(DEADLINE);
    page.on("pageerror", (error) => tell({ event: "message", message: [window, "page error", String(error)] }));
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => {
      page.lastFrame = typeof payload === "string" ? "text" : "binary";
    }));
    page.on("request", (request) => {
      if (request.method() === "GET" && request.url().includes("/client/?")) page.reader = request.resourceType();
    });
    windows.set(window, page);
    return (await page.goto(url)).status();
  },
  close: ({ window }) => windows.get(window).close(),
  click: (command) => find(command).click(),
  check: (command) => find(command).check(),
  fill: ({ value, ...command }) => find(command).fill(value),
  select: ({ value, ...command }) => find(command).selectOption(value),
  see: (command) => find(command).waitFor({ state: "visible" }),
  see_gone: (command) => find(command).waitFor({ state: "hidden" }),
  press: ({ window, key }) => windows.get(window).keyboard.press(key),
  focused: ({ window }) => windows.get(window).evaluate(() => document.activeElement.ariaLabel ?? document.activeElement.innerText),
  count: ({ window, selector }) => windows.get(window).locator(selector).count(),
  overflow: ({ window }) => windows.get(window).evaluate(() => document.documentElement.scrollWidth - innerWidth),
  ground: ({ window }) => windows.get(window).evaluate(() => getComputedStyle(document.documentElement).backgroundColor),
  title: ({ window }) => windows.get(window).title(),
  value: (command) => find(command).inputValue(),
  read: (command) => find(command).allInnerTexts(),
  reader: ({ window }) => windows.get(window).reader, // how it reads what the service says, if by requests
  last_frame: ({ window }) => windows.get(window).lastFrame,
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
