// The documents: filters, a list that makes only the rows that are seen, and the chosen document.

const data = JSON.parse(document.getElementById("data").textContent);
const documents = data.documents;
const LENGTHS = [[0, 64], [64, 256], [256, 1024], [1024, Infinity]];
const MOST_QUERIES = 50;
const MOST_NAME = 60; // characters of an option
const ORDERS = {
  input: ["as in INPUT", null],
  random: ["random", null],
  long: ["longest first", (a, b) => b.readings[0].num_tokens - a.readings[0].num_tokens],
  short: ["shortest first", (a, b) => a.readings[0].num_tokens - b.readings[0].num_tokens],
  ...(data.run.kind === "summaries" ? { doubt: ["least sure sentiment first", (a, b) => sureness(a) - sureness(b)] } : {}),
  ...(data.run.kind === "written texts" ? { faith: ["least found in the document first", (a, b) => faithfulness(a) - faithfulness(b)] } : {}),
  ...(data.run.kind === "matches" ? { far: ["furthest from its nearest candidate first", (a, b) => nearness(a) - nearness(b)] } : {}),
};
const DIFFERENCES = {
  label: ["other labels", (a, b) => a.sentiment !== b.sentiment || a.status !== b.status || (b.topic && a.topic && a.topic !== b.topic)],
  summary: ["other sentences in the summary", (a, b) => a.chosen.join() !== b.chosen.join()],
  none: ["nothing", (a, b) => a.sentiment === b.sentiment && a.status === b.status && a.chosen.join() === b.chosen.join()],
};

const state = { shown: documents.map((_, index) => index), position: -1, view: null, seed: 1 };
const parts = {}; // elements that are changed later, by name
const haystacks = new Array(documents.length);

function sureness(entry) {
  const scores = Object.values(entry.readings[0].sentiment_scores ?? {});
  return scores.length ? Math.max(...scores) : 2;
}

/** The mean share of words, numbers and names that stand in the document; 2 without any. */
function faithfulness(entry) {
  const shares = Object.values(entry.readings[0].written?.shares ?? {});
  return shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : 2;
}

function nearness(entry) {
  return entry.readings[0].matches?.[0]?.[2] ?? 2;
}

/** All that a search looks at, in small letters; made when it is first needed. */
function haystack(index) {
  const entry = documents[index];
  haystacks[index] ??= [entry.text, entry.file, ...entry.columns.flat(), ...entry.readings.flatMap((reading) =>
    [reading.summary, reading.error, reading.query, ...(reading.keywords ?? []).map(([word]) => word),
    ...(reading.written?.new_facts ?? []), ...(reading.matches ?? []).flatMap(([, id, , others]) => [id, ...others.map(([, value]) => value)])])].join("\n").toLowerCase();
  return haystacks[index];
}

/** Values of a filter that the documents have, the most frequent first. */
function occurring(value) {
  const counts = new Map();
  for (const entry of documents) counts.set(value(entry), (counts.get(value(entry)) ?? 0) + 1);
  return [...counts].filter(([name]) => name !== undefined && name !== null).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
}

const FILTERS = [
  ["status", "Status", (entry) => entry.readings[0].status],
  ["sentiment", "Sentiment", (entry) => entry.readings[0].sentiment],
  ["language", "Language", (entry) => entry.readings[0].language],
  ["topic", "Topic", (entry) => entry.readings[0].topic],
  ["query", "Query", (entry) => entry.readings[0].query],
  ["facts", "Numbers or names not in the document", (entry) => entry.readings[0].written && (entry.readings[0].written.new_facts.length ? "some" : "none")],
  ["ending", "Ending", (entry) => entry.readings[0].written?.ending],
  ["answer", "Query was", (entry) => entry.readings[0].query_status],
  ["partition", "Partition", (entry) => entry.partition || undefined],
  ["other", "Sentiment, other run", (entry) => entry.readings[1]?.sentiment],
];

/** A name of an option that fits into its box. */
function shortened(text) {
  return text.length <= MOST_NAME ? text : `${[...text].slice(0, MOST_NAME / 2).join("")}…${[...text].slice(-MOST_NAME / 4).join("")}`;
}

function choice(name, label, options) {
  parts[name] = element("select", { name, onchange: applyFilters },
    ...options.map(([value, text]) => element("option", { value }, visible(shortened(text)))));
  return element("label", {}, label, parts[name]);
}

