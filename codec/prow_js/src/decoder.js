/**
 * The decoder that users see.
 */

import { asBytes, chunks, parse, soundBytes, truncate } from "./container.js";
import { DamagedError, ModelError } from "./errors.js";
import { KINDS, Grid, stepIndex, stepSize } from "./geometry.js";
import { checkPixels, Meter, MAX_PIXELS as TOKEN_PIXELS } from "./limits.js";
import { Model } from "./model.js";
import { Networks } from "./networks.js";
import { toRgba } from "./pixels.js";
import { reconstruct, workOf } from "./reconstruction.js";
import { readTokens } from "./tokens.js";

const MAX_PIXELS = 2 ** 24; // of a picture that is decoded, unless the caller says otherwise

/**
 * @typedef {object} LoadOptions
 * @property {string} [sha256] of the model file for browsers, in hexadecimal: another one is refused
 * @property {import("./networks.js").Ort} [ort] ONNX Runtime Web, if it is not to be imported by its name
 * @property {boolean} [webgpu] run networks on the GPU if the browser has WebGPU; false by default
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} DecodeOptions
 * @property {boolean} [strict] false: decode a damaged file all the same
 * @property {number} [maxPixels] more are refused; 2^24 by default
 * @property {AbortSignal} [signal] give up between passes
 *
 * @typedef {{ data: Uint8ClampedArray, width: number, height: number }} Pixels An ImageData where there is such a class.
 *
 * @typedef {object} Info What a file says about itself.
 * @property {number} version
 * @property {"file" | "bare"} profile
 * @property {string | null} model null if this decoder has another one
 * @property {number} modelId
 * @property {number} width
 * @property {number} height
 * @property {"L" | "LA" | "RGB" | "RGBA" | null} mode null without the model, or above the pixel limit
 * @property {number | null} declaredBytes of the whole file, without extras; null in the bare profile
 * @property {number} presentBytes
 * @property {import("./container.js").State} state
 * @property {"crc16" | "crc32" | null} check the strongest that it has; null in the bare profile
 * @property {number | null} sureBytes that are right by that, from the first one on; null if not known
 * @property {number} trailingBytes that follow the payload
 * @property {Record<string, number>} extras bytes of content of each chunk, by tag
 * @property {number | null} step quantiser step of the first pass at full resolution
 * @property {{ kind: string, width: number, height: number, tiles: number, step: number, tokens: number }[] | null}
 *   tokensPerPass
 */

export class ProwDecoder {
  /** @type {Networks | null} */
  #networks = null;
  #queue = Promise.resolve();

  /** Use `load`.
   * @param {Model} model
   * @param {LoadOptions} options */
  constructor(model, options) {
    this.model = model;
    this.options = options;
  }

  /** A decoder with the model of a browser model file. ONNX Runtime Web is loaded when the first picture is decoded.
   * Throws ModelError if the file cannot be fetched, or is no such file.
   * @param {string | URL | Uint8Array | ArrayBuffer} source where the file is, or its bytes
   * @param {LoadOptions} [options]
   * @returns {Promise<ProwDecoder>} */
  static async load(source, options = {}) {
    const isPlace = typeof source === "string" || source instanceof URL;
    const content = isPlace ? await fetched(source, options.signal) : asBytes(source);
    if (options.sha256 !== undefined) {
      const digest = await sha256(content);
      if (digest !== options.sha256.toLowerCase()) {
        throw new ModelError(`a model file with the SHA-256 ${digest} came, ${options.sha256} wanted`);
      }
    }
    return new ProwDecoder(await Model.read(content), options);
  }

  /** What a file says about itself. Throws HeaderError, VersionError; an unknown model is no error here.
   * LimitError for tokens that a file of this size may not ask for.
   * @param {Uint8Array | ArrayBuffer} bytes
   * @returns {Info} */
  info(bytes) {
    const parsed = parse(bytes);
    const { header, payload, state, extras } = parsed;
    const { width, height } = header;
    const blocks = sureOf(bytes, parsed);
    const declaredBytes = header.payloadBytes === null ? null : header.headerBytes + header.payloadBytes;
    const mine = header.modelId === this.model.config.model_id;
    const tokens = mine && width * height <= TOKEN_PIXELS ? readTokens(payload, width, height, this.model) : null;
    const { base } = tokens ?? { base: null };
    return {
      version: header.version,
      profile: header.profile,
      model: mine ? this.model.config.name : null,
      modelId: header.modelId,
      width,
      height,
      mode: tokens && /** @type {Info["mode"]} */ (`${tokens.grey ? "L" : "RGB"}${tokens.alpha ? "A" : ""}`),
      declaredBytes,
      presentBytes: asBytes(bytes).length,
      state,
      check: declaredBytes === null ? null : blocks === null ? "crc16" : "crc32",
      sureBytes: state === "whole" ? declaredBytes : blocks,
      trailingBytes: extras.length,
      extras: Object.fromEntries(Object.entries(chunks(extras)).map(([tag, content]) => [tag, content.length])),
      step: base === null ? null : stepSize(base),
      tokensPerPass: tokens && tokens.plan.map((pass, i) => ({
        kind: KINDS[pass.kind],
        width: pass.width,
        height: pass.height,
        tiles: new Grid(pass, this.model.config.tile).tiles,
        step: base === null ? 0 : stepSize(stepIndex(pass, base)),
        tokens: tokens.passes[i]?.counts.reduce((sum, count) => sum + count, 0) ?? 0,
      })),
    };
  }

