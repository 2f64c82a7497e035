/**
 * All that the client of a mock has told its device, beside what the recorded client had told.
 *
 * @module
 */

import { EINVAL } from "../../ffi/errno.ts";
import { sameBytes } from "../base/bytes.ts";
import { COMMAND, HEADER } from "../pci/registers.ts";
import type { DmaMapRequest, DmaUnmap } from "../wire/dma.ts";
import { PciRegion, placeText } from "../wire/region.ts";
import type { AccessedRange } from "./accessed.ts";
import { Echoes } from "./echoes.ts";
import { type Knowledge, type PartWrite, placeOf } from "./known.ts";
import { LiveMaps } from "./live_maps.ts";
import { type Moment, Relocation } from "./relocation.ts";

/** The end of the header of configuration space: capabilities follow. */
const HEADER_END = 0x40n;

/** A register: what the recorded client wrote there last, and what the present one did. */
interface Told {
  recorded?: Uint8Array;
  found?: Uint8Array;
}

/** The side that wrote a register. */
type Side = keyof Told;

/**
 * Decides which DMA of a recording a client vouches for. All of this has to be so:
 *
 * - Each register has the value of the recording, but for addresses. Configuration space does not
 *   count, except that a device without Bus Master Enable does no DMA.
 * - The client told the address itself, in the register or the place in memory of the recorded
 *   address. Nothing else of that structure differs.
 * - The whole range is mapped now, for the direction of the access. The client has not unmapped it
 *   since it told the address, unless the recorded client did so at the same time.
 * - A number that the device repeats is of a command that the client gave.
 */
export class ToldByClient {
  readonly #known: Knowledge;
  readonly #maps = new LiveMaps();
  readonly #relocation: Relocation;
  readonly #echoes: Echoes;
  readonly #registers = new Map<string, Told>();
  /** Registers with other values than in the recording. */
  readonly #differing = new Set<string>();
  /** Addresses that registers tell now, by register. */
  readonly #namedBy = new Map<string, ReadonlyMap<bigint, bigint>>();
  readonly #isMaster = { recorded: false, found: false };
  /** The first write to a register that the recording never writes. */
  #stray: string | undefined;
  #now: Moment = { turn: 0, scene: 0 };
  /** The first turn that no reset ended. */
  #firstTurn = 0;

