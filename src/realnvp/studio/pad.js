// The point follows the pointer immediately; its values arrive when the server has computed them.
element.tabIndex = 0;
// One event for all moves: of those that have to wait, Gradio sends the first one's in the end.
const event = {at: null};
const limit = v => Math.min(100, Math.max(0, v));
const go = (x, y) => {
  const at = event.at = [limit(x), limit(y)];
  for (const c of element.querySelectorAll('circle')) {
    c.setAttribute('cx', at[0]); c.setAttribute('cy', at[1]);
  }
  trigger('input', event);
};
const follow = e => {
  const box = element.querySelector('svg').getBoundingClientRect();
  go(100 * (e.clientX - box.left) / box.width, 100 * (e.clientY - box.top) / box.height);
};
element.addEventListener('pointerdown', e => {
  element.setPointerCapture(e.pointerId);
  follow(e);
});
element.addEventListener('pointermove', e => {
  if (element.hasPointerCapture(e.pointerId)) follow(e);
});
const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
element.addEventListener('keydown', e => {
  const step = steps[e.key];
  if (!step) return;
  e.preventDefault();
  const dot = element.querySelector('.dot');
  go(Number(dot.getAttribute('cx')) + step[0], Number(dot.getAttribute('cy')) + step[1]);
});
