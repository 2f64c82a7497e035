/**
 * The configuration space of a defined device, built from what is declared.
 *
 * @module
 */

import { COMMAND, HEADER, HEADER_NORMAL, STATUS } from "../pci/registers.ts";
import { ConfigRegion } from "../server/config.ts";
import { PciRegion } from "../wire/region.ts";
import type { CapabilityHooks, DeviceCapability } from "./capability.ts";
import type { DeviceRegion } from "./device_region.ts";
import { Attempts, checkOptions, type Forms, FUNCTION, NUMBER } from "./mistakes.ts";
import { hex } from "../text/hex.ts";

/** The declaration of a PCI device. */
export interface PciSpec {
  /** Vendor id. */
  readonly vendor: number;
  /** Device id. */
  readonly device: number;
  /**
   * Class code, 24 bits: base class, subclass, programming interface. Default 0xff0000, of no
   * class.
   */
  readonly class?: number;
  /** Revision id. Default 0. */
  readonly revision?: number;
  /** Subsystem. Default none. */
  readonly subsystem?: { readonly vendor: number; readonly device: number };
  /** The INTx pin, if it has one. */
  readonly interruptPin?: "A" | "B" | "C" | "D";
  /**
   * True if the pin masks itself when it fires (IRQ flag AUTOMASKED), as VFIO has it for hardware.
   * The client then gets no further interrupt before its UNMASK. Default false, because clients
   * made after libvfio-user's samples never unmask. Either way an UNMASK fires again while the
   * level is up.
   */
  readonly interruptPinMasksItself?: boolean;
  /** Capabilities, in the order of their lists. */
  readonly capabilities?: readonly DeviceCapability[];
  /**
   * The side that masks interrupts.
   *
   * - `"client"`, the default: an interrupt fires whenever the client has set up an eventfd for it
   *   and has not masked the interrupt by SET_IRQS. Clients that are made after VFIO, as QEMU and
   *   Cloud Hypervisor, keep the guest's MSI-X table to themselves. The device's own table stays as
   *   it was after the reset, with all vectors masked. Such clients honour the guest's mask bits,
   *   and MSI's, themselves.
   * - `"device"`: as on hardware, the device's own bits decide, too. They are MSI-X Enable,
   *   Function Mask, the table's mask bits, MSI Enable, MSI's mask bits and COMMAND's interrupt
   *   disable. A masked interrupt is pending, and fires when it is unmasked. This suits clients
   *   that write all these bits to the device, as QEMU's server expects.
   */
  readonly interruptMasking?: "client" | "device";
  /** True if DMA fails while COMMAND's bus master enable is off, as on hardware. Default true. */
  readonly needsBusMaster?: boolean;
}

/** The ranges for capabilities, by their list. */
const PLACES = {
  standard: { start: 0x40, end: 0x100 },
  extended: { start: 0x100, end: 0x1000 },
} as const;

/** A configuration space, and where its capabilities are. */
export interface BuiltConfig {
  readonly config: ConfigRegion;
  /** The offset of each declared capability. */
  readonly placeOf: ReadonlyMap<DeviceCapability, number>;
}

/**
 * Builds a configuration space, without base address registers.
 *
 * @throws {RangeError} if something does not fit; a DefinitionError if there is more than that
 */
export function buildConfig(spec: PciSpec, doing = "Cannot make the device"): BuiltConfig {
  const { capabilities = [] } = spec;
  const isExpress = capabilities.some((each) => each.list === "extended" || each.id === 0x10);
  const config = new ConfigRegion(isExpress ? 4096 : 256);
  const attempts = new Attempts();
  declareHeader(config, spec, attempts);
  const placeOf = placeAll(capabilities, attempts);
  attempts.throwAny(doing);
  for (const list of ["standard", "extended"] as const) {
    linkAll(config, capabilities.filter((each) => each.list === list), placeOf);
  }
  return { config, placeOf };
}

const HOOKS: Forms<CapabilityHooks> = {
  offset: NUMBER,
  size: NUMBER,
  read: FUNCTION,
  write: FUNCTION,
};

/** As `DeviceContext.capability`. */
export function openCapability(
  { config, placeOf }: BuiltConfig,
  declared: DeviceCapability,
  hooks: CapabilityHooks = {},
): Uint8Array {
  checkOptions("Cannot open a capability", "hooks", hooks, HOOKS);
  const at = placeOf.get(declared);
  if (at === undefined) {
    throw new RangeError("Cannot open a capability: it is none of those in pci.capabilities");
  }
  const { offset = 0, size = declared.size - offset, read, write } = hooks;
  if (!(offset >= 0 && size > 0 && offset + size <= declared.size)) {
    throw new RangeError(
      `Cannot open ${size} bytes at ${offset} of a capability: it has ${declared.size} bytes`,
    );
  }
  if (read !== undefined) {
    config.onRead(at + offset, size, read);
    for (let i = 0; i < size; i++) config.change(at + offset + i, 0xff);
  }
  if (write !== undefined) config.onWrite(at + offset, size, write);
  return config.bytes.subarray(at, at + declared.size);
}

