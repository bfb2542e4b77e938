"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const scans = page.scans;
const at = id => document.getElementById(id);
const COLUMNS = [  // title, key, digits
  ["", "thumbnail"], ["Scan", "scan"], ["Slices", "slices", 0], ["Litres", "litres", 2], ["Dice", "dice", 4],
  ["HD95, mm", "hd95_mm", 1], ["Coverage", "coverage", 3], ["Flags", "flags"], ["Review", "verdict"],
].filter(([, key, digits]) => digits === undefined || scans.some(scan => scan[key] !== null));
const MEASURES = [  // of the lungs, shown with a scan's slices
  ["Right, l", "litres_right", 2], ["Left, l", "litres_left", 2], ["Mean HU", "mean_hu", 0],
  ["15th percentile, HU", "perc15_hu", 0], ["Below -950 HU", "laa950", 4], ["Mass, g", "mass_g", 0],
  ["Slices with lung", "lung_slices", 0],
];
const FILTERS = {
  all: ["all scans", () => true],
  flagged: ["flagged", scan => scan.flags.length > 0],
  open: ["not reviewed", scan => !reviewOf(scan).verdict],
  accept: ["accepted", scan => reviewOf(scan).verdict === "accept"],
  reject: ["rejected", scan => reviewOf(scan).verdict === "reject"],
  comment: ["with a comment", scan => reviewOf(scan).comment !== ""],
  seen: ["in the training or validation set", scan => trainingNote(scan) !== ""],
};
let chosen = [];  // the scans in the list, in its order

// Where the reader is: kept in the browser for the next time, by the place of this page.
const STATE_KEY = "lung-report " + location.pathname;
const state = {search: "", filter: "all", key: "worst", down: false, scroll: 0, scan: "", slice: null, onward: false};

function keep(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch { at("unkept").hidden = false; }
}

function kept(key) {
  try { return JSON.parse(localStorage.getItem(key)); } catch { return null; }
}

const keepState = () => keep(STATE_KEY, state);

function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// Worst first: 0.1 off the Dice for each flag. A scan without a reference is ranked as if its Dice were 0.97.
const worst = scan => (scan.dice ?? 0.97) - 0.1 * scan.flags.length;

function value(scan, key) {
  if (key === "worst") return worst(scan);
  if (key === "flags") return scan.flags.length;
  if (key === "verdict") return reviewOf(scan).verdict;
  return scan[key];
}

function compare(a, b) {
  const x = value(a, state.key), y = value(b, state.key);
  if (x === null || y === null) return (x === null) - (y === null);  // unknown values last
  return (state.down ? -1 : 1) * (typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y);
}

function trainingNote(scan) {
  const set = {train: "training", val: "validation"}[scan.seen];
  return set ? "patient was in the " + set + " set" : "";
}

const notes = scan => [...scan.flags, trainingNote(scan)].filter(Boolean);

function searchText(scan) {
  const review = reviewOf(scan);
  return [scan.scan, scan.patient_id, ...notes(scan), review.verdict, review.comment].join(" ").toLowerCase();
}

function fillCell(cell, scan, key, digits) {
  if (key === "thumbnail") {
    const image = make("img", undefined, cell);
    image.loading = "lazy"; image.alt = ""; image.onerror = () => { image.style.visibility = "hidden"; };
    image.src = scan.folder + "/view/thumbnail.jpg";
  } else if (key === "flags") {
    for (const note of notes(scan)) make("span", note, cell).className = "flag";
  } else if (key === "verdict") {
    const {verdict, comment} = reviewOf(scan);
    if (verdict) make("span", verdict + "ed", cell).className = "verdict " + verdict;
    if (comment) make("span", comment, cell).className = "comment";
  } else if (digits !== undefined) {
    cell.className = "number";
    cell.textContent = scan[key] === null ? "\u2013" : scan[key].toFixed(digits);
  } else cell.textContent = scan[key];
}

function makeRow(scan) {
  const row = document.createElement("tr");
  row.tabIndex = 0; row.dataset.scan = scan.scan;
  row.onclick = () => { location.hash = address(scan); };
  row.onkeydown = event => { if (event.key === "Enter") row.click(); };
  for (const [title, key, digits] of COLUMNS) {
    const cell = make("td", undefined, row);
    cell.dataset.key = key; cell.dataset.title = title;
    fillCell(cell, scan, key, digits);
  }
  return row;
}

function drawList() {
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const isChosen = scan => FILTERS[state.filter][1](scan) && words.every(word => searchText(scan).includes(word));
  chosen = scans.filter(isChosen).sort(compare);
  at("rows").replaceChildren(...chosen.map(makeRow));
  at("empty").hidden = chosen.length > 0;
  at("count").textContent = chosen.length + " of " + scans.length;
  for (const head of at("heads").children)
    head.ariaSort = head.dataset.key === state.key ? (state.down ? "descending" : "ascending") : "none";
  at("sort").value = state.key + (state.down ? " down" : "");
  drawProgress();
}

function drawProgress() {
  const verdicts = scans.map(scan => reviewOf(scan).verdict), of = word => verdicts.filter(v => v === word).length;
  at("progress").textContent = `${of("accept")} accepted, ${of("reject")} rejected, ${of("")} to review`;
}

function sortBy(key, down) {
  Object.assign(state, {key, down});
  keepState(); drawList();
}

function describePage() {
  const dices = scans.map(scan => scan.dice).filter(dice => dice !== null);
  const made = scans.map(scan => scan.made).filter(Boolean).sort(), days = made.map(time => time.slice(0, 10));
  const digits = [...new Set(scans.map(scan => scan.weights).filter(Boolean))].join(", ");
  const mean = dices.reduce((sum, dice) => sum + dice, 0) / dices.length;
  at("about").textContent = [
    scans.length + (scans.length === 1 ? " scan" : " scans"),
    "weights " + [page.weights, digits && `(${digits})`].filter(Boolean).join(" "),
    made.length && "predicted " + (days[0] === days.at(-1) ? made.at(-1) : days[0] + " to " + days.at(-1)),
    dices.length && `mean Dice ${mean.toFixed(4)}, worst ${Math.min(...dices).toFixed(4)}`
      + (dices.length < scans.length ? ` (${dices.length} with a reference)` : ""),
  ].filter(Boolean).join(" \u00b7 ");
}

function startList() {
  for (const [title, key, digits] of COLUMNS) {
    const head = make("th", title, at("heads"));
    if (digits !== undefined) head.className = "number";
    head.dataset.key = key; head.scope = "col";
    if (key !== "thumbnail") head.onclick = () => sortBy(key, state.key === key ? !state.down : key === "flags");
  }
  for (const [name, [title]] of Object.entries(FILTERS)) make("option", title, at("filter")).value = name;
  make("option", "worst first", at("sort")).value = "worst";
  for (const [title, key, digits] of COLUMNS.slice(1)) {
    const ends = key === "flags" || digits !== undefined ? ["lowest first", "highest first"] : ["A to Z", "Z to A"];
    ends.forEach((end, down) => {
      make("option", `${title}, ${end}`, at("sort")).value = key + (down ? " down" : "");
    });
  }
  at("search").oninput = () => { state.search = at("search").value; keepState(); drawList(); };
  at("filter").onchange = () => { state.filter = at("filter").value; keepState(); drawList(); };
  at("sort").onchange = () => { const [key, down] = at("sort").value.split(" "); sortBy(key, !!down); };
  at("search").value = state.search; at("filter").value = state.filter;
  describePage(); drawList();
}
