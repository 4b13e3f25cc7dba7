// Charts: loss and divergence by step, and what each coupling does.

import { prepare } from "./canvas.mjs";
import { EDGE } from "./pictures.mjs";

const FONT = "12px system-ui, sans-serif";

// Frame a chart, with numbers at the ends of both axes; return maps from values to pixels.
function frame({ context, width, height }, [left, right], [bottom, top], colors, labels) {
  const [x0, x1, y0, y1] = [34, width - 8, height - 20, 8];
  const x = (value) => x0 + ((value - left) / (right - left)) * (x1 - x0);
  const y = (value) => y0 + ((value - bottom) / (top - bottom)) * (y1 - y0);
  context.font = FONT;
  context.fillStyle = colors.ink;
  context.strokeStyle = colors.faint;
  context.lineWidth = 1;
  context.strokeRect(x0, y1, x1 - x0, y0 - y1);
  if (bottom < 0 && top > 0) line(context, [[x0, y(0)], [x1, y(0)]]);
  context.textAlign = "right";
  context.fillText(short(top), x0 - 4, y1 + 9);
  context.fillText(short(bottom), x0 - 4, y0);
  context.fillText(labels.right ?? short(right), x1, height - 5);
  context.textAlign = "left";
  context.fillText(labels.left ?? short(left), x0, height - 5);
  context.textAlign = "center";
  context.fillText(labels.across, (x0 + x1) / 2, height - 5);
  context.save();
  context.beginPath();
  context.rect(x0, y1, x1 - x0, y0 - y1);
  context.clip();
  return { x, y };
}

// A number in at most four characters.
const short = (value) => {
  const rounded = Math.abs(value) < 10 ? Math.round(10 * value) / 10 : Math.round(value);
  return String(rounded).replace("-", "−");
};

function line(context, places) {
  context.beginPath();
  for (const [x, y] of places) context.lineTo(x, y);
  context.stroke();
}

function curve(context, color, width, places) {
  context.strokeStyle = color;
  context.lineWidth = width;
  line(context, places);
}

// Draw the mean of -log p and the divergence of held-out points, by step.
export function drawLoss(canvas, history, colors) {
  const place = prepare(canvas);
  const last = Math.max(history[history.length - 1].step, 50);
  const most = Math.max(...history.map((h) => Math.max(h.loss, h.kl)));
  const least = Math.min(0, ...history.map((h) => Math.min(h.loss, h.kl)));
  const labels = { across: "step", left: "0" };
  const { x, y } = frame(place, [0, last], [Math.max(least, -5), Math.min(1.05 * most, 10)], colors, labels);
  const { context } = place;
  curve(context, colors.model, 2, history.map((h) => [x(h.step), y(h.loss)]));
  curve(context, colors.data, 2, history.map((h) => [x(h.step), y(h.kl)]));
  context.restore();
}

const SAMPLES = 61;

const PLACES = Float64Array.from({ length: SAMPLES }, (_, i) => EDGE * ((2 * i) / (SAMPLES - 1) - 1));

// Return s and t of an affine coupling, as functions of the coordinate that passes.
export function scaleAndShift(coupling, passive) {
  const raw = coupling.parameters(passive);
  const [s, t] = [[], []];
  for (let i = 0; i < passive.length; i++) {
    s.push(coupling.shared[0] * Math.tanh(raw[i * coupling.map.outputs]));
    t.push(raw[i * coupling.map.outputs + 1]);
  }
  return { s, t };
}

// Draw s and t of a coupling over the coordinate that passes, and where the point is.
export function drawScaleAndShift(canvas, coupling, point, colors) {
  const place = prepare(canvas);
  const { s, t } = scaleAndShift(coupling, PLACES);
  const most = Math.max(1, ...s.map(Math.abs), ...t.map(Math.abs));
  const labels = { across: `x${coupling.passive + 1} passes` };
  const { x, y } = frame(place, [-EDGE, EDGE], [-most, most], colors, labels);
  const { context } = place;
  mark(context, x(point[coupling.passive]), place.height, colors);
  for (const [values, color] of [[s, colors.model], [t, colors.data]]) {
    curve(context, color, 2, values.map((value, i) => [x(PLACES[i]), y(value)]));
  }
  context.restore();
}

// Draw the map of the coordinate that moves, for some values of the one that passes, and the point.
export function drawMaps(canvas, coupling, point, colors) {
  const place = prepare(canvas);
  const labels = { across: `x${coupling.active + 1} moves` };
  const { x, y } = frame(place, [-EDGE, EDGE], [-EDGE, EDGE], colors, labels);
  const { context } = place;
  mark(context, x(point[coupling.active]), place.height, colors);
  const map = (passive) => {
    const points = new Float64Array(2 * SAMPLES);
    PLACES.forEach((value, i) => {
      points[2 * i + coupling.active] = value;
      points[2 * i + coupling.passive] = passive;
    });
    coupling.forward(points);
    return Array.from(PLACES, (value, i) => [x(value), y(points[2 * i + coupling.active])]);
  };
  [-2, -1, 0, 1, 2].forEach((passive) => curve(context, colors.grid, 1.2, map(passive)));
  curve(context, colors.model, 2, map(point[coupling.passive]));
  context.restore();
}

function mark(context, x, height, colors) {
  context.setLineDash([3, 3]);
  curve(context, colors.path, 1.2, [[x, 0], [x, height]]);
  context.setLineDash([]);
}
