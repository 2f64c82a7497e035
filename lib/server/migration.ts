/**
 * The state of a served device that migrates: RUNNING, STOP, STOP_COPY and so on. This module has
 * the ways between the states, and the stream that is read or written in some (specification:
 * "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE", and `enum vfio_device_mig_state` of linux/vfio.h).
 *
 * @module
 */

import { EINVAL, EIO } from "../../ffi/errno.ts";
import { Command } from "../wire/command.ts";
import { DeviceState, deviceStateName, MigrationFlags } from "../wire/feature.ts";
import {
  DeviceError,
  type MigrationSink,
  type ServedDevice,
  type ServedMigration,
} from "./served_device.ts";
import { thrownText } from "../base/thrown.ts";
import { SavedStream } from "./saved_stream.ts";

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = DeviceState;

/** The transitions that are not made of others. */
const ARCS: readonly (readonly [from: number, to: number])[] = [
  [RUNNING, STOP],
  [STOP_COPY, STOP],
  [RESUMING, STOP],
  [PRE_COPY, RUNNING],
  [STOP, RUNNING],
  [RUNNING, PRE_COPY],
  [STOP, STOP_COPY],
  [PRE_COPY, STOP_COPY],
  [STOP, RESUMING],
];

/** In these the device is read: no way leads through them, for its state would be read in part. */
const SAVING: ReadonlySet<number> = new Set([PRE_COPY, STOP_COPY]);

/**
 * The commands that each state serves; a state without an entry serves all of them.
 *
 * STOP and STOP_COPY agree with libvfio-user, but for two. The server also serves REGION_READ in
 * STOP_COPY, which changes nothing that is saved. It serves DMA_UNMAP in both, because a client may
 * take its memory back at any time.
 */
const SERVED: Readonly<Record<number, ReadonlySet<number>>> = {
  [STOP]: new Set([
    Command.DEVICE_FEATURE,
    Command.DMA_UNMAP,
    Command.REGION_READ,
    Command.REGION_WRITE,
    Command.REGION_WRITE_MULTI,
  ]),
  [STOP_COPY]: new Set([
    Command.DEVICE_FEATURE,
    Command.DMA_UNMAP,
    Command.MIG_DATA_READ,
    Command.REGION_READ,
  ]),
  [ERROR]: new Set([
    Command.DEVICE_FEATURE,
    Command.DEVICE_GET_INFO,
    Command.DEVICE_GET_IRQ_INFO,
    Command.DEVICE_GET_REGION_INFO,
    Command.DEVICE_RESET,
    Command.DMA_MAP,
    Command.DMA_UNMAP,
  ]),
};

/**
 * The states that lead from one to another, the last included. The path is the shortest, without a
 * saving state in between.
 *
 * @returns undefined if there is no way
 *
 * @example
 * ```ts
 * import { DeviceState } from "../wire/feature.ts";
 * import { migrationPath } from "./migration.ts";
 *
 * const path = migrationPath(DeviceState.RESUMING, DeviceState.RUNNING);
 * console.assert(path?.join() === `${DeviceState.STOP},${DeviceState.RUNNING}`);
 * ```
 */
export function migrationPath(from: number, to: number): number[] | undefined {
  if (from === to) return [];
  // it would begin anew the stream that the client takes for one
  if (from === STOP_COPY && to === PRE_COPY) return undefined;
  const paths = new Map<number, number[]>([[from, []]]);
  for (const [state, path] of paths) { // grows meanwhile: the nearest come first
    if (path.length > 0 && SAVING.has(state)) continue;
    for (const [start, end] of ARCS) {
      if (start !== state || paths.has(end)) continue;
      if (end === to) return [...path, end];
      paths.set(end, [...path, end]);
    }
  }
  return undefined;
}

/**
 * The refusal of a state that the client restores. The client receives an errno, the server's log
 * the reason.
 */
export class RefusedState extends DeviceError {
  /** True if parts of the state had changed the device already. */
  readonly hasChanged: boolean;

