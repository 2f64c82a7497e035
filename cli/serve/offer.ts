/**
 * Offers on the command line: `NAME=VALUE`, with the names of the JSON of VERSION.
 *
 * @module
 */

import { Offer, type ServerOffer } from "../../lib/server/offer.ts";
import { nearest } from "../../lib/text/nearest.ts";
import { readSize } from "../../lib/text/size.ts";
import { UsageError } from "./usage.ts";

/** A part of an offer. */
export interface ChosenOffer {
  /** The name, as `max_msg_fds`. */
  readonly name: string;
  /** The part, as it was written. */
  readonly text: string;
  /** The part, as a server takes it. */
  readonly offer: ServerOffer;
}

/** The part of each name, of its value. */
const PARTS: Readonly<Record<string, (value: string) => ServerOffer>> = {
  minor: (value) => ({ minor: toNumber(value) }),
  max_msg_fds: (value) => ({ maxMsgFds: toNumber(value) }),
  max_data_xfer_size: (value) => ({ maxDataXferSize: toNumber(value) }),
  max_dma_maps: (value) => ({ maxDmaMaps: toNumber(value) }),
  pgsizes: (value) => ({ pgsizes: toSize(value) }),
  write_multiple: (value) => ({ writeMultiple: toBoolean(value) }),
  twin_socket: (value) => ({ twinSocket: toBoolean(value) }),
};

/** The names that an offer has. */
export const OFFER_NAMES: readonly string[] = Object.keys(PARTS);

/**
 * Reads a part of an offer, as `max_msg_fds=1`.
 *
 * @throws {SyntaxError} if it has no such form or name
 * @throws {RangeError} if the number is out of its range
 *
 * @example
 * ```ts
 * import { parseOffer } from "./offer.ts";
 *
 * if (parseOffer("max_data_xfer_size=64K").offer.maxDataXferSize !== 65536) throw new Error();
 * ```
 */
export function parseOffer(text: string): ChosenOffer {
  const [, name, value] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new SyntaxError(`"${text}" is no offer; write it as max_msg_fds=1`);
  }
  if (!Object.hasOwn(PARTS, name)) {
    const meant = nearest(name, OFFER_NAMES);
    const hint = meant === undefined ? "" : ` did you mean "${meant}"?`;
    throw new SyntaxError(
      `A server offers no "${name}";${hint} There are ${OFFER_NAMES.join(", ")}`,
    );
  }
  const offer = PARTS[name]!(value);
  new Offer(offer); // whatever is out of range is the user's mistake
  return { name, text, offer };
}

/**
 * Merges the parts of an offer.
 *
 * @throws {UsageError} if a name is there twice
 */
export function offerOf(parts: readonly ChosenOffer[]): ServerOffer {
  const offer: ServerOffer = {};
  const names = new Set<string>();
  for (const { name, offer: part } of parts) {
    if (names.has(name)) throw new UsageError(`the offer has ${name} twice`);
    names.add(name);
    Object.assign(offer, part);
  }
  return offer;
}

function toSize(text: string): bigint {
  const size = readSize(text);
  if (size === undefined) throw new SyntaxError(`"${text}" is no number, as 16 or 64K`);
  return size;
}

function toNumber(text: string): number {
  return Number(toSize(text));
}

function toBoolean(text: string): boolean {
  if (text === "true" || text === "false") return text === "true";
  throw new SyntaxError(`"${text}" is neither true nor false`);
}