  /** @param known of the recording */
  constructor(known: Knowledge) {
    this.#known = known;
    this.#relocation = new Relocation(
      known.accessed,
      (address) => this.#maps.has(address),
      known.unmapped,
    );
    this.#echoes = new Echoes(known.echoes);
  }

  /**
   * Begins a turn: the client does a request that may change the device.
   *
   * @param scene the scene of the recording that it begins, or else the present one
   */
  begin(scene: number): Moment {
    return this.#now = { turn: this.#now.turn + 1, scene };
  }

  /** Takes a DMA_MAP; returns 0 or an errno. */
  map(request: DmaMapRequest): number {
    return this.#maps.map(request);
  }

  /** Takes a DMA_UNMAP: addresses told there stand no longer. Returns 0 or an errno. */
  unmap(request: DmaUnmap): number {
    const range = this.#maps.unmap(request);
    if (range === undefined) return EINVAL;
    this.#relocation.unmap(...range, this.#now);
    return 0;
  }

  /** Forgets all that a reset of the device forgets: what the client does in this turn. */
  reset(): void {
    this.#registers.clear();
    this.#differing.clear();
    this.#forget();
    this.#isMaster.recorded = this.#isMaster.found = false;
    this.#stray = undefined;
  }

  /** Takes a write of the recording that the client leaves out. */
  skip(write: PartWrite): void {
    if (this.#command("recorded", write)) {
      if (mayReset(write)) this.#forget();
      return;
    }
    const place = placeOf(write);
    const told = this.#told(place);
    if (told.recorded !== undefined && sameBytes(told.recorded, write.data)) return;
    told.recorded = write.data;
    this.#relocation.revokeAll(write.data);
    this.#namedBy.delete(place);
    // The client told what it told in another turn: no address of it stands for this one.
    const isSame = told.found !== undefined && sameBytes(told.found, write.data);
    this.#note(place, isSame);
  }

  /** Takes a DMA of the recording that the device does not do now, with the memory it had read. */
  skipRead(recorded: Uint8Array): void {
    this.#relocation.revokeAll(recorded);
    this.#echoes.forget(recorded);
  }

  /**
   * Takes a write of the client.
   *
   * @param recorded the write of the recording that it stands for, if there is one
   * @returns true if they are the same but for addresses
   */
  write(found: PartWrite, recorded: PartWrite | undefined): boolean {
    if (this.#command("found", found)) {
      if (recorded !== undefined) this.#command("recorded", recorded);
      const isSame = recorded !== undefined && sameBytes(found.data, recorded.data);
      if (!isSame && mayReset(found)) this.#forget();
      return isSame;
    }
    const place = placeOf(found);
    if (!this.#known.written.has(place)) {
      this.#stray ??= place;
      return false;
    }
    const told = this.#told(place);
    told.found = found.data;
    if (recorded === undefined) {
      const isSame = told.recorded !== undefined && sameBytes(told.recorded, found.data);
      if (told.recorded !== undefined) this.#relocation.revokeAll(told.recorded);
      this.#namedBy.delete(place);
      this.#note(place, isSame);
      return false;
    }
    told.recorded = recorded.data;
    const names = this.#relocation.compare(recorded.data, found.data, { where: place });
    this.#name(place, recorded.data, names);
    const isWhole = this.#joinHalves(found);
    return names !== undefined || isWhole ||
      (recorded.data.length === 4 && this.#known.accessed.isHalf(wordOf(recorded.data)));
  }

  /**
   * Takes memory that the device read, now and in the recording.
   *
   * @param now the moment in which the recorded device read it
   */
  read(recorded: Uint8Array, found: Uint8Array, now: Moment): void {
    if (now.turn < this.#firstTurn) return; // the client answered behind a reset
    const { length } = recorded;
    const names = this.#relocation.compare(recorded, found, {
      where: `memory ${length}`,
      isOwn: (at) => this.#echoes.isOwn(length, at),
    });
    if (names === undefined || this.#hasConflict(names, "")) return this.skipRead(recorded);
    this.#relocation.tell(names, now);
    this.#echoes.learn(recorded, found);
  }

  /**
   * The client's address of a DMA, if the client vouches for it.
   *
   * @param now the moment in which the recorded device did it
   * @returns the address, or the reason in words why it is not to be done
   */
  address(access: AccessedRange, now: Moment): bigint | string {
    if (now.turn < this.#firstTurn) return "the client has reset the device since";
    if (this.#known.accessed.isFull) return "the recording has more DMA than is remembered";
    if (this.#stray !== undefined) {
      return `the client wrote ${nameOf(this.#stray)}, which the recording never writes`;
    }
    const [differing] = this.#differing;
    if (differing !== undefined) return `${nameOf(differing)} has another value than recorded`;
    if (this.#isMaster.recorded && !this.#isMaster.found) {
      return "the client has not set Bus Master Enable";
    }
    const offset = this.#relocation.address(access, now);
    if (offset === undefined) return "the client has not told an address for it";
    if (!this.#maps.allows({ ...access, offset })) {
      return `the client has not mapped it for ${access.action === "read" ? "reads" : "writes"}`;
    }
    return offset;
  }

  /** The data of a DMA with the client's numbers; undefined if it gave no such command. */
  data(recorded: Uint8Array): Uint8Array | undefined {
    return this.#echoes.apply(recorded);
  }

  /** Forgets addresses and commands, and ends all turns before this one. */
  #forget(): void {
    this.#firstTurn = this.#now.turn;
    this.#namedBy.clear();
    this.#relocation.clear();
    this.#echoes.clear();
  }

  /** Notes whether a register has the value of the recording. */
  #note(place: string, isSame: boolean): void {
    if (isSame) this.#differing.delete(place);
    else this.#differing.add(place);
  }

  #name(
    place: string,
    recorded: Uint8Array,
    names: ReadonlyMap<bigint, bigint> | undefined,
  ): boolean {
    this.#namedBy.delete(place);
    this.#relocation.revokeAll(recorded);
    const isSame = names !== undefined && !this.#hasConflict(names, place);
    this.#note(place, isSame);
    if (!isSame || names.size === 0) return isSame;
    this.#namedBy.set(place, names);
    this.#relocation.tell(names, this.#now);
    return true;
  }

  /** Tells if another register maps the same recorded address to another one of the client. */
  #hasConflict(names: ReadonlyMap<bigint, bigint>, place: string): boolean {
    if (names.size === 0) return false;
    return this.#namedBy.entries().some(([other, its]) =>
      other !== place &&
      names.entries().some(([recorded, found]) => (its.get(recorded) ?? found) !== found)
    );
  }

  /** Compares an address of 64 bits that is written as two halves; true if it is one. */
  #joinHalves({ region, offset, data }: PartWrite): boolean {
    if (data.length !== 4 || offset % 4n !== 0n) return false;
    const lowAt = offset - offset % 8n;
    const [low, high] = [`${region}+${lowAt}.4`, `${region}+${lowAt + 4n}.4`];
    const halves = [this.#registers.get(low), this.#registers.get(high)];
    const [recorded, found] = (["recorded", "found"] as const).map((side) => {
      const [a, b] = halves.map((each) => each?.[side]);
      return a === undefined || b === undefined ? undefined : Uint8Array.of(...a, ...b);
    });
    if (recorded === undefined || found === undefined) return false;
    const { accessed } = this.#known;
    // An address below 4 GiB that moves beyond has to look like one by itself.
    const isBeyond = wordOf(recorded.subarray(4)) !== 0n;
    if (!isBeyond && wordOf(found.subarray(4)) === 0n) return false;
    if (!isBeyond && !accessed.isAddress(wordOf(recorded), 32, low)) return false;
    const names = this.#relocation.compare(recorded, found, { where: `${low} ${high}` });
    if (names === undefined || names.size === 0) return false;
    this.#namedBy.delete(high);
    if (!this.#name(low, recorded, names)) return false;
    this.#note(high, true);
    return true;
  }

  #told(place: string): Told {
    const told = this.#registers.get(place) ?? {};
    this.#registers.set(place, told);
    return told;
  }

  /** Takes a write to configuration space; false if it is to another region. */
  #command(side: Side, { region, offset, data }: PartWrite): boolean {
    if (region !== PciRegion.CONFIG) return false;
    const command = data[HEADER.COMMAND - Number(offset)];
    if (command !== undefined) this.#isMaster[side] = (command & COMMAND.MASTER) !== 0;
    return true;
  }
}

/** Tells if a write to configuration space is to a capability, which may reset the function. */
function mayReset({ offset, data }: PartWrite): boolean {
  return offset + BigInt(data.length) > HEADER_END;
}

function wordOf(data: Uint8Array): bigint {
  return BigInt(new DataView(data.buffer, data.byteOffset).getUint32(0, true));
}

function nameOf(place: string): string {
  const [, region, offset] = /^(\d+)\+(\d+)\./.exec(place)!;
  return placeText(Number(region), BigInt(offset!));
}
