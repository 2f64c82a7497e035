/**
 * `Device`: what a client sees of the device at the other end of a connection. `connect` makes one.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { ConfigReader, MAX_CONFIG_SIZE } from "./config_reader.ts";
import { RefusalReasons } from "./refusal_reasons.ts";
import { drive, driveAsync } from "../base/plan.ts";
import { MAX_IRQ_INDEXES, MAX_REGIONS } from "../base/limits.ts";
import { DmaSpace } from "./dma.ts";
import { DmaLogging } from "./dma_logging.ts";
import { DeviceFeatures } from "./features.ts";
import { IrqIndex } from "./irq.ts";
import { Migration } from "./migration/migration.ts";
import { PciFunction } from "./pci_function.ts";
import type { ProxyState } from "../transport/dispatcher.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import type { AsyncRequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import { Region } from "./region.ts";
import { RegionInfos } from "./region_infos.ts";
import { Replies } from "./replies.ts";
import { RegionIoFds } from "./io_fds.ts";
import type { Message } from "../transport/message.ts";
import { RegionReadReply, RegionReadRequest } from "../wire/access.ts";
import { Command } from "../wire/command.ts";
import { DeviceFlags, DeviceInfoReply, DeviceInfoRequest } from "../wire/device.ts";
import { RegionIoFdsReply, RegionIoFdsRequest } from "../wire/io_fds.ts";
import { type CommandOf, messageOf } from "../wire/messages.ts";
import { irqIndex, IrqInfoReply, IrqInfoRequest, irqNameOf } from "../wire/irq.ts";
import { PciRegion, regionIndex, regionNameOf } from "../wire/region.ts";
import type {
  DeviceInfo,
  IrqId,
  IrqInfo,
  Negotiated,
  RegionId,
  RegionInfo,
  WaitOptions,
} from "./info.ts";
import { hex } from "../text/hex.ts";
import { plural } from "../text/plural.ts";

/** Options of reading the configuration space. */
export interface ConfigSpaceOptions extends WaitOptions {
  /**
   * Leaves out blocks without content. Beyond the first 512 bytes only those blocks of 256 are read
   * that the list of extended capabilities leads to. The others are 0, which spares most of the
   * 4096 bytes. Default false.
   */
  sparse?: boolean;
}

const INFO_SIZE = 16;

/** Answers to what servers ask: a message without an entry does not compile. */
const ANSWERS: Readonly<
  Record<CommandOf<"server">, (device: Device, request: IncomingRequest) => void>
> = {
  DMA_READ: (device, request) => device.dma.serve(request),
  DMA_WRITE: (device, request) => device.dma.serve(request),
};

/** The device at the other end of a connection. */
export class Device implements Disposable, AsyncDisposable {
  /** The version and the limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** The connection itself, for messages that nothing here sends. */
  readonly proxy: VfioProxy;
  readonly #reasons = new RefusalReasons(this);
  readonly #config: ConfigReader;
  #info: DeviceInfo | undefined;
  readonly #replies: Replies;
  readonly #regions: RegionInfos;
  readonly #irqs = new Map<number, IrqInfo>();
  readonly #opened = new Map<number, Region>();
  readonly #irqIndexes = new Map<number, IrqIndex>();
  #dma: DmaSpace | undefined;
  #dmaLogging: DmaLogging | undefined;
  #features: DeviceFeatures | undefined;
  #migration: Migration | undefined;
  #pci: PciFunction | undefined;

