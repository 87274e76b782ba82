// Reading aloud with the browser's own voices, sentence by sentence.

import { keep, kept } from "./kept.js";
import { sentences } from "./sentences.js";

const speech = globalThis.speechSynthesis;

// Why nothing can be read aloud here; null if it can.
export function whyMute() {
  const all = voices();
  if (all.length === 0) return "This browser has no voices, so nothing can be read aloud; install one in the system's settings.";
  if (chosenVoice()) return null;
  return "All voices of this browser send the text to their maker; choose one in the options if you want that.";
}

// Voices of this machine first: a browser's remote voices send the text to their maker, so they are only used if chosen.
export function voices() {
  return (speech?.getVoices() ?? []).toSorted((a, b) => b.localService - a.localService || a.name.localeCompare(b.name));
}

export function chosenVoice() {
  const all = voices();
  const name = kept("voice");
  const local = all.filter((voice) => voice.localService);
  const ours = local.filter((voice) => voice.lang.startsWith(navigator.language.slice(0, 2)));
  return all.find((voice) => voice.name === name) ?? ours.find((voice) => voice.default) ?? ours[0] ?? local[0] ?? null;
}

export const chooseVoice = (name) => keep("voice", name);
export const chooseRate = (rate) => keep("voice-rate", rate);
export const rate = () => kept("voice-rate", 1);
export const whenVoicesChange = (listener) => speech?.addEventListener?.("voiceschanged", listener);

// A reader of one answer: write(text so far), end(text), stop(). ended() is called when all was said or it was stopped.
export function reader(ended = () => {}) {
  silence();
  let waiting = 0;
  let complete = false;
  let stopped = false;
  const finish = () => {
    if (stopped) return;
    stopped = true;
    if (current === me) current = null;
    ended();
  };
  const over = () => {
    waiting -= 1;
    if (complete && waiting === 0) finish();
  };
  const parts = sentences((sentence) => {
    const utterance = new SpeechSynthesisUtterance(sentence);
    const voice = chosenVoice();
    if (voice) Object.assign(utterance, { voice, lang: voice.lang });
    utterance.rate = rate();
    utterance.addEventListener("end", over, { once: true });
    utterance.addEventListener("error", over, { once: true });
    waiting += 1;
    speech.speak(utterance);
  });
  const me = {
    write: (text) => !stopped && parts.write(text),
    end(text) {
      if (stopped) return;
      parts.end(text);
      complete = true;
      if (waiting === 0) finish();
    },
    stop() {
      if (stopped) return;
      speech.cancel();
      finish();
    },
  };
  current = me;
  return me;
}

let current = null;

// Stops whatever is being read.
export const silence = () => current?.stop();
