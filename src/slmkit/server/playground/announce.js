// What a screen reader hears without being asked: states, and answers sentence by sentence instead of token by token.

import { byId } from "./dom.js";
import { sentences } from "./sentences.js";

export function announce(text) {
  byId("status").textContent = text;
}

// Says an answer as it comes. Sentences are added, not replaced: a polite region reads each once.
export function announcer() {
  const log = byId("spoken");
  log.replaceChildren();
  return sentences((sentence) => {
    const line = document.createElement("p");
    line.textContent = sentence;
    log.append(line);
    if (log.childElementCount > 40) log.firstChild.remove();
  });
}
