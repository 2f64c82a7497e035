/**
 * The options of a migration, and what a stream of a state needs of the device.
 *
 * @module
 */

import type { WaitOptions } from "../../base/wait.ts";
import type { DeviceState } from "../../wire/feature.ts";

/** A state by name. */
export type DeviceStateName = keyof typeof DeviceState;

/** How a device can migrate. */
export interface MigrationSupport {
  /** `MigrationFlags`: bits that are not known as they came. */
  readonly flags: bigint;
  /** It can be saved and restored while it stands still. */
  readonly stopCopy: boolean;
  /** It can be saved in part while it runs. */
  readonly preCopy: boolean;
  /** It knows the P2P states. */
  readonly p2p: boolean;
}

/** What a device does when its state was saved or restored. */
export type AfterMigration = "RUNNING" | "STOP";

/** How far a stream is. */
export interface MigrationProgress {
  /** Bytes of the stream so far. */
  readonly bytes: number;
  /** The state of the device. */
  readonly state: DeviceStateName;
}

/** How a state is saved. */
export interface SaveOptions extends WaitOptions {
  /** Begin while the device runs, if it does, and stop it only for the rest. Default false. */
  preCopy?: boolean;
  /** What it does at the end; default what it did before. */
  after?: AfterMigration;
  /** Bytes that are asked for at once; default 1 MiB, or as many as were agreed on. */
  chunkSize?: number;
  /**
   * Use the memory of the chunks again: each holds until the next one is asked for, which is enough for `for await`. That is faster.
   * Default false: they are the reader's.
   */
  reuseChunks?: boolean;
  /** Told of each chunk. */
  onProgress?: (progress: MigrationProgress) => void;
}

/** How a state is restored. */
export interface RestoreOptions extends WaitOptions {
  /** What the device does at the end; default RUNNING. */
  after?: AfterMigration;
  /** Bytes that are written at once; default 32 KiB, which every server takes. */
  chunkSize?: number;
  /** Told of each chunk. */
  onProgress?: (progress: MigrationProgress) => void;
}

/** The states of a device, for a stream that has to change them. */
export interface MigrationStates {
  /** Reads the state, as `Migration.state`. */
  state(options?: WaitOptions): Promise<DeviceStateName>;
  /** Changes the state, as `Migration.setState`. */
  setState(state: DeviceStateName | number, options?: WaitOptions): Promise<void>;
  /** Reads how the device can migrate, as `Migration.support`. */
  support(options?: WaitOptions): Promise<MigrationSupport | undefined>;
}
