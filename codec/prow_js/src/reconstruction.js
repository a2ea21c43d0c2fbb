/**
 * The loop over the passes: tokens to a picture (SPEC.md section 4, "Pixels").
 */

import { FULL, Grid, MIDDLE, REFINE, START, stepIndex, stepSize } from "./geometry.js";
import { COARSE, FULL_SIZE, LIGHT, SHOWN } from "./limits.js";
import { addTiles, blank, coverage, cut, double, putRows, rows } from "./pixels.js";
import { anchored } from "./transform.js";

const WORTH = 200; // px for each integer that is not 0: with more, a loop filter behind the last token is left out
const TILES = 512; // that go through the network at once, about
const STRIP = 2 ** 18; // px of a level that go through a loop filter at once, about
const BREATH = 30; // ms after which a page gets its turn

/** @typedef {import("./pixels.js").Picture} Picture */

/** The picture that the passes of a plane say.
 * @param {import("./tokens.js").Tokens} tokens
 * @param {(import("./tokens.js").PassTokens | null)[]} parts tokens of each pass
 * @param {import("./networks.js").Networks} networks
 * @param {AbortSignal} [signal]
 * @returns {Promise<Picture>} */
export async function reconstruct(tokens, parts, networks, signal) {
  const { config } = networks.model;
  const base = tokens.base ?? config.usual_base;
  const filters = filterOctaves(tokens, parts);
  /** @type {Picture} */
  let picture = blank(tokens.plan[0], config.channels);
  /** @type {Picture | null} */
  let ahead = null;
  let breathed = performance.now();
  for (const [index, pass] of tokens.plan.entries()) {
    if (performance.now() - breathed > BREATH) {
      await new Promise((resolve) => setTimeout(resolve));
      breathed = performance.now();
    }
    signal?.throwIfAborted();
    const prediction = pass.width === picture.width && pass.height === picture.height ? picture : double(picture, ahead, pass);
    ahead = null;
    picture = prediction;
    const part = parts[index];
    const painter = new PassPainter(pass, base, networks, part);
    if (part) picture = await painter.paint(prediction, part);
    const last = pass.kind === FULL || pass.kind === REFINE;
    if (part || !(last || pass.octaves < filters.least)) {
      const light = pass.octaves < filters.light;
      ({ picture, ahead } = await painter.filter(picture, prediction, light));
    }
  }
  return picture;
}

/** Nominal time to decode these tokens, in ns, without that to read them (`Meter`).
 * @param {import("./tokens.js").Tokens} tokens
 * @returns {number} */
export function workOf(tokens) {
  let total = 0;
  for (const parts of tokens.alpha ? [tokens.passes, tokens.alpha] : [tokens.passes]) {
    const { least, light } = filterOctaves(tokens, parts);
    total += SHOWN * tokens.width * tokens.height;
    tokens.plan.forEach(({ kind, octaves, width, height }, i) => {
      const fullSize = kind === FULL || kind === REFINE;
      const pixel = fullSize ? FULL_SIZE : octaves < light ? LIGHT : COARSE;
      if (parts[i] || (octaves >= least && !fullSize)) total += pixel * width * height;
    });
  }
  return total;
}

/** Least octaves below full resolution of levels with a loop filter behind the last token, and of those with a full one.
 * @param {import("./tokens.js").Tokens} tokens
 * @param {(import("./tokens.js").PassTokens | null)[]} parts */
function filterOctaves({ width, height, plan }, parts) {
  const coded = parts.findLastIndex((part) => part !== null);
  const light = coded < 0 ? plan[0].octaves + 1 : plan[coded].octaves;
  let known = 0;
  for (const part of parts) for (const values of part?.values ?? []) for (const x of values ?? []) known += x !== 0 ? 1 : 0;
  const pixels = (/** @type {number} */ octaves) => Math.ceil(width / 2 ** octaves) * Math.ceil(height / 2 ** octaves);
  let least = light;
  while (least > 0 && pixels(least - 1) <= WORTH * known) least--;
  return { least, light };
}

/** One pass: its decoder and its loop filter. */
class PassPainter {
  /** @param {import("./geometry.js").Pass} pass
   * @param {number} base
   * @param {import("./networks.js").Networks} networks
   * @param {import("./tokens.js").PassTokens | null} part */
  constructor(pass, base, networks, part) {
    this.pass = pass;
    this.networks = networks;
    this.config = networks.model.config;
    this.part = part;
    this.grid = new Grid(pass, this.config.tile);
    this.step = stepSize(stepIndex(pass, base));
    this.kind = BigInt64Array.of(BigInt(pass.kind));
  }

