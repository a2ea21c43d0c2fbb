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
export function eachTile(grid, firstRow, lastRow, visit) {
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
