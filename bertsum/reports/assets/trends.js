// Alarms, and for each group its rows a day and the share of a sentiment, drawn when it is opened.

const data = JSON.parse(document.getElementById("data").textContent);
const RANGES = [["all days", 0], ["last year", 365], ["last 90 days", 90], ["last 28 days", 28]];
const MOST_ROWS = 200;
const state = { search: "", onlyNew: false, range: 0 };
const parts = {};

function groupName(entry) {
  return entry.column ? `${entry.column}=${entry.group}` : "all rows";
}

function what(alarm) {
  const measure = alarm.measure === "share" ? `${data.label} share` : "volume";
  return `${measure} ${alarm.direction}${alarm.kind === "change" ? ", a change" : ""}`;
}

function shareText(value) {
  return value === null ? "–" : `${(100 * value).toFixed(1)} %`;
}

function amount(alarm, value) {
  return alarm.measure === "share" ? shareText(value) : count(value);
}

/** `isOfGroup`: the table stands in the group that all of them are of. */
function alarmTable(alarms, isOfGroup = false) {
  const day = (text) => element("span", { class: "nowrap" }, text);
  const rows = alarms.slice(0, MOST_ROWS).map((alarm) => [
    element("span", {}, day(alarm.day), alarm.is_new ? " " : null, alarm.is_new ? badge("new", { "--color": "var(--negative)" }) : null),
    ...(isOfGroup ? [] : [element("button", { type: "button", class: "cell", onclick: () => showGroup(groupName(alarm)) }, datum(groupName(alarm)))]),
    datum(what(alarm), "span"), amount(alarm, alarm.value), amount(alarm, alarm.usual),
    `${alarm.z < 0 ? "\u2212" : "+"}${Math.abs(alarm.z).toFixed(1)}`, alarm.threshold.toFixed(1), day(alarm.begin), day(alarm.last_day)]);
  return table(`${plural(alarms.length, "alarm", "alarms")}${alarms.length > MOST_ROWS ? `, the newest ${MOST_ROWS} of them` : ""}`,
    ["day", ...(isOfGroup ? [] : ["group"]), "what", "#value", "#usual", "#z", "#threshold", "began", "last day"], rows);
}

/** Wide tables move sideways on their own, and not the page. */
function scrolled(title, ...children) {
  return element("div", { class: "scroll trend-table", tabindex: "0", role: "region", "aria-label": title }, ...children);
}

function drawAlarms() {
  const wanted = state.search.toLowerCase();
  const alarms = data.alarms.filter((alarm) => (!state.onlyNew || alarm.is_new) && groupName(alarm).toLowerCase().includes(wanted));
  parts.alarms.replaceChildren(alarms.length ? alarmTable(alarms) : note("No alarm."));
}

/** Indices of the days that are shown, and how many days one point stands for. */
function shownDays() {
  const from = state.range ? data.offsets.at(-1) - state.range : -1;
  return data.offsets.map((offset, index) => [offset, index]).filter(([offset]) => offset > from).map(([, index]) => index);
}

function dayText(offset) {
  return new Date(Date.parse(data.first_day) + 86400000 * offset).toISOString().slice(0, 10);
}

/** Runs of days in a row with values, so that no line leads over days without any. */
function runs(indices, isKnown) {
  const all = [];
  let before = -2;
  for (const index of indices.filter(isKnown)) {
    if (data.offsets[index] - before > 1) all.push([]);
    all.at(-1).push(index);
    before = data.offsets[index];
  }
  return all;
}

/**
 * Values of a measure over days, the range of usual ones, and alarms.
 * @param {object} chart values, low and high by day; null: none @param {object[]} alarms of this measure
 * @param {number} ceiling what no value can be above
 */
