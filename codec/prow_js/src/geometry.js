/**
 * Levels, tiles and passes: all follow from the picture's size and the model's config (SPEC.md section 4).
 */

export const START = 0;
export const MIDDLE = 1;
export const FULL = 2;
export const REFINE = 3;
export const KINDS = ["start", "middle", "full", "refine"];
export const STEPS = 64; // of the grid of quantiser steps

/**
 * @typedef {object} Pass One improvement of the whole picture at one level.
 * @property {number} kind START, MIDDLE, FULL or REFINE
 * @property {number} width px of its level
 * @property {number} height
 * @property {number} octaves below full resolution
 * @property {number} shift step indices below the base
 */

/** The quantiser step of a step index, in grey levels.
 * @param {number} index */
export const stepSize = (index) => 2 ** ((index - 8) / 4);

/** @param {Pass} pass
 * @param {number} base */
export const stepIndex = (pass, base) => Math.min(STEPS - 1, Math.max(0, base - pass.shift));

/** All passes of a picture, in stream order.
 * @param {number} width
 * @param {number} height
 * @param {import("./model.js").Config} config
 * @returns {Pass[]} */
export function passes(width, height, config) {
  const levels = [{ width, height }];
  while (Math.max(levels[0].width, levels[0].height) > config.tile) {
    levels.unshift({ width: Math.ceil(levels[0].width / 2), height: Math.ceil(levels[0].height / 2) });
  }
  const last = levels.length - 1;
  const plan = levels.map((level, number) => ({
    kind: number === 0 ? START : number === last ? FULL : MIDDLE,
    ...level,
    octaves: last - number,
    shift: -config.octave_step * (last - number),
  }));
  return [...plan, ...config.refine_shifts.map((shift) => ({ kind: REFINE, width, height, octaves: 0, shift }))];
}

/** Cut a side into parts of at most `tile` px whose sizes differ by one px at most, longer first.
 * @param {number} side
 * @param {number} tile
 * @returns {number[]} */
export function split(side, tile) {
  const count = Math.ceil(side / tile);
  const longer = side % count;
  return Array.from({ length: count }, (_, i) => Math.floor(side / count) + (i < longer ? 1 : 0));
}

/** The tiles of a level, in raster order. */
export class Grid {
  /** @param {{ width: number, height: number }} level
   * @param {number} tile px */
  constructor({ width, height }, tile) {
    this.widths = split(width, tile);
    this.heights = split(height, tile);
    this.columns = this.widths.length;
    this.rows = this.heights.length;
    this.tiles = this.columns * this.rows;
  }

  /** The tiles left of, right of, above and below a tile, as far as they exist.
   * @param {number} tile
   * @returns {number[]} */
  around(tile) {
    const column = tile % this.columns;
    const found = [];
    if (column > 0) found.push(tile - 1);
    if (column < this.columns - 1) found.push(tile + 1);
    if (tile >= this.columns) found.push(tile - this.columns);
    if (tile + this.columns < this.tiles) found.push(tile + this.columns);
    return found;
  }
}

/** For each tile of a grid, the tile of a coarser or equal one in which its centre lies.
 * @param {Grid} grid
 * @param {Grid} before
 * @param {number} octaves between the two
 * @returns {{ columns: number[], rows: number[] }} by column and by row */
export function tilesBefore(grid, before, octaves) {
  return {
    columns: partsBefore(grid.widths, before.widths, 2 ** octaves),
    rows: partsBefore(grid.heights, before.heights, 2 ** octaves),
  };
}

/** @param {number[]} sides
 * @param {number[]} before
 * @param {number} scale */
function partsBefore(sides, before, scale) {
  let end = 0;
  let part = 0;
  let partEnd = before[0];
  return sides.map((side) => {
    end += side;
    const centre = Math.floor((2 * end - side) / (2 * scale));
    while (part < before.length - 1 && partEnd <= centre) partEnd += before[++part];
    return part;
  });
}
