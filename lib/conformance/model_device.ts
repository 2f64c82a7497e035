/**
 * A plain device for clients under test: a PCI function with registers, a shared region and MSI-X.
 * A check can alter the bytes of its answers.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import { Command } from "../wire/command.ts";
import { MessageFlags } from "../wire/header.ts";
import type { Answer } from "./client_check.ts";
import { capabilitiesOf } from "./learn.ts";
import { join, pack, u32At, u64At } from "./pack.ts";
import type { CameMessage } from "./raw_peer.ts";
import { versionPayload } from "./requests.ts";

const EINVAL = 22;
/** Largest transfer that the device agrees to. */
const MAX_TRANSFER = 1 << 20;
/** The size of the shared region, bar2. */
export const SHARED_SIZE = 0x10000;
/** Parts of bar2 that can be mapped: an offset and a size each. */
export const SPARSE_AREAS: readonly (readonly [number, number])[] = [[0x1000, 0x3000], [
  0x8000,
  0x8000,
]];

const READ = 1;
const WRITE = 2;
const MMAP = 4;
const CAPS = 8;

/** Regions by index: size and flags. */
const REGIONS: Readonly<Record<number, readonly [size: number, flags: number]>> = {
  0: [0x1000, READ | WRITE],
  2: [SHARED_SIZE, READ | WRITE | MMAP],
  7: [0x1000, READ | WRITE],
};
/** Writing a number here raises that vector of MSI-X, as with the demo device. */
const TRIGGER = 0x20;
const NUM_REGIONS = 9;
const IRQS: readonly (readonly [count: number, flags: number])[] = [
  [1, 7],
  [0, 1],
  [4, 9],
  [1, 1],
  [1, 1],
];

/** The capabilities that the device answers in VERSION. */
export const MODEL_CAPABILITIES = {
  max_msg_fds: 16,
  max_data_xfer_size: MAX_TRANSFER,
  max_dma_maps: 65535,
  pgsizes: 4096,
} as const;

/** The payload of a VERSION reply with these capabilities. */
export function versionWith(capabilities: object, minor = 0): Uint8Array {
  return versionPayload(0, minor, JSON.stringify({ capabilities }));
}

/** The capability chain of bar2. */
export function sparseChain(areas: readonly (readonly [number, number])[]): Uint8Array {
  return join(
    pack("u16 u16 u32 u32 u32", 1, 1, 0, areas.length, 0),
    ...areas.map(([offset, size]) => pack("u64 u64", offset, size)),
  );
}

/** The payload of a REGION_INFO reply; the chain is cut where the request has no room for it. */
export function regionPayload(
  room: number,
  { index, flags, size, offset = 0, chain = new Uint8Array() }: {
    index: number;
    flags: number;
    size: number | bigint;
    offset?: number | bigint;
    chain?: Uint8Array;
  },
): Uint8Array {
  const whole = 32 + chain.length;
  const fits = chain.length > 0 && room >= whole;
  return join(
    pack(
      "u32 u32 u32 u32 u64 u64",
      whole,
      flags | (fits ? CAPS : 0),
      index,
      fits ? 32 : 0,
      size,
      offset,
    ),
    ...(fits ? [chain] : []),
  );
}

/** The device of one connection. */
export class ModelDevice {
  readonly #config = configSpace();
  readonly #bar0 = new Uint8Array(0x1000);
  readonly #bar2 = new Uint8Array(SHARED_SIZE);
  readonly #memory: () => OwnedFd;
  readonly #interrupts: number[] = [];

  /** @param memory makes the descriptor of bar2's memory */
  constructor(memory: () => OwnedFd) {
    this.#memory = memory;
    this.#bar0.set([0x76, 0x66, 0x75, 0x64]);
  }

  /** The answer to a request, as any careful device has it. */
  answer(request: CameMessage): Answer {
    const { messageId, command } = request;
    const fds: OwnedFd[] = [];
    const payload = this.#payload(request, fds);
    const isError = typeof payload === "number";
    return {
      messageId,
      command,
      flags: MessageFlags.REPLY | (isError ? MessageFlags.ERROR : 0),
      error: isError ? payload : 0,
      payload: isError ? new Uint8Array() : payload,
      fds,
    };
  }