  /** @ignore made by `connect` */
  constructor(proxy: VfioProxy, negotiated: Negotiated) {
    this.proxy = proxy;
    this.negotiated = negotiated;
    this.#replies = new Replies(proxy);
    this.#regions = new RegionInfos(this.#replies, (index) => this.regionName(index));
    this.#config = new ConfigReader({
      negotiated,
      read: (at, ...rest) => this.readRegion(PciRegion.CONFIG, BigInt(at), ...rest),
      readSome: (at, ...rest) => this.#readSome(PciRegion.CONFIG, BigInt(at), ...rest),
    });
  }

  /** True if messages are under way that only look for the reason of a failure. */
  get isExplaining(): boolean {
    return this.#reasons.isLooking;
  }

  /**
   * Does what looks for the reason of a failure.
   *
   * @ignore for lib/client/diagnose/
   */
  explaining<T>(look: () => Promise<T>): Promise<T> {
    return this.#reasons.looking(look);
  }

  /** The state of the connection. */
  get state(): ProxyState {
    return this.proxy.state;
  }

  /**
   * Facts about the device. Asked once, then remembered.
   *
   * @throws {RemoteError} if the server refuses; the message tells if the device is stopped for a
   *   migration
   * @throws {ProtocolError} if there are more regions or IRQ indexes than any device has
   */
  async info(options: WaitOptions = {}): Promise<DeviceInfo> {
    if (this.#info) return this.#info;
    const request = DeviceInfoRequest.encode({ argsz: INFO_SIZE });
    const doing = "get the device info";
    const reply = await this.#requestOfRunning(Command.DEVICE_GET_INFO, request, {
      ...options,
      doing,
    });
    const { flags, numRegions, numIrqs } = this.#replies.decode(DeviceInfoReply, reply);
    this.#checkCount(numRegions, MAX_REGIONS, "regions");
    this.#checkCount(numIrqs, MAX_IRQ_INDEXES, "IRQ indexes");
    return this.#info = { flags, numRegions, numIrqs };
  }

  /**
   * Facts about a region. Asked once, then remembered. The reply's descriptors stay open until the
   * Device is closed.
   *
   * @param index the region index
   * @throws {RemoteError} if the server refuses, as for an index that the device does not have
   * @throws {ProtocolError} if the reply makes no sense: a capability chain that loops or leaves
   *   the reply, an area outside the region
   */
  async regionInfo(index: number, options: WaitOptions = {}): Promise<RegionInfo> {
    return await driveAsync(
      this.#regions.ask(index),
      ({ payload, ...request }) =>
        this.#requestOfRunning(Command.DEVICE_GET_REGION_INFO, payload, { ...options, ...request }),
    );
  }

  /**
   * False if the device is known not to be on the PCI bus: `info` was asked for. Its regions and
   * interrupts have numbers for names.
   *
   * @ignore for looks into its refusals
   */
  get mayBePci(): boolean {
    return this.#info === undefined || (this.#info.flags & DeviceFlags.PCI) !== 0;
  }

  /**
   * The name of a region, as far as the device is known: "bar0", or "region 0" off the PCI bus.
   *
   * @ignore for lib/client/diagnose/ and sessions
   */
  regionName(index: number): string {
    return regionNameOf(index, this.mayBePci);
  }

  /**
   * The name of an IRQ index, as far as the device is known: "msix", or "irq 2" off the PCI bus.
   *
   * @ignore for lib/client/diagnose/ and sessions
   */
  irqName(index: number): string {
    return irqNameOf(index, this.mayBePci);
  }

  /**
   * A region by its name or index, for reading and writing. The same object each time.
   *
   * If its info was not asked for yet, this blocks until the reply is there. `await
   * device.regionInfo(index)` beforehand avoids that.
   *
   * @param region "bar0" to "bar5", "rom", "config", "vga", "region9", or the region index
   * @throws {RangeError} if there is no such name
   * @throws as `regionInfo`
   */
  region(region: RegionId): Region {
    const index = typeof region === "number" ? region : regionIndex(region);
    if (index === undefined) throw new RangeError(`There is no region "${region}"`);
    let open = this.#opened.get(index);
    if (open === undefined) {
      open = new Region(this.#regionInfoSync(index), {
        proxy: this.proxy,
        negotiated: this.negotiated,
        name: this.regionName(index),
        explain: (known, error) => this.#reasons.explain(known, error),
        explainAsync: (known, error) => this.#reasons.explainAsync(known, error),
        ...(index === PciRegion.CONFIG && { onWrite: () => this.#pci?.forget() }),
      });
      this.#opened.set(index, open);
    }
    return open;
  }

  /** Memory that the device may read and write. */
  get dma(): DmaSpace {
    return this.#dma ??= new DmaSpace({
      proxy: this.proxy,
      negotiated: this.negotiated,
      request: (command, payload, options) => this.#requestOfRunning(command, payload, options),
    });
  }

  /** The log of pages of that memory that the device writes. */
  get dmaLogging(): DmaLogging {
    return this.#dmaLogging ??= new DmaLogging(this);
  }

  /** Its features, by number. */
  get features(): DeviceFeatures {
    return this.#features ??= new DeviceFeatures(this.proxy, () => this.#pci?.forget());
  }

  /** Its state, to be saved and restored. */
  get migration(): Migration {
    return this.#migration ??= new Migration(this);
  }

  /**
   * The interrupts of an IRQ index. The same object each time.
   *
   * @param irq "intx", "msi", "msix", "err", "req", "irq5", or the IRQ index
   * @throws {RangeError} if there is no such name
   * @throws as `irqInfo`
   */
  async irqs(irq: IrqId, options: WaitOptions = {}): Promise<IrqIndex> {
    const index = typeof irq === "number" ? irq : irqIndex(irq);
    if (index === undefined) throw new RangeError(`There is no IRQ index "${irq}"`);
    const info = await this.irqInfo(index, options);
    let open = this.#irqIndexes.get(index);
    if (open === undefined) {
      const name = this.irqName(index);
      this.#irqIndexes.set(index, open = new IrqIndex(info, this.proxy, name));
    }
    return open;
  }

  /**
   * Answers a command of the server.
   *
   * @ignore `connect` hands them over
   */
  serve(request: IncomingRequest): void {
    const message = messageOf(request.command);
    if (message?.sender !== "server") return request.fail(EINVAL);
    ANSWERS[message.name as CommandOf<"server">](this, request);
  }

  /** The device as a PCI function: switch it on, give its BARs addresses, find its capabilities. */
  get pci(): PciFunction {
    return this.#pci ??= new PciFunction(this, this.#config);
  }

  #regionInfoSync(index: number): RegionInfo {
    return drive(
      this.#regions.ask(index),
      ({ payload, ...request }) =>
        this.proxy.requestSync(Command.DEVICE_GET_REGION_INFO, payload, request).own(),
    );
  }

  /**
   * Facts about an IRQ index. Asked once, then remembered.
   *
   * @param index the IRQ index
   * @throws {RemoteError} if the server refuses, as for an index that the device does not have
   */
  async irqInfo(index: number, options: WaitOptions = {}): Promise<IrqInfo> {
    const known = this.#irqs.get(index);
    if (known) return known;
    const reply = await this.#requestOfRunning(
      Command.DEVICE_GET_IRQ_INFO,
      IrqInfoRequest.encode({ argsz: INFO_SIZE, index }),
      {
        ...options,
        doing: `get the info of ${this.irqName(index)}`,
      },
    );
    const info = this.#replies.decode(IrqInfoReply, reply);
    this.#replies.checkIndex(info.index, index, "IRQ");
    const irq = { index, flags: info.flags, count: info.count };
    this.#irqs.set(index, irq);
    return irq;
  }

  /**
   * Reads bytes of a region with one message.
   * For the configuration space, and regions of which no more is known than the index. Registers
   * and mapped memory are read by {@linkcode Region.read32} and the like.
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
        `Cannot read ${
          plural(count, "byte")
        } with one message: at most ${maxDataXferSize} were agreed on`,
      );
    }
    const data = await this.#readSome(index, offset, count, options);
    if (data.length === count) return data;
    const doing = readText(this.regionName(index), offset, count);
    throw this.#replies.broken(`answered ${plural(data.length, "byte")} to a request to ${doing}`);
  }

  /** Reads with one message that the server may answer with fewer bytes. */
  async #readSome(
    index: number,
    offset: bigint,
    count: number,
    options: WaitOptions,
  ): Promise<Uint8Array> {
    const doing = readText(this.regionName(index), offset, count);
    const payload = RegionReadRequest.encode({ offset, region: index, count });
    const reply = await this.#request(Command.REGION_READ, payload, { ...options, doing });
    const { data, region, offset: at } = this.#replies.decode(RegionReadReply, reply);
    if (data.length > count) {
      throw this.#replies.broken(
        `answered ${plural(data.length, "byte")} to a request to ${doing}`,
      );
    }
    if (region !== index || at !== offset) {
      throw this.#replies.broken(
        `answered for ${this.regionName(region)} at ${hex(at)} to a request to ${doing}`,
      );
    }
    return data;
  }

  /**
   * Descriptors that stand in for parts of a region: signalling one is a write to its part
   * (specification: "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
   *
   * @param index the region index
   * @returns one entry a part; entries may share a descriptor. The caller closes them
   * @throws {RemoteError} if the server refuses
   * @throws {ProtocolError} if an entry's descriptor did not come
   */
  async regionIoFds(index: number, options: WaitOptions = {}): Promise<RegionIoFds> {
    const plan = this.#replies.askWithRoom({
      what: `the I/O descriptors of ${this.regionName(index)}`,
      index,
      room: INFO_SIZE,
      encode: (argsz) => RegionIoFdsRequest.encode({ argsz, flags: 0, index, count: 0 }),
      codec: RegionIoFdsReply,
      take: (info, fds) => new RegionIoFds(info, fds),
    });
    return await driveAsync(
      plan,
      ({ payload, ...request }) =>
        this.#request(Command.DEVICE_GET_REGION_IO_FDS, payload, { ...options, ...request }),
    );
  }

  /**
   * Reads the PCI configuration space, 4096 bytes at most, with as few messages as the server
   * takes. It is read anew each time, because a device may change it.
   *
   * @throws {RemoteError} if the server refuses
   */
  async readConfigSpace(
    { sparse = false, ...options }: ConfigSpaceOptions = {},
  ): Promise<Uint8Array> {
    const { size } = await this.regionInfo(PciRegion.CONFIG, options);
    const length = Number(size < BigInt(MAX_CONFIG_SIZE) ? size : BigInt(MAX_CONFIG_SIZE));
    return await this.#config.read(length, sparse, options);
  }

  /**
   * Resets the device. It may take long: there is no timeout unless one is given.
   *
   * @throws {RemoteError} if the server refuses; the message tells if the device is stopped for a
   *   migration
   */
  async reset(options: WaitOptions = {}): Promise<void> {
    try {
      await this.#requestOfRunning(Command.DEVICE_RESET, undefined, {
        timeoutMs: Infinity,
        ...options,
        doing: "reset the device",
      });
    } finally {
      this.#pci?.forget(); // a reset that fails may have begun
    }
  }

  /** Closes the connection and the descriptors of the regions. Requests that are pending fail. */
  close(): void {
    this.proxy.twin?.close();
    this.proxy.close();
    this.#dma?.close();
    for (const irqs of this.#irqIndexes.values()) irqs.close();
    this.#irqIndexes.clear();
    for (const region of this.#opened.values()) region.close();
    this.#opened.clear();
    this.#regions.close();
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

  #checkCount(count: number, limit: number, what: string): void {
    if (count > limit) {
      throw this.#replies.broken(
        `says that the device has ${count} ${what}; the limit is ${limit}`,
      );
    }
  }

  /** Sends what a device refuses that is stopped for a migration, and says so then. */
  async #requestOfRunning(
    command: number,
    payload: Uint8Array | undefined,
    options: AsyncRequestOptions,
  ): Promise<Message> {
    try {
      return await this.#request(command, payload, options);
    } catch (error) {
      throw await this.#reasons.explainStopped(error, command, options);
    }
  }
}

/** A read in words, for errors. */
function readText(region: string, offset: bigint, count: number): string {
  return `read ${plural(count, "byte")} of ${region} at ${hex(offset)}`;
}
