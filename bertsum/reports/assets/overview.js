// What ran, how far it came, how fast, and what went wrong; of one run, or of two side by side.

/** Rows by status over all partitions. */
function statusTotals(run) {
  const totals = {};
  for (const counts of Object.values(run.statistics.statuses)) {
    for (const [status, rows] of Object.entries(counts)) totals[status] = (totals[status] ?? 0) + rows;
  }
  return totals;
}

const STATUS_COLOURS = { ok: "var(--positive)", error: "var(--negative)", empty: "var(--neutral)", not_text: "var(--other-2)", unknown_language: "var(--mixed)" };

function statusColour(status) {
  return STATUS_COLOURS[status] ?? "var(--accent)";
}

function runSection(data) {
  const runs = [data.run, data.other].filter(Boolean);
  return section("run", "What ran", element("div", { class: "grid" }, ...runs.map((run, index) =>
    element("div", {},
      runs.length > 1 ? element("h3", {}, index ? "The other run" : "This run") : null,
      run.is_complete ? null : element("p", { class: "warning" }, incomplete(run)),
      facts(run), configuration(run)))));
}

function incomplete(run) {
  const missing = `${count(run.missing_units)} units with ${count(run.missing_rows)} rows are missing`;
  if (run.limit !== null) return `A try-out of the first ${count(run.limit)} rows: ${missing}.`;
  if (run.missing_units) return `Incomplete: ${missing}. The run is at work or was stopped; the same command goes on. This page shows the units that are complete.`;
  return "Incomplete: its files are there, but it is not published, or parts of INPUT could not be read.";
}

function facts(run) {
  const entries = [
    ["Output", datum(run.output)],
    ["Input", datum(run.input)],
    ["Model", datum(run.model.id)],
    ["Digest of the model", datum(run.model.digest ?? "not recorded")],
    ["Job", datum(run.fingerprint)],
    ["Version of bertsum", run.version],
    ["Rows", count(run.rows)],
    ["Tokens", count(run.tokens)],
    ["Files", `${count(run.num_files)} in ${plural(run.num_partitions, "partition", "partitions")}`],
  ];
  if (run.kind === "summaries") entries.push(["Rows not read to their end", count(run.statistics.truncated)]);
  const list = element("dl", {}, ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  if (run.models.length < 2) return list;
  return element("div", {}, list, table("Models of its files", ["model", "job", "#rows"],
    run.models.map(([model, job, rows]) => [datum(model), datum(job.slice(0, 16)), count(rows)])));
}

function configuration(run) {
  const list = (isWanted) => element("dl", {}, ...run.config.filter(([, , isDefault]) => isDefault === isWanted)
    .flatMap(([key, value]) => [element("dt", {}, datum(key)), element("dd", {}, datum(typeof value === "string" ? value : JSON.stringify(value)))]));
  const numSet = run.config.filter(([, , isDefault]) => !isDefault).length;
  return element("div", {},
    element("details", { open: numSet > 0 && numSet < 15 }, element("summary", {}, `Configuration: ${plural(numSet, "key differs", "keys differ")} from the default`), list(false)),
    element("details", {}, element("summary", {}, `${plural(run.config.length - numSet, "key has", "keys have")} the default`), list(true)));
}

// what columns say of a row, in words
const WORDS = {
  source: { document: "the document", summary: "its summary", best_sentences: "its best sentences", first_sentences: "its first sentences", cut_sentence: "a part of a sentence" },
  ending: { complete: "complete", cut: "a half sentence cut off", open: "without an end" },
  has_new_facts: { true: "some", false: "none" },
  query_status: { ok: "was read", empty: "was empty", unknown: "words are unknown" },
};

function named(column, labels) {
  return Object.fromEntries(Object.entries(labels).map(([label, rows]) => [WORDS[column]?.[label] ?? label, rows]));
}

function rowsSection(data) {
  const runs = [data.run, data.other].filter(Boolean);
  const charts = [bars("Rows by status", runs.map(statusTotals), statusColour)];
  const titles = { sentiment: "Sentiment", language: "Language", topic: "Topic", query_status: "Query", source: "What was read", ending: "Ending",
    has_new_facts: "Numbers or names that are not in the document" };
  for (const [column, title] of Object.entries(titles)) {
    const series = runs.map((run) => named(column, run.statistics.labels[column] ?? {}));
    const barColour = WORDS[column] ? undefined : colour;
    if (series.some((labels) => Object.keys(labels).length)) charts.push(bars(title, series, barColour));
  }
  if (Object.keys(data.run.statistics.shares).length) charts.push(shareTable(data.run.statistics.shares));
  const isWritten = data.run.kind === "written texts";
  const lengths = { num_sentences: "Sentences of a document", num_tokens: isWritten ? "Tokens that were read" : "Tokens of a document",
    summary: isWritten ? "Characters of a written text" : "Characters of a summary" };
  for (const [column, title] of Object.entries(lengths)) {
    if (!runs.some((run) => run.statistics.lengths[column])) continue;
    const series = runs.map((run) => histogram(run.statistics.lengths[column], data.length_edges[column]));
    const means = runs.map((run) => run.statistics.lengths[column])
      .map((length) => (length?.rows ? short.format(length.total / length.rows) : "–"));
    charts.push(bars(`${title} (mean ${means.join("; other run ")})`, series));
  }
  return section("rows", "Rows", element("div", { class: "grid" }, ...charts), ...runs.map(partitionTable));
}

/** How much of what was written stands in the documents. */
function shareTable(shares) {
  const titles = { word_share: "words", number_share: "numbers", name_share: "names" };
  return element("div", {}, table("Found in the document, mean of rows that have any", ["of its", "#share", "#rows"],
    Object.entries(shares).map(([column, [mean, rows]]) => [titles[column], `${(100 * mean).toFixed(1)} %`, count(rows)])));
}

function histogram(length, edges) {
  const rows = {};
  if (!length) return rows;
  edges.forEach((edge, index) => {
    const next = edges[index + 1];
    rows[next === undefined ? `${count(edge)} and more` : next - edge === 1 ? count(edge) : `${count(edge)}–\u2060${count(next - 1)}`] = length.counts[index];
  });
  return rows;
}

function partitionTable(run, index) {
  const partitions = Object.entries(run.statistics.statuses);
  if (partitions.length < 2) return null;
  const statuses = Object.keys(statusTotals(run));
  const rows = partitions.map(([partition, counts]) => [
    datum(partition), ...statuses.map((status) => count(counts[status] ?? 0))]);
  const title = `Partitions${index ? " of the other run" : ""}: ${count(partitions.length)}`;
  return element("details", { open: partitions.length <= 12 }, element("summary", {}, title),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
      table("Rows by partition and status", ["partition", ...statuses.map((status) => `#${status}`)], rows)));
}

