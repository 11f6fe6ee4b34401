// The page: joins text, overview, player, search and names. Nothing here writes markup or asks a
// network for anything but the sound.
import { FLAGGED, LOW, clean, clock, list, number, read, spokenAt, turnAt } from "./document.js";
import { asSrt, asText, asVtt } from "./formats.js";
import { find, indexOf } from "./search.js";
import { Text } from "./text.js";
import { Overview } from "./overview.js";
import { Player } from "./player.js";

const $ = (id) => document.getElementById(id);
const doc = JSON.parse($("document").textContent), link = JSON.parse($("link").textContent);
const model = read(doc), title = clean(document.title);
$("document").remove();

/** Make an element of a kind with a text and properties. */
function make(kind, text = "", properties = {}) {
  return Object.assign(document.createElement(kind), { textContent: text, ...properties });
}

const kept = {
  read(name) { try { return localStorage.getItem(`bucketscribe:${name}`); } catch { return null; } },
  write(name, text) { try { localStorage.setItem(`bucketscribe:${name}`, text); } catch { /* forbidden */ } },
};

// ---- what the page says at its foot: something for a while, or what it says always
let always = "", silence = 0;
function say(text) {
  clearTimeout(silence);
  $("notice").textContent = text;
  if (text !== always) silence = setTimeout(() => say(always), 6000);
}

// ---- speakers
const namesKey = `names:${clean(doc.request_id) || title}`;
const names = new Map();
function take(given) {
  for (const [id, name] of Object.entries(given ?? {})) names.set(id, clean(name));
}
take(doc.speaker_names);
try { take(JSON.parse(kept.read(namesKey))); } catch { /* not ours */ }

function nameOf(speaker) {
  const id = model.ids[speaker], number = /^SPEAKER_(\d+)$/.exec(id);
  if (names.get(id)) return names.get(id);
  if (!id) return model.ids.length > 1 ? "Unknown" : "";
  return number ? `Speaker ${Number(number[1]) + 1}` : id;
}

function showNames() {
  document.querySelectorAll("button.name").forEach((button) => {
    button.textContent = nameOf(Number(button.dataset.speaker));
  });
}

function rename(button) {
  const speaker = Number(button.dataset.speaker), input = make("input", "", { maxLength: 60 });
  const end = (keep) => {
    input.onblur = null;
    input.replaceWith(button);
    if (keep) {
      names.set(model.ids[speaker], clean(input.value).trim());
      kept.write(namesKey, JSON.stringify(Object.fromEntries(names)));
      showNames();
    }
    button.focus();
  };
  Object.assign(input, { className: "name", value: nameOf(speaker), onblur: () => end(true) });
  input.setAttribute("aria-label", `Name of ${nameOf(speaker)}`);
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault(); // the button, focused again, would take Enter for a click
    end(event.key === "Enter");
  };
  button.replaceWith(input);
  input.select();
}

function listSpeakers() {
  const spoken = model.ids.map(() => 0);
  model.turns.forEach((turn) => { spoken[turn.speaker] += turn.last - turn.first + 1; });
  model.ids.forEach((_, speaker) => {
    const item = make("li"), share = Math.round((100 * spoken[speaker]) / model.count);
    const button = make("button", "", { className: "name", title: "Change this name" });
    button.dataset.speaker = speaker;
    item.style.setProperty("--speaker", `var(--speaker-${speaker % 8})`);
    item.append(button, make("small", `${share || 0} %`, { title: "Share of the words" }));
    $("speakers").append(item);
  });
  document.body.classList.toggle("nameless", model.ids.length < 2 && !model.ids[0]);
}

// ---- text, overview, sound
const text = new Text($("text"), model, (word) => seek(model.words.start[word], false));
const overview = new Overview($("timeline"), model, (time) => seek(time));
const player = new Player($("audio"), model.duration, onTime, onSound);
let follows = true;

function seek(time, scrolls = true) {
  player.seek(time);
  if (scrolls) text.show(text.lit[0] ?? model.turns[turnAt(model, player.time)].first);
}

function onTime(time) {
  overview.place(time);
  const shown = `${clock(time)} / ${clock(model.duration)}`;
  if ($("clock").textContent !== shown) $("clock").textContent = shown;
  const found = spokenAt(model, time);
  if (text.light(found) && found.length && follows && player.isPlaying) text.show(found[0]);
}

