/** All of the package in one file for pages that load it without a bundler. */

export * from "./index.js";
export { defineProwImg, ProwImage } from "./element.js";
