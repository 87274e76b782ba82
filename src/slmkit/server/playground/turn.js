// A turn as it is seen: what the person wrote, which can be edited, and the answers, side by side if there are two.

import { answerView } from "./answer.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";

// actions: edit(text, images), regenerate(column), reveal(param), busy().
export function turnView(turn, actions) {
  const asked = el("div", { class: "asked" });
  const answers = el("div", { class: "answers" });
  const node = el("article", { class: "turn", "aria-label": `You: ${turn.text.slice(0, 80)}` }, asked, answers);
  let views = [];

  const showPrompt = () => {
    const edit = el("button", {
      type: "button", class: "icon-button small edit", "aria-label": "Edit this prompt", title: "Edit and go on from here",
      onclick: () => !actions.busy() && showEditor(),
    }, icon("edit"));
    asked.replaceChildren(edit, el("div", { class: "prompt" }, pictures(turn.images), turn.text && el("p", {}, turn.text)));
  };

  const showEditor = () => {
    let images = [...turn.images];
    const field = el("textarea", { "aria-label": "Edit the prompt", rows: Math.min(12, turn.text.split("\n").length + 1) });
    field.value = turn.text;
    const kept = el("div", {});
    const showImages = () =>
      kept.replaceChildren(pictures(images, (at) => ((images = images.filter((_, i) => i !== at)), showImages())) || "");
    const cancel = () => (showPrompt(), asked.querySelector(".edit").focus());
    const save = () => (field.value.trim() || images.length ? actions.edit(field.value, images) : field.focus());
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") event.stopPropagation(), cancel();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) event.preventDefault(), save();
    });
    showImages();
    asked.replaceChildren(el("div", { class: "editor" }, kept, field,
      el("p", { class: "actions" },
        el("button", { type: "button", class: "quiet", onclick: cancel }, "Cancel"),
        el("button", { type: "button", class: "filled", onclick: save }, "Send"))));
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  };

  const showAnswers = () => {
    views = turn.answers.map((answer, column) =>
      answerView(answer, {
        regenerate: () => actions.regenerate(column),
        reveal: actions.reveal,
        rivals: () => turn.answers.filter((other) => other !== answer),
      }));
    answers.classList.toggle("two", views.length > 1);
    answers.replaceChildren(...views.map((view) => view.node));
  };

  showPrompt();
  showAnswers();
  return { node, edit: showEditor, showAnswers, update: (column) => views[column].update(), updateAll: () => views.forEach((view) => view.update()) };
}

function pictures(urls, remove = null) {
  if (urls.length === 0) return null;
  return el("ul", { class: "pictures" }, urls.map((url, at) =>
    el("li", {}, el("img", { src: url, alt: `Image ${at + 1} of the prompt` }),
      remove && el("button", { type: "button", "aria-label": `Remove image ${at + 1}`, onclick: () => remove(at) }, icon("close")))));
}
