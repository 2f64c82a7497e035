/**
 * Requests of a check, as bytes that may be wrong on purpose.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { Command } from "../wire/command.ts";
import { join, pack } from "./pack.ts";

/** The capabilities that we propose unless a check proposes others. */
export const OUR_CAPABILITIES = {
  max_msg_fds: 16,
  max_data_xfer_size: 1048576,
  max_dma_maps: 65535,
  pgsizes: 4096,
  write_multiple: true,
} as const;

/** A request to send. */
export interface Ask {
  /** A number of Command. */
  readonly command: number;
  /** The bytes behind the header. */
  readonly payload?: Uint8Array;
  /** Descriptors that go with it. */
  readonly fds?: readonly OwnedFd[];
  /** Bits of the header's flags; default 0, a command. */
  readonly flags?: number;
  /** Its message id; a fresh one if it is left out. */
  readonly id?: number;
  /** True to send more data or descriptors than the server takes. */
  readonly isBeyond?: boolean;
}

/** The payload of a VERSION. */
export function versionPayload(major: number, minor: number, json?: string): Uint8Array {
  const text = json === undefined ? [] : [new TextEncoder().encode(json), new Uint8Array(1)];
  return join(pack("u16 u16", major, minor), ...text);
}

/** The JSON of a VERSION with these capabilities. */
export function capabilitiesText(capabilities: object = OUR_CAPABILITIES): string {
  return JSON.stringify({ capabilities });
}

/** DEVICE_GET_INFO. */
export function deviceInfo(argsz = 16): Ask {
  return { command: Command.DEVICE_GET_INFO, payload: pack("u32 u32 u32 u32", argsz, 0, 0, 0) };
}

/** DEVICE_GET_REGION_INFO. */
export function regionInfo(index: number, argsz = 32): Ask {
  const payload = pack("u32 u32 u32 u32 u64 u64", argsz, 0, index, 0, 0, 0);
  return { command: Command.DEVICE_GET_REGION_INFO, payload };
}

/** DEVICE_GET_REGION_IO_FDS. */
export function ioFds(index: number, argsz = 16, flags = 0, count = 0): Ask {
  const payload = pack("u32 u32 u32 u32", argsz, flags, index, count);
  return { command: Command.DEVICE_GET_REGION_IO_FDS, payload };
}

/** DEVICE_GET_IRQ_INFO. */
export function irqInfo(index: number, argsz = 16): Ask {
  const payload = pack("u32 u32 u32 u32", argsz, 0, index, 0);
  return { command: Command.DEVICE_GET_IRQ_INFO, payload };
}

/** DEVICE_SET_IRQS. */
export function setIrqs(
  index: number,
  flags: number,
  start: number,
  count: number,
  data: Uint8Array = new Uint8Array(),
  fds: readonly OwnedFd[] = [],
): Ask {
  const argsz = 20 + data.length;
  const payload = join(pack("u32 u32 u32 u32 u32", argsz, flags, index, start, count), data);
  return { command: Command.DEVICE_SET_IRQS, payload, fds };
}

/** REGION_READ. */
export function read(region: number, offset: bigint | number, count: number): Ask {
  return { command: Command.REGION_READ, payload: pack("u64 u32 u32", offset, region, count) };
}

/** REGION_WRITE. */
export function write(
  region: number,
  offset: bigint | number,
  data: Uint8Array,
  count = data.length,
): Ask {
  const payload = join(pack("u64 u32 u32", offset, region, count), data);
  return { command: Command.REGION_WRITE, payload };
}

/** REGION_WRITE_MULTI. */
export function writeMulti(
  writes: readonly { region: number; offset: bigint; data: Uint8Array; count?: number }[],
  count: number | bigint = writes.length,
): Ask {
  const parts = writes.map(({ region, offset, data, count = data.length }) => {
    const padded = new Uint8Array(8);
    padded.set(data.subarray(0, 8));
    return join(pack("u64 u32 u32", offset, region, count), padded);
  });
  return { command: Command.REGION_WRITE_MULTI, payload: join(pack("u64", count), ...parts) };
}

/** DMA_MAP. */
export function dmaMap(
  address: bigint,
  size: bigint,
  { flags = 3, offset = 0n, fds = [], argsz = 32 }: {
    flags?: number;
    offset?: bigint;
    fds?: readonly OwnedFd[];
    argsz?: number;
  } = {},
): Ask {
  const payload = pack("u32 u32 u64 u64 u64", argsz, flags, offset, address, size);
  return { command: Command.DMA_MAP, payload, fds };
}

/** DMA_UNMAP. */
export function dmaUnmap(address: bigint, size: bigint, flags = 0, argsz = 24): Ask {
  return {
    command: Command.DMA_UNMAP,
    payload: pack("u32 u32 u64 u64", argsz, flags, address, size),
  };
}

/** DEVICE_RESET. */
export function reset(): Ask {
  return { command: Command.DEVICE_RESET };
}

/** DEVICE_FEATURE. */
export function feature(flags: number, data: Uint8Array = new Uint8Array(), argsz?: number): Ask {
  const payload = join(pack("u32 u32", argsz ?? 8 + data.length, flags), data);
  return { command: Command.DEVICE_FEATURE, payload };
}

/** MIG_DATA_READ. */
export function migRead(size: number, argsz = 8 + size): Ask {
  return { command: Command.MIG_DATA_READ, payload: pack("u32 u32", argsz, size) };
}

/** MIG_DATA_WRITE. */
export function migWrite(data: Uint8Array, size = data.length, argsz = 8 + size): Ask {
  return { command: Command.MIG_DATA_WRITE, payload: join(pack("u32 u32", argsz, size), data) };
}
