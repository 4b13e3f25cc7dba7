// The elementwise maps of couplings: affine, mixture of logistics, rational-quadratic spline.
//
// Each maps one coordinate x to z, increasing, with parameters that a conditioner gives for every
// example (`raw`, a row each) and a few learned factors (`shared`). Zeros give the identity.
//
//   forward(x, raw, shared, z, logSlope)        z and log dz/dx
//   backward(x, raw, shared, gz, gl, gx, graw, gshared)
//                                               gradients, given those of z (gz) and log dz/dx (gl)
//   inverse(z, raw, shared, x)                  x
//
// The formulas are those of realnvp.bijections, and a test compares the two.

// Real NVP's: z = x exp(s) + t, s = scale * tanh(raw s), so that s is bounded smoothly.
export const affine = {
  outputs: 2,
  shared: [1],

  forward(x, raw, shared, z, logSlope) {
    for (let i = 0; i < x.length; i++) {
      const s = shared[0] * Math.tanh(raw[2 * i]);
      z[i] = x[i] * Math.exp(s) + raw[2 * i + 1];
      logSlope[i] = s;
    }
  },

  backward(x, raw, shared, gz, gl, gx, graw, gshared) {
    for (let i = 0; i < x.length; i++) {
      const squashed = Math.tanh(raw[2 * i]);
      const factor = Math.exp(shared[0] * squashed);
      const gs = gz[i] * x[i] * factor + gl[i];
      gx[i] = gz[i] * factor;
      graw[2 * i] = gs * shared[0] * (1 - squashed * squashed);
      graw[2 * i + 1] = gz[i];
      gshared[0] += gs * squashed;
    }
  },

  inverse(z, raw, shared, x) {
    for (let i = 0; i < z.length; i++) {
      x[i] = (z[i] - raw[2 * i + 1]) * Math.exp(-shared[0] * Math.tanh(raw[2 * i]));
    }
  },
};

const COMPONENTS = 5;

// log sigmoid(u), exact in both tails.
const logSigmoid = (u) => (u < 0 ? u - Math.log1p(Math.exp(u)) : -Math.log1p(Math.exp(-u)));

function logSumExp(values) {
  let top = -Infinity;
  for (const value of values) if (value > top) top = value;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - top);
  return top + Math.log(sum);
}

// What one example's row says: weights, means, widths. Reused from row to row.
class Logistics {
  constructor() {
    const names = ["logWeight", "mean", "bend", "logWidth", "below", "above", "inside", "u"];
    for (const name of names) this[name] = new Float64Array(COMPONENTS);
  }

  // Read the row that begins at `at`: raw s, t, then weights, means and widths.
  read(raw, at, shared) {
    const K = COMPONENTS;
    for (let k = 0; k < K; k++) this.logWeight[k] = raw[at + 2 + k];
    const total = logSumExp(this.logWeight);
    for (let k = 0; k < K; k++) {
      this.logWeight[k] -= total;
      this.mean[k] = raw[at + 2 + K + k] * shared[1 + k];
      this.bend[k] = Math.tanh((raw[at + 2 + 2 * K + k] * shared[1 + K + k]) / 5);
      this.logWidth[k] = 5 * this.bend[k];
    }
  }

  // Set `value`, the logit of the distribution function at x, and `logSlope`, its derivative's log.
  evaluate(x) {
    for (let k = 0; k < COMPONENTS; k++) {
      const u = (x - this.mean[k]) * Math.exp(-this.logWidth[k]);
      const below = logSigmoid(u);
      this.u[k] = u;
      this.below[k] = this.logWeight[k] + below;
      this.above[k] = this.logWeight[k] + below - u;
      this.inside[k] = this.logWeight[k] + 2 * below - u - this.logWidth[k];
    }
    this.logBelow = logSumExp(this.below);
    this.logAbove = logSumExp(this.above);
    this.logInside = logSumExp(this.inside);
    this.value = this.logBelow - this.logAbove;
    this.logSlope = this.logInside - this.logBelow - this.logAbove;
  }

