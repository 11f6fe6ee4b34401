// The transcript as arrays of words, and turns of one speaker. It is data from outside: no field
// but `segments` with text, start and end has to be there, and nothing in it is ever markup.

export const LOW = 1, FLAGGED = 2, OVERLAP = 4, OPENS = 8;
export const LOW_SCORE = 0.4;
const TURN_WORDS = 60, TURN_PAUSE_S = 3, TURN_CHARS = 12000;
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const UNSPACED = "\\p{scx=Han}\\p{scx=Hira}\\p{scx=Kana}\\p{scx=Thai}\\uff00-\\uffef";
const ENDS_UNSPACED = new RegExp(`[${UNSPACED}]$`, "u");
const BEGINS_UNSPACED = new RegExp(`^[${UNSPACED}]`, "u");

/** Text on one line, without control characters and what turns lines around. */
export const clean = (text) =>
  typeof text === "string" ? text.replace(/\s+/g, " ").replace(UNSEEN, "") : "";

export const number = (value, otherwise) =>
  Number.isFinite(value) && value >= 0 ? value : otherwise;
export const list = (value) => (Array.isArray(value) ? value : []);

/** Words of a segment with what stands before each; text that no word has is a word, too. */
function wordsOf(segment) {
  const text = clean(segment.text).trim(), words = [];
  let at = 0, last = number(segment.start, 0);
  const add = (word, gap, start, end, score, from) =>
    words.push({ text: word, gap, start, end, score, speaker: from.speaker, overlap: from.overlap });
  for (const each of list(segment.words)) {
    const word = clean(each?.word).trim();
    if (!word) continue;
    const found = text.indexOf(word, at), start = number(each.start, last);
    const gap = found < 0 ? " " : text.slice(at, found);
    if (found >= 0) at = found + word.length;
    last = Math.max(start, number(each.end, start));
    add(word, gap, start, last, each.score, each);
  }
  const rest = text.slice(at);
  if (rest.trim()) {
    const gap = rest.startsWith(" ") ? " " : "";
    add(rest.trim(), gap, last, Math.max(last, number(segment.end, last)), null, segment);
  }
  return words;
}

/** Read a transcript; times are seconds, speakers are indexes into `speakers`. */
export function read(doc) {
  const ids = list(doc.speakers).map(clean);
  const speakerOf = (id) => {
    const name = clean(id);
    if (!ids.includes(name)) ids.push(name);
    return ids.indexOf(name);
  };
  const words = { text: [], gap: [], start: [], end: [], mark: [], turn: [] };
  const turns = [];
  let turn = null;
  for (const segment of list(doc.segments)) {
    const flags = list(segment.flags).map(clean);
    wordsOf(segment).forEach((word, place) => {
      const index = words.text.length, opens = place === 0;
      const speaker = speakerOf(word.speaker ?? segment.speaker);
      const count = turn === null ? 0 : index - turn.first;
      if (turn === null || turn.speaker !== speaker || turn.chars > TURN_CHARS || count > 240 ||
          (opens && (count >= TURN_WORDS || word.start - turn.end > TURN_PAUSE_S))) {
        turn = { speaker, first: index, last: index, start: word.start, end: word.end, chars: 0 };
        turn.flags = new Set();
        turns.push(turn);
      }
      let gap = word.gap;
      if (opens) {
        const touches = ENDS_UNSPACED.test(words.text[index - 1]) && BEGINS_UNSPACED.test(word.text);
        gap = touches ? "" : " ";
      }
      words.text.push(word.text);
      words.gap.push(index === turn.first ? "" : gap);
      words.start.push(word.start);
      words.end.push(word.end);
      words.turn.push(turns.length - 1);
      words.mark.push((Number.isFinite(word.score) && word.score < LOW_SCORE ? LOW : 0) |
        (flags.length ? FLAGGED : 0) | (word.overlap === true ? OVERLAP : 0) | (opens ? OPENS : 0));
      flags.forEach((flag) => turn.flags.add(flag));
      turn.last = index;
      turn.end = Math.max(turn.end, word.end);
      turn.chars += gap.length + word.text.length;
    });
  }
  const order = Uint32Array.from(words.start.keys());
  order.sort((a, b) => words.start[a] - words.start[b] || a - b);
  const end = turns.reduce((latest, each) => Math.max(latest, each.end), 0);
  const duration = Math.max(number(doc.duration_seconds, 0), end) || 1;
  return { words, turns, order, ids, duration, count: words.text.length };
}

/** Find the first place in `order` whose word starts after `time`. */
function after(model, time) {
  let low = 0, high = model.order.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (model.words.start[model.order[middle]] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

const NEAR = 64, LINGERS_S = 0.3;

/** Words that are spoken at `time`, the last begun first; one that has just ended if none is. */
export function spokenAt(model, time) {
  const { start, end } = model.words, found = [], place = after(model, time);
  for (let i = place - 1; i >= Math.max(0, place - NEAR); i--) {
    if (end[model.order[i]] > time || start[model.order[i]] === time) found.push(model.order[i]);
  }
  const last = model.order[place - 1];
  return found.length || last === undefined || time - end[last] > LINGERS_S ? found : [last];
}

/** The turn at `time`, or the last before it. */
export const turnAt = (model, time) =>
  model.words.turn[model.order[Math.max(0, after(model, time) - 1)]] ?? 0;

/** `m:ss`, from an hour on `h:mm:ss`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds)), pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return (hours ? `${hours}:${pad(minutes)}` : `${minutes}`) + `:${pad(whole % 60)}`;
}
