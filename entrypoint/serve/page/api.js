// The server's API, as far as the page needs it. Addresses are relative: the page may lie below a
// prefix, as on PAI-EAS.

/** What the server, or the way to it, answered instead of an answer. */
export class Refusal extends Error {
  constructor({ message, code } = {}, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const headers = (key) => ({
  "Content-Type": "application/json",
  ...(key ? { Authorization: `Bearer ${key}` } : {}),
});

async function problem(response) {
  const body = await response.json().catch(() => null);
  return new Refusal(body?.error ?? { message: response.statusText }, response.status);
}

/** Return the models that are served. */
export async function models(key) {
  const response = await fetch("v1/models", { headers: headers(key) });
  if (!response.ok) throw await problem(response);
  return (await response.json()).data;
}

/** Return the description of the whole API, in the OpenAPI format. */
export async function description(key) {
  const response = await fetch("openapi.json", { headers: headers(key) });
  if (!response.ok) throw await problem(response);
  return response.json();
}

/** Tell whether every model is loaded. */
export const ready = async () => (await fetch("ready")).ok;

/** Yield what is streamed in answer to `question`: pieces { text } or { thought }, then { usage, reason }. */
export async function* answer(question, key, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers(key),
    body: JSON.stringify({ ...question, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw await problem(response);
  let reason = null;
  for await (const event of events(response.body)) {
    if (event.error) throw new Refusal(event.error);
    const [choice] = event.choices;
    reason = choice?.finish_reason ?? reason;
    if (choice?.delta.reasoning_content) yield { thought: choice.delta.reasoning_content };
    if (choice?.delta.content) yield { text: choice.delta.content };
    if (event.usage) yield { usage: event.usage, reason };
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
    }
  }
}
