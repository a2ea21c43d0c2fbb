/**
 * How much a file may ask for (SPEC.md section 3). The unit of work is an integer that is read, or a pixel that networks
 * paint or filter; either takes about a microsecond.
 */

import { LimitError } from "./errors.js";

export const MAX_PIXELS = 2 ** 26; // width * height of a picture whose tokens are read
const FREE_SHARE = 8; // of the pixels that are allowed, one in so many may be painted whatever the size of the file
const WORK_PER_BYTE = 4096;

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

/** Throws LimitError for more work than a payload of so many bytes may ask for.
 * @param {number} work
 * @param {number} payloadBytes
 * @param {number} maxPixels */
export function checkWork(work, payloadBytes, maxPixels) {
  const most = Math.floor(Math.max(maxPixels, MAX_PIXELS) / FREE_SHARE) + WORK_PER_BYTE * payloadBytes;
  if (work > most) {
    throw new LimitError(
      `a payload of ${payloadBytes} bytes asks for ${work} units of work or more, the limit is ${most} ` +
        "(raise it with maxPixels)",
    );
  }
}
