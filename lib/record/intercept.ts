/**
 * Interception: the recorder alters messages so that more becomes visible. That is mapped
 * registers, shared memory, interrupts and region descriptors.
 *
 * @module
 */

import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { ProtocolError } from "../base/errors.ts";
import { MAX_PENDING } from "../base/limits.ts";
import { Command } from "../wire/command.ts";
import { DmaMapFlags, DmaMapLayout } from "../wire/dma.ts";
import { HEADER_SIZE, HeaderLayout, MessageFlags } from "../wire/header.ts";
import { IoFdType, RegionIoFdsReply } from "../wire/io_fds.ts";
import { IrqSetFlags, SetIrqsLayout } from "../wire/irq.ts";
import {
  parseRegionCapabilities,
  RegionFlags,
  RegionInfoLayout,
  RegionInfoReply,
} from "../wire/region.ts";
import type { RecordedInterrupt, RecordedIoeventfd } from "./event.ts";
import { alterable, hasFlag, type Passage, remark } from "./passage.ts";
import { type Tap, Taps, type TapUse } from "./tap.ts";

/** The kinds of interception, each with what it makes visible. */
export const INTERCEPTIONS = {
  /** Registers are reached by message only. */
  mmap: "registers that could be mapped are reached by message",
  /** The device reaches memory by message only. */
  dma: "the device reaches memory by message",
  /** Signals of interrupts pass through the recorder. */
  irq: "interrupts are seen and passed on",
  /** Signals on descriptors of regions pass through the recorder. */
  ioeventfd: "signals on region descriptors are seen and passed on",
} as const;

/** A kind of interception. */
export type Interception = keyof typeof INTERCEPTIONS;

/** Signals that were seen. */
export type SeenInterrupt = Pick<RecordedInterrupt, "irq" | "vector" | "count" | "action">;
/** Signals on a region's descriptor that were seen. */
export type SeenKick = Pick<RecordedIoeventfd, "region" | "offset" | "size" | "count">;

/** Reports of an interceptor. */
export interface InterceptorHooks {
  onInterrupt(seen: SeenInterrupt): void;
  onKick(seen: SeenKick): void;
}

const PAYLOAD = HEADER_SIZE;
const { messageId: ID_AT } = HeaderLayout.offsets;

/** The largest number of a vector. */
const MAX_VECTOR = 0xffff_ffff;

/** Places in a DMA_MAP, its header included. */
const MAP_SIZE = PAYLOAD + DmaMapLayout.size;
const MAP_FLAGS_AT = PAYLOAD + DmaMapLayout.offsets.flags;
const MAP_OFFSET_AT = PAYLOAD + DmaMapLayout.offsets.offset;

/** Places in the reply to DEVICE_GET_REGION_INFO, its header included. */
const INFO_SIZE = PAYLOAD + RegionInfoLayout.size;
const INFO_FLAGS_AT = PAYLOAD + RegionInfoLayout.offsets.flags;

/** Capabilities of a region that are about its mapping. */
export const MAPPABLE: ReadonlySet<string> = new Set([
  "sparse_mmap",
  "sparse_mmap_fds",
  "msix_mappable",
]);

const ACTIONS: ReadonlyMap<number, RecordedInterrupt["action"]> = new Map([
  [IrqSetFlags.ACTION_TRIGGER, "trigger"],
  [IrqSetFlags.ACTION_MASK, "mask"],
  [IrqSetFlags.ACTION_UNMASK, "unmask"],
]);

/** Vectors of an IRQ index, and what is done to them. */
interface Vectors {
  readonly irq: number;
  readonly action: RecordedInterrupt["action"];
  readonly start: number;
  /** Infinity: all from `start` on. */
  readonly count: number;
}

/** A DEVICE_SET_IRQS whose reply has not come. */
interface PendingSet extends Vectors {
  readonly messageId: number;
  readonly taps: ReadonlyMap<number, Tap>; // by vector
}

/** Alters the messages of one connection, and keeps what it put in the place of descriptors. */
export class Interceptor implements Disposable {
  readonly #kinds: ReadonlySet<Interception>;
  readonly #hooks: InterceptorHooks;
  readonly #taps = new Taps();
  readonly #vectors = new Map<string, Tap>(); // those in force, by action, IRQ index and vector
  #pending: PendingSet[] = [];

  /** @param kinds what to intercept */
  constructor(kinds: ReadonlySet<Interception>, hooks: InterceptorHooks) {
    this.#kinds = kinds;
    this.#hooks = hooks;
  }

