"use strict";

const $ = (id) => document.getElementById(id);
const rooms = new Map(); // name → { lines: [], people: Map(connection id → name), unread }
const receipts = new Set(); // ids of what our invoke() was told is sent
let me = "";
let room = "lobby"; // the one shown
let recipient = null; // a name: what is sent next is for that person alone
let connection = null;

// --- the connection ----------------------------------------------------------------------------------------

const retryDelay = (tries) => Math.min(250 * 2 ** tries, 5000); // ms, without end: the server comes back

function buildConnection() {
  const protocol = $("protocol").value === "json"
    ? new signalR.JsonHubProtocol()
    : new signalR.protocols.msgpack.MessagePackHubProtocol();
  const built = new signalR.HubConnectionBuilder()
    .withUrl("chat?name=" + encodeURIComponent(me)) // asks our app at chat/negotiate, which sends it to the service
    .withHubProtocol(protocol)
    .withAutomaticReconnect({ nextRetryDelayInMilliseconds: (retry) => retryDelay(retry.previousRetryCount) })
    .configureLogging(signalR.LogLevel.Error)
    .build();
  built.onreconnecting(showStatus);
  built.onreconnected(enterRooms);
  built.onclose(() => built === connection && connect()); // the service ended it: begin anew

  built.on("joined", (name, person) => {
    if (addPerson(name, person)) addLine(name, { event: `${person.name} joined` });
    built.send("greet", name, person.id);
  });
  built.on("here", (name, person) => addPerson(name, person));
  built.on("left", (name, person) => removePerson(name, person));
  built.on("gone", (person) => rooms.forEach((_, name) => removePerson(name, person)));
  built.on("message", (message) => addLine(message.room, message));
  built.on("whisper", (message) => addLine(room, { ...message, whisper: `${message.sender}, to you alone` }));
  return built;
}

async function connect() {
  const mine = connection = buildConnection();
  for (let tries = 0; mine === connection; tries++) {
    showStatus();
    try {
      await mine.start();
      return await enterRooms();
    } catch (error) {
      if (/Status code '4\d\d'/.test(error.message)) return signOut("The server did not accept this name.");
      await new Promise((resolve) => setTimeout(resolve, retryDelay(tries)));
    }
  }
}

async function disconnect() {
  const old = connection;
  connection = null; // so that its end is not taken for a lost connection
  await old?.stop();
}

async function enterRooms() { // a new connection is in no room yet
  showStatus();
  for (const [name, { people }] of rooms) {
    people.clear();
    await invoke("joinRoom", name);
    addPerson(name, { id: connection.connectionId, name: me });
  }
}

async function invoke(target, ...args) { // what a handler returns, or undefined with its error shown
  try {
    const result = await connection.invoke(target, ...args);
    showError("");
    return result;
  } catch (error) {
    showError(error.message.replace(/^.*HubException: /, ""));
  }
}

// --- what is known -----------------------------------------------------------------------------------------

const names = (name) => new Set(rooms.get(name)?.people.values());

function addPerson(name, person) {
  const isNew = !names(name).has(person.name);
  rooms.get(name)?.people.set(person.id, person.name);
  showPeople();
  return isNew;
}

function removePerson(name, person) {
  if (!rooms.get(name)?.people.delete(person.id)) return;
  if (!names(name).has(person.name)) addLine(name, { event: `${person.name} left` });
  showPeople();
}

function addLine(name, line) {
  const known = rooms.get(name);
  if (!known) return;
  known.lines.push(line);
  known.unread = name !== room;
  if (name === room) showLine(line);
  showRooms();
}

function openRoom(name) {
  room = name;
  rooms.get(name).unread = false;
  $("log").replaceChildren();
  rooms.get(name).lines.forEach(showLine);
  writeTo(null);
  showRooms();
  showPeople();
}

// --- what is shown: text only, never HTML from others ------------------------------------------------------

function element(tag, text, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), { textContent: text }, properties);
  made.append(...children);
  return made;
}

