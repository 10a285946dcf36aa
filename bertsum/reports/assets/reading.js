// One document: its text with what the run says of it.

/**
 * Cuts a text where a span begins or ends.
 * @param {string} text @param {number[][]} spans [start, end, ...]
 * @yields {[number, number, number[]]} start, end, and the indices of the spans that cover it
 */
function* segments(text, spans) {
  const borders = new Set([0, text.length]);
  for (const [start, end] of spans) {
    borders.add(Math.min(start, text.length));
    borders.add(Math.min(end, text.length));
  }
  const sorted = [...borders].sort((a, b) => a - b);
  const ordered = spans.map((span, index) => [...span.slice(0, 2), index]).sort((a, b) => a[0] - b[0]);
  let next = 0;
  let open = [];
  for (let i = 0; i + 1 < sorted.length; i += 1) {
    const [start, end] = [sorted[i], sorted[i + 1]];
    open = open.filter(([, spanEnd]) => spanEnd > start);
    while (next < ordered.length && ordered[next][0] <= start) {
      if (ordered[next][1] > start) open.push(ordered[next]);
      next += 1;
    }
    yield [start, end, open.map(([, , index]) => index)];
  }
}

/** The spans of a document by what they mean, as the chosen view wants them. */
function layers(readings, view) {
  const [reading, other] = readings;
  const spans = [];
  const add = (list, kind, make) => list?.forEach((span, index) => spans.push([span[0], span[1], { kind, ...make(span, index) }]));
  if (view === "probability") add(reading.sentences, "shade", (span) => ({ share: span[2] }));
  if (view === "sentiment") add(reading.sentences, "tint", (span) => ({ label: span[3] }));
  const shades = { summary: reading.chosen_scores, query: reading.query_scores }[view];
  add(reading.spans, "chosen", (span, index) => ({ share: shades ? shades[index] ?? 1 : null }));
  if (other) add(other.spans, "other", () => ({}));
  if (view === "query") add(reading.query_spans, "word", () => ({}));
  if (view !== "aspects") return spans;
  add(reading.aspects, "aspect", (span) => ({ label: span[2], score: span[3] }));
  for (const [name, label, , mentions] of reading.targets ?? []) {
    add(mentions, "aspect", () => ({ label, target: name }));
  }
  return spans;
}

/** The text, with marks on its sentences. */
function markedText(text, readings, view) {
  const spans = layers(readings, view);
  const box = element("div", { class: "text data", dir: "auto", id: "text" });
  for (const [start, end, indices] of segments(text, spans)) {
    const piece = visible(text.slice(start, end));
    const covering = indices.map((index) => spans[index]);
    if (!covering.length) {
      box.append(piece);
      continue;
    }
    const ofKind = (kind) => covering.find((span) => span[2].kind === kind);
    const [ours, others, shade, tint, aspect, word] = ["chosen", "other", "shade", "tint", "aspect", "word"].map(ofKind);
    const share = ours?.[2].share ?? shade?.[2].share ?? null;
    const classes = [];
    if (ours || others) classes.push("chosen");
    if (ours && others) classes.push("both");
    else if (others) classes.push("other");
    if (share !== null) classes.push("shade");
    if (tint?.[2].label) classes.push("tint");
    const label = (aspect ?? tint)?.[2].label;
    const node = element(ours || others ? "mark" : "span", {
      class: classes.join(" ") || null,
      // the least shade is still seen beside none
      "--share": share !== null ? String(Math.round(15 + 75 * share)) : tint ? "25" : null,
      "--color": tint?.[2].label ? colour(tint[2].label) : null,
    });
    if (readings.length > 1 && (ours || others) && start === (ours ?? others)[0]) {
      node.append(element("span", { class: "who" }, ours && others ? "AB" : ours ? "A" : "B"));
    }
    if (aspect) node.append(element("span", { class: "aspect", "--color": colour(label), title: aspectTitle(aspect[2]) }, piece));
    else node.append(word ? element("b", { class: "word" }, piece) : piece);
    if (tint?.[2].label && end === tint[1]) {
      node.append(element("span", { class: "sign", "--color": colour(tint[2].label), title: tint[2].label }, ` ${sign(tint[2].label)}`));
    }
    if (aspect && end === aspect[1]) node.append(element("span", { class: "sign", "--color": colour(label), title: aspectTitle(aspect[2]) }, sign(label)));
    box.append(node);
  }
  return box;
}

function aspectTitle(aspect) {
  return `${aspect.target ? `${aspect.target}: ` : ""}${aspect.label}${aspect.score === undefined ? "" : ` ${aspect.score.toFixed(2)}`}`;
}

function probabilities(scores) {
  return Object.entries(scores ?? {}).sort((a, b) => b[1] - a[1]).map(([label, score]) => `${label} ${score.toFixed(2)}`).join(", ");
}

