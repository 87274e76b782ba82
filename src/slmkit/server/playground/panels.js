// The two sides, conversations and options: beside the conversation where there is room, else over it.

import { byId } from "./dom.js";
import { keep, kept } from "./kept.js";

const NAMES = ["history", "options"];
const roomy = matchMedia("(min-width: 64rem)");

const button = (name) => byId(`open-${name}`);
const isOpen = (name) => !byId(name).hidden;
const covering = () => !roomy.matches && NAMES.some(isOpen);

export function openPanel(name, focus = null) {
  if (!roomy.matches) NAMES.filter((other) => other !== name).forEach(hide);
  byId(name).hidden = false;
  if (roomy.matches) keep(`panel.${name}`, true);
  settle();
  if (focus) byId(focus)?.focus();
  else if (!roomy.matches) byId(name).querySelector("button, textarea, input")?.focus();
}

export function closePanel(name) {
  if (!isOpen(name)) return;
  const within = byId(name).contains(document.activeElement);
  hide(name);
  if (roomy.matches) keep(`panel.${name}`, false);
  settle();
  if (within) button(name).focus();
}

export const flipPanel = (name) => (isOpen(name) ? closePanel(name) : openPanel(name));

// Closes what covers the conversation; false if nothing does.
export function uncover() {
  if (!covering()) return false;
  NAMES.forEach(closePanel);
  return true;
}

const hide = (name) => (byId(name).hidden = true);

function settle() {
  byId("scrim").hidden = !covering();
  byId("main").inert = covering();
  NAMES.forEach((name) => button(name).setAttribute("aria-expanded", String(isOpen(name))));
}

export function panels() {
  const fit = () => {
    byId("history").hidden = !(roomy.matches && kept("panel.history", true));
    byId("options").hidden = !(roomy.matches && kept("panel.options", false));
    settle();
  };
  roomy.addEventListener("change", fit);
  NAMES.forEach((name) => button(name).addEventListener("click", () => flipPanel(name)));
  document.querySelectorAll("[data-close]").forEach((it) => it.addEventListener("click", () => closePanel(it.dataset.close)));
  byId("scrim").addEventListener("click", uncover);
  fit();
}