  /** Tells requests of the client that it may alter. */
  altersRequest(command: number): boolean {
    if (command === Command.DMA_MAP) return this.#kinds.has("dma");
    return command === Command.DEVICE_SET_IRQS && this.#kinds.has("irq");
  }

  /** Tells replies of the server that it may alter, or has to see. */
  altersReply(command: number): boolean {
    if (command === Command.DEVICE_GET_REGION_INFO) return this.#kinds.has("mmap");
    if (command === Command.DEVICE_GET_REGION_IO_FDS) return this.#kinds.has("ioeventfd");
    return command === Command.DEVICE_SET_IRQS && this.#kinds.has("irq");
  }

  /** Alters a message, if there is something to alter. */
  alter(passage: Passage): void {
    const { command, isReply } = passage;
    if (!isReply) {
      if (!this.altersRequest(command)) return;
      if (command === Command.DMA_MAP) return withholdMemory(passage);
      return this.#setIrqs(passage);
    }
    if (!this.altersReply(command)) return;
    if (command === Command.DEVICE_SET_IRQS) return this.#irqsSet(passage);
    if (hasFlag(passage, MessageFlags.ERROR)) return;
    if (command === Command.DEVICE_GET_REGION_INFO) withholdMapping(passage);
    else this.#tapIoFds(passage);
  }

  /** Has interrupts signal the recorder. */
  #setIrqs(passage: Passage): void {
    const { bytes, view, fds } = passage;
    if (bytes.length < PAYLOAD + SetIrqsLayout.size) return;
    const { flags, index: irq, start, count } = SetIrqsLayout.decode(bytes.subarray(PAYLOAD));
    const action = ACTIONS.get(flags & IrqSetFlags.ACTION_MASK_BITS);
    if (action === undefined) return;
    const data = flags & IrqSetFlags.DATA_MASK;
    const isTeardown = data === IrqSetFlags.DATA_NONE && action === "trigger" && count === 0;
    if (data !== IrqSetFlags.DATA_EVENTFD && !isTeardown) return;
    const taps = new Map<number, Tap>();
    const use = action === "trigger" ? "signal" : "listen";
    const refused: string[] = [];
    for (const i of fds.keys()) {
      const vector = start + i;
      if (vector > MAX_VECTOR) {
        refused.push(`vector ${vector} is not seen: there is none`);
        break;
      }
      const onSignal = (count: bigint) => this.#hooks.onInterrupt({ irq, vector, action, count });
      const reason = this.#tap(passage, i, use, onSignal, (tap) => taps.set(vector, tap));
      if (reason !== undefined) refused.push(`vector ${vector} is not seen: ${reason}`);
    }
    if (taps.size > 0) remark(passage, "interrupts pass through the recorder");
    if (refused.length > 0) remark(passage, refused[0]!);
    const vectors: Vectors = { irq, action, start, count: isTeardown ? Infinity : count };
    const messageId = view.getUint16(ID_AT, true);
    const set = { ...vectors, messageId, taps };
    const wantsNoReply = hasFlag(passage, MessageFlags.NO_REPLY);
    if (wantsNoReply || this.#pending.length >= MAX_PENDING) this.#install(set);
    else this.#pending.push(set);
  }

