/**
 * `Device`: what a client sees of the device at the other end of a connection. `connect` makes one.
 *
 * @module
 */

import { EINVAL } from "../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../ffi/fd.ts";
import { ProtocolError, RemoteError } from "./errors.ts";
import { MAX_IRQ_INDEXES, MAX_REGION_INFO_SIZE, MAX_REGIONS } from "./limits.ts";
import type { AsyncRequestOptions, ProxyState, VfioProxy } from "./proxy.ts";
import type { Message } from "./stream.ts";
import { RegionReadReply, RegionReadRequest } from "./wire/access.ts";
import { Command } from "./wire/command.ts";
import { DeviceInfoReply, DeviceInfoRequest } from "./wire/device.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  deviceStateName,
  Feature,
  FeatureFlags,
} from "./wire/feature.ts";
import { IrqInfoReply, IrqInfoRequest, irqName } from "./wire/irq.ts";
import {
  PciRegion,
  type RegionCapability,
  RegionInfoReply,
  RegionInfoRequest,
  regionName,
} from "./wire/region.ts";
import type { Capabilities } from "./wire/version.ts";

/** How long to wait, and a way to call it off. */
export type WaitOptions = Pick<AsyncRequestOptions, "timeoutMs" | "signal">;

/** What both ends agreed on. */
export interface Negotiated {
  /** The major version: 0. */
  readonly major: number;
  /** The minor version: the server's, not above ours. */
  readonly minor: number;
  /** What the server said about itself, as it came. */
  readonly server: Capabilities;
  /** What we said about ourselves. */
  readonly client: Capabilities;
  /** Descriptors that the server takes in one message. */
  readonly maxMsgFds: number;
  /** Bytes of data in one message that both take. */
  readonly maxDataXferSize: number;
  /** DMA maps that the server holds at one time. */
  readonly maxDmaMaps: number;
  /** Page sizes that the server takes, as a bit mask. */
  readonly pgsizes: bigint;
  /** Whether REGION_WRITE_MULTI may be used. */
  readonly writeMultiple: boolean;
  /** Whether the server's commands come on a socket of their own. */
  readonly twinSocket: boolean;
}

/** What a device is. */
export interface DeviceInfo {
  /** `DeviceFlags`: RESET, PCI; bits that are not known as they came. */
  readonly flags: number;
  /** Region indexes: 0 to this, exclusive. */
  readonly numRegions: number;
  /** IRQ indexes: 0 to this, exclusive. */
  readonly numIrqs: number;
}

/** What a region is. */
export interface RegionInfo {
  /** The region index. */
  readonly index: number;
  /** `RegionFlags`: READ, WRITE, MMAP; bits that are not known as they came. */
  readonly flags: number;
  /** Bytes of the region; 0 if the device does not have it. */
  readonly size: bigint;
  /** Where it begins in the file to be mapped. */
  readonly offset: bigint;
  /** Its capabilities in the order of the chain. */
  readonly capabilities: readonly RegionCapability[];
  /** The files to be mapped. They belong to the Device, which closes them. */
  readonly fds: readonly OwnedFd[];
}

/** What an IRQ index is. */
export interface IrqInfo {
  /** The IRQ index. */
  readonly index: number;
  /** `IrqFlags`: EVENTFD, MASKABLE, AUTOMASKED, NORESIZE. */
  readonly flags: number;
  /** Vectors; 0 if the device does not have it. */
  readonly count: number;
}

/** Bytes of configuration space that PCI Express defines: what is read of a larger region. */
export const MAX_CONFIG_SIZE = 4096;
/** Configuration space is read in pieces of 4 bytes, as hardware does it: every server takes those. */
const CONFIG_PIECE = 4;
/** Config reads in flight together. */
const CONFIG_PIPELINE = 64;

const INFO_SIZE = 16;
const REGION_INFO_SIZE = 32;

/** The device at the other end of a connection. */
export class Device implements Disposable, AsyncDisposable {
  /** What version and limits were agreed on. */
  readonly negotiated: Negotiated;
  /** The connection itself, for messages that nothing here sends. */
  readonly proxy: VfioProxy;
  readonly #twin: VfioProxy | undefined;
  #info: DeviceInfo | undefined;
  readonly #regions = new Map<number, RegionInfo>();
  readonly #irqs = new Map<number, IrqInfo>();

