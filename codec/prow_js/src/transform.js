/**
 * The linear transform: what the integers of a pass paint, an inverse DCT of each tile that is unmixed across the borders
 * of tiles (SPEC.md section 4).
 */

import { eachTile } from "./pixels.js";

/** @typedef {import("./pixels.js").Picture} Picture */

/** A prediction, and what the integers of a pass add to it.
 * @param {Picture} prediction
 * @param {import("./geometry.js").Grid} grid
 * @param {import("./tokens.js").PassTokens} tokens
 * @param {Int32Array} order
 * @param {number} side T
 * @param {number} step
 * @returns {Picture} */
export function anchored(prediction, grid, tokens, order, side, step) {
  const { width, height, channels } = prediction;
  const residual = { data: new Float32Array(prediction.data.length), width, height, channels };
  const matrix = colourMatrix(channels);
  const coefficients = new Float64Array(side * side);
  eachTile(grid, 0, grid.rows, (tile, x, y, w, h) => {
    const values = tokens.values[tile];
    if (!values) return;
    for (let channel = 0; channel < channels; channel++) {
      coefficients.fill(0);
      let some = false;
      const first = channel * side * side;
      for (let rank = 0; rank < values.length; rank++) {
        const place = order[rank] - first;
        if (values[rank] === 0 || place < 0 || place >= side * side) continue;
        coefficients[place] = values[rank] * step;
        some = true;
      }
      if (some) paintTile(residual, x, y, inverseDct(coefficients, side, w, h), w, h, matrix[channel]);
    }
  });
  unlap(residual, grid);
  for (let i = 0; i < residual.data.length; i++) residual.data[i] += prediction.data[i];
  return residual;
}

/** @param {Picture} picture
 * @param {number} x
 * @param {number} y
 * @param {Float64Array} pixels [h, w]
 * @param {number} w
 * @param {number} h
 * @param {number[]} colours what each channel of the picture gets of them */
function paintTile({ data, width, height }, x, y, pixels, w, h, colours) {
  colours.forEach((share, c) => {
    if (share === 0) return;
    for (let v = 0; v < h; v++) {
      const row = (c * height + y + v) * width + x;
      for (let u = 0; u < w; u++) data[row + u] += share * pixels[v * w + u];
    }
  });
}

/** What each channel of a picture gets of each coded channel: orthonormal.
 * @param {number} channels
 * @returns {number[][]} */
function colourMatrix(channels) {
  const matrix = Array.from({ length: channels }, (_, i) => new Array(channels).fill(0).with(i, 1));
  if (channels < 3) return matrix;
  const rows = [
    [1, 1, 1],
    [1, 0, -1],
    [1, -2, 1],
  ];
  rows.forEach((row, i) => {
    const length = Math.hypot(...row);
    row.forEach((x, c) => (matrix[i][c] = x / length));
  });
  return matrix;
}

/** @type {Map<number, Float64Array>} */
const BASES = new Map();

/** The orthonormal DCT-II [frequency, place] of n px.
 * @param {number} n */
function dctBasis(n) {
  let basis = BASES.get(n);
  if (!basis) {
    basis = new Float64Array(n * n);
    for (let k = 0; k < n; k++) {
      const norm = Math.sqrt((k === 0 ? 1 : 2) / n);
      for (let i = 0; i < n; i++) basis[k * n + i] = norm * Math.cos((Math.PI * (i + 0.5) * k) / n);
    }
    BASES.set(n, basis);
  }
  return basis;
}

/** Coefficients, of which rows are `side` apart -> pixels [h, w].
 * @param {Float64Array} coefficients
 * @param {number} side
 * @param {number} w
 * @param {number} h */
function inverseDct(coefficients, side, w, h) {
  const across = dctBasis(w);
  const down = dctBasis(h);
  const pixels = new Float64Array(w * h);
  const row = new Float64Array(w);
  for (let v = 0; v < h; v++) {
    row.fill(0);
    let some = false;
    for (let u = 0; u < w; u++) {
      const x = coefficients[v * side + u];
      if (x === 0) continue;
      some = true;
      for (let i = 0; i < w; i++) row[i] += x * across[u * w + i];
    }
    if (!some) continue;
    for (let j = 0; j < h; j++) {
      const y = down[v * h + j];
      for (let i = 0; i < w; i++) pixels[j * w + i] += y * row[i];
    }
  }
  return pixels;
}

/** Undo the mixing of pixels across the borders of tiles, in place.
 * @param {Picture} picture
 * @param {import("./geometry.js").Grid} grid */
function unlap({ data, width, height, channels }, grid) {
  unlapLines(data, grid.widths, 1, channels * height, width);
  for (let c = 0; c < channels; c++) {
    unlapLines(data.subarray(c * width * height, (c + 1) * width * height), grid.heights, width, width, 1);
  }
}

/** @param {Float32Array} data
 * @param {number[]} lengths of the parts of a line
 * @param {number} stride between the pixels of a line
 * @param {number} lines
 * @param {number} between the first pixels of two lines */
function unlapLines(data, lengths, stride, lines, between) {
  const wide = lengths.length > 1 ? Math.floor(Math.min(...lengths) / 2) : 0;
  if (wide === 0) return;
  const matrix = lapMatrix(wide);
  const n = 2 * wide;
  const mixed = new Float64Array(n);
  let border = 0;
  for (const length of lengths.slice(0, -1)) {
    border += length;
    for (let line = 0; line < lines; line++) {
      const start = line * between + (border - wide) * stride;
      mixed.fill(0);
      let some = false;
      for (let i = 0; i < n; i++) {
        const x = data[start + i * stride];
        if (x === 0) continue;
        some = true;
        for (let j = 0; j < n; j++) mixed[j] += x * matrix[i * n + j];
      }
      if (some) for (let j = 0; j < n; j++) data[start + j * stride] = mixed[j];
    }
  }
}

/** @type {Map<number, Float64Array>} */
const LAPS = new Map();

/** [2 wide, 2 wide], what a writer mixes of the pixels on both sides of a border (SPEC.md section 4): row j of the
 * matrix makes pixel j of the window.
 * @param {number} wide */
function lapMatrix(wide) {
  const known = LAPS.get(wide);
  if (known) return known;
  const n = 2 * wide;
  const matrix = new Float64Array(n * n);
  const rotation = (/** @type {number} */ j, /** @type {number} */ i) => {
    let sum = 0;
    for (let k = 0; k < wide; k++) {
      const weight = k === 0 ? Math.SQRT1_2 : 1;
      sum += weight * Math.cos((Math.PI * k * (j + 0.5)) / wide) * Math.sin((Math.PI * (k + 0.5) * (i + 0.5)) / wide);
    }
    return (2 / wide) * sum;
  };
  for (let j = 0; j < wide; j++) {
    for (let i = 0; i < wide; i++) {
      const same = i === j ? 0.5 : 0; // of s(j)
      const turned = rotation(j, i) / 2; // of e(j)
      const [lj, rj, li, ri] = [wide - 1 - j, wide + j, wide - 1 - i, wide + i];
      matrix[lj * n + li] = same + turned;
      matrix[lj * n + ri] = same - turned;
      matrix[rj * n + li] = same - turned;
      matrix[rj * n + ri] = same + turned;
    }
  }
  LAPS.set(wide, matrix);
  return matrix;
}
