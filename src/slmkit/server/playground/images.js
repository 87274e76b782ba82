// Images that go with the next prompt: picked, pasted or dropped, looked at before they are sent.

import { byId, el } from "./dom.js";
import { icon } from "./icons.js";

const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const MOST_BYTES = 20 * 1024 * 1024;
const MOST = 8;

// The tray above the prompt; say(words) tells what was refused and why.
export function imageTray(say) {
  const tray = byId("images");
  let urls = [];

  const show = () => {
    tray.hidden = urls.length === 0;
    tray.replaceChildren(...urls.map((url, at) =>
      el("li", {},
        el("img", { src: url, alt: `Image ${at + 1}` }),
        el("button", { type: "button", "aria-label": `Remove image ${at + 1}`, onclick: () => remove(at) }, icon("close")))));
  };
  const remove = (at) => {
    urls = urls.filter((_, i) => i !== at);
    show();
    byId("prompt").focus();
  };

  const add = async (files) => {
    for (const file of files) {
      const fault = faultOf(file, urls.length);
      if (fault) {
        say(fault);
        continue;
      }
      const url = await dataUrl(file);
      if (await opens(url)) urls = [...urls, url];
      else say(`“${file.name}” does not open as an image; it may be damaged.`);
    }
    show();
  };

  const picker = byId("image-picker");
  byId("add-image").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => add([...picker.files]).then(() => (picker.value = "")));
  byId("prompt").addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length === 0) return;
    event.preventDefault();
    add(files);
  });
  dropZone(byId("drop"), add);

  return {
    add,
    get: () => urls,
    set: (list) => ((urls = [...list]), show()),
  };
}

function faultOf(file, count) {
  if (!TYPES.includes(file.type)) return `“${file.name}” is ${file.type || "of an unknown kind"}; images are PNG, JPEG, WebP or GIF.`;
  if (file.size > MOST_BYTES) return `“${file.name}” has ${Math.ceil(file.size / 1024 / 1024)} MB; the most is 20.`;
  if (count >= MOST) return `There are ${MOST} images already, which is the most for one prompt; “${file.name}” was left out.`;
  return null;
}

const dataUrl = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });

async function opens(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => true, () => false);
}

// Files dragged over the window bring up the zone; it goes when they leave or are dropped. Text is dragged as ever.
function dropZone(zone, add) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => hasFiles(event) && (zone.hidden = false));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("dragleave", (event) => event.relatedTarget === null && (zone.hidden = true));
  addEventListener("drop", (event) => {
    zone.hidden = true;
    if (!hasFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
}
