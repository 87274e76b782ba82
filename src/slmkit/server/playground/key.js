// The server's key: asked for when it is needed, kept until the tab is closed.

import { byId } from "./dom.js";

const NAME = "slmkit.key";
let held = null;
let asking = null;

export function currentKey() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return held;
  }
}

function hold(key) {
  held = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // held while the page is open
  }
}

// True once there is another key than the refused one; false if the person would rather not. Two requests ask once.
export function askForKey(refused) {
  if (currentKey() !== refused) return Promise.resolve(true);
  asking ??= answerOf(refused).finally(() => (asking = null));
  return asking;
}

function answerOf(refused) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  const fault = byId("key-fault");
  fault.textContent = refused ? "The server does not take that key. Look for it where slm serve was started." : "";
  field.setAttribute("aria-invalid", String(Boolean(refused)));
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = field.value.trim();
        field.value = "";
        const given = dialog.returnValue === "use" && key !== "";
        if (given) hold(key);
        resolve(given);
      },
      { once: true },
    );
  });
}
