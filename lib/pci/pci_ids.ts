/**
 * Names of vendors and devices from the machine's `pci.ids`.
 *
 * @module
 */

import type { ClassNames } from "./class.ts";

/** Where distributions keep the list. */
export const PCI_IDS_PATHS: readonly string[] = [
  "/usr/share/misc/pci.ids",
  "/usr/share/hwdata/pci.ids",
  "/var/lib/pciutils/pci.ids",
  "/usr/share/misc/pci.ids.gz",
  "/usr/share/hwdata/pci.ids.gz",
  "/var/lib/pciutils/pci.ids.gz",
];

/** The list has 1.4 MB in 2023; a file beyond this is not it. */
const MAX_PCI_IDS_SIZE = 32 << 20;

/**
 * The list of PCI ids. Nothing is parsed ahead: a lookup searches the text for the line of the vendor, and
 * from there for the others. What is malformed is not found.
 *
 * @example
 * ```ts
 * import { PciIds } from "./pci_ids.ts";
 *
 * const ids = new PciIds("1b36  Red Hat, Inc.\n\t0010  QEMU NVM Express Controller\n");
 * if (ids.vendor(0x1b36) !== "Red Hat, Inc.") throw new Error();
 * if (ids.device(0x1b36, 0x0010) !== "QEMU NVM Express Controller") throw new Error();
 * ```
 */
export class PciIds {
  readonly #text: string;

  /** A list of `text`, in the format of `pci.ids`. */
  constructor(text: string) {
    // Every entry is found by what begins its line; so the first one has a line break before it too.
    this.#text = "\n" + text;
  }

  /**
   * Reads the first of `paths` that is there; those that end in `.gz` are decompressed. `undefined` if none
   * can be read: names are a help, and their lack is no error.
   */
  static async open(paths: readonly string[] = PCI_IDS_PATHS): Promise<PciIds | undefined> {
    for (const path of paths) {
      const text = await readText(path);
      if (text !== undefined) return new PciIds(text);
    }
    return undefined;
  }

  /** The name of a vendor. */
  vendor(vendorId: number): string | undefined {
    return this.#find(hex(vendorId, 4));
  }

  /** The name of a device. */
  device(vendorId: number, deviceId: number): string | undefined {
    return this.#find(hex(vendorId, 4), hex(deviceId, 4));
  }

  /** The name of a subsystem of a device. */
  subsystem(
    vendorId: number,
    deviceId: number,
    subsystemVendorId: number,
    subsystemId: number,
  ): string | undefined {
    const subsystem = `${hex(subsystemVendorId, 4)} ${hex(subsystemId, 4)}`;
    return this.#find(hex(vendorId, 4), hex(deviceId, 4), subsystem);
  }

  /** The names of a class code, 24 bits. */
  classNames(classCode: number): ClassNames {
    const keys = [
      `C ${hex(classCode >>> 16, 2)}`,
      hex((classCode >>> 8) & 0xff, 2),
      hex(classCode & 0xff, 2),
    ];
    const [base, sub, progIf] = [1, 2, 3].map((depth) => this.#find(...keys.slice(0, depth)));
    return {
      ...(base === undefined ? {} : { base }),
      ...(sub === undefined ? {} : { sub }),
      ...(progIf === undefined ? {} : { progIf }),
    };
  }

  /** Finds the entry of `keys`, one level of indentation each, by narrowing to the block of each. */
  #find(...keys: string[]): string | undefined {
    let from = 0;
    let to = this.#text.length;
    let name: string | undefined;
    for (const [depth, key] of keys.entries()) {
      const line = `\n${"\t".repeat(depth)}${key}  `;
      const start = this.#text.indexOf(line, from);
      if (start < 0 || start >= to) return undefined;
      from = start + line.length;
      name = this.#lineFrom(from);
      to = this.#blockEnd(from, depth, to);
    }
    return name === "" ? undefined : name;
  }

  #lineFrom(start: number): string {
    const end = this.#text.indexOf("\n", start);
    return this.#text.slice(start, end < 0 ? undefined : end).trim();
  }

  /** Where the first line begins that is not deeper than `depth`; comments and empty lines do not count. */
  #blockEnd(start: number, depth: number, limit: number): number {
    const outer = new RegExp(`\\n\\t{0,${depth}}[^\\t\\n\\r#]`, "g");
    outer.lastIndex = start;
    return Math.min(outer.exec(this.#text)?.index ?? limit, limit);
  }
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}

/** The text of a list, `undefined` if it cannot be read, is too large, or is no gzip though it says so. */
async function readText(path: string): Promise<string | undefined> {
  try {
    using file = await Deno.open(path);
    const { isFile, size } = await file.stat();
    if (!isFile || size > MAX_PCI_IDS_SIZE) return undefined;
    const chunks = path.endsWith(".gz")
      ? file.readable.pipeThrough(new DecompressionStream("gzip"))
      : file.readable;
    return await boundedText(chunks);
  } catch {
    return undefined;
  }
}

async function boundedText(chunks: ReadableStream<Uint8Array>): Promise<string | undefined> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MAX_PCI_IDS_SIZE) return undefined;
    parts.push(decoder.decode(chunk, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}
