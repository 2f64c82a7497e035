/**
 * PCI capabilities of a defined device, each with the bits that a client may write, as on hardware.
 *
 * @module
 */

import { MSI_CONTROL, MSIX_CONTROL, MSIX_ENTRY } from "../pci/registers.ts";
import type { ConfigRegion } from "../server/config.ts";
import type {
  BytesCapabilityOptions,
  CapabilityMakers,
  CapabilityPlace,
  DeviceCapability,
  ExpressOptions,
  MsiOptions,
  MsixOptions,
  PmOptions,
} from "./capability.ts";
import {
  BOOLEAN,
  checkOptions,
  DefinitionError,
  type Form,
  type Forms,
  needed,
  NUMBER,
  shown,
  whole,
} from "./mistakes.ts";
import { keepOrigin } from "./origin.ts";
import { hex } from "../text/hex.ts";

/** Alignment of the pending bits in bytes, if the device states none. */
const PBA_ALIGNMENT = 0x800;

const BYTE = whole(0, 0xff);
const BYTES: Form = {
  accepts: (value) =>
    (Array.isArray(value) || ArrayBuffer.isView(value)) &&
    Array.from(value as ArrayLike<number>).every(BYTE.accepts),
  what: "a list of bytes",
};
const LANES = [1, 2, 4, 8, 12, 16, 32];
const PLACE: Forms<CapabilityPlace> = { at: NUMBER };
const PM: Forms<PmOptions> = { ...PLACE, version: whole(1, 3), noSoftReset: BOOLEAN };
const MSI: Forms<MsiOptions> = {
  ...PLACE,
  vectors: NUMBER,
  is64Bit: BOOLEAN,
  masking: BOOLEAN,
};
const MSIX: Forms<MsixOptions> = {
  ...PLACE,
  vectors: needed(NUMBER),
  bar: needed(NUMBER),
  table: NUMBER,
  pba: NUMBER,
};
const EXPRESS: Forms<ExpressOptions> = {
  ...PLACE,
  flr: BOOLEAN,
  speed: whole(1, 6),
  lanes: {
    accepts: (value) => LANES.includes(value as number),
    what: `one of ${LANES.join(", ")}`,
  },
};
const OF_BYTES: Forms<BytesCapabilityOptions> = { ...PLACE, writable: BYTES };
const STANDARD = { ...OF_BYTES, id: needed(whole(0, 0xff)), bytes: needed(BYTES) };
const EXTENDED = { ...STANDARD, id: needed(whole(0, 0xffff)), version: whole(0, 15) };

function check<I>(maker: string, options: unknown, forms: Forms<I>): void {
  checkOptions("Cannot make a capability", `cap.${maker}`, options, forms);
}

/**
 * Declares capabilities. They are laid out by themselves, in the order of the list.
 *
 * @example
 * ```ts
 * import { cap } from "./capabilities.ts";
 *
 * const capabilities = [
 *   cap.pm(),
 *   cap.msi({ vectors: 4, masking: true }),
 *   cap.msix({ vectors: 16, bar: 4 }),
 *   cap.express(),
 *   cap.vendor([1, 2, 3]),
 *   cap.serialNumber(0x1234n),
 * ];
 * console.assert(capabilities[2]?.msix?.pba === 0x800);
 * ```
 */
