// The options' panel as a whole: what a request takes from it, and what a conversation remembers of it.

import { byId, el } from "./dom.js";
import { keep, kept } from "./kept.js";
import { optionRows } from "./options.js";
import { openPanel } from "./panels.js";
import { EXAMPLES, schemaEditor } from "./schema.js";
import { chooseRate, chooseVoice, chosenVoice, rate, voices, whenVoicesChange, whyMute } from "./speech.js";

export const ALTERNATIVES = 5; // shown for each token

// json, tokens: the switches.
export function optionsPanel({ json, tokens }) {
  const remember = () => keep("settings", settings());
  const rows = optionRows(byId("option-rows"), remember);
  const schema = schemaEditor(remember);
  const instructions = byId("instructions");
  instructions.addEventListener("input", remember);
  byId("reset-options").addEventListener("click", () => (rows.fill({}), remember()));

  const inTurn = byId("in-turn");
  inTurn.checked = kept("in-turn", true);
  inTurn.addEventListener("change", () => keep("in-turn", inTurn.checked));
  voiceRows();

  const settings = () => ({ instructions: instructions.value, options: rows.texts(), schema: schema.text(), json: json.on() });
  const fill = (given) => {
    instructions.value = given.instructions ?? "";
    rows.fill(given.options ?? {});
    schema.fill(given.schema || JSON.stringify(Object.values(EXAMPLES)[0], null, 2));
    json.set(given.json === true);
  };
  fill(kept("settings", { json: json.on() }));

  return {
    settings,
    fill: (given) => (fill(given), remember()),
    inTurn: () => inTurn.checked,
    instructions: () => instructions.value,
    // The body's fields besides model and messages; null, with the wrong field in focus, if one does not fit.
    body() {
      if (!rows.valid() || (json.on() && !schema.valid())) openPanel("options"); // only what is seen takes the focus
      const options = rows.values();
      const format = json.on() && options ? { response_format: schema.format() } : {};
      if (options === null || format.response_format === null) return null;
      const logprobs = tokens.on() ? { logprobs: true, top_logprobs: ALTERNATIVES } : {};
      return { ...options, ...format, ...logprobs };
    },
    // Marks the field that the server refused; false if it is none of the panel's.
    blame(param, words) {
      const name = (param ?? "").split(/[.[]/)[0];
      if (name === "response_format") return schema.blame(words), true;
      return rows.blame(name === "max_completion_tokens" ? "max_tokens" : name, words);
    },
    reveal(param) {
      const name = (param ?? "").split(/[.[]/)[0];
      openPanel("options", name === "response_format" ? "schema" : `option-${name === "max_completion_tokens" ? "max_tokens" : name}`);
    },
  };
}

function voiceRows() {
  const choice = byId("voice");
  const speed = byId("voice-rate");
  const fill = () => {
    const names = voices().map((voice) => el("option", { value: voice.name }, voice.localService ? voice.name : `${voice.name} (sends the text to its maker)`));
    choice.replaceChildren(...names);
    choice.value = chosenVoice()?.name ?? "";
    choice.disabled = names.length === 0;
    byId("voice-help").textContent = whyMute() ?? "Answers are read sentence by sentence as they are written; code is left out.";
  };
  whenVoicesChange(fill);
  choice.addEventListener("change", () => (chooseVoice(choice.value), fill()));
  const show = () => (byId("voice-rate-shown").textContent = `${Number(speed.value).toFixed(1)} ×`);
  speed.value = rate();
  speed.addEventListener("input", () => (chooseRate(Number(speed.value)), show()));
  show();
  fill();
}
