// The page: its state, and what happens from frame to frame.
//
// Training and pictures are computed in slices of a few milliseconds, so that the browser answers
// in between, and only while there is something to compute.

import { fromAddress, MOST_STEPS, toAddress } from "./address.mjs";
import { listen } from "./controls.mjs";
import { Pictures, POINTS } from "./pictures.mjs";
import { Random } from "./random.mjs";
import { drawPoints, makeSet } from "./sets.mjs";
import { Show } from "./show.mjs";
import { Training } from "./training.mjs";

// Milliseconds of a frame for training, and for computing what is shown.
const TRAINING = 12;
const PICTURES = 8;

const LAYERS_PER_SECOND = 1.6; // while they are played

export class Page {
  constructor() {
    this.show = new Show(this);
    listen(this);
    this.open();
  }

  // Begin with the state that the address names, and train it to its step.
  open() {
    this.state = fromAddress(location.hash);
    this.tool = "point";
    this.restart(this.state.steps);
  }

  // Begin training anew, and pause after these steps.
  restart(goal) {
    const { state } = this;
    state.layer = Math.min(state.layer, state.couplings);
    this.training = new Training({ ...state, set: this.makeSet() });
    this.run(this.hasData() ? goal : 0);
    this.playing = false;
    this.chooseData();
    this.say("");
    this.job = null;
    this.changed({ stale: true });
    if (!this.pictures) this.finish();
  }

  // Train up to a step; without one, until it is paused.
  run(goal = MOST_STEPS) {
    this.goal = goal;
    this.running = this.hasData() && this.training.step < goal;
    this.changed();
  }

  hasData() {
    return this.state.set !== "drawing" || this.state.drawing.length > 0;
  }

  // An empty drawing has no density; another set holds its place until there is a point.
  makeSet() {
    const { set, drawing } = this.state;
    return this.hasData() ? makeSet(set, drawing) : makeSet("blobs");
  }

  // Choose the points that are shown as data.
  chooseData() {
    const { set, drawing } = this.state;
    const isDrawing = set === "drawing";
    this.data = Float64Array.from(
      isDrawing ? drawing : drawPoints(this.training.set, new Random(2), POINTS),
    );
  }

  // Take the points that were drawn since the last frame as data.
  takeDrawing() {
    this.redrawn = false;
    this.chooseData();
    if (this.hasData()) this.training.replaceSet(this.makeSet());
    this.changed({ stale: true });
  }

  say(text) {
    this.message = text;
  }

  // Note that something has changed: it is drawn in the next frame, and written into the address.
  // stale: pictures have to be computed anew.
  changed({ stale = false } = {}) {
    this.stale ||= stale;
    this.dirty = true;
    this.request();
    clearTimeout(this.writing);
    this.writing = setTimeout(() => this.write(), 300);
  }

  request() {
    this.requested ??= requestAnimationFrame((time) => this.frame(time));
  }

  write() {
    this.state.steps = this.training.step;
    this.address = `#${toAddress(this.state)}`;
    history.replaceState(null, "", this.address);
  }

  frame(time) {
    this.requested = null;
    if (this.redrawn) this.takeDrawing();
    if (this.running) this.train();
    if (this.playing) this.play(time);
    this.compute(PICTURES);
    if (this.dirty) this.show.everything();
    this.dirty = false;
    if (this.running || this.playing || this.job || this.stale) this.request();
  }

  train() {
    const end = performance.now() + TRAINING;
    do {
      if (!this.training.advance(this.state.rate)) {
        this.running = false;
        this.say("The loss is not finite. Start again with a lower rate.");
      }
      if (this.training.step >= this.goal) this.running = false;
    } while (this.running && performance.now() < end);
    this.stale = this.dirty = true;
    if (!this.running) this.changed();
  }

  play(time) {
    const passed = Math.min((time - (this.played ?? time)) / 1000, 0.1);
    this.played = time;
    this.state.layer = Math.max(0, this.state.layer - LAYERS_PER_SECOND * passed);
    if (this.state.layer === 0) this.playing = false;
    this.changed();
  }

  // Compute pictures for some milliseconds.
  compute(milliseconds) {
    const end = performance.now() + milliseconds;
    this.job ??= this.nextJob();
    while (this.job && performance.now() < end) {
      if (!this.job.next().done) continue;
      this.pictures = this.making;
      this.dirty = true;
      this.job = null;
    }
  }

  // Compute what is missing now, however long it takes.
  finish() {
    while ((this.job ??= this.nextJob())) this.compute(Infinity);
  }

  // Return what is to be computed next: new pictures, or the density of the layer that is shown.
  nextJob() {
    if (this.stale) {
      this.stale = false;
      this.making = new Pictures(this.training.average, this.data);
      return this.making.compute(this.layer(this.making));
    }
    this.making = this.pictures;
    const layer = this.layer(this.pictures);
    return this.pictures.densities.has(layer) ? null : this.pictures.density(layer);
  }

  // Return the layer, of those of these pictures, whose density is shown.
  layer(pictures) {
    return Math.min(Math.round(this.state.layer), pictures.length);
  }
}

if (typeof document !== "undefined") window.playground = new Page();
