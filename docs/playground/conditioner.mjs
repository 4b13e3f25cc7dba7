// The network of a coupling: from the coordinate that passes to the parameters of the other's map.
//
// Two hidden layers with SiLU, x * sigmoid(x). The last layer starts at zero, so that a coupling
// starts as the identity. Everything is batched, in float64, and the gradient is written by hand:
// `backward` repeats the steps of `forward` in reverse order.

export class Conditioner {
  // hidden: units of each layer; outputs: number of parameters.
  constructor(hidden, outputs) {
    Object.assign(this, { hidden, outputs });
    this.size = 2 * hidden + (hidden + 1) * hidden + (hidden + 1) * outputs;
    this.kept = {};
  }

  // Name the parts of all weights, or of their gradients: rows of a matrix are its outputs.
  parts(all) {
    const { hidden: h, outputs: o } = this;
    const ends = [h, h, h * h, h, h * o, o];
    let at = 0;
    return ends.map((size) => all.subarray(at, (at += size)));
  }

  // Draw weights as PyTorch's linear layers do; the last layer is zero.
  initialize(all, random) {
    const [w1, b1, w2, b2, w3, b3] = this.parts(all);
    const width = (values, bound) => {
      for (let i = 0; i < values.length; i++) values[i] = bound * (2 * random.uniform() - 1);
    };
    width(w1, 1);
    width(b1, 1);
    width(w2, 1 / Math.sqrt(this.hidden));
    width(b2, 1 / Math.sqrt(this.hidden));
    w3.fill(0);
    b3.fill(0);
  }

  // Return the parameters of n examples, n * outputs; they are overwritten by the next call.
  forward(all, x) {
    const { hidden: h, outputs: o } = this;
    const [w1, b1, w2, b2, w3, b3] = this.parts(all);
    const n = x.length;
    const { a1, s1, h1, a2, s2, h2, out } = this.buffers(n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < h; j++) a1[i * h + j] = w1[j] * x[i] + b1[j];
    }
    silu(a1, s1, h1, n * h);
    linear(h1, w2, b2, a2, n, h, h);
    silu(a2, s2, h2, n * h);
    linear(h2, w3, b3, out, n, h, o);
    return out.subarray(0, n * o);
  }

  // Add the gradients of the weights to `gradients`, and return that of x, after `forward`.
  backward(all, gradients, x, upstream) {
    const { hidden: h, outputs: o } = this;
    const [w1, , w2, , w3] = this.parts(all);
    const [g1, c1, g2, c2, g3, c3] = this.parts(gradients);
    const n = x.length;
    const { a1, s1, h1, a2, s2, h2, d1, d2, dx } = this.buffers(n);
    linearBackward(h2, w3, upstream, g3, c3, d2, n, h, o);
    siluBackward(a2, s2, d2, n * h);
    linearBackward(h1, w2, d2, g2, c2, d1, n, h, h);
    siluBackward(a1, s1, d1, n * h);
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < h; j++) {
        const d = d1[i * h + j];
        g1[j] += d * x[i];
        c1[j] += d;
        sum += d * w1[j];
      }
      dx[i] = sum;
    }
    return dx;
  }

  // Return arrays for n examples, which are kept for the next call.
  buffers(n) {
    if (!(this.kept.n >= n)) {
      const of = (width) => new Float64Array(n * width);
      const [a1, s1, h1, a2, s2, h2, d1, d2] = Array.from({ length: 8 }, () => of(this.hidden));
      this.kept = { n, a1, s1, h1, a2, s2, h2, d1, d2, out: of(this.outputs), dx: of(1) };
    }
    return this.kept;
  }
}

// y = a * sigmoid(a); s keeps the sigmoid.
function silu(a, s, y, size) {
  for (let i = 0; i < size; i++) {
    s[i] = 1 / (1 + Math.exp(-a[i]));
    y[i] = a[i] * s[i];
  }
}

function siluBackward(a, s, d, size) {
  for (let i = 0; i < size; i++) d[i] *= s[i] * (1 + a[i] * (1 - s[i]));
}

// y = x w^T + b for n rows; four outputs at a time, so that each x is read once for four products.
function linear(x, w, b, y, n, inputs, outputs) {
  for (let i = 0; i < n; i++) {
    const row = i * inputs;
    const to = i * outputs;
    let j = 0;
    for (; j + 4 <= outputs; j += 4) {
      let [at0, at1, at2, at3] = [j * inputs, (j + 1) * inputs, (j + 2) * inputs, (j + 3) * inputs];
      let [sum0, sum1, sum2, sum3] = [b[j], b[j + 1], b[j + 2], b[j + 3]];
      for (let k = row; k < row + inputs; k++) {
        const value = x[k];
        sum0 += w[at0++] * value;
        sum1 += w[at1++] * value;
        sum2 += w[at2++] * value;
        sum3 += w[at3++] * value;
      }
      y[to + j] = sum0;
      y[to + j + 1] = sum1;
      y[to + j + 2] = sum2;
      y[to + j + 3] = sum3;
    }
    for (; j < outputs; j++) {
      let sum = b[j];
      for (let k = 0; k < inputs; k++) sum += w[j * inputs + k] * x[row + k];
      y[to + j] = sum;
    }
  }
}

// Add the gradients of w and b to dw and db, and write that of x; n is a multiple of four.
function linearBackward(x, w, dy, dw, db, dx, n, inputs, outputs) {
  dx.fill(0, 0, n * inputs);
  for (let i = 0; i < n; i += 4) {
    const [row0, row1, row2, row3] = [0, 1, 2, 3].map((m) => (i + m) * inputs);
    const [to0, to1, to2, to3] = [0, 1, 2, 3].map((m) => (i + m) * outputs);
    for (let j = 0; j < outputs; j++) {
      const d0 = dy[to0 + j];
      const d1 = dy[to1 + j];
      const d2 = dy[to2 + j];
      const d3 = dy[to3 + j];
      db[j] += d0 + d1 + d2 + d3;
      const at = j * inputs;
      for (let k = 0; k < inputs; k++) {
        const weight = w[at + k];
        dw[at + k] += d0 * x[row0 + k] + d1 * x[row1 + k] + d2 * x[row2 + k] + d3 * x[row3 + k];
        dx[row0 + k] += d0 * weight;
        dx[row1 + k] += d1 * weight;
        dx[row2 + k] += d2 * weight;
        dx[row3 + k] += d3 * weight;
      }
    }
  }
}
