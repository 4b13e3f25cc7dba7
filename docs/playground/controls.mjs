// What a visitor does: buttons and sliders, the mouse, a finger or the keyboard on the plane.

import { MOST_POINTS, RATES } from "./address.mjs";
import { EDGE } from "./pictures.mjs";
import { SETS } from "./sets.mjs";
import { find } from "./show.mjs";

const BRUSH = 0.12; // standard deviation of drawn points around the mouse

const NEAR = 0.6; // how far from the point a finger may take hold of it

// Connect the elements of the document to the page's state.
export function listen(page) {
  const option = (value, text) => new Option(text, value);
  find("set").append(...SETS.map((name) => option(name, name.replace("-", " "))));
  find("set").append(option("drawing", "your drawing"));
  find("rate").append(...RATES.map((rate) => option(rate, rate)));
  const on = (id, event, action) =>
    find(id).addEventListener(event, (given) => {
      action(given.target);
      page.changed();
    });
  listenToTraining(page, on);
  listenToView(page, on);
  listenToPlane(page, find("plane"));
  window.addEventListener("hashchange", () => {
    if (location.hash !== page.address) page.open();
  });
  window.addEventListener("resize", () => page.changed());
  const scheme = () => page.changed();
  new MutationObserver(scheme).observe(document.body, { attributes: true });
}

function listenToTraining(page, on) {
  // The same number of steps again, so that choices can be compared.
  const again = () => page.restart(Math.max(page.training.step, 600));
  on("set", "change", ({ value }) => {
    page.state.set = value;
    page.state.layer = 0;
    page.tool = page.hasData() ? "point" : "draw";
    if (page.hasData()) again();
    else page.restart(0);
    if (!page.hasData()) page.say("Draw on the plane, and press Train.");
  });
  on("kind", "change", ({ value }) => {
    page.state.kind = value;
    again();
  });
  on("couplings", "input", ({ value }) => {
    page.state.couplings = Number(value);
    again();
  });
  on("rate", "change", ({ value }) => {
    page.state.rate = Number(value);
  });
  on("train", "click", () => {
    page.say("");
    page.run(page.running ? 0 : undefined);
  });
  on("step", "click", () => {
    page.training.advance(page.state.rate);
    page.training.measure();
    page.run(0);
    page.changed({ stale: true });
  });
  on("restart", "click", () => {
    page.state.seed = (page.state.seed + 1) % 2 ** 32;
    page.restart(0);
    page.run();
  });
}

function listenToView(page, on) {
  on("layer", "input", ({ value }) => {
    page.state.layer = Number(value);
    page.playing = false;
  });
  on("play", "click", () => {
    page.playing = !page.playing;
    page.played = undefined;
    if (page.playing && page.state.layer === 0) page.state.layer = page.state.couplings;
  });
  on("show", "change", ({ value, checked }) => {
    const others = page.state.show.filter((name) => name !== value);
    page.state.show = checked ? [...others, value] : others;
  });
  on("tool", "change", ({ value }) => {
    page.tool = value;
    if (value === "draw") page.state.layer = 0;
  });
  on("clear", "click", () => {
    page.state.drawing = [];
    page.state.set = "drawing";
    page.tool = "draw";
    page.state.layer = 0;
    page.restart(0);
    page.say("Draw on the plane, and press Train.");
  });
}

function listenToPlane(page, plane) {
  const at = ({ clientX, clientY }) => {
    const box = plane.getBoundingClientRect();
    const place = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    return [EDGE * (2 * place[0] - 1), EDGE * (1 - 2 * place[1])];
  };
  const isHeld = (place) => {
    const point = page.show.place();
    return page.tool === "draw" || Math.hypot(place[0] - point[0], place[1] - point[1]) < NEAR;
  };
  const act = (place) => (page.tool === "draw" ? draw(page, place) : move(page, place));
  let held = false;
  plane.addEventListener("pointerdown", (event) => {
    held = event.button === 0 && (event.pointerType !== "touch" || isHeld(at(event)));
    if (!held) return;
    plane.setPointerCapture(event.pointerId);
    act(at(event));
  });
  plane.addEventListener("pointermove", (event) => {
    if (held) act(at(event));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    plane.addEventListener(name, () => {
      held = false;
    });
  }
  // A finger that holds the point, or draws, does not scroll the page.
  const still = (event) => {
    if (isHeld(at(event.touches[0]))) event.preventDefault();
  };
  plane.addEventListener("touchstart", still, { passive: false });
  plane.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.5 : 0.1;
    const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const place = page.show.place();
    if (event.key in steps) {
      move(page, place.map((value, axis) => value + steps[event.key][axis]));
    } else if (page.tool === "draw" && (event.key === "Enter" || event.key === " ")) {
      draw(page, place);
    } else {
      return;
    }
    event.preventDefault();
  });
}

// Move the point to a place of the layer that is shown.
function move(page, place) {
  const inside = place.map((value) => Math.min(EDGE, Math.max(-EDGE, value)));
  page.playing = false;
  page.state.layer = page.layer(page.pictures);
  const point = page.pictures.flow.inverse(inside, page.state.layer);
  page.state.point = Array.from(point, (value) => Math.min(4, Math.max(-4, value)));
  page.changed();
}

// Add a few points to the drawing, which becomes the data.
function draw(page, place) {
  const { state } = page;
  if (state.set !== "drawing") {
    Object.assign(state, { set: "drawing", drawing: [] });
    page.restart(0);
  }
  state.layer = 0;
  page.playing = false;
  page.say("");
  for (let i = 0; i < 3 && state.drawing.length < 2 * MOST_POINTS; i++) {
    const radius = BRUSH * Math.sqrt(-2 * Math.log(1 - Math.random()));
    const angle = 2 * Math.PI * Math.random();
    state.drawing.push(place[0] + radius * Math.cos(angle), place[1] + radius * Math.sin(angle));
  }
  if (state.drawing.length >= 2 * MOST_POINTS) page.say(`A drawing has at most ${MOST_POINTS} points.`);
  page.redrawn = true;
  page.changed();
}