function declareHeader(config: ConfigRegion, spec: PciSpec, attempts: Attempts): void {
  const { vendor, device, revision = 0, subsystem, interruptPin } = spec;
  const check = (what: string, value: number, bits: number) =>
    attempts.try(() => checkBits(what, value, bits));
  check("vendor id", vendor, 16);
  check("device id", device, 16);
  check("class", spec.class ?? 0, 24);
  check("revision", revision, 8);
  config.set16(HEADER.VENDOR_ID, vendor);
  config.set16(HEADER.DEVICE_ID, device);
  config.set16(
    HEADER.COMMAND,
    0,
    COMMAND.MASTER | COMMAND.PARITY | COMMAND.SERR | (interruptPin ? COMMAND.INTX_DISABLE : 0),
  );
  const errors = STATUS.PARITY | STATUS.SIG_TARGET_ABORT | STATUS.REC_TARGET_ABORT |
    STATUS.REC_MASTER_ABORT | STATUS.SIG_SYSTEM_ERROR | STATUS.DETECTED_PARITY;
  config.set16(HEADER.STATUS, 0, 0, errors);
  config.set32(HEADER.CLASS_REVISION, ((spec.class ?? 0xff0000) << 8 | revision) >>> 0);
  config.set8(HEADER.CACHE_LINE_SIZE, 0, 0xff);
  if (subsystem !== undefined) {
    check("subsystem vendor id", subsystem.vendor, 16);
    check("subsystem id", subsystem.device, 16);
    config.set16(HEADER_NORMAL.SUBSYSTEM_VENDOR_ID, subsystem.vendor);
    config.set16(HEADER_NORMAL.SUBSYSTEM_ID, subsystem.device);
  }
  config.set8(HEADER.INTERRUPT_LINE, 0, 0xff);
  config.set8(HEADER.INTERRUPT_PIN, interruptPin ? "ABCD".indexOf(interruptPin) + 1 : 0);
}

/**
 * Declares the base address registers, and what of COMMAND goes with them.
 *
 * @param regions behind BAR0 to BAR5, and the ROM's behind them
 * @param attempts takes a RangeError for each that there can't be
 */
export function declareBars(
  { config }: BuiltConfig,
  regions: readonly (DeviceRegion | undefined)[],
  attempts: Attempts,
): void {
  for (const [index, region] of regions.entries()) {
    if (region === undefined) continue;
    attempts.try(() => {
      const { size, bar: { io, is64Bit } } = region;
      config.allow(HEADER.COMMAND, io ? COMMAND.IO : COMMAND.MEMORY);
      if (index === PciRegion.ROM && (io || is64Bit)) {
        throw new RangeError("The ROM can be neither I/O ports nor 64 bits wide");
      }
      if (index === PciRegion.ROM) config.setRom(size);
      else config.setBar(index, { ...region.bar, size });
      if (!is64Bit || (index < PciRegion.BAR5 && regions[index + 1] === undefined)) return;
      throw new RangeError(`BAR${index} is 64 bits wide: there can't be a BAR${index + 1}`);
    }, region);
  }
}

/** Finds a place for each capability: those that have to be somewhere first. */
function placeAll(
  capabilities: readonly DeviceCapability[],
  attempts: Attempts,
): Map<DeviceCapability, number> {
  const isTaken = new Uint8Array(0x1000);
  const placeOf = new Map<DeviceCapability, number>();
  const put = (capability: DeviceCapability, at: number): boolean => {
    const bytes = isTaken.subarray(at, at + capability.size);
    const { start, end } = PLACES[capability.list];
    const isInside = at >= start && at + capability.size <= end;
    if (!isInside || bytes.includes(1)) return false;
    bytes.fill(1);
    placeOf.set(capability, at);
    return true;
  };
  for (const each of capabilities) {
    if (each.at === undefined) continue;
    if (each.at % 4 === 0 && put(each, each.at)) continue;
    const text = `There is no room for the capability ${each.name} at ${hex(each.at)}`;
    attempts.try(() => fail(text), each);
  }
  for (const each of capabilities) {
    if (each.at !== undefined) continue;
    let { start: at } = PLACES[each.list];
    while (at < PLACES[each.list].end && !put(each, at)) at += 4;
    if (placeOf.has(each)) continue;
    const text = `There is no room for the capability ${each.name} of ${each.size} bytes`;
    attempts.try(() => fail(text), each);
  }
  return placeOf;
}

/** Declares capabilities and puts them into their list. The extended one has to begin at 0x100. */
function linkAll(
  config: ConfigRegion,
  capabilities: readonly DeviceCapability[],
  placeOf: ReadonlyMap<DeviceCapability, number>,
): void {
  const placed = capabilities.map((each) => ({ each, at: placeOf.get(each)! }));
  if (placed[0]?.each.list === "extended") placed.sort((a, b) => a.at - b.at);
  for (const [i, { each, at }] of placed.entries()) {
    each.declare(config, at);
    if (each.list === "standard") config.addCapability(at, each.id);
    else config.addExtendedCapability(at, each.id, each.version, placed[i + 1]?.at ?? 0);
  }
  const first = placed[0];
  if (first?.each.list === "extended" && first.at !== PLACES.extended.start) {
    throw new RangeError("One of the extended capabilities has to be at 0x100");
  }
}

function fail(text: string): never {
  throw new RangeError(text);
}

function checkBits(what: string, value: number, bits: number): void {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return;
  throw new RangeError(`The ${what} ${value} is no whole number of ${bits} bits`);
}
