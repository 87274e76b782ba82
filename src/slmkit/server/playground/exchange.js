// Conversations as a file, and such a file read with distrust.
//
// { "format": "slmkit-conversations", "version": 1, "conversations": [...] }; conversation.js has the shape of each.

const FORMAT = "slmkit-conversations";
const VERSION = 1;
const IMAGE = /^data:image\/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$/;

export const exported = (conversations) =>
  JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1);

export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The conversations of such a file, with ids of their own and nothing in them but what is known here.
// Throws an Error in words if the file is another one or is damaged.
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON; choose one that was exported here.");
  }
  if (file?.format !== FORMAT) throw new Error("This file is not an export of this page; choose one that was exported here.");
  if (file.version !== VERSION) throw new Error(`This file is of version ${file.version}; this page reads version ${VERSION}.`);
  return list(file.conversations, "conversations").map((given, at) => conversation(given, `conversation ${at + 1}`));
}

function conversation(given, place) {
  object(given, place);
  return {
    id: `${Date.now()}-${Math.random()}`,
    title: string(given.title, `the title of ${place}`),
    created: number(given.created, `the date of ${place}`),
    updated: number(given.updated, `the date of ${place}`),
    settings: settings(given.settings ?? {}, place),
    turns: list(given.turns, `the turns of ${place}`).map((turn, at) => turnOf(turn, `turn ${at + 1} of ${place}`)),
  };
}

function turnOf(given, place) {
  object(given, place);
  const images = list(given.images ?? [], `the images of ${place}`);
  if (!images.every((url) => typeof url === "string" && IMAGE.test(url))) wrong(`the images of ${place}`, "images in the file itself");
  return {
    text: string(given.text, `the text of ${place}`),
    images,
    answers: list(given.answers, `the answers of ${place}`).slice(0, 2).map((answer) => answerOf(answer, place)),
  };
}

function answerOf(given, place) {
  object(given, `an answer of ${place}`);
  return {
    model: string(given.model, `the model of ${place}`),
    wanted: given.wanted === "json" ? "json" : "text",
    text: string(given.text, `an answer of ${place}`),
    tokens: list(given.tokens ?? [], `the tokens of ${place}`).map((token) => tokenOf(token, place)),
    reason: typeof given.reason === "string" ? given.reason : null,
    usage: numbers(given.usage, ["prompt_tokens", "completion_tokens"]),
    timing: numbers(given.timing, ["first_token_s", "total_s"]),
    fault: null,
  };
}

function tokenOf(given, place) {
  const one = (token) => {
    object(token, `a token of ${place}`);
    return { text: string(token.text, `a token of ${place}`), logprob: number(token.logprob, `a token of ${place}`) };
  };
  const bytes = Array.isArray(given?.bytes) && given.bytes.every((b) => Number.isInteger(b) && b >= 0 && b < 256) ? given.bytes : null;
  return { ...one(given), bytes, top: list(given.top ?? [], `a token of ${place}`).map(one) };
}

function settings(given, place) {
  object(given, `the settings of ${place}`);
  const options = Object.entries(given.options ?? {}).filter(([, value]) => typeof value === "string");
  return {
    instructions: string(given.instructions ?? "", `the instructions of ${place}`),
    schema: string(given.schema ?? "", `the schema of ${place}`),
    json: given.json === true,
    options: Object.fromEntries(options),
  };
}

function numbers(given, names) {
  if (typeof given !== "object" || given === null) return null;
  return names.every((name) => Number.isFinite(given[name])) ? Object.fromEntries(names.map((name) => [name, given[name]])) : null;
}

function wrong(place, wanted) {
  throw new Error(`This file is damaged: ${place} should be ${wanted}. Nothing was imported.`);
}

const object = (given, place) => (typeof given === "object" && given !== null && !Array.isArray(given)) || wrong(place, "an object");
const list = (given, place) => (Array.isArray(given) ? given : wrong(place, "a list"));
const string = (given, place) => (typeof given === "string" ? given : wrong(place, "text"));
const number = (given, place) => (Number.isFinite(given) ? given : wrong(place, "a number"));