  /** True if the client has switched bus mastering on. */
  get isBusMaster(): boolean {
    return (this.#config[4]! & 4) !== 0;
  }

  /** Takes the vectors of MSI-X that requests have set off. */
  takeInterrupts(): number[] {
    return this.#interrupts.splice(0);
  }

  /** The payload of the reply, or an errno. */
  #payload({ command, payload }: CameMessage, fds: OwnedFd[]): Uint8Array | number {
    const index = u32At(payload, 8);
    switch (command) {
      case Command.VERSION: {
        const asked = capabilitiesOf(payload);
        const minor = Math.min(u32At(payload, 0) >>> 16, 2);
        const writesMultiple = asked.write_multiple === true;
        return versionWith(
          { ...MODEL_CAPABILITIES, ...(writesMultiple && { write_multiple: true }) },
          minor,
        );
      }
      case Command.DEVICE_GET_INFO:
        return pack("u32 u32 u32 u32", 16, 3, NUM_REGIONS, IRQS.length);
      case Command.DEVICE_GET_REGION_INFO: {
        if (index >= NUM_REGIONS) return EINVAL;
        const [size, flags] = REGIONS[index] ?? [0, 0];
        if ((flags & MMAP) !== 0) fds.push(this.#memory());
        const chain = (flags & MMAP) !== 0 ? sparseChain(SPARSE_AREAS) : undefined;
        return regionPayload(u32At(payload, 0), {
          index,
          flags,
          size,
          ...(chain && { chain }),
        });
      }
      case Command.DEVICE_GET_REGION_IO_FDS:
        return index in REGIONS ? pack("u32 u32 u32 u32", 16, 0, index, 0) : EINVAL;
      case Command.DEVICE_GET_IRQ_INFO: {
        const [count, flags] = IRQS[index] ?? [undefined, 0];
        return count === undefined ? EINVAL : pack("u32 u32 u32 u32", 16, flags, index, count);
      }
      case Command.DMA_MAP:
        // Checks walk from map to map: each has a byte at least.
        return u64At(payload, 24) === 0n ? EINVAL : new Uint8Array();
      case Command.DEVICE_SET_IRQS:
      case Command.DEVICE_RESET:
        return new Uint8Array();
      case Command.DMA_UNMAP:
        return payload.slice(0, 24);
      case Command.REGION_READ:
      case Command.REGION_WRITE:
        return this.#access(command, payload);
      case Command.REGION_WRITE_MULTI:
        return payload.slice(0, 8);
    }
    return EINVAL;
  }

  #access(command: number, payload: Uint8Array): Uint8Array | number {
    const [offset, index, count] = [u64At(payload, 0), u32At(payload, 8), u32At(payload, 12)];
    const bytes = { 0: this.#bar0, 2: this.#bar2, 7: this.#config }[index];
    if (bytes === undefined || count > MAX_TRANSFER) return EINVAL;
    if (offset + BigInt(count) > BigInt(bytes.length)) return EINVAL;
    const at = Number(offset);
    const head = payload.slice(0, 16);
    if (command === Command.REGION_READ) return join(head, bytes.subarray(at, at + count));
    if (payload.length !== 16 + count) return EINVAL;
    // BARs keep no more than the bits of an address of their size.
    if (index === 7) this.#writeConfig(at, payload.subarray(16));
    else bytes.set(payload.subarray(16), at);
    if (index === 0 && at === TRIGGER) this.#interrupts.push(u32At(payload, 16));
    return head;
  }

  #writeConfig(at: number, data: Uint8Array): void {
    for (const [i, byte] of data.entries()) {
      const mask = CONFIG_MASKS[at + i] ?? 0;
      this.#config[at + i] = (this.#config[at + i]! & ~mask) | (byte & mask);
    }
  }
}

/** Bits of config space that software can write, by byte. */
const CONFIG_MASKS: Readonly<Record<number, number>> = {
  0x04: 0x07,
  0x05: 0x04,
  0x11: 0xf0,
  0x12: 0xff,
  0x13: 0xff,
  0x1a: 0xff,
  0x1b: 0xff,
  0x3c: 0xff,
  0x43: 0xc0,
};

/** A type 0 header, with MSI-X whose table lies in bar0. */
function configSpace(): Uint8Array {
  const bytes = new Uint8Array(0x1000);
  bytes.set(pack("u16 u16 u16 u16", 0x1234, 0x0de5, 0, 0x10), 0);
  bytes.set([1, 0, 0x80, 0x08], 8);
  bytes.set(pack("u16 u16", 0x1234, 1), 0x2c);
  bytes[0x34] = 0x40;
  bytes[0x3d] = 1;
  bytes.set(pack("u8 u8 u16 u32 u32", 0x11, 0, 3, 0x800, 0xc00), 0x40);
  return bytes;
}
