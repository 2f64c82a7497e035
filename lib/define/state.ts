/**
 * Migration of a defined device: its configuration space, registers and memory migrate by
 * themselves, its remaining state by hooks.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { MAX_PLAIN_STATE } from "../base/limits.ts";
import type { ConfigRegion } from "../server/config.ts";
import {
  DeviceError,
  type MigrationSink,
  type ServedMigration,
  type ServedRegion,
} from "../server/served_device.ts";
import {
  type SectionForm,
  type StateForm,
  type StateIdentity,
  StateReader,
  StateWriter,
} from "../server/state_stream.ts";
import { decodePlain, encodePlain, type PlainData } from "./plain_data.ts";
import { PreCopy } from "./pre_copy.ts";
import { REGION_INDEX, type RegionName } from "./device_region.ts";

/** Hooks for the part of a device's state that is in no register and no memory. */
export interface StateHooks {
  /** Version of the saved form: to be changed with the form. Default 1. */
  readonly version?: number;
  /**
   * Bytes that migrate besides those of regions, as a disk in memory. Their lengths never change.
   */
  readonly bytes?: readonly Uint8Array[];
  /**
   * Has memory of 64 KiB or more, of regions and `bytes`, take a state as it comes. A device with
   * much memory needs that once then, not twice. A state that is refused or ends early, or a
   * `restore` that throws, leaves the device in ERROR until a reset. Default false: the device
   * keeps the state that it had.
   */
  readonly inPlace?: boolean;
  /** Forms of earlier versions of the device in which a state may still come. Default none. */
  readonly earlier?: readonly EarlierState[];
  /**
   * Returns the state as plain data: numbers, bigints, texts, booleans, bytes, lists and objects.
   * The device stands still.
   */
  save(): PlainData;
  /**
   * Takes the state. Registers and memory hold their saved contents already. A client has sent the
   * state, which may be anything. If the hook returns a promise, the client is answered when the
   * promise is settled.
   *
   * @throws to refuse: the device then keeps the state that it had, and `restore` is called with
   *   that state
   */
  restore(state: unknown): void | Promise<void>;
}

/**
 * The state of a device as a stream of its own form, in place of the kit's. The kit stops and
 * starts timers and background work; nothing else goes along by itself. `DeviceContext.bus` has the
 * state that the kit keeps: a stream may include it. `resume().commit` checks all before it changes
 * anything.
 */
export type StateStream = Pick<ServedMigration, "preCopy" | "stopCopy" | "saveEnded" | "resume">;

/** Tells the two ways apart in which a device has state of its own. */
export function isStateStream(state: StateHooks | StateStream): state is StateStream {
  return "stopCopy" in state;
}

/** A form in which an earlier version of the device saved its state. */
export interface EarlierState {
  /** Version of that form. Vendor id, device id and name are the device's own. */
  readonly version: number;
  /** Subsystem that the state names. Default: the device's own. */
  readonly subsystem?: { readonly vendor: number; readonly device: number };
  /** Bytes of each section, by its number. */
  readonly sections: Readonly<Record<number, number>>;
  /**
   * The section that holds all bytes of a region. They are taken as from a client that writes them:
   * read-only bits stay as they are.
   */
  readonly regions?: Readonly<Partial<Record<"config" | RegionName, number>>>;
  /**
   * Takes the rest. Registers that no section holds have their reset values, `regions` hold theirs.
   *
   * @param section returns the bytes of a section
   * @throws to refuse: the device then keeps the state that it had
   */
  restore?(section: (number: number) => Uint8Array): void | Promise<void>;
}

/** The parts of a device on which its migration works. */
export interface StateParts {
  /** Identity of the device. */
  readonly identity: StateIdentity;
  /** Bytes that migrate, each in a section of its own: first configuration space. */
  readonly contents: readonly Uint8Array[];
  /** The configuration space. */
  readonly config: ConfigRegion;
  /** The regions of the device, by index. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** Puts registers back to what a reset leaves in them. */
  resetRegions(): void | Promise<void>;
  /** Hooks for the remaining state. */
  readonly state: StateHooks | undefined;
  /** Tasks that the device begins when it goes on; calling the returned function drops them. */
  heldTasks(): () => void;
  /** The device is to stand still. */
  stop(): Promise<void>;
  /** It goes on. */
  start(): void;
}

/** The section of plain data; the bytes follow. */
const PLAIN = 0;
const FIRST_BYTES = 1;

/** The least that is saved while the device works: less is as soon saved when it stands still. */
const PRE_COPY_SIZE = 64 << 10;

/** The bytes that are swapped at a time. */
const SWAP_SIZE = 64 << 10;

/** The migration of a device. */
export class DeviceMigration implements ServedMigration {
  /** The memory that the device has, if it has so much that it is worth it. */
  readonly preCopy?: () => Generator<Uint8Array, void>;
  readonly #parts: StateParts;
  readonly #large: ReadonlyMap<number, Uint8Array>; // by section: saved while the device works
  #preCopied: PreCopy | undefined;

