// The page: what is asked (in the address, behind #), the results, and the panel about one track.
// All text from elsewhere is set as text, never as markup.

import { clock, isPlaying, play, player, step, toggle } from "./player.js";
import { Problem, get, playlist, post, send } from "./server.js";

const $ = (id) => document.getElementById(id);
const STEP = 10, MOST = 50; // results
const WAIT = 300; // milliseconds until "Searching" is said
const IDEAS = ["warm rhodes, slow groove", "calm piano", "medieval folk with harp", "fast techno, no vocals", "dark ambient"];
const EMPTY = { query: "", not: [], like: [], unlike: [], artist: "", genre: "", from: "", to: "", length: "", top: STEP };
const FILTERS = { artist: "artist", genre: "genre", from: "from", to: "to", length: "length" };

let asked = structuredClone(EMPTY);
let about = { tracks: 0, is_ready: false };
let hits = [];
let selected = null; // the id that the panel is about
let panelFrom = null; // where the focus goes back to
const items = new Map(); // id -> what is known of a track, or of a file that was sent
let searching = null;

function make(tag, options = {}, ...children) {
  const { className, text, label, ...rest } = options;
  const element = Object.assign(document.createElement(tag), rest);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  if (label) element.setAttribute("aria-label", label);
  if (tag === "button" && !rest.type) element.type = "button";
  element.append(...children);
  return element;
}

const isWide = () => matchMedia("(min-width: 900px)").matches;

const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- what is asked, in the address

function toHash(state) {
  const parameters = new URLSearchParams();
  if (state.query) parameters.set("q", state.query);
  for (const text of state.not) parameters.append("not", text);
  for (const name of ["like", "unlike"]) {
    for (const { id, label } of state[name]) parameters.append(name, `${id} ${label}`);
  }
  for (const name of Object.keys(FILTERS)) if (state[name]) parameters.set(name, state[name]);
  if (state.top !== STEP) parameters.set("top", state.top);
  return parameters.toString();
}

function fromHash(hash) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const examples = (name) =>
    parameters.getAll(name).map((text) => {
      const [id, ...label] = text.split(" ");
      return { id, label: label.join(" ") || "a track" };
    });
  const state = { ...structuredClone(EMPTY), query: parameters.get("q") || "", not: parameters.getAll("not") };
  state.like = examples("like");
  state.unlike = examples("unlike");
  for (const name of Object.keys(FILTERS)) state[name] = parameters.get(name) || "";
  if (![...$("length").options].some(({ value }) => value === state.length)) state.length = "";
  state.top = Math.min(MOST, Math.max(STEP, Math.trunc(Number(parameters.get("top"))) || STEP));
  return state;
}

function ask(changes, options = {}) {
  asked = { ...asked, top: STEP, ...changes };
  history.pushState(null, "", `#${toHash(asked)}`);
  drawAsked();
  return search(options);
}

function conditions() {
  const where = [];
  const isKnown = (list, text) =>
    (about[list] || []).some((name) => name.toLowerCase() === text.toLowerCase());
  if (asked.artist) where.push(`artist${isKnown("artists", asked.artist) ? "=" : "~"}${asked.artist}`);
  if (asked.genre) where.push(`genre${isKnown("genres", asked.genre) ? "=" : "~"}${asked.genre}`);
  if (asked.from) where.push(`year>=${asked.from}`);
  if (asked.to) where.push(`year<=${asked.to}`);
  if (asked.length && asked.length !== "any") {
    const [least, most] = asked.length.split("-");
    if (Number(least)) where.push(`seconds>=${least}`);
    if (most) where.push(`seconds<${most}`);
  }
  return where;
}

const hasFilters = () => Object.keys(FILTERS).some((name) => asked[name]);

