/** How much a file may ask for (SPEC.md section 3): pixels, and what decoding nominally takes, in ns. */

import { LimitError } from "./errors.js";

export const MAX_PIXELS = 2 ** 26; // width * height of a picture whose tokens are read
const MOST_WORK = 10 ** 10; // ns; more in proportion where the limit of pixels is above MAX_PIXELS
const READ = 1000; // an integer or a flag
export const SHOWN = 40; // a pixel of the picture
export const COARSE = 2600; // a pixel of a level, with coarse, fine or light filter
export const FULL_SIZE = 1400;
export const LIGHT = 550;

/** Throws LimitError for a picture that is too large.
 * @param {number} width
 * @param {number} height
 * @param {number} maxPixels */
export function checkPixels(width, height, maxPixels) {
  if (width * height > maxPixels) {
    throw new LimitError(
      `${width} x ${height} px are ${width * height} pixels, the limit is ${maxPixels} (raise it with maxPixels)`,
    );
  }
}

/** Adds up the work of decoding one file. */
export class Meter {
  /** @param {number} maxPixels */
  constructor(maxPixels) {
    this.most = Math.floor((MOST_WORK * Math.max(maxPixels, MAX_PIXELS)) / MAX_PIXELS);
    this.work = 0;
  }

  /** So many ns more are asked for. Throws LimitError for more than the limit.
   * @param {number} work */
  add(work) {
    this.work += work;
    if (this.work > this.most) {
      const [asked, limit] = [this.work, this.most].map((ns) => (ns / 1e9).toFixed(1));
      throw new LimitError(`decoding takes ${asked} s or more, the limit is ${limit} s (raise it with maxPixels)`);
    }
  }

  /** So many symbols are about to be read, or what takes as long.
   * @param {number} symbols */
  read(symbols) {
    this.add(READ * symbols);
  }
}
