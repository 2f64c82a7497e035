/** Checks of REGION_WRITE and REGION_WRITE_MULTI. @module */

import { RegionFlags } from "../../wire/region.ts";
import { type CheckGroup, group } from "../check.ts";
import { limitsOf } from "../limits.ts";
import { sameBytes } from "../../base/bytes.ts";
import { pack, u32At, u64At } from "../pack.ts";
import { OUR_CAPABILITIES, read, write, writeMulti } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "VFIO_USER_REGION_WRITE";
const MULTI = "VFIO_USER_REGION_WRITE_MULTI";
const RISKY = { isDestructive: true } as const;
const HEAD = 16;

/** A byte of a register. */
interface Place {
  readonly region: number;
  readonly offset: bigint;
}

/**
 * PCI's Interrupt Line, which has to keep what is written if the device has an interrupt pin; else
 * a register that is known to.
 */
async function keeper(t: Trial): Promise<Place> {
  if (!t.facts.isPci) return t.scratch();
  const pin = (await t.accepts(read(t.config().index, 0x3d, 1))).payload[HEAD];
  return pin === 0 ? t.scratch() : { region: 7, offset: 0x3cn };
}

/** The byte of the scratch register; it is put back afterwards. */
async function scratch(
  t: Trial,
  { region, offset }: Place = t.scratch(),
): Promise<Place & { before: number }> {
  const before = (await t.accepts(read(region, offset, 1))).payload[HEAD]!;
  t.atEnd(async () => void await t.ask(write(region, offset, new Uint8Array([before]))));
  return { region, offset, before };
}

/** The index of a region that can be written. */
function writable(t: Trial): { index: number; size: bigint } {
  const config = t.facts.isPci ? t.facts.regions[7] : undefined;
  const found = [config, ...t.facts.regions].find((region) =>
    region !== undefined && region.size > 0n && (region.flags & RegionFlags.WRITE) !== 0
  );
  return t.needed(found, "no region can be written");
}

function needMulti(t: Trial): void {
  const isOffered = t.facts.capabilities["write_multiple"] === true;
  t.need(isOffered, "the server does not offer write_multiple");
}

/** Expects the scratch byte to have a value. */
async function holds(t: Trial, region: number, offset: bigint, value: number): Promise<void> {
  const reply = await t.accepts(read(region, offset, 1));
  t.expect(reply.payload[HEAD] === value, `the byte ${value}`, reply);
}

const four = new Uint8Array(4);