export const cap: CapabilityMakers = {
  pm(options = {}) {
    check("pm", options, PM);
    const { version = 3, noSoftReset = true, ...place } = options;
    return standard(0x01, "PM", 8, place, (config, at) => {
      config.set16(at + 2, version);
      config.set16(at + 4, noSoftReset ? 0x0008 : 0, 0x0003); // PMCSR: the power state
    });
  },

  msi(options = {}) {
    check("msi", options, MSI);
    const { vectors = 1, is64Bit = true, masking = false, ...place } = options;
    const log2 = Math.log2(vectors);
    if (!Number.isInteger(log2) || log2 < 0 || log2 > 5) {
      throw new RangeError(`MSI can't have ${vectors} vectors: it has 1, 2, 4, 8, 16 or 32`);
    }
    const data = is64Bit ? 12 : 8;
    const size = masking ? data + 12 : data + 2;
    const control = log2 << 1 | (is64Bit ? MSI_CONTROL.ADDRESS_64 : 0) | (masking ? 0x100 : 0);
    return kept({
      ...standard(0x05, "MSI", size, place, (config, at) => {
        config.set16(at + 2, control, 0x0071); // enable; how many vectors are enabled
        config.set32(at + 4, 0, 0xffff_fffc);
        if (is64Bit) config.set32(at + 8, 0, 0xffff_ffff);
        config.set16(at + data, 0, 0xffff);
        if (!masking) return;
        config.set32(at + data + 4, 0, 2 ** vectors - 1);
        for (let i = 0; i < 4; i++) config.change(at + data + 8 + i, 0xff); // pending
      }),
      msi: { vectors, is64Bit, masking },
    });
  },

  msix(options) {
    check("msix", options, MSIX);
    const { vectors, bar, table = 0, pba, ...place } = options;
    if (!Number.isInteger(vectors) || vectors < 1 || vectors > 2048) {
      throw new RangeError(`MSI-X can't have ${vectors} vectors: it has 1 to 2048`);
    }
    if (!Number.isInteger(bar) || bar < 0 || bar > 5) {
      throw new RangeError(`MSI-X can't be in BAR${bar}: there are BAR0 to BAR5`);
    }
    const end = table + vectors * MSIX_ENTRY.SIZE;
    const bits = pba ?? Math.ceil(end / PBA_ALIGNMENT) * PBA_ALIGNMENT;
    if (table % 8 !== 0 || bits % 8 !== 0 || table < 0 || bits < 0) {
      throw new RangeError(`MSI-X's table and pending bits begin at multiples of 8`);
    }
    if (bits < end && table < bits + pbaSize(vectors)) {
      throw new RangeError(`MSI-X's table and pending bits overlap`);
    }
    return kept({
      ...standard(0x11, "MSI-X", 12, place, (config, at) => {
        config.set16(at + 2, vectors - 1, MSIX_CONTROL.ENABLE | MSIX_CONTROL.FUNCTION_MASK);
        config.set32(at + 4, table | bar);
        config.set32(at + 8, bits | bar);
      }),
      msix: { vectors, bar, table, pba: bits },
    });
  },

  express(options = {}) {
    check("express", options, EXPRESS);
    const { flr = true, speed = 3, lanes = 1, ...place } = options;
    const link = speed | lanes << 4;
    return kept({
      ...standard(0x10, "PCI Express", 60, place, (config, at) => {
        config.set16(at + 2, 0x0002); // version 2, endpoint
        // DevCap: role-based errors, payload 256
        config.set32(at + 4, 0x0000_8001 | (flr ? 0x1000_0000 : 0));
        config.set16(at + 8, 0x2810, flr ? 0xffff : 0x7fff); // DevCtl: read request 512
        config.set16(at + 10, 0, 0, 0x000f); // DevSta: errors that were detected
        config.set32(at + 12, link); // LnkCap
        config.set16(at + 16, 0, 0x00cb); // LnkCtl
        config.set16(at + 18, link); // LnkSta
        config.set32(at + 44, 2 ** (speed + 1) - 2); // LnkCap2: all speeds up to that
        config.set16(at + 48, speed, 0x000f); // LnkCtl2: the target speed
      }),
      flr,
    });
  },

  vendor(bytes, options = {}) {
    check("vendor", { ...options, bytes }, { ...OF_BYTES, bytes: needed(BYTES) });
    return standard(0x09, "vendor-specific", bytes.length + 3, options, (config, at) => {
      config.set8(at + 2, bytes.length + 3);
      setBytes(config, at + 3, bytes, options.writable);
    });
  },

  standard(given) {
    check("standard", given, STANDARD);
    const { id, bytes, ...options } = given;
    const name = hex(id);
    return standard(id, name, bytes.length + 2, options, (config, at) => {
      setBytes(config, at + 2, bytes, options.writable);
    });
  },

  serialNumber(value) {
    if (typeof value !== "bigint") {
      throw new DefinitionError("Cannot make a capability", [
        `cap.serialNumber: ${shown(value)}, not a bigint, as 0x1234n`,
      ]);
    }
    return extended(0x03, "serial number", 12, { version: 1 }, (config, at) => {
      config.set32(at + 4, Number(BigInt.asUintN(32, value)));
      config.set32(at + 8, Number(BigInt.asUintN(32, value >> 32n)));
    });
  },

  aer(place = {}) {
    check("aer", place, PLACE);
    return extended(0x01, "AER", 0x2c, { version: 2, ...place }, (config, at) => {
      config.set32(at + 4, 0, 0, 0x07ff_f030); // uncorrectable status
      config.set32(at + 8, 0, 0x07ff_f030); // its mask
      config.set32(at + 12, 0x0046_2030, 0x07ff_f030); // its severity
      config.set32(at + 16, 0, 0, 0x0000_f1c1); // correctable status
      config.set32(at + 20, 0x0000_2000, 0x0000_f1c1); // its mask
    });
  },

  extended(given) {
    check("extended", given, EXTENDED);
    const { id, version = 1, bytes, ...options } = given;
    const name = `extended ${hex(id)}`;
    return extended(id, name, bytes.length + 4, { version, ...options }, (config, at) => {
      setBytes(config, at + 4, bytes, options.writable);
    });
  },
};

/** Bytes of the pending bits: whole 64-bit words. */
export function pbaSize(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}

/** Keeps the place that makes a capability, for what is found wrong with it later. */
function kept(capability: DeviceCapability): DeviceCapability {
  keepOrigin(capability);
  return capability;
}

function standard(
  id: number,
  name: string,
  size: number,
  { at }: CapabilityPlace,
  declare: DeviceCapability["declare"],
): DeviceCapability {
  const place = at !== undefined && { at };
  return kept({ list: "standard", id, version: 0, name, size, ...place, declare });
}

function extended(
  id: number,
  name: string,
  size: number,
  { version, at }: CapabilityPlace & { version: number },
  declare: DeviceCapability["declare"],
): DeviceCapability {
  const place = at !== undefined && { at };
  return kept({ list: "extended", id, version, name, size, ...place, declare });
}

function setBytes(
  config: ConfigRegion,
  at: number,
  bytes: ArrayLike<number>,
  writable: ArrayLike<number> = [],
): void {
  for (let i = 0; i < bytes.length; i++) config.set8(at + i, bytes[i]!, writable[i] ?? 0);
}
