/**
 * `PciFunction`: the work of firmware and driver on a PCI function's configuration space.
 *
 * @module
 */

import { type ConfigReader, MAX_CONFIG_SIZE } from "./config_reader.ts";
import type { DeviceInfo, RegionInfo, WaitOptions } from "./info.ts";
import type { ConfigSpace } from "../pci/config_space.ts";
import { capabilityKey } from "../pci/names.ts";
import { ConfigView } from "../pci/view.ts";
import { type CapabilityPlace, walkCapabilities, walkExtendedCapabilities } from "../pci/walk.ts";
import { BAR_BITS, COMMAND, HEADER, HEADER_NORMAL } from "../pci/registers.ts";
import type { Region } from "./region.ts";
import { readVpd } from "./vpd.ts";
import { PciRegion } from "../wire/region.ts";

/** Bytes that every configuration space has. */
const CONFIG_HEADER_SIZE = 64;
/** Bytes of conventional PCI; extended capabilities are behind them. */
const STANDARD_SIZE = 256;
const BAR_COUNT = 6;

/** Bounds of the addresses that are assigned: free of a PC's memory and firmware. */
const MEMORY_BASE = 0x8000_0000n;
const MEMORY_END = 0xfe00_0000n;
const HIGH_BASE = 0x10_0000_0000n;
const IO_BASE = 0xc000n;
const IO_END = 0x1_0000n;

/** Bits of COMMAND that are switched on. */
export interface EnableOptions extends WaitOptions {
  /** Answer accesses to memory; default true. */
  memory?: boolean;
  /** Answer accesses to I/O ports; default true. */
  io?: boolean;
  /** Let it access memory by itself; default true. */
  busMaster?: boolean;
}

type CapabilityList = "standard" | "extended";

/** A BAR and its address. */
export interface BarAddress {
  /** 0 to 5. */
  readonly index: number;
  /** Its address. */
  readonly address: bigint;
}

/** The parts of a device that a {@linkcode PciFunction} is made of. */
export interface PciHost {
  /** Opens a region, as `Device.region`. */
  region(region: "config"): Region;
  /** Reads the facts about the device, as `Device.info`. */
  info(options?: WaitOptions): Promise<DeviceInfo>;
  /** Reads the facts about a region, as `Device.regionInfo`. */
  regionInfo(index: number, options?: WaitOptions): Promise<RegionInfo>;
  /** Reads the configuration space, as `Device.readConfigSpace`. */
  readConfigSpace(options?: WaitOptions): Promise<Uint8Array>;
}

/** The configuration space of a device, as firmware and driver use it. `Device.pci` returns it. */
export class PciFunction {
  readonly #device: PciHost;
  readonly #reader: ConfigReader;
  #places = new Map<CapabilityList, readonly CapabilityPlace[]>();

  /** @ignore made by `Device.pci` */
  constructor(device: PciHost, reader: ConfigReader) {
    this.#device = device;
    this.#reader = reader;
  }

  /** The configuration space as a region. */
  get config(): Region {
    return this.#device.region("config");
  }

