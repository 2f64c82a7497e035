/**
 * The offers of a server, asked before the checks so that these can adapt.
 *
 * @module
 */

/** A region. */
export interface FoundRegion {
  /** The region index. */
  readonly index: number;
  /** Bytes. */
  readonly size: bigint;
  /** Bits of RegionFlags. */
  readonly flags: number;
  /** The length that the server named for its answer. */
  readonly argsz: number;
  /** The payload of the whole answer. */
  readonly info: Uint8Array;
  /** Descriptors that came with it. */
  readonly fds: number;
}

/** An IRQ index. */
export interface FoundIrq {
  /** The IRQ index. */
  readonly index: number;
  /** The number of vectors. */
  readonly count: number;
  /** Bits of IrqFlags. */
  readonly flags: number;
}

/** The offers of a server. */
export interface Facts {
  /** The version that the server answered. */
  readonly major: number;
  /** The minor version that the server answered. */
  readonly minor: number;
  /** The JSON of its VERSION, as far as it is an object. */
  readonly capabilities: Readonly<Record<string, unknown>>;
  /** True of a PCI device. */
  readonly isPci: boolean;
  /** True if the device says that it can be reset. */
  readonly canReset: boolean;
  /** The number of region indexes. */
  readonly numRegions: number;
  /** The number of IRQ indexes. */
  readonly numIrqs: number;
  /** By index; undefined for one of which no answer came. */
  readonly regions: readonly (FoundRegion | undefined)[];
  /** IRQ indexes of which an answer came. */
  readonly irqs: readonly FoundIrq[];
  /** A region of which 4 bytes at 0 can be read. */
  readonly readable: FoundRegion | undefined;
  /** A byte that keeps what is written. */
  readonly scratch: { readonly region: number; readonly offset: bigint } | undefined;
  /** The flags of the feature MIGRATION; undefined if the device does not migrate. */
  readonly migration: bigint | undefined;
  /** True if the device logs DMA writes. */
  readonly logs: boolean;
}

/** Facts of a server of which nothing is known. */
export const NO_FACTS: Facts = {
  major: 0,
  minor: 2,
  capabilities: {},
  isPci: false,
  canReset: false,
  numRegions: 0,
  numIrqs: 0,
  regions: [],
  irqs: [],
  readable: undefined,
  scratch: undefined,
  migration: undefined,
  logs: false,
};
