// Loads files of models (JSON in: base64 by name, of which "sha256 X" wants that digest) and says what came of each.

import { readFileSync } from "node:fs";

import { ProwDecoder } from "../../codec/prow_js/src/index.js";

const found = {};
for (const [name, data] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  const options = name.startsWith("sha256 ") ? { sha256: name.slice(7) } : {};
  found[name] = await ProwDecoder.load(Buffer.from(data, "base64"), options).then(
    () => "fine",
    (error) => `${error.name}: ${error.message}`,
  );
}
console.log(JSON.stringify(found));
