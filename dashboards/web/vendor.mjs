// Copies libraries out of node_modules: the chart library into the package of the local page, axe into
// the tests. With --check says whether the copies are the same.
import { readFileSync, writeFileSync } from "node:fs";

const MODULES = new URL("./node_modules/", import.meta.url);
const ROOT = new URL("../../", import.meta.url);
const PAGE = "cost/crewmeter_cost/web/static";
const FILES = {
  "uplot/dist/uPlot.iife.min.js": `${PAGE}/uPlot.iife.min.js`,
  "uplot/dist/uPlot.min.css": `${PAGE}/uPlot.min.css`,
  "uplot/LICENSE": `${PAGE}/uPlot.LICENSE.txt`,
  "axe-core/axe.min.js": "tests/support/vendor/axe.min.js",
  "axe-core/LICENSE": "tests/support/vendor/axe.LICENSE.txt",
};

let stale = 0;
for (const [from, to] of Object.entries(FILES)) {
  const wanted = readFileSync(new URL(from, MODULES));
  const target = new URL(to, ROOT);
  if (!process.argv.includes("--check")) writeFileSync(target, wanted);
  else if (!wanted.equals(readFileSync(target))) {
    console.error(`${to} is not what npm gives`);
    stale += 1;
  }
}
process.exit(stale ? 1 : 0);