function filterForm() {
  parts.search = element("input", { type: "search", name: "search", autocomplete: "off", spellcheck: "false", "aria-keyshortcuts": "/",
    "aria-describedby": "count", oninput: applyFilters });
  const controls = [element("label", { class: "wide" }, "Search text, summary, keywords, queries and columns", parts.search)];
  for (const [name, label, value] of FILTERS) {
    const values = occurring(value);
    if (name === "query" && values.length > MOST_QUERIES) continue; // many are searched, not chosen
    if (values.length > 1 || (values.length && name === "status")) {
      controls.push(choice(name, label, [["", "all"], ...values.map(([text, number]) => [`=${text}`, `${text} (${count(number)})`])]));
    }
  }
  controls.push(choice("length", "Length", [["", "all"], ...LENGTHS.map(([least, most], index) =>
    [String(index), most === Infinity ? `${count(least)} tokens and more` : `${count(least)} to ${count(most - 1)} tokens`])]));
  if (data.other) controls.push(choice("difference", "The runs differ in", [["", "all documents"], ...Object.entries(DIFFERENCES).map(([key, [text]]) => [key, text])]));
  controls.push(choice("order", "Order", Object.entries(ORDERS).map(([key, [text]]) => [key, text])));
  controls.push(element("button", { type: "button", onclick: showRandom, "aria-keyshortcuts": "r" }, "A random document"));
  controls.push(element("button", { type: "button", onclick: clearFilters }, "Clear"));
  return element("form", { id: "filters", role: "search", "aria-label": "Documents", onsubmit: (event) => event.preventDefault() }, ...controls);
}

function documentSection() {
  parts.count = element("p", { id: "count", role: "status", "aria-live": "polite" });
  parts.announced = element("p", { class: "hidden", role: "status", "aria-live": "polite", id: "announced" });
  parts.spacer = element("div", { role: "presentation" });
  parts.list = element("div", { id: "list", role: "listbox", tabindex: "0", "aria-label": "Documents", "aria-keyshortcuts": "j k", onscroll: drawList, onclick: clicked }, parts.spacer);
  parts.document = element("article", { id: "document", tabindex: "-1", "aria-label": "Chosen document" }, note("Choose a document."));
  parts.panes = element("div", { class: "panes" }, parts.list, parts.document);
  const differing = documents.length - data.num_random;
  const drawn = documents.length === data.run.rows ? "All rows are in this page." : `${count(documents.length)} of ${count(data.run.rows)} rows are in this page, ${differing > 0
    ? `${count(data.num_random)} drawn at random and ${count(differing)} more in which the runs differ` : "drawn at random"}; the same output gives the same ones.`;
  const problems = occurring((entry) => entry.problem).filter(([text]) => text !== "the row has no text");
  const warning = problems.length ? element("p", { class: "warning" },
    `${count(problems.reduce((sum, [, number]) => sum + number, 0))} of these have no text here: `,
    ...problems.slice(0, 5).flatMap(([text, number], index) => [index ? "; " : "", datum(text), ` (${count(number)})`])) : null;
  return section("documents", "Documents", note(drawn), warning, filterForm(), parts.count, parts.announced, parts.panes);
}

/** A number that looks random and is always the same for a seed and an index. */
function scrambled(index) {
  let value = Math.imul(index + 1, 0x9e3779b1) ^ state.seed;
  value = Math.imul(value ^ (value >>> 15), 0x85ebca6b);
  return (value ^ (value >>> 13)) >>> 0;
}

function applyFilters() {
  const chosen = documents[state.shown[state.position]];
  const words = parts.search.value.trim().toLowerCase();
  const wanted = FILTERS.filter(([name]) => parts[name]?.value).map(([name, , value]) => [value, parts[name].value.slice(1)]);
  const bounds = parts.length.value ? LENGTHS[Number(parts.length.value)] : null;
  const differs = parts.difference?.value ? DIFFERENCES[parts.difference.value][1] : null;
  state.shown = [];
  documents.forEach((entry, index) => {
    const [reading, other] = entry.readings;
    if (wanted.some(([value, text]) => value(entry) !== text)) return;
    if (bounds && (reading.num_tokens < bounds[0] || reading.num_tokens >= bounds[1])) return;
    if (differs && !(other && differs(reading, other))) return;
    if (words && !haystack(index).includes(words)) return;
    state.shown.push(index);
  });
  const order = parts.order.value;
  if (order === "random") state.shown.sort((a, b) => scrambled(a) - scrambled(b));
  else if (ORDERS[order][1]) state.shown.sort((a, b) => ORDERS[order][1](documents[a], documents[b]) || a - b);
  parts.count.textContent = `${count(state.shown.length)} of ${count(documents.length)} documents`;
  state.position = state.shown.findIndex((index) => documents[index] === chosen);
  drawList();
  if (state.position >= 0) drawDocument();
  else show(state.shown.length ? 0 : -1, { quiet: true });
}

