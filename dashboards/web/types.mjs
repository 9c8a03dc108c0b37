// Compiles every rendered board against the types of @grafana/schema: a key or value Grafana does not know is a type error.
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const BOARDS = fileURLToPath(new URL("../grafana/", import.meta.url));
const folder = mkdtempSync(join(HERE, "types-"));

/** The enums the JSON holds as plain strings and numbers: those literals are not assignable to an enum's type, so they are widened. */
const PRELUDE = `import type { Dashboard } from "@grafana/schema";
type Plain<T> = T extends string ? \`\${T}\` extends infer S ? S | T : never : T extends number ? T | number : T extends boolean | null | undefined ? T
  : T extends (infer E)[] ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
`;

/** An annotation's query belongs to its data source's plugin, and the schema's types know the built-in source's only. */
const PROMETHEUS_KEYS = new Set(["expr", "step", "tagKeys", "titleFormat"]);

function withoutPrometheusQueries(text) {
  const board = JSON.parse(text);
  for (const annotation of board.annotations.list) {
    if (annotation.datasource.type !== "prometheus") continue;
    for (const key of PROMETHEUS_KEYS) delete annotation[key];
  }
  return JSON.stringify(board);
}

try {
  let boards = 0;
  for (const dialect of ["sqlite", "postgres", "clickhouse"]) {
    for (const name of readdirSync(join(BOARDS, dialect))) {
      const json = withoutPrometheusQueries(readFileSync(join(BOARDS, dialect, name), "utf8"));
      writeFileSync(join(folder, `${dialect}-${name.replace(".json", "")}.ts`), `${PRELUDE}export const board: Plain<Dashboard> = ${json};\n`);
      boards += 1;
    }
  }
  const options = { compilerOptions: { strict: true, noEmit: true, skipLibCheck: true, module: "esnext", moduleResolution: "bundler", target: "es2022" }, include: ["*.ts"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(options));
  const done = spawnSync(process.execPath, [join(HERE, "node_modules/typescript/bin/tsc"), "-p", folder], { encoding: "utf8" });
  process.stdout.write(done.stdout.slice(0, 200000));
  if (done.status !== 0) process.exitCode = 1;
  else console.log(`${boards} boards compile against @grafana/schema`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