/** What one run says of a document, without its text. */
function readingFacts(reading, title) {
  const entries = [["Status", element("span", {}, badge(reading.status, { "--color": statusColour(reading.status) }))]];
  if (reading.error) entries.push(["Error", datum(reading.error)]);
  if (reading.sentiment) entries.push(["Sentiment", element("span", {}, badge(reading.sentiment), " ", datum(probabilities(reading.sentiment_scores)))]);
  if (reading.topic) entries.push(["Topic", element("span", {}, badge(reading.topic), " ", datum(probabilities(reading.topic_scores)))]);
  if (reading.language) entries.push(["Language", datum(reading.language)]);
  const sentences = reading.num_sentences === undefined ? "" : `${count(reading.num_sentences)} sentences, `;
  entries.push(["Length", `${sentences}${count(reading.num_tokens)} tokens${reading.truncated ? "; its end was not read" : ""}`]);
  if (reading.written && reading.summary !== undefined) entries.push(...writtenFacts(reading.written));
  if (reading.keywords?.length) entries.push(["Keywords", element("ul", { class: "chips" }, ...reading.keywords.map(([word, score]) => element("li", {}, datum(word), ` ${score.toFixed(2)}`)))]);
  if (reading.targets?.length) {
    entries.push(["Targets", element("ul", { class: "chips" }, ...reading.targets.map(([name, label, scores, mentions]) =>
      element("li", {}, datum(name), " ", badge(label), ` ${(scores[label] ?? 0).toFixed(2)}, ${mentions.length} mentions`)))]);
  }
  if (reading.aspects?.length) entries.push(["Aspects", aspectCounts(reading.aspects)]);
  if (reading.query !== undefined || reading.query_status) entries.push(["Query", queryFact(reading)]);
  if (reading.summary && !reading.written) entries.push([reading.is_snippet ? "Snippet" : "Summary", datum(reading.summary, "p")]);
  return element("div", {}, title ? element("h3", {}, title) : null,
    element("dl", {}, ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])));
}

const SOURCES = { document: "all of the document", summary: "its extractive summary", best_sentences: "its best sentences that fit", first_sentences: "its first sentences that fit", cut_sentence: "the beginning of its best sentence" };
const ENDINGS = { complete: "complete", cut: "a half sentence at the end was left out", open: "its only sentence has no end" };

/** What was read for a written text, and how much of it stands in the document. */
function writtenFacts(written) {
  const shares = ["word", "number", "name"].map((kind) =>
    `${kind}s ${written.shares[kind] === undefined ? "none, or not compared" : `${(100 * written.shares[kind]).toFixed(0)} %`}`);
  const whole = written.document_tokens === undefined ? "" : ` (the document has ${count(written.document_tokens)} tokens)`;
  return [["Was read", `${SOURCES[written.source] ?? written.source}${whole}`],
    ["Was written", `${count(written.new_tokens)} tokens; ${ENDINGS[written.ending] ?? written.ending}`],
    ["In the document", shares.join(", ")],
    ["Not in it", written.new_facts.length ? element("ul", { class: "chips" }, ...written.new_facts.map((fact) => element("li", {}, datum(fact, "span", { class: "new data" })))) : "no number or name"]];
}

function matchTable(matches) {
  if (!matches.length) return note("No candidate fits.");
  const columns = matches[0][3].map(([column]) => column);
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Nearest candidates" },
    table("Nearest candidates", ["#rank", "id", "#score", ...columns.map(visible)], matches.map(([rank, id, score, others]) =>
      [String(rank), datum(id), score.toFixed(3), ...others.map(([, value]) => datum(value))])));
}

const NO_ANSWER = {
  empty: "The query has no letter or digit, so the summary is the one without a query.",
  unknown: "The model does not know the words of the query, so the summary is the one without a query.",
};

/** What was asked, and how far the chosen sentences answer it. */
function queryFact(reading) {
  const scores = reading.query_scores?.map((score) => score.toFixed(2)).join(", ");
  return element("div", {}, reading.query === undefined ? note("Its text is not recorded.") : datum(reading.query, "p", { class: "query data" }),
    note(scores ? `Importance and query together, by chosen sentence: ${scores}.` : NO_ANSWER[reading.query_status] ?? "The model did not read this row."));
}

function aspectCounts(aspects) {
  const counts = {};
  for (const [, , label] of aspects) counts[label] = (counts[label] ?? 0) + 1;
  return element("span", {}, ...Object.entries(counts).flatMap(([label, number]) => [badge(label), ` ${number} `]));
}

/** The sentences as a table, for whoever reads no colours. */
function sentenceTable(text, reading) {
  const chosen = new Set(reading.chosen);
  const source = reading.sentences?.map((sentence, index) => [index, ...sentence])
    ?? (reading.spans ?? []).map((span, index) => [reading.chosen[index], span[0], span[1], reading.chosen_scores[index] ?? null, null]);
  if (!source.length) return null;
  const answers = new Map((reading.query_scores ?? []).map((score, position) => [reading.chosen[position], score.toFixed(2)]));
  const rows = source.map(([index, start, end, score, label]) => [
    String(index), datum(text.slice(start, end)), score === null ? "–" : score.toFixed(2), chosen.has(index) ? "yes" : "", label ?? "",
    ...(answers.size ? [answers.get(index) ?? "–"] : [])]);
  return element("details", {}, element("summary", {}, `Sentences as a table (${rows.length})`),
    table("Sentences", ["index", "sentence", "#probability", "in the summary", "sentiment", ...(answers.size ? ["#with the query"] : [])], rows));
}
