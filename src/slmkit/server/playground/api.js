// The server: its models, and answers as they are written.

import { Fault, faultOf } from "./faults.js";
import { askForKey, currentKey } from "./key.js";
import { pieces } from "./stream.js";

// Relative, so that the page works behind a proxy that serves it under a path.
const url = (path) => new URL(path, document.baseURI);

async function ask(path, options = {}) {
  for (;;) {
    const key = currentKey();
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    const response = await reach(url(path), { ...options, headers });
    if (response.status === 401 && (await askForKey(key))) continue;
    if (!response.ok) throw await faultOf(response);
    return response;
  }
}

async function reach(address, options) {
  try {
    return await fetch(address, { ...options, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server does not answer");
  }
}

// Names of the models that can be asked, in the server's order.
export async function models() {
  const { data } = await (await ask("v1/models")).json();
  return data.map((model) => model.id);
}

// What the answer to that body is made of, piece by piece (stream.js has their shape).
export async function* answer(body, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  yield* pieces(response.body);
}
