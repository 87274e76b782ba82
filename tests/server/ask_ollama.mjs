// What Ollama's client for JavaScript makes of our server: node ask_ollama.mjs BASE_URL
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.argv[2] });
const options = { temperature: 0, num_predict: 12 };
const chat = { model: "tiny", messages: [{ role: "user", content: "Tell me a story." }], options };

const whole = await client.chat(chat);
assert.equal(whole.message.role, "assistant");
assert.equal(whole.done_reason, "length");
assert.equal(whole.eval_count, 12);
assert.ok(whole.prompt_eval_count > 0);

let text = "";
let last = null;
for await (const part of await client.chat({ ...chat, stream: true })) {
  text += part.message.content;
  last = part;
}
assert.ok(text);
assert.equal(text, whole.message.content);
assert.ok(last.done);
assert.equal(last.eval_count, 12);

const ask = { model: "tiny", prompt: "Tell me a story.", options };
const generated = await client.generate(ask);
assert.equal(generated.response, text);
let response = "";
for await (const part of await client.generate({ ...ask, stream: true })) response += part.response;
assert.equal(response, text);

const format = {
  type: "object",
  properties: { name: { type: "string", maxLength: 20 }, age: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["name", "age"],
  additionalProperties: false,
};
const filled = await client.chat({ ...chat, format, options: { temperature: 0, num_predict: 200 } });
const person = JSON.parse(filled.message.content);
assert.deepEqual(Object.keys(person).sort(), ["age", "name"]);
assert.ok(Number.isInteger(person.age) && person.age >= 0 && person.age <= 99);

const { embeddings } = await client.embed({ model: "tiny", input: ["a cat", "a cat", "two"] });
assert.equal(embeddings.length, 3);
assert.deepEqual(embeddings[0], embeddings[1]);
assert.notDeepEqual(embeddings[0], embeddings[2]);
// Each number was rounded to float32.
assert.ok(Math.abs(Math.hypot(...embeddings[0]) - 1) < 1e-5);
const { embedding } = await client.embeddings({ model: "tiny", prompt: "a cat" });
const length = Math.hypot(...embedding);
assert.ok(embedding.every((number, n) => Math.abs(number / length - embeddings[0][n]) < 1e-6));

const { models } = await client.list();
assert.ok(models.some((model) => model.name === "tiny:latest"));
const shown = await client.show({ model: "tiny" });
assert.equal(shown.model_info["general.architecture"], "phi3");
assert.ok(shown.capabilities.includes("completion"));
const running = await client.ps();
assert.deepEqual(running.models.map((model) => model.name), ["tiny:latest"]);
assert.match((await client.version()).version, /^\d/);

await assert.rejects(client.chat({ ...chat, model: "nosuch" }), (error) => error.status_code === 404 && /nosuch/.test(error.message));
await assert.rejects(client.chat({ ...chat, options: { temperature: -1 } }), (error) => error.status_code === 400);

// abort() is of every stream of this client: the loop ends in an error of that name.
const stream = await client.chat({ ...chat, stream: true, options: { temperature: 0, num_predict: 500 } });
await assert.rejects(async () => {
  for await (const part of stream) if (part.message.content) client.abort();
}, { name: "AbortError" });
console.log("all is well");
