// Checks of the playground's modules, which test_playground.py runs: node playground_checks.mjs NAME [KIND]

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { fromAddress, START, toAddress } from "../../docs/playground/address.mjs";
import { Flow, mean } from "../../docs/playground/flow.mjs";
import { between, CELLS, EDGE, Pictures } from "../../docs/playground/pictures.mjs";
import { Random } from "../../docs/playground/random.mjs";
import { drawPoints, makeSet, SETS } from "../../docs/playground/sets.mjs";
import { Training } from "../../docs/playground/training.mjs";

// A flow with random weights in all layers, the last ones included.
function randomFlow(kind, couplings = 4, hidden = 6, size = 0.4) {
  const random = new Random(3);
  const flow = new Flow(kind, couplings, random, hidden);
  flow.weights.forEach((weight, i) => {
    flow.weights[i] = weight + size * random.normal();
  });
  return flow;
}

function close(actual, expected, tolerance, of = "") {
  const error = Math.abs(actual - expected);
  assert.ok(error <= tolerance * (1 + Math.abs(expected)), `${of}: ${actual} is not ${expected}`);
}

// Centers of n by n cells of [-edge, edge]^2, and the area of one.
function cells(edge, n) {
  const at = (i) => edge * ((2 * i + 1) / n - 1);
  const centers = Float64Array.from({ length: 2 * n * n }, (_, i) =>
    at(i % 2 ? Math.floor(i / 2 / n) : (i >> 1) % n),
  );
  return { centers, area: (2 * edge / n) ** 2 };
}

