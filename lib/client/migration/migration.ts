/**
 * Migration, as a client sees it: the state of a device, saved and restored as a stream.
 * `Device.migration` has it.
 *
 * @module
 */

import type { WaitOptions } from "../../base/wait.ts";
import { RemoteError } from "../../base/errors.ts";
import {
  RESTORE_CHUNK_SIZE,
  SAVE_CHUNK_SIZE,
  STATE_TIMEOUT_MS,
  WRITE_CHUNK_SIZE,
} from "../../base/limits.ts";
import { StateSink } from "./restore.ts";
import { StateSource } from "./save.ts";
import type { VfioProxy } from "../../transport/proxy.ts";
import {
  DeviceState,
  DeviceStateData,
  deviceStateName,
  Feature,
  MigrationData,
  MigrationFlags,
} from "../../wire/feature.ts";
import type { DeviceStateName, MigrationSupport, RestoreOptions, SaveOptions } from "./options.ts";

/** Parts of a device that a Migration needs. */
export interface MigrationHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** The limits that both ends agreed on. */
  readonly negotiated: {
    /** Bytes of data in one message that both take. */
    readonly maxDataXferSize: number;
    /** True if both know REGION_WRITE_MULTI. */
    readonly writeMultiple?: boolean;
  };
  /** The features that it is made of. */
  readonly features: {
    /** Reads a feature, as `DeviceFeatures.get`. */
    get(feature: number, size: number, options?: WaitOptions): Promise<Uint8Array>;
    /** Writes a feature, as `DeviceFeatures.set`. */
    set(
      feature: number,
      data?: Uint8Array,
      options?: WaitOptions & { doing?: string },
    ): Promise<Uint8Array>;
  };
}

/**
 * The migration of a device. `Device.migration` returns it.
 *
 * @example The state of a device moves to another one
 * ```ts
 * import { connect } from "../connect.ts";
 * import { DemoRegister } from "../../devices/demo.ts";
 * import { DemoDevice } from "../../devices/demo_device.ts";
 * import { Server } from "../../server/server.ts";
 *
 * const folder = Deno.makeTempDirSync();
 * using here = Server.listen(folder + "/here.sock", new DemoDevice()); // in two processes, usually
 * using there = Server.listen(folder + "/there.sock", new DemoDevice());
 * using source = await connect(folder + "/here.sock");
 * using destination = await connect(folder + "/there.sock");
 * await source.regionInfo(0);
 * await source.region("bar0").write32Async(DemoRegister.SCRATCH, 0x1234);
 *
 * await source.migration.save({ after: "STOP" }).pipeTo(destination.migration.restore());
 *
 * await destination.regionInfo(0);
 * const scratch = await destination.region("bar0").read32Async(DemoRegister.SCRATCH);
 * console.assert(scratch === 0x1234);
 * console.assert(await source.migration.state() === "STOP");
 * ```
 */
export class Migration {
  readonly #host: MigrationHost;

  /** @ignore made by `Device` */
  constructor(host: MigrationHost) {
    this.#host = host;
  }

  /**
   * Reads how the device can migrate; undefined if it can't. The server of Cloud Hypervisor's
   * crate, which knows no features, is out of step then, and the connection is of no more use.
   */
  async support(options: WaitOptions = {}): Promise<MigrationSupport | undefined> {
    let data: Uint8Array;
    try {
      data = await this.#host.features.get(Feature.MIGRATION, 8, options);
    } catch (error) {
      if (error instanceof RemoteError) return undefined;
      throw error;
    }
    const { flags } = this.#decode(MigrationData, data);
    return {
      flags,
      stopCopy: (flags & MigrationFlags.STOP_COPY) !== 0n,
      preCopy: (flags & MigrationFlags.PRE_COPY) !== 0n,
      p2p: (flags & MigrationFlags.P2P) !== 0n,
    };
  }