  /** @param cause what the device threw */
  constructor(cause: unknown, hasChanged: boolean) {
    const reason = thrownText(cause);
    super(
      cause instanceof DeviceError ? cause.errno : EIO,
      "The state that the client restores was refused, and the device " +
        (hasChanged ? "has changed: it is in ERROR until a reset" : "is as it was") + `: ${reason}`,
    );
    this.hasChanged = hasChanged;
    this.cause = cause;
  }
}

const machines = new WeakMap<ServedDevice, MigrationMachine>();

/**
 * The migration state of one device. The machine outlives the connections. Its methods are called
 * one at a time.
 */
export class MigrationMachine {
  readonly #hooks: ServedMigration;
  #state: number = RUNNING;
  #saved: SavedStream | undefined; // in PRE_COPY and STOP_COPY
  #sink: MigrationSink | undefined; // in RESUMING
  #hasCome = false; // whether the sink has been given anything
  #refusal: RefusedState | undefined; // what the sink has refused, until the client was told

  private constructor(hooks: ServedMigration) {
    this.#hooks = hooks;
  }

  /** Returns the machine of a device; undefined if the device does not migrate. */
  static of(device: ServedDevice): MigrationMachine | undefined {
    if (device.migration === undefined) return undefined;
    let machine = machines.get(device);
    if (machine === undefined) {
      machines.set(device, machine = new MigrationMachine(device.migration));
    }
    return machine;
  }

  /** The state, a `DeviceState`. */
  get state(): number {
    return this.#state;
  }

  /** True if the device runs, and nothing of it is saved. */
  get isWorking(): boolean {
    return this.#state === RUNNING;
  }

  /** `MigrationFlags`: what the device can do. */
  get flags(): bigint {
    const preCopy = this.#hooks.preCopy === undefined ? 0n : MigrationFlags.PRE_COPY;
    return MigrationFlags.STOP_COPY | preCopy;
  }

  /**
   * Tells if a command is served in this state. The data commands themselves check that they make
   * sense.
   */
  serves(command: number): boolean {
    return this.#state === RUNNING || (SERVED[this.#state]?.has(command) ?? true);
  }

  /**
   * Takes the device to another state, through those in between. If a step fails, the device stays
   * in the state from which the step leads. If the device could not stop or start, its state is
   * ERROR.
   *
   * @throws {DeviceError} EINVAL if there is no such state or no way
   * @throws {RefusedState} if it was being restored, and refuses what has come
   */
  async setState(target: number): Promise<void> {
    const isKnown = ARCS.some(([, to]) => to === target) &&
      (target !== PRE_COPY || this.#hooks.preCopy !== undefined);
    const path = isKnown ? migrationPath(this.#state, target) : undefined;
    if (path === undefined) {
      throw new DeviceError(
        EINVAL,
        `there is no way from ${deviceStateName(this.#state)} to ${deviceStateName(target)}`,
      );
    }
    for (const state of path) await this.#step(state);
  }

  /** One of the arcs. */
  async #step(to: number): Promise<void> {
    const from = this.#state;
    if (to === STOP_COPY) return this.#beginStopCopy();
    if (to === PRE_COPY) this.#saved = new SavedStream(this.#hooks.preCopy!(), false);
    else if (to === RESUMING) this.#beginResuming();
    else if (from === RESUMING) await this.#commit();
    else if (SAVING.has(from)) await this.#endSaving();
    else if (to === STOP) await this.#orError(() => this.#hooks.stop?.());
    else await this.#orError(() => this.#hooks.start?.());
    this.#state = to;
  }

  async #beginStopCopy(): Promise<void> {
    const preCopied = this.#saved;
    if (preCopied !== undefined) {
      await this.#orError(() => this.#hooks.stop?.());
      this.#state = STOP;
      this.#saved = undefined; // both for the case that the next fails
      try {
        await preCopied.continueWith(() => this.#hooks.stopCopy(preCopied.wasAsked));
      } catch (error) {
        this.#hooks.saveEnded?.();
        throw error;
      }
      this.#saved = preCopied;
    } else {
      this.#saved = new SavedStream(this.#hooks.stopCopy(false), true);
    }
    this.#state = STOP_COPY;
  }

  #beginResuming(): void {
    this.#sink = this.#hooks.resume();
    this.#hasCome = false;
    this.#refusal = undefined;
  }