function drawAsked() {
  if ($("query").value.trim() !== asked.query) $("query").value = asked.query;
  for (const name of ["artist", "genre", "length"]) $(name).value = asked[name];
  $("year-from").value = asked.from;
  $("year-to").value = asked.to;
  const chips = [];
  asked.like.forEach((each) => chips.push([`like: ${each.label}`, { like: without(asked.like, each) }, each.id]));
  asked.unlike.forEach((each) => chips.push([`not like: ${each.label}`, { unlike: without(asked.unlike, each) }, each.id]));
  asked.not.forEach((text) => chips.push([`without: ${text}`, { not: without(asked.not, text) }]));
  const lengths = $("length");
  const names = {
    artist: `artist: ${asked.artist}`,
    genre: `genre: ${asked.genre}`,
    from: `from ${asked.from}`,
    to: `to ${asked.to}`,
    length: `length: ${lengths.selectedOptions[0]?.textContent}`,
  };
  for (const name of Object.keys(FILTERS)) if (asked[name]) chips.push([names[name], { [name]: "" }]);
  $("chips").replaceChildren(
    ...chips.map(([text, changes, id]) => {
      const said = items.has(id)
        ? make("button", { className: "chip-text", text, onclick: (event) => openPanel(id, event.currentTarget) })
        : make("span", { className: "chip-text", text });
      const remove = make("button", { className: "chip-remove", text: "×", label: `Remove ${text}` });
      remove.addEventListener("click", () => ask(changes, { focus: false }).then(() => $("query").focus()));
      return make("li", { className: "chip" }, said, remove);
    }),
  );
  document.title = asked.query ? `${asked.query} – mulap` : "mulap";
}

const without = (list, item) => list.filter((each) => each !== item);

// ------------------------------------------------------------------------------------- searching

async function search({ focus = true } = {}) {
  searching?.abort();
  searching = new AbortController();
  const { signal } = searching;
  say("problem", "");
  if (!asked.query && !asked.like.length) {
    say("wait", "");
    showFirst();
    const isNarrowed = asked.not.length || asked.unlike.length || hasFilters();
    if (isNarrowed) say("count", "Add what you would like to hear, in words or by a file.");
    return;
  }
  const waiting = setTimeout(
    () => say("wait", about.is_ready ? `Searching ${counted(about.tracks, "track")}…` : "Loading the model (once, about 3 s)…"),
    about.is_ready ? WAIT : 0,
  );
  const body = { top: asked.top, where: conditions(), any_length: asked.length === "any" };
  if (asked.query) body.query = asked.query;
  if (asked.not.length) body.not = asked.not;
  for (const name of ["like", "unlike"]) if (asked[name].length) body[name] = asked[name].map(({ id }) => id);
  try {
    const answer = await post("v1/search", body, signal);
    about.is_ready = true;
    showHits(answer, focus);
  } catch (problem) {
    if (problem.name !== "AbortError") showProblem(problem);
  } finally {
    clearTimeout(waiting);
    if (!signal.aborted) say("wait", "");
  }
}

function say(id, text) {
  $(id).textContent = text;
}

function showProblem(problem) {
  if (problem.status === 401) {
    if (!$("gate").open) $("gate").showModal();
    return;
  }
  let text = `${problem.message} ${problem.remedy || ""}`.trim();
  if (problem.remedy?.includes("--upgrade")) {
    text = `This library was made by ${about.space || "another model"}. Run: mulap index --upgrade`;
  }
  say("wait", "");
  say("problem", text);
  $("problem").scrollIntoView({ block: "nearest" });
}

function showFirst() {
  hits = [];
  document.body.classList.remove("has-results");
  $("first").hidden = about.tracks === 0;
  $("results").replaceChildren();
  $("notes").replaceChildren();
  $("after").hidden = true;
  say("count", "");
}

