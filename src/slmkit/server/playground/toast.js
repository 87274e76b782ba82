// A word at the foot of the page that goes by itself, with something to undo if there is.

import { byId, el } from "./dom.js";

const SECONDS = 8;
let timer = null;

export function toast(text, undo = null) {
  const place = byId("toast");
  const hide = () => place.replaceChildren();
  const button = undo && el("button", { type: "button", class: "quiet", onclick: () => (hide(), undo()) }, "Undo");
  const note = el("div", { class: "toast" }, el("span", {}, text), button);
  const wait = () => (clearTimeout(timer), (timer = setTimeout(hide, SECONDS * 1000)));
  note.addEventListener("pointerenter", () => clearTimeout(timer));
  note.addEventListener("focusin", () => clearTimeout(timer));
  note.addEventListener("pointerleave", wait);
  note.addEventListener("focusout", wait);
  place.replaceChildren(note);
  wait();
}
