/* The viewer of the cases. volumes.py writes what is read here; its docstring says how voxels are packed.
   Axes of a volume: slices towards the head, rows towards the back, columns to the patient's left. */
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("viewer-data").textContent);
const blocks = [...document.querySelectorAll("script.volume")];
const unpacked = new Map();                 // number of a case -> its volume
const hidden = new Set(settings.observers); // layers that are switched off
const FONT = "600 22px system-ui, sans-serif";

// rows and columns of a plane: [axis of the volume, whether the picture runs against the axis]
const PLANES = {
  axial: {axis: 0, down: [1, false], right: [2, false], letters: {left: "R", right: "L", top: "A", bottom: "P"}},
  coronal: {axis: 1, down: [0, true], right: [2, false], letters: {left: "R", right: "L", top: "H", bottom: "F"}},
  sagittal: {axis: 2, down: [0, true], right: [1, false], letters: {left: "A", right: "P", top: "H", bottom: "F"}},
};

let number = -1;      // of the open case
let volume = null;    // the open case
let position = null;  // slice, row, column of the cross
let centre = null;    // slice, row, column that enlarged planes are centred on

// ------------------------------------------------------------------------------------------ unpacking

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function channel(text, width) {
  const codes = await inflated(text);
  for (let i = 0; i < codes.length; i++) if (i % width) codes[i] += codes[i - 1]; // modulo 256
  return codes;
}

async function read(i) {
  if (unpacked.has(i)) return unpacked.get(i);
  const found = JSON.parse(blocks[i].textContent);
  const [S, H, W] = found.shape;
  [found.ct, found.pet, found.bits] = await Promise.all([
    channel(found.ct, W), found.pet && channel(found.pet, W), inflated(found.masks)]);
  found.strides = [H * W, W, 1];
  found.size = S * H * W;
  unpacked.set(i, found);
  return found;
}

/* The number of a slice, row or column in the whole image, counted from feet, front or right. */
const numberOf = (axis, index) => volume.first[axis] + index * (axis ? volume.every : 1) + 1;

const inMask = (layer, voxel) => {
  const bit = layer * volume.size + voxel;
  return (volume.bits[bit >> 3] >> (7 - (bit & 7))) & 1;
};

// ------------------------------------------------------------------------------------------- colours

const mode = () => volume.pet ? document.querySelector("input[name=mode]:checked").value : "ct";
const petTop = () => Number($("pet-top").value);

const ctWindow = () => $("window").value.split(",").map(Number); // level and width, HU

function petColour(part) { // of 0 to 1
  const i = Math.round(255 * Math.min(1, part));
  return $("pet-colours").value === "grey" ? [255 - i, 255 - i, 255 - i] : settings.inferno[i];
}

function colourTable(what) { // code of CT or PET -> red, green, blue
  const [level, width] = ctWindow();
  const grey = (hu) => 255 * Math.min(1, Math.max(0, (hu - level + width / 2) / width));
  if (what === "ct") return settings.ct_levels.map((hu) => Array(3).fill(grey(hu)));
  return volume.pet_levels.map((suv) => petColour(suv / petTop()));
}

// -------------------------------------------------------------------------------------------- planes

/* The size of a plane in pixels and mm, and which voxel a pixel shows. */
function geometry(name) {
  const {axis, down, right} = PLANES[name];
  const [h, w] = [volume.shape[down[0]], volume.shape[right[0]]];
  const pixel = (voxel) => [ // row and column that show a voxel
    down[1] ? h - 1 - voxel[down[0]] : voxel[down[0]], right[1] ? w - 1 - voxel[right[0]] : voxel[right[0]]];
  const voxel = (i, j) => position[axis] * volume.strides[axis] +
    (down[1] ? h - 1 - i : i) * volume.strides[down[0]] + (right[1] ? w - 1 - j : j) * volume.strides[right[0]];
  return {h, w, pixel, voxel, mm: [volume.spacing[down[0]], volume.spacing[right[0]]]};
}

/* Where a plane is on its canvas: all planes have one scale, so that they are in step. */
function placement(canvas, plane) {
  const longest = Math.max(...volume.shape.map((n, axis) => n * volume.spacing[axis]));
  const scale = Number($("zoom").value) * canvas.width / longest; // canvas pixels per mm
  const [height, width] = [plane.h * plane.mm[0] * scale, plane.w * plane.mm[1] * scale];
  const [i, j] = plane.pixel(centre);
  const start = (size, length, part) => length <= size ? (size - length) / 2 :
    Math.min(0, Math.max(size - length, size / 2 - part * length));
  return {scale, width, height,
    x: start(canvas.width, width, (j + 0.5) / plane.w), y: start(canvas.height, height, (i + 0.5) / plane.h)};
}

