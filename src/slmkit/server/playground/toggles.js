// The switches under the prompt; each remembers its state.

import { byId } from "./dom.js";
import { keep, kept } from "./kept.js";

// A switch: on(), set(on). changed(on, byHand) is called for each change and once at the start.
export function toggle(id, changed = () => {}) {
  const button = byId(id);
  let on = kept(`toggle.${id}`, false) === true;
  const show = (byHand) => {
    button.setAttribute("aria-pressed", String(on));
    changed(on, byHand);
  };
  const set = (value, byHand = false) => {
    on = value;
    keep(`toggle.${id}`, on);
    show(byHand);
  };
  button.addEventListener("click", () => set(!on, true));
  show(false);
  return { on: () => on, set, flip: () => set(!on, true) };
}