function showStatus() {
  const state = connection?.state ?? "Disconnected";
  $("status").textContent = { Connected: "connected", Connecting: "connecting …" }[state] ?? "reconnecting …";
  $("status").dataset.state = state;
  for (const button of document.querySelectorAll("#send, #join button")) button.disabled = state !== "Connected";
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
  $("log").lastElementChild?.scrollIntoView({ block: "end" }); // the log has become shorter
}

function showRooms() {
  $("rooms").replaceChildren(...[...rooms].map(([name, { unread }]) => {
    const open = element("button", name, { type: "button", onclick: () => openRoom(name) });
    const leave = element("button", "×", { type: "button", className: "quiet", title: `Leave ${name}`,
      ariaLabel: `Leave ${name}`, hidden: rooms.size === 1, onclick: () => leaveRoom(name) });
    return element("li", "", { className: unread ? "unread" : "", ariaCurrent: String(name === room) }, open, leave);
  }));
}

function showPeople() {
  $("people").replaceChildren(...[...names(room)].sort().map((name) => element("li", "", {}, name === me
    ? element("button", `${name} (you)`, { type: "button", disabled: true })
    : element("button", name, { type: "button", onclick: () => writeTo(name) }))));
}

function showLine(line) {
  const { event, sender, text, at, whisper, id } = line;
  const item = event ? element("li", event, { className: "event" }) : element("li", "", {
    className: `${sender === me ? "mine" : ""} ${whisper ? "whisper" : ""}` },
    element("small", whisper ?? sender), element("span", text), element("small", (receipts.has(id) ? "✓ sent " : "") + time(at), { className: "receipt" }));
  item.dataset.id = id;
  $("log").append(item);
  item.scrollIntoView({ block: "end" });
}

const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

function writeTo(name) {
  recipient = name;
  $("to").textContent = `${name} only ×`;
  $("to").hidden = !name;
  $("text").placeholder = name ? `Message to ${name} alone` : `Message to ${room}, or /shout …`;
  $("text").focus();
}

// --- what people do ----------------------------------------------------------------------------------------

async function joinRoom(name) {
  if (!rooms.has(name)) {
    rooms.set(name, { lines: [], people: new Map(), unread: false });
    await invoke("joinRoom", name);
    addPerson(name, { id: connection.connectionId, name: me });
  }
  openRoom(name);
}

async function leaveRoom(name) {
  rooms.delete(name);
  openRoom(name === room ? rooms.keys().next().value : room);
  await invoke("leaveRoom", name);
}

async function send(text) {
  const to = recipient;
  const receipt = to ? await invoke("whisper", to, text) : await invoke("sendMessage", room, text);
  if (!receipt) return; // refused: the text stays, to be changed
  $("text").value = "";
  receipts.add(receipt.id);
  if (to && to !== me) addLine(room, { ...receipt, sender: me, text, whisper: `you, to ${to} alone` });
  const line = document.querySelector(`#log li[data-id="${receipt.id}"] .receipt`);
  if (line) line.textContent = `✓ sent ${time(receipt.at)}`;
}

async function signIn() {
  me = $("name").value.trim();
  if (!me) return;
  $("me").textContent = me;
  $("sign-in").hidden = true;
  $("chat").hidden = false;
  rooms.clear();
  rooms.set("lobby", { lines: [], people: new Map(), unread: false });
  openRoom("lobby");
  await connect();
}

async function signOut(reason) {
  $("chat").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-error").textContent = reason;
  $("sign-in-error").hidden = !reason;
  await disconnect();
}

function onSubmit(id, action) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

onSubmit("sign-in", () => {
  $("protocol").value = document.querySelector("input[name=protocol]:checked").value;
  signIn();
});
onSubmit("join", () => {
  joinRoom($("room").value.trim());
  $("room").value = "";
});
onSubmit("compose", () => send($("text").value));
$("to").addEventListener("click", () => writeTo(null));
$("sign-out").addEventListener("click", () => signOut(""));
$("protocol").addEventListener("change", () => disconnect().then(connect));
