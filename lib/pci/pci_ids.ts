/**
 * Names of vendors and devices from the machine's `pci.ids`.
 *
 * @module
 */

import type { ClassNames } from "./class.ts";
import { hexDigits } from "../text/hex.ts";

/** The paths at which distributions keep the list. */
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
 * The list of PCI ids. Nothing is parsed ahead: a lookup searches the text for the line of the
 * vendor, and from there for the others. What is malformed is not found.
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
  // By key, those that were looked for: that takes a millisecond
  readonly #outermost = new Map<string, Block | undefined>();

  /** A list of `text`, in the format of `pci.ids`. */
  constructor(text: string) {
    this.#text = text;
  }

  /**
   * Reads the first of `paths` that is there; those that end in `.gz` are decompressed. `undefined`
   * if none can be read: names are a help, and their lack is no error.
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
    return this.#find(hexDigits(vendorId, 4));
  }

  /** The name of a device. */
  device(vendorId: number, deviceId: number): string | undefined {
    return this.#find(hexDigits(vendorId, 4), hexDigits(deviceId, 4));
  }

  /** The name of a subsystem of a device. */
  subsystem(
    vendorId: number,
    deviceId: number,
    subsystemVendorId: number,
    subsystemId: number,
  ): string | undefined {
    const subsystem = `${hexDigits(subsystemVendorId, 4)} ${hexDigits(subsystemId, 4)}`;
    return this.#find(hexDigits(vendorId, 4), hexDigits(deviceId, 4), subsystem);
  }

  /** The names of a class code, 24 bits. */
  classNames(classCode: number): ClassNames {
    const baseKey = `C ${hexDigits(classCode >>> 16, 2)}`;
    const subKey = hexDigits((classCode >>> 8) & 0xff, 2);
    const base = this.#find(baseKey);
    const sub = this.#find(baseKey, subKey);
    const progIf = this.#find(baseKey, subKey, hexDigits(classCode & 0xff, 2));
    return {
      ...(base === undefined ? {} : { base }),
      ...(sub === undefined ? {} : { sub }),
      ...(progIf === undefined ? {} : { progIf }),
    };
  }

  /**
   * Finds the entry of `keys`, one level of indentation each, by narrowing to the block of each.
   */
  #find(outermost: string, ...keys: string[]): string | undefined {
    if (!this.#outermost.has(outermost)) {
      this.#outermost.set(outermost, findBlock(this.#text, outermost));
    }
    let block = this.#outermost.get(outermost);
    for (const [index, key] of keys.entries()) {
      block &&= findBlock(block.body, "\t".repeat(index + 1) + key);
    }
    return block?.name || undefined;
  }
}

/** An entry, and what is indented below it. */
interface Block {
  readonly name: string;
  readonly body: string;
}

/**
 * The first entry of `text` that begins with `key`, which is indented as deep as it is to be found.
 */
function findBlock(text: string, key: string): Block | undefined {
  const line = `${key}  `;
  // To put a line break before the first line, too, would copy the whole text.
  const start = text.startsWith(line) ? 0 : text.indexOf(`\n${line}`) + 1;
  if (start === 0 && !text.startsWith(line)) return undefined;
  const entry = text.slice(start + line.length);
  const depth = key.lastIndexOf("\t") + 1;
  // It ends before the first line that is not deeper; comments and empty lines do not count.
  const end = entry.search(new RegExp(`\\n\\t{0,${depth}}[^\\t\\n\\r#]`));
  const block = end < 0 ? entry : entry.slice(0, end);
  const nameEnd = block.indexOf("\n");
  if (nameEnd < 0) return { name: block.trim(), body: "" };
  return { name: block.slice(0, nameEnd).trim(), body: block.slice(nameEnd) };
}

/**
 * The text of a list, `undefined` if it cannot be read, is too large, or is no gzip though it says
 * so.
 */
async function readText(path: string): Promise<string | undefined> {
  try {
    using file = await Deno.open(path);
    const { isFile, size } = await file.stat();
    if (!isFile || size > MAX_PCI_IDS_SIZE) return undefined;
    if (path.endsWith(".gz")) {
      return await boundedText(file.readable.pipeThrough(new DecompressionStream("gzip")));
    }
    const bytes = new Uint8Array(size);
    let count = 0;
    while (count < size) {
      const read = await file.read(bytes.subarray(count));
      if (read === null) break; // it was cut meanwhile
      count += read;
    }
    return new TextDecoder().decode(bytes.subarray(0, count));
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
