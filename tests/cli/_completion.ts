/**
 * Files for completion: a map, and a `vfu` that lists its registers.
 *
 * @module
 */

import { DENO } from "../_deno.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

const MAP = `name: own
registers:
- { name: SCRATCH, offset: 0, width: 4, fields: [{ name: LOW, bits: 0 }, { name: HIGH, bits: 31 }] }
- { name: SLOTS, offset: 8, width: 4, count: 4 }
`;

/** Writes `own.yaml` into a folder, and `.bin/vfu`; a module there says so if it is run. */
export async function writeMap(folder: string): Promise<void> {
  await Deno.writeTextFile(`${folder}/own.yaml`, MAP);
  await Deno.writeTextFile(`${folder}/odd.ts`, `Deno.writeTextFileSync("was-run", "");\n`);
  await Deno.mkdir(`${folder}/.bin`);
  const script = `#!/bin/sh\nexec ${DENO} run -A --frozen --config ${ROOT}deno.json ` +
    `${ROOT}cli/main.ts "$@"\n`;
  await Deno.writeTextFile(`${folder}/.bin/vfu`, script, { mode: 0o755 });
}
