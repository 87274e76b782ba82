// The keys, in one list: what they do and what the page says of them.

import { byId, el } from "./dom.js";

const ALWAYS = [
  ["Enter", "send the prompt"],
  ["Shift + Enter", "a new line"],
  ["↑", "in an empty prompt: edit the last one"],
  ["Esc", "stop the answer, or close what is open"],
  ["← →", "among tokens: the one before or after"],
  ["/", "go to the prompt"],
  ["?", "this list"],
];

// held: { code of the key that is pressed with Alt: [name, words, what it does] }
export function shortcuts(held, { escape, toPrompt }) {
  const dialog = byId("shortcuts");
  const rows = [...ALWAYS, ...Object.values(held).map(([name, words]) => [`Alt + ${name}`, words])];
  byId("shortcut-list").append(...rows.flatMap(([keys, words]) => [el("dt", {}, keys.split(" ").map((key) => (key === "+" ? " + " : el("kbd", {}, key)))), el("dd", {}, words)]));
  byId("open-shortcuts").addEventListener("click", () => dialog.showModal());

  addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape") return escape();
    if (event.altKey && !event.ctrlKey && !event.metaKey && held[event.code]) {
      event.preventDefault();
      return held[event.code][2]();
    }
    if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "?") event.preventDefault(), dialog.showModal();
    if (event.key === "/") event.preventDefault(), toPrompt();
  });
}