  /**
   * The state that the device is in.
   *
   * @throws {RemoteError} if it does not migrate
   * @throws {ProtocolError} if it is in a state that there is not
   */
  async state(options: WaitOptions = {}): Promise<DeviceStateName> {
    try {
      const data = await this.#host.features.get(Feature.MIG_DEVICE_STATE, 8, options);
      const { state } = this.#decode(DeviceStateData, data);
      return deviceStateName(state) as DeviceStateName;
    } catch (error) {
      throw error instanceof RemoteError ? error.because("the device does not migrate") : error;
    }
  }

  /**
   * Takes the device to another state, through those in between. That may take a while, because the
   * device finishes first what it has begun: 30 s unless `timeoutMs` says otherwise.
   *
   * @param state a name, or a `DeviceState`
   * @throws {RemoteError} if there is no way, or the device fails on it
   */
  async setState(state: DeviceStateName | number, options: WaitOptions = {}): Promise<void> {
    const number = typeof state === "number" ? state : DeviceState[state];
    await this.#host.features.set(
      Feature.MIG_DEVICE_STATE,
      DeviceStateData.encode({ state: number, dataFd: 0 }),
      {
        timeoutMs: STATE_TIMEOUT_MS,
        ...options,
        doing: `set the state of the device to ${deviceStateName(number)}`,
      },
    );
  }

  /**
   * The state of the device as a stream of bytes that only a device of the same kind understands.
   * Nothing happens before the stream is read, and it is read no faster than its reader is.
   *
   * The device is then stopped, read, and set as `after` says. If the stream is cancelled, fails or
   * is aborted, the device does again what it did before.
   *
   * Errors of the stream:
   * - `RemoteError` if the server refuses
   * - `TimeoutError`, `ConnectionError`, or the reason of the signal
   * - `RangeError` if the device can't do the `preCopy` that is asked for, or is in a state in
   *   which it can't be saved
   * - `AggregateError` of two if it could not be set back either
   */
  save(options: SaveOptions = {}): ReadableStream<Uint8Array<ArrayBuffer>> {
    const { maxDataXferSize } = this.#host.negotiated;
    const { chunkSize = Math.min(SAVE_CHUNK_SIZE, maxDataXferSize) } = options;
    checkChunkSize(chunkSize, maxDataXferSize);
    const source = new StateSource(this, this.#host.proxy, { ...options, chunkSize });
    return new ReadableStream(source, new CountQueuingStrategy({ highWaterMark: 0 }));
  }

  /**
   * Takes the state of a device of the same kind, as `save` yields it. The device stops at the
   * first write. When the stream is closed, the device takes the state on, and is set as `after`
   * says.
   *
   * If the device refuses, or the stream is aborted before that, it keeps the state that it had and
   * does again what it did before. Servers of other makes may keep the state or not.
   *
   * Errors of the stream: as with `save`; `RemoteError` also if the device refuses the state.
   */
  restore(options: RestoreOptions = {}): WritableStream<Uint8Array> {
    const { maxDataXferSize, writeMultiple } = this.#host.negotiated;
    // libvfio-user reads no larger message whole. It is no server of REGION_WRITE_MULTI either.
    const most = writeMultiple ? RESTORE_CHUNK_SIZE : WRITE_CHUNK_SIZE;
    const { chunkSize = Math.min(most, maxDataXferSize) } = options;
    checkChunkSize(chunkSize, maxDataXferSize);
    const sink = new StateSink(this, this.#host.proxy, { ...options, chunkSize });
    return new WritableStream(sink, new CountQueuingStrategy({ highWaterMark: 1 }));
  }

  #decode<T>(codec: { decode(payload: Uint8Array): T }, data: Uint8Array): T {
    try {
      return codec.decode(data);
    } catch (error) {
      this.#host.proxy.close(error as Error);
      throw error;
    }
  }
}

function checkChunkSize(chunkSize: number, most: number): void {
  if (Number.isInteger(chunkSize) && chunkSize >= 1 && chunkSize <= most) return;
  throw new RangeError(`Cannot move ${chunkSize} bytes at once: from 1 to ${most} are possible`);
}
