/**
 * What is known of a pass while it is read, and the tables that follow from it (SPEC.md section 5.4): integers alone.
 * The context network runs in doubles, which are exact: no sum exceeds 2^53. Tiles of which nothing but zeros came
 * take no memory.
 */

import { Grid, KINDS, tilesBefore } from "./geometry.js";

export const GROUP = 16; // ranks of a token that are coded on the same knowledge
const CAP = 4; // magnitudes count up to this
const TILE_BINS = 24;
const AROUND = 5;
const LIMIT = 2 ** 15 - 1; // of a hidden unit
const NEIGHBOURS = [
  // differences of channel, vertical and horizontal frequency; weight
  [0, -1, 0, 2],
  [0, 0, -1, 2],
  [0, -1, -1, 1],
  [0, -2, 0, 1],
  [0, 0, -2, 1],
  [0, 1, -1, 1],
  [0, -1, 1, 1],
  [-1, 0, 0, 2],
  [-2, 0, 0, 1],
];
const UNDER = [
  // in the pass before
  [0, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
  [0, -1, 0],
  [0, 0, -1],
  [0, 1, 1],
  [-1, 0, 0],
];

/** 0, 1, 2, 3, 4 to 5, 6 to 7, 8 to 11, 12 to 15, 16 to 23, ...
 * @param {number} amount
 * @returns {number} */
export function binOf(amount) {
  if (amount < 2) return amount;
  if (amount < 2 ** 31) {
    const octave = 31 - Math.clz32(amount);
    return 2 * octave + ((amount >> (octave - 1)) & 1);
  }
  return binOf(Math.floor(amount / 4)) + 4;
}

/**
 * @typedef {object} Ranks What of a kind of pass is the same for all pictures.
 * @property {Int32Array} near [K, 9] ranks of each rank's neighbours; -1 for none in an earlier group
 * @property {Int32Array} under [K, 7] coefficients in the pass before; -1 for none
 */

/** @type {WeakMap<import("./model.js").Model, Ranks[]>} */
const RANKS = new WeakMap();

/** @param {import("./model.js").Model} model
 * @param {number} kind
 * @returns {Ranks} */
function ranksOf(model, kind) {
  if (!RANKS.has(model)) RANKS.set(model, KINDS.map((_, k) => findRanks(model, k)));
  return /** @type {Ranks[]} */ (RANKS.get(model))[kind];
}

/** @param {import("./model.js").Model} model
 * @param {number} kind
 * @returns {Ranks} */
function findRanks({ config, coefficients, tables }, kind) {
  const { tile, token_dims: dims } = config;
  const order = tables.order[kind];
  const rankOf = new Int32Array(coefficients);
  order.forEach((coefficient, rank) => (rankOf[coefficient] = rank));
  /** @param {number} coefficient
   * @param {number[]} offset */
  const shifted = (coefficient, [dc, dv, du]) => {
    const c = Math.floor(coefficient / tile ** 2) + dc;
    const v = (Math.floor(coefficient / tile) % tile) + dv;
    const u = (coefficient % tile) + du;
    return c >= 0 && v >= 0 && v < tile && u >= 0 && u < tile ? (c * tile + v) * tile + u : -1;
  };
  const near = new Int32Array(coefficients * NEIGHBOURS.length);
  const under = new Int32Array(coefficients * UNDER.length);
  let start = 0;
  for (const count of dims) {
    for (let rank = start; rank < start + count; rank++) {
      const first = rank - ((rank - start) % GROUP); // of its group
      NEIGHBOURS.forEach((offset, i) => {
        const other = shifted(order[rank], offset);
        near[rank * NEIGHBOURS.length + i] = other >= 0 && rankOf[other] < first ? rankOf[other] : -1;
      });
      UNDER.forEach((offset, i) => (under[rank * UNDER.length + i] = shifted(order[rank], offset)));
    }
    start += count;
  }
  return { near, under };
}

/** Tables of the symbols of a pass; it learns from each group and each round. */
export class PassContext {
  /**
   * @param {import("./geometry.js").Pass} pass
   * @param {number} stepIndex
   * @param {import("./model.js").Model} model
   * @param {PassContext | null} before that of the last pass before this one that is coded
   */
  constructor(pass, stepIndex, model, before) {
    /** @type {import("./geometry.js").Pass} */
    this.pass = pass;
    this.stepIndex = stepIndex;
    this.model = model;
    this.before = before;
    /** @type {Grid} */
    this.grid = new Grid(pass, model.config.tile);
    const { tiles } = this.grid;
    /** Of each tile, min(4, magnitude) by rank; undefined: all 0. @type {(Uint8Array | undefined)[]} */
    this.magnitudes = new Array(tiles);
    /** Of each tile by coefficient, when the pass is over; see `held`. @type {(Uint8Array | null | undefined)[]} */
    this.heldBefore = new Array(tiles);
    this.energy = new Int32Array(tiles);
    this.total = 0; // of all energies
    this.began = new Uint8Array(tiles); // tokens of each tile whose flag was 1
    this.octaves = octavesAbove(before, pass);
    this.places = before && placesIn(before, this.grid, this.octaves);
    const kind = pass.kind * 64 + stepIndex;
    this.classes = model.tables.classes.subarray(kind * model.coefficients, (kind + 1) * model.coefficients);
    const tokens = model.config.token_dims.length;
    this.go = model.tables.go.subarray(kind * tokens, (kind + 1) * tokens);
    this.ranks = ranksOf(model, pass.kind);
    /** Sums of the first layer that a rank has in all tiles. @type {(Float64Array | undefined)[]} */
    this.positions = new Array(model.coefficients);
    const hidden = model.tables.b1.length;
    this.first = new Float64Array(hidden);
    this.second = new Float64Array(hidden);
  }

  /** Frequency of the flag 0 (stop) before a token.
   * @param {number} token
   * @param {number} tile
   * @returns {number} */
  stopFrequency(token, tile) {
    const { tables, config } = this.model;
    let along = 0;
    for (const other of this.grid.around(tile)) along += this.began[other] >= Math.max(token, 1) ? 1 : 0;
    const energyBefore = this.before ? this.before.energy[this.#tileBefore(tile)] : 0;
    const row = this.pass.kind * config.token_dims.length + token;
    const before = Math.min(TILE_BINS - 1, binOf(energyBefore));
    const own = Math.min(TILE_BINS - 1, binOf(this.energy[tile]));
    const shift = tables.flagAround[(row * AROUND + along) * TILE_BINS + before] + tables.flagOwn[row * TILE_BINS + own];
    return 2 ** 24 - tables.odds[clip(this.go[token] + shift, tables.odds.length)];
  }

  /** Class of the integer at a rank.
   * @param {number} token
   * @param {number} rank
   * @param {number} tile
   * @returns {number} */
  classOf(token, rank, tile) {
    const { tables } = this.model;
    const own = this.classes[rank];
    return tables.contexts ? clip(own + this.#shift(token, rank, tile), tables.classCount) : own;
  }

  /** What the context network says.
   * @param {number} token
   * @param {number} rank
   * @param {number} tile */
  #shift(token, rank, tile) {
    const { first, second } = this;
    const { w2, b2, w3, b3 } = this.model.tables;
    first.set((this.positions[rank] ??= this.#position(token, rank)));
    this.#addSurroundings(rank, tile);
    const hidden = first.length;
    second.set(b2);
    for (let i = 0; i < hidden; i++) {
      const x = activated(first[i], 2 ** 6);
      if (x === 0) continue;
      for (let h = 0, w = i * hidden; h < hidden; h++, w++) second[h] += x * w2[w];
    }
    let sum = b3 + 2 ** 17;
    for (let h = 0; h < hidden; h++) sum += activated(second[h], 2 ** 12) * w3[h];
    return Math.floor(sum / 2 ** 18);
  }

  /** The part of the first layer's sums that is the same in all tiles.
   * @param {number} token
   * @param {number} rank */
  #position(token, rank) {
    const { config, tables } = this.model;
    const { tile, channels } = config;
    const coefficient = tables.order[this.pass.kind][rank];
    const channel = Math.floor(coefficient / tile ** 2);
    const v = Math.floor(coefficient / tile) % tile;
    const u = coefficient % tile;
    const inputs = [this.classes[rank], this.stepIndex, token, v, u, v + u, binOf(v), binOf(u), binOf(v + u), binOf(rank)];
    for (let c = 0; c < channels; c++) inputs.push(c === channel ? 1 : 0);
    for (let kind = 0; kind < KINDS.length; kind++) inputs.push(kind === this.pass.kind ? 1 : 0);
    inputs.push(this.pass.octaves, this.octaves, binOf(this.grid.tiles));
    const sums = tables.b1.slice();
    inputs.forEach((x, input) => addRow(sums, x, tables.w1, input));
    return sums;
  }

  /** Add the rest of the inputs to the first layer's sums.
   * @param {number} rank
   * @param {number} tile */
  #addSurroundings(rank, tile) {
    const { first, ranks, magnitudes, energy } = this;
    const { w1 } = this.model.tables;
    const around = this.grid.around(tile);
    const own = magnitudes[tile];
    let input = 17 + this.model.config.channels;
    addRow(first, around.length, w1, input);
    let ownSum = 0;
    let othersSum = 0;
    for (let i = 0; i < NEIGHBOURS.length; i++) {
      input++;
      const near = ranks.near[rank * NEIGHBOURS.length + i];
      if (near < 0) continue;
      let others = 0;
      for (const other of around) others += magnitudes[other]?.[near] ?? 0;
      const mine = own ? own[near] : 0;
      addRow(first, mine, w1, input);
      addRow(first, binOf(others), w1, input + NEIGHBOURS.length);
      ownSum += NEIGHBOURS[i][3] * mine;
      othersSum += NEIGHBOURS[i][3] * others;
    }
    input += NEIGHBOURS.length;
    let energyAround = 0;
    for (const other of around) energyAround += energy[other];
    const tileBefore = this.before ? this.#tileBefore(tile) : 0;
    const energyBefore = this.before ? this.before.energy[tileBefore] : 0;
    for (const amount of [ownSum, othersSum, energy[tile], energyAround, energyBefore]) {
      addRow(first, binOf(amount), w1, ++input);
    }
    const held = this.before?.held(tileBefore);
    let underSum = 0;
    for (let i = 0; i < UNDER.length; i++) {
      input++;
      const under = ranks.under[rank * UNDER.length + i];
      const magnitude = held && under >= 0 ? held[under] : 0;
      addRow(first, magnitude, w1, input);
      underSum += magnitude;
    }
    for (const amount of [underSum, this.meanEnergy(), this.before?.meanEnergy() ?? 0]) {
      addRow(first, binOf(amount), w1, ++input);
    }
  }

  /** @param {number} tile */
  #tileBefore(tile) {
    const { columns } = this.grid;
    const { columns: column, rows: row } = /** @type {{ columns: number[], rows: number[] }} */ (this.places);
    const wide = /** @type {PassContext} */ (this.before).grid.columns;
    return row[Math.floor(tile / columns)] * wide + column[tile % columns];
  }

  /** Remember the symbol (not 0) of an integer.
   * @param {number} tile
   * @param {number} rank
   * @param {number} symbol */
  learn(tile, rank, symbol) {
    const magnitude = Math.min(CAP, (symbol + 1) >> 1);
    (this.magnitudes[tile] ??= new Uint8Array(this.model.coefficients))[rank] = magnitude;
    this.energy[tile] += magnitude;
    this.total += magnitude;
  }

  /** Of a pass that is over: magnitudes of a tile by coefficient, those of passes before at its level included; null if
   * all are 0.
   * @param {number} tile
   * @returns {Uint8Array | null} */
  held(tile) {
    let held = this.heldBefore[tile];
    if (held !== undefined) return held;
    const under = this.before && this.octaves === 0 ? this.before.held(tile) : null;
    const magnitudes = this.magnitudes[tile];
    held = under;
    if (magnitudes) {
      held = under ? under.slice() : new Uint8Array(magnitudes.length);
      const order = this.model.tables.order[this.pass.kind];
      for (let rank = 0; rank < magnitudes.length; rank++) {
        held[order[rank]] = Math.min(CAP, held[order[rank]] + magnitudes[rank]);
      }
    }
    this.heldBefore[tile] = held;
    return held;
  }

  meanEnergy() {
    return Math.floor((8 * this.total) / this.grid.tiles);
  }
}

/** How far a pass is above the one before it.
 * @param {PassContext | null} before
 * @param {import("./geometry.js").Pass} pass */
const octavesAbove = (before, pass) => (before ? before.pass.octaves - pass.octaves : 0);

/** @param {PassContext} before
 * @param {Grid} grid
 * @param {number} octaves */
const placesIn = (before, grid, octaves) => tilesBefore(grid, before.grid, octaves);

/** sums += x * a row of weights.
 * @param {Float64Array} sums
 * @param {number} x
 * @param {Float64Array} weights
 * @param {number} row */
function addRow(sums, x, weights, row) {
  if (x === 0) return;
  for (let h = 0, w = row * sums.length; h < sums.length; h++, w++) sums[h] += x * weights[w];
}

/** @param {number} sum
 * @param {number} unit */
const activated = (sum, unit) => (sum < unit ? 0 : Math.min(LIMIT, Math.floor(sum / unit)));

/** @param {number} value
 * @param {number} count */
const clip = (value, count) => Math.min(count - 1, Math.max(0, value));
