// The official JavaScript client, driven through standard input and output: see processes.py.
// Arguments: URL of the hub, protocol (json | messagepack), then the methods the server may call.

import { createInterface } from "node:readline";

import * as signalR from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

const [url, protocol, ...methods] = process.argv.slice(2);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");

const connection = new signalR.HubConnectionBuilder()
  .withUrl(url)
  .withHubProtocol(protocol === "json" ? new signalR.JsonHubProtocol() : new MessagePackHubProtocol())
  .configureLogging(signalR.LogLevel.None)
  .build();

for (const method of methods) {
  connection.on(method, (...args) => tell({ event: "message", message: [method, ...args] }));
}
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
  stop: () => connection.stop(),
};

try {
  await connection.start();
  tell({ event: "open" });
} catch (error) {
  tell({ event: "closed", error: error.message });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  actions[command.do](command); // not awaited: a second invocation may be sent while the first one runs
}
process.exit(0);
