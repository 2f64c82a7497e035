/**
 * A configuration space as JSON.
 *
 * @module
 */

import type { ConfigSpace } from "./config_space.ts";
import { jsonInteger } from "../text/hex.ts";

/** A value that JSON can hold. */
export type JsonValue = null | boolean | number | string | JsonValue[] | {
  [key: string]: JsonValue;
};

/**
 * The configuration space as a plain value for `JSON.stringify`: keys in snake_case, numbers as
 * numbers, bytes as a string of hexadecimal digits. An integer above 2^53 - 1, which only an
 * address or a size can be, is a string of the form "0x8000000000000000".
 *
 * @example
 * ```ts
 * import { parseConfigSpace } from "./config_space.ts";
 * import { configSpaceJson } from "./json.ts";
 *
 * const json = configSpaceJson(parseConfigSpace(new Uint8Array(64)));
 * if (json["vendor_id"] !== 0) throw new Error();
 * ```
 */
export function configSpaceJson(space: ConfigSpace): { [key: string]: JsonValue } {
  return jsonObject(space);
}

function jsonObject(value: object): { [key: string]: JsonValue } {
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(entries.map(([key, field]) => [snakeCase(key), jsonValue(field)]));
}

function jsonValue(value: unknown): JsonValue {
  switch (typeof value) {
    case "bigint":
      return jsonInteger(value);
    case "number":
    case "boolean":
    case "string":
      return value;
    case "object":
      if (value instanceof Uint8Array) return value.toHex();
      if (Array.isArray(value)) return value.map(jsonValue);
      return value === null ? null : jsonObject(value);
    default:
      throw new TypeError(`Cannot write a ${typeof value} as JSON`);
  }
}

/**
 * "tableOffset" to "table_offset"; a digit begins no word of its own, but a capital after it does.
 */
function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`);
}
