// Where a text stops being JSON. Browsers tell it each in their own words, some not at all.

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const OTHER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

// In words, with line and column; null if it is JSON.
export function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch {
    const at = firstFault(text);
    const before = text.slice(0, at).split("\n");
    const place = `at line ${before.length}, column ${before.at(-1).length + 1}`;
    return at < text.trimEnd().length ? `“${text[at]}” is unexpected ${place}` : `it ends too early, ${place}`;
  }
}

function firstFault(text) {
  let at = 0;
  const skip = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.test(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const next = (char) => (skip(SPACE), text[at] === char && ++at > 0);
  // Each is false at the first character that does not fit, and `at` stands there.
  const value = () => {
    if (next("{")) return next("}") || members(() => (skip(SPACE), skip(STRING)) && next(":") && value(), "}");
    if (next("[")) return next("]") || members(value, "]");
    return skip(STRING) || skip(OTHER);
  };
  const members = (member, close) => {
    do if (!member()) return false;
    while (next(","));
    return next(close);
  };
  try {
    value();
  } catch {
    // nested too deep for the stack: `at` is as far as it came
  }
  skip(SPACE);
  return at;
}