  // Return x with this value: Newton's method between bounds, and their middle where a step leaves
  // them or is not at most half as long as the one before.
  solve(value) {
    let low = Infinity;
    let high = -Infinity;
    for (let k = 0; k < COMPONENTS; k++) {
      const x = this.mean[k] + Math.exp(this.logWidth[k]) * value;
      low = Math.min(low, x);
      high = Math.max(high, x);
    }
    let x = 0.5 * (low + high);
    let moved = high - low;
    for (let step = 0; step < 200; step++) {
      this.evaluate(x);
      const error = this.value - value;
      if (error > 0) high = x;
      else low = x;
      let next = x - error * Math.exp(-this.logSlope);
      const isGood = next >= low && next <= high && Math.abs(next - x) <= 0.5 * moved;
      if (!isGood) next = 0.5 * (low + high);
      moved = Math.abs(next - x);
      x = next;
      if (moved <= 1e-14 * (1 + Math.abs(x))) break;
    }
    return x;
  }
}

const logistics = new Logistics();

// Flow++'s: the logit of a mixture of logistics' distribution function, then an affine map.
export const mixture = {
  outputs: 2 + 3 * COMPONENTS,
  // Factors on means and widths differ, so that components with equal gradients part.
  shared: [1, 0, 1].flatMap((kind, part) => {
    if (part === 0) return [1];
    const spread = Array.from({ length: COMPONENTS }, (_, k) => 0.25 + (1.5 * k) / (COMPONENTS - 1));
    return kind === 0 ? spread : spread.reverse();
  }),

  forward(x, raw, shared, z, logSlope) {
    for (let i = 0; i < x.length; i++) {
      const at = i * this.outputs;
      const s = shared[0] * Math.tanh(raw[at]);
      logistics.read(raw, at, shared);
      logistics.evaluate(x[i]);
      z[i] = logistics.value * Math.exp(s) + raw[at + 1];
      logSlope[i] = logistics.logSlope + s;
    }
  },

  backward(x, raw, shared, gz, gl, gx, graw, gshared) {
    const K = COMPONENTS;
    const m = logistics;
    for (let i = 0; i < x.length; i++) {
      const at = i * this.outputs;
      const squashed = Math.tanh(raw[at]);
      const factor = Math.exp(shared[0] * squashed);
      m.read(raw, at, shared);
      m.evaluate(x[i]);
      const gs = gz[i] * m.value * factor + gl[i];
      graw[at] = gs * shared[0] * (1 - squashed * squashed);
      graw[at + 1] = gz[i];
      gshared[0] += gs * squashed;
      const toBelow = gz[i] * factor - gl[i];
      const toAbove = -gz[i] * factor - gl[i];
      let sum = 0;
      gx[i] = 0;
      for (let k = 0; k < K; k++) {
        const fromBelow = toBelow * Math.exp(m.below[k] - m.logBelow);
        const fromAbove = toAbove * Math.exp(m.above[k] - m.logAbove);
        const fromInside = gl[i] * Math.exp(m.inside[k] - m.logInside);
        const rate = Math.exp(-m.logWidth[k]);
        const p = 1 / (1 + Math.exp(-m.u[k]));
        const gu = fromBelow * (1 - p) - fromAbove * p + fromInside * (1 - 2 * p);
        const gLogWeight = fromBelow + fromAbove + fromInside;
        const gWidth = (-fromInside - gu * m.u[k]) * (1 - m.bend[k] * m.bend[k]);
        gx[i] += gu * rate;
        sum += gLogWeight;
        graw[at + 2 + k] = gLogWeight;
        graw[at + 2 + K + k] = -gu * rate * shared[1 + k];
        gshared[1 + k] -= gu * rate * raw[at + 2 + K + k];
        graw[at + 2 + 2 * K + k] = gWidth * shared[1 + K + k];
        gshared[1 + K + k] += gWidth * raw[at + 2 + 2 * K + k];
      }
      for (let k = 0; k < K; k++) graw[at + 2 + k] -= Math.exp(m.logWeight[k]) * sum;
    }
  },

  inverse(z, raw, shared, x) {
    for (let i = 0; i < z.length; i++) {
      const at = i * this.outputs;
      const s = shared[0] * Math.tanh(raw[at]);
      logistics.read(raw, at, shared);
      x[i] = logistics.solve((z[i] - raw[at + 1]) * Math.exp(-s));
    }
  },
};