function picture(plane) {
  const image = new ImageData(plane.w, plane.h);
  const ct = mode() === "pet" ? null : colourTable("ct");
  const pet = mode() === "ct" ? null : colourTable("pet");
  for (let i = 0, p = 0; i < plane.h; i++) {
    for (let j = 0; j < plane.w; j++, p += 4) {
      const voxel = plane.voxel(i, j);
      const under = ct && ct[volume.ct[voxel]], over = pet && pet[volume.pet[voxel]];
      // fused: the more uptake, the less CT
      const part = !over ? 0 : !under ? 1 : 0.75 * Math.min(1, volume.pet_levels[volume.pet[voxel]] / petTop());
      for (let c = 0; c < 3; c++) image.data[p + c] = (under ? (1 - part) * under[c] : 0) + (over ? part * over[c] : 0);
      image.data[p + 3] = 255;
    }
  }
  const canvas = new OffscreenCanvas(plane.w, plane.h);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function draw(name) {
  const canvas = $(name), context = canvas.getContext("2d"), plane = geometry(name), place = placement(canvas, plane);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture(plane), place.x, place.y, place.width, place.height);
  const [stepX, stepY] = [place.width / plane.w, place.height / plane.h];
  const contours = volume.layers.flatMap((layer, k) => {
    if (hidden.has(layer)) return [];
    const scaled = new Path2D();
    const contour = outline(plane, (voxel) => inMask(k, voxel));
    scaled.addPath(contour, new DOMMatrix([stepX, 0, 0, stepY, place.x, place.y]));
    return [[settings.lines[layer], scaled]];
  });
  for (const beneath of [true, false]) {
    for (const [line, path] of contours) {
      pen(context, line, beneath);
      context.stroke(path);
    }
  }
  context.setLineDash([]);
  drawCross(context, plane, place, stepX, stepY);
  drawMarks(context, canvas, name, place);
  canvas.dataset.slice = numberOf(PLANES[name].axis, position[PLANES[name].axis]);
}

