/* Contours of masks and the lines that they are drawn with, for report.js. */
"use strict";

/* The contour, in pixels of a plane, of the voxels that are inside: marching squares between the centres of
   pixels. */
function outline(plane, inside) {
  const at = (i, j) => i >= 0 && j >= 0 && i < plane.h && j < plane.w && inside(plane.voxel(i, j)) ? 1 : 0;
  const path = new Path2D();
  for (let i = -1; i < plane.h; i++) {
    for (let j = -1; j < plane.w; j++) {
      const [a, b, c, d] = [at(i, j), at(i, j + 1), at(i + 1, j + 1), at(i + 1, j)]; // clockwise
      const sum = a + b + c + d;
      if (sum === 0 || sum === 4) continue;
      const x = j + 0.5, y = i + 0.5; // centre of the first pixel
      const crossed = [];
      if (a !== b) crossed.push([x + 0.5, y]);
      if (b !== c) crossed.push([x + 1, y + 0.5]);
      if (c !== d) crossed.push([x + 0.5, y + 1]);
      if (d !== a) crossed.push([x, y + 0.5]);
      if (crossed.length === 4 && a) crossed.push(crossed.shift()); // two corners: keep them apart
      for (let k = 0; k < crossed.length; k += 2) {
        path.moveTo(...crossed[k]);
        path.lineTo(...crossed[k + 1]);
      }
    }
  }
  return path;
}

/* Sets a line of colours.py; or what is dark beneath it, so that it is seen on any ground. A canvas has two
   pixels for one of a still picture. */
function pen(context, {colour, width, dash}, beneath = false) {
  context.strokeStyle = beneath ? "rgba(0,0,0,.55)" : colour;
  context.lineWidth = 2 * width + (beneath ? 2.5 : 0);
  context.setLineDash(dash.map((length) => 2 * length));
}