  /** Reads the configuration space and decodes it; sizes of BARs come from the regions. */
  async configSpace(options: WaitOptions = {}): Promise<ConfigSpace> {
    // Large, and not always needed.
    const { parseConfigSpace } = await import("../pci/config_space.ts");
    const sizes = await this.#barSizes(options);
    return parseConfigSpace(await this.#device.readConfigSpace(options), {
      regionSizes: (index) => sizes[index],
    });
  }

  /**
   * Does the work of firmware at boot: assigns an address to every BAR without one, then switches
   * on memory, I/O and bus mastering. Many servers, QEMU's among them, refuse accesses to a BAR
   * until then. Settings that are there already stay.
   *
   * @returns the BARs that got an address
   * @throws {RemoteError} if the device refuses
   * @throws {RangeError} if there is no room for the BARs
   */
  async enable(options: EnableOptions = {}): Promise<BarAddress[]> {
    const { memory = true, io = true, busMaster = true, ...wait } = options;
    const assigned = await this.assignBars(wait);
    const bits = (memory ? COMMAND.MEMORY : 0) | (io ? COMMAND.IO : 0) |
      (busMaster ? COMMAND.MASTER : 0);
    await this.config.modifyAsync(HEADER.COMMAND, 2, bits, bits, wait);
    return assigned;
  }

  /**
   * Assigns an address to every BAR whose address is 0, aligned to its size: memory from 2 GiB on,
   * I/O ports from 0xc000 on. A 64-bit BAR that does not fit below 4 GiB goes above.
   *
   * @returns the BARs that got an address
   * @throws {RangeError} if there is no room
   */
  async assignBars(options: WaitOptions = {}): Promise<BarAddress[]> {
    const sizes = await this.#barSizes(options);
    await this.#device.regionInfo(PciRegion.CONFIG, options); // so that opening it does not block
    const { config } = this;
    const assigned: BarAddress[] = [];
    const space = new AddressSpace();
    for (let index = 0; index < BAR_COUNT; index++) {
      const size = sizes[index] ?? 0n;
      const at = HEADER_NORMAL.BASE_ADDRESS_0 + index * 4;
      const low = await config.read32Async(at, options);
      const isIo = (low & BAR_BITS.IO) !== 0;
      const is64Bit = !isIo && (low & BAR_BITS.TYPE_MASK) === BAR_BITS.TYPE_64 &&
        index + 1 < BAR_COUNT;
      const high = is64Bit ? await config.read32Async(at + 4, options) : 0;
      const flagBits = isIo ? 0x3 : 0xf;
      const address = (BigInt(high) << 32n) | BigInt((low & ~flagBits) >>> 0);
      if (size > 0n && address === 0n) {
        const given = isIo ? space.io(size) : space.memory(size, is64Bit);
        await config.write32Async(at, Number(given & 0xffff_ffffn), options);
        if (is64Bit) await config.write32Async(at + 4, Number(given >> 32n), options);
        assigned.push({ index, address: given });
      }
      if (is64Bit) index++;
    }
    return assigned;
  }

  /**
   * Finds a capability in the configuration space, along its list. The list is read with one
   * message if the server takes that, else with one for each capability.
   *
   * The list is kept. It is read again after a write to configuration space, a reset, and the
   * setting of a feature, of which one restores a state. Only a server that changes the list by
   * itself leaves a stale one, and messages that the caller sends by {@linkcode Device.proxy}.
   *
   * @param name as setpci has it: "CAP_MSIX", "CAP_EXP", "ECAP_AER"
   * @param instance which of several, from 0
   * @returns its offset, or undefined if the device does not have it
   * @throws {RemoteError} if the device refuses
   */
  async capability(
    name: string,
    instance = 0,
    options: WaitOptions = {},
  ): Promise<number | undefined> {
    const key = capabilityKey(name);
    if (key === undefined) return undefined;
    const list = key.extended ? "extended" : "standard";
    const kept = this.#places; // another map if all is forgotten during the walk
    let places = kept.get(list);
    if (places === undefined) {
      places = await this.#walk(list, options);
      // A write to mapped memory would not be noticed.
      if (this.config.mappedAreas.length === 0) kept.set(list, places);
    }
    return places.filter(({ id }) => id === key.id)[instance]?.offset;
  }

  /**
   * Reads Vital Product Data, at most 32 KiB; {@linkcode parseVpd} decodes it. The address register
   * of the capability is written, and nothing else.
   *
   * @returns undefined if the device has no such capability
   * @throws {TimeoutError} if the device does not answer within half a second
   * @throws {RemoteError} if it refuses
   */
  async vpd(options: WaitOptions = {}): Promise<Uint8Array | undefined> {
    const offset = await this.capability("CAP_VPD", 0, options);
    if (offset === undefined) return undefined;
    return await readVpd(this.config, offset, options);
  }

  /**
   * Forgets the lists of capabilities: what is sent or done now may change them.
   *
   * @ignore called by `Device`
   */
  forget(): void {
    this.#places = new Map();
  }

  async #walk(list: CapabilityList, options: WaitOptions): Promise<readonly CapabilityPlace[]> {
    await this.#device.regionInfo(PciRegion.CONFIG, options); // so that opening it does not block
    const { size } = this.config;
    if (size < CONFIG_HEADER_SIZE) return [];
    const [start, end] = list === "extended"
      ? [STANDARD_SIZE, Math.min(size, MAX_CONFIG_SIZE)]
      : [0, Math.min(size, STANDARD_SIZE)];
    const bytes = await this.#reader.readLong(start, end - end % 4, options);
    const view = bytes && new ConfigView(bytes);
    const walk = list === "extended" ? walkExtendedCapabilities(size) : walkCapabilities(size);
    let step = walk.next();
    while (!step.done) {
      const { offset, width } = step.value;
      const value = view?.uint(offset - start, width) ??
        await this.config.readWidthAsync(offset, width, options);
      step = walk.next(Number(value));
    }
    return step.value.places;
  }

  async #barSizes(options: WaitOptions): Promise<bigint[]> {
    const { numRegions } = await this.#device.info(options);
    const sizes: bigint[] = [];
    for (let index = 0; index <= PciRegion.ROM && index < numRegions; index++) {
      sizes.push((await this.#device.regionInfo(index, options)).size);
    }
    return sizes;
  }
}

/** Hands out addresses, each aligned to its size. */
class AddressSpace {
  #memory = MEMORY_BASE;
  #high = HIGH_BASE;
  #io = IO_BASE;

  memory(size: bigint, is64Bit: boolean): bigint {
    const length = powerOfTwo(size, 0x1000n);
    const address = alignUp(this.#memory, length);
    if (address + length <= MEMORY_END) {
      this.#memory = address + length;
      return address;
    }
    if (!is64Bit) throw new RangeError(`There is no room below 4 GiB for a BAR of ${size} bytes`);
    const high = alignUp(this.#high, length);
    this.#high = high + length;
    return high;
  }

  io(size: bigint): bigint {
    const length = powerOfTwo(size, 4n);
    const address = alignUp(this.#io, length);
    if (address + length > IO_END) {
      throw new RangeError(`There is no room among the I/O ports for a BAR of ${size}`);
    }
    this.#io = address + length;
    return address;
  }
}

function powerOfTwo(size: bigint, least: bigint): bigint {
  let power = least;
  while (power < size) power <<= 1n;
  return power;
}

function alignUp(address: bigint, alignment: bigint): bigint {
  return (address + alignment - 1n) / alignment * alignment;
}
