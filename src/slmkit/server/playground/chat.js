// The conversation on the page: sending, stopping, answering again, editing, and keeping it.

import { announce } from "./announce.js";
import { ask } from "./ask.js";
import { newAnswer, newConversation, newTurn, settled } from "./conversation.js";
import { byId } from "./dom.js";
import * as history from "./history.js";
import { silence } from "./speech.js";
import { toast } from "./toast.js";
import { follower } from "./scroll.js";
import { turnView } from "./turn.js";

// choice: compare.js.   panel: panel.js.   tokens, aloud: switches.   changed(): busy or not, another conversation, a new title.
export function chat({ choice, panel, aloud, changed }) {
  const thread = byId("thread");
  const follow = follower();
  let conversation = newConversation();
  let views = [];
  let running = null;

  const busy = () => running !== null;

  const show = () => {
    views = conversation.turns.map(view);
    thread.replaceChildren(...views.map(({ node }) => node));
    byId("welcome").hidden = views.length > 0;
    follow();
    changed();
  };

  const view = (turn) =>
    turnView(turn, {
      busy,
      edit: (text, images) => edit(conversation.turns.indexOf(turn), text, images),
      regenerate: (column) => regenerate(conversation.turns.indexOf(turn), column),
      reveal: panel.reveal,
    });

  // Answers to the turn, in the columns; a new one for each.
  let ended = Promise.resolve();
  const answerTurn = (...all) => (ended = answers(...all));
  const answers = async (at, columns, models, body) => {
    const turn = conversation.turns[at];
    const mine = conversation;
    const abort = new AbortController();
    running = abort;
    silence();
    const wanted = body.response_format ? "json" : "text";
    columns.forEach((column, i) => (turn.answers[column] = { ...newAnswer(models[i], wanted), state: "queued" }));
    mine.settings = panel.settings();
    views[at].showAnswers();
    follow();
    changed();
    announce("Answering");
    await keepIt(mine);

    const one = async (column) => {
      if (abort.signal.aborted) return void Object.assign(turn.answers[column], { state: "done", reason: "stopped" });
      const answer = await ask({
        conversation: mine, turn: at, column, instructions: panel.instructions(), body, signal: abort.signal,
        aloud: aloud.on() && column === 0, spoken: column === 0,
        changed: () => mine === conversation && views[at]?.update(column),
      });
      if (answer.fault) answer.fault.shown = panel.blame(answer.fault.param, answer.fault.message);
    };
    if (panel.inTurn()) for (const column of columns) await one(column);
    else await Promise.all(columns.map(one));

    turn.answers.forEach((answer) => delete answer.state);
    if (running === abort) running = null;
    mine.updated = Date.now();
    await keepIt(mine);
    if (mine === conversation) views[at]?.updateAll(); // the better figures of the two are known only now
    announce(turn.answers.some(({ fault }) => fault) ? "The answer failed" : abort.signal.aborted ? "Stopped" : "The answer is complete");
    changed();
  };

  const keepIt = async (it) => {
    if (!(await history.save(it)) && (await history.isKept())) toast("This browser has no room left for conversations; export and delete some.");
  };

  // Sends the prompt; false if something must be put right first.
  const send = (text, images) => {
    const body = panel.body();
    if (busy() || body === null || !choice.ready()) return false;
    const turn = newTurn(text, images);
    conversation.turns.push(turn);
    byId("welcome").hidden = true;
    views.push(view(turn));
    thread.append(views.at(-1).node);
    const models = choice.models();
    answerTurn(conversation.turns.length - 1, models.map((_, column) => column), models, body);
    return true;
  };

  const regenerate = async (at, column) => {
    await stop();
    const body = panel.body();
    if (body === null || !choice.ready()) return;
    const models = choice.models();
    answerTurn(at, [column], [models[column] ?? conversation.turns[at].answers[column].model], body);
  };

  const edit = (at, text, images) => {
    const body = panel.body();
    if (busy() || body === null || !choice.ready()) return;
    const before = conversation.turns;
    const mine = conversation;
    conversation.turns = [...before.slice(0, at), newTurn(text, images)];
    show();
    const models = choice.models();
    answerTurn(at, models.map((_, column) => column), models, body);
    const later = before.length - 1 - at;
    const words = later ? `Edited; ${later} later ${later === 1 ? "turn" : "turns"} went.` : "Edited; the answer before went.";
    toast(words, async () => {
      await stop();
      mine.turns = before;
      await keepIt(mine);
      if (mine === conversation) show();
    });
  };

  const stop = async () => {
    silence();
    running?.abort();
    await ended;
  };

  const open = async (it) => {
    await stop();
    conversation = settled(it);
    if (it.turns.length) panel.fill(it.settings);
    show();
  };

  byId("stop").addEventListener("click", stop);
  show();
  return {
    send, stop, busy, open,
    start: () => open(newConversation()),
    current: () => conversation,
    rename: (title) => ((conversation.title = title), changed()),
    editLast: () => !busy() && views.at(-1)?.edit(),
    regenerateLast: () => conversation.turns.length && regenerate(conversation.turns.length - 1, 0),
  };
}
