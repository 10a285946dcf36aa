// Pictures as SVG whose colours follow the theme, each with its numbers as text beside it.

const LINE_COLOURS = ["--other-1", "--negative", "--positive", "--mixed", "--other-2", "--other-3", "--other-4"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

/** Round numbers from `low` to `high`, some five of them. */
function ticks(low, high) {
  const raw = (high - low) / 4 || Math.abs(high) || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((value) => value >= raw * 0.999);
  const values = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + 1e-9 * step; value += step) values.push(Math.abs(value) < 1e-9 * step ? 0 : value); // not -0
  return values;
}

/** Axes with their numbers, and functions from values to places. */
function axes({ width, height, left, x, y, xTitle, yTitle }) {
  const [top, bottom, right] = [20, 42, 12];
  const toX = (value) => left + ((value - x[0]) / (x[1] - x[0] || 1)) * (width - left - right);
  const toY = (value) => height - bottom - ((value - y[0]) / (y[1] - y[0] || 1)) * (height - bottom - top);
  const marks = [];
  for (const value of ticks(...y)) {
    marks.push(shape("line", { x1: left, x2: width - right, y1: toY(value), y2: toY(value) }),
      shape("text", { x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, short.format(value)));
  }
  for (const value of ticks(...x)) {
    marks.push(shape("text", { x: toX(value), y: height - bottom + 16, "text-anchor": "middle" }, short.format(value)));
  }
  marks.push(shape("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xTitle),
    shape("text", { x: 4, y: 12 }, yTitle));
  return { marks, toX, toY };
}

/** Lines over steps, with a legend that shows dash and colour, and a table of their ends. */
function lineChart(panel) {
  const values = panel.lines.flatMap((line) => line.values);
  const steps = panel.lines.flatMap((line) => line.steps);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.06 * (high - low) || 0.1;
  const frame = { width: 430, height: 250, left: 48, x: [Math.min(...steps), Math.max(...steps)],
    y: [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin], xTitle: "step", yTitle: panel.unit };
  const { marks, toX, toY } = axes(frame);
  const style = (index, line) => ({ "--color": line.is_baseline ? "var(--neutral)" : `var(${LINE_COLOURS[index % LINE_COLOURS.length]})`,
    "stroke-dasharray": line.is_baseline ? "4 4" : DASHES[Math.floor(index / LINE_COLOURS.length + index) % DASHES.length] });
  const legend = [];
  panel.lines.forEach((line, index) => {
    const points = line.steps.map((step, at) => `${toX(step).toFixed(1)},${toY(line.values[at]).toFixed(1)}`);
    if (points.length > 1) marks.push(shape("polyline", { class: "curve", points: points.join(" "), ...style(index, line) }));
    if (points.length < 25) {
      line.steps.forEach((step, at) => marks.push(shape("circle", { class: "dot", cx: toX(step), cy: toY(line.values[at]), r: 3, "--color": style(index, line)["--color"] },
        shape("title", {}, visible(`${line.name}, step ${count(step)}: ${short.format(line.values[at])}`)))));
    }
    legend.push(element("li", {}, shape("svg", { viewBox: "0 0 28 10", class: "key", "aria-hidden": "true" },
      shape("line", { class: "curve", x1: 0, x2: 28, y1: 5, y2: 5, ...style(index, line) })), datum(line.name)));
  });
  const rows = panel.lines.map((line) => [datum(line.name), number(line.values[0]), number(line.values.at(-1)),
    number(Math.min(...line.values)), number(Math.max(...line.values))]);
  return element("figure", {},
    element("figcaption", {}, datum(panel.title)),
    shape("svg", { viewBox: `0 0 ${frame.width} ${frame.height}`, role: "img", "aria-label": visible(`${panel.title}: ${panel.lines.map((line) => `${line.name} from ${number(line.values[0])} to ${number(line.values.at(-1))}`).join("; ")}`) }, ...marks),
    element("ul", { class: "legend" }, ...legend),
    element("details", {}, element("summary", {}, "Numbers"),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": visible(panel.title) },
        table(visible(panel.title), ["curve", "#first", "#last", "#least", "#most"], rows))));
}

function number(value) {
  return value === null || value === undefined ? "–" : short.format(value);
}

/**
 * Bars with 95 % intervals, one under the other.
 * @param {string} title @param {[string, {mean: number, low: number, high: number}][]} entries
 * @param {string} baseline the entry that a dashed line stands at
 */
function intervalBars(title, entries, baseline) {
  const [width, row, top] = [420, 34, 6];
  const height = top + row * entries.length + 34;
  const most = Math.max(...entries.map(([, value]) => value.high), 1);
  const toX = (value) => 4 + (value / most) * (width - 60);
  const marks = [];
  entries.forEach(([name, value], index) => {
    const y = top + index * row;
    const isBaseline = name === baseline;
    marks.push(shape("text", { x: 4, y: y + 11 }, visible(name)),
      shape("rect", { class: isBaseline ? "plain" : null, x: 4, y: y + 15, width: Math.max(toX(value.mean) - 4, 0.5), height: 12 }),
      shape("path", { class: "interval", d: `M${toX(value.low)} ${y + 21}H${toX(value.high)}M${toX(value.low)} ${y + 17}v8M${toX(value.high)} ${y + 17}v8` }),
      shape("text", { x: toX(value.high) + 6, y: y + 26 }, value.mean.toFixed(1)));
    if (isBaseline) {
      // behind the numbers
      marks.unshift(shape("line", { class: "baseline", x1: toX(value.mean), x2: toX(value.mean), y1: 2, y2: height - 34 }));
    }
  });
  for (const value of ticks(0, most)) {
    marks.push(shape("text", { x: toX(value), y: height - 8, "text-anchor": "middle" }, short.format(value)));
  }
  const says = entries.map(([name, value]) => `${name} ${value.mean.toFixed(1)}, ${value.low.toFixed(1)} to ${value.high.toFixed(1)}`).join("; ");
  return element("figure", {}, element("figcaption", {}, title),
    shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": visible(`${title}: ${says}`) }, ...marks));
}

/** Rows by labelled and by predicted class; shade: share of the rows with that label. */
function confusionTable(figures, title) {
  const labels = figures.labels;
  const head = element("tr", {}, element("th", { scope: "col" }, "labelled \\ predicted"),
    ...labels.map((label) => element("th", { scope: "col", class: "number" }, datum(label))));
  const body = figures.confusion.map((counts, index) => {
    const total = counts.reduce((sum, value) => sum + value, 0);
    return element("tr", {}, element("th", { scope: "row" }, datum(labels[index])),
      ...counts.map((value, column) => element("td", { class: `number cell-share${column === index ? " right" : ""}`,
        "--share": total ? String(Math.round((60 * value) / total)) : "0" }, count(value),
      element("div", { class: "meta" }, `${total ? Math.round((100 * value) / total) : 0} %`))));
  });
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": visible(title) },
    element("table", { class: "confusion" }, element("caption", {}, "Confusion matrix: rows, and their share of the label"),
      element("thead", {}, head), element("tbody", {}, ...body)));
}

/** A dot for each bin: on the diagonal the model is as sure as it is right. */
function reliability(calibration, rows) {
  const frame = { width: 380, height: 340, left: 44, x: [0, 1], y: [0, 1], xTitle: "probability of the predicted label", yTitle: "accuracy" };
  const { marks, toX, toY } = axes(frame);
  marks.push(shape("line", { class: "baseline", x1: toX(0), y1: toY(0), x2: toX(1), y2: toY(1) }));
  calibration.counts.forEach((number, bin) => {
    const [sure, right] = [calibration.confidences[bin], calibration.accuracies[bin]];
    marks.push(shape("line", { class: "gap", x1: toX(sure), x2: toX(sure), y1: toY(sure), y2: toY(right) }),
      shape("circle", { class: "dot", "--color": "var(--accent)", cx: toX(sure), cy: toY(right), r: 3 + 9 * Math.sqrt(number / rows) },
        shape("title", {}, `${count(number)} rows, probability ${sure.toFixed(2)}: ${(100 * right).toFixed(1)} % right`)));
  });
  const chance = calibration.error_by_chance === undefined ? "" : `; of few rows, chance alone gives ${calibration.error_by_chance.toFixed(3)}`;
  const interval = calibration.error_95 === undefined ? "" : ` (95 %: ${calibration.error_95.map((value) => value.toFixed(3)).join(" to ")})`;
  const bins = calibration.counts.map((number, bin) => [calibration.confidences[bin].toFixed(3), calibration.accuracies[bin].toFixed(3), count(number)]);
  return element("figure", {},
    element("figcaption", {}, "Reliability; size of a dot: rows"),
    shape("svg", { viewBox: `0 0 ${frame.width} ${frame.height}`, class: "square", role: "img", "aria-label": `Reliability diagram, expected calibration error ${calibration.error.toFixed(3)}` }, ...marks),
    note(`Expected calibration error ${calibration.error.toFixed(3)}${interval}${chance}.`),
    element("details", {}, element("summary", {}, "Numbers"), table("Bins", ["#probability", "#accuracy", "#rows"], bins)));
}
