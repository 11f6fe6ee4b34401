// The text on the screen. Each turn is a paragraph of plain text, so that the browser's own search,
// printing and screen readers have all of it. Turns are laid out by parts when these come near, and
// their words become elements then.
import { FLAGGED, LOW, OVERLAP, clock } from "./document.js";
import { textOf } from "./formats.js";

const MARGIN = "25% 0px", LINE_PX = 28, PART_TURNS = 8, PART_WORDS = 250;
export const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Text {
  /** Show all turns in `root`; `onWord` gets the index of a word that was clicked. */
  constructor(root, model, onWord) {
    Object.assign(this, { root, model, lit: [], spans: new Map(), hits: new Map(), current: -1 });
    const pattern = document.getElementById("turn").content.firstElementChild;
    const perLine = Math.max(20, Math.min(root.clientWidth, 640) / 8.5);
    let part = null;
    this.turns = model.turns.map((turn, index) => {
      const element = pattern.cloneNode(true), [who, text] = element.children;
      const [name, time] = who.children;
      element.style.setProperty("--speaker", `var(--speaker-${turn.speaker % 8})`);
      name.dataset.speaker = turn.speaker;
      time.dataset.word = turn.first;
      time.textContent = clock(turn.start);
      text.textContent = textOf(model, turn);
      if (turn.flags.size) text.dataset.flags = [...turn.flags].join(", ").replaceAll("_", " ");
      if (!part || part.childElementCount === PART_TURNS || turn.last - part.first > PART_WORDS) {
        part = Object.assign(document.createElement("div"), { className: "part", first: turn.first });
        Object.assign(part, { turns: [], height: 0 });
        root.append(part);
      }
      part.append(element);
      part.turns.push(index);
      part.height += Math.ceil(turn.chars / perLine) * LINE_PX + 16;
      part.style.setProperty("--height", `${part.height}px`);
      return element;
    });
    const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      near.unobserve(entry.target);
      entry.target.turns.forEach((turn) => this.divide(turn));
    }), { rootMargin: MARGIN });
    for (const each of root.children) near.observe(each);
    root.addEventListener("click", (event) => {
      const word = event.target.closest("[data-word], .w")?.dataset.word;
      if (word !== undefined && getSelection().isCollapsed) onWord(Number(word));
    });
  }

  /** Make the words of a turn elements, and return them. */
  divide(index) {
    const known = this.spans.get(index);
    if (known) return known;
    const { words, turns } = this.model, { first, last } = turns[index], nodes = [], spans = [];
    for (let i = first; i <= last; i++) {
      const span = document.createElement("span"), mark = words.mark[i];
      span.className = "w" + (mark & LOW ? " low" : "") + (mark & FLAGGED ? " flagged" : "") +
        (mark & OVERLAP ? " overlap" : "") + (this.hits.has(i) ? ` ${this.hits.get(i)}` : "");
      span.dataset.word = i;
      span.textContent = words.text[i];
      if (words.gap[i]) nodes.push(words.gap[i]);
      nodes.push(span);
      spans.push(span);
    }
    this.turns[index].lastElementChild.replaceChildren(...nodes);
    this.spans.set(index, spans);
    return spans;
  }

  /** The element of a word. */
  span(word) {
    const turn = this.model.words.turn[word];
    return this.divide(turn)[word - this.model.turns[turn].first];
  }

  /** Light the words that are spoken; return whether others are lit than before. */
  light(found) {
    if (found.length === this.lit.length && found.every((word, i) => word === this.lit[i])) return false;
    this.lit.forEach((word) => this.span(word).classList.remove("now"));
    found.forEach((word) => this.span(word).classList.add("now"));
    this.lit = found;
    const turn = found.length ? this.model.words.turn[found[0]] : -1;
    if (turn !== this.current && turn >= 0) {
      this.turns[this.current]?.classList.remove("current");
      this.turns[turn].classList.add("current");
      this.current = turn;
    }
    return true;
  }

  /** Mark the hits of a search, the one at `place` above all. */
  mark(hits, place) {
    this.hits.forEach((_, word) => this.divided(word)?.classList.remove("hit", "here"));
    this.hits.clear();
    hits.forEach(([first, last], i) => {
      for (let word = first; word <= last; word++) this.hits.set(word, i === place ? "hit here" : "hit");
    });
    this.hits.forEach((kind, word) => this.divided(word)?.classList.add(...kind.split(" ")));
  }

  divided(word) {
    const turn = this.model.words.turn[word];
    return this.spans.get(turn)?.[word - this.model.turns[turn].first];
  }

  /** Scroll to a word unless it is well in sight; with `always` also then. */
  show(word, always = false) {
    const span = this.span(word), box = span.getBoundingClientRect();
    const top = Math.max(0, document.getElementById("top").getBoundingClientRect().bottom);
    const bottom = Math.min(innerHeight, document.getElementById("dock").getBoundingClientRect().top);
    const room = bottom - top;
    if (!always && box.top > top + room * 0.12 && box.bottom < bottom - room * 0.25) return;
    const far = box.top < -innerHeight || box.top > 2 * innerHeight;
    const to = () => scrollY + span.getBoundingClientRect().top - top - room * 0.35;
    if (far) scrollTo({ top: to(), behavior: "instant" }); // heights on the way were estimates
    requestAnimationFrame(() =>
      scrollTo({ top: to(), behavior: far || calm.matches ? "instant" : "smooth" }));
  }}
