// Answers questions about prow files, for the tests in Python: JSON in, JSON out.
//
// In:  { models: { name: path }, questions: [{ ask, model, data (base64), n, options }] }
// Out: of each what `ask` (tokens, info, truncate, decode, work, check work) gives, or { error, message }.

import { readFileSync } from "node:fs";

import { ProwDecoder } from "../../codec/prow_js/src/index.js";
import { Meter } from "../../codec/prow_js/src/limits.js";
import { workOf } from "../../codec/prow_js/src/reconstruction.js";
import { told } from "./told.mjs";

const base64 = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");

const answers = {
  tokens: (decoder, data, { options }) => told(decoder.tokens(data, options)),
  info: (decoder, data) => decoder.info(data),
  work: (decoder, data) => workOf(decoder.tokens(data)),
  "check work": (_, __, { n, options }) => new Meter(options.maxPixels).add(n) ?? "fine",
  truncate: (decoder, data, { n }) => base64(decoder.truncate(data, n)),
  decode: async (decoder, data, { options }) => {
    const picture = await decoder.decode(data, options);
    return { ...picture, data: base64(picture.data) };
  },
};

const { models, questions } = JSON.parse(readFileSync(0, "utf8"));
const decoders = {};
for (const [name, path] of Object.entries(models)) decoders[name] = await ProwDecoder.load(readFileSync(path));
const found = [];
for (const question of questions) {
  const data = new Uint8Array(Buffer.from(question.data, "base64"));
  try {
    found.push(await answers[question.ask](decoders[question.model], data, question));
  } catch (error) {
    found.push({ error: error.name, message: error.message });
  }
}
process.stdout.write(JSON.stringify(found), () => process.exit());