  /** The integers in a file or in any prefix that holds its header. Throws as `decode`.
   * @param {Uint8Array | ArrayBuffer} bytes
   * @param {DecodeOptions} [options] without `maxPixels`, pictures of up to 2^26 px are read
   * @param {Meter} [meter] of the work
   * @returns {import("./tokens.js").Tokens} */
  tokens(bytes, { strict = true, maxPixels = TOKEN_PIXELS } = {}, meter = new Meter(maxPixels)) {
    const parsed = parse(bytes);
    const { header, state } = parsed;
    const { modelId, width, height } = header;
    let { payload } = parsed;
    if (state === "damaged") {
      const sure = sureOf(bytes, parsed);
      const what = sure === null ? "it all the same" : `its first ${sure} bytes, which are right`;
      if (strict) throw new DamagedError(`the CRC is wrong: the file is damaged (strict: false decodes ${what})`);
      if (sure !== null) payload = payload.subarray(0, Math.max(0, sure - parsed.header.headerBytes));
    }
    const { name, model_id: own } = this.model.config;
    if (modelId !== own) {
      throw new ModelError(`the file needs model id ${modelId}, loaded is ${own} (${name}), or this is no prow file`);
    }
    checkPixels(width, height, maxPixels);
    return readTokens(payload, width, height, this.model, meter);
  }

  /** The picture in a file or in any prefix of one that holds the header. Pictures are decoded one after the other.
   * Throws HeaderError, VersionError, DamagedError, ModelError, LimitError; the signal's reason if it was given up.
   * @param {Uint8Array | ArrayBuffer} bytes
   * @param {DecodeOptions} [options]
   * @returns {Promise<Pixels>} */
  async decode(bytes, { strict = true, maxPixels = MAX_PIXELS, signal } = {}) {
    const turn = this.#queue.then(async () => {
      signal?.throwIfAborted();
      const meter = new Meter(maxPixels);
      const tokens = this.tokens(bytes, { strict, maxPixels }, meter);
      meter.add(workOf(tokens));
      this.#networks ??= await networksOf(this.model, this.options);
      const colour = await reconstruct(tokens, tokens.passes, this.#networks, signal);
      const alpha = tokens.alpha && (await reconstruct(tokens, tokens.alpha, this.#networks, signal));
      return asImageData(toRgba(colour, tokens.grey, alpha), colour.width, colour.height);
    });
    this.#queue = turn.then(
      () => {},
      () => {},
    );
    return turn;
  }

  /** `bytes` cut to at most `n`, as a whole file. Throws BudgetError and DamagedError. Needs no model: see `truncate`.
   * @param {Uint8Array | ArrayBuffer} bytes
   * @param {number} n
   * @returns {Uint8Array} */
  truncate(bytes, n) {
    return truncate(bytes, n);
  }

  /** Free the memory of the networks. */
  async release() {
    await this.#queue;
    await this.#networks?.release();
    this.#networks = null;
  }
}

/** Bytes of a file that are right by the CRCs of its blocks; null if it has none.
 * @param {Uint8Array | ArrayBuffer} bytes
 * @param {import("./container.js").Parsed} parsed */
function sureOf(bytes, { header, state, extras }) {
  const file = asBytes(bytes);
  if (header.payloadBytes === null || state === "cut") return null;
  return soundBytes(file.subarray(0, file.length - extras.length), extras);
}

/** @param {string | URL} source
 * @param {AbortSignal} [signal] */
async function fetched(source, signal) {
  const response = await fetch(source, { signal });
  if (!response.ok) throw new ModelError(`${source}: ${response.status} came for the model file, 200 wanted`);
  return new Uint8Array(await response.arrayBuffer());
}

/** @param {Uint8Array} content */
async function sha256(content) {
  const digest = await crypto.subtle.digest("SHA-256", /** @type {BufferSource} */ (content));
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Model} model
 * @param {LoadOptions} options */
async function networksOf(model, { ort, webgpu = false }) {
  const gpu = webgpu && (await /** @type {any} */ (globalThis.navigator)?.gpu?.requestAdapter()) != null;
  return new Networks(model, ort ?? (await runtime(gpu)), gpu ? ["webgpu", "wasm"] : ["wasm"]);
}

/** ONNX Runtime Web, the smallest build that will do.
 * @param {boolean} gpu
 * @returns {Promise<import("./networks.js").Ort>} */
function runtime(gpu) {
  if (gpu) return import("onnxruntime-web/webgpu");
  const inNode = /** @type {any} */ (globalThis).process?.versions?.node !== undefined;
  return inNode ? import("onnxruntime-web") : import("onnxruntime-web/wasm");
}

/** @param {Uint8ClampedArray} data
 * @param {number} width
 * @param {number} height
 * @returns {Pixels} */
function asImageData(data, width, height) {
  if (typeof ImageData === "undefined") return { data, width, height };
  return new ImageData(/** @type {Uint8ClampedArray<ArrayBuffer>} */ (data), width, height);
}