function setFollow(on) {
  follows = on;
  $("follow").setAttribute("aria-pressed", on);
  if (on && text.lit.length) text.show(text.lit[0], true);
}

function onSound(what) {
  const verb = player.isPlaying ? "Pause" : "Play", end = model.words.end.at(-1) ?? 0;
  $("play").setAttribute("aria-label", verb);
  $("play").querySelector("use").setAttribute("href", `#i-${verb.toLowerCase()}`);
  if (what === "ratechange") $("rate").value = String(player.audio.playbackRate);
  if (what === "loadedmetadata") {
    document.body.classList.add("sounding");
    $("choose").setAttribute("aria-label", "Choose another recording");
    if (player.audio.duration < end - 1) {
      say(`The text goes to ${clock(end)}, this recording ends at ${clock(player.audio.duration)}: is it the right one?`);
    }
  }
  if (what === "error") {
    say(player.source === "link"
      ? "The sound does not come through the link. Choose the recording's file, or make the page anew."
      : "This browser cannot play that file.");
  }
}

function playFile(file) {
  if (!file) return;
  always = "";
  say("");
  player.load(URL.createObjectURL(file), "file");
}

function play() {
  if (player.hasSound) player.toggle();
  else $("file").click();
}

function useLink() {
  if (!link) return;
  const ends = new Date(link.expires_at), left = ends - Date.now();
  const at = ends.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const over = () => {
    if (player.source === "file") return;
    always = `The link to the sound ended: ${at}. Choose the recording's file, or make the page anew.`;
    say(always);
  };
  if (left <= 0) return over();
  always = `This page holds a secret link to the sound: whoever has the page can listen until ${at}.`;
  say(always);
  player.load(link.url, "link");
  setTimeout(over, Math.min(left, 2 ** 31 - 1));
}

// ---- search
let index = null, hits = [], place = -1;
function search() {
  index ??= indexOf(model);
  hits = find(index, $("query").value);
  const from = text.lit[0] ?? 0, next = hits.findIndex(([first]) => first >= from);
  place = hits.length ? Math.max(0, next) : -1;
  showHit();
}

function showHit(step = 0) {
  if (hits.length) place = (place + step + hits.length) % hits.length;
  text.mark(hits, place);
  Object.assign(overview, { hits, hit: hits[place] ?? null });
  overview.draw();
  const count = `${(place + 1).toLocaleString()} of ${hits.length.toLocaleString()}`;
  $("found").textContent = !$("query").value.trim() ? "" : hits.length ? count : "none";
  $("previous").disabled = $("next").disabled = hits.length < 2;
  if (!hits.length) return;
  if (player.isPlaying) setFollow(false);
  text.show(hits[place][0]);
}

// ---- copy, download
const FORMS = [["Text", "txt", asText], ["SRT", "srt", asSrt], ["VTT", "vtt", asVtt]];
function exportedNames() {
  const given = Object.fromEntries(model.ids.filter((id) => id && names.has(id)).map((id) => [id, names.get(id)]));
  const of = { request_id: doc.request_id ?? null, audio_etag: doc.audio_etag ?? null };
  return JSON.stringify({ ...of, speakers: given }, null, 1) + "\n";
}

