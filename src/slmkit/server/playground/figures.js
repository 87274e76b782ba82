// How fast an answer came: tokens a second, time to the first token, total.

import { el } from "./dom.js";

// A watch for one answer: the server's own times where it tells them, else what was seen here.
export function stopwatch() {
  const start = performance.now();
  let first = null;
  return {
    piece: () => (first ??= performance.now()),
    times: () => ({ first_token_s: ((first ?? performance.now()) - start) / 1000, total_s: (performance.now() - start) / 1000 }),
  };
}

// Numbers of an answer; those that are not known are null. The rate is that of the tokens after the first.
export function figuresOf({ usage, timing, tokens }) {
  const count = usage?.completion_tokens ?? (tokens.length || null);
  const first = timing?.first_token_s ?? null;
  const total = timing?.total_s ?? null;
  const rate = count > 1 && total > first ? (count - 1) / (total - first) : null;
  return { count, first, total, rate, read: usage?.prompt_tokens ?? null, cached: usage?.prompt_tokens_details?.cached_tokens ?? null };
}

const seconds = (s) => (s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(s < 10 ? 2 : 1)} s`);
const perSecond = (rate) => `${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`;

const CLEARLY = 0.02; // closer than that, neither is the better one

// The line under an answer. rivals: figures of the answers beside it; the better number of each kind is set off.
export function figuresLine(figures, rivals = []) {
  const { count, first, total, rate, read, cached } = figures;
  const apart = (a, b) => Math.abs(a - b) > CLEARLY * b;
  const best = (name, better) =>
    rivals.length > 0 && rivals.every(({ [name]: other }) => other !== null && better(figures[name], other) && apart(figures[name], other));
  const part = (name, text, title, better) =>
    figures[name] !== null && el("li", { "data-figure": name, class: better && best(name, better) && "best", title }, text);
  const less = (a, b) => a < b;
  return el("ul", { class: "figures", "aria-label": "Speed" },
    part("rate", rate !== null && perSecond(rate), "speed of writing, the first token aside", (a, b) => a > b),
    part("first", first !== null && `first token ${seconds(first)}`, "from sending to the first token: reading the prompt", less),
    part("total", total !== null && `total ${seconds(total)}`, "from sending to the end", less),
    part("count", count !== null && `${count} ${count === 1 ? "token" : "tokens"}`, read !== null && `${read} tokens were read${cached ? `, ${cached} of them found in the cache` : ""}`));
}