function drawCross(context, plane, place, stepX, stepY) {
  const [i, j] = plane.pixel(position);
  const x = place.x + (j + 0.5) * stepX, y = place.y + (i + 0.5) * stepY, gap = 22;
  context.strokeStyle = "rgba(255,255,255,.55)";
  context.lineWidth = 1;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [[place.x, y, x - gap, y], [x + gap, y, place.x + place.width, y],
    [x, place.y, x, y - gap], [x, y + gap, x, place.y + place.height]]) {
    if (x1 < x0 || y1 < y0) continue;
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

function text(context, words, x, y, align = "center") {
  context.font = FONT;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = 4;
  context.strokeStyle = "rgba(0,0,0,.8)";
  context.strokeText(words, x, y);
  context.fillStyle = "#fff";
  context.fillText(words, x, y);
}

/* Letters of the directions, the slice, and a scale bar. */
function drawMarks(context, canvas, name, place) {
  const {axis, letters} = PLANES[name], size = canvas.width;
  text(context, letters.left, 16, size / 2);
  text(context, letters.right, size - 16, size / 2);
  text(context, letters.top, size / 2, 18);
  text(context, letters.bottom, size / 2, size - 18);
  text(context, `${name} ${numberOf(axis, position[axis])} of ${volume.whole[axis]}`, 14, 20, "left");
  const mm = [50, 20, 10, 5].find((length) => length * place.scale < size / 3) || 2, length = mm * place.scale;
  const x = size - 20 - length, y = size - 22;
  for (const [thickness, colour] of [[7, "rgba(0,0,0,.8)"], [4, "#fff"]]) {
    [context.lineWidth, context.strokeStyle] = [thickness, colour];
    context.strokeRect(x, y, length, 0);
  }
  text(context, `${mm} mm`, x + length / 2, y - 18);
}

// ---------------------------------------------------------------------------- colour bars, curve, words

function drawBar(id, low, high, colour, unit) {
  const canvas = $(id), context = canvas.getContext("2d"), width = canvas.width - 20;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (let x = 0; x < width; x++) {
    context.fillStyle = `rgb(${colour(x / (width - 1)).join(" ")})`;
    context.fillRect(10 + x, 4, 1, 22);
  }
  context.fillStyle = getComputedStyle(document.body).color;
  context.font = "20px system-ui, sans-serif";
  const words = [[low, "left", 10], [(low + high) / 2, "center", 10 + width / 2], [high, "right", 10 + width]];
  for (const [value, align, x] of words) {
    context.textAlign = align;
    context.fillText(align === "right" ? `${value} ${unit}` : value, x, 52);
  }
}

function drawBars() {
  const [level, width] = ctWindow();
  drawBar("ct-bar", level - width / 2, level + width / 2, (part) => [255 * part, 255 * part, 255 * part], "HU");
  if ($("pet-bar")) $("pet-bar").style.visibility = volume.pet ? "visible" : "hidden";
  if (volume.pet) drawBar("pet-bar", 0, petTop(), petColour, "SUV");
}

/* Dice of every axial slice, from the feet to the head; the line is the slice that is shown. */
function curve() {
  const canvas = $("by-slice"), slices = volume.shape[0];
  const x = (k) => 70 + (canvas.width - 100) * (k + 0.5) / slices;
  return {canvas, slices, x, y: (value) => 250 - 225 * value};
}

function drawCurve() {
  const {canvas, slices, x, y} = curve(), context = canvas.getContext("2d");
  const style = getComputedStyle(document.body), ink = style.color;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.font = "24px system-ui, sans-serif";
  context.fillStyle = ink;
  context.strokeStyle = style.getPropertyValue("--line");
  context.lineWidth = 2;
  context.textBaseline = "middle";
  for (const value of [0, 0.5, 1]) {
    context.strokeRect(x(-0.5), y(value), x(slices - 0.5) - x(-0.5), 0);
    context.textAlign = "right";
    context.fillText(value, x(-0.5) - 12, y(value));
  }
  context.textAlign = "center";
  const every = Math.ceil(slices / 20);
  for (let k = 0; k < slices; k += every) context.fillText(numberOf(0, k), x(k), 280);
  for (const [model, values] of Object.entries(volume.dice)) {
    if (hidden.has(model)) continue;
    pen(context, settings.lines[model]);
    context.fillStyle = settings.lines[model].colour;
    context.lineWidth = 5;
    context.beginPath();
    let drawing = false;
    values.forEach((value, k) => {
      if (value !== null) context[drawing ? "lineTo" : "moveTo"](x(k), y(value));
      drawing = value !== null;
    });
    context.stroke();
    values.forEach((value, k) => value !== null && context.fillRect(x(k) - 5, y(value) - 5, 10, 10));
  }
  context.strokeStyle = ink;
  context.lineWidth = 2;
  context.setLineDash([8, 8]);
  context.strokeRect(x(position[0]), 10, 0, 250);
  context.setLineDash([]);
}

function describe() {
  const voxel = position.reduce((sum, index, axis) => sum + index * volume.strides[axis], 0);
  const [k] = position, models = volume.layers.filter((layer) => layer in volume.dice);
  const values = [`CT ≈ ${Math.round(settings.ct_levels[volume.ct[voxel]])} HU`];
  values.push(!volume.pet ? "no PET" : `PET ${volume.pet_levels[volume.pet[voxel]].toFixed(1)} SUV`);
  const inside = volume.layers.filter((_, layer) => inMask(layer, voxel));
  values.push(inside.length ? `in ${inside.join(", ")}` : "in no contour");
  const slice = models.map((model) => `${model} ${volume.dice[model][k]?.toFixed(3) ?? "n/a"}`).join(", ");
  const outside = Object.entries(volume.outside).map(([layer, ml]) => `${layer} ${ml} ml`);
  if (outside.length) values.push(`not shown, too far from the truth: ${outside.join(", ")}`);
  if (volume.every > 1) values.push(`one of ${volume.every} pixels is shown`);
  $("readout").textContent = `At the cross: ${values.join(" · ")}. Dice of this axial slice: ${slice}.`;
}

function redraw() {
  for (const name of Object.keys(PLANES)) {
    draw(name);
    $(`${name}-slice`).value = position[PLANES[name].axis];
  }
  drawBars();
  drawCurve();
  describe();
}

// --------------------------------------------------------------------------------------------- events

function moveTo(axis, index) {
  position[axis] = Math.min(volume.shape[axis] - 1, Math.max(0, index));
  redraw();
}

function layerSwitches() {
  const bar = $("layers");
  bar.replaceChildren();
  for (const layer of volume.layers) {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, {type: "checkbox", checked: !hidden.has(layer), value: layer});
    box.addEventListener("change", () => { hidden[box.checked ? "delete" : "add"](layer); redraw(); });
    label.className = "key";
    const swatch = [...document.querySelectorAll("template.swatch")].find((found) => found.dataset.of === layer);
    label.append(box, swatch.content.cloneNode(true), layer);
    bar.append(label);
  }
}

