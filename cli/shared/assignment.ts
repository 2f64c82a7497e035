/**
 * Assignments to registers, as `vfu write` and `--write` of other commands take them.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import { DEFAULT_WIDTH, parseAddress } from "../../lib/client/address.ts";
import type { Via } from "../../lib/client/region_options.ts";
import type { Width } from "../../lib/client/info.ts";
import type { Place, PlaceParser } from "./map.ts";
import { findTarget, type Target } from "./target.ts";
import {
  checkFits,
  formatMasked,
  formatValue,
  type MaskedValue,
  matches,
  parseMaskedValue,
} from "./value.ts";

/** The way in which registers are written. */
export interface AssignOptions {
  /** Ask for no answers. */
  posted?: true | undefined;
  /** Read back and compare. */
  verify?: true | undefined;
  /** The way to write: by message, or through mapped memory. */
  via?: Via | undefined;
}

/** A value, and the place that it is written to. */
export interface Assignment extends MaskedValue {
  readonly address: Place;
  readonly width: Width;
}

/**
 * Reads `ADDRESS=VALUE` or `ADDRESS=VALUE:MASK`, the address by `place`, which may know what names
 * stand for.
 *
 * @throws {SyntaxError} if it is neither
 * @throws {RangeError} if the register is too narrow for the value
 */
export function parseAssignment(text: string, place: PlaceParser = parseAddress): Assignment {
  const at = text.indexOf("=");
  if (at < 0) {
    throw new SyntaxError(`"${text}" is no assignment; write ADDRESS=VALUE, as bar0+0x14.l=1`);
  }
  const address = place(text.slice(0, at));
  const width = address.width ?? DEFAULT_WIDTH;
  const masked = (address.named?.parseValue ?? parseMaskedValue)(text.slice(at + 1));
  checkFits(masked, width);
  return { address, width, ...masked };
}

/** Writes what `assignments` say. */
export async function assignAll(
  device: Device,
  assignments: readonly Assignment[],
  options: AssignOptions = {},
): Promise<void> {
  // All are found before any is written.
  const targets = [];
  for (const { address } of assignments) targets.push(await findTarget(device, address));
  for (const [i, target] of targets.entries()) await assign(target, assignments[i]!, options);
  device.proxy.flushSync();
}

async function assign(
  { text, region, offset }: Target,
  assignment: Assignment,
  { posted, verify, via }: AssignOptions,
): Promise<void> {
  const { address, width, value, mask } = assignment;
  const access = via === undefined ? {} : { via };
  const write = { ...access, posted: posted === true };
  if (mask === undefined) await region.writeWidthAsync(offset, width, value, write);
  else {
    const changed = mask | (address.named?.spared ?? 0n);
    await region.modifyAsync(offset, width, changed, value, write);
  }
  if (!verify) return;
  const found = await region.readWidthAsync(offset, width, access);
  if (matches(found, assignment)) return;
  throw new Error(
    `${text} is not as written: expected ${formatMasked(assignment, width)}, ` +
      `found ${formatValue(found, width)}`,
  );
}
