// Sets of points whose true log-density is known: the eight toy sets of the library, and drawings.
//
// A set draws points and knows the density that it draws from, so the divergence of a model from it
// is an average, not a guess. Most are mixtures of many equal Gaussians: a noisy curve has its
// centers close together along the curve, and a drawing has one at each of its points. The sets are
// those of realnvp.data.toy, moved and enlarged so that all of them fill the same square.

import { LOG_2PI } from "./random.mjs";

// A mixture of Gaussians of the same width: centers (x, y, x, y, ...), weights that add up to 1.
class Mixture {
  constructor(centers, weights, width) {
    Object.assign(this, { centers, width });
    this.logWeights = weights.map((w) => (w > 0 ? Math.log(w) : -Infinity));
    let sum = 0;
    this.sums = weights.map((w) => (sum += w));
  }

  draw(random) {
    const target = random.uniform() * this.sums[this.sums.length - 1];
    let low = 0;
    let high = this.sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.sums[middle] > target) high = middle;
      else low = middle + 1;
    }
    return [0, 1].map((axis) => this.centers[2 * low + axis] + this.width * random.normal());
  }

  logDensity(x, y) {
    const { centers, logWeights } = this;
    const rate = 0.5 / this.width ** 2;
    let top = -Infinity;
    const terms = logWeights.map((logWeight, k) => {
      const term = logWeight - rate * ((x - centers[2 * k]) ** 2 + (y - centers[2 * k + 1]) ** 2);
      if (term > top) top = term;
      return term;
    });
    let sum = 0;
    for (const term of terms) if (term > top - 40) sum += Math.exp(term - top);
    return top + Math.log(sum) - LOG_2PI - 2 * Math.log(this.width);
  }
}

// Equal Gaussians at equal angles.
function ring(count, radius, width, first) {
  const angles = Array.from({ length: count }, (_, k) => first + (2 * Math.PI * k) / count);
  const centers = angles.flatMap((a) => [radius * Math.cos(a), radius * Math.sin(a)]);
  return new Mixture(centers, angles.map(() => 1 / count), width);
}

// A noisy curve and its reflection in half of shift, as Simpson's rule with n + 1 nodes has them.
function twins(curve, shift, power, width, n) {
  const centers = [];
  const weights = [];
  for (let k = 0; k <= n; k++) {
    const t = k / n;
    const [x, y] = curve(t);
    centers.push(x, y, shift[0] - x, shift[1] - y);
    const weight = ((k % n === 0 ? 1 : 2 + 2 * (k % 2)) / (3 * n)) * power * t ** (power - 1);
    weights.push(weight / 2, weight / 2);
  }
  return new Mixture(centers, weights, width);
}

function circles() {
  const outer = ring(400, 1, 0.05, 0);
  const centers = [...outer.centers, ...outer.centers.map((c) => c / 2)];
  return new Mixture(centers, Array(800).fill(1 / 800), 0.05);
}

const turn = ([x, y], angle) => [
  Math.cos(angle) * x - Math.sin(angle) * y,
  Math.sin(angle) * x + Math.cos(angle) * y,
];

// Five Gaussian arms, twisted by a function of the radius, which preserves areas.
const pinwheel = {
  twist: (point, direction) =>
    turn(point, direction * 0.25 * Math.exp(Math.min(Math.hypot(...point), 5))),
  draw(random) {
    const arm = Math.floor(5 * random.uniform());
    const straight = [1 + 0.3 * random.normal(), 0.1 * random.normal()];
    return this.twist(turn(straight, (2 * Math.PI * arm) / 5), 1);
  },
  logDensity(x, y) {
    const point = this.twist([x, y], -1);
    let sum = 0;
    for (let arm = 0; arm < 5; arm++) {
      const [along, across] = turn(point, (-2 * Math.PI * arm) / 5);
      sum += Math.exp(-0.5 * (((along - 1) / 0.3) ** 2 + (across / 0.1) ** 2));
    }
    return Math.log(sum) - Math.log(5 * 2 * Math.PI * 0.03);
  },
};

const uniform = {
  draw: (random) => [2 * random.uniform() - 1, 2 * random.uniform() - 1],
  logDensity: (x, y) => (Math.max(Math.abs(x), Math.abs(y)) <= 1 ? -Math.log(4) : -Infinity),
};

const checkerboard = {
  draw(random) {
    const column = Math.floor(4 * random.uniform()) - 2;
    const row = 2 * Math.floor(2 * random.uniform() - 1) + Math.abs(column % 2);
    return [column + random.uniform(), row + random.uniform()];
  },
  logDensity(x, y) {
    const inside = Math.max(Math.abs(x), Math.abs(y)) <= 2;
    return inside && (Math.floor(x) + Math.floor(y)) % 2 === 0 ? -Math.log(8) : -Infinity;
  },
};

// A set, enlarged around the point that becomes the middle of the square.
class Placed {
  constructor(set, scale, middle = [0, 0]) {
    Object.assign(this, { set, scale, middle });
  }

  draw(random) {
    return this.set.draw(random).map((value, axis) => this.scale * (value - this.middle[axis]));
  }

  logDensity(x, y) {
    const [a, b] = [x, y].map((value, axis) => value / this.scale + this.middle[axis]);
    return this.set.logDensity(a, b) - 2 * Math.log(this.scale);
  }
}

const moon = (t) => [Math.cos(Math.PI * t), Math.sin(Math.PI * t)];
const arm = (t) => {
  const angle = 3 * Math.PI * t;
  return [(Math.cos(Math.PI - angle) * angle) / 3, (Math.sin(Math.PI - angle) * angle) / 3];
};

const MAKERS = {
  moons: () => new Placed(twins(moon, [1, 0.5], 1, 0.05, 400), 1.7, [0.5, 0.25]),
  circles: () => new Placed(circles(), 2.3),
  blobs: () => new Placed(ring(3, 1.8, 0.5, Math.PI / 2), 0.95, [0, 0.3]),
  uniform: () => new Placed(uniform, 2),
  spirals: () => new Placed(twins(arm, [0, 0], 2, 0.1, 600), 0.85),
  pinwheel: () => new Placed(pinwheel, 1.35),
  checkerboard: () => new Placed(checkerboard, 1.3),
  "eight-gaussians": () => new Placed(ring(8, 2, 0.2, 0), 1.15),
};

export const SETS = Object.keys(MAKERS);

// Width of the Gaussian at each point of a drawing.
export const BLUR = 0.13;

// Return the set of a name, or of the points of a drawing (x, y, x, y, ...).
export function makeSet(name, drawing = []) {
  if (name !== "drawing") return MAKERS[name]();
  const n = drawing.length / 2;
  return new Mixture(drawing, Array(n).fill(1 / n), BLUR);
}

// Return n points of a set, (x, y, x, y, ...).
export function drawPoints(set, random, n) {
  const points = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) points.set(set.draw(random), 2 * i);
  return points;
}
