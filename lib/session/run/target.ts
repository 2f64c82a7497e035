/**
 * Places that are found: a register of a region, or memory.
 *
 * @module
 */

import { DEFAULT_WIDTH, resolveAddress } from "../../client/address.ts";
import type { Device } from "../../client/device.ts";
import type { WaitOptions } from "../../client/info.ts";
import { sparedBits } from "../../registers/map.ts";
import type { Region } from "../../client/region.ts";
import type { Width } from "../../client/info.ts";
import { evaluate, type Scope } from "../expression.ts";
import { fitting, type SessionMemory } from "./buffers.ts";
import type { Place } from "../model.ts";

/** A place, found. */
export interface Target {
  readonly place: Place;
  /** Bytes of an access. */
  readonly width: Width;
  /** The region, if it is in one; else it is memory. */
  readonly region?: Region;
  /** Bytes from the region's start, or the IOVA. */
  readonly offset: number | bigint;
}

/** The device, the memory and the scope in which places are found. */
export interface Surroundings {
  readonly device: Device;
  readonly memory: SessionMemory;
  readonly scope: Scope;
}

/**
 * Finds a place, asking the device what it takes to know.
 *
 * @throws {RangeError} if the device does not have it
 * @throws {EvaluationError} if its offset can't be computed
 */
export async function findTarget(
  place: Place,
  { device, memory, scope }: Surroundings,
  options: WaitOptions,
): Promise<Target> {
  const { base, width = DEFAULT_WIDTH } = place;
  const offset = evaluate(place.offset, scope);
  if (base.kind === "buffer") return { place, width, offset: memory.address(base.name, offset) };
  if (base.kind === "dma") return { place, width, offset };
  const { text } = place;
  const address = { text, base, offset: offsetOf(place, offset) };
  const found = await resolveAddress(device, address, options);
  await device.regionInfo(found.region, options); // so that opening it does not block
  return { place, width, region: device.region(found.region), offset: found.offset };
}

/**
 * An offset that was computed, as a number.
 *
 * @throws {RangeError} if it is negative, or beyond 2^53
 */
export function offsetOf({ text }: Place, offset: bigint): number {
  if (offset >= 0n && offset <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(offset);
  throw new RangeError(`${text} is at ${offset}, which is no offset`);
}

/**
 * Reads the value at a target.
 * Returns no promise if the target is memory, or if `blocking` is set and the device answers soon.
 */
export function readTarget(
  { region, offset, width }: Target,
  memory: SessionMemory,
  blocking: boolean,
  options: WaitOptions,
): number | bigint | Promise<number | bigint> {
  if (region === undefined) return memory.readNumber(BigInt(offset), width);
  return blocking
    ? region.readWidthPatiently(offset, width, options)
    : region.readWidthAsync(offset, width, options);
}

/**
 * Writes bits of the value at a target, all of them if there is no mask.
 * With a mask the value is read first. Bits of other fields that act when 1 is written are written
 * as 0.
 * A register that can't be read is written with the value as it is.
 *
 * @returns the value that was written
 */
export async function writeTarget(
  { place, region, offset, width }: Target,
  memory: SessionMemory,
  { value, mask }: { value: bigint; mask?: bigint | undefined },
  options: WaitOptions,
): Promise<bigint> {
  const bits = fitting(value, width);
  const isWhole = mask === undefined || place.register?.access === "wo";
  if (region === undefined) {
    const old = isWhole ? 0n : memory.readNumber(BigInt(offset), width) & ~mask;
    memory.writeNumber(BigInt(offset), width, old | bits);
    return old | bits;
  }
  if (isWhole) {
    await region.writeWidthAsync(offset, width, width === 8 ? bits : Number(bits), options);
    return bits;
  }
  const changed = mask | (place.register ? sparedBits(place.register, mask) : 0n);
  return BigInt(await region.modifyAsync(offset, width, changed, bits, options));
}
