/**
 * Memory that a session gives to the device.
 *
 * @module
 */

import type { DmaPermission } from "../../client/dma_map.ts";
import { hex } from "../../text/hex.ts";
import { constantIn } from "./definitions.ts";
import { parseData } from "./data.ts";
import type { BufferDeclaration, Data, Expression } from "../model.ts";
import type { Parts } from "./reading.ts";
import { DATA_KEYS } from "./arguments.ts";

/** The end of the IOVA space. */
const IOVA_END = 1n << 64n;

/**
 * Reads a buffer from the arguments of a declaration or a `dma map`.
 * Mistakes are noted in `parts`.
 *
 * @param known a declaration of the same name: what is left out is taken from it
 * @returns undefined if it has no address or size
 */
export function parseBuffer(
  name: string,
  parts: Parts,
  known?: BufferDeclaration,
): BufferDeclaration | undefined {
  const iova = parts.number("iova") ?? known?.iova;
  const size = parts.number("size") ?? known?.size;
  const access = (parts.raw["access"] ?? known?.access ?? "rw") as DmaPermission;
  const share = (parts.raw["share"] ?? known?.share ?? "memfd") as "memfd" | "message";
  const fill = parseNested("fill", parts) ?? known?.fill;
  const put = parseNested("put", parts) ?? known?.put;
  if (iova === undefined || size === undefined) return undefined;
  checkExtent(iova, size, parts);
  return {
    source: parts.reading.source(parts.path),
    name,
    iova,
    size,
    access,
    share,
    ...(fill && { fill }),
    ...(put && { put }),
  };
}

function checkExtent(iova: Expression, size: Expression, parts: Parts): void {
  const { definitions } = parts;
  const [start, length] = [iova, size].map((each) => constantIn(each, definitions));
  if (start !== undefined && (start < 0n || start >= IOVA_END)) {
    parts.fail(["iova"], `The address ${hex(start)} is outside the IOVA space of 64 bits`);
  } else if (length !== undefined && length <= 0n) {
    parts.fail(["size"], `The size is ${length}, not 1 at least`);
  } else if (start !== undefined && length !== undefined && start + length > IOVA_END) {
    parts.fail(["size"], `The buffer ends beyond 2^64, at ${hex(start + length)}`);
  }
}

/** The data of `fill` or `put`: a mapping with one key. */
function parseNested(key: "fill" | "put", parts: Parts): Data | undefined {
  const raw = parts.raw[key] as Record<string, unknown> | undefined;
  if (raw === undefined) return undefined;
  const keys = Object.keys(raw);
  const kind = keys[0];
  if (keys.length !== 1 || !DATA_KEYS.includes(kind!)) {
    return parts.fail([key], `"${key}" takes one of ${DATA_KEYS.join(", ")}`);
  }
  const read = () => parseData(kind!, raw[kind!], parts.exact(key, kind!), parts.definitions);
  return parts.attempt([key, kind!], read);
}

/** Reads the data among the arguments of a step: one of them has to be there. */
export function parseDataArguments(parts: Parts): Data | undefined {
  const [first, second] = DATA_KEYS.filter((key) => parts.has(key));
  if (first === undefined) {
    return parts.fail(
      [],
      "Nothing is said of what to put there",
      `write one of ${DATA_KEYS.join(", ")}`,
    );
  }
  if (second !== undefined) {
    return parts.fail([second], `"${first}" and "${second}" can't both be put there`);
  }
  return parts.optional(
    first,
    (raw) => parseData(first, raw, parts.exact(first), parts.definitions),
  );
}

/** Bytes of data, where they are known. */
export function dataLength(data: Data): number | undefined {
  if (data.kind === "bytes") return data.bytes.length;
  return data.kind === "numbers" ? data.width * data.numbers.length : undefined;
}
