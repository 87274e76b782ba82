// Puts the page together.

import { chat as conversationOf } from "./chat.js";
import { modelChoice } from "./compare.js";
import { composer as promptField } from "./composer.js";
import { byId } from "./dom.js";
import { historyList } from "./history-list.js";
import { drawIcons } from "./icons.js";
import { optionsPanel } from "./panel.js";
import { flipPanel, openPanel, panels, uncover } from "./panels.js";
import { shortcuts } from "./shortcuts.js";
import { silence, whyMute } from "./speech.js";
import { themeSwitch } from "./theme.js";
import { toast } from "./toast.js";
import { toggle } from "./toggles.js";

drawIcons();
themeSwitch();
panels();
byId("host").textContent = location.host;

const choice = modelChoice();
const compare = toggle("compare", (on) => choice.show(on));
const tokens = toggle("tokens");
const json = toggle("json", (on, byHand) => {
  byId("json-section").hidden = !on;
  if (on && byHand) openPanel("options", "schema");
});
const aloud = toggle("aloud", (on, byHand) => {
  if (!on && byHand) silence();
  if (on && byHand && whyMute()) {
    toast(whyMute());
    aloud.set(false);
  }
});

const panel = optionsPanel({ json, tokens });
const chat = conversationOf({ choice, panel, aloud, changed: () => queueMicrotask(refresh) });
const composer = promptField(chat);
const list = historyList(chat);

function refresh() {
  composer.show();
  list.show();
}

async function startAnew() {
  await chat.start();
  uncover();
  composer.focus();
}

byId("new-conversation").addEventListener("click", startAnew);
shortcuts(
  {
    KeyN: ["N", "a new conversation", startAnew],
    KeyR: ["R", "answer the last prompt again", chat.regenerateLast],
    KeyC: ["C", "two models side by side", compare.flip],
    KeyT: ["T", "tokens and their alternatives", tokens.flip],
    KeyJ: ["J", "answers that match a JSON schema", json.flip],
    KeyL: ["L", "read answers aloud", aloud.flip],
    KeyH: ["H", "the conversations", () => flipPanel("history")],
    KeyO: ["O", "the options", () => flipPanel("options")],
  },
  { escape: () => uncover() || chat.stop(), toPrompt: composer.focus },
);

await choice.reload();
if (matchMedia("(hover: hover)").matches) composer.focus(); // on a phone the keyboard would cover the page
