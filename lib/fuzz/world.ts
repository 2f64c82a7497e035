/**
 * The state of a connection as its client believes it to be: maps, interrupts, migration.
 *
 * @module
 */

import type { Random } from "../base/random.ts";
import type { Facts, FoundIrq, FoundRegion } from "../conformance/facts.ts";
import { DeviceState } from "../wire/feature.ts";

/** Maps that are remembered. */
const MAX_MAPS = 64;
/** Indexes that stand in for those of a server whose offers are not known. */
const SOME_REGIONS: readonly FoundRegion[] = [0, 7].map((index) => ({
  index,
  size: 256n,
  flags: 3,
  argsz: 32,
  info: new Uint8Array(32),
  fds: 0,
}));
const SOME_IRQS: readonly FoundIrq[] = [{ index: 0, count: 1, flags: 1 }];

/** Memory that the server was given. */
export interface FuzzMap {
  readonly address: bigint;
  readonly size: bigint;
}

/** The belief of a client about its connection, and the choices that depend on it. */
export class World {
  readonly random: Random;
  readonly facts: Facts;
  readonly #regions: readonly FoundRegion[];
  readonly #irqs: readonly FoundIrq[];
  /** Memory that the server has, if it has done as it was asked. */
  readonly maps: FuzzMap[] = [];
  /** One of {@linkcode DeviceState}. */
  state: number = DeviceState.RUNNING;
  #nextId = 1;

  constructor(random: Random, facts: Facts) {
    this.random = random;
    this.facts = facts;
    const regions = facts.regions.filter((each) => each !== undefined && each.size > 0n);
    this.#regions = regions.length > 0 ? regions as FoundRegion[] : SOME_REGIONS;
    const irqs = facts.irqs.filter(({ count }) => count > 0);
    this.#irqs = irqs.length > 0 ? irqs : SOME_IRQS;
  }

  /** A message id that was not used lately. */
  nextId(): number {
    return this.#nextId++ & 0xffff;
  }

  /** The id of the message before. */
  lastId(): number {
    return (this.#nextId - 1) & 0xffff;
  }

  /** A region that has bytes. */
  region(): FoundRegion {
    return this.random.pick(this.#regions);
  }

  /** An IRQ index that has vectors. */
  irq(): FoundIrq {
    return this.random.pick(this.#irqs);
  }

  /** A place in a region for so many bytes: near its start, near its end, or anywhere. */
  offset({ size }: FoundRegion, count: number): bigint {
    const { random } = this;
    const room = size > BigInt(count) ? size - BigInt(count) : 0n;
    const near = Number(room < 256n ? room : 256n);
    const offset = BigInt(random.below(near + 1) & ~3);
    if (random.oneIn(4)) return room - (offset > room ? room : offset);
    if (!random.oneIn(4)) return offset;
    const far = Number(room < 0xffff_ffffn ? room : 0xffff_fffen);
    return BigInt(random.below(far + 1));
  }

  /** An address for a new map, mostly a free one. */
  freeAddress(): bigint {
    const slot = this.random.below(256);
    return 0x10_0000n + BigInt(slot) * 0x10_0000n;
  }

  /** A map that was made; undefined if there is none. */
  someMap(): FuzzMap | undefined {
    return this.maps.length === 0 ? undefined : this.random.pick(this.maps);
  }

  /** Remembers a map. */
  map(map: FuzzMap): void {
    if (this.maps.length < MAX_MAPS) this.maps.push(map);
  }

  /** Forgets a map. */
  unmap(map: FuzzMap): void {
    const at = this.maps.indexOf(map);
    if (at >= 0) this.maps.splice(at, 1);
  }
}
