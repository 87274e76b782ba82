// Keeps the latest words in sight while they are written, unless the person scrolled back to read.

import { byId } from "./dom.js";

const NEAR = 48; // pixels from the end that still count as being there

export function follower() {
  const scroller = byId("scroller");
  const button = byId("to-latest");
  let following = true;
  let asked = false;
  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
  const go = () => {
    asked = false;
    if (following) scroller.scrollTop = scroller.scrollHeight;
    button.hidden = atEnd();
  };
  const soon = () => {
    // The frame after the one that draws: what is new has its height by then.
    if (!asked) requestAnimationFrame(() => requestAnimationFrame(go));
    asked = true;
  };
  const now = () => ((following = true), soon());
  let last = 0;
  const scrolled = () => {
    const back = scroller.scrollTop < last; // by hand; text that grows moves nothing
    last = scroller.scrollTop;
    if (back || atEnd()) following = atEnd();
    button.hidden = atEnd();
  };
  scroller.addEventListener("scroll", scrolled, { passive: true });
  button.addEventListener("click", now);
  return { soon, now };
}
