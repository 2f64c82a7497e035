/**
 * The configuration space of a device, as far as a recording has shown it.
 *
 * @module
 */

import type { CapabilityLists } from "../pci/names.ts";
import type { CapabilityPlace, CapabilityWalk } from "../pci/walk.ts";
import { walkCapabilities, walkExtendedCapabilities } from "../pci/walk.ts";

/** Bytes of the largest configuration space. */
const SIZE = 4096;

/** Collects what was read of a configuration space. */
export class KnownConfig {
  readonly #bytes = new Uint8Array(SIZE);
  readonly #isKnown = new Uint8Array(SIZE);
  #found: CapabilityLists | undefined;

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
  get capabilities(): CapabilityLists {
    return this.#found ??= {
      capabilities: this.#follow(walkCapabilities(SIZE)),
      extendedCapabilities: this.#follow(walkExtendedCapabilities(SIZE)),
    };
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
