/**
 * Builds what is not written by hand: `dist/` of the package, and the script and the runtime of `prow page`.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, "../../cli/prow_cli/page/web");
const require = createRequire(import.meta.url);

const types = spawnSync(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "-p", here], { stdio: "inherit" });
if (types.status !== 0) process.exit(1);

const bundled = { bundle: true, format: "esm", minify: true, target: "es2022", legalComments: "inline" };
/** Leave imports of the runtime to whoever loads the file. @param {RegExp} filter @returns {import("esbuild").Plugin} */
const leave = (filter) => ({
  name: "leave",
  setup: (one) => one.onResolve({ filter }, ({ path }) => ({ path, external: true })),
});
await build({
  ...bundled,
  entryPoints: [join(here, "src/browser.js")],
  outfile: join(here, "dist/prow-decode.js"),
  plugins: [leave(/^onnxruntime-web/)],
});

mkdirSync(page, { recursive: true });
await build({
  ...bundled,
  entryPoints: [join(here, "page/page.js")],
  outfile: join(page, "page.js"),
  plugins: [leave(/^onnxruntime-web(\/webgpu)?$/)], // which it never imports
});
const wasm = require.resolve("onnxruntime-web/ort-wasm-simd-threaded.wasm");
writeFileSync(join(page, "runtime.wasm.gz"), gzipSync(readFileSync(wasm), { level: 9 }));
