// The rational-quadratic spline of Neural Spline Flows, with the interface of transforms.mjs.
//
// On [-BOUND, BOUND] the map is a quotient of quadratics between knots; outside it is the identity.
// Widths and heights of the bins are softmax outputs, slopes at the knots softplus outputs.

const BINS = 8;
const BOUND = 5;
const LEAST = 1e-3; // of a slope, and of a bin as a fraction of all of them
const ONE = Math.log(Math.E - 1); // softplus of this is 1

const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

// One example's knots. Reused from row to row.
class Knots {
  constructor() {
    for (const name of ["x", "y", "slopes"]) this[name] = new Float64Array(BINS + 1);
    for (const name of ["widths", "heights"]) this[name] = new Float64Array(BINS);
    this.slopes[0] = this.slopes[BINS] = 1;
  }

  read(raw, at) {
    place(raw, at, this.widths, this.x);
    place(raw, at + BINS, this.heights, this.y);
    for (let k = 1; k < BINS; k++) {
      this.slopes[k] = LEAST + (1 - LEAST) * softplus(raw[at + 2 * BINS + k - 1] + ONE);
    }
  }

  // Set the bin of a value, given the knots' places on its side.
  bin(value, places) {
    let k = 0;
    while (k < BINS - 1 && value >= places[k + 1]) k++;
    Object.assign(this, { k, x0: this.x[k], y0: this.y[k] });
    this.d0 = this.slopes[k];
    this.d1 = this.slopes[k + 1];
    this.width = this.x[k + 1] - this.x0;
    this.height = this.y[k + 1] - this.y0;
    this.rise = this.height / this.width;
    this.bend = this.d0 + this.d1 - 2 * this.rise;
  }

  // Set what the value and the slope at a place t of the bin, 0 to 1, are made of.
  evaluate(t) {
    const u = t * (1 - t);
    this.below = this.rise + this.bend * u;
    this.above = this.rise * t * t + this.d0 * u;
    this.steep = this.d1 * t * t + 2 * this.rise * u + this.d0 * (1 - t) * (1 - t);
  }
}

// Write fractions (softmax) and the knots that they lead to.
function place(raw, at, fractions, knots) {
  let top = -Infinity;
  for (let k = 0; k < BINS; k++) if (raw[at + k] > top) top = raw[at + k];
  let total = 0;
  for (let k = 0; k < BINS; k++) total += fractions[k] = Math.exp(raw[at + k] - top);
  let sum = 0;
  knots[0] = -BOUND;
  for (let k = 0; k < BINS; k++) {
    fractions[k] /= total;
    sum += LEAST + (1 - LEAST * BINS) * fractions[k];
    knots[k + 1] = k === BINS - 1 ? BOUND : BOUND * (2 * sum - 1);
  }
}

// Gradients of a row's raw values, given those of the knots at both ends of bin k.
function placeBackward(k, left, right, fractions, graw, at) {
  const toLeft = k === 0 ? 0 : 2 * BOUND * left; // the first and the last knot do not move
  const toRight = k === BINS - 1 ? 0 : 2 * BOUND * right;
  let mean = 0;
  for (let j = 0; j < BINS; j++) {
    graw[at + j] = (j < k ? toLeft : 0) + (j <= k ? toRight : 0);
    mean += fractions[j] * graw[at + j];
  }
  for (let j = 0; j < BINS; j++) {
    graw[at + j] = (1 - LEAST * BINS) * fractions[j] * (graw[at + j] - mean);
  }
}

const knots = new Knots();

export const spline = {
  outputs: 3 * BINS - 1,
  shared: [],

  forward(x, raw, shared, z, logSlope) {
    for (let i = 0; i < x.length; i++) {
      z[i] = x[i];
      logSlope[i] = 0;
      if (!(Math.abs(x[i]) < BOUND)) continue;
      knots.read(raw, i * this.outputs);
      knots.bin(x[i], knots.x);
      knots.evaluate((x[i] - knots.x0) / knots.width);
      z[i] = knots.y0 + (knots.height * knots.above) / knots.below;
      logSlope[i] =
        2 * Math.log(knots.rise) + Math.log(knots.steep) - 2 * Math.log(knots.below);
    }
  },

  backward(x, raw, shared, gz, gl, gx, graw) {
    const c = knots;
    for (let i = 0; i < x.length; i++) {
      const at = i * this.outputs;
      graw.fill(0, at, at + this.outputs);
      gx[i] = gz[i];
      if (!(Math.abs(x[i]) < BOUND)) continue;
      c.read(raw, at);
      c.bin(x[i], c.x);
      const t = (x[i] - c.x0) / c.width;
      const u = t * (1 - t);
      c.evaluate(t);
      // From the value and the log-slope back to the bin's place, size and slopes.
      const gAbove = (gz[i] * c.height) / c.below;
      const gBelow = -(gAbove * c.above + 2 * gl[i]) / c.below;
      const gSteep = gl[i] / c.steep;
      const gBend = gBelow * u;
      const gRise =
        (2 * gl[i]) / c.rise + 2 * gSteep * u + gBelow + gAbove * t * t - 2 * gBend;
      const gd0 = gSteep * (1 - t) * (1 - t) + gAbove * u + gBend;
      const gd1 = gSteep * t * t + gBend;
      const gu = 2 * gSteep * c.rise + gAbove * c.d0 + gBelow * c.bend;
      const gt =
        2 * gSteep * (c.d1 * t - c.d0 * (1 - t)) + 2 * gAbove * c.rise * t + gu * (1 - 2 * t);
      const gHeight = (gz[i] * c.above) / c.below + gRise / c.width;
      const gWidth = -(gt * t + gRise * c.rise) / c.width;
      gx[i] = gt / c.width;
      placeBackward(c.k, -gx[i] - gWidth, gWidth, c.widths, graw, at);
      placeBackward(c.k, gz[i] - gHeight, gHeight, c.heights, graw, at + BINS);
      slopeBackward(c.k, gd0, raw, graw, at + 2 * BINS);
      slopeBackward(c.k + 1, gd1, raw, graw, at + 2 * BINS);
    }
  },

  inverse(z, raw, shared, x) {
    const c = knots;
    for (let i = 0; i < z.length; i++) {
      x[i] = z[i];
      if (!(Math.abs(z[i]) < BOUND)) continue;
      c.read(raw, i * this.outputs);
      c.bin(z[i], c.y);
      const rise = z[i] - c.y0;
      const quadratic = c.height * (c.rise - c.d0) + rise * c.bend;
      const linear = c.height * c.d0 - rise * c.bend;
      const root = Math.sqrt(Math.max(linear * linear + 4 * quadratic * c.rise * rise, 0));
      x[i] = c.x0 + (c.width * 2 * c.rise * rise) / (linear + root);
    }
  },
};

function slopeBackward(k, gradient, raw, graw, at) {
  if (k === 0 || k === BINS) return; // the slopes at both ends are 1
  graw[at + k - 1] = (gradient * (1 - LEAST)) / (1 + Math.exp(-raw[at + k - 1] - ONE));
}
