// Small settings that outlive the page, in localStorage; where that is closed they last as long as the page.

const PREFIX = "slmkit.";
const meanwhile = new Map();

export function kept(name, fallback = null) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return meanwhile.get(name) ?? fallback;
  }
}

export function keep(name, value) {
  meanwhile.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Private windows and full disks: `meanwhile` has it.
  }
}
