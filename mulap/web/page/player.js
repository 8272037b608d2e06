// The one player of the page.

import { whyNotPlayed } from "./server.js";

const $ = (id) => document.getElementById(id);
const audio = $("audio");
const STEP = 5;

export const player = { item: null, onchange: () => {} };

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// Plays an item {id, url, title, artist, start, end, seconds, file} from a second.
export function play(item, from = item.start || 0) {
  clearProblem();
  if (player.item?.id !== item.id) {
    player.item = item;
    audio.src = `${item.url}#t=${from.toFixed(1)}`; // the browser asks for that part first
    audio.dataset.from = from;
  } else {
    player.item = item;
    audio.currentTime = from;
  }
  audio.play().catch(() => {}); // "error" tells what is wrong
  $("player").hidden = false;
  document.body.classList.add("has-player");
  $("now-title").textContent = item.title;
  $("now-by").textContent = item.artist;
  drawMoment();
  draw();
}

export function toggle() {
  if (!player.item) return;
  if (audio.paused) audio.play().catch(() => {});
  else audio.pause();
}

export function isPlaying(id) {
  return player.item?.id === id && !audio.paused;
}

export function step(direction) {
  if (player.item) audio.currentTime = Math.max(0, audio.currentTime + direction * STEP);
}

function lengthOf() {
  return Number.isFinite(audio.duration) ? audio.duration : player.item?.seconds || 0;
}

function drawMoment() {
  const length = lengthOf();
  const { start = 0, end = 0 } = player.item;
  const moment = $("moment");
  moment.hidden = !(length > 0 && end > start);
  moment.style.setProperty("--from", start / length);
  moment.style.setProperty("--to", Math.min(1, end / length));
}

function draw() {
  const length = lengthOf();
  const seek = $("seek");
  seek.max = length || 1;
  seek.value = audio.currentTime;
  seek.style.setProperty("--share", length ? audio.currentTime / length : 0);
  seek.setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(length)}`);
  $("time").textContent = clock(audio.currentTime);
  $("end").textContent = clock(length);
}

function drawState() {
  const button = $("toggle");
  button.classList.toggle("is-playing", !audio.paused);
  button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  player.onchange();
}

function clearProblem() {
  $("player-problem").replaceChildren();
}

async function showProblem() {
  const item = player.item;
  if (!item || !audio.getAttribute("src")) return;
  const problem = await whyNotPlayed(item.url);
  if (player.item !== item) return;
  const text = document.createElement("span");
  text.textContent = `${problem.message} ${problem.remedy || ""}`.trim();
  $("player-problem").replaceChildren(text);
  if (problem.status === 415) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = "Show file name";
    button.addEventListener("click", () => {
      const name = document.createElement("span");
      name.textContent = item.file;
      button.replaceWith(name);
    });
    $("player-problem").append(" ", button);
  }
  drawState();
}

audio.addEventListener("loadedmetadata", () => {
  const from = Number(audio.dataset.from);
  if (audio.currentTime < from - 1) audio.currentTime = from; // a browser that ignores #t=
  drawMoment();
  draw();
});
audio.addEventListener("timeupdate", draw);
for (const event of ["play", "pause", "ended", "emptied"]) audio.addEventListener(event, drawState);
audio.addEventListener("error", showProblem);
$("toggle").addEventListener("click", toggle);
$("seek").addEventListener("input", (event) => {
  audio.currentTime = Number(event.target.value);
  draw();
});
$("volume").addEventListener("input", (event) => {
  audio.volume = Number(event.target.value);
});
