// An answer as the tokens it was made of, shaded by how sure the model was; each shows what else it might have said.

import { byId, el } from "./dom.js";

const SHADES = [0.9, 0.7, 0.5, 0.3, 0.1]; // a token of probability 0.95 has shade 0, one of 0.05 shade 5

// Puts the tokens into the element, those that are not there yet. One stop of the Tab key; arrows go along.
export function showTokens(element, tokens) {
  if (!element.tokens) {
    element.tokens = [];
    element.decoder = new TextDecoder();
    watch(element);
  }
  for (const token of tokens.slice(element.tokens.length)) {
    const shown = written(token, element.decoder);
    element.append(
      el("span", {
        class: `token shade-${shade(token.logprob)}`,
        tabindex: element.tokens.length === 0 ? "0" : "-1",
        role: "button",
        "data-at": element.tokens.length,
        "aria-label": `${named(token.text)}, ${percent(token.logprob)}`,
      }, shown),
    );
    if (shown === "" && token.bytes?.length) element.lastChild.classList.add("partial");
    if (shown.endsWith("\n")) element.lastChild.classList.add("ends-line");
    element.tokens.push(token);
  }
}

export const percent = (logprob) => {
  const p = Math.exp(logprob) * 100;
  if (p >= 99.95) return "100 %";
  return p >= 0.1 ? `${p.toPrecision(p >= 10 ? 3 : 2)} %` : "under 0.1 %";
};

// A space and a line's end are seen as marks where a token stands alone.
export const named = (text) => (text === "" ? "(nothing)" : text.replace(/^ | $/g, "·").replaceAll("\n", "↵").replaceAll("\t", "⇥"));

const shade = (logprob) => SHADES.filter((least) => Math.exp(logprob) < least).length;

// A token may hold a part of a character: its text then comes with the token that completes it.
function written({ text, bytes }, decoder) {
  if (!bytes) return text;
  const whole = decoder.decode(new Uint8Array(bytes), { stream: true });
  return whole;
}

function watch(element) {
  const token = (event) => event.target.closest?.(".token");
  element.addEventListener("pointerover", (event) => token(event) && open(token(event), element));
  element.addEventListener("pointerleave", () => !element.contains(document.activeElement) && close());
  element.addEventListener("focusin", (event) => token(event) && open(token(event), element));
  element.addEventListener("focusout", close);
  element.addEventListener("keydown", (event) => {
    const next = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const here = token(event);
    if (!next || !here) return;
    const there = element.children[Number(here.dataset.at) + next];
    if (!there) return;
    event.preventDefault();
    here.tabIndex = -1;
    there.tabIndex = 0;
    there.focus();
  });
}

let shown = null;

function open(span, element) {
  const token = element.tokens[Number(span.dataset.at)];
  const box = byId("alternatives");
  shown?.removeAttribute("aria-describedby");
  shown?.classList.remove("open");
  shown = span;
  span.classList.add("open");
  span.setAttribute("aria-describedby", "alternatives");
  box.replaceChildren(...content(token));
  box.hidden = false;
  place(box, span);
}

function close() {
  shown?.removeAttribute("aria-describedby");
  shown?.classList.remove("open");
  shown = null;
  byId("alternatives").hidden = true;
}

addEventListener("scroll", close, { capture: true, passive: true });

function content(token) {
  const top = token.top.length ? token.top : [token];
  const others = top.some((other) => other.text === token.text) ? top : [...top, token];
  const rows = others.map((other) => {
    const bar = el("span", { class: "bar" });
    bar.style.setProperty("--share", Math.exp(other.logprob));
    return el("tr", { class: other.text === token.text && "taken" },
      el("th", { scope: "row" }, named(other.text), other.text === token.text && el("span", { class: "unseen" }, " (taken)")),
      el("td", { class: "number" }, percent(other.logprob)),
      el("td", { "aria-hidden": "true" }, bar));
  });
  const sum = others.reduce((all, other) => all + Math.exp(other.logprob), 0);
  const rest = Math.max(0, 1 - sum);
  const foot = rest > 0.0005 && el("p", { class: "rest" }, `all others together ${percent(Math.log(rest))}`);
  return [el("table", {}, el("caption", { class: "unseen" }, "Likeliest tokens here"), el("tbody", {}, rows)), foot].filter(Boolean);
}

// Under the token, or above it where there is no room, and never beyond the window's sides.
function place(box, span) {
  const pieces = [...span.getClientRects()].sort((a, b) => b.width - a.width); // two, where a line ends in it
  const token = pieces[0] ?? span.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const below = token.bottom + 8 + height < innerHeight;
  box.style.left = `${Math.max(8, Math.min(token.left - 12, innerWidth - width - 8))}px`;
  box.style.top = `${below ? token.bottom + 8 : Math.max(8, token.top - height - 8)}px`;
}
