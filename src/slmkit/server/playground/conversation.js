// A conversation as data: what is kept, exported, and sent.
//
// conversation: { id, title, created, updated, turns, settings }
// turn: { text, images: [data URI], answers: [answer, one for each model that was asked] }
// answer: { model, text, tokens, reason, usage, timing, fault, wanted }; wanted is "json" where a schema ruled it.

export const newConversation = () => {
  const now = Date.now();
  const id = crypto.randomUUID?.() ?? `${now}-${Math.random()}`; // randomUUID is for https and localhost alone
  return { id, title: "", created: now, updated: now, turns: [], settings: {} };
};

export const newTurn = (text, images = []) => ({ text, images, answers: [] });

export const newAnswer = (model, wanted = "text") => ({
  model, wanted, text: "", tokens: [], reason: null, usage: null, timing: null, fault: null,
});

// The same conversation, no answer of it under way: the page may have been closed while one was written.
export function settled(conversation) {
  for (const answer of conversation.turns.flatMap(({ answers }) => answers)) {
    if (answer.state && !answer.fault) answer.reason ??= "stopped";
    delete answer.state;
  }
  return conversation;
}

const LONGEST_TITLE = 60;

export function titleOf({ title, turns }) {
  if (title) return title;
  const line = (turns[0]?.text ?? "").trim().split("\n")[0];
  if (!line) return turns.length ? "An image" : "New conversation";
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE).trimEnd()}…` : line;
}

// Messages that ask for an answer to the turn at `last`, as the model in that column has seen the conversation.
// A turn that got no answer is left out: most chat templates refuse two user turns in a row.
export function messagesFor(turns, last, column, system) {
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  turns.slice(0, last).forEach((turn) => {
    const answer = turn.answers[column] ?? turn.answers[0];
    if (answer?.text) messages.push({ role: "user", content: content(turn) }, { role: "assistant", content: answer.text });
  });
  messages.push({ role: "user", content: content(turns[last]) });
  return messages;
}

function content({ text, images }) {
  if (images.length === 0) return text;
  const parts = images.map((url) => ({ type: "image_url", image_url: { url } }));
  return text ? [...parts, { type: "text", text }] : parts;
}
