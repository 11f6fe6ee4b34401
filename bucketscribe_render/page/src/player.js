// The place in the recording, and its sound: a file of the listener's, or a presigned link.
const STEP_S = 0.05;

export class Player {
  /** Play in `audio`; `onTime` gets the place in seconds, `onState` is told of all else. */
  constructor(audio, duration, onTime, onState) {
    Object.assign(this, { audio, duration, onTime, time: 0, source: "none" });
    for (const name of ["play", "pause", "ratechange", "loadedmetadata", "error", "ended"]) {
      audio.addEventListener(name, () => onState(name));
    }
    audio.addEventListener("play", () => this.follow());
    for (const name of ["seeked", "timeupdate", "pause"]) audio.addEventListener(name, () => this.tick());
  }

  get hasSound() { return this.source !== "none" && !this.audio.error; }
  get isPlaying() { return !this.audio.paused; }

  /** Have the sound from a URL; the place stays. */
  load(url, source) {
    if (this.source === "file") URL.revokeObjectURL(this.audio.src);
    const rate = this.audio.playbackRate, time = this.time;
    this.source = source;
    this.audio.src = url;
    this.audio.playbackRate = rate;
    if (time) this.audio.currentTime = time;
  }

  seek(time) {
    this.time = Math.min(this.duration, Math.max(0, time));
    if (this.hasSound) this.audio.currentTime = this.time;
    this.onTime(this.time);
  }

  toggle() {
    if (this.isPlaying) this.audio.pause();
    else this.audio.play().catch(() => undefined); // the error event says it
  }

  follow() {
    this.tick();
    if (this.isPlaying) requestAnimationFrame(() => this.follow());
  }

  tick() {
    if (this.audio.seeking || Math.abs(this.audio.currentTime - this.time) < STEP_S / 4) return;
    this.time = this.audio.currentTime;
    this.onTime(this.time);
  }
}