function trendChart(title, chart, alarms, format, ceiling = Infinity) {
  // as wide as the page, so that its text has the size of the page's text
  const width = Math.min(900, Math.max(320, document.getElementById("main").clientWidth));
  const [height, left, bottom, top] = [200, 56, 24, 8];
  const indices = shownDays();
  const known = indices.filter((index) => chart.values[index] !== null);
  if (!known.length) return element("figure", {}, element("figcaption", {}, title), note("No day has enough rows."));
  const highest = Math.max(...known.map((index) => chart.values[index])) * 1.15 || 1;
  const most = ceiling < Infinity ? Math.min(highest, ceiling) : 2 * Math.ceil(highest / 2); // whole rows, also in the middle
  const [first, last] = [data.offsets[indices[0]], data.offsets[indices.at(-1)]];
  const toX = (offset) => left + ((offset - first) / (last - first || 1)) * (width - left - 8);
  const toY = (value) => height - bottom - (Math.min(Math.max(value, 0), most) / most) * (height - bottom - top);
  const place = (index, value) => `${toX(data.offsets[index]).toFixed(1)} ${toY(value).toFixed(1)}`;
  const marks = [0, 0.5, 1].flatMap((part) => [
    shape("line", { x1: left, x2: width, y1: toY(part * most), y2: toY(part * most) }),
    shape("text", { x: left - 6, y: toY(part * most) + 4, "text-anchor": "end" }, format(part * most))]);
  for (const run of runs(indices, (index) => chart.low[index] !== null)) {
    const upper = run.map((index) => place(index, chart.high[index]));
    const lower = run.map((index) => place(index, chart.low[index])).reverse();
    marks.push(shape("path", { class: "trend-band", d: `M${[...upper, ...lower].join("L")}Z` }));
  }
  for (const run of runs(indices, (index) => chart.values[index] !== null)) {
    const points = run.map((index) => place(index, chart.values[index]));
    marks.push(shape("path", { class: "trend-line", d: `M${points.join("L")}${points.length > 1 ? "" : "h.5"}` }));
  }
  const offsetOf = (day) => Math.round((Date.parse(day) - Date.parse(data.first_day)) / 86400000);
  for (const alarm of alarms) {
    const [begin, end, day] = [alarm.begin, alarm.last_day, alarm.day].map(offsetOf);
    if (end < first) continue;
    const says = shape("title", {}, visible(alarm.text));
    if (alarm.kind === "change") {
      const x = toX(Math.max(begin, first));
      marks.push(shape("rect", { class: "trend-change", x, y: top, width: Math.max(toX(end) - x, 3), height: height - bottom - top }, says));
    } else if (day >= first) {
      marks.push(shape("circle", { class: "trend-alarm", cx: toX(day), cy: toY(alarm.value), r: 5 }, says));
    }
  }
  const middle = data.offsets[indices[Math.floor(indices.length / 2)]];
  marks.push(shape("text", { x: left, y: height - 6 }, dayText(first)),
    shape("text", { x: toX(middle), y: height - 6, "text-anchor": "middle" }, dayText(middle)),
    shape("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, dayText(last)));
  const value = chart.values[known.at(-1)];
  const says = `${title}: ${format(value)} on ${dayText(data.offsets[known.at(-1)])}; ${alarms.length ? alarms.map((alarm) => alarm.text).join("; ") : "no alarm"}`;
  return element("figure", {}, element("figcaption", {}, visible(title)),
    shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": visible(says) }, ...marks));
}

/** Rows and shares by week, for those who do not see the picture. */
function weekTable(chart) {
  const weeks = new Map();
  for (const index of shownDays()) {
    const week = Math.floor((data.offsets.at(-1) - data.offsets[index]) / 7);
    const [rows, part, judged] = weeks.get(week) ?? [0, 0, 0];
    weeks.set(week, [rows + chart.rows[index], part + chart.labelled[index], judged + chart.judged[index]]);
  }
  const rows = [...weeks].reverse().map(([week, [number, part, judged]]) => [
    dayText(data.offsets.at(-1) - 7 * week), count(number), judged ? shareText(part / judged) : "–"]);
  return element("details", {}, element("summary", {}, "Numbers by week"),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Numbers by week" },
      table("Seven days up to", ["day", "#rows", `#${data.label}`], rows)));
}

function groupBody(entry) {
  const chart = data.charts[entry.index];
  const alarms = data.alarms.filter((alarm) => alarm.column === entry.column && alarm.group === entry.group);
  const of = (measure) => alarms.filter((alarm) => alarm.measure === measure);
  return [
    trendChart("Rows a day", { ...chart.volume, values: chart.rows }, of("volume"), (value) => short.format(value)),
    trendChart(`${data.label} share`, { ...chart.share, values: chart.shares }, of("share"), shareText, 1),
    alarms.length ? scrolled("Alarms of the group", alarmTable(alarms, true)) : note("No alarm."),
    element("div", { class: "grid" }, bars("Sentiment", [entry.labels], colour)),
    weekTable(chart),
  ];
}

function groupDetails(entry) {
  const body = element("div", {});
  const says = `${count(entry.rows)} rows; ${data.label} ${shareText(entry.share)}, last 7 days ${shareText(entry.recent_share)}`;
  const node = element("details", { class: "trend" },
    element("summary", {}, datum(groupName(entry)), element("span", { class: "meta" }, visible(says)),
      entry.alarms ? element("span", { class: "meta" }, badge(plural(entry.alarms, "alarm", "alarms"), { "--color": "var(--negative)" })) : null),
    body);
  const draw = () => body.replaceChildren(...(node.open ? groupBody(entry) : []));
  node.addEventListener("toggle", draw);
  return { entry, node, draw };
}

function showGroup(name) {
  const group = parts.groups.find(({ entry }) => groupName(entry) === name);
  if (!group) return;
  group.node.hidden = false;
  group.node.open = true;
  group.node.scrollIntoView();
  group.node.querySelector("summary").focus();
}

function applySearch() {
  const wanted = state.search.toLowerCase();
  for (const { entry, node } of parts.groups) node.hidden = !groupName(entry).toLowerCase().includes(wanted);
  drawAlarms();
}

function controls() {
  parts.search = element("input", { type: "search", name: "search", oninput: (event) => { state.search = event.target.value; applySearch(); } });
  const range = element("select", { name: "range", onchange: (event) => { state.range = Number(event.target.value); parts.groups.forEach(({ draw }) => draw()); } },
    ...RANGES.map(([name, days]) => element("option", { value: days }, name)));
  const onlyNew = element("input", { type: "checkbox", name: "new", onchange: (event) => { state.onlyNew = event.target.checked; drawAlarms(); } });
  return element("div", { class: "tools" }, element("label", {}, "Group", parts.search), element("label", {}, "Days", range),
    element("label", { class: "check" }, onlyNew, "New alarms only"));
}

function facts() {
  const entries = [
    ["Output", datum(data.output)],
    ["Days", `${count(data.days)}, from ${data.first_day} to ${data.last_day}${data.missing_days ? `; ${count(data.missing_days)} days between have no row` : ""}`],
    ["Rows", `${count(data.rows)}${data.without_day ? `; ${count(data.without_day)} more have no day` : ""}`],
    ["Not complete, left out", plural(data.unpublished_partitions, "partition", "partitions")],
    ["Groups watched", count(data.groups_watched)],
    ["False alarms accepted", `${short.format(data.false_alarms)} a month, of all groups together`],
    ["Alarms are new since", data.new_since],
  ];
  return element("dl", {}, ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

parts.alarms = scrolled("Alarms");
parts.groups = data.groups.filter((entry) => entry.index !== undefined).map(groupDetails);
const hidden = data.groups.length - parts.groups.length;
startPage([
  section("alarms", "Alarms", controls(), parts.alarms),
  section("groups", "Groups", note("A line is what was counted; the shaded range is what is usual by the group's own history. A dot is an alarm of one day, a bar is days of another level. Days with too few rows have no share."),
    ...parts.groups.map(({ node }) => node), hidden > 0 ? note(`${count(hidden)} more groups, without alarms or smaller, are in --json.`) : null),
  section("counted", "What was counted", facts()),
], [...FRAME_KEYS, ["/", "search a group", () => parts.search.focus()]]);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select") || document.getElementById("help").open) return;
  const action = [...FRAME_KEYS, ["/", "", () => parts.search.focus()]].find(([key]) => key === event.key)?.[2];
  if (!action) return;
  event.preventDefault();
  action();
});
window.addEventListener("resize", () => parts.groups.forEach(({ draw }) => draw()));
drawAlarms();
parts.groups.slice(0, 1).forEach(({ node }) => { node.open = true; });
parts.groups.filter(({ entry }) => entry.alarms).slice(0, 3).forEach(({ node }) => { node.open = true; });
