/**
 * The configuration space of a device, as far as a recording has shown it.
 *
 * @module
 */

import type { CapabilityLists } from "../pci/names.ts";
import type { CapabilityPlace, CapabilityWalk } from "../pci/walk.ts";
import { MSIX_ENTRY, MSIX_SIZE_MASK } from "../pci/registers.ts";
import { walkCapabilities, walkExtendedCapabilities } from "../pci/walk.ts";

/** Bytes of the largest configuration space. */
const SIZE = 4096;

/** The id of MSI-X. */
const MSIX = 0x11;

/** Capabilities, and what these say about the regions of the device. */
export interface KnownCapabilities extends CapabilityLists {
  /** MSI-X's table and pending bits, once the capability was read. */
  readonly tables: readonly PlacedTable[];
}

/** A part of a region that a capability has for itself. */
export interface PlacedTable {
  /** The region index. */
  readonly region: number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes. */
  readonly size: number;
}

/** Collects what was read of a configuration space. */
export class KnownConfig {
  readonly #bytes = new Uint8Array(SIZE);
  readonly #isKnown = new Uint8Array(SIZE);
  #found: KnownCapabilities | undefined;

  /** Takes what a read has returned; bytes behind the space are ignored. */
  learn(offset: bigint, data: Uint8Array): void {
    if (offset >= BigInt(SIZE)) return;
    const at = Number(offset);
    const end = Math.min(SIZE, at + data.length);
    for (let i = at; i < end; i++) {
      const byte = data[i - at]!;
      if (this.#isKnown[i] === 1 && this.#bytes[i] === byte) continue;
      this.#bytes[i] = byte;
      this.#isKnown[i] = 1;
      this.#found = undefined;
    }
  }

  /** The lists of capabilities, each up to the first link that was not read. */
  get capabilities(): KnownCapabilities {
    if (this.#found !== undefined) return this.#found;
    const capabilities = this.#follow(walkCapabilities(SIZE));
    return this.#found = {
      capabilities,
      extendedCapabilities: this.#follow(walkExtendedCapabilities(SIZE)),
      tables: capabilities.flatMap(({ id, offset }) => id === MSIX ? this.#tablesAt(offset) : []),
    };
  }

  /** The table and the pending bits of MSI-X, whose capability begins there. */
  #tablesAt(at: number): PlacedTable[] {
    if (at + 12 > SIZE || this.#isKnown.subarray(at, at + 12).includes(0)) return [];
    const view = new DataView(this.#bytes.buffer);
    const vectors = (view.getUint16(at + 2, true) & MSIX_SIZE_MASK) + 1;
    const sizes = [vectors * MSIX_ENTRY.SIZE, Math.ceil(vectors / 64) * 8];
    return sizes.map((size, i) => {
      const place = view.getUint32(at + 4 + 4 * i, true);
      return { region: place & 7, offset: place - (place & 7), size };
    });
  }

  /** Unknown bytes read as zeros, which end each list. */
  #follow(walk: CapabilityWalk): CapabilityPlace[] {
    const view = new DataView(this.#bytes.buffer);
    let step = walk.next();
    while (!step.done) {
      const { offset, width } = step.value;
      const isKnown = this.#isKnown.subarray(offset, offset + width).every((each) => each === 1);
      const value = width === 1
        ? view.getUint8(offset)
        : width === 2
        ? view.getUint16(offset, true)
        : view.getUint32(offset, true);
      step = walk.next(isKnown ? value : 0);
    }
    return step.value.places.filter(({ offset }) => this.#isKnown[offset] === 1);
  }
}
