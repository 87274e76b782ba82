// A stream of server-sent events, and the pieces of an answer in it.

import { Fault } from "./faults.js";

// The data of each event, as text. Lines may end in any of the three ways, and events anywhere in a chunk of bytes.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? "\n\n" : value;
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        if (line !== "" || data.length === 0) continue;
        yield data.join("\n");
        data = [];
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// { text, tokens, reason, usage, timing } of each chunk; absent ones are null, tokens may be empty.
// token: { text, bytes, logprob, top: [{ text, logprob }] }
export async function* pieces(body) {
  for await (const text of reached(events(body))) {
    if (text === "[DONE]") return;
    const chunk = parsed(text);
    if (chunk.error) {
      const { message, code, param, status } = chunk.error;
      throw new Fault(message ?? "The server gave up", { status: status ?? 500, code, param });
    }
    const choice = chunk.choices?.[0];
    yield {
      text: choice?.delta?.content ?? "",
      tokens: (choice?.logprobs?.content ?? []).map(token),
      reason: choice?.finish_reason ?? null,
      usage: chunk.usage ?? null,
      timing: chunk.timing ?? chunk.usage?.timing ?? null,
    };
  }
  throw new Fault("The answer broke off: the server closed the connection");
}

async function* reached(stream) {
  try {
    yield* stream;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The answer broke off: the connection to the server is gone");
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault("The answer broke off: the server sent something that is no JSON", { status: 502 });
  }
}

const token = ({ token: text, bytes, logprob, top_logprobs: top }) => ({
  text: spelt(text, bytes),
  bytes: bytes ?? null,
  logprob,
  top: (top ?? []).map((other) => ({ text: spelt(other.token, other.bytes), logprob: other.logprob })),
});

// A part of a character has no text; its bytes are told instead.
const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, "0");
const spelt = (text, bytes) => (bytes && text.includes("\ufffd") ? `<${bytes.map(hex).join(" ")}>` : text);
