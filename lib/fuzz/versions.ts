/**
 * Payloads of VERSION: right ones, and texts that are no JSON of capabilities.
 *
 * @module
 */

import type { Random } from "../base/random.ts";
import type { Facts } from "../conformance/facts.ts";
import { join, pack } from "../conformance/pack.ts";
import { capabilitiesText, versionPayload } from "../conformance/requests.ts";

/** The payload that a server takes. */
export function rightVersion({ major, minor }: Facts): Uint8Array {
  return versionPayload(major, minor, capabilitiesText());
}

const CAPABILITIES = [
  "max_msg_fds",
  "max_data_xfer_size",
  "max_dma_maps",
  "pgsizes",
  "write_multiple",
  "twin_socket",
  "migration",
];
const VALUES = [
  ...["0", "1", "-1", "1.5", "1e308", "4294967296", "18446744073709551616", "true", "null"],
  ...['""', '"1"', "[]", "{}", '{"supported":true}', '{"pgsize":0}', '{"supported":1}', "nul"],
];

/** Makes a text that is right but for one capability, or none at all. */
const TEXTS: Readonly<Record<string, (random: Random) => string>> = {
  "a capability": (random) =>
    `{"capabilities":{"${random.pick(CAPABILITIES)}":${random.pick(VALUES)}}}`,
  "a key twice": () => '{"capabilities":{"max_msg_fds":1,"max_msg_fds":2}}',
  "no object": (random) => random.pick(["[]", "null", "1", '"x"', "", " ", "{", "}"]),
  "capabilities no object": (random) => `{"capabilities":${random.pick(VALUES)}}`,
  "deeply nested": (random) => "[".repeat(1 + random.below(4000)),
  "a long key": (random) => `{"${"k".repeat(random.below(4096))}":1}`,
};

/** The names of the alterations of a VERSION's text. */
export const TEXT_NAMES: readonly string[] = [
  ...Object.keys(TEXTS),
  "without NUL",
  "NUL inside",
  "not UTF-8",
];

/** Makes the payload of a VERSION whose text is altered. */
export function oddVersion(name: string, random: Random, { major, minor }: Facts): Uint8Array {
  const right = new TextEncoder().encode(capabilitiesText());
  const numbers = pack("u16 u16", major, minor);
  if (name === "without NUL") return join(numbers, right);
  const inside: Readonly<Record<string, number>> = { "NUL inside": 0, "not UTF-8": 0xff };
  const odd = inside[name];
  if (odd !== undefined) {
    return join(numbers, right.map((byte, at) => at === 5 ? odd : byte), Uint8Array.of(0));
  }
  return versionPayload(major, minor, TEXTS[name]!(random));
}
