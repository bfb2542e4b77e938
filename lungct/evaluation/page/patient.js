// One patient: slices, planes, outlines. Slices count from 0 at the feet, as in the names of their files and in flags.
const NAMES = {right: "right lung", left: "left lung", reference: "reference"};
const ALL_PICTURES = "python model_test.py --png all";
const AHEAD = 4;  // slices that are loaded before they are asked for
let shown = null;  // scan
let view = null, slice = 0;  // what its view.js holds; a slice of view.shown
let loaded = new Map();  // slices by number
let grey = null;  // pixels of the slice on the screen, once they are asked for
const hidden = new Set();  // outlines

// A page on a disk may not read files, but it may run a script, which hands its data over.
function load(path, take, fail) {
  const script = document.createElement("script");
  script.src = path.split("/").map(encodeURIComponent).join("/");
  script.take = take;
  script.onload = () => script.remove();
  script.onerror = () => { script.remove(); fail(); };
  document.head.append(script);
}

function receive(data) { document.currentScript.take(data); }

function loadSlice(scan, z) {
  if (loaded.has(z)) return;
  loaded.set(z, null);  // on its way
  load(`${scan.folder}/view/${view.names[z]}.js`, data => {
    if (scan !== shown) return;
    loaded.set(z, data);
    if (z === slice) drawPixels();
  }, () => { if (scan === shown) loaded.delete(z); });
}

const SVG = "http://www.w3.org/2000/svg";

function draw(svg, tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, text] of Object.entries(attributes)) element.setAttribute(name, text);
  svg.append(element);
  return element;
}

function drawOutlines(svg, outlines) {
  svg.replaceChildren();
  for (const [name, path] of Object.entries(outlines))
    if (path && !hidden.has(name)) draw(svg, "path", {class: name, d: path});
}

// The CT and its outlines change together, when the picture is ready.
function drawPixels() {
  const data = loaded.get(slice), image = at("ct");
  if (!data) return;
  image.onload = () => {
    if (loaded.get(slice) !== data) return;
    grey = null;
    at("outlines").setAttribute("viewBox", `0 0 ${view.columns} ${view.rows}`);
    drawOutlines(at("outlines"), data.outlines);
    at("stage").dataset.slice = slice;
  };
  image.src = data.image;
}

const mm = number => number.toFixed(1).replace("-", "\u2212");

function drawSlice() {
  const place = view.shown.indexOf(slice);
  loadSlice(shown, slice);
  drawPixels();
  for (let n = 1; n <= AHEAD; n++)
    for (const z of [view.shown[place + n], view.shown[place - n]]) if (z !== undefined) loadSlice(shown, z);
  at("slider").value = place;
  const facts = [`Slice ${slice} (0 to ${view.names.length - 1})`, `z ${mm(view.z_mm[slice])} mm`];
  if (view.dice) facts.push(`Dice ${view.dice[slice].toFixed(3)}`);
  at("slice").textContent = facts.join(" \u00b7 ");
  at("slice").title = view.names[slice];
  at("cursor").textContent = "";
  for (const line of document.querySelectorAll(".here")) line.place();
  remember();
}

// The nearest slice that has a picture.
function goTo(z) {
  slice = view.shown.reduce((best, other) => Math.abs(other - z) < Math.abs(best - z) ? other : best);
  drawSlice();
}

function move(by) {
  const place = view.shown.indexOf(slice) + by;
  goTo(view.shown[Math.min(view.shown.length - 1, Math.max(0, place))]);
}

// The slice with most doubt: of the lowest Dice, else one that a flag names, else the one with most lung.
function doubtfulSlice() {
  const area = z => view.right_cm2[z] + view.left_cm2[z];
  if (view.dice) return view.shown.reduce((best, z) => view.dice[z] < view.dice[best] ? z : best);
  const named = shown.flags.map(slicesIn).find(found => found.length);
  return named ? named[0] : view.shown.reduce((best, z) => area(z) > area(best) ? z : best);
}

function slicesIn(flag) {
  const found = flag.match(/slices? (\d+)(?: to (\d+))?/);
  return found ? found.slice(1).filter(Boolean).map(Number) : [];
}