function rowHeight() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize) * 5.25;
}

/** Makes the rows of the list that are seen, and a few around them. */
function drawList() {
  const height = rowHeight();
  const first = Math.max(0, Math.floor(parts.list.scrollTop / height) - 5);
  const last = Math.min(state.shown.length, Math.ceil((parts.list.scrollTop + (parts.list.clientHeight || 800)) / height) + 5);
  parts.spacer.style.height = `${state.shown.length * height}px`;
  const rows = [];
  for (let position = first; position < last; position += 1) rows.push(option(position, height));
  parts.spacer.replaceChildren(...rows);
  const active = document.getElementById(`option-${state.position}`);
  if (active) parts.list.setAttribute("aria-activedescendant", active.id);
  else parts.list.removeAttribute("aria-activedescendant");
}

function option(position, height) {
  const entry = documents[state.shown[position]];
  const [reading, other] = entry.readings;
  const row = element("div", { class: "option", role: "option", id: `option-${position}`, "aria-selected": String(position === state.position),
    "aria-setsize": String(state.shown.length), "aria-posinset": String(position + 1) },
    element("div", { class: "meta" }, datum(name(entry)), reading.status === "ok" ? null : badge(reading.status, { "--color": statusColour(reading.status) }),
      reading.sentiment ? badge(reading.sentiment) : null, other?.sentiment && other.sentiment !== reading.sentiment ? badge(other.sentiment) : null),
    datum(reading.summary || (entry.text ?? "").slice(0, 200) || reading.error || entry.problem || "", "div"));
  row.style.top = `${position * height}px`;
  row.dataset.position = String(position);
  return row;
}

/** What a document is called: its id, else its row in INPUT. */
function name(entry) {
  const id = entry.columns.find(([column]) => /(^|_)id$/i.test(column));
  return id?.[1] || entry.columns.find(([column]) => column === "title")?.[1] || `${entry.file}, row ${count(entry.row)}`;
}

function clicked(event) {
  const row = event.target.closest(".option");
  if (row) show(Number(row.dataset.position), { open: true });
}

/** Chooses a document of those that are shown. */
function show(position, { open = false, quiet = false } = {}) {
  state.position = position;
  if (position >= 0) {
    const height = rowHeight();
    const top = position * height;
    if (top < parts.list.scrollTop) parts.list.scrollTop = top;
    else if (top + height > parts.list.scrollTop + parts.list.clientHeight) parts.list.scrollTop = top + height - parts.list.clientHeight;
  }
  if (open) parts.panes.classList.add("open");
  drawList();
  drawDocument();
  const entry = documents[state.shown[position]];
  if (entry && !quiet) parts.announced.textContent = `Document ${position + 1} of ${state.shown.length}: ${visible(name(entry))}, ${entry.readings[0].sentiment ?? entry.readings[0].status}`;
}

function drawDocument() {
  const entry = documents[state.shown[state.position]];
  if (!entry) {
    parts.document.replaceChildren(note("No document fits."));
    return;
  }
  const [reading, other] = entry.readings;
  const columns = [["Input", `${entry.file}, row ${count(entry.row)}`], ...entry.columns];
  const views = [["summary", "the summary, by probability"]];
  if (reading.query_scores) views.unshift(["query", "the summary, by its answer to the query"]);
  if (reading.sentences) {
    views.push(["probability", "all sentences, by probability"]);
    if (reading.sentences.some((sentence) => sentence[3])) views.push(["sentiment", "sentiment by sentence"]);
  }
  if (reading.aspects?.length || reading.targets?.length) views.push(["aspects", "aspects and targets"]);
  const shownView = views.some(([view]) => view === state.view) ? state.view : views[0][0];
  const view = element("select", { id: "view", onchange: (event) => { state.view = event.target.value; drawDocument(); document.getElementById("view").focus(); } },
    ...views.map(([value, text]) => element("option", { value, selected: value === shownView }, text)));
  const children = [
    element("button", { type: "button", class: "back", onclick: goBack }, "Back to the list"),
    element("h3", { id: "document-title" }, datum(name(entry))),
    element("dl", {}, ...columns.flatMap(([column, value]) => [element("dt", {}, datum(column)), element("dd", {}, datum(value))])),
    element("div", { class: "readings" }, readingFacts(reading, other ? "A: this run" : null), other ? readingFacts(other, "B: the other run") : null),
  ];
  if (data.run.kind !== "summaries") {
    children.push(besideText(entry));
  } else if (entry.text === undefined) {
    children.push(element("p", { class: "warning" }, datum(entry.problem)));
  } else {
    children.push(element("p", { class: "meta" }, element("label", {}, "Shown on the text: ", view)));
    if (other) children.push(note("A underlined: chosen by this run; B dashed: by the other one; AB double: by both."));
    if (!reading.spans && reading.chosen.length) children.push(note("Where the chosen sentences stand is not recorded (summarizer.outputs without spans and sentences), and splitting the text again gave other sentences."));
    children.push(markedText(entry.text, entry.readings, shownView));
    if (entry.cut) children.push(note(`${count(entry.cut)} more characters are left out here.`));
    children.push(sentenceTable(entry.text, reading));
  }
  parts.document.replaceChildren(...children.filter(Boolean));
  parts.document.scrollTop = 0;
  highlightSearch();
}

