// The icons: outlines on a grid of 24, drawn for this page.

const SVG = "http://www.w3.org/2000/svg";

const OUTLINES = {
  aloud: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5z M15.5 9a4.2 4.2 0 0 1 0 6 M18.2 6.5a8 8 0 0 1 0 11",
  braces: "M9 4c-2.5 0-3 1-3 3v2.5c0 1.5-.7 2.5-2 2.5 1.3 0 2 1 2 2.500V17c0 2 .5 3 3 3 M15 4c2.5 0 3 1 3 3v2.500c0 1.5.7 2.5 2 2.5-1.3 0-2 1-2 2.500V17c0 2-.5 3-3 3",
  check: "M5 12.500l4.5 4.500L19 7.5",
  close: "M6 6l12 12 M18 6L6 18",
  columns: "M4 5h16v14H4z M12 5v14",
  copy: "M9 9h11v11H9z M15 9V4H4v11h5",
  download: "M12 4v11 M7.5 11l4.5 4.5 4.5-4.5 M5 20h14",
  edit: "M4 20h4L19.5 8.500l-4-4L4 16z M13 7l4 4",
  history: "M4 6h16 M4 12h16 M4 18h10",
  image: "M4 5h16v14H4z M4 16l4.5-4.5 4 4 3-3L20 17 M15 9.200h.01",
  keyboard: "M3 6.500h18v11H3z M7 10h.01 M11 10h.01 M15 10h.01 M18 10h.01 M8 14h8",
  moon: "M20 14.500A8.2 8.2 0 0 1 9.5 4a8.2 8.2 0 1 0 10.5 10.500z",
  options: "M4 8h9 M17 8h3 M4 16h3 M11 16h9 M15 6v4 M9 14v4",
  plus: "M12 5v14 M5 12h14",
  regenerate: "M19.5 11A7.6 7.6 0 0 0 5.6 8 M4.5 13a7.6 7.6 0 0 0 13.9 3 M5.3 4v4.200h4.2 M18.7 20v-4.200h-4.2",
  send: "M12 19V5.5 M6 11.500l6-6 6 6",
  stop: "M7.5 7.500h9v9h-9z",
  sun: "M12 8.200a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.600z M12 2.500v2 M12 19.500v2 M2.5 12h2 M19.5 12h2 M5.3 5.300l1.4 1.4 M17.3 17.300l1.4 1.4 M18.7 5.300l-1.4 1.4 M6.7 17.300l-1.4 1.4",
  tokens: "M3.5 7.500h7v9h-7z M13.5 7.500h3v9h-3z M19.5 7.500h1.500v9h-1.5",
  trash: "M5 7h14 M9.5 7V4.500h5V7 M7 7l.8 12.500h8.400L17 7",
  upload: "M12 16V5 M7.5 9.500L12 5l4.5 4.5 M5 20h14",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", OUTLINES[name]);
  svg.append(path);
  return svg;
}

// Puts an icon before the words of every element that names one: <button data-icon="send">.
export function drawIcons(root = document) {
  for (const place of root.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
}
