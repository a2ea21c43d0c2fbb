/**
 * The steps between networks: tiles to pictures and back, from level to level (SPEC.md section 4). A picture is a
 * Float32Array [C, H, W], 0 to 255.
 */

// Bicubic weights (a = -0.75) of the four neighbours at a quarter of the way from the second to the third.
const CUBIC = [-0.10546875, 0.87890625, 0.26171875, -0.03515625];

/**
 * @typedef {object} Picture
 * @property {Float32Array} data [C, height, width]
 * @property {number} width
 * @property {number} height
 * @property {number} channels
 */

/** A grey picture.
 * @param {{ width: number, height: number }} level
 * @param {number} channels
 * @returns {Picture} */
export function blank({ width, height }, channels) {
  return { data: new Float32Array(channels * width * height).fill(128), width, height, channels };
}

/** Visit tiles with their places: number, x, y, width and height in px.
 * @param {import("./geometry.js").Grid} grid
 * @param {number} firstRow of tiles
 * @param {number} lastRow exclusive
 * @param {(tile: number, x: number, y: number, width: number, height: number) => void} visit */
function eachTile(grid, firstRow, lastRow, visit) {
  let y = 0;
  for (let row = 0; row < lastRow; row++) {
    let x = 0;
    for (let column = 0; column < grid.columns; column++) {
      if (row >= firstRow) visit(row * grid.columns + column, x, y, grid.widths[column], grid.heights[row]);
      x += grid.widths[column];
    }
    y += grid.heights[row];
  }
}

/** Tiles [n, C, T, T] of some rows of tiles, borders replicated.
 * @param {Picture} picture
 * @param {import("./geometry.js").Grid} grid
 * @param {number} side T
 * @param {number} firstRow
 * @param {number} lastRow exclusive
 * @returns {Float32Array} */
export function cut({ data, width, height, channels }, grid, side, firstRow, lastRow) {
  const tiles = new Float32Array((lastRow - firstRow) * grid.columns * channels * side * side);
  let at = 0;
  eachTile(grid, firstRow, lastRow, (_, x, y, w, h) => {
    for (let c = 0; c < channels; c++) {
      for (let v = 0; v < side; v++) {
        const row = (c * height + y + Math.min(v, h - 1)) * width + x;
        for (let u = 0; u < side; u++) tiles[at++] = data[row + Math.min(u, w - 1)];
      }
    }
  });
  return tiles;
}

/** Add tiles [n, C, T, T] of some rows of tiles to a picture.
 * @param {Picture} picture
 * @param {Float32Array} tiles
 * @param {import("./geometry.js").Grid} grid
 * @param {number} side T
 * @param {number} firstRow
 * @param {number} lastRow exclusive */
export function addTiles({ data, width, height, channels }, tiles, grid, side, firstRow, lastRow) {
  let at = 0;
  eachTile(grid, firstRow, lastRow, (_, x, y, w, h) => {
    for (let c = 0; c < channels; c++, at += side * side) {
      for (let v = 0; v < h; v++) {
        const row = (c * height + y + v) * width + x;
        for (let u = 0; u < w; u++) data[row + u] += tiles[at + v * side + u];
      }
    }
  });
}

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
  unlapLines(data, grid.widths, 1, channels * height, () => width);
  for (let c = 0; c < channels; c++) {
    unlapLines(data.subarray(c * width * height, (c + 1) * width * height), grid.heights, width, width, () => 1);
  }
}

/** @param {Float32Array} data
 * @param {number[]} lengths of the parts of a line
 * @param {number} stride between the pixels of a line
 * @param {number} lines
 * @param {() => number} between lines */
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
      const start = line * between() + (border - wide) * stride;
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

/** Twice the size (bicubic), plus `ahead`, cropped to a level, 0 to 255.
 * @param {Picture} picture
 * @param {Picture | null} ahead at least as large as the level
 * @param {{ width: number, height: number }} level
 * @returns {Picture} */
