/**
 * The script of `prow page`: for each picture a slider over the bytes of its prow file, which is decoded as it moves,
 * beside the WebP and AVIF files that fit into the same bytes. Everything is in the page.
 */

import * as ort from "onnxruntime-web/wasm";

import { ProwDecoder } from "../src/index.js";

/**
 * @typedef {{ bytes: number, file: string, how: string }} Rival a file in base64
 * @typedef {{ name: string, width: number, height: number, prow: string, least: number, original: string,
 *   rivals: Record<string, Rival[]> }} Shown `least`: bytes that hold a header and something more
 */

/** @param {string} id
 * @returns {string} */
const contentOf = (id) => document.getElementById(id)?.textContent?.trim() ?? "";

/** @param {string} text base64
 * @returns {Uint8Array<ArrayBuffer>} */
const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

/** @param {number} n */
const inBytes = (n) => `${n.toLocaleString("en")} bytes`;

/** One picture of the page. */
class Viewer {
  #given = new AbortController();

  /** @param {HTMLElement} section
   * @param {Shown} shown
   * @param {Promise<ProwDecoder>} decoder */
  constructor(section, shown, decoder) {
    this.section = section;
    this.shown = shown;
    this.decoder = decoder;
    this.file = bytesOf(shown.prow);
    this.slider = /** @type {HTMLInputElement} */ (section.querySelector("input"));
    this.slider.addEventListener("input", () => this.show());
    const original = this.#figure("original").querySelector("img");
    if (original) original.src = shown.original;
  }

  /** Bytes at the place of the slider: each step is the same factor. */
  get bytes() {
    const { least } = this.shown;
    const share = Number(this.slider.value) / Number(this.slider.max);
    return Math.round(least * (this.file.length / least) ** share);
  }

  async show() {
    this.#given.abort();
    this.#given = new AbortController();
    const { signal } = this.#given;
    const { bytes } = this;
    /** @type {HTMLOutputElement} */ (this.section.querySelector("output")).value = inBytes(bytes);
    for (const [name, rivals] of Object.entries(this.shown.rivals)) this.#showRival(name, rivals, bytes);
    try {
      const decoder = await this.decoder;
      const start = performance.now();
      const picture = await decoder.decode(this.file.subarray(0, bytes), { signal });
      const took = performance.now() - start;
      const figure = this.#figure("prow");
      const canvas = /** @type {HTMLCanvasElement} */ (figure.querySelector("canvas"));
      canvas.width = picture.width;
      canvas.height = picture.height;
      canvas.getContext("2d")?.putImageData(/** @type {ImageData} */ (picture), 0, 0);
      this.#say(figure, `prow: ${inBytes(bytes)}`, `decoded in ${took.toFixed(0)} ms`);
      this.section.dataset.shown = String(bytes);
    } catch (error) {
      if (!signal.aborted) this.#say(this.#figure("prow"), "prow", String(error));
    }
  }

  /** The largest file that fits.
   * @param {string} name
   * @param {Rival[]} rivals
   * @param {number} bytes */
  #showRival(name, rivals, bytes) {
    const figure = this.#figure(name);
    const image = /** @type {HTMLImageElement} */ (figure.querySelector("img"));
    const rival = rivals.findLast((one) => one.bytes <= bytes);
    figure.classList.toggle("none", !rival);
    if (rival) image.src = `data:image/${name.toLowerCase()};base64,${rival.file}`;
    else image.removeAttribute("src");
    this.#say(figure, rival ? `${name}: ${inBytes(rival.bytes)}` : `${name}: -`, rival?.how ?? "no file is so small");
  }

  /** @param {string} name
   * @returns {HTMLElement} */
  #figure(name) {
    return /** @type {HTMLElement} */ (this.section.querySelector(`figure[data-codec="${name}"]`));
  }

  /** @param {HTMLElement} figure
   * @param {string} bold
   * @param {string} rest */
  #say(figure, bold, rest) {
    const [first, second] = figure.querySelectorAll("figcaption > *");
    first.textContent = bold;
    second.textContent = rest;
  }
}

/** @param {Shown} shown
 * @returns {HTMLElement} */
function sectionOf(shown) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById("picture"));
  const section = /** @type {HTMLElement} */ (template.content.cloneNode(true)).querySelector("section");
  const made = /** @type {HTMLElement} */ (section);
  const names = ["prow", ...Object.keys(shown.rivals), "original"];
  /** @type {HTMLElement} */ (made.querySelector("h2")).textContent = shown.name;
  for (const name of names) {
    const figure = document.createElement("figure");
    figure.dataset.codec = name;
    const picture = document.createElement(name === "prow" ? "canvas" : "img");
    picture.style.aspectRatio = `${shown.width} / ${shown.height}`;
    const caption = document.createElement("figcaption");
    caption.append(document.createElement("b"), document.createElement("span"));
    caption.children[0].textContent = name;
    caption.children[1].textContent = name === "original" ? `${shown.width} x ${shown.height} px` : "";
    figure.append(picture, caption);
    made.querySelector(".row")?.append(figure);
  }
  return made;
}

/** @returns {Promise<ProwDecoder>} */
async function load() {
  const packed = new Blob([bytesOf(contentOf("runtime"))]).stream().pipeThrough(new DecompressionStream("gzip"));
  ort.env.wasm.wasmBinary = await new Response(packed).arrayBuffer();
  ort.env.wasm.numThreads = 1; // more take headers that a file on a disk does not have
  return ProwDecoder.load(bytesOf(contentOf("model")), { ort });
}

const decoder = load();
/** @type {Shown[]} */
const pictures = JSON.parse(contentOf("data"));
for (const shown of pictures) {
  const section = sectionOf(shown);
  document.querySelector("main")?.append(section);
  await new Viewer(section, shown, decoder).show();
}
