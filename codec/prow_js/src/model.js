/**
 * Model files for browsers: a gzipped safetensors file with the config, tables, graphs and weights of a model. It is
 * written by `python -m prow.web` from the model file alone; tables and their rules are those of SPEC.md section 6.
 */

import { ModelError } from "./errors.js";
import { KINDS, STEPS } from "./geometry.js";
import { runningSums, TOTAL } from "./range_decoder.js";

const SYMBOLS = 63;
const INPUTS = 51; // of the context network, and one more for each channel
const TILE_BINS = 24;
const AROUND = 5; // 0 to 4 tiles
const NEAR = 3;
const MAX_HIDDEN = 1024;
const MAX_HEADER = 2 ** 20; // bytes of JSON

/**
 * @typedef {object} Config What of a model's config this decoder needs, named as in the model file.
 * @property {string} name
 * @property {number} model_id
 * @property {number} channels
 * @property {number} tile px
 * @property {number[]} token_dims
 * @property {number} usual_base
 * @property {number} octave_step
 * @property {number[]} refine_shifts
 * @property {boolean} network
 * @property {number} reach px on each side that a loop filter sees
 *
 * @typedef {object} Tables Flat arrays in the order of SPEC.md section 6.
 * @property {Int32Array} bank running sums: of each class SYMBOLS + 1
 * @property {number} classCount
 * @property {Uint8Array} classes
 * @property {Float64Array} w1
 * @property {Float64Array} b1
 * @property {Float64Array} w2
 * @property {Float64Array} b2
 * @property {Float64Array} w3
 * @property {number} b3
 * @property {Int32Array} odds
 * @property {Uint8Array} go
 * @property {Int8Array} flagAround
 * @property {Int8Array} flagOwn
 * @property {Int32Array[]} order by kind
 * @property {boolean} contexts whether the context network says anything
 *
 * @typedef {object} Tensor
 * @property {string} dtype
 * @property {number[]} shape
 * @property {Uint8Array} bytes
 */

const ARRAYS = {
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  F32: Float32Array,
};

/** A model, read from the bytes of a browser model file. */
export class Model {
  /** Throws ModelError for bytes that are no such file.
   * @param {Uint8Array} content gzipped
   * @returns {Promise<Model>} */
  static async read(content) {
    try {
      return new Model(await gunzipped(content));
    } catch (error) {
      if (error instanceof ModelError) throw error;
      throw new ModelError(`no prow model file for browsers: ${error}`);
    }
  }

  /** @param {Uint8Array} content of the safetensors file */
  constructor(content) {
    const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
    const length = Number(view.getBigUint64(0, true));
    if (length > MAX_HEADER) throw new ModelError(`a header of ${length} bytes came, at most ${MAX_HEADER} wanted`);
    /** @type {Record<string, any>} */
    const header = JSON.parse(new TextDecoder().decode(content.subarray(8, 8 + length)));
    const body = content.subarray(8 + length);
    /** @type {Map<string, Tensor>} */
    this.tensors = new Map();
    for (const [name, { dtype, shape, data_offsets: [start, end] }] of entries(header)) {
      this.tensors.set(name, { dtype, shape, bytes: body.subarray(start, end) });
    }
    /** @type {Config} */
    this.config = { channels: 3, ...JSON.parse(header.__metadata__.prow) };
    /** SHA-256 of the model file that all of this was made from. @type {string} */
    this.sha256 = header.__metadata__.sha256;
    /** Integers of a full tile. @type {number} */
    this.coefficients = this.config.channels * this.config.tile ** 2;
    /** @type {Tables} */
    this.tables = this.#tables();
  }

