// Drawing the plane: density, grid, points, and the way of one point through the layers.

import { between, CELLS, EDGE, LINE_POINTS } from "./pictures.mjs";

// Fit a canvas to its place on the page and to the screen; return its context and size.
export function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// Return the colors of the style sheet, which has others in the dark.
export function prepareColors(element) {
  const style = getComputedStyle(element);
  const names = ["data", "model", "grid", "ink", "faint", "paper", "path"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export const toPixels = (value, size) => (0.5 + value / (2 * EDGE)) * size;

// Draw what is chosen of a picture between its layers.
export function drawPlane(canvas, pictures, view, path, colors) {
  const { context, width } = prepare(canvas);
  const x = (value) => toPixels(value, width);
  const y = (value) => toPixels(-value, width);
  const layer = Math.round(view.layer);
  if (view.show.includes("density") && pictures.densities.has(layer)) {
    const image = densityImage(pictures.densities.get(layer), colors.model);
    context.drawImage(image, 0, 0, width, width);
  }
  if (view.show.includes("grid")) {
    drawGrid(context, between(pictures.grid, view.layer), x, y, colors.grid);
  }
  const dots = (places, color) => {
    context.fillStyle = color;
    context.globalAlpha = 0.75;
    for (let i = 0; i < places.length; i += 2) {
      context.fillRect(x(places[i]) - 1.25, y(places[i + 1]) - 1.25, 2.5, 2.5);
    }
    context.globalAlpha = 1;
  };
  if (view.show.includes("samples")) dots(between(pictures.samples, view.layer), colors.model);
  if (view.show.includes("data")) dots(between(pictures.data, view.layer), colors.data);
  drawPath(context, path, view.layer, x, y, colors);
}

// The darkest cell is the densest; square roots make the thin regions visible, too.
let kept = {};
function densityImage(logDensity, color) {
  if (kept.logDensity === logDensity && kept.color === color) return kept.image;
  const image = document.createElement("canvas");
  image.width = image.height = CELLS;
  const context = image.getContext("2d");
  const pixels = context.createImageData(CELLS, CELLS);
  const [red, green, blue] = color.match(/\w\w/g).map((digits) => parseInt(digits, 16));
  const top = logDensity.reduce((most, value) => Math.max(most, value), -Infinity);
  for (let i = 0; i < logDensity.length; i++) {
    const opacity = 190 * Math.exp(0.5 * (logDensity[i] - top));
    pixels.data.set([red, green, blue, opacity], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  kept = { logDensity, color, image };
  return image;
}

function drawGrid(context, places, x, y, color) {
  context.strokeStyle = color;
  const lines = places.length / 2 / LINE_POINTS;
  for (let line = 0; line < lines; line++) {
    const middle = Math.floor(line / 2) === Math.floor(lines / 4); // the axes
    context.lineWidth = middle ? 1.6 : 0.7;
    context.beginPath();
    for (let i = line * LINE_POINTS; i < (line + 1) * LINE_POINTS; i++) {
      context.lineTo(x(places[2 * i]), y(places[2 * i + 1]));
    }
    context.stroke();
  }
}

// The way of the point: a step per coupling, which moves one coordinate, and where it is now.
function drawPath(context, path, layer, x, y, colors) {
  context.lineJoin = "round";
  for (const [width, color] of [[5, colors.paper], [2, colors.path]]) {
    context.lineWidth = width;
    context.strokeStyle = color;
    context.beginPath();
    for (const place of path.places) context.lineTo(x(place[0]), y(place[1]));
    context.stroke();
  }
  const circle = (place, radius, fill) => {
    context.beginPath();
    context.arc(x(place[0]), y(place[1]), radius, 0, 2 * Math.PI);
    context.fillStyle = fill;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = colors.path;
    context.stroke();
  };
  path.places.forEach((place) => circle(place, 2.5, colors.path));
  circle(between(path.places, layer), 8, colors.paper);
  circle(between(path.places, layer), 3, colors.path);
}
