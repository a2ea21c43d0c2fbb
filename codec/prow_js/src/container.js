/**
 * The container: header, payload and extras (SPEC.md sections 1 to 3). It knows nothing of models and pixels.
 */

import { BudgetError, DamagedError, HeaderError, InputError, VersionError } from "./errors.js";

const MAGIC = [0xf5, 0xf0]; // and a bit that is 1
const VERSION = 1;
const MAX_SIDE = 65_535;
const SMALL = { headerBytes: 12, sideBits: 14, lengthBits: 16 };
const LARGE = { headerBytes: 15, sideBits: 16, lengthBits: 36 };
const CRC_BYTES = 2;
const TAIL_BYTES = 1 + CRC_BYTES; // the header's own check, and the CRC
const BLOCKS_TAG = "CRCB";
const VARINT_BYTES = 3;

/**
 * @typedef {object} Header What a header says; names as in SPEC.md.
 * @property {number} version
 * @property {number} modelId
 * @property {number} width px
 * @property {number} height px
 * @property {number | null} payloadBytes declared, not what came; null in the bare profile
 * @property {"file" | "bare"} profile
 * @property {number} headerBytes
 * @property {number | null} crc null in the bare profile
 *
 * @typedef {"whole" | "cut" | "damaged"} State
 *
 * @typedef {object} Parsed
 * @property {Header} header
 * @property {Uint8Array} payload what came of it
 * @property {State} state
 * @property {Uint8Array} extras whatever follows the payload
 */

/** CRC-16/CCITT-FALSE: polynomial 0x1021, initial value 0xffff, no reflection, no final XOR.
 * @param {Uint8Array[]} parts one after the other
 * @returns {number} */
export function crc16(...parts) {
  let crc = 0xffff;
  for (const part of parts) {
    for (const byte of part) {
      crc ^= byte << 8;
      for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
    }
  }
  return crc;
}

/** CRC-8 of the header: polynomial 0x07, initial value 0, no reflection, no final XOR.
 * @param {Uint8Array} bytes
 * @returns {number} */
