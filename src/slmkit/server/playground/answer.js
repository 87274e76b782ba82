// One model's answer as it is seen: its text or tokens, what went wrong, its figures, and what can be done with it.

import { copy, el } from "./dom.js";
import { sentence } from "./faults.js";
import { figuresLine, figuresOf } from "./figures.js";
import { icon } from "./icons.js";
import { showMarkdown } from "./markdown.js";
import { laidOut } from "./schema.js";
import { reader, whyMute } from "./speech.js";
import { toast } from "./toast.js";
import { showTokens } from "./tokens.js";

const CUT = "The answer was cut off at the most tokens allowed. Raise “Most tokens” in the options, or ask it to go on.";

// actions: regenerate(), reveal(param).   rivals(): the answers beside this one.
// update() may be called for each token: it draws once a frame.
export function answerView(answer, { regenerate, reveal, rivals }) {
  let body = el("div", { class: "answer-body" });
  const note = el("p", { class: "note" });
  const trouble = el("div", { class: "trouble", role: "alert" });
  const foot = el("footer", { class: "answer-foot" });
  const node = el("article", { class: "answer", "aria-label": `Answer of ${answer.model}` },
    el("h3", { class: "model-name" }, answer.model), body, note, trouble, foot);

  let asTokens = answer.tokens.length > 0 && answer.state !== undefined;
  let mode = null;
  let asked = false;

  const draw = () => {
    asked = false;
    const working = ["queued", "waiting", "running"].includes(answer.state);
    node.setAttribute("aria-busy", String(working));
    node.classList.toggle("working", working);
    drawBody(working);
    note.textContent = noteOf(answer, working);
    drawTrouble();
    if (working) foot.replaceChildren();
    else drawFoot();
  };

  const drawBody = (working) => {
    const json = answer.wanted === "json" && answer.text !== "";
    const now = asTokens && answer.tokens.length > 0 ? "tokens" : json ? "json" : "markdown";
    if (now !== mode) {
      mode = now;
      const fresh = el("div", { class: `answer-body as-${mode}` });
      body.replaceWith(fresh);
      body = fresh;
    }
    if (mode === "tokens") showTokens(body, answer.tokens);
    else if (mode === "json") showMarkdown(body, fenced(working ? answer.text : laidOut(answer.text).text));
    else showMarkdown(body, answer.text);
  };

  const drawTrouble = () => {
    const { fault } = answer;
    if (!fault) return trouble.replaceChildren();
    trouble.replaceChildren(
      el("p", {}, el("strong", {}, sentence(fault.message)), " ", fault.advice),
      el("p", { class: "actions" },
        el("button", { type: "button", class: "quiet", onclick: regenerate }, icon("regenerate"), "Try again"),
        fault.shown && el("button", { type: "button", class: "quiet", onclick: () => reveal(fault.param) }, icon("options"), "Show the option")));
  };

  const drawFoot = () => {
    const figures = figuresOf(answer);
    const others = rivals().map(figuresOf).filter(({ total }) => total !== null);
    const empty = answer.text === "";
    if (empty && answer.fault) return foot.replaceChildren();
    foot.replaceChildren(
      el("div", { class: "actions" },
        !empty && action("copy", "Copy the answer", copyAnswer),
        !empty && listenButton(),
        answer.tokens.length > 0 && tokensButton(),
        !answer.fault && action("regenerate", "Answer again", regenerate, "regenerate")),
      answer.timing ? figuresLine(figures, others) : "");
  };

  const copyAnswer = async (event) => {
    const button = event.currentTarget;
    try {
      await copy(answer.text);
      button.replaceChildren(icon("check"));
      setTimeout(() => button.replaceChildren(icon("copy")), 2000);
    } catch (error) {
      toast(error.message);
    }
  };

  const listenButton = () => {
    let speaker = null;
    const button = action("aloud", "Read aloud", () => {
      if (speaker) return speaker.stop();
      const why = whyMute();
      if (why) return toast(why);
      speaker = reader(() => show((speaker = null)));
      show();
      speaker.end(answer.text);
    });
    const show = () => {
      button.replaceChildren(icon(speaker ? "stop" : "aloud"));
      button.setAttribute("aria-label", speaker ? "Stop reading" : "Read aloud");
    };
    return button;
  };

  const tokensButton = () => {
    const button = action("tokens", "Show the tokens", () => {
      asTokens = !asTokens;
      draw();
      foot.querySelector(".show-tokens").focus();
    }, "show-tokens");
    button.setAttribute("aria-pressed", String(asTokens));
    return button;
  };

  draw();
  return {
    node,
    update() {
      if (answer.tokens.length === 1) asTokens = true;
      if (!asked) requestAnimationFrame(draw);
      asked = true;
    },
  };
}

const action = (name, label, onclick, kind = "") =>
  el("button", { type: "button", class: `icon-button small ${kind}`, "aria-label": label, title: label, onclick }, icon(name));

function noteOf(answer, working) {
  if (answer.state === "queued") return "Waits for the other model, so that neither slows the other.";
  if (answer.state === "waiting") return "Reads the prompt…";
  if (working || answer.fault) return "";
  if (answer.reason === "stopped") return "Stopped.";
  if (answer.reason === "length") return CUT;
  if (answer.wanted === "json") return laidOut(answer.text).note;
  return answer.text === "" ? "The model ended its answer at once. Ask it in other words." : "";
}

// A fence longer than any in the text.
function fenced(text) {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}json\n${text}\n${fence}`;
}