function showHits(answer, focus) {
  const before = hits.length;
  const isMore = focus === "more";
  hits = answer.hits.map((hit) => remember(hit));
  document.body.classList.add("has-results");
  $("first").hidden = true;
  const left = answer.left_out ? `; ${answer.left_out.toLocaleString("en")} under 0:30 or over 15:00 left out` : "";
  const took = `${Math.round(1000 * answer.seconds)} ms`;
  say("count", hits.length ? `${hits.length} of ${counted(answer.tracks, "track")}, ${took}${left}` : "");
  const notes = answer.notes.map((text) => make("li", { text: text.startsWith("Read as") ? `${text}.` : text }));
  if (!hits.length) notes.push(nothingFound());
  $("notes").replaceChildren(...notes);
  $("results").replaceChildren(...hits.map(row));
  $("after").hidden = !hits.length;
  $("more").hidden = hits.length < asked.top || asked.top >= MOST;
  drawPlaying();
  if (isMore) buttonOf(hits[before]?.id)?.focus();
  else if (focus && hits.length) {
    scrollTo(0, 0);
    buttonOf(hits[0].id).focus();
  }
  if (selected && !isMore) {
    if (isWide()) openPanel(selected, panelFrom, false); // the reason was about another search
    else closePanel(false); // it lies over the results
  }
}

function nothingFound() {
  const note = make("li", { text: hasFilters() ? "No track matches these filters. " : "No track matches this. " });
  const changes = hasFilters() ? cleared() : { not: [], unlike: [] };
  note.append(make("button", { text: hasFilters() ? "Clear filters" : "Clear what is not wanted", onclick: () => ask(changes) }));
  return note;
}

const cleared = () => Object.fromEntries(Object.keys(FILTERS).map((name) => [name, ""]));

function remember(hit) {
  const file = hit.file.split("/").pop();
  const item = { ...hit, title: hit.title || file, file, url: `audio/${encodeURIComponent(hit.id)}` };
  items.set(item.id, item);
  return item;
}

function row(item) {
  const describes = `about-${item.rank}`;
  const button = make(
    "button",
    { className: "hit" },
    make("span", { className: "rank", text: item.rank }),
    make("span", { className: "name" },
      make("span", { className: "title", text: item.title }),
      make("span", { className: "by", text: item.artist })),
    make("span", { className: "said", id: describes },
      make("span", { className: `match ${item.match}`, text: item.match }),
      make("span", { className: "why", text: item.is_missing ? "This file is no longer there." : item.why.join(", ") })),
    make("span", { className: "at", text: clock(item.start) }),
  );
  button.dataset.id = item.id;
  button.setAttribute("aria-describedby", describes);
  button.addEventListener("click", () => (isPlaying(item.id) ? toggle() : start(item)));
  const named = (text) => [text, make("span", { className: "unseen", text: `: ${item.title}` })];
  const more = make("button", { className: "plain wide", onclick: () => moreLike(item) }, ...named("More like this"));
  const why = make("button", { className: "plain", onclick: () => openPanel(item.id, why, true) }, ...named("Why"));
  return make("li", {}, button, make("div", { className: "row-actions" }, more, why));
}

const buttonOf = (id) => [...document.querySelectorAll(".hit")].find((button) => button.dataset.id === id);

function start(item) {
  play(item);
  if (isWide() && selected !== item.id) openPanel(item.id, null);
}

function drawPlaying() {
  say("panel-play", selected && isPlaying(selected) ? "Pause" : "Play");
  for (const button of document.querySelectorAll(".hit")) {
    const item = items.get(button.dataset.id);
    const isNow = isPlaying(item.id);
    button.classList.toggle("is-playing", isNow);
    button.classList.toggle("is-current", player.item?.id === item.id);
    const by = item.artist ? ` by ${item.artist}` : "";
    button.setAttribute("aria-label", isNow ? `Pause ${item.title}${by}` : `Play ${item.title}${by} from ${clock(item.start)}`);
  }
}

function moreLike(item) {
  return ask({ query: "", not: [], unlike: [], like: [{ id: item.id, label: item.title }] });
}

function lessLike(item) {
  if (asked.unlike.some(({ id }) => id === item.id)) return;
  const like = asked.like.filter(({ id }) => id !== item.id);
  return ask({ like, unlike: [...asked.unlike, { id: item.id, label: item.title }] });
}

