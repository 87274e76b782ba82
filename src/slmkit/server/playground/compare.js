// Which models answer: one, or two on the same prompt.

import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { advice, sentence } from "./faults.js";
import { keep, kept } from "./kept.js";

// models(): names of those that answer now.   reload(): asks the server which there are.   show(both).
export function modelChoice() {
  const fields = [byId("model-0"), byId("model-1")];
  let both = false;

  const fill = (names) =>
    fields.forEach((field, column) => {
      const wanted = field.value || kept(`model.${column}`);
      field.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
      field.value = names.includes(wanted) ? wanted : (names[column] ?? names[0] ?? "");
      field.disabled = names.length === 0;
    });
  fields.forEach((field, column) => field.addEventListener("change", () => keep(`model.${column}`, field.value)));

  const reload = async () => {
    try {
      const names = await api.models();
      fill(names);
      tell(names.length ? "" : "This server has no models; fetch one with slm pull, then reload this page.");
    } catch (fault) {
      fill([]);
      tell(`There is no list of models: ${sentence(fault.message)} ${advice(fault)}`, reload);
    }
  };

  return {
    models: () => (both ? fields : fields.slice(0, 1)).map((field) => field.value),
    ready: () => fields[0].value !== "",
    show(value) {
      both = value;
      fields[1].hidden = !both;
      fields[0].setAttribute("aria-label", both ? "First model" : "Model");
    },
    focus: (column) => fields[column]?.focus(),
    reload,
  };
}

function tell(words, again = null) {
  const banner = byId("server-fault");
  banner.hidden = words === "";
  banner.replaceChildren(words, again ? el("button", { type: "button", class: "quiet", onclick: again }, "Try again") : "");
}