/** The checks of writes. */
export const regionWrite: CheckGroup = group("region_write", "Region writes", [
  [1, "MUST", SECTION, "A register keeps what was written.", async (t) => {
    const { region, offset, before } = await scratch(t, await keeper(t));
    await t.accepts(write(region, offset, new Uint8Array([before ^ 0xff])));
    await holds(t, region, offset, before ^ 0xff);
  }],
  [2, "MUST", SECTION, "The reply repeats offset, region and count, without data.", async (t) => {
    const { region, offset, before } = await scratch(t);
    const { payload, text } = await t.accepts(write(region, offset, new Uint8Array([before])));
    const isEcho = payload.length === HEAD && u64At(payload, 0) === offset &&
      u32At(payload, 8) === region && u32At(payload, 12) === 1;
    t.expect(isEcho, `offset ${offset}, region ${region} and count 1 in 16 bytes`, text);
  }],
  [3, "MUST", SECTION, "A write that leaves the region is refused.", async (t) => {
    const { index, size } = writable(t);
    await t.refuses(write(index, size - 2n, four));
    await t.inStep();
  }],
  [4, "MUST", SECTION, "A write behind the region is refused.", async (t) => {
    const { index, size } = writable(t);
    await t.refuses(write(index, size, four));
    await t.inStep();
  }],
  [5, "MUST", SECTION, "An offset that wraps around 2^64 is refused.", async (t) => {
    await t.refuses(write(writable(t).index, 0xffff_ffff_ffff_fffen, four));
    await t.inStep();
  }],
  [6, "MUST", SECTION, "A region that does not exist is refused.", async (t) => {
    await t.refuses(write(t.facts.numRegions, 0, four));
    await t.refuses(write(0xffff_ffff, 0, four));
    await t.inStep();
  }],
  [7, "SHOULD", SECTION, "A region without the flag WRITE is not written.", async (t) => {
    const found = t.facts.regions.find((region) =>
      region !== undefined && region.size > 0n && (region.flags & RegionFlags.WRITE) === 0
    );
    await t.refuses(write(t.needed(found, "each region can be written").index, 0, four));
    await t.inStep();
  }],
  [8, "MUST", SECTION, "A region of size 0 has nothing to write.", async (t) => {
    const empty = t.facts.regions.find((region) => region?.size === 0n);
    await t.refuses(write(t.needed(empty, "each region has a size").index, 0, four));
    await t.inStep();
  }],
  [9, "MUST", SECTION, "A count above the data that came is refused.", async (t) => {
    await t.refuses(write(writable(t).index, t.facts.scratch?.offset ?? 0n, new Uint8Array(1), 4));
    await t.inStep();
  }, RISKY],
  [
    10,
    "MUST",
    SECTION,
    "A count of 4 GiB less one byte with little data is refused.",
    async (t) => {
      await t.refuses(write(writable(t).index, 0, four, 0xffff_ffff));
      await t.inStep();
    },
    RISKY,
  ],
  [11, "MUST", SECTION, "A count below the data that came does no harm.", async (t) => {
    const { region, offset, before } = await scratch(t);
    const data = new Uint8Array([before, 0, 0, 0, 0, 0, 0, 0]);
    await t.survives(write(region, offset, data, 1));
  }, RISKY],
  [12, "MUST", SECTION, "A count of 0 is answered.", async (t) => {
    await t.survives(write(writable(t).index, 0, new Uint8Array(0)));
  }],
  [13, "MUST", SECTION, "A refused write of 32 KiB leaves the stream in step.", async (t) => {
    await t.refuses(write(t.facts.numRegions, 0, new Uint8Array(32 << 10)));
    await t.inStep();
  }],
  [
    14,
    "SHOULD",
    SECTION,
    "A refused write of max_data_xfer_size leaves the stream in step.",
    async (t) => {
      await t.refuses(write(t.facts.numRegions, 0, new Uint8Array(limitsOf(t.facts).data)));
      await t.inStep();
    },
    RISKY,
  ],
  [15, "SHOULD", SECTION, "A write above max_data_xfer_size is refused.", async (t) => {
    const data = new Uint8Array(limitsOf(t.facts).data + 4096);
    const ask = { ...write(writable(t).index, 0, data), isBeyond: true };
    await t.orEnded(async () => void await t.refuses(ask));
  }, { isDestructive: true, mayEnd: true }],
  [16, "MUST", SECTION, "A write of 3 bytes is answered, if by an error.", async (t) => {
    const { region, offset, before } = await scratch(t);
    t.need(region === 7, "the register is not in configuration space");
    // Interrupt Line, Interrupt Pin and Min_Gnt: the latter two can't be written.
    await t.survives(write(region, offset, new Uint8Array([before, 0, 0])));
  }, RISKY],
  [17, "MUST", SECTION, "A register that can't be written keeps its value.", async (t) => {
    const { index } = t.config();
    const before = (await t.accepts(read(index, 0, 4))).payload.slice(HEAD);
    await t.survives(write(index, 0, new Uint8Array([~before[0]! & 0xff, ~before[1]! & 0xff])));
    const reply = await t.accepts(read(index, 0, 4));
    const isSame = sameBytes(reply.payload.subarray(HEAD), before);
    t.expect(isSame, "the vendor id as before", reply);
  }, RISKY],
  [18, "MUST", SECTION, "Writes under way are done in order.", async (t) => {
    const { region, offset } = await scratch(t);
    const asks = Array.from({ length: 50 }, (_, i) => write(region, offset, new Uint8Array([i])));
    const ids: number[] = [];
    for (const ask of asks) ids.push(await t.send(ask));
    for (const id of ids) await t.reply(asks[0]!, id);
    await holds(t, region, offset, 49);
  }],
  [19, "MUST", SECTION, "A read behind a write sees what was written.", async (t) => {
    const { region, offset, before } = await scratch(t);
    const first = write(region, offset, new Uint8Array([before ^ 0x0f]));
    const second = read(region, offset, 1);
    const ids = [await t.send(first), await t.send(second)];
    await t.reply(first, ids[0]!);
    const reply = await t.reply(second, ids[1]!);
    t.expect(reply.payload[HEAD] === (before ^ 0x0f), `the byte ${before ^ 0x0f}`, reply);
  }],
  [
    30,
    "MUST",
    MULTI,
    "Without write_multiple in both VERSIONs the message is refused.",
    async (t) => {
      await t.negotiate(t.peer, { ...OUR_CAPABILITIES, write_multiple: false });
      await t.refuses(writeMulti([]));
      await t.inStep();
    },
    { isRaw: true },
  ],
  [31, "MUST", MULTI, "One write is done, and counted.", async (t) => {
    needMulti(t);
    const { region, offset, before } = await scratch(t);
    const data = new Uint8Array([before ^ 0x3c]);
    const { payload, text } = await t.accepts(writeMulti([{ region, offset, data }]));
    t.expect(payload.length === 8 && u64At(payload, 0) === 1n, "a count of 1 in 8 bytes", text);
    await holds(t, region, offset, before ^ 0x3c);
  }],
  [32, "MUST", MULTI, "Several writes are done in order.", async (t) => {
    needMulti(t);
    const { region, offset } = await scratch(t);
    const writes = [1, 2, 3, 4].map((n) => ({ region, offset, data: new Uint8Array([n]) }));
    const { payload, text } = await t.accepts(writeMulti(writes));
    t.expect(u64At(payload, 0) === 4n, "a count of 4", text);
    await holds(t, region, offset, 4);
  }],
  [33, "MUST", MULTI, "A count above the writes that came is refused.", async (t) => {
    needMulti(t);
    await t.refuses(writeMulti([], 1));
    await t.refuses(writeMulti([], 1n << 60n));
    await t.refuses(writeMulti([], 0xffff_ffff_ffff_ffffn));
    await t.inStep();
  }, RISKY],
  [34, "MUST", MULTI, "A write of more than 8 bytes is refused.", async (t) => {
    needMulti(t);
    const { region, offset } = await scratch(t);
    await t.refuses(writeMulti([{ region, offset, data: new Uint8Array(8), count: 9 }]));
    await t.inStep();
  }, RISKY],
  [35, "MUST", MULTI, "No write at all is answered.", async (t) => {
    needMulti(t);
    await t.survives(writeMulti([]));
  }],
  [
    36,
    "SHOULD",
    MULTI,
    "Of writes that end with one that fails, those before it are counted.",
    async (t) => {
      needMulti(t);
      const { region, offset, before } = await scratch(t);
      const good = { region, offset, data: new Uint8Array([before]) };
      const bad = { region: t.facts.numRegions, offset: 0n, data: four };
      const { payload, text } = await t.accepts(writeMulti([good, bad, good]));
      t.expect(u64At(payload, 0) === 1n, "a count of 1", text);
      await t.inStep();
    },
  ],
  [37, "MUST", MULTI, "A payload that ends within the count is refused.", async (t) => {
    needMulti(t);
    const { command } = writeMulti([]);
    await t.refuses({ command, payload: pack("u32", 0) });
    await t.inStep();
  }],
]);
