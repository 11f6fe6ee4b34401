// The transcript as plain text, SRT and VTT: sentences in cues of two lines of 42 characters. The
// command line has more formats, and subtitles that are set with more care.
import { OPENS, clock } from "./document.js";

const LINE = 42, LINES = 2, CUE_S = 7;

export function asText(model, nameOf) {
  return model.turns.map((turn) => {
    const name = nameOf(turn.speaker);
    return `[${clock(turn.start)}] ${name ? `${name}: ` : ""}${textOf(model, turn)}\n`;
  }).join("\n");
}

export function textOf({ words }, turn) {
  let text = "";
  for (let i = turn.first; i <= turn.last; i++) text += words.gap[i] + words.text[i];
  return text;
}

export const asSrt = (model, nameOf) =>
  cuesOf(model, (speaker) => (nameOf(speaker) ? `[${nameOf(speaker).slice(0, LINE - 2)}]` : ""))
    .map((cue, i) => `${i + 1}\n${span(cue, ",")}\n${cue.lines.join("\n")}\n`).join("\n");

export const asVtt = (model, nameOf) => "WEBVTT\n" + cuesOf(model, () => "").map((cue) => {
  const voice = nameOf(cue.speaker) ? `<v ${escaped(nameOf(cue.speaker))}>` : "";
  return `\n${span(cue, ".")}\n${voice}${escaped(cue.lines.join("\n"))}\n`;
}).join("");

function cuesOf({ words, turns }, prefixOf) {
  const cues = [];
  let cue = null, prefix = "";
  const open = (start, speaker) => {
    cue = { start, end: start, speaker, lines: [prefix] };
    cues.push(cue);
  };
  const put = (piece, joint, start) => {
    const line = cue.lines.at(-1);
    const whole = line ? line + (line === prefix ? " " : joint) + piece : piece;
    if (!line || whole.length <= LINE) cue.lines[cue.lines.length - 1] = whole;
    else if (cue.lines.length < LINES) cue.lines.push(piece);
    else {
      open(start, cue.speaker);
      put(piece, joint, start);
    }
  };
  for (const turn of turns) {
    prefix = prefixOf(turn.speaker);
    for (let i = turn.first; i <= turn.last; i++) {
      const begins = i === turn.first || words.mark[i] & OPENS;
      if (begins || words.end[i] - cue.start > CUE_S) open(words.start[i], turn.speaker);
      const text = words.gap[i] + words.text[i];
      pieces(text.trim()).forEach((piece, place) =>
        put(piece, place === 0 && text.startsWith(" ") ? " " : "", words.start[i]));
      cue.end = Math.max(cue.end, words.end[i]);
    }
  }
  return cues;
}

function pieces(word) {
  if (word.length <= LINE) return [word];
  const letters = Array.from(word), found = [];
  for (let i = 0; i < letters.length; i += LINE / 2) {
    found.push(letters.slice(i, i + LINE / 2).join(""));
  }
  return found;
}

const span = (cue, point) => `${stamp(cue.start, point)} --> ${stamp(cue.end, point)}`;

function stamp(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const pad = (n, width = 2) => String(Math.floor(n)).padStart(width, "0");
  const parts = [ms / 3600000, (ms / 60000) % 60, (ms / 1000) % 60].map((n) => pad(n));
  return parts.join(":") + point + pad(ms % 1000, 3);
}

const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
