/**
 * The token stream (SPEC.md section 5): of any bytes, exactly the tokens that these determine.
 */

import { GROUP, PassContext } from "./context.js";
import { Grid, passes, stepIndex, STEPS } from "./geometry.js";
import { MAX_PIXELS, Meter } from "./limits.js";
import { Ended, RangeDecoder, runningSums, TOTAL } from "./range_decoder.js";

const NEAR = 3; // how far from the usual base those are that have a short symbol
const LONG = 2 * NEAR + 1; // the short symbol that a long one follows
const SHORT_BASE = runningSums(new Array(LONG + 1).fill(TOTAL / (LONG + 1)));
const LONG_BASE = runningSums(new Array(STEPS).fill(TOTAL / STEPS));
const HALF = TOTAL / 2;
const RARE = TOTAL - 2 ** 18; // of 0: whether a picture is grey, whether it has alpha
const CODED = 2 ** 18; // of 0, a skipped pass, unless the pass before it is skipped
const SYMBOLS = 63;
const FIRST_RAW = 15; // the least symbol with raw bits
const OF_A_TILE = 16; // symbols that take as long as to make the context of a tile in a pass

/**
 * @typedef {object} PassTokens Tokens of a pass.
 * @property {Uint8Array} counts how many tokens each tile has
 * @property {(Int16Array | undefined)[]} values of each tile, integers by rank [K]; undefined: all 0
 *
 * @typedef {object} Tokens All that a stream says.
 * @property {number} width px
 * @property {number} height px
 * @property {number | null} base step index of the first pass at full resolution; null if not even that was received
 * @property {boolean} grey
 * @property {import("./geometry.js").Pass[]} plan the passes of each plane
 * @property {(PassTokens | null)[]} passes tokens of each pass of colour; null for one without
 * @property {(PassTokens | null)[] | null} alpha those of alpha; null if no token of it was received
 */

/** The tokens in a payload. Throws LimitError if it asks for too much work, and else never fails.
 * @param {Uint8Array} payload
 * @param {number} width
 * @param {number} height
 * @param {import("./model.js").Model} model
 * @param {Meter} [meter] of the work that the bytes may ask for
 * @returns {Tokens} */
export function readTokens(payload, width, height, model, meter = new Meter(MAX_PIXELS)) {
  const decoder = new RangeDecoder(payload, (symbols) => meter.read(symbols));
  const plan = passes(width, height, model.config);
  const colour = new Plane(plan, model);
  const alpha = new Plane(plan, model);
  alpha.grey = true;
  let base = null;
  try {
    base = readBase(decoder, model.config.usual_base);
    colour.grey = decoder.choice(RARE) === 1;
    let opaque = false;
    for (let number = 0; number < plan.length; number++) {
      colour.read(decoder, number, base);
      if (number === 0) opaque = decoder.choice(RARE) === 0;
      if (!opaque) alpha.read(decoder, number, base);
    }
  } catch (error) {
    if (!(error instanceof Ended)) throw error;
  }
  const [shown, shownAlpha] = [colour, alpha].map((plane) => plane.tokens());
  return { width, height, base, grey: colour.grey, plan, passes: shown, alpha: shownAlpha.some(Boolean) ? shownAlpha : null };
}

/** @param {RangeDecoder} decoder
 * @param {number} usual */
function readBase(decoder, usual) {
  const symbol = decoder.symbol(SHORT_BASE, 0, LONG + 1);
  return symbol < LONG ? usual - NEAR + symbol : decoder.symbol(LONG_BASE, 0, STEPS);
}

/** The passes of colour or of alpha. */
class Plane {
  /** @param {import("./geometry.js").Pass[]} plan
   * @param {import("./model.js").Model} model */
  constructor(plan, model) {
    this.plan = plan;
    this.model = model;
    this.grey = false;
    this.skipFrequency = CODED;
    /** @type {PassContext | null} */
    this.context = null;
    /** @type {(PassTokens | null)[]} */
    this.passes = plan.map(() => null);
  }

  /** @param {RangeDecoder} decoder
   * @param {number} number of the pass
   * @param {number} base */
  read(decoder, number, base) {
    const coded = decoder.choice(this.skipFrequency) === 1;
    this.skipFrequency = coded ? CODED : HALF;
    if (!coded) return;
    const pass = this.plan[number];
    decoder.count(OF_A_TILE * new Grid(pass, this.model.config.tile).tiles);
    this.context = new PassContext(pass, stepIndex(pass, base), this.model, this.context);
    const { tiles } = this.context.grid;
    const tokens = { counts: new Uint8Array(tiles), values: new Array(tiles) };
    this.passes[number] = tokens;
    new PassReader(decoder, this.context, tokens, this.grey).read();
  }

  tokens() {
    return this.passes.map((tokens) => (tokens?.counts.some((count) => count > 0) ? tokens : null));
  }
}

