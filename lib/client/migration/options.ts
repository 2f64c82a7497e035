/**
 * The options of a migration, and what a stream of a state needs of the device.
 *
 * @module
 */

import type { WaitOptions } from "../../base/wait.ts";
import type { DeviceState } from "../../wire/feature.ts";

/** A state by name. */
export type DeviceStateName = keyof typeof DeviceState;

/** Ways in which a device can migrate. */
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

/** State of a device after its state was saved or restored. */
export type AfterMigration = "RUNNING" | "STOP";

/** Progress of a stream. */
export interface MigrationProgress {
  /** Bytes of the stream so far. */
  readonly bytes: number;
  /** The state of the device. */
  readonly state: DeviceStateName;
}

/** Options of saving a state. */
export interface SaveOptions extends WaitOptions {
  /** Begin while the device runs, if it does, and stop it only for the rest. Default false. */
  preCopy?: boolean;
  /** State of the device at the end; default the state before. */
  after?: AfterMigration;
  /** Bytes that are asked for at once; default 1 MiB, or as many as were agreed on. */
  chunkSize?: number;
  /**
   * Reuses the memory of the chunks, which is faster: each is valid until the next one is asked
   * for, which is enough for `for await`. Default false: the reader owns the chunks.
   */
  reuseChunks?: boolean;
  /** Called after each chunk. */
  onProgress?: (progress: MigrationProgress) => void;
}

/** Options of restoring a state. */
export interface RestoreOptions extends WaitOptions {
  /** State of the device at the end; default RUNNING. */
  after?: AfterMigration;
  /**
   * Bytes that are written at once. Default: 32 KiB, which every server takes; 1 MiB, or as many as
   * were agreed on, of a server that knows REGION_WRITE_MULTI.
   */
  chunkSize?: number;
  /** Called after each chunk. */
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
