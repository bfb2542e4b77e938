// From scan to scan, keys, and where the reader was.
const address = (scan, z) => encodeURIComponent(scan.scan) + (z === undefined ? "" : "/" + z);

let waiting = 0;

// The address names scan and slice, so that it can be sent to a colleague; browsers allow no change for every slice.
function remember() {
  Object.assign(state, {scan: shown.scan, slice});
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (shown) history.replaceState(null, "", "#" + address(shown, view ? slice : undefined));
    keepState();
  }, 150);
}

function drawFacts(scan) {
  const facts = [...COLUMNS, ...MEASURES].filter(([, key, digits]) => digits !== undefined && scan[key] != null)
    .map(([title, key, digits]) => [title, scan[key].toFixed(digits)]);
  if (scan.made_with.length) facts.push(["Made with", scan.made_with.join(", ")]);
  if (scan.patient_id !== scan.scan) facts.unshift(["Patient ID", scan.patient_id]);
  at("facts").replaceChildren();
  for (const [title, text] of facts) { make("dt", title, at("facts")); make("dd", text, at("facts")); }
  at("flags").replaceChildren(...notes(scan).map(note => {
    const [z] = slicesIn(note), chip = make(z === undefined ? "span" : "button", note);
    chip.className = "flag";
    if (z !== undefined) chip.onclick = () => { if (view) goTo(z); };
    return chip;
  }));
}

function showMissing(reason, command) {
  at("viewer").hidden = true; at("planes").replaceChildren();
  const note = at("none") ?? make("p");
  note.id = "none"; note.className = "note";
  note.replaceChildren(reason + " ");
  if (command) make("code", command, note);
  at("viewer").after(note);
}

function openPatient(scan, wanted) {
  shown = scan; view = null; loaded = new Map();
  at("list").hidden = true; at("patient").hidden = false;
  at("none")?.remove();
  at("name").textContent = scan.scan;
  const place = chosen.indexOf(scan);
  at("position").textContent = place < 0 ? "" : `${place + 1} of ${chosen.length}`;
  at("previous").disabled = place < 1; at("next").disabled = place < 0 || place === chosen.length - 1;
  drawFacts(scan); drawReview(scan);
  state.scan = scan.scan; keepState();
  if (!scan.views) {
    showMissing("This scan has no pictures. To make them, run", ALL_PICTURES);
    return;
  }
  at("viewer").hidden = false;
  load(scan.folder + "/view/view.js", data => {
    if (scan !== shown) return;
    view = data;
    at("ct").removeAttribute("src"); at("outlines").replaceChildren();
    at("stage").dataset.slice = "";
    at("patient").style.setProperty("--aspect", view.columns * view.col_mm / (view.rows * view.row_mm));
    at("slider").max = view.shown.length - 1;
    slice = view.shown[0];
    drawLegend(); drawPlanes(); drawProfile();
    goTo(wanted ?? doubtfulSlice());
  }, () => { if (scan === shown) showMissing(`The folder ${scan.folder} is not beside this page, or not whole.`); });
}

function openList() {
  shown = view = null; loaded = new Map(); state.scan = ""; keepState();
  at("list").hidden = false; at("patient").hidden = true;
  drawList();
  window.scrollTo(0, state.scroll);
}

function follow() {
  const [name, number] = location.hash.slice(1).split("/");
  const scan = scans.find(one => encodeURIComponent(one.scan) === name);
  if (!scan) { if (shown || at("list").hidden) openList(); return; }
  const wanted = /^\d+$/.test(number) ? Number(number) : undefined;
  if (scan !== shown) openPatient(scan, wanted);
  else if (view && wanted !== undefined && wanted !== slice) goTo(wanted);
}

function step(by) {
  const next = chosen[chosen.indexOf(shown) + by];
  if (!next || !chosen.includes(shown)) return;
  history.replaceState(null, "", "#" + address(next));
  openPatient(next);
}

function setWindow(number) {
  at("patient").style.setProperty("--window", `url("#window${number}")`);
  for (const [n, button] of [...at("windows").children].entries()) button.ariaPressed = n === number;
}

// The display windows are linear functions of the stored grey.
function makeWindows() {
  const [black, white] = page.stored_hu;
  Object.entries(page.windows_hu).forEach(([name, [low, high]], number) => {
    const linear = {type: "linear", slope: (white - black) / (high - low), intercept: (black - low) / (high - low)};
    const filter = draw(at("filters"), "filter", {id: "window" + number, "color-interpolation-filters": "sRGB"});
    const transfer = draw(filter, "feComponentTransfer", {});
    for (const channel of "RGB") draw(transfer, "feFunc" + channel, linear);
    make("button", name[0].toUpperCase() + name.slice(1), at("windows")).onclick = () => setWindow(number);
  });
  setWindow(0);
}

let turned = 0;  // of the wheel or touchpad, since the last slice

function turn(event) {  // up is towards the head
  event.preventDefault();
  turned = Math.sign(event.deltaY) === Math.sign(turned) ? turned + event.deltaY : event.deltaY;
  if (event.deltaMode === 0 && Math.abs(turned) < 40) return;
  move(-Math.sign(turned));
  turned = 0;
}

const KEYS = {
  Escape: () => { if (location.hash.length > 1) location.hash = ""; else openList(); }, n: () => step(1), p: () => step(-1),
  a: () => judge("accept"), r: () => judge("reject"), c: () => at("comment").focus(),
};
const SLICE_KEYS = {
  ArrowUp: () => move(1), ArrowRight: () => move(1), ArrowDown: () => move(-1), ArrowLeft: () => move(-1),
  o: toggleOutlines, 1: () => setWindow(0), 2: () => setWindow(1), 3: () => setWindow(2),
};

function press(event) {
  if (!shown || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === at("comment")) {
    if (event.key === "Escape") at("comment").blur();
    return;
  }
  const act = KEYS[event.key] ?? (view && SLICE_KEYS[event.key]);
  if (act) { event.preventDefault(); act(); }
}

function start() {
  Object.assign(state, kept(STATE_KEY));
  if (!(state.filter in FILTERS)) state.filter = "all";
  readReviews(); startList(); startReviews(); makeWindows();
  at("back").onclick = KEYS.Escape; at("previous").onclick = KEYS.p; at("next").onclick = KEYS.n;
  at("slider").oninput = () => goTo(view.shown[Number(at("slider").value)]);
  at("stage").addEventListener("wheel", event => { if (view) turn(event); }, {passive: false});
  at("stage").onpointermove = event => { at("cursor").textContent = view ? describeCursor(event) : ""; };
  at("stage").onpointerleave = () => { at("cursor").textContent = ""; };
  document.addEventListener("keydown", press);
  window.addEventListener("scroll", () => { if (!shown) state.scroll = window.scrollY; });
  window.addEventListener("pagehide", keepState);
  window.onhashchange = follow;
  const last = scans.find(scan => scan.scan === state.scan);
  if (location.hash.length > 1) follow();
  else if (last) openPatient(last, state.slice ?? undefined);
  else window.scrollTo(0, state.scroll);
}
start();
