"""What the tests run inside the page."""

from __future__ import annotations

# An event with a file in it, as the system's clipboard or file manager makes it.
GIVE_FILE = """async ([kind, url]) => {
  const bytes = Uint8Array.from(atob(url.split(",")[1]), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "red.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  if (kind === "paste") {
    const event = new ClipboardEvent(kind, { ...options, clipboardData: data });
    document.getElementById("prompt").dispatchEvent(event);
  } else {
    document.body.dispatchEvent(new DragEvent(kind, { ...options, dataTransfer: data }));
  }
}"""

# A system with two voices, which say nothing and note what they were given.
VOICES = """
window.spokenAloud = [];
class Utterance extends EventTarget {
  constructor(text) { super(); this.text = text; }
}
const voices = [
  { name: "Far", lang: "en-US", localService: false },
  { name: "Near", lang: "en-US", localService: true },
];
const speech = {
  getVoices: () => voices,
  addEventListener() {},
  speak(it) {
    spokenAloud.push([it.text, it.voice?.name]);
    setTimeout(() => it.dispatchEvent(new Event("end")), 5);
  },
  cancel() { spokenAloud.push(["(stopped)"]); },
};
Object.defineProperty(window, "speechSynthesis", { value: speech });
window.SpeechSynthesisUtterance = Utterance;
"""

NO_SPEECH = "Object.defineProperty(window, 'speechSynthesis', { value: undefined })"

# Controls that a screen reader could not name.
UNNAMED = """() => [...document.querySelectorAll("button, input, select, textarea, a[href], img, [role=region]")]
  .filter((it) => it.checkVisibility())
  .filter((it) => !it.getAttribute("aria-label") && !it.labels?.length)
  .filter((it) => !it.textContent.trim() && !it.hasAttribute("alt"))
  .map((it) => it.outerHTML)"""

# Ratio and words of each text that stands out less than 4.5 : 1 (WCAG 2.2, 1.4.3).
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (it) => {
    const colour = getComputedStyle(it).backgroundColor;
    return it.parentElement && /, 0\\)$|transparent/.test(colour) ? behind(it.parentElement) : colour;
  };
  const hasText = (it) => [...it.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const seen = (it) => it.checkVisibility({ opacityProperty: true }) && !it.closest(".unseen, :disabled");
  return [...document.querySelectorAll("body *")].filter((it) => hasText(it) && seen(it))
    .map((it) => {
      const [a, b] = [luminance(getComputedStyle(it).color), luminance(behind(it))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), it.className + " " + it.textContent.slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""

# Whether nothing is wider than its place.
FITS = """() => [":root", "#scroller", "#options", "#history"]
  .map((name) => document.querySelector(name))
  .every((it) => it.clientWidth === 0 || it.scrollWidth <= it.clientWidth) && visualViewport.width <= 360"""
