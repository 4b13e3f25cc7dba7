// Random numbers from a seed, so that a page that is opened again shows the same.

// Logarithm of the square of the standard normal's constant.
export const LOG_2PI = Math.log(2 * Math.PI);

export class Random {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  // A number in [0, 1): mulberry32.
  uniform() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  // A draw from the standard normal: Box and Muller.
  normal() {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  // n draws from the standard normal.
  normals(n) {
    return Float64Array.from({ length: n }, () => this.normal());
  }
}
