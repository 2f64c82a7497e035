/**
 * Facts of a recording by which a mock decides where its client lets it do DMA.
 *
 * @module
 */

import type { AccessedMemory } from "./accessed.ts";
import type { EchoPlaces } from "./echoes.ts";
import type { UnmappedRange } from "./relocation.ts";

/** A write to a region. */
export interface PartWrite {
  /** The region index. */
  readonly region: number;
  /** Bytes from the start of the region. */
  readonly offset: bigint;
  /** The bytes. */
  readonly data: Uint8Array;
}

/** The facts. */
export interface Knowledge {
  /** The memory that the device accessed. */
  readonly accessed: AccessedMemory;
  /** The numbers that it repeated. */
  readonly echoes: EchoPlaces;
  /** The registers that the recording writes, as {@linkcode placeOf} names them. */
  readonly written: ReadonlySet<string>;
  /** The memory that the client took back, by the index of the scene. */
  readonly unmapped: ReadonlyMap<number, readonly UnmappedRange[]>;
}

/** The register that a write is to, as a key. */
export function placeOf({ region, offset, data }: PartWrite): string {
  return `${region}+${offset}.${data.length}`;
}
