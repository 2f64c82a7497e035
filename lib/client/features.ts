/**
 * Features of a device, as a client sees them (specification: "VFIO_USER_DEVICE_FEATURE").
 * `Device.features` has them. Migration and the logging of dirty pages use them.
 *
 * @module
 */

import type { WaitOptions } from "./info.ts";
import { ProtocolError, RemoteError } from "../base/errors.ts";
import type { AsyncRequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { Command } from "../wire/command.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  FeatureFlags,
  featureName,
} from "../wire/feature.ts";

/** An operation on a feature. */
export type FeatureOperation = "get" | "set";

/** Options of reading a feature. */
export interface GetFeatureOptions extends WaitOptions {
  /** Data of the request, for features that take some. */
  data?: Uint8Array;
}

/** Bytes ahead of the data of a feature. */
const HEAD_SIZE = 8;
const { GET, SET, PROBE, INDEX_MASK } = FeatureFlags;

/**
 * The features of a device. `Device.features` returns them.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
 * import { Feature, MigrationData } from "../wire/feature.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * console.assert(await device.features.probe(Feature.MIG_DEVICE_STATE, "set"));
 * const { flags } = MigrationData.decode(await device.features.get(Feature.MIGRATION, 8));
 * console.assert(flags === 5n); // STOP_COPY, PRE_COPY
 * ```
 */
export class DeviceFeatures {
  readonly #proxy: VfioProxy;
  readonly #onSet: (() => void) | undefined;

  /**
   * @param onSet called after each attempt to write a feature, which may have changed the device
   * @ignore made by `Device`
   */
  constructor(proxy: VfioProxy, onSet?: () => void) {
    this.#proxy = proxy;
    this.#onSet = onSet;
  }

  /**
   * Reads a feature.
   *
   * @param feature its index, a `Feature`
   * @param size bytes of data that it may have
   * @returns the data, `size` bytes at most
   * @throws {RemoteError} if the server refuses, as for a feature that the device does not have
   */
  async get(feature: number, size: number, options: GetFeatureOptions = {}): Promise<Uint8Array> {
    const { data = new Uint8Array(size), ...wait } = options;
    const flags = GET | feature;
    const payload = DeviceFeatureRequest.encode({ argsz: HEAD_SIZE + size, flags, data });
    const reply = await this.#ask(payload, feature, { ...wait, doing: `get ${nameOf(feature)}` });
    return reply.subarray(0, size);
  }

  /**
   * Writes a feature.
   *
   * @param feature its index, a `Feature`
   * @param data what it is set to; some have none
   * @returns what the server has set: the same data, but where those were a hint
   * @throws {RemoteError} if the server refuses
   */
  async set(
    feature: number,
    data: Uint8Array = new Uint8Array(),
    options: WaitOptions & { doing?: string } = {},
  ): Promise<Uint8Array> {
    const flags = SET | feature;
    const payload = DeviceFeatureRequest.encode({ argsz: HEAD_SIZE + data.length, flags, data });
    try {
      return await this.#ask(payload, feature, { doing: `set ${nameOf(feature)}`, ...options });
    } finally {
      this.#onSet?.();
    }
  }

  /**
   * Asks whether the device has a feature. Nothing changes.
   *
   * @param feature its index, a `Feature`
   * @param operation what is to be possible; default anything
   */
  async probe(
    feature: number,
    operation?: FeatureOperation,
    options: WaitOptions = {},
  ): Promise<boolean> {
    const operations = operation === undefined ? 0 : operation === "get" ? GET : SET;
    const flags = PROBE | operations | feature;
    const data = new Uint8Array();
    const payload = DeviceFeatureRequest.encode({ argsz: HEAD_SIZE, flags, data });
    try {
      await this.#ask(payload, feature, { ...options, doing: `probe ${nameOf(feature)}` });
      return true;
    } catch (error) {
      if (error instanceof RemoteError) return false;
      throw error;
    }
  }

  /** Sends a request and returns the data of the reply. */
  async #ask(
    payload: Uint8Array,
    feature: number,
    options: AsyncRequestOptions,
  ): Promise<Uint8Array> {
    if (!Number.isInteger(feature) || feature < 0 || feature > INDEX_MASK) {
      throw new RangeError(`There is no feature ${feature}: from 0 to ${INDEX_MASK} are possible`);
    }
    const reply = await this.#proxy.request(Command.DEVICE_FEATURE, payload, options);
    try {
      const { flags, data } = DeviceFeatureReply.decode(reply.payload);
      if ((flags & INDEX_MASK) === feature) return data;
      throw new ProtocolError(
        `The server answered about ${featureName(flags & INDEX_MASK)}, asked about ${
          featureName(feature)
        }`,
      );
    } catch (error) {
      if (error instanceof ProtocolError) this.#proxy.close(error);
      throw error;
    }
  }
}

function nameOf(feature: number): string {
  return `the feature ${featureName(feature).replace(/^feature /, "")}`;
}