  /**
   * The device takes on what has come, if anything has. If it refuses, another stream may come,
   * unless this one has changed the device.
   */
  async #commit(): Promise<void> {
    const sink = this.#sink;
    try {
      if (this.#refusal !== undefined) throw this.#refusal;
      if (this.#hasCome) await sink?.commit();
      else sink?.abort();
    } catch (error) {
      const refusal = error instanceof RefusedState ? error : this.#refuse(error);
      if (refusal.hasChanged) this.#state = ERROR;
      else this.#beginResuming();
      throw refusal;
    }
    this.#sink = undefined;
  }

  #refuse(error: unknown): RefusedState {
    const hasChanged = this.#sink?.hasChanged ?? false;
    this.#sink?.abort();
    this.#sink = undefined;
    return new RefusedState(error, hasChanged);
  }

  async #endSaving(): Promise<void> {
    if (this.#saved === undefined) return;
    await this.#saved.close();
    this.#saved = undefined;
    this.#hooks.saveEnded?.();
  }

  /** A device that could neither stop nor start is in no state that is known. */
  async #orError(hook: () => void | Promise<void>): Promise<void> {
    try {
      await hook();
    } catch (error) {
      await this.#endSaving();
      this.#state = ERROR;
      throw error;
    }
  }

  /**
   * The next bytes of the device's state: `size`, or fewer at the end. They hold until the next
   * call.
   *
   * @throws {DeviceError} EINVAL unless the state is PRE_COPY or STOP_COPY
   */
  read(size: number): Uint8Array | Promise<Uint8Array> {
    if (this.#saved === undefined) throw this.#noData("read");
    return this.#saved.read(size);
  }

  /**
   * Takes the next bytes of a state to be restored.
   *
   * @throws {DeviceError} EINVAL unless the state is RESUMING
   * @throws {RefusedState} if the device refuses them, or has refused those before
   */
  write(data: Uint8Array): void | Promise<void> {
    if (this.#state !== RESUMING) throw this.#noData("written");
    if (this.#refusal !== undefined) throw this.#refusal;
    if (data.length === 0) return;
    this.#hasCome = true;
    const refuse = (error: unknown) => {
      throw this.#refusal = this.#refuse(error);
    };
    try {
      const result = this.#sink?.write(data);
      if (result instanceof Promise) return result.catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  /**
   * Forgets what has come of a state, in RESUMING: the device keeps the state that it had, or is in
   * ERROR if it has changed.
   */
  forget(): void {
    if (this.#sink?.hasChanged ?? this.#refusal?.hasChanged) this.#state = ERROR;
    this.#sink?.abort();
    this.#sink = this.#refusal = undefined;
    this.#hasCome = false;
  }

  /**
   * Resets the device. In PRE_COPY the state and the stream go on; any other state becomes RUNNING.
   * A device that fails to reset is in ERROR.
   *
   * @param keepsPreCopy false if PRE_COPY becomes RUNNING too: the client that asked for it is gone
   */
  async reset(reset: () => void | Promise<void>, keepsPreCopy = true): Promise<void> {
    const from = this.#state;
    if (from === PRE_COPY && keepsPreCopy) return await this.#orError(reset);
    await this.#endSaving();
    this.#sink?.abort();
    this.#sink = undefined;
    await this.#orError(async () => {
      await reset();
      if (from !== RUNNING && from !== PRE_COPY) await this.#hooks.start?.(); // it stood still
    });
    this.#state = RUNNING;
  }

  #noData(done: string): DeviceError {
    const state = deviceStateName(this.#state);
    return new DeviceError(EINVAL, `migration data can't be ${done} in the state ${state}`);
  }
}