  constructor(parts: StateParts) {
    this.#parts = parts;
    const sections = parts.contents.map((bytes, i) => [FIRST_BYTES + i, bytes] as const);
    this.#large = new Map(sections.filter(([, { length }]) => length >= PRE_COPY_SIZE));
    if (this.#large.size === 0) return;
    this.preCopy = () => {
      this.#preCopied = new PreCopy(new StateWriter(parts.identity), this.#large);
      return this.#preCopied.begin();
    };
  }

  /** Settled when nothing of the device runs. */
  stop(): Promise<void> {
    return this.#parts.stop();
  }

  /** It goes on. */
  start(): void {
    this.#parts.start();
  }

  /** All of the state, or what `preCopy` has not told. */
  stopCopy(continues: boolean): Iterable<Uint8Array> | AsyncIterable<Uint8Array> {
    if (continues && this.#preCopied !== undefined) return this.#goOn(this.#preCopied);
    return this.#write(new StateWriter(this.#parts.identity), () => true);
  }

  /** Discards the snapshot that was kept for saving. */
  saveEnded(): void {
    this.#preCopied = undefined;
  }

  async *#goOn(preCopied: PreCopy): AsyncGenerator<Uint8Array, void> {
    yield* preCopied.rest();
    yield* this.#write(preCopied.writer, (section) => !this.#large.has(section));
  }

  *#write(
    writer: StateWriter,
    isWanted: (section: number) => boolean,
  ): Generator<Uint8Array, void> {
    const plain = encodePlain(this.#save());
    if (plain.length > MAX_PLAIN_STATE) {
      throw new RangeError(
        `The device's state has ${plain.length} bytes besides memory; ${MAX_PLAIN_STATE} are ` +
          `possible`,
      );
    }
    yield* writer.write(PLAIN, plain);
    for (const [i, bytes] of this.#parts.contents.entries()) {
      const section = FIRST_BYTES + i;
      if (isWanted(section)) yield* writer.write(section, bytes);
    }
    yield* writer.finish();
  }

  /** A state comes: it is kept until all of it has, unless memory takes it as it comes. */
  resume(): MigrationSink {
    const { identity, contents, state } = this.#parts;
    const inPlace = state?.inPlace === true ? this.#large : undefined;
    const sections = new Map<number, SectionForm>([
      [PLAIN, { size: MAX_PLAIN_STATE, mayBeShorter: true }],
      ...contents.map(({ length }, i) => {
        const into = inPlace?.get(FIRST_BYTES + i);
        return [FIRST_BYTES + i, { size: length, ...(into && { into }) }] as const;
      }),
    ]);
    const earlier = (state?.earlier ?? []).map((each) => earlierForm(identity, each));
    const reader = new StateReader(identity, sections, earlier);
    return {
      write: (data) => reader.write(data),
      commit: () => {
        reader.finish();
        const earlier = this.#parts.state?.earlier?.[reader.form - 1];
        return earlier === undefined ? this.#take(reader) : this.#takeEarlier(reader, earlier);
      },
      abort: () => {},
      get hasChanged() {
        return reader.hasChanged;
      },
    };
  }

  /** Puts the device into the state that came, or leaves it as it is. */
  async #take(reader: StateReader): Promise<void> {
    const { contents, state } = this.#parts;
    let plain: PlainData;
    try {
      plain = decodePlain(reader.section(PLAIN));
    } catch {
      throw new DeviceError(EINVAL, "Cannot restore a state: it is not one that was saved");
    }
    if (!this.#parts.config.mayBecome(reader.section(FIRST_BYTES))) {
      throw new DeviceError(
        EINVAL,
        "Cannot restore a state: what is read-only in its configuration space is another device's",
      );
    }
    const old = this.#save();
    const swapContents = () => {
      for (const [i, bytes] of contents.entries()) {
        const other = reader.section(FIRST_BYTES + i);
        if (other.buffer !== bytes.buffer) swap(bytes, other); // else it is there already
      }
    };
    const dropHeld = this.#parts.heldTasks(); // what was begun with the state that goes
    swapContents();
    try {
      await state?.restore(plain);
      dropHeld();
    } catch (error) {
      swapContents();
      await state?.restore(old);
      throw error;
    }
  }

  /** As `#take`, for a state of an earlier version. */
  async #takeEarlier(reader: StateReader, earlier: EarlierState): Promise<void> {
    const { contents, state, config, regions } = this.#parts;
    const old = this.#save();
    const kept = contents.map((bytes) => bytes.slice());
    const dropHeld = this.#parts.heldTasks();
    try {
      config.reset();
      await this.#parts.resetRegions();
      for (const [name, number] of Object.entries(earlier.regions ?? {})) {
        const bytes = reader.section(number);
        if (name === "config") config.adopt(bytes);
        else await regions[REGION_INDEX[name as RegionName]]?.write(0, bytes);
      }
      await earlier.restore?.((number) => reader.section(number));
      dropHeld();
    } catch (error) {
      for (const [i, bytes] of contents.entries()) bytes.set(kept[i]!);
      await state?.restore(old);
      throw error;
    }
  }

  /**
   * Returns the state from the device's hook. The state can change during a wait, so the hook has
   * to return it at once.
   */
  #save(): PlainData {
    const saved: unknown = this.#parts.state?.save();
    if (!(saved instanceof Promise)) return saved as PlainData;
    saved.catch(() => {}); // what is wrong with it is told below
    throw new TypeError(
      "Cannot save the device: what its state's save gives is a promise; it has to give the " +
        "state at once",
    );
  }
}

function earlierForm(identity: StateIdentity, earlier: EarlierState): StateForm {
  const { version, subsystem, sections } = earlier;
  const ids = subsystem && { subsystemVendor: subsystem.vendor, subsystem: subsystem.device };
  return {
    identity: { ...identity, ...ids, version },
    sections: new Map(
      Object.entries(sections).map(([number, size]) => [Number(number), { size }]),
    ),
  };
}

function swap(a: Uint8Array, b: Uint8Array): void {
  const kept = new Uint8Array(Math.min(SWAP_SIZE, a.length));
  for (let at = 0; at < a.length; at += SWAP_SIZE) {
    const [left, right] = [a.subarray(at, at + SWAP_SIZE), b.subarray(at, at + SWAP_SIZE)];
    kept.set(left);
    left.set(right);
    right.set(kept.subarray(0, left.length));
  }
}
