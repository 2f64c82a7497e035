/** Checks of DEVICE_GET_REGION_IO_FDS. @module */

import { type CheckGroup, group } from "../check.ts";
import { sameBytes } from "../../base/bytes.ts";
import { u32At, u64At } from "../pack.ts";
import type { CameMessage } from "../raw_peer.ts";
import { ioFds, OUR_CAPABILITIES } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "VFIO_USER_DEVICE_GET_REGION_IO_FDS";
const HEAD = 16;
const ENTRY = 40;
const NO_FD = 0xffff_ffff;

/** The indexes of regions that answer the message; a server without it refuses all. */
async function answering(t: Trial): Promise<number[]> {
  const found: number[] = [];
  for (const region of t.facts.regions) {
    if (region === undefined || region.size === 0n) continue;
    const reply = await t.ask(ioFds(region.index));
    if ((reply.flags & 0x20) === 0) found.push(region.index);
  }
  t.need(found.length > 0, "the server has no descriptors for regions");
  return found;
}

/** An answer with sub-regions. */
interface Full {
  readonly index: number;
  /** The room that the answer takes. */
  readonly argsz: number;
  readonly reply: CameMessage;
}

/** Answers with sub-regions. */
async function full(t: Trial): Promise<[Full, ...Full[]]> {
  const found: Full[] = [];
  for (const index of await answering(t)) {
    const argsz = u32At((await t.accepts(ioFds(index))).payload, 0);
    if (argsz <= HEAD || argsz > 1 << 16) continue;
    found.push({ index, argsz, reply: await t.accepts(ioFds(index, argsz)) });
  }
  const [first, ...others] = found;
  return [t.needed(first, "no region has a descriptor of its own"), ...others];
}

/** The checks of descriptors for parts of regions. */
export const ioFdsChecks: CheckGroup = group("io_fds", "Descriptors for parts of regions", [
  [1, "MUST", SECTION, "The reply has 16 bytes or more, and the region's index.", async (t) => {
    for (const index of await answering(t)) {
      const { payload, text } = await t.accepts(ioFds(index));
      t.expect(payload.length >= HEAD && u32At(payload, 8) === index, `index ${index}`, text);
    }
  }],
  [2, "MUST", SECTION, "A region that does not exist is refused.", async (t) => {
    await t.refuses(ioFds(t.facts.numRegions, 4096));
    await t.refuses(ioFds(0xffff_ffff, 4096));
    await t.inStep();
  }],
  [3, "MUST", SECTION, "An argsz below 16 is refused.", async (t) => {
    await t.refuses(ioFds(0, 15));
    await t.inStep();
  }],
  [4, "MUST", SECTION, "Without room for the sub-regions no descriptor comes.", async (t) => {
    for (const { index, argsz } of await full(t)) {
      const reply = await t.accepts(ioFds(index, argsz - 1));
      t.expect(reply.fds.length === 0, "no descriptor", reply);
    }
  }],
  [5, "MUST", SECTION, "With room all sub-regions come.", async (t) => {
    for (const { reply: { payload, text } } of await full(t)) {
      const count = u32At(payload, 12);
      const isWhole = count > 0 && payload.length >= HEAD + count * ENTRY;
      t.expect(isWhole, `${count} sub-regions of ${ENTRY} bytes`, text);
    }
  }],
  [6, "MUST", SECTION, "Each index of a descriptor is one of those that came.", async (t) => {
    for (const { reply: { payload, fds, text } } of await full(t)) {
      for (let i = 0; i < u32At(payload, 12); i++) {
        const at = u32At(payload, HEAD + i * ENTRY + 16);
        t.expect(at < fds.length || at === NO_FD, `an index below ${fds.length}`, `${at}: ${text}`);
      }
    }
  }],
  [7, "MUST", SECTION, "Sub-regions are within their region.", async (t) => {
    for (const { index, reply: { payload } } of await full(t)) {
      const { size } = t.facts.regions[index]!;
      for (let i = 0; i < u32At(payload, 12); i++) {
        const at = HEAD + i * ENTRY;
        const end = u64At(payload, at) + u64At(payload, at + 8);
        t.expect(end <= size, `an end of ${size} at most`, `${end}`);
      }
    }
  }],
  [8, "SHOULD", SECTION, "Asked again, the answer is the same.", async (t) => {
    for (const { index, argsz, reply } of await full(t)) {
      const again = await t.accepts(ioFds(index, argsz));
      const isSame = sameBytes(again.payload, reply.payload) &&
        again.fds.length === reply.fds.length;
      t.expect(isSame, "the same answer", again);
    }
  }],
  [9, "SHOULD", SECTION, "Flags of the request that are not 0 are refused.", async (t) => {
    const [index] = await answering(t);
    await t.refuses(ioFds(index!, 4096, 1));
    await t.inStep();
  }],
  [10, "SHOULD", SECTION, "A count of the request that is not 0 is refused.", async (t) => {
    const [index] = await answering(t);
    await t.refuses(ioFds(index!, 4096, 0, 1));
    await t.inStep();
  }],
  [11, "MUST", SECTION, "An argsz of 4 GiB less one byte does no harm.", async (t) => {
    await t.survives(ioFds(0, 0xffff_ffff));
  }],
  [12, "MUST", SECTION, "Many askings leak no descriptor.", async (t) => {
    const [{ index, argsz }] = await full(t);
    const before = t.serverFds();
    for (let i = 0; i < 8; i++) await t.accepts(ioFds(index, argsz));
    await t.noFdsLeft(before);
  }],
  [13, "MUST", SECTION, "argsz of the reply is that of the whole answer.", async (t) => {
    for (const { reply: { payload, text } } of await full(t)) {
      t.expect(u32At(payload, 0) === payload.length, `argsz ${payload.length}`, text);
    }
  }],
  [14, "MUST", SECTION, "A client that takes no descriptors is sent none.", async (t) => {
    await t.negotiate(t.peer, { ...OUR_CAPABILITIES, max_msg_fds: 0 });
    for (const index of await answering(t)) {
      const reply = await t.ask(ioFds(index, 4096));
      t.expect(reply.fds.length === 0, "no descriptor", reply);
    }
  }, { isRaw: true }],
]);
