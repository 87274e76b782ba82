// A block of code: its language, a button that copies it, and colours where the language is known.

import { copy, el } from "./dom.js";
import { icon } from "./icons.js";

const ALIASES = {
  js: "javascript", jsx: "javascript", ts: "typescript", tsx: "typescript", py: "python", sh: "bash", shell: "bash",
  console: "bash", zsh: "bash", "c++": "cpp", cxx: "cpp", h: "c", hpp: "cpp", rs: "rust", golang: "go", yml: "yaml",
  html: "markup", xml: "markup", svg: "markup", patch: "diff", jsonc: "json",
};
const LONGEST_COLOURED = 20_000; // characters; the patterns take long over more, and hostile code could hold the page up

export function codeBlock(text, info) {
  const language = info.trim().split(/\s/)[0].toLowerCase();
  const words = el("span", {}, "Copy");
  const button = el("button", { type: "button", class: "quiet", "aria-label": "Copy the code" }, icon("copy"), words);
  button.addEventListener("click", async () => {
    try {
      await copy(text);
      words.textContent = "Copied";
    } catch {
      words.textContent = "Not copied: select the text instead";
    }
    setTimeout(() => (words.textContent = "Copy"), 2000);
  });
  const code = el("code", {}, coloured(text, language));
  const bar = el("div", { class: "code-bar" }, el("span", {}, language || "text"), button);
  return el("div", { class: "code" }, bar, el("pre", { tabindex: "0", "aria-label": language ? `Code: ${language}` : "Code" }, code));
}

// Text, and spans with the class of what each piece of it is.
function coloured(text, language) {
  const prism = globalThis.Prism;
  const grammar = prism?.languages[ALIASES[language] ?? language];
  if (!grammar || typeof grammar !== "object" || text.length > LONGEST_COLOURED) return [text];
  return nodes(prism.tokenize(text, grammar));
}

function nodes(content) {
  if (typeof content === "string") return [content];
  if (Array.isArray(content)) return content.flatMap(nodes);
  return [el("span", { class: `code-${content.type}` }, nodes(content.content))];
}
