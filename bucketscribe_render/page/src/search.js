// Search in the whole text, whatever the accents, the case and where words are divided.

const fold = (text) =>
  /^[\x20-\x7e]*$/.test(text)
    ? text.toLowerCase()
    : text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** The folded text, and where in it each word begins. */
export function indexOf({ words, count }) {
  const at = new Uint32Array(count), parts = [];
  let length = 0;
  for (let i = 0; i < count; i++) {
    const gap = words.gap[i] ? " " : i && words.turn[i] !== words.turn[i - 1] ? "\n" : "";
    const word = fold(words.text[i]);
    parts.push(gap, word);
    at[i] = length + gap.length;
    length = at[i] + word.length;
  }
  return { text: parts.join(""), at };
}

/** Find all places, in order, as first and last word. */
export function find(index, query) {
  const wanted = fold(query.trim().replace(/\s+/g, " ")), hits = [];
  if (!wanted) return hits;
  let word = 0;
  const wordAt = (place) => {
    while (word + 1 < index.at.length && index.at[word + 1] <= place) word++;
    return word;
  };
  for (let at = index.text.indexOf(wanted); at >= 0; at = index.text.indexOf(wanted, at + wanted.length)) {
    hits.push([wordAt(at), wordAt(at + wanted.length - 1)]);
  }
  return hits;
}
