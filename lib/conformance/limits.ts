/**
 * Limits that a server has named in its VERSION, and requests that go beyond them.
 *
 * @module
 */

import {
  DEFAULT_MAX_DATA_XFER_SIZE,
  DEFAULT_MAX_MSG_FDS,
  DEFAULT_PGSIZES,
  MAX_DATA_XFER_SIZE,
} from "../base/limits.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";
import { Command } from "../wire/command.ts";
import type { Facts } from "./facts.ts";
import { u32At, u64At } from "./pack.ts";

/** Limits of a server: those that it has named, else those of the specification. */
export interface ServerLimits {
  /** Descriptors in a message. */
  readonly fds: number;
  /** Bytes of data in a message. */
  readonly data: number;
  /** DMA maps at a time; undefined if the server names no limit. */
  readonly maps: number | undefined;
  /** Bytes of the smallest page that can be mapped. */
  readonly page: bigint;
}

/** The limits of a server. One that is no sane number counts as not named. */
export function limitsOf({ capabilities }: Facts): ServerLimits {
  const named = (key: string, least: number) => {
    const value = capabilities[key];
    const isSane = typeof value === "number" && Number.isInteger(value) && value >= least;
    return isSane ? value : undefined;
  };
  const data = named("max_data_xfer_size", 1);
  const pages = BigInt(named("pgsizes", 1) ?? DEFAULT_PGSIZES);
  return {
    fds: named("max_msg_fds", 0) ?? DEFAULT_MAX_MSG_FDS,
    data: data !== undefined && data <= MAX_DATA_XFER_SIZE ? data : DEFAULT_MAX_DATA_XFER_SIZE,
    maps: named("max_dma_maps", 0),
    page: pages & -pages,
  };
}

/** A request to a server. */
interface Wanted {
  readonly command: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly unknown[];
}

/** Bytes ahead of the data of messages that carry data. */
const HEADS: Readonly<Record<number, number>> = {
  [Command.REGION_WRITE]: 16,
  [Command.MIG_DATA_WRITE]: 8,
};

/**
 * Finds the limit beyond which a request goes by what it carries: its sender breaks the rules.
 *
 * @returns the limit in words; undefined if the request keeps all of them
 */
export function tooLarge(ask: Wanted, limits: ServerLimits): string | undefined {
  const { command, payload = new Uint8Array(), fds = [] } = ask;
  if (fds.length > limits.fds) {
    return `the server takes ${plural(limits.fds, "descriptor")} in a message`;
  }
  const { [command]: head } = HEADS;
  return head !== undefined && payload.length - head > limits.data ? dataText(limits) : undefined;
}

function dataText({ data }: ServerLimits): string {
  return `the server takes ${plural(data, "byte")} of data in a message`;
}

/** Bytes of data that a request has, or asks for; 0 of one that is too short for that. */
function dataOf({ command, payload = new Uint8Array() }: Wanted): number {
  switch (command) {
    case Command.REGION_READ:
    case Command.REGION_WRITE:
      return u32At(payload, 12);
    case Command.MIG_DATA_READ:
    case Command.MIG_DATA_WRITE:
      return u32At(payload, 4);
    case Command.DEVICE_FEATURE:
      return Math.max(0, u32At(payload, 0) - 8);
  }
  return 0;
}

/**
 * Finds the limit beyond which a request goes by what it asks for: a server may refuse it.
 *
 * @param maps maps that the server holds already
 * @returns the limit in words; undefined if the request keeps all of them
 */
export function beyond(ask: Wanted, limits: ServerLimits, maps: number): string | undefined {
  if (dataOf(ask) > limits.data) return dataText(limits);
  const { command, payload = new Uint8Array() } = ask;
  if (command !== Command.DMA_MAP && command !== Command.DMA_UNMAP) return undefined;
  if (command === Command.DMA_MAP && limits.maps !== undefined && maps >= limits.maps) {
    return `the server takes ${plural(limits.maps, "map")} at a time`;
  }
  const places = command === Command.DMA_MAP ? [8, 16, 24] : [8, 16];
  if (places.every((at) => u64At(payload, at) % limits.page === 0n)) return undefined;
  return `the server maps pages of ${hex(limits.page)} bytes`;
}