async function save() {
  if (!hits.length) return;
  try {
    const blob = await playlist(hits.map(({ id }) => id));
    const name = (asked.query || asked.like[0]?.label || "mulap").replace(/[^\p{L}\p{N} ,-]+/gu, "").trim().slice(0, 60);
    const link = make("a", { href: URL.createObjectURL(blob), download: `${name || "mulap"}.m3u8` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (problem) {
    showProblem(problem);
  }
}

// ------------------------------------------------------------------------------ a file of yours

async function take(file) {
  if (!file) return;
  say("problem", "");
  say("wait", about.is_ready ? `Listening to ${file.name}…` : "Loading the model (once, about 3 s)…");
  try {
    const sent = await send(file);
    const url = URL.createObjectURL(file);
    items.set(sent.id, { id: sent.id, title: file.name, artist: "", by: "Your file", url, seconds: sent.seconds, start: 0, end: 0, file: file.name });
    say("wait", "");
    await ask({ query: "", not: [], unlike: [], like: [{ id: sent.id, label: file.name }] });
    for (const note of sent.notes) $("notes").prepend(make("li", { text: note }));
    if (isWide()) openPanel(sent.id, null);
  } catch (problem) {
    showProblem(problem);
  } finally {
    $("file").value = "";
  }
}

// ------------------------------------------------------------------------- the panel about a track

function openPanel(id, from, isFocused = from !== null) {
  const item = items.get(id);
  if (!item) return;
  selected = id;
  panelFrom = from;
  $("panel").hidden = false;
  document.body.classList.add("has-panel");
  say("panel-title", item.title);
  const by = [item.artist || item.by, item.album, clock(item.seconds)];
  say("panel-by", by.filter(Boolean).join(" · "));
  say("panel-file", item.file === item.title ? "" : item.file);
  say("panel-problem", "");
  for (const part of ["panel-why", "panel-caption", "panel-tags"]) $(part).hidden = true;
  fill(id, "v1/tag", { id, top: 8 }, drawTags);
  fill(id, "v1/caption", { id }, drawCaption);
  if (asked.query) fill(id, "v1/explain", { id, text: asked.query }, drawWhy);
  else if (item.why?.length) drawLikeness(item);
  drawPlaying();
  if (isFocused) $("panel-title").focus({ preventScroll: true });
  $("panel").scrollTop = 0;
}

async function fill(id, path, body, draw) {
  try {
    const answer = await post(path, body);
    if (selected === id) draw(answer, items.get(id));
  } catch (problem) {
    if (selected !== id) return;
    if (problem.status === 401 || problem.status === 0) showProblem(problem);
    else say("panel-problem", `${problem.message} ${problem.remedy}`.trim());
  }
}

function closePanel(isFocused = true) {
  if ($("panel").hidden) return false;
  selected = null;
  $("panel").hidden = true;
  document.body.classList.remove("has-panel");
  if (isFocused && panelFrom?.isConnected) panelFrom.focus();
  return true;
}

function drawTags(answer) {
  $("panel-tags").hidden = false;
  const shown = answer.tags.map(({ tag, match, percentile }) => {
    const bar = make("span", { className: "bar" });
    bar.style.setProperty("--share", Math.max(0.02, (percentile - 90) / 10));
    bar.setAttribute("aria-hidden", "true");
    const name = make("button", { className: "tag", text: tag, title: `Search for ${tag}`, onclick: () => ask({ query: tag, like: [], not: [], unlike: [] }) });
    return make("li", { title: `fits better than ${percentile} of 100 neutral sentences` }, name, bar, make("span", { className: `match ${match}`, text: match }));
  });
  $("tags").replaceChildren(...shown);
  const isWeak = answer.tags.every(({ match }) => match === "weak");
  say("tags-note", [isWeak && !answer.notes.length ? "Nothing stands out in this track." : "", ...answer.notes].join(" ").trim());
}

function drawCaption(answer) {
  $("panel-caption").hidden = false;
  say("caption", answer.caption);
  say("caption-match", `The nearest known sentence; match: ${answer.match}.`);
}

function drawLikeness(item) {
  $("panel-why").hidden = false;
  say("why-said", `Both stand out in: ${item.why.join(", ")}.`);
  for (const part of ["why-bars", "why-words", "why-table"]) $(part).replaceChildren();
  for (const part of ["why-from", "why-to", "why-doubt"]) say(part, "");
  $("panel-why").classList.add("is-short");
}

function drawWhy(answer, item) {
  $("panel-why").hidden = false;
  $("panel-why").classList.toggle("is-short", answer.segments.length < 2);
  const effects = answer.segments.map(({ effect }) => effect);
  const largest = Math.max(...effects.map(Math.abs), 1e-6);
  const { start: from, end: to } = answer.most;
  const isOne = answer.segments.length < 2;
  say("why-said", isOne ? "Too short to compare its parts." : `${clock(from)} to ${clock(to)} adds most to the match.`);
  $("why-bars").replaceChildren(
    ...answer.segments.map(({ start: at, end, effect }) => {
      const bar = make("i", { title: `${clock(at)}–${clock(end)}: ${signed(effect)}` });
      bar.style.setProperty("--height", Math.abs(effect) / largest);
      bar.classList.toggle("is-less", effect < 0);
      bar.classList.toggle("is-most", at === from);
      bar.addEventListener("click", () => play(item, at));
      return bar;
    }),
  );
  const said = answer.segments.length;
  $("why-bars").setAttribute("aria-label", `What each of ${said} parts adds to the match; most from ${clock(from)} to ${clock(to)}. The table below has the numbers.`);
  say("why-from", "0:00");
  say("why-to", clock(answer.segments.at(-1).end));
  $("why-words").replaceChildren(
    ...answer.words.map(({ word, effect }) =>
      make("li", { className: effect > 0.1 ? "adds" : "" }, make("span", { text: word }), " ", make("b", { text: signed(effect) })),
    ),
  );
  const doubt = answer.agreement !== null && answer.agreement < 0.5;
  say("why-doubt", doubt ? `The model’s attention lies elsewhere (agreement ${answer.agreement.toFixed(2).replace("-", "−")}): trust the bars.` : "");
  $("why-table").replaceChildren(
    ...answer.segments.map(({ start: at, end, effect }) => {
      const label = `Play from ${clock(at)}`;
      const button = make("button", { className: "plain", text: `${clock(at)}–${clock(end)}`, label, onclick: () => play(item, at) });
      return make("tr", {}, make("td", {}, button), make("td", { text: signed(effect) }));
    }),
  );
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(Math.abs(number) < 0.1 ? 2 : 1)}`;

// --------------------------------------------------------------------------------- the library

async function lookAtLibrary() {
  try {
    about = await get("v1/library");
  } catch (problem) {
    showProblem(problem);
    return false;
  }
  let text = counted(about.tracks, "track");
  if (about.indexing) {
    text = `${about.tracks.toLocaleString("en")} of ${counted(about.indexing, "track")} can be searched; the rest is being read.`;
    setTimeout(lookAtLibrary, 5_000);
  }
  say("library", text);
  for (const [list, names] of [["artists", about.artists], ["genres", about.genres]]) {
    $(list).replaceChildren(...names.map((value) => make("option", { value })));
  }
  if (about.problem) showProblem(new Problem(409, about.problem.error, about.problem.remedy));
  else if (!about.tracks) say("problem", "This library has no tracks yet. In a terminal: mulap index MUSIC");
  else if ($("problem").textContent.startsWith("This library has no tracks")) say("problem", "");
  $("first").hidden = !about.tracks || hits.length > 0;
  return true;
}

async function begin() {
  asked = fromHash(location.hash);
  drawAsked();
  if (await lookAtLibrary()) {
    if (asked.query || asked.like.length) await search({ focus: false });
    else if (matchMedia("(hover: hover)").matches) $("query").focus();
  }
}

// -------------------------------------------------------------------------------------- events

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ query: $("query").value.trim().replace(/\s+/g, " ") });
});

function fold(button, box, isOpen = $(box).hidden) {
  $(box).hidden = !isOpen;
  $(button).setAttribute("aria-expanded", String(isOpen));
  if (isOpen) $(box).querySelector("input").focus();
}

$("not-button").addEventListener("click", () => fold("not-button", "not-box"));
$("filter-button").addEventListener("click", () => fold("filter-button", "filters"));

function addNot() {
  const text = $("not").value.trim();
  if (!text) return;
  $("not").value = "";
  fold("not-button", "not-box", false);
  ask({ query: $("query").value.trim(), not: [...without(asked.not, text), text] });
}

$("not-add").addEventListener("click", addNot);

function applyFilters() {
  for (const name of ["year-from", "year-to"]) if (!$(name).reportValidity()) return;
  fold("filter-button", "filters", false);
  const [artist, genre, length] = ["artist", "genre", "length"].map((name) => $(name).value.trim());
  ask({ query: $("query").value.trim(), artist, genre, length, from: $("year-from").value, to: $("year-to").value });
}

$("filter-apply").addEventListener("click", applyFilters);
$("filter-clear").addEventListener("click", () => {
  fold("filter-button", "filters", false);
  ask(cleared());
});
for (const [box, apply] of [["not-box", addNot], ["filters", applyFilters]]) {
  $(box).addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName === "BUTTON") return;
    event.preventDefault();
    apply();
  });
}

$("file-button").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", (event) => take(event.target.files[0]));
let depth = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  depth += 1;
  $("drop").hidden = false;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  take(event.dataTransfer?.files[0]);
});

$("more").addEventListener("click", () => {
  asked.top = Math.min(MOST, asked.top + 2 * STEP);
  history.replaceState(null, "", `#${toHash(asked)}`);
  search({ focus: "more" });
});
$("save").addEventListener("click", save);
$("panel-close").addEventListener("click", () => closePanel());
$("panel-play").addEventListener("click", () => {
  const item = items.get(selected);
  if (player.item?.id === selected) toggle();
  else if (item) play(item);
});
$("panel-more").addEventListener("click", () => selected && moreLike(items.get(selected)));
$("panel-less").addEventListener("click", () => selected && lessLike(items.get(selected)));
$("keys-button").addEventListener("click", () => $("keys").showModal());
player.onchange = drawPlaying;
addEventListener("popstate", () => {
  asked = fromHash(location.hash);
  drawAsked();
  search({ focus: false });
});

$("gate-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("v1/session", { token: $("token").value });
    $("gate").close();
    $("token").value = "";
    begin();
  } catch (problem) {
    say("gate-problem", `${problem.message} ${problem.remedy || ""}`);
  }
});