const CHECKS = {
  identity(kind) {
    const points = new Random(0).normals(40);
    const { points: z, logDet } = new Flow(kind, 5, new Random(1)).forward(points);
    z.forEach((value, i) => close(value, points[i], 1e-12));
    logDet.forEach((value) => close(value, 0, 1e-12));
  },

  gradient(kind) {
    const flow = randomFlow(kind);
    const points = new Random(2).normals(16).map((value) => 2 * value);
    flow.loss(points);
    const gradients = Float64Array.from(flow.gradients);
    let largest = 0;
    flow.weights.forEach((weight, i) => {
      const loss = (moved) => {
        flow.weights[i] = weight + moved;
        return -mean(flow.logProb(points));
      };
      const expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
      flow.weights[i] = weight;
      close(gradients[i], expected, 1e-7, `weight ${i}`);
      largest = Math.max(largest, Math.abs(expected));
    });
    assert.ok(largest > 0.1);
  },

  inverse(kind) {
    const points = new Random(5).normals(400).map((value) => 2.5 * value);
    const mild = randomFlow(kind, 4, 6, 0.2);
    const { points: z } = mild.forward(points);
    mild.inverse(z).forEach((value, i) => close(value, points[i], 1e-9));
    const flow = randomFlow(kind);
    flow.forward(flow.inverse(points)).points.forEach((value, i) => close(value, points[i], 1e-9));
  },

  jacobian(kind) {
    const flow = randomFlow(kind);
    const points = new Random(6).normals(40).map((value) => 2 * value);
    const { logDet } = flow.forward(points);
    const step = 1e-6;
    for (let i = 0; i < points.length; i += 2) {
      const [[a, b], [c, d]] = [0, 1].map((axis) => {
        const move = (by) => {
          const point = points.slice(i, i + 2);
          point[axis] += by;
          return flow.forward(point).points;
        };
        const [ahead, behind] = [move(step), move(-step)];
        return [0, 1].map((out) => (ahead[out] - behind[out]) / (2 * step));
      });
      close(logDet[i / 2], Math.log(a * d - b * c), 1e-6);
      const path = flow.path(points.slice(i, i + 2));
      close(path.logProb, flow.logProb(points)[i / 2], 1e-12);
      close(mean(path.logDets) * flow.length, logDet[i / 2], 1e-12);
    }
  },

  integral(kind) {
    const flow = randomFlow(kind, 2, 6, 0.2);
    const { centers, area } = cells(20, 500); // logistics have long tails
    for (const layer of [0, 1]) {
      const sum = flow.logProb(centers, layer).reduce((all, value) => all + Math.exp(value), 0);
      close(sum * area, 1, 2e-3, `layer ${layer}`);
    }
  },

  training(kind) {
    const training = new Training({ set: makeSet("moons"), kind, couplings: 4, seed: 1 });
    const first = training.history[0].kl;
    for (let step = 0; step < 250; step++) assert.ok(training.advance(0.02));
    const { kl, loss, step } = training.history[training.history.length - 1];
    assert.equal(step, 250);
    assert.ok(first > 1.5 && kl < 0.45 && kl > -0.1, `from ${first} to ${kl}`);
    close(loss - kl, -training.truth, 1e-12);
    const again = new Training({ set: makeSet("moons"), kind, couplings: 4, seed: 1 });
    for (let step = 0; step < 10; step++) again.advance(0.02);
    assert.equal(again.history[1].loss, training.history[1].loss);
  },

  pictures(kind) {
    const flow = randomFlow(kind, 3);
    const pictures = new Pictures(flow, new Random(9).normals(100));
    flow.weights.fill(0); // pictures keep the weights that they began with
    const pieces = [...pictures.compute(1)].length;
    assert.ok(pieces > 20, `${pieces} pieces`);
    const { data, samples, grid, densities } = pictures;
    for (const places of [data, samples, grid]) {
      assert.equal(places.length, 4);
      const z = pictures.flow.forward(places[1], 1).points;
      z.forEach((value, i) => close(value, places[3][i], 1e-9));
    }
    assert.deepEqual(between(data, 2), data[2]);
    close(between(data, 2.25)[0], 0.75 * data[2][0] + 0.25 * data[3][0], 1e-12);
    assert.deepEqual([...densities.keys()], [1]);
    const top = pictures.flow.logProb(Float64Array.of(-EDGE + EDGE / CELLS, EDGE - EDGE / CELLS), 1);
    close(densities.get(1)[0], top[0], 1e-12);
  },

  sets() {
    for (const name of SETS) {
      const set = makeSet(name);
      const { centers, area } = cells(4, 160);
      let [sum, entropy, square] = [0, 0, 0];
      for (let i = 0; i < centers.length; i += 2) {
        const value = set.logDensity(centers[i], centers[i + 1]);
        const p = Math.exp(value) * area;
        sum += p;
        if (p > 0) [entropy, square] = [entropy - p * value, square + p * value * value];
      }
      close(sum, 1, 0.01, name); // cells at the edges of the uniform sets are only partly inside
      [entropy, square] = [entropy / sum, square / sum];
      const points = drawPoints(set, new Random(4), 3000);
      const drawn = mean(Float64Array.from({ length: 3000 }, (_, i) => -set.logDensity(points[2 * i], points[2 * i + 1])));
      const error = Math.sqrt(Math.max(square - entropy * entropy, 0) / 3000);
      assert.ok(Math.abs(drawn - entropy) < 4 * error + 0.02, `${name}: ${drawn}, ${entropy}`);
      const inside = points.filter((value) => Math.abs(value) <= EDGE).length;
      assert.ok(inside > 0.99 * points.length, name);
    }
  },

  address() {
    const plain = { ...START, layer: 1.5, show: ["grid"], point: [0.25, -3], kind: "spline", steps: 30 };
    assert.deepEqual(fromAddress(`#${toAddress(plain)}`), plain);
    assert.deepEqual(fromAddress(""), START);
    const drawing = Array.from(new Random(1).normals(80));
    const drawn = fromAddress(toAddress({ ...START, set: "drawing", drawing }));
    assert.equal(drawn.set, "drawing");
    drawing.forEach((value, i) => assert.ok(Math.abs(drawn.drawing[i] - value) < 1e-3));
    for (const wrong of ["#set=x", "#kind=constructor", "#couplings=9", "#couplings=1.5", "#layer=7", "#rate=1",
      "#steps=-1", "#point=1", "#point=a_b", "#points=%%%", "#set=drawing", "#show=x", "#seed=", "#="]) {
      assert.deepEqual({ ...fromAddress(wrong), seed: 1 }, START, wrong);
    }
  },

  // Print what the library's couplings should give, for weights and points on standard input.
  parity() {
    const given = JSON.parse(readFileSync(0, "utf8"));
    const flow = new Flow(given.kind, given.couplings, new Random(0), given.hidden);
    assert.equal(given.weights.length, flow.weights.length);
    flow.weights.set(given.weights);
    const { points: z, logDet } = flow.forward(given.points);
    const x = flow.inverse(given.points);
    const print = { z, logDet, x, logProb: flow.logProb(given.points) };
    console.log(JSON.stringify(print, (_, value) => (ArrayBuffer.isView(value) ? [...value] : value)));
  },

  // Print log-densities of sets, and how these are placed.
  densities() {
    const given = JSON.parse(readFileSync(0, "utf8"));
    const found = Object.entries(given).map(([name, points]) => {
      const { scale, middle, set } = makeSet(name);
      return [name, { scale, middle, values: points.map(([x, y]) => set.logDensity(x, y)) }];
    });
    console.log(JSON.stringify(Object.fromEntries(found)));
  },
};

CHECKS[process.argv[2]](process.argv[3]);
