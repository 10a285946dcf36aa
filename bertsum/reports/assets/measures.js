// The page of a training run or an evaluation: what was measured, and where the model is furthest off.

const data = JSON.parse(document.getElementById("data").textContent);
const MEASURES = { rouge_1: "ROUGE-1", rouge_2: "ROUGE-2", rouge_lsum: "ROUGE-Lsum" };
const HEADS = { sentiment: "Sentiment", topic: "Topic", words: "Words", targets: "Towards entities" };

function list(entries) {
  return element("dl", {}, ...entries.flatMap(([name, value]) => [element("dt", {}, datum(name)), element("dd", {}, datum(value))]));
}

function factSection() {
  const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const keys = (isWanted) => list(data.config.filter(([, , isDefault]) => isDefault === isWanted).map(([key, value]) => [key, written(value)]));
  const numSet = data.config.filter(([, , isDefault]) => !isDefault).length;
  return section("run", "What ran", list(data.facts),
    data.config.length ? element("details", {}, element("summary", {}, `Configuration: ${plural(numSet, "key differs", "keys differ")} from the default`), keys(false)) : null,
    data.config.length ? element("details", {}, element("summary", {}, `${plural(data.config.length - numSet, "key has", "keys have")} the default`), keys(true)) : null);
}

function curveSection() {
  if (!data.panels.length) return null;
  return section("curves", "Curves", element("div", { class: "grid" }, ...data.panels.map(lineChart)));
}

function summarySection() {
  const parts = Object.entries(data.reports).filter(([, report]) => report.rouge).flatMap(([source, report]) => {
    const { lead, rows, systems } = report.rouge;
    const names = Object.keys(systems);
    const interval = (value) => `${value.mean.toFixed(2)} (${value.low.toFixed(2)} to ${value.high.toFixed(2)})`;
    const cells = names.map((name) => [datum(name), ...Object.keys(MEASURES).map((measure) => interval(systems[name][measure])),
      name === lead ? "–" : interval(systems[name].over_lead.rouge_1)]);
    return [source ? element("h3", {}, datum(source)) : null,
      note(`F-measure in percent of ${count(rows)} documents, with 95 % intervals; dashed: ${visible(lead)}.`),
      element("div", { class: "grid" }, ...Object.entries(MEASURES).map(([measure, title]) =>
        intervalBars(title, names.map((name) => [name, systems[name][measure]]), lead))),
      element("details", {}, element("summary", {}, "Numbers"),
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "ROUGE" },
          table("ROUGE", ["system", ...Object.values(MEASURES).map((title) => `#${title}`), `#ROUGE-1 over ${visible(lead)}`], cells)))];
  });
  return parts.length ? section("summaries", "Summaries", ...parts) : null;
}

function headSection(head) {
  const parts = [];
  for (const [source, report] of Object.entries(data.reports)) {
    for (const [model, figures] of Object.entries(report[head])) {
      const title = [source, source && model === "model" ? "" : model].filter(Boolean).join(", ");
      parts.push(element("h3", {}, datum(title)), classFigures(figures, `${HEADS[head]}: ${title}`));
    }
  }
  return parts.length ? section(head, HEADS[head], ...parts) : null;
}

function classFigures(figures, title) {
  const total = Object.values(figures.support).reduce((sum, value) => sum + value, 0);
  const interval = figures.accuracy_95 ? ` (95 %: ${figures.accuracy_95.map((value) => value.toFixed(3)).join(" to ")})` : "";
  const present = figures.accuracy_among_present_labels === undefined || figures.accuracy_among_present_labels === figures.accuracy
    ? "" : `, ${figures.accuracy_among_present_labels.toFixed(3)} among the labels that occur`;
  const rows = figures.labels.filter((label) => figures.support[label] || figures.precision[label]).map((label) => [
    datum(label), figures.precision[label].toFixed(3), figures.recall[label].toFixed(3), figures.f1[label].toFixed(3), count(figures.support[label])]);
  const left = element("div", {},
    element("p", {}, `Accuracy ${figures.accuracy.toFixed(3)}${interval}${present}; macro F1 ${figures.macro_f1.toFixed(3)}; ${count(total)} answers.`),
    figures.confusion ? confusionTable(figures, title) : note(`The matrix of ${count(figures.labels.length)} labels is not shown.`),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": visible(`${title}, by label`) },
      table("By label", ["label", "#precision", "#recall", "#F1", "#rows"], rows)));
  return element("div", { class: "grid" }, left, figures.calibration ? reliability(figures.calibration, figures.calibration.counts.reduce((sum, value) => sum + value, 0)) : null);
}

function worstSection() {
  if (!data.worst.length) return section("worst", "Worst examples", note("None are recorded."));
  const groups = new Map();
  for (const example of data.worst) {
    const title = [example.head === "summary" ? "Summaries furthest below the best choice" : `${HEADS[example.head] ?? example.head}: surest wrong answers`,
      example.source, example.source && example.model === "model" ? "" : example.model].filter(Boolean).join(", ");
    groups.set(title, [...(groups.get(title) ?? []), example]);
  }
  return section("worst", "Worst examples",
    note("Where the model is furthest off. Some of these labels and references may be what is wrong."),
    ...[...groups].map(([title, examples]) => element("details", { open: groups.size === 1 },
      element("summary", {}, datum(title), ` (${count(examples.length)})`), ...examples.map(worstExample))));
}

function worstExample(example) {
  const sorted = (values) => Object.entries(values).sort((a, b) => b[1] - a[1]);
  const entries = [];
  if (example.where) entries.push(["Row", datum(example.where)]);
  if (example.expected !== undefined) {
    entries.push(["Labelled", badge(example.expected)], ["Predicted", element("span", {}, badge(example.predicted), " ",
      datum(sorted(example.scores).map(([label, score]) => `${label} ${score.toFixed(2)}`).join(", ")))]);
  }
  if (example.rouge_1) entries.push(["ROUGE-1", datum(sorted(example.rouge_1).map(([system, value]) => `${system} ${value.toFixed(1)}`).join(", "))]);
  if (example.reference !== undefined || example.summary !== undefined) entries.push(["Summaries", element("div", { class: "readings" },
    ...[["Of the model", example.summary], ["Reference", example.reference]].map(([title, text]) => element("div", {},
      element("h3", {}, title), text === undefined ? note("Not recorded.") : datum(text, "div", { class: "text data" }))))]);
  entries.push(["Text", example.text === undefined ? note(`Not shown: ${visible(example.problem ?? "the row has no text")}`) : element("div", { class: "example-text", tabindex: "0", role: "region", "aria-label": "Text" }, marked(example.text, example.spans ?? []))]);
  return element("article", { class: "example" }, element("dl", {}, ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
}

function numberSection() {
  if (!data.measures.length) return null;
  const rows = data.measures.map(([name, value]) => [datum(name), String(Number(value.toPrecision(6)))]);
  return section("numbers", "All numbers", element("details", {}, element("summary", {}, `${count(rows.length)} measures`),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All measures" }, table("All measures", ["measure", "#value"], rows))));
}

startPage([factSection(), curveSection(), summarySection(), ...Object.keys(HEADS).map(headSection), worstSection(), numberSection()], FRAME_KEYS);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  const action = FRAME_KEYS.find(([key]) => key === event.key)?.[2];
  if (!action) return;
  event.preventDefault();
  action();
});
