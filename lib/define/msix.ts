/**
 * The MSI-X table of a device, and its pending bits.
 *
 * @module
 */

import { PAGE_SIZE } from "../../ffi/memory.ts";
import { MSIX_ENTRY } from "../pci/registers.ts";
import { RegionFlags } from "../wire/region.ts";
import { pbaSize } from "./capabilities.ts";
import type { MsixPlace } from "./capability.ts";
import { barSize, type DeviceRegion, regionSize } from "./device_region.ts";
import { callbacks } from "./callbacks.ts";
import { keepOrigin, originOf } from "./origin.ts";
import { overlay } from "./overlay.ts";
import { hex } from "../text/hex.ts";

/** The mask bit in the Vector Control register of an entry. */
const MASKED = 1;

/** Table and pending bits. */
export class MsixTable {
  readonly #place: MsixPlace;
  readonly #table: Uint8Array;
  readonly #pending: Uint8Array;
  readonly #changed: () => void;

  /** @param changed called when a client has written to the table */
  constructor(place: MsixPlace, changed: () => void) {
    this.#place = place;
    this.#changed = changed;
    this.#table = new Uint8Array(place.vectors * MSIX_ENTRY.SIZE);
    this.#pending = new Uint8Array(pbaSize(place.vectors));
    this.reset();
  }

  /** The bytes of both. */
  get contents(): readonly Uint8Array[] {
    return [this.#table, this.#pending];
  }

  /** Tells if a vector is masked by its entry. */
  isMasked(vector: number): boolean {
    return (this.#table[vector * MSIX_ENTRY.SIZE + MSIX_ENTRY.CONTROL]! & MASKED) !== 0;
  }

  /** Tells if a vector waits for being unmasked. */
  isPending(vector: number): boolean {
    return (this.#pending[vector >> 3]! & 1 << (vector & 7)) !== 0;
  }

  /** Sets or clears the pending bit of a vector. */
  setPending(vector: number, isPending: boolean): void {
    const bit = 1 << (vector & 7);
    if (isPending) this.#pending[vector >> 3]! |= bit;
    else this.#pending[vector >> 3]! &= ~bit;
  }

  /** All vectors are masked, and none is pending. */
  reset(): void {
    this.#table.fill(0);
    this.#pending.fill(0);
    for (let at = MSIX_ENTRY.CONTROL; at < this.#table.length; at += MSIX_ENTRY.SIZE) {
      this.#table[at] = MASKED;
    }
  }

  /**
   * Says why they can't be on top of a region of the device's.
   *
   * @returns undefined if they can be
   */
  misfit(below: DeviceRegion): string | undefined {
    const { bar, table, pba, vectors } = this.#place;
    const name = `bar${bar}`;
    if (below.bar.io) return `MSI-X is in ${name}, which is I/O ports; it takes a BAR of memory`;
    if (this.#end <= below.size) return undefined;
    const range = (at: number, size: number) => `${hex(at)} to ${hex(at + size - 1)}`;
    const places = `its table of ${vectors} vectors is at ${range(table, this.#table.length)}, ` +
      `its PBA at ${range(pba, this.#pending.length)}`;
    const remedy = `give ${name} a size of ${barSize(this.#end)} bytes, or MSI-X a BAR of its own`;
    return `MSI-X does not fit ${name} of ${below.size} bytes: ${places}; ${remedy}`;
  }

  /** The region that holds them: the device's with both on top, or one of their own. */
  region(below: DeviceRegion | undefined): DeviceRegion {
    const { bar, table, pba } = this.#place;
    const region = below ??
      { ...callbacks({ size: regionSize(this.#end, PAGE_SIZE) }), contents: [] };
    const whole = overlay(region, [
      { offset: table, region: this.#part(this.#table, true), name: `BAR${bar}'s MSI-X table` },
      { offset: pba, region: this.#part(this.#pending, false), name: `BAR${bar}'s MSI-X PBA` },
    ]);
    const origin = below && originOf(below);
    if (origin !== undefined) keepOrigin(whole, origin);
    return whole;
  }

  /** Bytes from the start of the BAR to the end of both. */
  get #end(): number {
    const { table, pba } = this.#place;
    return Math.max(table + this.#table.length, pba + this.#pending.length);
  }

  #part(bytes: Uint8Array, isWritable: boolean): DeviceRegion {
    return {
      flags: RegionFlags.READ | RegionFlags.WRITE,
      size: bytes.length,
      bar: {},
      contents: [bytes],
      read: (offset, into) => into.set(bytes.subarray(offset, offset + into.length)),
      write: (offset, data) => {
        if (!isWritable) return;
        for (let i = 0; i < data.length; i++) {
          // Of Vector Control only the mask bit is there.
          const at = (offset + i) % MSIX_ENTRY.SIZE;
          bytes[offset + i] = data[i]! &
            (at < MSIX_ENTRY.CONTROL ? 0xff : at === MSIX_ENTRY.CONTROL ? MASKED : 0);
        }
        this.#changed();
      },
      reset: () => this.reset(),
    };
  }
}