function download(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  make("a", "", { href: url, download: `${title || "transcript"}.${name}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function listForms() {
  const row = (label, ...buttons) => {
    const line = make("div");
    line.append(make("span", label), ...buttons);
    $("save").append(line);
  };
  const button = (label, name, onclick) => {
    const made = make("button", label, { onclick });
    made.setAttribute("aria-label", `${label} ${name}`);
    return made;
  };
  for (const [label, ending, form] of FORMS) {
    row(label, button("Copy", label, () => navigator.clipboard.writeText(form(model, nameOf))
      .then(() => say(`Copied as ${label}.`), () => say("The browser forbids copying: download instead."))),
    button("Download", label, () => download(ending, form(model, nameOf))));
  }
  row("Speakers' names", button("Download", "speakers' names",
    () => download("speakers.json", exportedNames())));
}

// ---- about
function tell() {
  const speakers = model.ids.filter(Boolean).length, marks = model.words.mark;
  const doubtful = marks.filter((mark) => mark & (LOW | FLAGGED)).length;
  const named = (code) => new Intl.DisplayNames(["en"], { type: "language" }).of(code);
  let language = clean(doc.language);
  try { language = named(language); } catch { /* no code that this browser knows */ }
  $("text").lang = doc.task === "translate" ? "en" : clean(doc.language);
  const counted = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
  const facts = [clock(model.duration), doc.task === "translate" ? `translated from ${language}` : language,
    speakers ? counted(speakers, "speaker") : "", counted(model.count, "word"),
    doubtful ? `${doubtful.toLocaleString("en")} doubtful` : ""];
  $("about").append(make("p", facts.filter(Boolean).join(" · ")));
  const more = make("details"), lines = list(doc.warnings).map(clean);
  const at = (each) => `${clock(number(each?.start, 0))} to ${clock(number(each?.end, 0))}`;
  list(doc.uncovered).forEach((each) => lines.push(`Speech without text: ${at(each)}`));
  list(doc.dropped).forEach((each) => lines.push(`Left out, ${at(each)}: ${clean(each?.text)}`));
  if (!lines.length) return;
  more.append(make("summary", counted(lines.length, "note")), ...lines.map((line) => make("p", line)));
  $("about").append(more);
}

// ---- buttons and keys
const press = (id) => () => $(id).click();
function speed(step) {
  const rate = $("rate");
  rate.selectedIndex = Math.min(rate.options.length - 1, Math.max(0, rate.selectedIndex + step));
  player.audio.playbackRate = Number(rate.value);
}

function toTurn(step) {
  const now = turnAt(model, player.time), to = Math.min(model.turns.length - 1, Math.max(0, now + step));
  if (model.turns.length) seek(model.turns[to].start);
}

function toSearch() {
  $("query").focus();
  $("query").select();
}

const hop = (seconds) => () => seek(player.time + seconds);
const KEYS = {
  " ": play, k: play, j: hop(-10), l: hop(10), ArrowLeft: hop(-5), ArrowRight: hop(5),
  ",": () => speed(-1), ".": () => speed(1), d: press("doubts"), f: press("follow"),
  "/": toSearch, "?": press("ask"),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input, select, dialog, [popover]") || !$("keys").checked) return;
  if ((event.key === " " || event.key === "Enter") && event.target.closest("button, summary")) return;
  if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"].includes(event.key)) setAside();
  let action = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : undefined;
  if (event.shiftKey && event.key.startsWith("Arrow")) {
    action = { ArrowLeft: () => toTurn(-1), ArrowRight: () => toTurn(1) }[event.key];
  }
  if (!action) return;
  event.preventDefault();
  action();
}

function setAside() {
  if (follows && player.isPlaying) setFollow(false);
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  overview.draw();
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const clicks = {
  play, back: hop(-10), on: hop(10), ask: () => $("help").showModal(),
  choose: () => $("file").click(), follow: () => setFollow(!follows),
  previous: () => showHit(-1), next: () => showHit(1),
  doubts: () => $("doubts").setAttribute("aria-pressed", document.body.classList.toggle("doubts")),
  theme: () => {
    const now = document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
    const other = now === "dark" ? "light" : "dark";
    kept.write("theme", other);
    setTheme(other);
  },
};
for (const [id, action] of Object.entries(clicks)) $(id).addEventListener("click", action);
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.name");
  if (button) rename(button);
});
for (const kind of ["wheel", "touchmove"]) {
  $("text").addEventListener(kind, setAside, { passive: true });
}
$("query").addEventListener("input", search);
$("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && hits.length) showHit(event.shiftKey ? -1 : 1);
  if (event.key === "Escape") $("query").blur();
});
$("rate").addEventListener("change", () => speed(0));
$("keys").checked = kept.read("keys") !== "off";
$("keys").addEventListener("change", () => kept.write("keys", $("keys").checked ? "on" : "off"));
$("file").addEventListener("change", () => playFile($("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("drop", kind === "dragover");
    if (kind === "drop") playFile(event.dataTransfer.files[0]);
  });
}
dark.addEventListener("change", () => overview.draw());

Object.assign($("title"), { textContent: title, title });
listSpeakers();
listForms();
tell();
showNames();
if (kept.read("theme")) setTheme(clean(kept.read("theme")));
onTime(0);
useLink();
