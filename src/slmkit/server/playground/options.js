// The options of an answer: what each means, its bounds, and the panel's rows. An empty field leaves the model its own.

import { el } from "./dom.js";

// name: as the API has it.   slider: the range that is useful, where the bounds allow more.   off: where it changes nothing.
const OPTIONS = [
  { name: "temperature", label: "Temperature", low: 0, high: 100, step: 0.05, slider: [0, 2], off: 0,
    help: "How freely words are chosen. 0 always takes the likeliest and gives the same answer each time; 0.7 is lively; above 1.5 sentences fall apart." },
  { name: "top_p", label: "Top p", low: 0, high: 1, step: 0.01, slider: [0, 1], off: 1,
    help: "Choose only among the likeliest tokens that hold this share of the probability together. 1 leaves out none." },
  { name: "top_k", label: "Top k", low: 0, whole: true,
    help: "Choose only among so many of the likeliest tokens. 0 leaves out none." },
  { name: "min_p", label: "Min p", low: 0, high: 1, step: 0.01, slider: [0, 1], off: 0,
    help: "Drop tokens that are less likely than this fraction of the likeliest one. 0.05 tames a high temperature." },
  { name: "max_tokens", label: "Most tokens", low: 1, whole: true,
    help: "The answer ends after so many tokens, in the middle of a sentence if need be. A token is about three quarters of a word." },
  { name: "seed", label: "Seed", low: 0, high: Number.MAX_SAFE_INTEGER, whole: true,
    help: "Any whole number. With the same seed, options and prompt, the answer is the same again." },
  { name: "stop", label: "Stop texts", texts: true,
    help: "The answer ends before any of these, one on each line; \\n stands for a new line." },
  { name: "presence_penalty", label: "Presence penalty", low: -100, high: 100, step: 0.1, slider: [-2, 2], off: 0,
    help: "Above 0, tokens that the answer used already become less likely, however often they came: it turns to new subjects." },
  { name: "frequency_penalty", label: "Frequency penalty", low: -100, high: 100, step: 0.1, slider: [-2, 2], off: 0,
    help: "Above 0, each use of a token makes it less likely once more: the answer repeats itself less." },
  { name: "repetition_penalty", label: "Repetition penalty", low: 0.01, high: 100, step: 0.05, slider: [0.5, 2], off: 1,
    help: "Above 1, tokens of the prompt and the answer so far become less likely. 1 is off; beyond 1.3 grammar suffers." },
];

// Why that text is no value of the option; "" if it is one, or is empty.
function fault(option, text) {
  if (option.texts || text.trim() === "") return "";
  const value = Number(text.trim().replace(",", "."));
  const { low, high } = option;
  const kind = option.whole ? "a whole number" : "a number";
  const range = high === undefined ? `of ${low} or more` : `from ${low} to ${high === Number.MAX_SAFE_INTEGER ? "2⁵³ − 1" : high}`;
  const wrong = !Number.isFinite(value) || (option.whole && !Number.isInteger(value)) || value < low || value > high;
  return wrong ? `“${text.trim()}” does not fit: it takes ${kind} ${range}. Clear the field for the model's own.` : "";
}

function valueOf(option, text) {
  if (option.texts) return text.split("\n").filter((line) => line !== "").map((line) => line.replaceAll("\\n", "\n"));
  return Number(text.trim().replace(",", "."));
}

// The rows, in the element; changed() is called when a person changed one.
export function optionRows(element, changed) {
  const rows = OPTIONS.map((option) => row(option, changed));
  element.append(...rows.map(({ node }) => node));
  return {
    valid: () => rows.map(({ check }) => check()).every(Boolean),
    // The options that are set, by the API's names; null, with the first wrong field in focus, if one does not fit.
    values() {
      const wrong = rows.find(({ check }) => !check());
      if (wrong) return wrong.focus(), null;
      const set = rows.filter(({ text }) => text().trim() !== "");
      return Object.fromEntries(set.map(({ option, text }) => [option.name, valueOf(option, text())]));
    },
    texts: () => Object.fromEntries(rows.filter(({ text }) => text() !== "").map(({ option, text }) => [option.name, text()])),
    fill: (texts) => rows.forEach(({ option, fill }) => fill(typeof texts?.[option.name] === "string" ? texts[option.name] : "")),
    // Shows what the server said against an option; false if it is none of these.
    blame(name, words) {
      const at = rows.find(({ option }) => option.name === name);
      at?.blame(words);
      return Boolean(at);
    },
  };
}

function row(option, changed) {
  const id = `option-${option.name}`;
  const described = { "aria-describedby": `${id}-help ${id}-fault`, id, autocomplete: "off", spellcheck: "false" };
  const field = option.texts
    ? el("textarea", { ...described, rows: 2, placeholder: "none" })
    : el("input", { ...described, type: "text", inputmode: option.whole ? "numeric" : "decimal", placeholder: "model's own" });
  const slider = option.slider && el("input", {
    type: "range", min: option.slider[0], max: option.slider[1], step: option.step, class: "unset", "aria-label": `${option.label}, slider`,
  });
  const problem = el("p", { class: "fault", id: `${id}-fault`, "aria-live": "polite" });

  const blame = (words) => {
    problem.textContent = words;
    field.setAttribute("aria-invalid", String(words !== ""));
  };
  const check = () => {
    const words = fault(option, field.value);
    blame(words);
    return words === "";
  };
  const follow = () => {
    if (!slider) return;
    const unset = field.value.trim() === "";
    slider.classList.toggle("unset", unset);
    slider.value = unset ? option.off : field.value.replace(",", ".");
  };
  field.addEventListener("input", () => (check(), follow(), changed()));
  slider?.addEventListener("input", () => ((field.value = slider.value), check(), follow(), changed()));

  const head = el("div", { class: "option-head" }, el("label", { for: id }, option.label), !option.texts && field);
  const node = el("div", { class: "option" }, head, option.texts && field, slider,
    el("p", { class: "help", id: `${id}-help` }, option.help), problem);
  const focus = () => field.focus();
  const fill = (text) => ((field.value = text), check(), follow());
  return { option, node, check, blame, focus, fill, text: () => field.value };
}

