"use strict";
// <parsed-image>: an image with a model's classes over it. data-image: a picture; data-models: JSON, a list of
// {name, labels, confidence, classes: [[index, name, [r, g, b], share]]}, labels and confidence as grey PNGs.
class ParsedImage extends HTMLElement {
  async connectedCallback() {
    if (this.started) return;
    this.started = true;
    const models = JSON.parse(this.dataset.models);
    const image = await loaded(this.dataset.image);
    const layers = await Promise.all(models.map(layer));
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    canvas.tabIndex = 0; canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "parsed image; arrow keys move the point that is read");
    const stage = made("div", "stage"), tip = made("div", "tip");
    tip.hidden = true; tip.setAttribute("role", "status");
    stage.append(canvas, tip);
    const controls = made("div", "controls");
    const opacity = slider(controls, "Opacity", Number(this.dataset.opacity || 55));
    const swipe = layers.length > 1 ? slider(controls, "Swipe", 50) : null;
    if (swipe) {
      const names = made("div", "names");
      models.forEach((model, i) => { const n = made("span"); n.textContent = (i ? "" : "◧ ") + model.name + (i ? " ◨" : ""); names.append(n); });
      this.append(names);
    }
    this.append(stage, controls, ...models.map((model) => legend(model, models.length > 1)));
    const context = canvas.getContext("2d"), point = { x: -1, y: -1 };
    const edge = () => swipe ? Math.round(canvas.width * swipe.value / 100) : canvas.width;
    const draw = () => {
      context.globalAlpha = 1; context.drawImage(image, 0, 0);
      context.globalAlpha = opacity.value / 100;
      const at = edge();
      layers.forEach((one, i) => {
        const left = i ? at : 0, width = i ? canvas.width - at : at;
        if (width > 0) context.drawImage(one.canvas, left, 0, width, canvas.height, left, 0, width, canvas.height);
      });
      context.globalAlpha = 1;
      if (swipe) { context.fillStyle = "#fff"; context.fillRect(at, 0, Math.max(1, Math.round(canvas.width / 400)), canvas.height); }
      if (document.activeElement === canvas && point.x >= 0) {
        context.strokeStyle = "#fff"; context.lineWidth = 2; context.strokeRect(point.x - 4, point.y - 4, 9, 9);
        context.strokeStyle = "#000"; context.lineWidth = 1; context.strokeRect(point.x - 5.5, point.y - 5.5, 12, 12);
      }
    };
    const tell = () => {
      const shown = layers.map((one, i) => (models.length > 1 ? models[i].name + ": " : "") + one.read(point.x, point.y));
      tip.innerHTML = ""; shown.forEach((text) => { const row = made("div"); row.textContent = text; tip.append(row); });
      tip.hidden = false;
      const scale = canvas.clientWidth / canvas.width, x = point.x * scale, y = point.y * scale;
      tip.style.left = Math.max(0, Math.min(x, canvas.clientWidth - tip.offsetWidth - 16)) + "px";
      tip.style.top = Math.max(0, Math.min(y, canvas.clientHeight - tip.offsetHeight - 16)) + "px";
    };
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      point.x = clamp(Math.floor((event.clientX - box.left) / box.width * canvas.width), canvas.width);
      point.y = clamp(Math.floor((event.clientY - box.top) / box.height * canvas.height), canvas.height);
      tell();
    };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerdown", move);
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("blur", () => { tip.hidden = true; draw(); });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const far = event.shiftKey ? 1 : Math.max(1, Math.round(canvas.width / 60));
      if (point.x < 0) { point.x = canvas.width >> 1; point.y = canvas.height >> 1; }
      point.x = clamp(point.x + step[0] * far, canvas.width); point.y = clamp(point.y + step[1] * far, canvas.height);
      draw(); tell();
    });
    [opacity, swipe].forEach((input) => input && input.addEventListener("input", draw));
    draw();
    this.setAttribute("data-ready", "");
  }
}

const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
function made(tag, name) { const one = document.createElement(tag); if (name) one.className = name; return one; }
function loaded(source) {
  return new Promise((done, fail) => { const image = new Image(); image.onload = () => done(image); image.onerror = fail; image.src = source; });
}
async function pixels(source) {
  const image = await loaded(source), canvas = made("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return { width: canvas.width, height: canvas.height, data: context.getImageData(0, 0, canvas.width, canvas.height).data };
}
async function layer(model) {
  const labels = await pixels(model.labels), sure = await pixels(model.confidence);
  const colours = new Map(model.classes.map(([index, , colour]) => [index, colour]));
  const names = new Map(model.classes.map(([index, name]) => [index, name]));
  const picture = new ImageData(labels.width, labels.height);
  for (let i = 0; i < labels.data.length; i += 4) {
    const colour = colours.get(labels.data[i]);
    if (colour) picture.data.set([...colour, 255], i);
  }
  const canvas = made("canvas");
  canvas.width = labels.width; canvas.height = labels.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const read = (x, y) => {
    const i = 4 * (y * labels.width + x), name = names.get(labels.data[i]);
    return name === undefined ? "nothing known here" : `${name}, ${Math.round(sure.data[i] / 2.55)} % sure`;
  };
  return { canvas, read };
}
function slider(parent, title, value) {
  const label = made("label"), input = made("input");
  input.type = "range"; input.min = 0; input.max = 100; input.value = value;
  input.id = `${title.toLowerCase()}-${Math.random().toString(36).slice(2)}`; input.className = title.toLowerCase();
  label.htmlFor = input.id; label.textContent = title;
  parent.append(label, input);
  return input;
}
function legend(model, named) {
  const list = made("div", "legend");
  if (named) { const name = made("b"); name.textContent = model.name; list.append(name); }
  for (const [, name, colour, share] of model.classes) {
    const item = made("span"), swatch = made("i", "swatch");
    swatch.style.background = `rgb(${colour})`;
    item.append(swatch, `${name} ${share < 0.01 ? "<1" : Math.round(100 * share)} %`);
    list.append(item);
  }
  return list;
}
customElements.define("parsed-image", ParsedImage);

// tables of class "sortable": a press on a column's head sorts by it, numbers by data-value
document.addEventListener("click", (event) => {
  const button = event.target.closest("table.sortable th button");
  if (!button) return;
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  [...head.parentNode.children].forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (row) => { const cell = row.children[column]; return cell.dataset.value ?? cell.textContent.trim(); };
  const rows = [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  });
  body.append(...rows);
});

// Start twice asks: two presses within a few seconds are rarely meant as two runs
let started = -Infinity;
document.addEventListener("click", (event) => {
  if (!event.isTrusted || !event.target.closest("#train-start")) return;
  const soon = performance.now() - started < 5000;
  if (soon && !confirm("A run was started a moment ago. Start another one?")) {
    event.preventDefault(); event.stopImmediatePropagation();
    return;
  }
  started = performance.now();
}, true);

// a reload comes back to the place that was open
document.addEventListener("click", (event) => {
  const tab = event.target.closest("#places button[role=tab]");
  if (tab && event.isTrusted) sessionStorage.setItem("pspnet place", tab.textContent.trim());
});
const opening = setInterval(() => {
  const tabs = [...document.querySelectorAll("#places button[role=tab]")];
  if (!tabs.length) return;
  clearInterval(opening);
  tabs.find((tab) => tab.textContent.trim() === sessionStorage.getItem("pspnet place"))?.click();
}, 50);
