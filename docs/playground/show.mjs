// What the page shows of its state: pictures, numbers, the table, the charts of couplings.

import { drawPlane, prepareColors } from "./canvas.mjs";
import { drawLoss, drawMaps, drawScaleAndShift, scaleAndShift } from "./charts.mjs";

const EXPLAINED = {
  affine:
    'The coordinate that passes enters a network, which gives <b class="s">s</b> and <b class="t">t</b> for the other: ' +
    "z = x exp(s) + t. Both are functions of one number, so each chart is the whole network. The log-determinant is s. " +
    "The dashed line is at the point.",
  mixture:
    "Each chart is the map of the coordinate that moves: in grey for five values of the one that passes, in red for the point's. " +
    "The map is z = exp(s) logit F(x) + t, where F is the distribution function of a mixture of logistics. " +
    "The log-determinant is the logarithm of its slope at the dashed line.",
  spline:
    "Each chart is the map of the coordinate that moves: in grey for five values of the one that passes, in red for the point's. " +
    "The map is a spline with eight bins, whose knots depend on the coordinate that passes. " +
    "The log-determinant is the logarithm of its slope at the dashed line.",
};

export const find = (id) => document.getElementById(id);

const number = (value, digits = 2) =>
  (Number.isFinite(value) ? value.toFixed(digits) : "∞").replace("-", "−");

const text = (id, value) => {
  if (find(id).textContent !== value) find(id).textContent = value;
};

export class Show {
  constructor(page) {
    this.page = page;
  }

  everything() {
    const { page } = this;
    const { state, training, pictures } = page;
    this.colors = prepareColors(find("playground"));
    this.layer = Math.min(state.layer, pictures.length);
    this.path = pictures.flow.path(state.point);
    drawPlane(find("plane"), pictures, { ...state, layer: this.layer }, this.path, this.colors);
    drawLoss(find("history"), training.history, this.colors);
    this.controls();
    this.readings();
    this.table();
    this.couplings();
    text("message", page.message);
  }

  // Return where the point is in the layer that is shown.
  place() {
    return Array.from(this.path.places[Math.round(this.layer)]);
  }

  controls() {
    const { state, running, playing, tool } = this.page;
    find("set").value = state.set;
    find("rate").value = state.rate;
    find("couplings").value = state.couplings;
    text("couplings-value", String(state.couplings));
    find("layer").max = state.couplings;
    find("layer").value = state.layer;
    for (const radio of document.querySelectorAll("#kind input")) radio.checked = radio.value === state.kind;
    for (const radio of document.querySelectorAll("#tool input")) radio.checked = radio.value === tool;
    for (const box of document.querySelectorAll("#show input")) box.checked = state.show.includes(box.value);
    text("train", running ? "Pause" : "Train");
    text("play", playing ? "Stop" : "Play");
    find("train").disabled = find("step").disabled = !this.page.hasData();
    find("clear").disabled = state.drawing.length === 0;
    find("plane").classList.toggle("drawing", tool === "draw");
  }

  readings() {
    const { state, training } = this.page;
    const { loss, kl } = training.history[training.history.length - 1];
    text("steps", String(training.step));
    text("loss", this.page.hasData() ? number(loss) : "–");
    text("kl", this.page.hasData() ? number(kl, 3) : "–");
    find("history").setAttribute(
      "aria-label",
      `Chart by step: after ${training.step} steps the mean of −log p is ${number(loss)} nats, ` +
        `and the divergence from the truth ${number(kl, 3)} nats`,
    );
    const last = state.couplings;
    const layer = Math.round(this.layer);
    const where =
      layer === 0 ? "The data." : layer >= last ? "The latents." : `After coupling ${layer} of ${last}.`;
    const [x, y] = this.path.places[layer];
    text(
      "plane-text",
      `${where} The point is at (${number(x)}, ${number(y)}); its log-density among the data is ` +
        `${number(this.path.logProb)}. Arrow keys move it${this.page.tool === "draw" ? ", Enter draws there" : ""}.`,
    );
  }

  // The way of the point: where it is after each coupling, the log-determinants, and their sum.
  table() {
    const { places, logDets, logPrior, logProb } = this.path;
    const here = Math.round(this.layer);
    const rows = places.map((place, k) => {
      const cell = (axis) => {
        const moved = k > 0 && (k - 1) % 2 !== axis;
        return `<td${moved ? ' class="moved"' : ""}>${number(place[axis])}</td>`;
      };
      const name = k === 0 ? "the data" : `coupling ${k}`;
      const logDet = k === 0 ? "" : number(logDets[k - 1]);
      const row = `<th scope="row">${name}</th>${cell(0)}${cell(1)}<td>${logDet}</td>`;
      return `<tr${k === here ? ' class="here"' : ""}>${row}</tr>`;
    });
    const end = (name, value, sum) =>
      `<tr${sum ? ' class="sum"' : ""}><th scope="row" colspan="3">${name}</th><td>${number(value)}</td></tr>`;
    rows.push(end("log N of the latents", logPrior), end("log p, the sum", logProb, true));
    document.querySelector("#path tbody").innerHTML = rows.join("");
  }

  couplings() {
    const { pictures } = this.page;
    const { kind } = pictures.flow;
    const shown = find("coupling-charts");
    if (this.kind !== kind) find("couplings-text").innerHTML = EXPLAINED[kind];
    this.kind = kind;
    while (shown.children.length > pictures.length) shown.lastElementChild.remove();
    while (shown.children.length < pictures.length) shown.append(this.card(shown.children.length));
    pictures.flow.couplings.forEach((coupling, k) => {
      const card = shown.children[k];
      const point = this.path.places[k];
      const { s, t } = scaleAndShift(coupling, [point[coupling.passive]]);
      const parts = kind === "spline" ? [] : [`s ${number(s[0])}`, `t ${number(t[0])}`];
      if (kind !== "affine") parts.push(`log-det ${number(this.path.logDets[k])}`);
      card.querySelector(".at").textContent = `At the point: ${parts.join(", ")}`;
      card.setAttribute("aria-pressed", String(Math.round(this.layer) === k + 1));
      const draw = kind === "affine" ? drawScaleAndShift : drawMaps;
      draw(card.querySelector("canvas"), coupling, point, this.colors);
    });
  }

  // A button that shows the plane after coupling k.
  card(k) {
    const card = document.createElement("button");
    card.type = "button";
    const [passive, active] = k % 2 ? ["x2", "x1"] : ["x1", "x2"];
    card.innerHTML =
      `<span class="title">Coupling ${k + 1}</span>` +
      `<span>mask ${k % 2 ? "(0, 1)" : "(1, 0)"}: ${passive} passes, ${active} moves</span>` +
      '<canvas aria-hidden="true"></canvas><span class="at"></span>';
    card.addEventListener("click", () => {
      this.page.state.layer = k + 1;
      this.page.playing = false;
      this.page.changed();
    });
    return card;
  }
}
