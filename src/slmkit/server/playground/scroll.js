// Keeps the latest words in sight while they are written, unless the person scrolled back to read.

import { byId } from "./dom.js";

const NEAR = 48; // pixels from the end that still count as being there

// A function that goes to the end, and follows it from then on.
export function follower() {
  const scroller = byId("scroller");
  const hasBegun = () => byId("welcome").hidden; // which is read from its beginning
  const button = byId("to-latest");
  let following = true;
  let last = 0;
  const atEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR;
  const grown = () => {
    if (following && hasBegun()) scroller.scrollTop = scroller.scrollHeight;
    button.hidden = atEnd() || !hasBegun();
  };
  const scrolled = () => {
    const back = scroller.scrollTop < last; // by hand; text that grows moves nothing
    last = scroller.scrollTop;
    if (back || atEnd()) following = atEnd();
    button.hidden = atEnd() || !hasBegun();
  };
  const follow = () => {
    following = true;
    grown();
  };
  const sizes = new ResizeObserver(grown);
  sizes.observe(byId("thread"));
  sizes.observe(scroller);
  scroller.addEventListener("scroll", scrolled, { passive: true });
  button.addEventListener("click", follow);
  return follow;
}
