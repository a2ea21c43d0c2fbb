/**
 * <prow-img src="photo.prow" bytes="2000" alt="a photo">: a picture that is fetched with an HTTP range request, shows
 * what has arrived, and sharpens as more arrives.
 *
 * Attributes: `src`; `bytes`, how many of the file are wanted, all by default; `alt`. When `bytes` grows, the rest alone
 * is fetched. Events: `progress` whenever a better picture is shown, `load` when all that is wanted is shown, `error`
 * (the error is in the property `error`). Properties: `shownBytes`, `complete`, `error`.
 */

import { parse } from "./container.js";
import { ProwDecoder } from "./decoder.js";
import { FormatError, ProwError } from "./errors.js";

const GROWTH = 1.5; // how much more has to arrive before a picture that still grows is decoded again
const STYLE = ":host { display: inline-block } canvas { display: block; max-width: 100%; height: auto }";

/** Make <prow-img> known to this page. The model is loaded when the first picture wants it.
 * @param {ProwDecoder | Parameters<typeof ProwDecoder.load>[0]} model a decoder, or where a model file is
 * @param {import("./decoder.js").LoadOptions} [options] of the decoder
 * @param {string} [name] of the element */
export function defineProwImg(model, options = {}, name = "prow-img") {
  /** @type {Promise<ProwDecoder> | undefined} */
  let decoder;
  const load = () => {
    decoder ??= Promise.resolve(model instanceof ProwDecoder ? model : ProwDecoder.load(model, options));
    decoder.catch(() => (decoder = undefined)); // the next picture tries again
    return decoder;
  };
  customElements.define(name, class extends ProwImage {
    static load = load;
  });
}

export class ProwImage extends HTMLElement {
  static observedAttributes = ["src", "bytes", "alt"];

  /** @type {() => Promise<ProwDecoder>} */
  static load;

  #canvas = document.createElement("canvas");
  #internals = this.attachInternals();
  #given = new AbortController();
  #src = "";
  #came = new Uint8Array(); // of the file so far
  #whole = false; // whether that is all there is

  shownBytes = 0;
  complete = false;
  /** @type {unknown} */
  error = null;

  constructor() {
    super();
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.attachShadow({ mode: "open" }).append(style, this.#canvas);
    this.#internals.role = "img";
  }

  /** How many bytes of the file are wanted. */
  get bytes() {
    const bytes = Number(this.getAttribute("bytes") ?? Infinity);
    return bytes > 0 ? Math.floor(bytes) : Infinity;
  }

  set bytes(bytes) {
    this.setAttribute("bytes", String(bytes));
  }

  get src() {
    return this.getAttribute("src") ?? "";
  }

  set src(src) {
    this.setAttribute("src", src);
  }

  connectedCallback() {
    this.#start();
  }

  disconnectedCallback() {
    this.#given.abort();
  }

  attributeChangedCallback() {
    this.#internals.ariaLabel = this.getAttribute("alt");
    if (this.isConnected) this.#start();
  }

  #start() {
    this.#given.abort();
    this.#given = new AbortController();
    if (this.src !== this.#src) {
      this.#src = this.src;
      this.#came = new Uint8Array();
      this.#whole = false;
      this.shownBytes = 0;
    }
    if (!this.#src) return;
    this.complete = false;
    this.error = null;
    const { signal } = this.#given;
    this.#show(signal).catch((error) => {
      if (signal.aborted) return;
      this.error = error;
      this.dispatchEvent(new Event("error"));
    });
  }

  /** Fetch what is wanted and not there, and show it as it comes: one picture is decoded at a time, and then the newest.
   * @param {AbortSignal} signal */
  async #show(signal) {
    let ended = false;
    let wake = () => {};
    const fetched = this.#fetch(signal, () => wake()).finally(() => {
      ended = true;
      wake();
    });
    fetched.catch(() => {}); // it is thrown below, in its turn
    let next = 0; // bytes that are worth a picture
    for (;;) {
      const wanted = this.#came.subarray(0, this.bytes);
      const over = ended;
      if (over || wanted.length >= next) {
        if (over) await fetched; // throws what went wrong
        if (await this.#paint(wanted, over, signal)) {
          next = Math.ceil(GROWTH * wanted.length);
          this.dispatchEvent(new Event("progress"));
        } else {
          next = wanted.length + 1;
        }
        if (over) break;
      } else {
        await new Promise((resolve) => (wake = () => resolve(undefined)));
      }
      signal.throwIfAborted();
    }
    this.complete = true;
    this.dispatchEvent(new Event("load"));
  }

  /** Show bytes; false if there are too few for a picture as yet.
   * @param {Uint8Array} bytes
   * @param {boolean} over whether no more will come
   * @param {AbortSignal} signal */
  async #paint(bytes, over, signal) {
    if (bytes.length === this.shownBytes && bytes.length > 0) return true;
    try {
      parse(bytes);
    } catch (error) {
      if (over || !(error instanceof FormatError) || bytes.length >= 16) throw error;
      return false;
    }
    const decoder = await /** @type {typeof ProwImage} */ (this.constructor).load();
    const picture = await decoder.decode(bytes, { signal });
    this.#canvas.width = picture.width;
    this.#canvas.height = picture.height;
    this.#canvas.getContext("2d")?.putImageData(/** @type {ImageData} */ (picture), 0, 0);
    this.shownBytes = bytes.length;
    return true;
  }

  /** @param {AbortSignal} signal
   * @param {() => void} arrived called whenever there is more */
  async #fetch(signal, arrived) {
    const have = this.#came.length;
    if (this.#whole || have >= this.bytes) return;
    const range = `bytes=${have}-${this.bytes === Infinity ? "" : this.bytes - 1}`;
    const partial = have > 0 || this.bytes !== Infinity;
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const response = await fetch(this.#src, { signal: both, headers: partial ? { Range: range } : {} });
    if (response.status === 416) {
      this.#whole = true;
      return;
    }
    if (!response.ok || !response.body) throw new ProwError(`${this.#src}: ${response.status} came, 200 or 206 wanted`);
    const ranged = response.status === 206;
    let known = ranged ? 0 : have; // bytes that come again where a server knows no ranges
    const reader = response.body.getReader();
    while (ranged || this.#came.length < this.bytes) {
      const { done, value } = await reader.read();
      if (done) {
        this.#whole = this.bytes === Infinity || this.#came.length < this.bytes;
        return;
      }
      const skipped = Math.min(known, value.length);
      known -= skipped;
      const came = new Uint8Array(this.#came.length + value.length - skipped);
      came.set(this.#came);
      came.set(value.subarray(skipped), this.#came.length);
      this.#came = came;
      arrived();
    }
    stop.abort(); // what comes is more than is wanted
  }
}
