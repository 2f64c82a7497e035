/**
 * The offer of a server: the version, limits and capabilities with which it answers a client's
 * VERSION (specification: "VFIO_USER_VERSION").
 *
 * @module
 */

import { mappings } from "../../ffi/budget.ts";
import {
  DEFAULT_MAX_DMA_MAPS,
  DEFAULT_PGSIZES,
  MAX_DATA_XFER_SIZE,
  MAX_MSG_FDS,
  MIN_LOGGING_PAGE_SIZE,
  OFFERED_MAX_DATA_XFER_SIZE,
  OFFERED_MAX_DMA_MAPS,
  OFFERED_MAX_MSG_FDS,
} from "../base/limits.ts";
import {
  type Capabilities,
  capabilitiesOf,
  limitsOf,
  PROTOCOL_VERSION,
  subsetOf,
} from "../wire/version.ts";

/**
 * Parts of an offer that differ from the usual one: for a device that needs it, and for the test of
 * a client. A limit that is chosen here is told to every client, and kept: a client that goes
 * beyond it is refused.
 */
export interface ServerOffer {
  /** The highest minor version: 0 to 2. Default 2. */
  minor?: number | undefined;
  /** File descriptors in one message: 0 to 253. Default 16. */
  maxMsgFds?: number | undefined;
  /** Bytes of data in one message: 1 to 64 MiB. Default 1 MiB. */
  maxDataXferSize?: number | undefined;
  /**
   * DMA maps that a client may have at one time, from 0 on. Default 65535, of which a client is
   * told as many as are possible with a file each: 16000, or what the kernel allows.
   */
  maxDmaMaps?: number | undefined;
  /**
   * Sizes of the pages that a DMA map may have, a mask of their bits: 4096 at least. Maps are of
   * whole pages of the smallest size. Default 4096.
   */
  pgsizes?: bigint | undefined;
  /** Takes REGION_WRITE_MULTI of a client that proposes it. Default true. */
  writeMultiple?: boolean | undefined;
  /** Makes a twin socket for a client that asks for it. Default true. */
  twinSocket?: boolean | undefined;
}

/** A client and a device, as far as the answer to VERSION depends on them. */
export interface Negotiation {
  /** The capabilities that the client proposes. */
  readonly client: Capabilities;
  /** True if a twin socket is made. */
  readonly hasTwin: boolean;
  /** True if the device migrates. */
  readonly canMigrate: boolean;
}

/** A parameter of an offer that is a number: the least and the greatest value. */
const BOUNDS = {
  minor: [0, PROTOCOL_VERSION.minor],
  maxMsgFds: [0, MAX_MSG_FDS],
  maxDataXferSize: [1, MAX_DATA_XFER_SIZE],
  maxDmaMaps: [0, Number.MAX_SAFE_INTEGER],
} as const satisfies Partial<Record<keyof ServerOffer, readonly [least: number, most: number]>>;

/** An offer with all that was not chosen filled in. */
export class Offer {
  /** The highest minor version. */
  readonly minor: number;
  /** Descriptors that are taken in one message: chosen, or as many as Linux passes. */
  readonly takenFds: number;
  /** Bytes of data in one message. */
  readonly maxDataXferSize: number;
  /** DMA maps that a client may have at one time. */
  readonly maxDmaMaps: number;
  /** The smallest page of a DMA map, in bytes. */
  readonly pageSize: bigint;
  readonly #chosen: ServerOffer;

  /** @throws {RangeError} if a number is out of its range */
  constructor(chosen: ServerOffer) {
    for (const [name, [least, most]] of Object.entries(BOUNDS)) {
      const value = chosen[name as keyof typeof BOUNDS];
      if (value === undefined || Number.isInteger(value) && value >= least && value <= most) {
        continue;
      }
      throw new RangeError(
        `Cannot offer ${name} ${value}: it is an integer of ${least} to ${most}`,
      );
    }
    const { pgsizes = BigInt(DEFAULT_PGSIZES) } = chosen;
    if (pgsizes < 1n || pgsizes % BigInt(DEFAULT_PGSIZES) !== 0n || pgsizes >> 64n !== 0n) {
      throw new RangeError(
        `Cannot offer pgsizes ${pgsizes}: it is a mask of 64 bits, and pages are ` +
          `${DEFAULT_PGSIZES} bytes at least`,
      );
    }
    this.#chosen = chosen;
    this.minor = chosen.minor ?? PROTOCOL_VERSION.minor;
    // Clients are known that send more descriptors than they were told: all that Linux passes.
    this.takenFds = chosen.maxMsgFds ?? MAX_MSG_FDS;
    this.maxDataXferSize = chosen.maxDataXferSize ?? OFFERED_MAX_DATA_XFER_SIZE;
    this.maxDmaMaps = chosen.maxDmaMaps ?? DEFAULT_MAX_DMA_MAPS;
    this.pageSize = pgsizes & -pgsizes;
  }

  /** Decides whether a client gets a twin socket: the client has to take its descriptor. */
  makesTwin(client: Capabilities): boolean {
    if (this.#chosen.twinSocket === false) return false;
    return (client.twinSocket?.supported ?? false) && limitsOf(client).maxMsgFds > 0;
  }

  /** Decides whether REGION_WRITE_MULTI of a client is taken. */
  takesWriteMultiple(client: Capabilities): boolean {
    return (client.writeMultiple ?? false) && this.#chosen.writeMultiple !== false;
  }

  /** The capabilities of the answer: those that the client proposed, and chosen limits. */
  capabilities({ client, hasTwin, canMigrate }: Negotiation): Capabilities {
    const { maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes } = this.#chosen;
    const most = Math.min(OFFERED_MAX_DMA_MAPS, Math.floor(mappings.limit / 2));
    return {
      ...subsetOf(client, {
        maxMsgFds: maxMsgFds ?? OFFERED_MAX_MSG_FDS,
        maxDataXferSize: this.maxDataXferSize,
        maxDmaMaps: maxDmaMaps ?? most,
        pgsizes: pgsizes ?? BigInt(DEFAULT_PGSIZES),
        writeMultiple: this.takesWriteMultiple(client) || undefined,
        twinSocket: hasTwin ? { supported: true, fdIndex: 0 } : undefined,
        migration: canMigrate ? { pgsize: MIN_LOGGING_PAGE_SIZE } : undefined,
      }),
      ...capabilitiesOf({
        maxMsgFds,
        maxDataXferSize,
        maxDmaMaps,
        pgsizes,
        writeMultiple: undefined,
        twinSocket: undefined,
        migration: undefined,
      }),
    };
  }
}
