// Training: Adam on the mean of -log p, one batch of fresh points a step.
//
// The rate falls like one over the square root of the number of steps. What the page shows is the
// flow with the running average of the weights, which is closer to the truth than that of any step.

import { Flow, mean } from "./flow.mjs";
import { Random } from "./random.mjs";
import { drawPoints } from "./sets.mjs";

export const BATCH = 256;

const HELD_OUT = 500;

const AVERAGED = 0.03; // part of the newest weights in their running average

const LARGEST_NORM = 5; // of a gradient; a longer one is shortened

class Adam {
  constructor(size) {
    this.first = new Float64Array(size);
    this.second = new Float64Array(size);
    this.steps = 0;
  }

  update(weights, gradients, rate) {
    const [b1, b2] = [0.9, 0.99];
    let norm = 0;
    for (const g of gradients) norm += g * g;
    const shorter = Math.min(1, LARGEST_NORM / Math.sqrt(norm));
    this.steps += 1;
    const step = rate / (1 - b1 ** this.steps);
    const unbiased = 1 / (1 - b2 ** this.steps);
    for (let i = 0; i < weights.length; i++) {
      const g = shorter * gradients[i];
      this.first[i] += (1 - b1) * (g - this.first[i]);
      this.second[i] += (1 - b2) * (g * g - this.second[i]);
      weights[i] -= (step * this.first[i]) / (Math.sqrt(unbiased * this.second[i]) + 1e-8);
    }
  }
}

export class Training {
  constructor({ set, kind, couplings, seed }) {
    this.random = new Random(seed);
    this.flow = new Flow(kind, couplings, this.random);
    this.average = new Flow(kind, couplings, this.random);
    this.average.weights.set(this.flow.weights);
    this.adam = new Adam(this.flow.weights.length);
    this.history = []; // { step, loss, kl }
    this.replaceSet(set);
    this.measure();
  }

  // Train on another set from here on, with the weights as they are.
  replaceSet(set) {
    this.set = set;
    this.heldOut = drawPoints(set, new Random(1), HELD_OUT);
    const truth = Array.from({ length: HELD_OUT }, (_, i) =>
      set.logDensity(this.heldOut[2 * i], this.heldOut[2 * i + 1]),
    );
    this.truth = mean(truth);
  }

  get step() {
    return this.adam.steps;
  }

  // Take one step, at a rate that was this at the start. Return whether the loss was finite; if it
  // was not, nothing is changed.
  advance(rate) {
    const loss = this.flow.loss(drawPoints(this.set, this.random, BATCH));
    if (!Number.isFinite(loss) || !this.flow.gradients.every(Number.isFinite)) return false;
    this.adam.update(this.flow.weights, this.flow.gradients, rate / Math.sqrt(1 + this.step / 50));
    const { weights } = this.average;
    for (let i = 0; i < weights.length; i++) {
      weights[i] += AVERAGED * (this.flow.weights[i] - weights[i]);
    }
    if (this.step % 10 === 0) this.measure();
    return true;
  }

  // Add the mean of -log p of held-out points to the history, and the divergence from the truth.
  measure() {
    const loss = -mean(this.average.logProb(this.heldOut));
    this.history.push({ step: this.step, loss, kl: this.truth + loss });
  }
}