function current() {
  const focused = items.get(document.activeElement?.dataset?.id);
  return focused || items.get(selected) || player.item || hits[0];
}

function move(direction) {
  const buttons = [...document.querySelectorAll(".hit")];
  if (!buttons.length) return;
  const place = buttons.findIndex((button) => button.parentElement.contains(document.activeElement));
  const next = place < 0 ? 0 : Math.min(buttons.length - 1, Math.max(0, place + direction));
  buttons[next].focus();
}

const KEYS = {
  "/": () => {
    $("query").focus();
    $("query").select();
  },
  "?": () => $("keys").showModal(),
  j: () => move(1),
  k: () => move(-1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  " ": toggle,
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  m: () => current() && moreLike(current()),
  x: () => current() && lessLike(current()),
  e: () => current() && openPanel(current().id, document.activeElement, true),
  s: save,
};

addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if (closePanel()) return;
    for (const [button, box] of [["not-button", "not-box"], ["filter-button", "filters"]]) {
      if (!$(box).hidden) {
        fold(button, box, false);
        $(button).focus();
      }
    }
    return;
  }
  const isTyping = target.matches?.("input:not([type=range]), select, textarea");
  if (isTyping) {
    if (target.id === "query" && event.key === "ArrowDown" && hits.length) {
      event.preventDefault();
      move(1);
    }
    return;
  }
  const isOwn = event.key === " " && target.matches?.("button, summary, a");
  const isSlider = target.matches?.("input[type=range]") && event.key.startsWith("Arrow");
  if (isOwn || isSlider || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

$("ideas").append(
  ...IDEAS.map((text) => make("li", {}, make("button", { className: "idea", text, onclick: () => ask({ query: text }) }))),
);
begin();
