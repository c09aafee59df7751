// The official JavaScript client, driven through standard input and output: see processes.py.
// Arguments: URL of the hub, protocol (json | messagepack), transport (WebSockets | ServerSentEvents | LongPolling |
// fallback: all of them, where WebSockets fail), then the methods the server may call. What the server calls "ask" is
// answered, and with a method that is given as "name=JSON" it is that value. A fragment of the URL is a bearer token.

import { createInterface } from "node:readline";

import * as signalR from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

const [place, protocol, transport, ...methods] = process.argv.slice(2);
const [url, token] = place.split("#");
const tell = (event) => process.stdout.write(JSON.stringify(event, show) + "\n");

// What JSON has no form for: {"bytes": hex} and {"time": ISO 8601}.
function show(key, value) {
  if (this[key] instanceof Date) return { time: this[key].toISOString() };
  return value instanceof Uint8Array ? { bytes: Buffer.from(value).toString("hex") } : value;
}

let negotiations = 0; // with the service
class CountingHttpClient extends signalR.DefaultHttpClient {
  send(request) {
    negotiations += request.url.includes("/client/negotiate") ? 1 : 0;
    return super.send(request);
  }
}

class NoWebSocket {
  constructor() {
    throw new Error("there are no WebSockets here");
  }
}

const logger = { log() {} };
const options = { httpClient: new CountingHttpClient(logger), logger };
if (transport === "fallback") options.WebSocket = NoWebSocket;
else options.transport = signalR.HttpTransportType[transport];

if (token) options.accessTokenFactory = () => token;

const connection = new signalR.HubConnectionBuilder()
  .withUrl(url, options)
  .withHubProtocol(protocol === "json" ? new signalR.JsonHubProtocol() : new MessagePackHubProtocol())
  .configureLogging(signalR.LogLevel.None)
  .build();

for (const method of methods) {
  const [name, answer] = method.split("=");
  connection.on(name, (...args) => {
    tell({ event: "message", message: [name, ...args] });
    return answer && JSON.parse(answer);
  });
}
connection.on("ask", (...args) => ["answered", ...args]);
connection.onclose((error) => tell({ event: "closed", error: error?.message ?? null }));

const actions = {
  invoke: async ({ call, target, args }) => {
    try {
      tell({ event: "answer", call, result: (await connection.invoke(target, ...args)) ?? null });
    } catch (error) {
      tell({ event: "answer", call, error: error.message });
    }
  },
  send: ({ target, args }) => connection.send(target, ...args),
  stream: ({ call, target, args }) => {
    const items = [];
    connection.stream(target, ...args).subscribe({
      next: (item) => items.push(item),
      complete: () => tell({ event: "answer", call, result: items }),
      error: (error) => tell({ event: "answer", call, error: error.message }),
    });
  },
  take: ({ call, target, args, count }) => {
    const items = [];
    const subscription = connection.stream(target, ...args).subscribe({
      next: (item) => {
        items.push(item);
        if (items.length !== count) return;
        subscription.dispose();
        tell({ event: "answer", call, result: items });
      },
      complete: () => {},
      error: (error) => tell({ event: "answer", call, error: error.message }),
    });
  },
  stop: () => connection.stop(),
};

try {
  await connection.start();
  tell({ event: "open", transport: connection.connection.transport.constructor.name, negotiations });
} catch (error) {
  tell({ event: "closed", error: error.message });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  actions[command.do](command); // not awaited: a second invocation may be sent while the first one runs
}
process.exit(0);
