// Light or dark: the system's choice until the switch says otherwise.

import { byId } from "./dom.js";
import { icon } from "./icons.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

export function themeSwitch() {
  const button = byId("theme");
  const show = () => {
    const words = isDark() ? "Use light colours" : "Use dark colours";
    button.replaceChildren(icon(isDark() ? "sun" : "moon"));
    button.setAttribute("aria-label", words);
    button.title = words;
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("slmkit.theme", root.dataset.theme); // plain text: first-paint.js reads it
    } catch {
      // lasts as long as the page
    }
    show();
  });
  system.addEventListener("change", show);
  show();
}
