// How an adapter was trained: losses by task at one scale, and what its rows were.

import { h, plainTable, s } from "./dom.js";
import { breakable } from "./cells.js";

export function trainingOf(training, name) {
  return h("section", {},
    h("h3", {}, "Training"),
    h("p.soft", {}, training.in_short),
    h("p.key", {}, h("span.train", {}, "line: rows trained on"), h("span.held", {}, "dots: rows kept aside"), h("span", {}, "mean loss of a token of the answers")),
    h("div.curves", {}, training.charts.map((chart) => h("figure", {}, h("figcaption", {}, breakable(chart.task)), figure(chart)))),
    plainTable(`What was there to train ${name} on; its share is of the ${training.unit} that the steps saw. The last losses are those of the last point of the curves.`,
      ["Task", "Rows", "Tokens", "Share of the training", "Truncated", "Left out", "Last loss", "Validation loss"],
      training.rows.map(([task, cells]) => [task, ...cells.map(([text, note]) => (note ? [text, h("small.line", {}, note)] : text))]), ".costs"));
}

function figure(chart) {
  const curve = (points, kind, radius, dots) => [
    points.length > 1 && s(`polyline.${kind}`, { points: points.map((pair) => pair.join(",")).join(" ") }),
    dots.map(([x, y]) => s(`circle.${kind}`, { cx: x, cy: y, r: radius })),
  ];
  return s("svg.chart", { viewBox: "0 0 340 190", role: "img", "aria-label": `losses of ${chart.task}; the table below has the last ones` },
    chart.ticks.map(([y, loss]) => [s("line.grid", { x1: 44, x2: 330, y1: y, y2: y }), s("text.tick.loss", { x: 38, y }, loss)]),
    chart.steps.map(([x, anchor, step]) => s("text.tick", { x, y: 182, "text-anchor": anchor }, step)),
    curve(chart.train, "train", 2.5, chart.train.slice(-1)), curve(chart.held, "held", 3, chart.held));
}
