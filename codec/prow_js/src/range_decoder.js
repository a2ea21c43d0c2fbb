/**
 * The range decoder (SPEC.md sections 5.5 and 5.6): two decoders in lockstep, one that finds bytes 00 behind the payload
 * and one that finds ff. A symbol is received if both find the same.
 *
 * State is 64 bits wide. It is kept as pairs of numbers below 2^32, and products as exact sums of numbers below 2^53.
 */

export const TOTAL = 2 ** 24; // every table's frequencies sum to this
const WORD = 2 ** 32;

/** Thrown when the bytes determine no further symbol. */
export class Ended extends Error {}

/** Running sums of frequencies.
 * @param {number[]} frequencies
 * @returns {Int32Array} [0, f0, f0 + f1, ..., 2^24] */
export function runningSums(frequencies) {
  const sums = new Int32Array(frequencies.length + 1);
  frequencies.forEach((frequency, i) => (sums[i + 1] = sums[i] + frequency));
  return sums;
}

export class RangeDecoder {
  /** @param {Uint8Array} payload
   * @param {(symbols: number) => void} count is told of symbols before they are read, and may throw */
  constructor(payload, count = () => {}) {
    this.payload = payload;
    this.count = count;
    this.at = 0;
    this.rangeHigh = WORD - 1;
    this.rangeLow = WORD - 1;
    this.offsets = [0x00, 0xff].map((padding) => ({ padding, high: 0, low: 0 }));
    for (const part of /** @type {const} */ (["high", "low"])) {
      for (const offset of this.offsets) offset[part] = this.#word(offset.padding);
      this.at += 4;
    }
  }

  /** The next symbol of a table; throws Ended if the bytes do not determine it.
   * @param {Int32Array} sums running sums of one or more tables
   * @param {number} start where the table begins
   * @param {number} count symbols of it
   * @returns {number} */
  symbol(sums, start, count) {
    const scale = this.rangeHigh * 256 + (this.rangeLow >>> 24);
    const symbol = find(this.offsets[0], scale, sums, start, count);
    if (symbol < 0 || find(this.offsets[1], scale, sums, start, count) !== symbol) throw ENDED;
    this.#take(scale, sums[start + symbol], sums[start + symbol + 1]);
    return symbol;
  }

  /** A symbol 0 or 1, of which 0 has this frequency.
   * @param {number} frequency
   * @returns {number} */
  choice(frequency) {
    PAIR[1] = frequency;
    return this.symbol(PAIR, 0, 2);
  }

  /** @param {number} scale
   * @param {number} first running sum before the symbol
   * @param {number} end that behind it */
  #take(scale, first, end) {
    if (first > 0) {
      const low = timesLow(scale, first);
      const high = timesHigh(scale, first);
      for (const offset of this.offsets) {
        offset.high -= high;
        offset.low -= low;
        if (offset.low < 0) {
          offset.low += WORD;
          offset.high -= 1;
        }
      }
    }
    this.rangeHigh = timesHigh(scale, end - first);
    this.rangeLow = timesLow(scale, end - first);
    if (this.rangeHigh === 0) {
      this.rangeHigh = this.rangeLow;
      this.rangeLow = 0;
      for (const offset of this.offsets) {
        offset.high = offset.low;
        offset.low = this.#word(offset.padding);
      }
      this.at += 4;
    }
  }

  /** The four bytes at the present place, padded.
   * @param {number} padding */
  #word(padding) {
    let word = 0;
    for (let i = this.at; i < this.at + 4; i++) {
      word = word * 256 + (i < this.payload.length ? this.payload[i] : padding);
    }
    return word;
  }
}

const ENDED = new Ended("the bytes determine no further symbol");
const PAIR = new Int32Array([0, 0, TOTAL]);

/** The symbol in whose part of the range an offset lies, or -1.
 * @param {{ high: number, low: number }} offset
 * @param {number} scale
 * @param {Int32Array} sums
 * @param {number} start
 * @param {number} count */
function find(offset, scale, sums, start, count) {
  const quotient = Math.floor((offset.high * WORD + offset.low) / scale); // at most one off
  let low = start;
  let high = start + count;
  if (quotient < sums[start + 1]) high = start + 1; // the usual symbol
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sums[middle] <= quotient) low = middle;
    else high = middle;
  }
  if (quotient <= sums[low] && low > start && below(offset, scale, sums[low])) low--;
  else if (quotient >= sums[low + 1] - 1 && !below(offset, scale, sums[low + 1])) low++;
  return low < start + count ? low - start : -1;
}

/** Whether an offset is below scale * sum.
 * @param {{ high: number, low: number }} offset
 * @param {number} scale
 * @param {number} sum */
function below(offset, scale, sum) {
  const high = timesHigh(scale, sum);
  return offset.high < high || (offset.high === high && offset.low < timesLow(scale, sum));
}

/** The upper and the lower word of scale (below 2^40) * factor (at most 2^24).
 * @param {number} scale
 * @param {number} factor */
function timesHigh(scale, factor) {
  const upper = Math.floor(scale / 65536);
  const product = upper * factor; // below 2^48
  const rest = (product % 65536) * 65536 + (scale - upper * 65536) * factor; // below 2^41
  return Math.floor(product / 65536) + Math.floor(rest / WORD);
}

/** @param {number} scale
 * @param {number} factor */
function timesLow(scale, factor) {
  const upper = Math.floor(scale / 65536);
  return (((upper * factor) % 65536) * 65536 + (scale - upper * 65536) * factor) % WORD;
}
