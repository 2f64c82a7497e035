/** Imports of files, and of text as if it were a file. */

import { assertRejects } from "@std/assert";
import { type ImportedMap, readImports } from "../../../../lib/registers/import/import.ts";
import { FileProblems, type Register, type RegisterMap } from "../../../../lib/registers/mod.ts";

const SAMPLES = new URL("./samples/", import.meta.url);

/** Imports a peripheral of a file of samples/: the first one, unless a name is given. */
export async function importSample(name: string, peripheral?: string): Promise<ImportedMap> {
  return await importFile(new URL(name, SAMPLES).pathname, peripheral);
}

/** Does so with a text. */
export async function importText(text: string | Uint8Array, peripheral?: string) {
  const path = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    if (typeof text === "string") await Deno.writeTextFile(path, text);
    else await Deno.writeFile(path, text);
    return await importFile(path, peripheral);
  } finally {
    await Deno.remove(path);
  }
}

async function importFile(path: string, peripheral?: string): Promise<ImportedMap> {
  const imports = await readImports(path);
  const found = imports.peripherals.find(({ name }) => name === (peripheral ?? name))!;
  return imports.make(found, { region: "bar0", offset: 0 });
}

/** The mistakes of a text, as "LINE:COLUMN MESSAGE; HINT". */
export async function mistakesOf(text: string | Uint8Array): Promise<string[]> {
  const { problems } = await assertRejects(() => importText(text), FileProblems);
  return problems.map(({ line, column, message, hint }) =>
    `${line}:${column} ${message}${hint === undefined ? "" : `; ${hint}`}`
  );
}

/** Notes in the same form. */
export function notesOf({ notes }: ImportedMap): string[] {
  return notes.map(({ line, column, message }) => `${line}:${column} ${message}`);
}

/** A register of a map. */
export function registerOf({ registers }: RegisterMap, name: string): Register {
  const found = registers.find((each) => each.name === name);
  if (found === undefined) throw new Error(`${name} is none of ${registers.map((r) => r.name)}`);
  return found;
}

/** A file of CMSIS-SVD with these registers in its only peripheral. */
export function svd(registers: string, device = ""): string {
  return `<device><name>D</name>${device}<peripherals><peripheral><name>P</name>` +
    `<baseAddress>0</baseAddress><registers>${registers}</registers>` +
    `</peripheral></peripherals></device>`;
}

/** A component of IEEE 1685-2014 with these registers in its only block. */
export function component(registers: string, more = ""): string {
  return `<ipxact:component xmlns:ipxact="x"><ipxact:name>C</ipxact:name>${more}` +
    `<memoryMaps><memoryMap><name>M</name><addressBlock><name>B</name>` +
    `<baseAddress>0</baseAddress><range>4096</range><width>32</width>${registers}` +
    `</addressBlock></memoryMap></memoryMaps></ipxact:component>`;
}
