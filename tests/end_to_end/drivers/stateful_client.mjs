// The official JavaScript client with stateful reconnect, behind a network that breaks.
// Arguments: URL of the service's endpoint, token, protocol (json | messagepack), how many calls to make and messages to
// expect. When all have come or the connection is closed it tells what it has seen, as one line of JSON.

import * as signalR from "@microsoft/signalr";
import { MessagePackHubProtocol } from "@microsoft/signalr-protocol-msgpack";

const [url, token, protocol, count] = process.argv.slice(2);
const expected = Number(count);
const seen = { received: [], answers: [], closed: null };

const connection = new signalR.HubConnectionBuilder()
  .withUrl(url, { accessTokenFactory: () => token })
  .withHubProtocol(protocol === "json" ? new signalR.JsonHubProtocol() : new MessagePackHubProtocol())
  .withStatefulReconnect()
  .configureLogging(signalR.LogLevel.None)
  .build();

const over = new Promise((resolve) => {
  connection.onclose((error) => {
    seen.closed = error?.message ?? "closed without an error";
    resolve();
  });
  connection.on("news", (number) => {
    seen.received.push(number);
    if (seen.received.length === expected) {
      resolve();
    }
  });
});

await connection.start();
process.stdout.write("open\n");
const calls = Promise.allSettled(
  Array.from({ length: expected }, (_, number) =>
    connection.invoke("echo", number).then((answer) => seen.answers.push(answer))
  )
);
await over;
await calls;
process.stdout.write(JSON.stringify(seen) + "\n");
await connection.stop();
