/**
 * Addresses as a person writes them: `bar0+0x1c.l`, `config+4.w`, `CAP_PM+4.w`, `9+0x100`.
 *
 * @module
 */

import type { Device } from "./device.ts";
import type { WaitOptions } from "./info.ts";
import { readSize } from "../text/size.ts";
import { widthOfLetter } from "../text/width.ts";
import { capabilityKey, findRegister } from "../pci/names.ts";
import type { Width } from "./info.ts";
import { PciRegion, regionIndex } from "../wire/region.ts";

/** The place that an address counts from. */
export type AddressBase =
  /** The start of a region. */
  | { readonly kind: "region"; readonly index: number }
  /** The start of a capability, by setpci's name for it; `instance` tells several apart, from 0. */
  | { readonly kind: "capability"; readonly name: string; readonly instance: number };

/** An address as it is written. */
export interface Address {
  /** The text. */
  readonly text: string;
  /** The place that it counts from. */
  readonly base: AddressBase;
  /** Bytes from there. */
  readonly offset: number;
  /** Bytes of the access, if the text says. */
  readonly width?: Width;
}

/** An address in a region. */
export interface ResolvedAddress {
  /** The region index. */
  readonly region: number;
  /** Bytes from the region's start. */
  readonly offset: number;
}

/** Bytes of a register whose address does not say: most are that wide. */
export const DEFAULT_WIDTH: Width = 4;

const FORM = "REGION+OFFSET[.b|.w|.l|.q], as bar0+0x1c.l, config+4.w, CAP_PM+4.w or COMMAND.w";

/**
 * Reads an address: a base, then `+OFFSET`, which may be left out, then the width: `.b` 1 byte,
 * `.w` 2, `.l` 4, `.q` 8. The offset may have a unit, as `bar2+4K`.
 *
 * The base is a region (bar0 to bar5, rom, config, vga, region3, or its number), a capability, or a
 * register of the configuration space (VENDOR_ID). Capabilities and registers have setpci's names:
 * CAP_MSIX, ECAP_AER, `CAP_VNDR@1` for the second of several.
 *
 * @throws {SyntaxError} if it is none; the message says how one looks
 *
 * @example
 * ```ts
 * import { parseAddress } from "./address.ts";
 *
 * const { base, offset, width } = parseAddress("bar0+0x1c.l");
 * console.assert(base.kind === "region" && base.index === 0 && offset === 0x1c && width === 4);
 * ```
 */
export function parseAddress(text: string): Address {
  const match =
    /^([A-Za-z_][A-Za-z0-9_]*|\d+)(?:@(\d+))?(?:\+(0[xX][0-9a-fA-F]+|[0-9a-fA-F]+|[0-9]+[KMGTkmgt](?:i[Bb])?))?(?:\.([bwlqBWLQ]))?$/
      .exec(text);
  if (match === null) throw new SyntaxError(`"${text}" is no address; write ${FORM}`);
  const [, name, instance, offsetText, widthText] = match;
  const place = parseBase(name!, instance);
  if (place === undefined) {
    const where = name === text ? "" : ` in "${text}"`;
    throw new SyntaxError(
      `"${name}"${where} is no region, capability or register; write ${FORM}`,
    );
  }
  const offset = offsetText === undefined ? 0 : parseOffset(text, offsetText, place.isOfSetpci);
  if (!Number.isSafeInteger(offset)) {
    throw new SyntaxError(`The offset of "${text}" is beyond 2^53`);
  }
  const width = widthText === undefined ? undefined : widthOfLetter(widthText);
  const chosen = width ?? place.width;
  return {
    text,
    base: place.base,
    offset: offset + place.offset,
    ...(chosen !== undefined && { width: chosen }),
  };
}

/**
 * Finds the region and offset of an address on a device. Capabilities are looked up in the
 * configuration space of the device.
 *
 * @throws {RangeError} if the device has no such capability
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
 * import { parseAddress, resolveAddress } from "./address.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const { region, offset } = await resolveAddress(device, parseAddress("CAP_MSIX+2"));
 * console.assert(region === 7 && offset === 0x52); // configuration space
 * ```
 */
export async function resolveAddress(
  device: Device,
  { text, base, offset }: Address,
  options: WaitOptions = {},
): Promise<ResolvedAddress> {
  if (base.kind === "region") return { region: base.index, offset };
  const at = await device.pci.capability(base.name, base.instance, options);
  if (at === undefined) {
    const which = base.instance === 0 ? "" : ` number ${base.instance}`;
    throw new RangeError(`Cannot find ${text}: the device has no capability ${base.name}${which}`);
  }
  return { region: PciRegion.CONFIG, offset: at + offset };
}

/**
 * Reads an offset. Behind a name of setpci's, where setpci reads hexadecimal digits without 0x, it
 * has to mean the same in both.
 *
 * @throws {SyntaxError} if it does not, or is no number
 */
function parseOffset(text: string, offset: string, isOfSetpci: boolean): number {
  const isPlain = /^\d+$/.test(offset);
  if (/^0x/i.test(offset) || (isPlain && (!isOfSetpci || Number(offset) < 10))) {
    return Number(offset);
  }
  const size = isOfSetpci ? undefined : readSize(offset);
  if (size !== undefined) return Number(size);
  if (!isOfSetpci || /[gkmt]/i.test(offset)) {
    throw new SyntaxError(`"${text}" is no address; write ${FORM}`);
  }
  const hexadecimal = `+0x${offset.toLowerCase()}`;
  const decimal = isPlain ? `, or +0x${BigInt(offset).toString(16)} for the decimal number` : "";
  throw new SyntaxError(
    `The offset of "${text}" is ambiguous: setpci reads it as hexadecimal; ` +
      `write ${hexadecimal} for that${decimal}`,
  );
}

/** The start of what an address names. */
interface Base {
  readonly base: AddressBase;
  readonly offset: number;
  readonly width?: Width;
  /** True for capabilities and registers, whose names are setpci's. */
  readonly isOfSetpci: boolean;
}

function parseBase(name: string, instance: string | undefined): Base | undefined {
  const index = /^\d+$/.test(name) ? Number(name) : regionIndex(name.toLowerCase());
  if (index !== undefined) {
    return instance === undefined && index <= 0xffff_ffff
      ? { base: { kind: "region", index }, offset: 0, isOfSetpci: false }
      : undefined;
  }
  const upper = name.toUpperCase();
  if (capabilityKey(upper) !== undefined) {
    return {
      base: { kind: "capability", name: upper, instance: Number(instance ?? 0) },
      offset: 0,
      isOfSetpci: true,
    };
  }
  const register = instance === undefined ? findRegister(upper) : undefined;
  if (register === undefined) return undefined;
  const base: AddressBase = { kind: "region", index: PciRegion.CONFIG };
  const { offset, width } = register;
  return { base, offset, width: width as Width, isOfSetpci: true };
}