function drawPlanes() {
  at("planes").replaceChildren(...view.planes.map(plane => {
    const figure = document.createElement("figure"), picture = make("div", undefined, figure);
    picture.className = "picture";
    picture.style.aspectRatio = plane.width_mm / plane.height_mm;
    const image = make("img", undefined, picture);
    image.src = plane.image; image.alt = plane.title;
    const svg = draw(picture, "svg", {viewBox: `0 0 ${plane.columns} ${plane.rows}`, preserveAspectRatio: "none"});
    picture.redraw = () => {
      drawOutlines(svg, plane.outlines);
      const line = draw(svg, "line", {class: "here", x1: 0, x2: plane.columns});
      line.place = () => {
        const y = (plane.top_mm - view.places_mm[slice]) / plane.height_mm * plane.rows + 0.5;
        line.setAttribute("y1", y); line.setAttribute("y2", y);
      };
      line.place();
    };
    picture.redraw();
    picture.onclick = event => {
      const box = picture.getBoundingClientRect(), row = (event.clientY - box.top) / box.height * plane.rows - 0.5;
      goToPlace(plane.top_mm - row / plane.rows * plane.height_mm);
    };
    make("span", plane.marks[0], picture).className = "mark start";
    make("span", plane.marks[1], picture).className = "mark end";
    make("figcaption", plane.title, figure);
    return figure;
  }));
}

function goToPlace(place_mm) {
  const off = z => Math.abs(view.places_mm[z] - place_mm);
  goTo(view.shown.reduce((best, z) => off(z) < off(best) ? z : best));
}

// Lung area of each side, and Dice where it is known, from feet to head; it lies above the slider.
function drawProfile() {
  const svg = at("profile"), last = Math.max(1, view.names.length - 1);
  const most = Math.max(...view.right_cm2, ...view.left_cm2, 1);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${last} 100`);
  const curve = (name, values, top) => draw(svg, "polyline", {
    class: name, points: values.map((v, z) => `${z},${(96 - 92 * v / top).toFixed(1)}`).join(" "),
  });
  curve("right", view.right_cm2, most); curve("left", view.left_cm2, most);
  if (view.dice) curve("dice", view.dice, 1);
  const line = draw(svg, "line", {class: "here", y1: 0, y2: 100});
  line.place = () => { line.setAttribute("x1", slice); line.setAttribute("x2", slice); };
  svg.onclick = event => {
    const box = svg.getBoundingClientRect();
    goTo(Math.round((event.clientX - box.left) / box.width * last));
  };
  at("hint").textContent = "Curves, feet to head: area of each lung" + (view.dice ? ", Dice in green." : ".")
    + " Wheel or \u2191 \u2193: slice; 1, 2, 3: window; o: outlines; n, p: next, previous scan; a: accept; r: reject;"
    + " c: comment; Esc: list.";
  at("some").hidden = view.shown.length === view.names.length;
  at("some").textContent = `${view.shown.length} of ${view.names.length} slices have a picture. To make all, run `;
  make("code", ALL_PICTURES, at("some"));
}

function drawLegend() {
  const names = Object.keys(NAMES).filter(name => name !== "reference" || view.dice);
  at("legend").replaceChildren(...names.map(name => {
    const button = make("button");
    make("span", undefined, button).className = "swatch " + name;
    button.append(NAMES[name]);
    button.dataset.outline = name; button.ariaPressed = !hidden.has(name);
    button.onclick = () => { if (!hidden.delete(name)) hidden.add(name); redrawOutlines(); };
    return button;
  }));
}

function redrawOutlines() {
  for (const button of at("legend").children) button.ariaPressed = !hidden.has(button.dataset.outline);
  if (loaded.get(slice)) drawOutlines(at("outlines"), loaded.get(slice).outlines);
  for (const picture of at("planes").querySelectorAll(".picture")) picture.redraw();
}

function toggleOutlines() {
  const all = Object.keys(NAMES), off = all.some(name => !hidden.has(name));
  for (const name of all) if (off) hidden.add(name); else hidden.delete(name);
  redrawOutlines();
}

// HU of a pixel, out of a compressed picture in the stored window. On LIDC-IDRI-0050 half of the pixels are within 10 HU,
// 95 % within 35.
function readHu(column, row) {
  if (!grey) {
    const canvas = document.createElement("canvas");
    canvas.width = view.columns; canvas.height = view.rows;
    const context = canvas.getContext("2d");
    context.drawImage(at("ct"), 0, 0);
    grey = context.getImageData(0, 0, view.columns, view.rows).data;
  }
  const [low, high] = page.stored_hu, value = grey[4 * (row * view.columns + column)];
  const hu = String(Math.round((low + (high - low) * (value + 0.5) / 255) / 10) * 10).replace("-", "\u2212");
  return value === 0 ? `${mm(low).slice(0, -2)} HU or less` : value === 255 ? `${high} HU or more` : `about ${hu} HU`;
}

function describeCursor(event) {
  const box = at("stage").getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / box.width * view.columns);
  const row = Math.floor((event.clientY - box.top) / box.height * view.rows);
  if (column < 0 || row < 0 || column >= view.columns || row >= view.rows || Number(at("stage").dataset.slice) !== slice)
    return "";
  return `row ${row}, col ${column}: ${readHu(column, row)}`;
}
