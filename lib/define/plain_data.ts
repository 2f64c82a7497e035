/**
 * Plain data as bytes: what JSON holds, and bigints and bytes.
 *
 * @module
 */

import { isPlain } from "./mistakes.ts";
import { isSealedObject } from "./sealed.ts";

/** Plain data: the form in which a device returns its state. */
export type PlainData =
  | null
  | undefined
  | boolean
  | number
  | string
  | bigint
  | Uint8Array
  | readonly PlainData[]
  | { readonly [key: string]: PlainData };

/**
 * Tags of lists that stand for values without a form in JSON. A list of the device's own begins
 * with LIST.
 */
const Tag = { LIST: "l", BIGINT: "n", BYTES: "b" } as const;

/**
 * Encodes plain data.
 *
 * @throws {TypeError} if something in it is not plain; the message says where
 *
 * @example
 * ```ts
 * import { decodePlain, encodePlain } from "./plain_data.ts";
 *
 * const state = { count: 3, base: 0x1_0000_0000n, queue: [new Uint8Array([1, 2])] };
 * const { queue } = decodePlain(encodePlain(state)) as typeof state;
 * console.assert(queue[0]?.[1] === 2);
 * ```
 */
export function encodePlain(value: PlainData): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(tagged(value, "state")) ?? "");
}

/**
 * Decodes what `encodePlain` returned.
 *
 * @throws {SyntaxError} if it is something else
 */
export function decodePlain(bytes: Uint8Array): PlainData {
  if (bytes.length === 0) return undefined;
  try {
    return untagged(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new SyntaxError("It is no plain data", { cause });
  }
}

function tagged(value: unknown, path: string): unknown {
  if (value === null || value === undefined) return value;
  if (typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (typeof value === "bigint") return [Tag.BIGINT, String(value)];
  if (value instanceof Uint8Array) return [Tag.BYTES, value.toBase64()];
  if (Array.isArray(value)) {
    return [Tag.LIST, ...value.map((each, i) => tagged(each, `${path}[${i}]`))];
  }
  if (typeof value !== "object" || !(isPlain(value) || isSealedObject(value))) {
    throw new TypeError(
      `Cannot save ${path}: ${
        String(value)
      } is no plain data; give numbers, texts, bytes, lists and objects`,
    );
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, tagged(each, `${path}.${key}`)]),
  );
}

function untagged(value: unknown): PlainData {
  if (Array.isArray(value)) {
    const [tag, ...rest] = value;
    if (tag === Tag.LIST) return rest.map(untagged);
    if (tag === Tag.BIGINT) return BigInt(rest[0]);
    if (tag === Tag.BYTES) return Uint8Array.fromBase64(rest[0]);
    throw new SyntaxError(`There is no ${String(tag)}`);
  }
  if (typeof value !== "object" || value === null) return value as PlainData;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, untagged(each)]),
  );
}
