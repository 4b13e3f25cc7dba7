// What is drawn of a flow, computed in small pieces so that the page answers in between.
//
// A coupling leaves behind a picture of the plane: where the data are by then, where samples are on
// their way back, the bent grid of the latents, and the density. Layer 0 is the data, the last one
// the latents. `compute` is a generator that yields after each piece.

import { Flow } from "./flow.mjs";
import { Random } from "./random.mjs";

// The plane that is shown: [-EDGE, EDGE] on both axes.
export const EDGE = 3.4;

export const POINTS = 500;

// Cells of the density, per side.
export const CELLS = 72;

const PIECE = 256; // points that are mapped at a time

// Lines of the grid in the latents: every half standard deviation, as polylines.
const LINES = (() => {
  const [reach, gap, fine] = [3, 0.5, 0.1];
  const lines = [];
  for (let c = -reach; c <= reach + 1e-9; c += gap) {
    const [across, down] = [[], []];
    for (let t = -reach; t <= reach + 1e-9; t += fine) {
      across.push(t, c);
      down.push(c, t);
    }
    lines.push(across, down);
  }
  return lines;
})();

export const LINE_POINTS = LINES[0].length / 2;

const LATENTS = new Random(7).normals(2 * POINTS); // the same all the time, so that samples move

const CENTERS = (() => {
  const centers = new Float64Array(2 * CELLS * CELLS);
  const at = (i) => EDGE * ((2 * i + 1) / CELLS - 1);
  for (let row = 0, i = 0; row < CELLS; row++) {
    for (let column = 0; column < CELLS; column++, i += 2) {
      centers[i] = at(column);
      centers[i + 1] = -at(row); // the first row is the top one
    }
  }
  return centers;
})();

export class Pictures {
  // data: points to show, (x, y, x, y, ...).
  constructor(flow, data) {
    this.flow = new Flow(flow.kind, flow.length, new Random(0));
    this.flow.weights.set(flow.weights);
    this.startData = data;
    this.densities = new Map();
  }

  get length() {
    return this.flow.length;
  }

  // Compute what is shown, first what is cheap; the density at this layer comes last.
  *compute(layer) {
    this.data = yield* this.forward(this.startData);
    this.samples = yield* this.inverse(LATENTS);
    this.grid = yield* this.inverse(Float64Array.from(LINES.flat()));
    yield* this.density(layer);
  }

  // Compute the density of what is left after `layer` couplings, at the centers of the cells.
  *density(layer) {
    if (this.densities.has(layer)) return;
    const values = new Float64Array(CELLS * CELLS);
    for (let at = 0; at < values.length; at += PIECE) {
      values.set(this.flow.logProb(CENTERS.subarray(2 * at, 2 * (at + PIECE)), layer), at);
      yield;
    }
    this.densities.set(layer, values);
  }

  // Return where points are at every layer, from the data on.
  *forward(points) {
    const places = [points];
    for (let k = 0; k < this.flow.length; k++) {
      const move = (part) => this.flow.forward(part, k, k + 1).points;
      places.push(yield* inPieces(places[k], move));
    }
    return places;
  }

  // Return where points of the latents come from, at every layer from the data on.
  *inverse(points) {
    const places = [points];
    for (let k = this.flow.length; k > 0; k--) {
      const move = (part) => this.flow.inverse(part, k, k - 1);
      places.unshift(yield* inPieces(places[0], move));
    }
    return places;
  }
}

function* inPieces(points, move) {
  const moved = new Float64Array(points.length);
  for (let at = 0; at < points.length; at += 2 * PIECE) {
    moved.set(move(points.subarray(at, at + 2 * PIECE)), at);
    yield;
  }
  return moved;
}

// Return points between layers: at 2.3, seven tenths of those at 2 and three of those at 3.
export function between(places, layer) {
  const k = Math.min(Math.floor(layer), places.length - 1);
  const fraction = layer - k;
  if (fraction === 0) return places[k];
  return places[k].map((value, i) => value + fraction * (places[k + 1][i] - value));
}