function timeSection(data) {
  const runs = [data.run, data.other].filter(Boolean);
  return section("time", "Time",
    ...runs.flatMap((run, index) => [
      runs.length > 1 ? element("h3", {}, index ? "The other run" : "This run") : null,
      timeNote(run), throughput(run.timeline), slowest(run.timeline)]));
}

function timeNote(run) {
  const { recorded } = run.timeline;
  if (recorded === run.num_files) return note("Times are those that the job recorded: from when a replica began to compute a unit until its file was written. Work that was lost is not in them.");
  const others = "the time at which the filesystem saw it written last, and its work is taken to have begun when the file before it was there; a copy of the files has other times.";
  if (!recorded) return note(`The job recorded no times. Of each file this is ${others}`);
  return note(`The job recorded the times of ${count(recorded)} of ${count(run.num_files)} files: from when a replica began to compute a unit until its file was written. Of any other file this is ${others}`);
}

function throughput(timeline) {
  const stretches = timeline.stretches.filter((stretch) => stretch.rates.length);
  if (timeline.without_time) return note(`No time is known of ${count(timeline.without_time)} files.`);
  if (!stretches.length) return note("There are too few files for a throughput.");
  const [width, height, left, bottom, gap] = [900, 200, 64, 40, 14];
  const top = Math.max(...stretches.flatMap((stretch) => stretch.rates)) || 1;
  const seconds = stretches.reduce((sum, stretch) => sum + stretch.end - stretch.begin, 0);
  const scale = (width - left - gap * stretches.length) / seconds;
  const marks = [];
  for (const part of [0, 0.5, 1]) {
    const y = height - bottom - part * (height - bottom - 14);
    marks.push(shape("line", { x1: left, x2: width, y1: y, y2: y }),
      shape("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, short.format(part * top)));
  }
  let x = left;
  let labelled = -Infinity;
  for (const stretch of stretches) {
    const extent = (stretch.end - stretch.begin) * scale;
    const step = extent / stretch.rates.length;
    stretch.rates.forEach((rate, index) => {
      const tall = (rate / top) * (height - bottom - 14);
      marks.push(shape("rect", { x: x + index * step, y: height - bottom - tall, width: Math.max(step - 1, 0.5), height: tall },
        shape("title", {}, `${clock(stretch.begin + ((stretch.end - stretch.begin) * index) / stretch.rates.length)}: ${short.format(rate)} rows a second`)));
    });
    if (x - labelled > 150) {
      marks.push(shape("text", { x, y: height - bottom + 16 }, clock(stretch.begin)));
      labelled = x;
    }
    x += extent + gap;
  }
  const rows = stretches.reduce((sum, stretch) => sum + stretch.rows, 0);
  const tokens = stretches.reduce((sum, stretch) => sum + stretch.tokens, 0);
  const says = `${count(rows)} rows in ${duration(seconds)} of work: ${short.format(rows / seconds)} rows and ${short.format(tokens / seconds)} tokens a second, at most ${short.format(top)} rows a second`;
  const pauses = timeline.num_stretches > 1
    ? ` ${count(timeline.num_stretches)} stretches of work; pauses between them are left out${timeline.num_stretches > stretches.length ? `, and all but the last ${stretches.length}` : ""}.` : "";
  return element("figure", {},
    shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says }, ...marks,
      shape("text", { x: left, y: height - 4 }, "time (UTC); height: rows a second")),
    element("figcaption", {}, `${says}.${pauses}`));
}

