// Markdown as elements. The parser's tree is walked by hand and each node becomes an element or a text, so what a model
// writes can never be more than what is listed here: its HTML is text, its images are links, its links go to the web.

import { codeBlock } from "./code.js";
import { el } from "./dom.js";
import { lexer } from "./vendor/marked/marked.esm.js";

// Shows that Markdown in the element. Called again as text arrives, it replaces only blocks that changed, so a
// selection and a half-read code block stay where they are.
export function showMarkdown(element, text) {
  const blocks = lexer(text, { gfm: true, breaks: true }).filter((token) => token.type !== "space" && token.type !== "def");
  const before = element.blocks ?? [];
  blocks.forEach((token, at) => {
    if (before[at]?.raw === token.raw && before[at]?.type === token.type) return;
    const node = block(token);
    if (element.childNodes[at]) element.childNodes[at].replaceWith(node);
    else element.append(node);
  });
  while (element.childNodes.length > blocks.length) element.lastChild.remove();
  element.blocks = blocks.map(({ type, raw }) => ({ type, raw }));
}

function block(token) {
  switch (token.type) {
    case "heading":
      return el(`h${Math.min(token.depth + 2, 6)}`, {}, inline(token.tokens)); // the page's own headings come first
    case "paragraph":
      return el("p", {}, inline(token.tokens));
    case "blockquote":
      return el("blockquote", {}, token.tokens.filter(visible).map(block));
    case "list":
      return list(token);
    case "code":
      return codeBlock(token.text, token.lang ?? "");
    case "table":
      return table(token);
    case "hr":
      return el("hr");
    case "text":
      return token.tokens ? el("p", {}, inline(token.tokens)) : el("p", {}, unescaped(token.text));
    default: // "html", and whatever a later parser adds
      return el("p", { class: "as-written" }, token.raw.trimEnd());
  }
}

const visible = ({ type }) => type !== "space" && type !== "def";

function list(token) {
  const start = token.ordered && token.start !== 1 ? token.start : null;
  return el(token.ordered ? "ol" : "ul", { start }, token.items.map(item));
}

function item(token) {
  const content = token.tokens.filter(visible).flatMap((child) => {
    if (child.type === "checkbox") return [];
    const tight = !token.loose && (child.type === "text" || child.type === "paragraph");
    return tight ? (child.tokens ? inline(child.tokens) : [unescaped(child.text)]) : [block(child)];
  });
  if (!token.task) return el("li", {}, content);
  const box = el("input", { type: "checkbox", disabled: true, checked: token.checked, "aria-label": token.checked ? "done" : "to do" });
  return el("li", { class: "task" }, box, " ", content);
}

function table(token) {
  const cell = (name) => ({ tokens }, at) => el(name, { class: token.align[at] && `to-${token.align[at]}` }, inline(tokens));
  const head = el("thead", {}, el("tr", {}, token.header.map(cell("th"))));
  const rows = token.rows.map((row) => el("tr", {}, row.map(cell("td"))));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, el("table", {}, head, el("tbody", {}, rows)));
}

function inline(tokens) {
  return tokens.map((token) => {
    switch (token.type) {
      case "strong":
      case "em":
      case "del":
        return el(token.type, {}, inline(token.tokens));
      case "codespan":
        return el("code", {}, token.text);
      case "br":
        return el("br");
      case "link":
        return link(token.href, inline(token.tokens), token.raw);
      case "image":
        return link(token.href, [`Image: ${token.text || token.href}`], token.raw);
      case "text":
      case "escape":
        return token.tokens ? el("span", {}, inline(token.tokens)) : unescaped(token.text);
      default: // "html"
        return token.raw;
    }
  });
}

// A link leaves nothing behind it and knows nothing of this page; one that is not of the web stays as it was written.
function link(href, content, raw) {
  if (!/^(https?:|mailto:)/i.test(href)) return raw;
  return el("a", { href, target: "_blank", rel: "noopener noreferrer nofollow", title: href }, content);
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", ndash: "–", mdash: "—", times: "×", copy: "©", deg: "°" };

function unescaped(text) {
  return text.replace(/&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|(\w{2,8}));/g, (all, decimal, hex, name) => {
    if (name) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : all;
    const point = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
  });
}