  /** The picture before the loop filter.
   * @param {Picture} prediction
   * @param {import("./tokens.js").PassTokens} part
   * @returns {Promise<Picture>} */
  async paint(prediction, part) {
    const { config, grid, networks } = this;
    const order = networks.model.tables.order[this.pass.kind];
    const start = anchored(prediction, grid, part, order, config.tile, this.step);
    if (!config.network) return start;
    const painted = { ...start, data: start.data.slice() };
    const ranks = BigInt64Array.from(order, BigInt);
    const batch = Math.max(1, Math.floor(TILES / grid.columns)); // rows of tiles
    for (let first = 0; first < grid.rows; first += batch) {
      const end = Math.min(grid.rows, first + batch);
      const tiles = (end - first) * grid.columns;
      const shape = [tiles, config.channels, config.tile, config.tile];
      const counts = part.counts.subarray(first * grid.columns, end * grid.columns);
      const [corrected] = await networks.run("decoder", {
        values: [this.#values(part, first * grid.columns, tiles), [tiles, order.length]],
        counts: [BigInt64Array.from(counts, BigInt), [tiles]],
        anchored: [cut(start, grid, config.tile, first, end), shape],
        prediction: [cut(prediction, grid, config.tile, first, end), shape],
        step: [new Float32Array(tiles).fill(this.step), [tiles]],
        kind: [this.kind, []],
        order: [ranks, [order.length]],
      });
      addTiles(painted, corrected.data, grid, config.tile, first, end);
    }
    return painted;
  }

  /** Integers [tiles, K].
   * @param {import("./tokens.js").PassTokens} part
   * @param {number} first tile
   * @param {number} tiles */
  #values(part, first, tiles) {
    const k = this.networks.model.coefficients;
    const values = new Float32Array(tiles * k);
    for (let i = 0; i < tiles; i++) {
      const integers = part.values[first + i];
      if (integers) values.set(integers, i * k);
    }
    return values;
  }

  /** The picture as a reader sees it, and what to add when it is doubled, if anything. In strips that overlap by the
   * reach of the filter, so that memory stays bounded.
   * @param {Picture} picture
   * @param {Picture} prediction
   * @param {boolean} light
   * @returns {Promise<{ picture: Picture, ahead: Picture | null }>} */
  async filter(picture, prediction, light) {
    const { config, grid, networks, pass } = this;
    if (!config.network) return { picture: { ...picture, data: picture.data.map(clamped) }, ahead: null };
    const coarse = light ? "light_filter" : "coarse_filter";
    const name = pass.kind === START || pass.kind === MIDDLE ? coarse : "fine_filter";
    const told = coverage(pass, grid, this.part?.counts ?? null, config.token_dims.length);
    const finished = { ...picture, data: new Float32Array(picture.data.length) };
    /** @type {Picture | null} */
    let ahead = null;
    for (const { first, end, top, height } of strips(pass.height, pass.width, config.reach)) {
      /** @param {Picture} whole
       * @returns {[Float32Array, number[]]} */
      const strip = (whole) => [rows(whole, first, end).data, [1, whole.channels, end - first, whole.width]];
      const [out, more] = await networks.run(name, {
        picture: strip(picture),
        prediction: strip(prediction),
        coverage: strip(told),
        step: [Float32Array.of(this.step), [1]],
        kind: [this.kind, []],
      });
      putRows(finished, top, asPicture(out), top - first, top - first + height);
      if (!more) continue;
      const detail = asPicture(more);
      ahead ??= blank({ width: detail.width, height: 2 * (pass.height + (pass.height % 2)) }, detail.channels);
      const rest = Math.min(2 * height, detail.height - 2 * (top - first));
      putRows(ahead, 2 * top, detail, 2 * (top - first), 2 * (top - first) + (end === pass.height ? rest : 2 * height));
    }
    return { picture: finished, ahead };
  }
}

/** Strips of a level: the rows that a filter is given (first to end), and which of them are its result (height rows from
 * top).
 * @param {number} height
 * @param {number} width
 * @param {number} reach
 * @returns {{ first: number, end: number, top: number, height: number }[]} */
function strips(height, width, reach) {
  const count = Math.ceil((height * width) / STRIP);
  const size = Math.ceil(Math.max(Math.ceil(height / count), reach) / 2) * 2;
  const found = [];
  for (let top = 0; top < height; top += size) {
    const end = Math.min(height, top + size + reach);
    found.push({ first: Math.max(0, top - reach), end, top, height: Math.min(size, height - top) });
  }
  return found;
}

/** @param {{ data: Float32Array, dims: readonly number[] }} tensor of shape [1, C, H, W]
 * @returns {Picture} */
const asPicture = ({ data, dims }) => ({ data, channels: dims[1], height: dims[2], width: dims[3] });

/** @param {number} x */
const clamped = (x) => Math.min(255, Math.max(0, x));
