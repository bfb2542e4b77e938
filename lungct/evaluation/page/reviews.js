// Verdicts and comments, kept in the browser by the fingerprint of the masks: other masks of the same scan have another
// one, and no review.
const REVIEW_COLUMNS = ["scan", "patient_id", "fingerprint", "weights", "verdict", "comment"];
const NO_REVIEW = Object.freeze({verdict: "", comment: ""});
const reviewKey = scan => "lung-review " + scan.fingerprint + " " + scan.scan;
const reviews = new Map();  // by reviewKey

function readReviews() {
  reviews.clear();
  for (const review of page.reviews) reviews.set(reviewKey(review), {verdict: review.verdict, comment: review.comment});
  for (const scan of scans) {
    const review = kept(reviewKey(scan));
    if (review) reviews.set(reviewKey(scan), review);
  }
}

const reviewOf = scan => reviews.get(reviewKey(scan)) ?? NO_REVIEW;

function setReview(scan, change) {
  const review = {...reviewOf(scan), ...change};
  reviews.set(reviewKey(scan), review);
  keep(reviewKey(scan), review);
  drawReview(scan);
}

function drawReview(scan) {
  const {verdict, comment} = reviewOf(scan);
  at("accept").ariaPressed = verdict === "accept"; at("reject").ariaPressed = verdict === "reject";
  if (at("comment").value !== comment) at("comment").value = comment;
}

// The same verdict again takes it back.
function judge(verdict) {
  const taken = reviewOf(shown).verdict === verdict;
  setReview(shown, {verdict: taken ? "" : verdict});
  if (state.onward && !taken) step(1);
}

function reviewsCsv() {
  const cell = text => '"' + String(text).replace(/[\r\n]+/g, " ").replaceAll('"', '""') + '"';
  const rows = scans.map(scan => ({...scan, ...reviewOf(scan)}));
  const lines = [REVIEW_COLUMNS, ...rows.map(row => REVIEW_COLUMNS.map(name => row[name]))];
  return "\ufeff" + lines.map(line => line.map(cell).join(",")).join("\n") + "\n";  // the mark tells Excel that it is UTF-8
}

function saveReviews() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([reviewsCsv()], {type: "text/csv"}));
  link.download = "reviews.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  at("saved").hidden = false;
}

function startReviews() {
  at("accept").onclick = () => judge("accept");
  at("reject").onclick = () => judge("reject");
  at("comment").oninput = () => setReview(shown, {comment: at("comment").value.trim() ? at("comment").value : ""});
  at("onward").checked = state.onward;
  at("onward").onchange = () => { state.onward = at("onward").checked; keepState(); };
  at("save").onclick = saveReviews;
  window.addEventListener("storage", () => {  // another tab
    readReviews();
    if (shown) drawReview(shown); else drawList();
  });
}
