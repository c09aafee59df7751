// The service's API. The token is in the fragment of the page's address, which no request carries.

const token = () => new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
const RETRY = 2000; // ms between attempts to reach a service that has gone

export async function call(method, path, body) {
  const response = await fetch(`/inspector/api/${path}`, {
    method,
    headers: { Authorization: `Bearer ${token()}` },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  const answer = response.headers.get("content-type")?.startsWith("application/json") ? JSON.parse(text) : {};
  if (!response.ok && !answer.error) answer.error = text || `The service answers ${response.status}.`;
  return answer;
}

// Follow what happens for as long as the page is open. `news` takes each batch, `status` what to say of the service.
export async function follow(news, status) {
  for (;;) {
    try {
      const response = await fetch("/inspector/api/events", { headers: { Authorization: `Bearer ${token()}` } });
      if (!response.ok) {
        status("refused", await response.text());
        return;
      }
      status("live");
      await readLines(response.body, news);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // fetch's word for a network that fails
    }
    status("gone");
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}

async function readLines(stream, news) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) news(JSON.parse(line));
  }
}
