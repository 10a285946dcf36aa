// Elements are made by name and filled with text nodes: nothing is ever parsed as markup.

/** @param {string} name @param {object} [attributes] @param {...(Node|string|null)} children */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** An element of SVG. */
function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    // styles go through the object model, which the page's policy allows
    if (key.startsWith("--") || key === "width%") node.style.setProperty(key === "width%" ? "width" : key, value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** 1234 -> "1,234". */
function count(number) {
  return whole.format(number);
}

/** 1 -> "1 row", 1234 -> "1,234 rows". */
function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** The share of `part` in `all`, in percent. */
function percent(part, all) {
  return all ? `${((100 * part) / all).toFixed(1)} %` : "–";
}

/** Unix seconds -> "2026-11-29 16:30:05", in UTC. */
function clock(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ");
}

function duration(seconds) {
  if (seconds < 120) return `${short.format(seconds)} s`;
  if (seconds < 7200) return `${short.format(seconds / 60)} min`;
  return `${short.format(seconds / 3600)} h`;
}

/** What a person can see of a text: characters that are invisible or that turn its direction are named. */
function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (character) => `\u27e8U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`);
}

/** Text of documents, in an element of its own so that its direction ends with it. */
function datum(text, name = "bdi", attributes = {}) {
  return element(name, { dir: "auto", class: "data", ...attributes }, visible(text ?? ""));
}

/** A text with marks; `spans`: [start, end, ...] that do not overlap, in order. `mark` gives their attributes. */
function marked(text, spans, mark = () => ({ class: "chosen shade", "--share": "60" })) {
  const box = element("div", { class: "text data", dir: "auto" });
  let position = 0;
  for (const span of spans) {
    if (span[0] < position) continue;
    box.append(visible(text.slice(position, span[0])), element("mark", mark(span), visible(text.slice(span[0], span[1]))));
    [, position] = span;
  }
  box.append(visible(text.slice(position)));
  return box;
}

const KNOWN_LABELS = new Set(["positive", "negative", "neutral", "mixed"]);
const labelColours = new Map();

/** The colour of a label; those that are not known take turns, in the order in which they come. */
function colour(label) {
  if (KNOWN_LABELS.has(label)) return `var(--${label})`;
  if (!labelColours.has(label)) labelColours.set(label, `var(--other-${1 + (labelColours.size % 4)})`);
  return labelColours.get(label);
}

/** A sign beside the colour, for those who do not see it. */
function sign(label) {
  return { positive: "+", negative: "\u2212", neutral: "\u00b7", mixed: "\u00b1" }[label] ?? (label ?? "").slice(0, 3);
}

function badge(label, attributes = {}) {
  return element("span", { class: "badge data", "--color": colour(label), ...attributes }, visible(label));
}

/**
 * A table.
 * @param {string} caption @param {string[]} head names of columns; "#..." has numbers
 * @param {(Node|string)[][]} rows
 */
function table(caption, head, rows, attributes = {}) {
  const isNumber = head.map((name) => name.startsWith("#"));
  const cell = (value, index) =>
    element(index ? "td" : "th", { class: isNumber[index] ? "number" : null, scope: index ? null : "row" }, value);
  return element("table", attributes,
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map((name, index) =>
      element("th", { scope: "col", class: isNumber[index] ? "number" : null }, name.replace(/^#/, ""))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))));
}

/**
 * Numbers by name with their shares, as a table with bars, for one run or two.
 * @param {string} caption @param {Object<string, number>[]} series one a run
 * @param {function(string): string} [barColour]
 */
function bars(caption, series, barColour = () => "var(--accent)") {
  const names = [...new Set(series.flatMap(Object.keys))];
  const totals = series.map((values) => Object.values(values).reduce((sum, value) => sum + value, 0));
  const most = Math.max(...series.map((values, run) => Math.max(0, ...Object.values(values)) / (totals[run] || 1))) || 1;
  const body = names.map((name) => {
    const shares = series.map((values, run) => (values[name] ?? 0) / (totals[run] || 1));
    const cells = [element("th", { scope: "row" }, datum(name)),
      element("td", { class: "bar", "aria-hidden": "true", "--color": barColour(name) },
        ...shares.map((share) => element("span", { "width%": `${(100 * share) / most}%` })))];
    series.forEach((values, run) => {
      if (series.length === 1) cells.push(element("td", { class: "number" }, count(values[name] ?? 0)));
      cells.push(element("td", { class: "number" }, totals[run] ? `${(100 * shares[run]).toFixed(1)} %` : "–"));
    });
    if (series.length > 1) {
      const change = 100 * (shares[1] - shares[0]);
      cells.push(element("td", { class: "number" }, !totals[0] || !totals[1] ? "–" : `${change < 0 ? "\u2212" : "+"}${Math.abs(change).toFixed(1)}`));
    }
    return element("tr", {}, ...cells);
  });
  const head = series.length > 1
    ? ["", "", "this run", "other run", "points"]
    : ["", "", "rows", "share"];
  const of = series.length > 1 ? `; of ${totals.map(count).join(" and ")} rows` : "";
  return element("div", { class: "scroll bars", tabindex: "0", role: "region", "aria-label": caption },
    element("table", {},
      element("caption", {}, caption + of),
      element("thead", {}, element("tr", {}, ...head.map((name, index) =>
        index === 1 ? element("td", { "aria-hidden": "true" }) : element("th", { scope: "col", class: index ? "number" : null },
          name || element("span", { class: "hidden" }, "value"))))),
      element("tbody", {}, ...body)));
}

function section(id, title, ...children) {
  return element("section", { id, "aria-labelledby": `${id}-title`, tabindex: "-1" },
    element("h2", { id: `${id}-title` }, title), ...children);
}

function note(text) {
  return element("p", { class: "note" }, text);
}
