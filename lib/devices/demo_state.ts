/**
 * State of the demo device that is in no register and no memory, checked when it comes from a
 * client. Also the form of states that version 1 of the device saved.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import type { EarlierState } from "../define/state.ts";
import { DeviceError } from "../server/served_device.ts";
import { layout, u32, u64 } from "../wire/layout.ts";
import { type Copy, DmaStatus } from "./demo_dma.ts";

/** Reads of STATUS that show BUSY after an OPERAND: something to poll for. */
export const BUSY_READS = 10;

/** MSI-X vectors of the device. */
export const DEMO_VECTORS = 4;

/** State besides registers and memory. */
export interface DemoState {
  /** Reads of STATUS that show BUSY yet. */
  readonly busyReads: number;
  /** The copy under way. */
  readonly copy: Copy | undefined;
}

/**
 * Checks a state that a client sent.
 *
 * @throws {DeviceError} EINVAL if it can't be one of the device
 */
export function checkState(value: unknown): DemoState {
  const { busyReads, copy } = Object(value) as { busyReads: unknown; copy: unknown };
  if (!isWhole(busyReads, BUSY_READS)) throw refusal(`of ${String(busyReads)} busy reads`);
  if (copy === undefined) return { busyReads, copy };
  const { source, destination, length, vector, done } = Object(copy) as Record<string, unknown>;
  if (!isAddress(source) || !isAddress(destination)) throw refusal("whose copy has no addresses");
  if (!isWhole(length, 0xffff_ffff)) throw refusal("whose copy has no length");
  if (!isWhole(vector, DEMO_VECTORS - 1)) throw refusal("whose copy has no vector");
  if (!isWhole(done, length)) {
    throw refusal(`with a copy of which ${String(done)} of ${length} are done`);
  }
  return { busyReads, copy: { source, destination, length, vector, done } };
}

/** Sections of a state of version 1. */
const SECTION = { CONFIG: 0, REGISTERS: 1, BAR2: 2, BAR4: 3 } as const;
/** Flags in the section of registers. */
const Flag = { BUSY: 1, DONE: 2 } as const;

/** The section of registers, which has their values one by one. */
const Registers = layout("registers of the demo device", 80, {
  SCRATCH: u32(0),
  INTX_LEVEL: u32(4),
  DMA_SRC_LO: u32(8),
  DMA_SRC_HI: u32(12),
  DMA_DST_LO: u32(16),
  DMA_DST_HI: u32(20),
  DMA_LENGTH: u32(24),
  DMA_CONTROL: u32(28),
  COUNTER: u32(32),
  RESULT: u32(36),
  busyReads: u32(40),
  flags: u32(44),
  DMA_ERRNO: u32(48),
  done: u32(52),
  length: u32(56),
  source: u64(64),
  destination: u64(72),
});

/** A register that version 1 saved. */
type Saved = Exclude<
  keyof ReturnType<typeof Registers.decode>,
  Lowercase<string> | "busyReads"
>;

/**
 * The form of a state of version 1.
 *
 * @param regs the device's registers, which take the saved values
 * @param restore takes the remaining state, and checks it
 */
export function version1(
  regs: Readonly<Record<Saved | "DMA_STATUS", { value: number }>>,
  restore: (state: DemoState) => void,
): EarlierState {
  return {
    version: 1,
    subsystem: { vendor: 0, device: 0 },
    sections: {
      [SECTION.CONFIG]: 0x1000,
      [SECTION.REGISTERS]: 80,
      [SECTION.BAR2]: 0x10000,
      [SECTION.BAR4]: 0x1000,
    },
    regions: { config: SECTION.CONFIG, bar2: SECTION.BAR2, bar4: SECTION.BAR4 },
    restore(section) {
      const { busyReads, flags, done, length, source, destination, ...values } = Registers
        .decode(section(SECTION.REGISTERS));
      for (const name of Object.keys(values) as Saved[]) regs[name].value = values[name];
      const isDone = (flags & Flag.DONE) !== 0;
      regs.DMA_STATUS.value = values.DMA_ERRNO !== 0
        ? DmaStatus.ERROR
        : isDone
        ? DmaStatus.DONE
        : 0;
      const vector = values.DMA_CONTROL >>> 8 & 3;
      restore({
        busyReads: Math.min(busyReads, BUSY_READS),
        copy: (flags & Flag.BUSY) !== 0 ? { source, destination, length, done, vector } : undefined,
      });
    },
  };
}

function isWhole(value: unknown, max: number): value is number {
  return Number.isInteger(value) && value as number >= 0 && value as number <= max;
}

function isAddress(value: unknown): value is bigint {
  return typeof value === "bigint" && BigInt.asUintN(64, value) === value;
}

function refusal(what: string): DeviceError {
  return new DeviceError(EINVAL, `Cannot restore a state ${what}`);
}
