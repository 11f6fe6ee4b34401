// The whole recording at a glance: a lane for each speaker, the hits of a search, and the place.
import { clock } from "./document.js";

const ROW = 26, BAR = 10, RULER = 22;
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

export class Overview {
  /** Draw into the slider `root`; `onSeek` gets the seconds that were pointed at. */
  constructor(root, model, onSeek) {
    Object.assign(this, { root, model, hits: [], hit: null });
    [this.canvas, this.head, this.tip] = root.children;
    this.rows = Math.max(1, model.ids.length);
    this.canvas.style.height = `${this.rows * ROW + RULER}px`;
    root.setAttribute("aria-valuemax", Math.round(model.duration));
    new ResizeObserver(() => this.draw()).observe(root);
    const timeOf = (event) => {
      const box = root.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * model.duration;
    };
    root.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      root.setPointerCapture(event.pointerId);
      onSeek(this.nearest(event, timeOf(event)));
    });
    root.addEventListener("pointermove", (event) => {
      const time = timeOf(event);
      this.tip.textContent = clock(time);
      this.tip.style.left = `${(time / model.duration) * 100}%`;
      if (root.hasPointerCapture(event.pointerId)) onSeek(time);
    });
    root.addEventListener("keydown", (event) => {
      if (event.shiftKey || event.ctrlKey || event.metaKey || event.altKey) return;
      const on = { ArrowUp: 5, ArrowRight: 5, ArrowDown: -5, ArrowLeft: -5, PageUp: 60, PageDown: -60 };
      const ends = { Home: 0, End: model.duration };
      const to = on[event.key] ? this.time + on[event.key] : ends[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      onSeek(to);
    });
    this.place(0);
  }

  /** Move the head to `time`. */
  place(time) {
    this.time = time;
    this.head.style.left = `${Math.min(1, time / this.model.duration) * 100}%`;
    if (Math.floor(time) === this.said) return;
    this.said = Math.floor(time);
    this.root.setAttribute("aria-valuenow", this.said);
    this.root.setAttribute("aria-valuetext", `${clock(time)} of ${clock(this.model.duration)}`);
  }

  /** Return the time, or what is within some pixels of it in the lane that was pointed at. */
  nearest(event, time) {
    const box = this.root.getBoundingClientRect(), slack = (6 / box.width) * this.model.duration;
    const lane = Math.floor((event.clientY - box.top) / ROW);
    const near = this.model.turns.find((turn) =>
      turn.speaker === lane && turn.start - slack <= time && time <= turn.end + slack);
    return near ? Math.min(Math.max(time, near.start), near.end) : time;
  }

  /** Return what a variable of the style sheet amounts to, in this theme. */
  colour(name) {
    this.root.style.color = `var(${name})`;
    return getComputedStyle(this.root).color;
  }

  draw() {
    const { model, canvas } = this, width = this.root.clientWidth, pen = canvas.getContext("2d");
    canvas.width = width * devicePixelRatio;
    canvas.height = (this.rows * ROW + RULER) * devicePixelRatio;
    pen.scale(devicePixelRatio, devicePixelRatio);
    const x = (time) => (time / model.duration) * width;
    this.drawRuler(pen, width, x);
    model.ids.forEach((_, speaker) => this.drawLane(pen, speaker, x));
    const places = new Set(this.hits.map(([word]) => Math.round(x(model.words.start[word]))));
    this.drawHits(pen, places, "--hit");
    if (this.hit) this.drawHits(pen, [x(model.words.start[this.hit[0]])], "--ink");
  }

  /** A thin line through the lanes, and a tick below them. */
  drawHits(pen, places, colour) {
    pen.fillStyle = this.colour(colour);
    for (const [alpha, width, top, height] of [[0.35, 1, 0, this.rows * ROW], [1, 2, this.rows * ROW, 6]]) {
      pen.globalAlpha = alpha;
      for (const at of places) pen.fillRect(at - width / 2, top, width, height);
    }
  }

  drawLane(pen, speaker, x) {
    const { words, turns } = this.model, y = speaker * ROW + (ROW - BAR) / 2;
    let run = null;
    const end = () => {
      if (run) pen.roundRect(run[0], y, Math.max(1.5, run[1] - run[0]), BAR, 2);
    };
    pen.beginPath();
    pen.fillStyle = this.colour(`--speaker-${speaker % 8}`);
    for (const turn of turns) {
      if (turn.speaker !== speaker) continue;
      for (let i = turn.first; i <= turn.last; i++) {
        const from = x(words.start[i]), to = x(words.end[i]);
        if (run && from - run[1] < 1) run[1] = Math.max(run[1], to);
        else {
          end();
          run = [from, to];
        }
      }
    }
    end();
    pen.fill();
  }

  drawRuler(pen, width, x) {
    const { duration } = this.model, base = this.rows * ROW;
    const step = STEPS_S.find((each) => x(each) >= 72) ?? duration / 8;
    const line = this.colour("--line"), quiet = this.colour("--quiet");
    pen.font = `11px ${getComputedStyle(this.root).fontFamily}`;
    pen.textAlign = "center";
    for (let time = step; x(time) < width - 24 && time < duration; time += step) {
      pen.fillStyle = line;
      pen.fillRect(x(time) - 0.5, 0, 1, base + 2);
      pen.fillStyle = quiet;
      pen.fillText(clock(time), x(time), base + 17);
    }
  }
}
