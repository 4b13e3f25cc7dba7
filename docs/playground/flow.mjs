// Real NVP in the plane: couplings in turn, a standard normal behind the last.
//
// A coupling lets one coordinate pass, and maps the other with parameters that depend on the one
// that passes. So its Jacobian is triangular, its log-determinant one number, the log-slope of the
// map, and its inverse computes the same parameters. Points are (x, y, x, y, ...), in float64.

import { Conditioner } from "./conditioner.mjs";
import { LOG_2PI } from "./random.mjs";
import { spline } from "./spline.mjs";
import { affine, mixture } from "./transforms.mjs";

export const KINDS = { affine, mixture, spline };

export const HIDDEN = 32;

class Coupling {
  // passive: the coordinate that passes, 0 or 1.
  constructor(kind, passive, hidden) {
    Object.assign(this, { map: KINDS[kind], passive, active: 1 - passive });
    this.conditioner = new Conditioner(hidden, this.map.outputs);
    this.size = this.conditioner.size + this.map.shared.length;
  }

  // Bind to the flow's weights and gradients, of which these are parts.
  bind(weights, gradients) {
    const end = this.conditioner.size;
    this.weights = weights.subarray(0, end);
    this.shared = weights.subarray(end);
    this.gradients = gradients.subarray(0, end);
    this.sharedGradients = gradients.subarray(end);
  }

  initialize(random) {
    this.conditioner.initialize(this.weights, random);
    this.shared.set(this.map.shared);
  }

  parameters(passive) {
    return this.conditioner.forward(this.weights, passive);
  }

  // Move points in place, and return the log-determinant at each.
  forward(points) {
    const x = column(points, this.active);
    const logDet = new Float64Array(x.length);
    this.raw = this.parameters(column(points, this.passive));
    this.map.forward(x, this.raw, this.shared, x, logDet);
    put(points, this.active, x);
    return logDet;
  }

  // Move points back in place.
  inverse(points) {
    const z = column(points, this.active);
    this.map.inverse(z, this.parameters(column(points, this.passive)), this.shared, z);
    put(points, this.active, z);
  }

  // Turn the gradient of the outputs into that of the inputs, in place, and add those of weights.
  // points: the inputs of the last call of `forward`, whose activations are still there. toLogDet: the gradient of each log-determinant.
  backward(points, gradient, toLogDet) {
    const passive = column(points, this.passive);
    const x = column(points, this.active);
    const { raw } = this;
    const toX = new Float64Array(x.length);
    const toRaw = new Float64Array(raw.length);
    const toZ = column(gradient, this.active);
    const ends = [toZ, toLogDet, toX, toRaw, this.sharedGradients];
    this.map.backward(x, raw, this.shared, ...ends);
    const toPassive = this.conditioner.backward(this.weights, this.gradients, passive, toRaw);
    for (let i = 0; i < x.length; i++) {
      gradient[2 * i + this.active] = toX[i];
      gradient[2 * i + this.passive] += toPassive[i];
    }
  }
}

export class Flow {
  constructor(kind, couplings, random, hidden = HIDDEN) {
    this.kind = kind;
    this.couplings = Array.from(
      { length: couplings },
      (_, k) => new Coupling(kind, k % 2, hidden),
    );
    const size = this.couplings.reduce((sum, coupling) => sum + coupling.size, 0);
    this.weights = new Float64Array(size);
    this.gradients = new Float64Array(size);
    let at = 0;
    for (const coupling of this.couplings) {
      const part = [at, (at += coupling.size)];
      coupling.bind(this.weights.subarray(...part), this.gradients.subarray(...part));
      coupling.initialize(random);
    }
  }

  get length() {
    return this.couplings.length;
  }

  // Return the points after couplings `from` to `to`, and the sum of their log-determinants.
  forward(points, from = 0, to = this.length) {
    const moved = Float64Array.from(points);
    const logDet = new Float64Array(points.length / 2);
    for (const coupling of this.couplings.slice(from, to)) add(logDet, coupling.forward(moved));
    return { points: moved, logDet };
  }

  // Return the points from which couplings `to` to `from` lead to these.
  inverse(points, from = this.length, to = 0) {
    const moved = Float64Array.from(points);
    for (const coupling of this.couplings.slice(to, from).reverse()) coupling.inverse(moved);
    return moved;
  }

  // Return log-densities of points, of the data, or of what the first `from` couplings make of them.
  logProb(points, from = 0) {
    const { points: z, logDet } = this.forward(points, from);
    return add(logDet, logNormal(z));
  }

  // Return the way of a point: where it is before each coupling and after the last, and log-dets.
  path(point) {
    const places = [Float64Array.from(point)];
    const logDets = [];
    for (const coupling of this.couplings) {
      const next = Float64Array.from(places[places.length - 1]);
      logDets.push(coupling.forward(next)[0]);
      places.push(next);
    }
    const logPrior = logNormal(places[places.length - 1])[0];
    const logProb = logDets.reduce((sum, value) => sum + value, logPrior);
    return { places, logDets, logPrior, logProb };
  }

  // Return the mean of -log p of points, four or a multiple, and set the gradients of the weights.
  loss(points) {
    const n = points.length / 2;
    const inputs = [];
    const z = Float64Array.from(points);
    const total = new Float64Array(n);
    for (const coupling of this.couplings) {
      inputs.push(Float64Array.from(z));
      add(total, coupling.forward(z));
    }
    add(total, logNormal(z));
    this.gradients.fill(0);
    const gradient = z.map((value) => value / n);
    const toLogDet = new Float64Array(n).fill(-1 / n);
    for (let k = this.length - 1; k >= 0; k--) {
      this.couplings[k].backward(inputs[k], gradient, toLogDet);
    }
    return -mean(total);
  }
}

function column(points, axis) {
  const values = new Float64Array(points.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = points[2 * i + axis];
  return values;
}

function put(points, axis, values) {
  for (let i = 0; i < values.length; i++) points[2 * i + axis] = values[i];
}

function add(sum, values) {
  for (let i = 0; i < sum.length; i++) sum[i] += values[i];
  return sum;
}

// Return the standard normal's log-density of points.
function logNormal(points) {
  const values = new Float64Array(points.length / 2);
  for (let i = 0; i < values.length; i++) {
    values[i] = -LOG_2PI - 0.5 * (points[2 * i] ** 2 + points[2 * i + 1] ** 2);
  }
  return values;
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
