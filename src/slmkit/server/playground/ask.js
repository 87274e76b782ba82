// Asks one model for one answer and fills it in as it comes.

import * as api from "./api.js";
import { announcer } from "./announce.js";
import { messagesFor } from "./conversation.js";
import { advice, Fault } from "./faults.js";
import { stopwatch } from "./figures.js";
import { reader, whyMute } from "./speech.js";

// body: the fields besides model and messages.   aloud, spoken: read it by voice, tell it to a screen reader.
// changed() is called for each piece. Never throws: what goes wrong is the answer's fault.
export async function ask({ conversation, turn, column, instructions, body, signal, aloud, spoken, changed }) {
  const answer = conversation.turns[turn].answers[column];
  const watch = stopwatch();
  const voice = aloud && !whyMute() ? reader() : spoken ? announcer() : null;
  signal.addEventListener("abort", () => voice?.stop?.(), { once: true });
  answer.state = "waiting";
  changed();
  try {
    const messages = messagesFor(conversation.turns, turn, column, instructions);
    for await (const piece of api.answer({ ...body, model: answer.model, messages }, signal)) {
      take(answer, piece, watch);
      voice?.write(answer.text);
      changed();
    }
    voice?.end(answer.text);
  } catch (error) {
    if (signal.aborted) answer.reason = "stopped";
    else answer.fault = told(error, conversation.turns[turn]);
  }
  if (answer.reason !== null && (answer.text || answer.usage)) answer.timing ??= watch.times();
  answer.state = "done";
  changed();
  return answer;
}

function take(answer, piece, watch) {
  if (piece.text || piece.tokens.length) {
    watch.piece();
    answer.state = "running";
  }
  answer.text += piece.text;
  answer.tokens.push(...piece.tokens);
  answer.reason = piece.reason ?? answer.reason;
  answer.usage = piece.usage ?? answer.usage;
  answer.timing = piece.timing ?? answer.timing;
}

// Plain data, so that it can be kept.
function told(error, turn) {
  if (!(error instanceof Fault)) {
    console.error(error);
    return { message: `This page failed: ${error.message}`, advice: "Reload it; the conversation is kept.", param: null };
  }
  const image = turn.images.length && [400, 415, 422].includes(error.status) && /image|vision/i.test(error.message);
  const what = image ? "Edit the prompt and take its images away, or choose a model that sees." : advice(error);
  return { message: error.message, advice: what, param: error.param, status: error.status };
}