export function double({ data, width: w, height: h, channels }, ahead, { width, height }) {
  const larger = new Float32Array(channels * width * height);
  const tall = new Float32Array(height * w);
  for (let c = 0; c < channels; c++) {
    const plane = data.subarray(c * w * h, (c + 1) * w * h);
    for (let y = 0; y < height; y++) {
      const near = neighbours(y, h).map((row) => row * w);
      for (let x = 0; x < w; x++) {
        tall[y * w + x] =
          CUBIC[0] * plane[near[0] + x] +
          CUBIC[1] * plane[near[1] + x] +
          CUBIC[2] * plane[near[2] + x] +
          CUBIC[3] * plane[near[3] + x];
      }
    }
    const columns = Array.from({ length: width }, (_, x) => neighbours(x, w));
    const places = Int32Array.from(columns.flat());
    for (let y = 0; y < height; y++) {
      const from = y * w;
      const to = (c * height + y) * width;
      const more = ahead ? (c * ahead.height + y) * ahead.width : 0;
      for (let x = 0; x < width; x++) {
        let value =
          CUBIC[0] * tall[from + places[4 * x]] +
          CUBIC[1] * tall[from + places[4 * x + 1]] +
          CUBIC[2] * tall[from + places[4 * x + 2]] +
          CUBIC[3] * tall[from + places[4 * x + 3]];
        if (ahead) value += ahead.data[more + x];
        larger[to + x] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
  return { data: larger, width, height, channels };
}

/** The four places that make a place of a doubled line, in the order of the weights.
 * @param {number} place
 * @param {number} length of the line before */
function neighbours(place, length) {
  const own = place >> 1;
  const to = place & 1 ? 1 : -1; // the side that the place is on
  return [own - to, own, own + to, own + 2 * to].map((i) => Math.min(length - 1, Math.max(0, i)));
}

/** What a loop filter is told of tiles [1, 3, H, W]: share of tokens, and where tiles begin and end.
 * @param {{ width: number, height: number }} level
 * @param {import("./geometry.js").Grid} grid
 * @param {Uint8Array | null} counts tokens of each tile; null: nothing is told
 * @param {number} most tokens that a tile can have
 * @returns {Picture} */
export function coverage({ width, height }, grid, counts, most) {
  const data = new Float32Array(3 * width * height);
  const across = edges(grid.widths);
  const down = edges(grid.heights);
  if (counts) {
    eachTile(grid, 0, grid.rows, (tile, left, top, w, h) => {
      for (let y = top; y < top + h; y++) {
        data.fill(counts[tile] / most, y * width + left, y * width + left + w);
      }
    });
    for (let y = 0; y < height; y++) {
      data.set(across, (height + y) * width);
      data.fill(down[y], (2 * height + y) * width, (2 * height + y + 1) * width);
    }
  }
  return { data, width, height, channels: 3 };
}

/** 1 at the first, -1 at the last place of each part; 0 if these are the same.
 * @param {number[]} lengths */
function edges(lengths) {
  const marks = new Float32Array(lengths.reduce((a, b) => a + b, 0));
  let start = 0;
  for (const length of lengths) {
    marks[start] += 1;
    marks[start + length - 1] -= 1;
    start += length;
  }
  return marks;
}

/** Some rows of a picture.
 * @param {Picture} picture
 * @param {number} first
 * @param {number} end exclusive
 * @returns {Picture} */
export function rows({ data, width, height, channels }, first, end) {
  if (first === 0 && end === height) return { data, width, height, channels };
  const part = new Float32Array(channels * (end - first) * width);
  for (let c = 0; c < channels; c++) {
    part.set(data.subarray((c * height + first) * width, (c * height + end) * width), c * (end - first) * width);
  }
  return { data: part, width, height: end - first, channels };
}

/** Put rows of one picture into another.
 * @param {Picture} picture to change
 * @param {number} at first row of it
 * @param {Picture} part
 * @param {number} first row of the part
 * @param {number} end exclusive */
export function putRows(picture, at, part, first, end) {
  for (let c = 0; c < picture.channels; c++) {
    const from = part.data.subarray((c * part.height + first) * part.width, (c * part.height + end) * part.width);
    picture.data.set(from, (c * picture.height + at) * picture.width);
  }
}

/** RGBA bytes of colour and alpha, both pictures of the model's channels.
 * @param {Picture} colour
 * @param {boolean} grey
 * @param {Picture | null} alpha
 * @returns {Uint8ClampedArray} */
export function toRgba(colour, grey, alpha) {
  const count = colour.width * colour.height;
  const rgba = new Uint8ClampedArray(4 * count); // which rounds to nearest, as numpy does
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) rgba[4 * i + c] = colour.data[(colour.channels < 3 ? 0 : c) * count + i];
    rgba[4 * i + 3] = 255;
  }
  if (grey) {
    for (let i = 0; i < rgba.length; i += 4) rgba.fill(meanOf(rgba[i], rgba[i + 1], rgba[i + 2]), i, i + 3);
  }
  if (alpha) {
    const pixel = new Uint8ClampedArray(3);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < 3; c++) pixel[c] = alpha.data[c * count + i];
      rgba[4 * i + 3] = meanOf(pixel[0], pixel[1], pixel[2]);
    }
  }
  return rgba;
}

/** @param {number} r
 * @param {number} g
 * @param {number} b */
const meanOf = (r, g, b) => Math.floor((r + g + b + 1) / 3);
