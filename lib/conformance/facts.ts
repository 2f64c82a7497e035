/**
 * The offers of a server, asked before the checks so that these can adapt.
 *
 * @module
 */

/** A region. */
export interface FoundRegion {
  readonly index: number;
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
  readonly index: number;
  readonly count: number;
  /** Bits of IrqFlags. */
  readonly flags: number;
}

/** The offers of a server. */
export interface Facts {
  /** The version that the server answered. */
  readonly major: number;
  readonly minor: number;
  /** The JSON of its VERSION, as far as it is an object. */
  readonly capabilities: Readonly<Record<string, unknown>>;
  readonly isPci: boolean;
  readonly canReset: boolean;
  readonly numRegions: number;
  readonly numIrqs: number;
  /** By index; undefined for one of which no answer came. */
  readonly regions: readonly (FoundRegion | undefined)[];
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
