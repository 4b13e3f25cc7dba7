// The state of the page, and the address that returns to it.

import { KINDS } from "./flow.mjs";
import { SETS } from "./sets.mjs";

export const RATES = [0.002, 0.005, 0.01, 0.02, 0.05];

export const SHOWN = ["data", "samples", "density", "grid"];

export const MOST_POINTS = 600; // of a drawing

export const MOST_COUPLINGS = 8;

export const MOST_STEPS = 20000;

export const START = {
  set: "moons",
  drawing: [],
  kind: "affine",
  couplings: 6,
  rate: 0.02,
  seed: 1,
  steps: 600,
  layer: 0,
  show: ["data", "density", "grid"],
  point: [-0.4, 1.3],
};

const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";

const RANGE = 4; // coordinates of drawings are within -4 and 4

// Two digits in base 64 for each coordinate.
function pack(drawing) {
  const digits = (value) => {
    const whole = Math.round(((value + RANGE) / (2 * RANGE)) * 4095);
    const clipped = Math.min(4095, Math.max(0, whole));
    return DIGITS[clipped >> 6] + DIGITS[clipped & 63];
  };
  return drawing.map(digits).join("");
}

function unpack(text) {
  const values = [];
  if ([...text].some((digit) => !DIGITS.includes(digit))) return values;
  for (let i = 0; i + 1 < text.length; i += 2) {
    const whole = 64 * DIGITS.indexOf(text[i]) + DIGITS.indexOf(text[i + 1]);
    values.push((whole / 4095) * 2 * RANGE - RANGE);
  }
  return values.slice(0, Math.min(2 * Math.floor(values.length / 2), 2 * MOST_POINTS));
}

// Return the part of an address after #.
export function toAddress(state) {
  const parts = {
    set: state.set,
    kind: state.kind,
    couplings: state.couplings,
    rate: state.rate,
    seed: state.seed,
    steps: state.steps,
    layer: Math.round(100 * state.layer) / 100,
    show: state.show.join("."),
    point: state.point.map((value) => value.toFixed(2)).join("_"),
  };
  if (state.set === "drawing") parts.points = pack(state.drawing);
  return Object.entries(parts).map((pair) => pair.join("=")).join("&");
}

// Return the state that an address names. What it leaves out, or has wrong, is as at the start.
export function fromAddress(address) {
  const parts = new URLSearchParams(address.replace(/^#/, ""));
  const read = (name, convert, isRight) => {
    if (!parts.has(name)) return START[name];
    const value = convert(parts.get(name));
    return isRight(value) ? value : START[name];
  };
  const whole = (low, high) => (value) => Number.isInteger(value) && value >= low && value <= high;
  const state = {
    kind: read("kind", String, (kind) => Object.hasOwn(KINDS, kind)),
    couplings: read("couplings", Number, whole(1, MOST_COUPLINGS)),
    rate: read("rate", Number, (rate) => RATES.includes(rate)),
    seed: read("seed", Number, whole(0, 2 ** 32 - 1)),
    steps: read("steps", Number, whole(0, MOST_STEPS)),
    show: read(
      "show",
      (text) => text.split(".").filter(Boolean),
      (names) => names.every((name) => SHOWN.includes(name)),
    ),
    point: read(
      "point",
      (text) => text.split("_").map(Number),
      (point) => point.length === 2 && point.every((value) => Math.abs(value) <= RANGE),
    ).slice(),
    drawing: unpack(parts.get("points") ?? ""),
  };
  const isSet = (name) =>
    SETS.includes(name) || (name === "drawing" && state.drawing.length > 0);
  state.set = read("set", String, isSet);
  const isLayer = (layer) => layer >= 0 && layer <= state.couplings;
  state.layer = Math.min(read("layer", Number, isLayer), state.couplings);
  return state;
}
