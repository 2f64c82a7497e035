/**
 * The demo device's state, saved and restored.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { changedPages } from "../server/page_diff.ts";
import type { ConfigRegion } from "../server/config.ts";
import {
  DeviceError,
  type MigrationSink,
  type ServedMigration,
  type ServedRegion,
} from "../server/served_device.ts";
import type { MemoryRegion } from "../server/memory_region.ts";
import { type StateIdentity, StateReader, StateWriter } from "../server/state_stream.ts";
import { layout, u32, u64 } from "../wire/layout.ts";
import type { CopyState } from "./demo_dma.ts";

/** What BAR0 holds. */
export interface RegistersState {
  /** The registers that keep what is written: 8 of them. */
  readonly kept: readonly number[];
  readonly counter: number;
  readonly result: number;
  readonly busyReads: number;
  readonly engine: CopyState;
}

/** BAR0, as far as it migrates. */
interface Registers {
  state: RegistersState;
  stop(): Promise<void>;
  start(): void;
}

/** The parts of the device. */
export interface DemoParts {
  readonly identity: Pick<StateIdentity, "vendor" | "device">;
  readonly config: ConfigRegion;
  readonly registers: Registers;
  readonly memory: MemoryRegion;
  readonly msix: ServedRegion & { reset(): void };
}

/** To be changed whenever the sections are. */
const STATE_VERSION = 1;
const Section = { CONFIG: 0, REGISTERS: 1, MEMORY: 2, MSIX: 3 } as const;
const KEPT = 8;

const Flag = { BUSY: 1, DONE: 2 } as const;
const Rest = layout("registers of the demo device", 48, {
  counter: u32(0),
  result: u32(4),
  busyReads: u32(8),
  flags: u32(12),
  errno: u32(16),
  done: u32(20),
  length: u32(24),
  source: u64(32),
  destination: u64(40),
});
const REGISTERS_SIZE = KEPT * 4 + Rest.size;

/** How the demo device migrates. */
export class DemoMigration implements ServedMigration {
  readonly #parts: DemoParts;
  readonly #identity: StateIdentity;
  #preCopied: { writer: StateWriter; memory: Uint8Array } | undefined;

  /** Of these parts. */
  constructor(parts: DemoParts) {
    this.#parts = parts;
    this.#identity = { ...parts.identity, name: "demo", version: STATE_VERSION };
  }

  /** The copy engine stands still when this is settled. */
  stop(): Promise<void> {
    return this.#parts.registers.stop();
  }

  /** The copy engine goes on. */
  start(): void {
    this.#parts.registers.start();
  }

  /** The memory as it is now. */
  *preCopy(): Generator<Uint8Array> {
    const writer = new StateWriter(this.#identity);
    const memory = this.#parts.memory.bytes.slice();
    this.#preCopied = { writer, memory };
    yield* writer.write(Section.MEMORY, memory);
    yield* writer.flush();
  }

  /** All of it, or what `preCopy` has not told. */
  *stopCopy(continues: boolean): Generator<Uint8Array> {
    const { config, registers, memory, msix } = this.#parts;
    const preCopied = continues ? this.#preCopied : undefined;
    const writer = preCopied?.writer ?? new StateWriter(this.#identity);
    if (preCopied === undefined) yield* writer.write(Section.MEMORY, memory.bytes);
    else {
      for (const { offset, bytes } of changedPages(preCopied.memory, memory.bytes)) {
        yield* writer.write(Section.MEMORY, bytes, offset);
      }
    }
    yield* writer.write(Section.CONFIG, config.bytes);
    yield* writer.write(Section.REGISTERS, encodeRegisters(registers.state));
    yield* writer.write(Section.MSIX, bytesOf(msix));
    yield* writer.finish();
  }

  /** Nothing is to be compared with any more. */
  saveEnded(): void {
    this.#preCopied = undefined;
  }

  /** A state will come. */
  resume(): MigrationSink {
    const { config, memory, msix } = this.#parts;
    const sizes = [config.size, REGISTERS_SIZE, memory.size, msix.size];
    const reader = new StateReader(
      this.#identity,
      new Map(sizes.map((size, section) => [section, { size }])),
    );
    return {
      write: (data) => reader.write(data),
      commit: () => {
        reader.finish();
        this.#takeOn(reader);
      },
      abort: () => {},
    };
  }

  #takeOn(reader: StateReader): void {
    const { config, registers, memory, msix } = this.#parts;
    const state = decodeRegisters(reader.section(Section.REGISTERS)); // throws before anything is changed
    memory.bytes.set(reader.section(Section.MEMORY));
    // As a client writes them: what is read-only stays as it is.
    config.reset();
    config.write(0, reader.section(Section.CONFIG));
    msix.reset();
    msix.write(0, reader.section(Section.MSIX));
    registers.state = state;
  }
}

function bytesOf(region: ServedRegion): Uint8Array {
  const bytes = new Uint8Array(region.size);
  region.read(0, bytes);
  return bytes;
}

function encodeRegisters({ kept, counter, result, busyReads, engine }: RegistersState): Uint8Array {
  const bytes = new Uint8Array(REGISTERS_SIZE);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of kept.entries()) view.setUint32(i * 4, value, true);
  const { copy, isDone, errno } = engine;
  Rest.write(
    {
      counter,
      result,
      busyReads,
      flags: (copy ? Flag.BUSY : 0) | (isDone ? Flag.DONE : 0),
      errno,
      done: copy?.done ?? 0,
      length: copy?.length ?? 0,
      source: copy?.source ?? 0n,
      destination: copy?.destination ?? 0n,
    },
    bytes,
    KEPT * 4,
  );
  return bytes;
}

/** @throws {DeviceError} EINVAL if they say what can't be */
function decodeRegisters(bytes: Uint8Array): RegistersState {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kept = Array.from({ length: KEPT }, (_, i) => view.getUint32(i * 4, true));
  const { counter, result, busyReads, flags, errno, done, length, source, destination } = Rest
    .decode(bytes, KEPT * 4);
  const isBusy = (flags & Flag.BUSY) !== 0;
  if (done > length) {
    throw new DeviceError(EINVAL, `Cannot restore a copy of which ${done} of ${length} are done`);
  }
  return {
    kept,
    counter,
    result,
    busyReads,
    engine: {
      copy: isBusy ? { source, destination, length, done } : undefined,
      isDone: (flags & Flag.DONE) !== 0,
      errno,
    },
  };
}
