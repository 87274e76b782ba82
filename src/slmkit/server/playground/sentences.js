// Text for the ear: Markdown without its marks, cut into sentences as they are completed.

// Calls said(sentence) for each sentence that is complete; `end` says the rest. Code is named, not read out.
export function sentences(said) {
  let done = 0;
  const say = (text) => {
    const words = plain(text);
    if (words) said(words);
  };
  return {
    write(text) {
      for (;;) {
        const length = firstSentence(text.slice(done));
        if (length === 0) return;
        say(text.slice(done, done + length));
        done += length;
      }
    },
    end(text) {
      this.write(text);
      say(text.slice(done));
      done = text.length;
    },
  };
}

const FENCE = /^\s*(```+|~~~+)/;

// Characters of the first sentence; 0 while it is not complete. What follows its end must be there already, so that
// "3.5" and "e.g." are not cut.
function firstSentence(text) {
  const fence = FENCE.exec(text);
  if (fence) {
    const end = text.indexOf(`\n${fence[1]}`, fence[0].length);
    return end < 0 ? 0 : end + 1 + fence[1].length;
  }
  const end = /[.!?…]["'”’)\]*_]*\s|[。！？]|\n/u.exec(text);
  return end ? end.index + end[0].length : 0;
}

function plain(text) {
  if (FENCE.test(text)) return "Here is code.";
  return text
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^[\s>#]+|^\s*[-*+]\s+|[*_`~]+/g, "")
    .replace(/^\|?[\s:|-]+\|?$/, "")
    .replaceAll("|", ", ")
    .trim();
}
