// The field for the prompt: it grows with the text, takes images, sends and stops.

import { byId, el } from "./dom.js";
import { imageTray } from "./images.js";

const STARTERS = [
  "Tell me a short story about a fox and a lighthouse.",
  "Explain to a child why the sky is blue.",
  "Write a Python function that finds prime numbers, and explain it.",
  "Make a table of three trees, their height and their age.",
];

// send(text, images) is false if something must be put right first; the text then stays.
export function composer({ send, busy, editLast }) {
  const form = byId("composer");
  const field = byId("prompt");
  const say = (words) => (byId("composer-fault").textContent = words);
  const tray = imageTray(say);

  const submit = () => {
    const text = field.value.trim();
    if (busy() || (!text && tray.get().length === 0)) return field.focus();
    say("");
    if (!send(text, tray.get())) return say("Not sent: put right what is marked in red first.");
    field.value = "";
    tray.set([]);
    field.focus();
  };

  form.addEventListener("submit", (event) => (event.preventDefault(), submit()));
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Enter then chooses a character
    if (event.key === "Enter" && !event.shiftKey) event.preventDefault(), submit();
    if (event.key === "ArrowUp" && field.value === "" && editLast()) event.preventDefault();
  });
  byId("starters").append(...STARTERS.map((text) =>
    el("li", {}, el("button", { type: "button", onclick: () => ((field.value = text), field.focus()) }, text))));

  return {
    focus: () => field.focus(),
    show() {
      byId("send").hidden = busy();
      byId("stop").hidden = !busy();
    },
  };
}