/** What was written, or the nearest candidates, beside the text that was read. */
function besideText(entry) {
  const [reading] = entry.readings;
  const part = (title, ...children) => element("div", {}, element("h3", {}, title), ...children);
  const text = entry.text === undefined ? element("p", { class: "warning" }, datum(entry.problem)) : markedText(entry.text, [reading], "summary");
  const cut = entry.cut ? note(`${count(entry.cut)} more characters are left out here.`) : null;
  if (reading.matches) return element("div", {}, matchTable(reading.matches), part("Text", text, cut));
  const written = reading.summary === undefined ? null
    : part("Written text", marked(reading.summary, reading.written.fact_spans, () => ({ class: "new", title: "not in the document" })));
  return element("div", { class: "readings" }, written, part("Document", text, cut));
}

/** Marks what was searched for in the text, where the browser can. */
function highlightSearch() {
  if (!CSS.highlights) return;
  CSS.highlights.delete("search");
  const words = parts.search.value.trim().toLowerCase();
  const text = document.getElementById("text");
  if (!words || !text) return;
  const ranges = [];
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const lower = node.data.toLowerCase();
    if (lower.length !== node.data.length) continue; // few letters change their length
    for (let at = lower.indexOf(words); at >= 0; at = lower.indexOf(words, at + words.length)) {
      const range = new Range();
      range.setStart(node, at);
      range.setEnd(node, at + words.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("search", new Highlight(...ranges));
}

function goBack() {
  parts.panes.classList.remove("open");
  drawList();
  parts.list.focus();
}

function move(step) {
  if (!state.shown.length) return;
  show(Math.min(Math.max(state.position + step, 0), state.shown.length - 1), { open: parts.panes.classList.contains("open") });
}

function showRandom() {
  if (state.shown.length) show(Math.floor(Math.random() * state.shown.length), { open: true });
}

function clearFilters() {
  parts.search.value = "";
  for (const name of [...FILTERS.map(([filter]) => filter), "length", "difference"]) if (parts[name]) parts[name].value = "";
  applyFilters();
}

function showPair(event) {
  clearFilters();
  const [label, other] = event.detail;
  if (parts.sentiment) parts.sentiment.value = `=${label}`;
  if (parts.other) parts.other.value = `=${other}`;
  applyFilters();
  document.getElementById("documents").scrollIntoView();
  parts.list.focus({ preventScroll: true });
}

const KEYS = [
  ["j", "next document", () => move(1)],
  ["k", "document before", () => move(-1)],
  ["r", "a random document", showRandom],
  ["/", "search", () => { parts.search.focus(); parts.search.select(); }],
  ...FRAME_KEYS,
];
const LIST_KEYS = { ArrowDown: () => move(1), ArrowUp: () => move(-1), PageDown: () => move(10), PageUp: () => move(-10), Home: () => show(0), End: () => show(state.shown.length - 1), Enter: () => { show(state.position, { open: true }); parts.document.focus(); } };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && !document.getElementById("help").open) {
    if (typing && parts.search.value && event.target === parts.search) { parts.search.value = ""; applyFilters(); }
    else if (parts.panes.classList.contains("open")) goBack();
    event.target.blur?.();
    if (typing) parts.list.focus({ preventScroll: true });
    return;
  }
  if (typing || document.getElementById("help").open) return;
  const action = KEYS.find(([key]) => key === event.key)?.[2] ?? (document.activeElement === parts.list ? LIST_KEYS[event.key] : null);
  if (!action || (event.key === "Enter" && state.position < 0)) return;
  event.preventDefault();
  action();
}

document.addEventListener("show-pair", showPair);
window.addEventListener("resize", drawList);
startPage([runSection(data), rowsSection(data), comparisonSection(data), timeSection(data), errorSection(data), documentSection()],
  [...KEYS, ["Esc", "clear the search; back to the list"]]);
document.addEventListener("keydown", pressed);
applyFilters();