  /** @ignore made by `connect` */
  constructor(proxy: VfioProxy, negotiated: Negotiated, twin?: VfioProxy) {
    this.proxy = proxy;
    this.negotiated = negotiated;
    this.#twin = twin;
  }

  /** Where the connection is in its life. */
  get state(): ProxyState {
    return this.proxy.state;
  }

  /**
   * What the device is. Asked once, then remembered.
   *
   * @throws {RemoteError} if the server refuses; the message says so if the device is stopped for a migration
   * @throws {ProtocolError} if there are more regions or IRQ indexes than any device has
   */
  async info(options: WaitOptions = {}): Promise<DeviceInfo> {
    if (this.#info) return this.#info;
    const request = DeviceInfoRequest.encode({ argsz: INFO_SIZE });
    let reply: Message;
    try {
      reply = await this.#request(Command.DEVICE_GET_INFO, request, {
        ...options,
        doing: "get the device info",
      });
    } catch (error) {
      throw error instanceof RemoteError && error.errno === EINVAL
        ? await this.#explainStopped(error, options)
        : error;
    }
    const { flags, numRegions, numIrqs } = this.#decode(DeviceInfoReply, reply);
    this.#checkCount(numRegions, MAX_REGIONS, "regions");
    this.#checkCount(numIrqs, MAX_IRQ_INDEXES, "IRQ indexes");
    return this.#info = { flags, numRegions, numIrqs };
  }

  /**
   * What a region is. Asked once, then remembered; the reply's descriptors stay open until the Device is closed.
   *
   * @param index the region index
   * @throws {RemoteError} if the server refuses, as for an index that the device does not have
   * @throws {ProtocolError} if the reply makes no sense: a capability chain that loops or leaves the reply, an
   *   area outside the region
   */
  async regionInfo(index: number, options: WaitOptions = {}): Promise<RegionInfo> {
    const known = this.#regions.get(index);
    if (known) return known;
    const doing = `get the info of ${regionName(index)}`;
    let argsz = REGION_INFO_SIZE;
    // Once for the size, once for the capabilities; once more if they have grown meanwhile.
    for (let attempt = 0; attempt < 3; attempt++) {
      const reply = await this.#request(
        Command.DEVICE_GET_REGION_INFO,
        RegionInfoRequest.encode({ argsz, index }),
        {
          ...options,
          doing,
          maxReplyFds: this.proxy.limits.maxFds,
        },
      );
      const fds = reply.takeFds();
      try {
        const info = this.#decode(RegionInfoReply, reply);
        this.#checkIndex(info.index, index, "region");
        if (info.argsz > argsz) {
          if (info.argsz > MAX_REGION_INFO_SIZE) {
            throw this.#broken(
              `says that the info of ${
                regionName(index)
              } takes ${info.argsz} bytes, the limit is ${MAX_REGION_INFO_SIZE}`,
            );
          }
          argsz = info.argsz;
          closeAll(fds);
          continue;
        }
        const { flags, size, offset, capabilities } = info;
        const region = { index, flags, size, offset, capabilities, fds };
        this.#regions.set(index, region);
        return region;
      } catch (error) {
        closeAll(fds);
        throw error;
      }
    }
    throw this.#broken(`wants ever more room for the info of ${regionName(index)}`);
  }

  /**
   * What an IRQ index is. Asked once, then remembered.
   *
   * @param index the IRQ index
   * @throws {RemoteError} if the server refuses, as for an index that the device does not have
   */
  async irqInfo(index: number, options: WaitOptions = {}): Promise<IrqInfo> {
    const known = this.#irqs.get(index);
    if (known) return known;
    const reply = await this.#request(
      Command.DEVICE_GET_IRQ_INFO,
      IrqInfoRequest.encode({ argsz: INFO_SIZE, index }),
      {
        ...options,
        doing: `get the info of ${irqName(index)}`,
      },
    );
    const info = this.#decode(IrqInfoReply, reply);
    this.#checkIndex(info.index, index, "IRQ");
    const irq = { index, flags: info.flags, count: info.count };
    this.#irqs.set(index, irq);
    return irq;
  }

  /**
   * Reads bytes of a region with one message.
   *
   * @param index the region index
   * @param offset in bytes from the start of the region
   * @param count bytes, at most `negotiated.maxDataXferSize`
   * @returns exactly `count` bytes
   */
  async readRegion(
    index: number,
    offset: bigint,
    count: number,
    options: WaitOptions = {},
  ): Promise<Uint8Array> {
    const { maxDataXferSize } = this.negotiated;
    if (!Number.isInteger(count) || count < 0 || count > maxDataXferSize) {
      throw new RangeError(
        `Cannot read ${count} bytes with one message: at most ${maxDataXferSize} were agreed on`,
      );
    }
    const doing = `read ${count} bytes of ${regionName(index)} at 0x${offset.toString(16)}`;
    const payload = RegionReadRequest.encode({ offset, region: index, count });
    const reply = await this.#request(Command.REGION_READ, payload, { ...options, doing });
    const { data } = this.#decode(RegionReadReply, reply);
    if (data.length !== count) {
      throw this.#broken(`answered ${data.length} bytes to a request to ${doing}`);
    }
    return data;
  }

  /**
   * Reads the PCI configuration space, 4096 bytes at most, in aligned pieces.
   *
   * @throws {RemoteError} if the server refuses
   */
  async readConfigSpace(options: WaitOptions = {}): Promise<Uint8Array> {
    const { size } = await this.regionInfo(PciRegion.CONFIG, options);
    const length = Number(size < BigInt(MAX_CONFIG_SIZE) ? size : BigInt(MAX_CONFIG_SIZE));
    const config = new Uint8Array(length);
    const readPiece = async (at: number) => {
      const count = Math.min(CONFIG_PIECE, length - at);
      config.set(await this.readRegion(PciRegion.CONFIG, BigInt(at), count, options), at);
    };
    for (let at = 0; at < length; at += CONFIG_PIECE * CONFIG_PIPELINE) {
      const pieces: Promise<void>[] = [];
      const end = Math.min(length, at + CONFIG_PIECE * CONFIG_PIPELINE);
      for (let piece = at; piece < end; piece += CONFIG_PIECE) pieces.push(readPiece(piece));
      await Promise.all(pieces);
    }
    return config;
  }

  /**
   * Resets the device. It may take long: there is no timeout unless one is given.
   *
   * @throws {RemoteError} if the server refuses
   */
  async reset(options: WaitOptions = {}): Promise<void> {
    await this.#request(Command.DEVICE_RESET, undefined, {
      timeoutMs: Infinity,
      ...options,
      doing: "reset the device",
    });
  }

  /** Closes the connection and the descriptors of the regions. Requests that are pending fail. */
  close(): void {
    this.#twin?.close();
    this.proxy.close();
    for (const { fds } of this.#regions.values()) closeAll(fds);
    this.#regions.clear();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #request(
    command: number,
    payload: Uint8Array | undefined,
    options: AsyncRequestOptions,
  ): Promise<Message> {
    return this.proxy.request(command, payload, options);
  }

  /** Decodes a reply. One that can't be decoded ends the connection: what else it says can't be trusted either. */
  #decode<T>(codec: { decode(payload: Uint8Array): T }, reply: Message): T {
    try {
      return codec.decode(reply.payload);
    } catch (error) {
      if (error instanceof ProtocolError) this.proxy.close(error);
      throw error;
    }
  }

  #broken(what: string): ProtocolError {
    const error = new ProtocolError(`The server ${what}`);
    this.proxy.close(error);
    return error;
  }

  #checkCount(count: number, limit: number, what: string): void {
    if (count > limit) {
      throw this.#broken(`says that the device has ${count} ${what}; the limit is ${limit}`);
    }
  }

  #checkIndex(came: number, asked: number, what: string): void {
    if (came !== asked) throw this.#broken(`answered about ${what} ${came}, asked about ${asked}`);
  }

  /** A device that is stopped for a migration refuses nearly everything with EINVAL: find out, and say so. */
  async #explainStopped(refusal: RemoteError, options: WaitOptions): Promise<Error> {
    try {
      const request = DeviceFeatureRequest.encode({
        argsz: 16,
        flags: FeatureFlags.GET | Feature.MIG_DEVICE_STATE,
        data: new Uint8Array(8),
      });
      const reply = await this.#request(Command.DEVICE_FEATURE, request, options);
      const { state } = DeviceStateData.decode(DeviceFeatureReply.decode(reply.payload).data);
      if (state === DeviceState.RUNNING) return refusal;
      return new RemoteError(
        `The device is stopped for a migration (state ${
          deviceStateName(state)
        }); set it to RUNNING or restart its server. ${refusal.message.split(":")[0]}`,
        refusal.errno,
      );
    } catch {
      return refusal;
    }
  }
}
