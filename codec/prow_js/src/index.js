/** Decoder for prow files: see docs/web.md. */

export { crc16, parse, truncate } from "./container.js";
export { ProwDecoder } from "./decoder.js";
export * from "./errors.js";