  /** The server has answered: it now signals the new descriptors, or still the old ones. */
  #irqsSet(passage: Passage): void {
    const messageId = passage.view.getUint16(ID_AT, true);
    const at = this.#pending.findIndex((set) => set.messageId === messageId);
    if (at < 0) return;
    const [set] = this.#pending.splice(at, 1);
    if (!hasFlag(passage, MessageFlags.ERROR)) return this.#install(set!);
    for (const tap of set!.taps.values()) this.#taps.retire(tap);
  }

  #install({ irq, action, start, count, taps }: PendingSet): void {
    const prefix = `${action} ${irq} `;
    for (const [key, tap] of this.#vectors) {
      if (!key.startsWith(prefix)) continue;
      const vector = Number(key.slice(prefix.length));
      if (vector < start || vector >= start + count) continue;
      this.#vectors.delete(key);
      this.#taps.retire(tap);
    }
    for (const [vector, tap] of taps) this.#vectors.set(prefix + vector, tap);
  }

  /** Has the client's signals for parts of a region pass through the recorder. */
  #tapIoFds(passage: Passage): void {
    let reply: RegionIoFdsReply;
    try {
      reply = RegionIoFdsReply.decode(passage.bytes.subarray(PAYLOAD));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return;
    }
    const comments = new Set<string>();
    const seen = new Set<number>();
    for (const { offset, size, fdIndex, type } of reply.subRegions) {
      if (passage.fds[fdIndex] === undefined || seen.has(fdIndex)) continue;
      seen.add(fdIndex);
      if (type === IoFdType.IOREGIONFD) {
        comments.add("accesses by ioregionfd are not seen");
        continue;
      }
      const place = { region: reply.index, offset, size: Number(size & 0xffff_ffffn) };
      const onSignal = (count: bigint) => this.#hooks.onKick({ ...place, count });
      const reason = this.#tap(passage, fdIndex, "signal", onSignal, () => {});
      comments.add(
        reason === undefined
          ? "signals of regions pass through the recorder"
          : `signals are not seen: ${reason}`,
      );
    }
    for (const comment of comments) remark(passage, comment);
  }

  /**
   * Replaces a descriptor of a message.
   *
   * @returns why it was not
   */
  #tap(
    { fds, descriptors }: Passage,
    index: number,
    use: TapUse,
    onSignal: (count: bigint) => void,
    keep: (tap: Tap) => void,
  ): string | undefined {
    const fd = fds[index];
    if (fd === undefined) return undefined;
    const inserted = this.#taps.insert(fd, use, onSignal);
    if (inserted.tap === undefined) return inserted.reason;
    fds[index] = inserted.replacement;
    descriptors[index]!.fate = "replaced";
    keep(inserted.tap);
  }

  /** Closes what it keeps. */
  [Symbol.dispose](): void {
    this.#taps[Symbol.dispose]();
    this.#vectors.clear();
    this.#pending = [];
  }
}

/** Takes the memory out of a DMA_MAP: the device then asks by message. */
function withholdMemory(passage: Passage): void {
  if (!withholdFds(passage)) return;
  remark(passage, "memory withheld: the device reaches it by message");
  if (passage.bytes.length < MAP_SIZE) return;
  const { READ, WRITE } = DmaMapFlags;
  const view = alterable(passage);
  view.setUint32(MAP_FLAGS_AT, view.getUint32(MAP_FLAGS_AT, true) & (READ | WRITE), true);
  view.setBigUint64(MAP_OFFSET_AT, 0n, true);
}

/** Says of a region that it can't be mapped. */
export function withholdMapping(passage: Passage): void {
  const hadFds = withholdFds(passage);
  const isAltered = passage.bytes.length >= INFO_SIZE && clearMapping(passage);
  if (!hadFds && !isAltered) return;
  remark(passage, "mapping withheld: the client reaches the region by message");
}

/** Clears the flag and the capabilities of a mapping; false if there are none. */
function clearMapping(passage: Passage): boolean {
  const flags = passage.view.getUint32(INFO_FLAGS_AT, true);
  const payload = passage.bytes.subarray(PAYLOAD);
  let capabilities: ReturnType<typeof parseRegionCapabilities> = [];
  try {
    capabilities = parseRegionCapabilities(payload);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
  const kept = capabilities.filter(({ kind }) => !MAPPABLE.has(kind));
  if ((flags & RegionFlags.MMAP) === 0 && kept.length === capabilities.length) return false;
  alterable(passage).setUint32(INFO_FLAGS_AT, flags & ~RegionFlags.MMAP, true);
  if (kept.length === capabilities.length) return true;
  const info = { ...RegionInfoReply.decode(payload), flags: flags & ~RegionFlags.MMAP };
  const argsz = RegionInfoReply.encode({ ...info, capabilities: kept }).length;
  const body = RegionInfoReply.encode({ ...info, argsz, capabilities: kept });
  const shorter = new Uint8Array(HEADER_SIZE + body.length);
  shorter.set(passage.replacement!.subarray(0, HEADER_SIZE));
  shorter.set(body, HEADER_SIZE);
  new DataView(shorter.buffer).setUint32(HeaderLayout.offsets.size, shorter.length, true);
  passage.replacement = shorter;
  return true;
}

/** Closes the descriptors of a message in place of passing them on. */
function withholdFds({ fds, descriptors }: Passage): boolean {
  const withheld = fds.filter((fd): fd is OwnedFd => fd !== undefined);
  closeAll(withheld);
  fds.fill(undefined);
  for (const each of descriptors) each.fate = "withheld";
  return withheld.length > 0;
}