function crc8(bytes) {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** That of zlib and PNG.
 * @param {Uint8Array} bytes
 * @returns {number} */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** Header, payload and state of a prow file or of bare data.
 * Throws HeaderError or VersionError for the first of the rules R1 to R8 that is broken, InputError for no bytes at all.
 * @param {Uint8Array | ArrayBuffer} data
 * @returns {Parsed} */
export function parse(data) {
  const bytes = asBytes(data);
  if (bytes.length === 0) throw new HeaderError("truncated header: 0 bytes came, at least 3 wanted");
  if (bytes[0] !== MAGIC[0]) return parseBare(bytes);
  const header = parseFileHeader(bytes);
  const end = header.headerBytes + /** @type {number} */ (header.payloadBytes);
  const payload = bytes.subarray(header.headerBytes, end);
  const extras = bytes.subarray(Math.min(end, bytes.length));
  if (bytes.length < end) return { header, payload, state: "cut", extras };
  const crc = crc16(bytes.subarray(0, header.headerBytes - CRC_BYTES), payload);
  const sound = crc === header.crc && (soundBytes(bytes.subarray(0, end), extras) ?? end) === end;
  return { header, payload, state: sound ? "whole" : "damaged", extras };
}

/** How many bytes of a file (header and payload), from its first on, are right by the CRC-32 of its blocks: all of them,
 * or those before the first block that is not. Null if no chunk that fits guards them.
 * @param {Uint8Array} file
 * @param {Uint8Array} extras
 * @returns {number | null} */
export function soundBytes(file, extras) {
  const content = chunks(extras)[BLOCKS_TAG];
  const size = content && content.length >= 4 ? number(content, 0, 4) : 0;
  if (!content || size === 0 || content.length !== 4 + 4 * Math.ceil(file.length / size)) return null;
  for (let at = 0, place = 4; at < file.length; at += size, place += 4) {
    if (crc32(file.subarray(at, at + size)) !== number(content, place, 4)) return at;
  }
  return file.length;
}

/** The content of each chunk of the extras, by tag. Foreign bytes or half a chunk end the list.
 * @param {Uint8Array} extras
 * @returns {Record<string, Uint8Array>} */
export function chunks(extras) {
  /** @type {Record<string, Uint8Array>} */
  const found = {};
  let at = 0;
  while (at + 8 <= extras.length) {
    const tag = extras.subarray(at, at + 4);
    const length = number(extras, at + 4, 4);
    if (!tag.every((byte) => byte >= 0x20 && byte <= 0x7e) || at + 8 + length > extras.length) break;
    const name = String.fromCharCode(...tag);
    if (!Object.hasOwn(found, name)) found[name] = extras.subarray(at + 8, at + 8 + length);
    at += 8 + length;
  }
  return found;
}

/** `data` cut to at most `n` bytes, with a header that is right for what is left. Needs no model.
 * A whole file of at most `n` bytes comes back as it is. Else extras go first, then the tail of the payload.
 * Throws BudgetError if `n` leaves no payload byte, DamagedError if the CRC is wrong, and all that `parse` throws.
 * @param {Uint8Array | ArrayBuffer} data
 * @param {number} n
 * @returns {Uint8Array} */
export function truncate(data, n) {
  if (!Number.isInteger(n)) throw new InputError(`bytes must be an integer, not ${n}`);
  const bytes = asBytes(data);
  const { header, payload, state } = parse(bytes);
  if (state === "damaged") {
    const end = header.headerBytes + /** @type {number} */ (header.payloadBytes);
    if (n > (soundBytes(bytes.subarray(0, end), bytes.subarray(end)) ?? 0)) {
      throw new DamagedError("damaged file: the CRC does not match, so it cannot be cut");
    }
  }
  const bare = header.profile === "bare";
  const least = 1 + (bare ? header.headerBytes : formFor(header, 1).headerBytes);
  if (n < least) {
    throw new BudgetError(`budget too small: ${n} bytes came, at least ${least} wanted for this picture`);
  }
  if (bare) return bytes.slice(0, n);
  if (state === "whole" && bytes.length <= n) return bytes.slice();
  let room = n - SMALL.headerBytes;
  while (room + formFor(header, room).headerBytes > n) room--; // at most three steps
  return pack(header, payload.subarray(0, room));
}

/** A file of the file profile.
 * @param {Header} header of which size and model count
 * @param {Uint8Array} payload
 * @returns {Uint8Array} */
function pack(header, payload) {
  const form = formFor(header, payload.length);
  const head = new Uint8Array(form.headerBytes);
  head.set([...MAGIC, 0x80 | (VERSION << 5) | (form === LARGE ? 0x10 : 0)]);
  const fields = [
    [header.width - 1, form.sideBits],
    [header.height - 1, form.sideBits],
    [payload.length, form.lengthBits],
    [header.modelId, 8],
  ];
  let at = 20;
  for (const [value, bits] of fields) {
    for (let bit = bits - 1; bit >= 0; bit--, at++) head[at >> 3] |= (Math.floor(value / 2 ** bit) % 2) << (7 - (at & 7));
  }
  head[form.headerBytes - TAIL_BYTES] = crc8(head.subarray(0, form.headerBytes - TAIL_BYTES));
  const crc = crc16(head.subarray(0, form.headerBytes - CRC_BYTES), payload);
  head.set([crc >> 8, crc & 0xff], form.headerBytes - CRC_BYTES);
  const file = new Uint8Array(head.length + payload.length);
  file.set(head);
  file.set(payload, head.length);
  return file;
}

/** The form that a writer must take.
 * @param {{ width: number, height: number }} size
 * @param {number} payloadBytes */
function formFor({ width, height }, payloadBytes) {
  return Math.max(width, height) <= 1 << SMALL.sideBits && payloadBytes < 1 << SMALL.lengthBits ? SMALL : LARGE;
}

/** Checks in the order of SPEC.md section 3.
 * @param {Uint8Array} bytes
 * @returns {Header} */
function parseFileHeader(bytes) {
  const count = `${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"}`;
  if ((bytes.length > 1 && bytes[1] !== MAGIC[1]) || (bytes.length > 2 && bytes[2] < 0x80)) throw wrongMagic(bytes);
  if (bytes.length < 3) throw new HeaderError(`truncated header: ${count} came, at least 12 wanted`);
  const version = (bytes[2] >> 5) & 3;
  if (version !== VERSION) throw new VersionError(`unknown format version: ${version} came, ${VERSION} wanted`);
  const form = bytes[2] & 0x10 ? LARGE : SMALL;
  if (bytes.length < form.headerBytes) {
    throw new HeaderError(`truncated header: ${count} came, ${form.headerBytes} wanted`);
  }
  const tail = form.headerBytes - TAIL_BYTES;
  const check = crc8(bytes.subarray(0, tail));
  if (bytes[tail] !== check) throw new HeaderError(`damaged header: header check ${bytes[tail]} came, ${check} wanted`);
  const modelId = bytes[tail - 1];
  if (modelId === 0) throw new HeaderError("invalid model id: 0 came, 1 to 255 wanted");
  let at = 20;
  /** @param {number} bits */
  const field = (bits) => {
    let value = 0;
    for (const end = at + bits; at < end; at++) value = value * 2 + ((bytes[at >> 3] >> (7 - (at & 7))) & 1);
    return value;
  };
  return {
    version,
    modelId,
    width: checkedSide("width", field(form.sideBits) + 1),
    height: checkedSide("height", field(form.sideBits) + 1),
    payloadBytes: field(form.lengthBits),
    profile: "file",
    headerBytes: form.headerBytes,
    crc: number(bytes, tail + 1, CRC_BYTES),
  };
}

/** SPEC.md section 2.
 * @param {Uint8Array} bytes
 * @returns {Parsed} */
function parseBare(bytes) {
  if (bytes[0] < 1 || bytes[0] > 127) throw wrongMagic(bytes);
  const width = readVarint(bytes, 1, "width");
  const height = readVarint(bytes, width.end, "height");
  /** @type {Header} */
  const header = {
    version: VERSION,
    modelId: bytes[0],
    width: width.side,
    height: height.side,
    payloadBytes: null,
    profile: "bare",
    headerBytes: height.end,
    crc: null,
  };
  return { header, payload: bytes.subarray(height.end), state: "whole", extras: bytes.subarray(bytes.length) };
}

/** The side whose varint starts at a byte, and the place behind it.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {string} name */
function readVarint(bytes, start, name) {
  let value = 0;
  for (let index = 0; index < VARINT_BYTES; index++) {
    if (start + index >= bytes.length) {
      throw new HeaderError(`truncated header: ${bytes.length} bytes came, the ${name} goes on`);
    }
    const byte = bytes[start + index];
    value = value * 128 + (byte & 0x7f);
    if (byte < 0x80) {
      if (index > 0 && bytes[start] === 0x80) {
        throw new HeaderError(`non-canonical ${name}: ${index + 1} bytes came, fewer wanted`);
      }
      return { side: checkedSide(name, value + 1), end: start + index + 1 };
    }
  }
  throw new HeaderError(`overlong ${name}: over ${VARINT_BYTES} bytes came, at most ${VARINT_BYTES} wanted`);
}

/** @param {string} name
 * @param {number} side */
function checkedSide(name, side) {
  if (side > MAX_SIDE) throw new HeaderError(`${name} too large: ${side} px came, at most ${MAX_SIDE} wanted`);
  return side;
}

/** A big-endian number.
 * @param {Uint8Array} bytes
 * @param {number} at
 * @param {number} count */
function number(bytes, at, count) {
  let value = 0;
  for (let i = 0; i < count; i++) value = value * 256 + bytes[at + i];
  return value;
}

/** @param {unknown} data
 * @returns {Uint8Array} */
export function asBytes(data) {
  if (data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new InputError(`a prow file is bytes (Uint8Array or ArrayBuffer), not ${data === null ? "null" : typeof data}`);
}

/** @param {Uint8Array} bytes */
function wrongMagic(bytes) {
  const came = [...bytes.subarray(0, 2)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return new HeaderError(`wrong magic: ${came} came, f5 f0 or a bare model id 01 to 7f wanted`);
}
