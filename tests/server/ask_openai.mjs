// What OpenAI's client for JavaScript makes of our server: node ask_openai.mjs BASE_URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const chat = { model: "tiny", messages: [{ role: "user", content: "Tell me a story." }], max_tokens: 12, seed: 1 };

const whole = await client.chat.completions.create(chat);
assert.equal(whole.choices[0].finish_reason, "length");
assert.equal(whole.usage.completion_tokens, 12);

let text = "";
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...chat, stream: true, stream_options: { include_usage: true },
})) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.equal(usage.completion_tokens, 12);

const continued = await client.completions.create({ model: "tiny", prompt: ["Once", "The"], max_tokens: 4 });
assert.equal(continued.choices.length, 2);

let delta = "";
let last = null;
for await (const event of await client.responses.create({
  model: "tiny", input: "Tell me a story.", max_output_tokens: 12, stream: true,
})) {
  if (event.type === "response.output_text.delta") delta += event.delta;
  last = event;
}
assert.equal(last.type, "response.incomplete");
assert.equal(last.response.output[0].content[0].text, delta);

const models = await client.models.list();
assert.ok(models.data.some((model) => model.id === "tiny"));

await assert.rejects(client.chat.completions.create({ ...chat, model: "nosuch" }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ ...chat, temperature: 3 }), (error) => error.param === "temperature");

const abort = new AbortController();
const stream = await client.chat.completions.create({ ...chat, stream: true, max_tokens: 500 }, { signal: abort.signal });
for await (const chunk of stream) {
  if (chunk.choices[0].delta.content) break;
}
abort.abort();
console.log("all is well");