  #tables() {
    const { token_dims: dims, usual_base: base, octave_step: step, refine_shifts: shifts } = this.config;
    const k = this.coefficients;
    const n = dims.length;
    check(sum(dims) === k && Math.min(...dims) >= 1, `token_dims ${dims} came, positive numbers that sum to ${k} wanted`);
    check(Math.min(step, ...shifts) >= 0, "a negative shift came, 0 or more wanted");
    check(base >= NEAR && base < STEPS - NEAR, `usual_base ${base} came, ${NEAR} to ${STEPS - 1 - NEAR} wanted`);
    const [classCount] = this.#tensor("bank").shape;
    const [oddsCount] = this.#tensor("odds").shape;
    const [hidden] = this.#tensor("w3").shape;
    const kinds = KINDS.length;
    check(hidden >= 1 && hidden <= MAX_HIDDEN, `${hidden} hidden units came, 1 to ${MAX_HIDDEN} wanted`);
    const bank = this.#numbers("bank", "I32", [classCount, SYMBOLS], 1, TOTAL);
    const sums = new Int32Array(classCount * (SYMBOLS + 1));
    for (let c = 0; c < classCount; c++) {
      const row = runningSums([...bank.subarray(c * SYMBOLS, (c + 1) * SYMBOLS)]);
      check(row[SYMBOLS] === TOTAL, "a row of tables.bank does not sum to 2^24");
      sums.set(row, c * (SYMBOLS + 1));
    }
    const order = this.#numbers("order", "I32", [kinds, k], 0, k - 1);
    const orders = KINDS.map((_, kind) => /** @type {Int32Array} */ (order.subarray(kind * k, (kind + 1) * k)));
    check(orders.every((ranks) => new Set(ranks).size === k), "a row of tables.order is no permutation");
    const weights = (/** @type {string} */ name, /** @type {string} */ dtype, /** @type {number[]} */ ...shape) =>
      Float64Array.from(this.#numbers(name, dtype, shape));
    const w3 = weights("w3", "I16", hidden);
    const [b3] = weights("b3", "I32", 1);
    return {
      bank: sums,
      classCount,
      classes: /** @type {Uint8Array} */ (this.#numbers("classes", "U8", [kinds, STEPS, k], 0, classCount - 1)),
      w1: weights("w1", "I16", INPUTS + this.config.channels, hidden),
      b1: weights("b1", "I32", hidden),
      w2: weights("w2", "I16", hidden, hidden),
      b2: weights("b2", "I32", hidden),
      w3,
      b3,
      odds: /** @type {Int32Array} */ (this.#numbers("odds", "I32", [oddsCount], 1, TOTAL - 1)),
      go: /** @type {Uint8Array} */ (this.#numbers("go", "U8", [kinds, STEPS, n], 0, oddsCount - 1)),
      flagAround: /** @type {Int8Array} */ (this.#numbers("flag_around", "I8", [kinds, n, AROUND, TILE_BINS])),
      flagOwn: /** @type {Int8Array} */ (this.#numbers("flag_own", "I8", [kinds, n, TILE_BINS])),
      order: orders,
      contexts: b3 !== 0 || w3.some((weight) => weight !== 0),
    };
  }

  /** @param {string} name */
  #tensor(name) {
    const tensor = this.tensors.get(`tables.${name}`);
    if (!tensor) throw new ModelError(`tables.${name} is missing`);
    return tensor;
  }

  /** A table whose numbers are all from `low` to `high`.
   * @param {string} name
   * @param {string} dtype
   * @param {number[]} shape
   * @param {number} low
   * @param {number} high */
  #numbers(name, dtype, shape, low = -(2 ** 31), high = 2 ** 31 - 1) {
    const tensor = this.#tensor(name);
    const came = `${tensor.dtype} [${tensor.shape}]`;
    check(came === `${dtype} [${shape}]`, `tables.${name} is ${came}, ${dtype} [${shape}] wanted`);
    const numbers = numbersOf(tensor);
    check(numbers.length === shape.reduce((a, b) => a * b, 1), `tables.${name} has ${numbers.length} numbers`);
    check(numbers.every((x) => x >= low && x <= high), `tables.${name} goes beyond ${low} to ${high}`);
    return numbers;
  }

  /** The graph of a network: ONNX without weights.
   * @param {string} name
   * @returns {Uint8Array} */
  graph(name) {
    const tensor = this.tensors.get(`graphs.${name}`);
    if (!tensor) throw new ModelError(`model ${this.config.name} has no network ${name}`);
    return tensor.bytes;
  }

  /** Weights of a network in float32, under their names in its graph.
   * @param {string} network
   * @returns {Generator<{ name: string, shape: number[], weights: Float32Array }>} */
  *weights(network) {
    for (const [name, tensor] of this.tensors) {
      if (!name.startsWith(`network.${network}.`) || name.endsWith(".scale")) continue;
      const scale = this.tensors.get(`${name}.scale`);
      if (!scale) yield { name, shape: tensor.shape, weights: /** @type {Float32Array} */ (numbersOf(tensor)) };
      else yield { name, shape: tensor.shape.slice(1), weights: dequantised(tensor, numbersOf(scale)) };
    }
  }
}

/** Integers [2, rows, ...], the lower bytes of all and then the upper ones, with a scale a row; the lowest bit is the sign.
 * @param {Tensor} tensor
 * @param {ArrayLike<number>} scale
 * @returns {Float32Array} */
function dequantised({ bytes }, scale) {
  const count = bytes.length / 2;
  const row = count / scale.length;
  const weights = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const folded = bytes[i] | (bytes[count + i] << 8);
    weights[i] = ((folded >>> 1) ^ -(folded & 1)) * scale[Math.floor(i / row)];
  }
  return weights;
}

/** The numbers of a tensor, copied so that they are aligned. (Little-endian, as all machines with browsers are.)
 * @param {Tensor} tensor */
function numbersOf({ dtype, bytes }) {
  const Numbers = ARRAYS[/** @type {keyof typeof ARRAYS} */ (dtype)];
  if (!Numbers) throw new ModelError(`a tensor of dtype ${dtype} came, ${Object.keys(ARRAYS)} wanted`);
  return new Numbers(bytes.slice().buffer);
}

/** @param {Record<string, any>} header */
const entries = (header) => Object.entries(header).filter(([name]) => name !== "__metadata__");

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** @param {boolean} holds
 * @param {string} message */
function check(holds, message) {
  if (!holds) throw new ModelError(message);
}

/** @param {Uint8Array} content
 * @returns {Promise<Uint8Array>} */
async function gunzipped(content) {
  const stream = new Blob([/** @type {BlobPart} */ (content)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