function slowest(timeline) {
  if (!timeline.slowest.length) return null;
  const rows = timeline.slowest.map((unit) => [
    datum(unit.name), count(unit.rows), count(unit.tokens), clock(unit.written), unit.replica === null ? "not recorded" : datum(unit.replica),
    unit.seconds ? short.format(unit.tokens / unit.seconds) : "–", duration(unit.seconds)]);
  return element("details", { open: true },
    element("summary", {}, "Slowest units"),
    element("div", { class: "scroll wide-table", tabindex: "0", role: "region", "aria-label": "Slowest units" },
      table("Slowest units", ["file", "#rows", "#tokens", "#written (UTC)", "replica", "#tokens a second", "#time"], rows)));
}

function errorSection(data) {
  const runs = [data.run, data.other].filter(Boolean);
  const children = runs.flatMap((run, index) => {
    const parts = [runs.length > 1 ? element("h3", {}, index ? "The other run" : "This run") : null];
    if (run.failures.length) {
      parts.push(table("Files and units that failed", ["files", "reason", "#tries"], run.failures.map((failure) => [
        datum(failure.files.join(", ")), datum(failure.reason), count(failure.attempts)])));
    }
    if (run.statistics.reasons.length) {
      parts.push(table("Rows with an error", ["reason", "status", "#rows", "first of them"], run.statistics.reasons.map((reason) => [
        datum(reason.error), reason.status, count(reason.rows), datum(reason.example)])));
    }
    if (!run.failures.length && !run.statistics.reasons.length) parts.push(note("None."));
    return parts;
  });
  return section("errors", "Errors", ...children);
}

function comparisonSection(data) {
  const comparison = data.comparison;
  if (!comparison) return null;
  const others = `${count(comparison.rows)} rows are in both runs; ${count(comparison.only_ours)} in this one alone, ${count(comparison.only_others)} in the other one alone.`;
  if (!comparison.rows) {
    return section("comparison", "Two runs", element("p", { class: "warning" },
      `${others} Rows are the same that have the same number in a file of the same path and size below INPUT.`));
  }
  const agreement = Object.entries(comparison.labels).map(([column, values]) => [
    column, percent(values.equal, values.rows), values.kappa === null ? "–" : values.kappa.toFixed(3), count(values.rows - values.equal)]);
  agreement.push(["summary (the same sentences)", percent(comparison.same_summary, comparison.summarized), "–",
    count(comparison.summarized - comparison.same_summary)]);
  const tables = Object.entries(comparison.labels)
    .filter(([column, values]) => column !== "language" && values.pairs.some(([label, other]) => label !== other))
    .map(([column, values]) => pairTable(column, values));
  return section("comparison", "Two runs", note(others),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Agreement" },
      table("Agreement", ["column", "#equal", "#Cohen's kappa", "#rows that differ"], agreement)),
    element("div", { class: "grid" }, ...tables));
}

/** Rows by the labels of both runs; of the sentiment, a cell leads to its documents. */
function pairTable(column, values) {
  const labels = [...new Set(values.pairs.map(([label]) => label))];
  const others = [...new Set(values.pairs.map(([, other]) => other))];
  const rows = new Map(values.pairs.map(([label, other, number]) => [JSON.stringify([label, other]), number]));
  const cell = (label, other) => {
    const number = count(rows.get(JSON.stringify([label, other])) ?? 0);
    if (column !== "sentiment" || number === "0") return number;
    return element("button", { type: "button", class: "cell", "aria-label": `${number} rows: ${label}, other run ${other}. Show documents`,
      onclick: () => document.dispatchEvent(new CustomEvent("show-pair", { detail: [label, other] })) }, number);
  };
  const title = `${column}: this run down, the other one across`;
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
    table(title, ["", ...others.map((other) => `#${visible(other)}`)],
      labels.map((label) => [datum(label), ...others.map((other) => cell(label, other))])));
}
