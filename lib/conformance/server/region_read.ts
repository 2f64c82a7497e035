/** Checks of REGION_READ. @module */

import { RegionFlags } from "../../wire/region.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { limitsOf } from "../limits.ts";
import { pack, u32At, u64At } from "../pack.ts";
import { read } from "../requests.ts";

const SECTION = "VFIO_USER_REGION_READ";
const RISKY = { isDestructive: true } as const;
/** Bytes of a reply ahead of its data. */
const HEAD = 16;

/** Widths of accesses that a careless server does not expect, at the start of a region. */
const ODD_WIDTHS = [3, 5, 7, 11, 63] as const;

/** The checks of reads. */
export const regionRead: CheckGroup = group("region_read", "Region reads", [
  [
    1,
    "MUST",
    SECTION,
    "The reply repeats offset, region and count, and has the data.",
    async (t) => {
      const { index } = t.readable();
      const { payload, text } = await t.accepts(read(index, 0, 4));
      const isEcho = u64At(payload, 0) === 0n && u32At(payload, 8) === index &&
        u32At(payload, 12) === 4 && payload.length === HEAD + 4;
      t.expect(isEcho, `offset 0, region ${index}, count 4 and 4 bytes`, text);
    },
  ],
  [2, "MUST", SECTION, "The reply repeats an offset that is not 0.", async (t) => {
    const { index } = t.config();
    const { payload, text } = await t.accepts(read(index, 8, 4));
    t.expect(u64At(payload, 0) === 8n, "offset 8", text);
  }],
  [3, "MUST", SECTION, "A read that leaves the region is refused.", async (t) => {
    const { index, size } = t.readable();
    await t.refuses(read(index, size - 2n, 4));
    await t.inStep();
  }],
  [4, "MUST", SECTION, "A read behind the region is refused.", async (t) => {
    const { index, size } = t.readable();
    await t.refuses(read(index, size, 4));
    await t.refuses(read(index, size + 4096n, 4));
    await t.inStep();
  }],
  [5, "MUST", SECTION, "An offset that wraps around 2^64 is refused.", async (t) => {
    const { index } = t.readable();
    await t.refuses(read(index, 0xffff_ffff_ffff_fffen, 4));
    await t.refuses(read(index, 0xffff_ffff_ffff_fffcn, 4));
    await t.inStep();
  }],
  [6, "MUST", SECTION, "An offset at 2^63 is refused.", async (t) => {
    await t.refuses(read(t.readable().index, 1n << 63n, 4));
    await t.inStep();
  }],
  [7, "MUST", SECTION, "An offset at 2^32 is refused in a smaller region.", async (t) => {
    const { index, size } = t.readable();
    t.need(size <= 1n << 32n, "the region is larger");
    await t.refuses(read(index, 1n << 32n, 4));
    await t.inStep();
  }],
  [8, "MUST", SECTION, "The last bytes of a region can be read.", async (t) => {
    const { index, size } = t.readable();
    await t.accepts(read(index, size - 4n, 4));
  }],
  [9, "MUST", SECTION, "A region that does not exist is refused.", async (t) => {
    await t.refuses(read(t.facts.numRegions, 0, 4));
    await t.refuses(read(0xffff_ffff, 0, 4));
    await t.inStep();
  }],
  [10, "MUST", SECTION, "A region of size 0 has nothing to read.", async (t) => {
    const empty = t.facts.regions.find((region) => region?.size === 0n);
    await t.refuses(read(t.needed(empty, "each region has a size").index, 0, 4));
    await t.inStep();
  }],
  [11, "SHOULD", SECTION, "A region without the flag READ is not read.", async (t) => {
    const found = t.facts.regions.find((region) =>
      region !== undefined && region.size > 0n && (region.flags & RegionFlags.READ) === 0
    );
    await t.refuses(read(t.needed(found, "each region can be read").index, 0, 4));
    await t.inStep();
  }],
  [12, "MUST", SECTION, "A count above max_data_xfer_size is refused.", async (t) => {
    await t.refuses(read(t.readable().index, 0, limitsOf(t.facts).data + 1));
    await t.inStep();
  }, RISKY],
  [13, "MUST", SECTION, "A count of 4 GiB less one byte is refused.", async (t) => {
    await t.refuses(read(t.readable().index, 0, 0xffff_ffff));
    await t.inStep();
  }, RISKY],
  [14, "MUST", SECTION, "A count of 0 is answered, with no data or an error.", async (t) => {
    const { payload, text } = await t.survives(read(t.readable().index, 0, 0));
    t.expect(payload.length <= HEAD, "no data", text);
  }],
  [15, "MUST", SECTION, "A count of 0 behind the region does no harm.", async (t) => {
    const { index, size } = t.readable();
    await t.survives(read(index, size, 0));
    await t.survives(read(index, size + 1n, 0));
  }],
  ...[1, 2, 4].map((width, i): CheckRow => [
    16 + i,
    "MUST",
    SECTION,
    `Configuration space is read by ${width} bytes.`,
    async (t) => {
      const { payload, text } = await t.accepts(read(t.config().index, 0, width));
      t.expect(payload.length === HEAD + width, `${width} bytes of data`, text);
    },
  ]),
  [19, "MUST", SECTION, "Reads of several widths see the same bytes.", async (t) => {
    const { index } = t.config();
    const whole = (await t.accepts(read(index, 0, 4))).payload.slice(HEAD);
    for (let at = 0; at < 4; at++) {
      const reply = await t.accepts(read(index, at, 1));
      t.expect(reply.payload[HEAD] === whole[at], `the byte ${whole[at]} at ${at}`, reply);
    }
  }],
  [20, "SHOULD", SECTION, "Configuration space is read at once, as QEMU does.", async (t) => {
    const { index } = t.config();
    const { payload, text } = await t.accepts(read(index, 0, 256));
    t.expect(payload.length === HEAD + 256, "256 bytes of data", text);
  }, RISKY],
  ...ODD_WIDTHS.map((width, i): CheckRow => [
    21 + i,
    "MUST",
    SECTION,
    `A read of ${width} bytes is answered, if by an error.`,
    async (t) => {
      const { index, size } = t.readable();
      t.need(size >= width, "the region is smaller");
      await t.survives(read(index, 0, width));
    },
    RISKY,
  ]),
  [26, "MUST", SECTION, "A read at an odd offset is answered, if by an error.", async (t) => {
    await t.survives(read(t.readable().index, 1, 4));
    await t.survives(read(t.readable().index, 3, 2));
  }, RISKY],
  [27, "MUST", SECTION, "A read of 8 bytes is answered, if by an error.", async (t) => {
    await t.survives(read(t.readable().index, 0, 8));
  }, RISKY],
  [28, "MUST", SECTION, "Bytes behind the request are ignored or refused.", async (t) => {
    const { command } = read(0, 0, 0);
    const payload = pack("u64 u32 u32 u64", 0, t.readable().index, 4, 0);
    await t.survives({ command, payload });
  }],
  [29, "MUST", SECTION, "Each region with READ answers a read, if by an error.", async (t) => {
    for (const region of t.facts.regions) {
      if (region === undefined || region.size < 4n) continue;
      if ((region.flags & RegionFlags.READ) !== 0) await t.survives(read(region.index, 0, 4));
    }
  }],
  [30, "MUST", SECTION, "The bounds of each region are checked.", async (t) => {
    for (const region of t.facts.regions) {
      if (region === undefined || region.size === 0n) continue;
      await t.refuses(read(region.index, region.size, 1));
    }
    await t.inStep();
  }],
  [31, "SHOULD", SECTION, "What can be mapped can be read by message, too.", async (t) => {
    const found = t.facts.regions.find((region) =>
      region !== undefined && (region.flags & 5) === 5 && region.size >= 4n
    );
    await t.accepts(read(t.needed(found, "no region can be mapped").index, 0, 4));
  }],
  [32, "MUST", SECTION, "Two hundred reads under way are answered, in order.", async (t) => {
    const ask = read(t.readable().index, 0, 4);
    const ids: number[] = [];
    for (let i = 0; i < 200; i++) ids.push(await t.send(ask));
    for (const id of ids) await t.reply(ask, id);
  }],
  [33, "SHOULD", SECTION, "A PCI device has a vendor id.", async (t) => {
    const { payload, text } = await t.accepts(read(t.config().index, 0, 2));
    const vendor = u32At(payload, HEAD) & 0xffff;
    t.expect(vendor !== 0 && vendor !== 0xffff, "an id that is not 0 and not 0xffff", text);
  }],
]);