async function open(i, scroll) {
  const found = await read(i);
  if (!volume) $("window").value = found.in_lung ? "-600,1500" : "40,400"; // later the reader's choice
  [number, volume, position, centre] = [i, found, [...found.start], [...found.start]];
  $("zoom").value = volume.zoom;
  $("case").value = i;
  $("said").textContent = $("case").selectedOptions[0].dataset.said;
  if (volume.pet) $("pet-top").value = volume.pet_top;
  for (const [name, {axis}] of Object.entries(PLANES)) $(`${name}-slice`).max = volume.shape[axis] - 1;
  for (const marked of document.querySelectorAll("tbody[data-case], .point[data-case]")) {
    marked.classList.toggle("open", marked.dataset.case === String(i));
  }
  layerSwitches();
  redraw();
  $("viewer").dataset.case = i;
  if (scroll) $("viewer").scrollIntoView({behavior: "smooth"});
}

function start() {
  $("viewer").hidden = false;
  document.querySelector(`input[name=mode][value=${$("pet-top") ? "fused" : "ct"}]`).checked = true;
  const controls = document.querySelectorAll("#modes, #window, #pet-top, #pet-colours");
  controls.forEach((control) => control.addEventListener("input", redraw));
  $("zoom").addEventListener("input", () => { centre = [...position]; redraw(); });
  $("case").addEventListener("change", (event) => open(Number(event.target.value)));
  const step = (by) => open((number + by + blocks.length) % blocks.length);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  document.addEventListener("click", (event) => {
    const marked = event.target.closest("[data-case]:not(#viewer)");
    if (!marked) return;
    event.preventDefault();
    open(Number(marked.dataset.case), true);
  });
  for (const [name, {axis, down, right}] of Object.entries(PLANES)) {
    $(`${name}-slice`).addEventListener("input", (event) => moveTo(axis, Number(event.target.value)));
    $(name).addEventListener("wheel", (event) => {
      event.preventDefault();
      moveTo(axis, position[axis] - Math.sign(event.deltaY));
    }, {passive: false});
    const point = (event) => {
      if (event.buttons !== 1 && event.type !== "click") return;
      const canvas = $(name), plane = geometry(name), place = placement(canvas, plane), frame = canvas.getBoundingClientRect();
      const part = [(event.clientY - frame.top) / frame.height * canvas.height, (event.clientX - frame.left) / frame.width * canvas.width];
      const i = Math.floor((part[0] - place.y) / place.height * plane.h), j = Math.floor((part[1] - place.x) / place.width * plane.w);
      if (i < 0 || j < 0 || i >= plane.h || j >= plane.w) return;
      position[down[0]] = down[1] ? plane.h - 1 - i : i;
      position[right[0]] = right[1] ? plane.w - 1 - j : j;
      redraw();
    };
    $(name).addEventListener("click", point);
    $(name).addEventListener("pointermove", point);
  }
  $("by-slice").addEventListener("click", (event) => {
    const {canvas, slices, x} = curve(), frame = canvas.getBoundingClientRect();
    const at = (event.clientX - frame.left) / frame.width * canvas.width;
    moveTo(0, Math.floor((at - x(-0.5)) / (x(0.5) - x(-0.5))));
  });
  $("viewer").addEventListener("keydown", (event) => {
    if (event.target.matches("input, select")) return;
    const keys = {ArrowUp: () => moveTo(0, position[0] + 1), ArrowDown: () => moveTo(0, position[0] - 1),
      ArrowLeft: () => step(-1), ArrowRight: () => step(1)};
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  open(0);
}

if (typeof DecompressionStream === "undefined" || typeof OffscreenCanvas === "undefined") {
  // an old browser: what is shown where scripts are off
  const still = document.querySelector("noscript");
  still.insertAdjacentHTML("afterend", still.textContent);
} else {
  start();
}
})();