/** Reads one pass, so that counts and values are right whenever Ended is thrown. */
class PassReader {
  /** @param {RangeDecoder} decoder
   * @param {PassContext} context
   * @param {PassTokens} tokens to fill
   * @param {boolean} grey */
  constructor(decoder, context, tokens, grey) {
    this.decoder = decoder;
    this.context = context;
    this.tokens = tokens;
    const { model, pass, grid } = context;
    this.model = model;
    const order = model.tables.order[pass.kind];
    const coded = grey ? model.config.tile ** 2 : model.coefficients;
    const sizes = new Map();
    /** Which ranks each tile has, and the last of them. @type {{ has: Uint8Array, last: number }[]} */
    this.shapes = [];
    for (const h of grid.heights) {
      for (const w of grid.widths) {
        const key = h * 65536 + w;
        if (!sizes.has(key)) sizes.set(key, shapeOf(w, h, order, coded, model.config.tile));
        this.shapes.push(sizes.get(key));
      }
    }
  }

  read() {
    const { decoder, context, tokens, shapes } = this;
    let active = shapes.map((_, tile) => tile);
    let start = 0;
    this.model.config.token_dims.forEach((dims, token) => {
      active = active.filter((tile) => shapes[tile].last >= start);
      decoder.count(active.length);
      active = active.filter((tile) => decoder.choice(context.stopFrequency(token, tile)) === 1);
      for (const tile of active) context.began[tile] = token + 1;
      /** @type {number[]} */
      const large = []; // tile, rank and symbol of integers with raw bits
      for (let first = start; first < start + dims; first += GROUP) {
        this.#group(token, first, Math.min(first + GROUP, start + dims), active, large);
      }
      for (let i = 0; i < large.length; i += 3) this.#rawBits(large[i], large[i + 1], large[i + 2]);
      for (const tile of active) tokens.counts[tile] = token + 1;
      start += dims;
    });
  }

  /** @param {number} token
   * @param {number} first rank
   * @param {number} end
   * @param {number[]} active
   * @param {number[]} large what has raw bits is added */
  #group(token, first, end, active, large) {
    const { decoder, context, tokens, shapes } = this;
    const { bank } = this.model.tables;
    const learnt = []; // what no integer of this group may know
    for (let rank = first; rank < end; rank++) {
      decoder.count(active.length);
      for (const tile of active) {
        if (!shapes[tile].has[rank]) continue;
        const symbol = decoder.symbol(bank, context.classOf(token, rank, tile) * (SYMBOLS + 1), SYMBOLS);
        if (symbol === 0) continue;
        this.#store(tile, rank, integer(symbol, 0, 0));
        tokens.counts[tile] = token + 1;
        learnt.push(tile, rank, symbol);
        if (symbol >= FIRST_RAW) large.push(tile, rank, symbol);
      }
    }
    for (let i = 0; i < learnt.length; i += 3) context.learn(learnt[i], learnt[i + 1], learnt[i + 2]);
  }

  /** @param {number} tile
   * @param {number} rank
   * @param {number} symbol */
  #rawBits(tile, rank, symbol) {
    const count = rawBits(symbol);
    let raw = 0;
    for (let received = 1; received <= count; received++) {
      raw = raw * 2 + this.decoder.choice(HALF);
      this.#store(tile, rank, integer(symbol, raw, received));
    }
  }

  /** @param {number} tile
   * @param {number} rank
   * @param {number} value */
  #store(tile, rank, value) {
    (this.tokens.values[tile] ??= new Int16Array(this.model.coefficients))[rank] = value;
  }
}

/** @param {number} width
 * @param {number} height
 * @param {Int32Array} order
 * @param {number} coded coefficients of the channels that are coded
 * @param {number} tile */
function shapeOf(width, height, order, coded, tile) {
  const has = new Uint8Array(order.length);
  let last = -1;
  order.forEach((coefficient, rank) => {
    const inside = coefficient % tile < width && Math.floor(coefficient / tile) % tile < height;
    if (coefficient < coded && inside) has[(last = rank)] = 1;
  });
  return { has, last };
}

/** How many raw bits follow a symbol.
 * @param {number} symbol */
function rawBits(symbol) {
  const bucket = (symbol + 1) >> 1;
  return bucket < 8 ? 0 : ((bucket - 8) >> 1) + 2;
}

/** The integer of a symbol of whose raw bits some were received; the missing ones read as 1, 0, 0, ...
 * @param {number} symbol
 * @param {number} raw those received, as a number
 * @param {number} received how many
 * @returns {number} */
function integer(symbol, raw, received) {
  const bucket = (symbol + 1) >> 1;
  const missing = rawBits(symbol) - received;
  let magnitude = bucket;
  if (bucket >= 8) {
    magnitude = ((2 + (bucket & 1)) << (received + missing)) + raw * 2 ** missing;
    if (missing > 0) magnitude += 2 ** (missing - 1);
  }
  return symbol & 1 ? magnitude : -magnitude;
}
