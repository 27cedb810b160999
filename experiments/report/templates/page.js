"use strict";

// The player: all panels show their trace after the same number of network calls.

const END = 0; // the piece of EOS
const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// The final pieces of a trace and, for each event, the number of its network call. A step
// without an event calls no network; given text is read by calls before the first event.
function film(trace) {
  const steps = [...new Set(trace.events.map(([step]) => step))];
  const call = new Map(steps.map((step, i) => [step, trace.nfe - steps.length + i + 1]));
  const last = [...trace.given];
  for (const [, position, piece] of trace.events) last[position] = piece;
  return {
    ...trace,
    last,
    events: trace.events.map(([step, position, piece]) => ({ call: call.get(step), position, piece })),
  };
}

// The content of all positions after this number of calls.
function canvas(trace, calls) {
  const cells = trace.given.map((piece) => ({ piece, given: piece !== null, call: 0 }));
  for (const { call, position, piece } of trace.events) {
    if (call > calls) break;
    cells[position] = { piece, again: piece === null, call };
  }
  return cells;
}

const spaces = (piece) => (piece === END ? " " : piece.match(/^ */)[0]);
const visible = (piece) => (piece === END ? "\u25a0" : piece.replace(/^ +/, ""));

function makePanel({ label, color, sees_masks, trace }) {
  const panel = make("div", "panel", "");
  panel.style.setProperty("--family", color);
  const header = make("header", "", "");
  const counts = make("span", "", "");
  header.append(make("h3", "", label), counts);
  const text = make("p", "", "");
  panel.append(header, text);
  const shown = film(trace);
  // Spaces before a word are outside its span, so that no mask or mark covers them. A
  // mask is as wide as the final piece of its position, so that no text moves.
  const spans = shown.last.map((piece) => {
    const span = make("span", "", "");
    span.dataset.piece = visible(piece);
    text.append(spaces(piece), span);
    return span;
  });

  function show(calls) {
    const now = Math.min(calls, shown.nfe);
    const cells = canvas(shown, now);
    const end = cells.findIndex((cell) => cell.piece === END);
    cells.forEach(({ piece, given, again, call }, i) => {
      const names = [];
      if (piece === null) names.push(sees_masks ? "mask" : "blank");
      if (again) names.push("again");
      if (given) names.push("given");
      if (piece !== null && call === calls && call > 0) names.push("new");
      if (piece === END) names.push("end");
      if (end >= 0 && i > end) names.push("rest");
      spans[i].className = names.join(" ");
      spans[i].textContent = piece === null ? "" : visible(piece);
      spans[i].previousSibling.data = spaces(piece ?? shown.last[i]);
    });
    const free = cells.filter((cell) => !cell.given);
    const unmasked = free.filter((cell) => cell.piece !== null).length;
    counts.textContent = `${now} of ${shown.nfe} network calls, ${unmasked} of ${free.length} tokens`;
  }

  return { element: panel, calls: shown.nfe, show };
}

function startPlayer() {
  const scenes = JSON.parse($("scenes").textContent);
  const scrub = $("scrub");
  let panels = [];
  let timer = 0;

  function show() {
    const calls = Number(scrub.value);
    panels.forEach((panel) => panel.show(calls));
    $("clock").textContent = `${calls} of ${scrub.max}`;
    scrub.setAttribute("aria-valuetext", `${calls} of ${scrub.max} network calls`);
  }

  function pause() {
    clearInterval(timer);
    timer = 0;
    $("play").textContent = "Play";
  }

  function move(calls) {
    scrub.value = calls;
    show();
    if (timer && Number(scrub.value) >= Number(scrub.max)) {
      pause();
      $("status").textContent = "All samples are finished.";
    }
  }

  function play() {
    if (Number(scrub.value) >= Number(scrub.max)) move(0);
    $("play").textContent = "Pause";
    $("status").textContent = "";
    clearInterval(timer);
    timer = setInterval(() => move(Number(scrub.value) + 1), 1000 / Number($("pace").value));
  }

  // Shows a third of the calls at first: some positions are sampled, some are masked.
  function open() {
    pause();
    panels = scenes[$("scene").selectedIndex].panels.map(makePanel);
    $("panels").replaceChildren(...panels.map((panel) => panel.element));
    scrub.max = Math.max(...panels.map((panel) => panel.calls));
    move(Math.round(Math.min(...panels.map((panel) => panel.calls)) / 3));
    $("status").textContent = "";
  }

  $("play").addEventListener("click", () => (timer ? pause() : play()));
  $("pace").addEventListener("input", () => timer && play());
  $("scene").addEventListener("input", open);
  scrub.addEventListener("input", () => (pause(), show()));
  $("back").addEventListener("click", () => (pause(), move(Number(scrub.value) - 1)));
  $("forward").addEventListener("click", () => (pause(), move(Number(scrub.value) + 1)));
  $("player").hidden = false;
  open();
}

// The list of texts, filtered by source, sampler settings and words.

const FIRST = 3; // texts of each source that are shown before "Show all matches"

function startFilter() {
  const controls = $("controls");
  const boxes = [...controls.querySelectorAll("input[type=checkbox]")];
  const cards = [...$("stories").children];
  const texts = cards.map((card) => card.textContent.toLowerCase());
  let wantsAll = false;

  function show() {
    const wanted = $("query").value.trim().toLowerCase();
    const sampler = $("sampler").value;
    const sources = boxes.filter((box) => box.checked).map((box) => box.value);
    const limit = wantsAll ? cards.length : FIRST * sources.length;
    let found = 0;
    cards.forEach((card, i) => {
      const column = sources.indexOf(card.dataset.source);
      const drawn = card.dataset.sampler;
      const fits = column >= 0 && texts[i].includes(wanted) && (!sampler || !drawn || drawn === sampler);
      found += fits;
      card.hidden = !fits || found > limit;
      card.style.setProperty("--column", column + 1);
    });
    $("stories").style.setProperty("--columns", Math.max(1, sources.length));
    const shown = Math.min(found, limit);
    $("count").textContent = `${found} of ${cards.length} texts, ${shown} shown`;
    $("more").hidden = shown === found;
  }

  controls.hidden = false;
  controls.addEventListener("input", () => ((wantsAll = false), show()));
  controls.addEventListener("submit", (event) => event.preventDefault());
  $("more").addEventListener("click", () => ((wantsAll = true), show()));
  show();
}

if ($("player")) startPlayer();
if ($("controls")) startFilter();
