// The list of conversations: open, rename, delete, export, import.

import { titleOf } from "./conversation.js";
import { byId, el } from "./dom.js";
import { download, exported, imported } from "./exchange.js";
import * as history from "./history.js";
import { icon } from "./icons.js";
import { uncover } from "./panels.js";
import { toast } from "./toast.js";

// chat: chat.js.   show() draws the list anew.
export function historyList(chat) {
  const list = byId("conversations");

  const show = async () => {
    const all = await history.all();
    list.replaceChildren(...all.map(row));
    byId("history-note").textContent = all.length ? "" : "Conversations are kept here, in this browser alone.";
    byId("export").disabled = all.length === 0;
    if (!(await history.isKept())) byId("history-note").textContent = "This browser keeps nothing (a private window, perhaps): conversations last as long as this page. Export those you need.";
  };

  const row = (conversation) => {
    const title = titleOf(conversation);
    const current = conversation.id === chat.current().id;
    const open = el("button", { type: "button", class: "title", title, "aria-current": current && "true", onclick: () => (chat.open(conversation), uncover()) }, title);
    const rename = el("button", { type: "button", class: "icon-button small", "aria-label": `Rename “${title}”`, onclick: () => edit(node, conversation, title) }, icon("edit"));
    const remove = el("button", { type: "button", class: "icon-button small", "aria-label": `Delete “${title}”`, onclick: () => drop(conversation, title) }, icon("trash"));
    const node = el("li", { class: current && "current" }, open, rename, remove);
    return node;
  };

  const edit = (node, conversation, title) => {
    const field = el("input", { type: "text", maxlength: 200, "aria-label": "Title" });
    field.value = title;
    let over = false;
    const end = async (keep) => {
      if (over) return;
      over = true;
      const words = field.value.trim();
      if (keep && words && words !== title) {
        if (conversation.id === chat.current().id) chat.rename(words);
        await history.save({ ...(conversation.id === chat.current().id ? chat.current() : conversation), title: words });
      }
      await show();
      list.querySelector(`button[title=${CSS.escape(words)}]`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") event.stopPropagation(), end(false);
    });
    field.addEventListener("blur", () => end(true));
    node.replaceChildren(field);
    field.select();
  };

  const drop = async (conversation, title) => {
    const current = conversation.id === chat.current().id;
    if (current) await chat.start();
    await history.remove(conversation.id);
    await show();
    toast(`Deleted “${title}”.`, async () => {
      await history.save(conversation);
      if (current) await chat.open(conversation);
      await show();
    });
  };

  byId("export").addEventListener("click", async () => {
    const day = new Date().toISOString().slice(0, 10);
    download(`slmkit-conversations-${day}.json`, exported(await history.all()));
  });
  const picker = byId("import-picker");
  byId("import").addEventListener("click", () => picker.click());
  picker.addEventListener("change", async () => {
    const [file] = picker.files;
    picker.value = "";
    if (!file) return;
    try {
      const found = imported(await file.text());
      for (const conversation of found) await history.save(conversation);
      await show();
      toast(`${found.length} ${found.length === 1 ? "conversation" : "conversations"} imported.`);
    } catch (error) {
      byId("history-note").textContent = error.message;
      byId("history-note").classList.add("fault");
      return;
    }
    byId("history-note").classList.remove("fault");
  });

  return { show };
}
