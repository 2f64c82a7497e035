/** Checks of DMA_MAP and DMA_UNMAP. @module */

import { OwnedFd } from "../../../ffi/fd.ts";
import { DmaUnmapFlags } from "../../wire/dma.ts";
import { MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import { NotApplicable, NotRefused } from "../deviation.ts";
import { u64At } from "../pack.ts";
import { dmaMap, dmaUnmap } from "../requests.ts";
import type { Trial } from "../trial.ts";

const MAP = "VFIO_USER_DMA_MAP";
const UNMAP = "VFIO_USER_DMA_UNMAP";
const RISKY = { isDestructive: true } as const;

/** An address at which nothing else is. */
const AT = 0x4000_0000n;
const SIZE = 0x10000n;
const PAGE = 4096n;
const { ALL: UNMAP_ALL, GET_DIRTY_BITMAP: WITH_BITMAP } = DmaUnmapFlags;
const O_RDONLY = 0;

/** The check of a device that has DMA. */
function withDma([number, level, section, rule, test, traits = {}]: CheckRow): CheckRow {
  return [number, level, section, rule, (t) => unlessAnyMap(t, () => test(t)), traits];
}

/**
 * Does something. A device without DMA has no memory to map: its server may answer success to
 * anything, as libvfio-user does, and does not deviate by that.
 */
export async function unlessAnyMap(t: Trial, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (error instanceof NotRefused && await takesAnything(t)) {
      throw new NotApplicable("the device has no DMA: any DMA_MAP and DMA_UNMAP succeeds");
    }
    throw error;
  }
}

/** Reports whether requests succeed in which everything is wrong. */
async function takesAnything(t: Trial): Promise<boolean> {
  const nothing = [dmaMap(1n, 0n, { argsz: 0, flags: 0 }), dmaUnmap(3n, 5n, 0xf0, 0)];
  for (const ask of nothing) {
    if (((await t.ask(ask)).flags & MessageFlags.ERROR) !== 0) return false;
  }
  return true;
}

/** Maps memory of ours; it is unmapped afterwards. */
async function map(t: Trial, address = AT, size = SIZE, flags = 3): Promise<void> {
  await t.accepts(dmaMap(address, size, { flags, fds: [t.memory(Number(size))] }));
  t.atEnd(async () => void await t.ask(dmaUnmap(address, size)));
}

/** Maps something that is wrong; the reply must be an error. */
function refuses(
  address: bigint,
  size: bigint,
  options: Parameters<typeof dmaMap>[2] = {},
): (t: Trial) => Promise<void> {
  return async (t) => {
    await t.refuses(dmaMap(address, size, { fds: [t.memory(Number(SIZE))], ...options }));
    await t.inStep();
  };
}

/** Rights of a map. */
const RIGHTS: readonly (readonly [name: string, flags: number])[] = [
  ["reading", 1],
  ["writing", 2],
  ["both", 3],
];

/** Addresses at which a map is legal. */
const PLACES: readonly (readonly [name: string, address: bigint])[] = [
  ["0", 0n],
  ["4 GiB", 1n << 32n],
  ["64 TiB", 1n << 46n],
];

const ROWS: readonly CheckRow[] = [
  ...RIGHTS.map(([name, flags], i): CheckRow => [
    1 + i,
    "MUST",
    MAP,
    `Shared memory for ${name} is mapped, and unmapped.`,
    async (t) => {
      await t.accepts(dmaMap(AT, SIZE, { flags, fds: [t.memory(Number(SIZE))] }));
      await t.accepts(dmaUnmap(AT, SIZE));
    },
  ]),
  ...PLACES.map(([name, address], i): CheckRow => [
    4 + i,
    "MUST",
    MAP,
    `Memory is mapped at the address ${name}.`,
    (t) => map(t, address),
  ]),
  [7, "MUST", MAP, "The reply has no payload.", async (t) => {
    const reply = await t.accepts(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
    t.expect(reply.payload.length === 0, "no payload", reply);
    await t.accepts(dmaUnmap(AT, SIZE));
  }],
  [
    8,
    "MUST",
    MAP,
    "Memory without a descriptor is mapped: the server asks by message.",
    async (t) => {
      await t.accepts(dmaMap(AT, SIZE));
      await t.accepts(dmaUnmap(AT, SIZE));
    },
  ],
  [9, "MUST", MAP, "A part of a file is mapped from its offset on.", async (t) => {
    await t.accepts(dmaMap(AT, PAGE, { offset: 2n * PAGE, fds: [t.memory(Number(SIZE))] }));
    await t.accepts(dmaUnmap(AT, PAGE));
  }],
  [10, "MUST", MAP, "A map that overlaps another one is refused.", async (t) => {
    await map(t);
    const fds = [t.memory(Number(SIZE))];
    await t.refuses(dmaMap(AT + PAGE, SIZE, { fds }));
    await t.refuses(dmaMap(AT - PAGE, 2n * PAGE, { fds }));
    await t.refuses(dmaMap(AT + PAGE, PAGE, { fds }));
    await t.inStep();
  }],
  [11, "MUST", MAP, "The same map again is answered.", async (t) => {
    await map(t);
    await t.survives(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
  }],
  [12, "MUST", MAP, "Maps side by side are legal.", async (t) => {
    await map(t, AT, PAGE);
    await map(t, AT + PAGE, PAGE);
    await map(t, AT - PAGE, PAGE);
  }],
  [13, "SHOULD", MAP, "A map of size 0 is refused.", refuses(AT, 0n), RISKY],
  [
    14,
    "MUST",
    MAP,
    "A map that wraps around 2^64 is refused.",
    refuses(0xffff_ffff_ffff_f000n, 2n * PAGE),
    RISKY,
  ],
  [15, "MUST", MAP, "A map of 2^63 bytes is refused.", refuses(0n, 1n << 63n), RISKY],
  [16, "SHOULD", MAP, "Flags that do not exist are refused.", refuses(AT, SIZE, { flags: 0x103 })],
  [17, "MUST", MAP, "An argsz below 32 is refused.", refuses(AT, SIZE, { argsz: 31 })],
  [
    18,
    "SHOULD",
    MAP,
    "A map that begins behind the end of its file is refused.",
    refuses(AT, SIZE, { offset: SIZE * 4n }),
    RISKY,
  ],
  [
    19,
    "SHOULD",
    MAP,
    "A map that ends behind the end of its file is refused.",
    refuses(AT, SIZE * 4n),
    RISKY,
  ],
  [
    20,
    "MUST",
    MAP,
    "An offset that wraps around 2^64 is refused.",
    refuses(AT, SIZE, { offset: 0xffff_ffff_ffff_f000n }),
    RISKY,
  ],
  [21, "MUST", MAP, "An eventfd is no memory.", async (t) => {
    await t.refuses(dmaMap(AT, SIZE, { fds: [t.event().handle] }));
    await t.inStep();
  }, RISKY],
  [22, "MUST", MAP, "A folder is no memory.", async (t) => {
    const folder = t.keep(OwnedFd.open("/", O_RDONLY));
    await t.refuses(dmaMap(AT, SIZE, { fds: [folder] }));
    await t.inStep();
  }, RISKY],
  [23, "SHOULD", MAP, "A file that can't be written is not mapped for writing.", async (t) => {
    const path = `/proc/self/exe`;
    const file = t.keep(OwnedFd.open(path, O_RDONLY));
    await t.refuses(dmaMap(AT, PAGE, { flags: 3, fds: [file] }));
    await t.inStep();
  }, RISKY],
  [24, "SHOULD", MAP, "Two descriptors with one map are refused.", async (t) => {
    const fds = [t.memory(Number(SIZE)), t.memory(Number(SIZE))];
    await t.orEnded(async () => void await t.refuses(dmaMap(AT, SIZE, { fds })));
  }, { mayEnd: true }],
  [25, "MUST", MAP, "Eight maps are held at once.", async (t) => {
    for (let i = 0n; i < 8n; i++) await map(t, AT + i * 2n * SIZE);
  }],
  [26, "MUST", MAP, "Maps under way are answered in order.", async (t) => {
    const asks = Array.from(
      { length: 8 },
      (_, i) => dmaMap(AT + BigInt(i) * SIZE, SIZE, { fds: [t.memory(Number(SIZE))] }),
    );
    const ids: number[] = [];
    for (const ask of asks) ids.push(await t.send(ask));
    for (const [i, id] of ids.entries()) {
      t.accepted(asks[i]!, await t.reply(asks[i]!, id));
      t.atEnd(async () => void await t.ask(dmaUnmap(AT + BigInt(i) * SIZE, SIZE)));
    }
  }],
  [27, "MUST", MAP, "A map above the limit of max_dma_maps is refused, and no more.", async (t) => {
    const { length } = await fill(t);
    t.need(length < MOST_MAPS, `the server takes ${MOST_MAPS} maps`);
    await t.inStep();
  }, RISKY],
  [40, "MUST", UNMAP, "The reply repeats address and size.", async (t) => {
    await t.accepts(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
    const { payload, text } = await t.accepts(dmaUnmap(AT, SIZE));
    const isEcho = payload.length >= 24 && u64At(payload, 8) === AT && u64At(payload, 16) === SIZE;
    t.expect(isEcho, "24 bytes with address and size", text);
  }],
  [41, "MUST", UNMAP, "What was unmapped can be mapped again.", async (t) => {
    for (let i = 0; i < 3; i++) {
      await t.accepts(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
      await t.accepts(dmaUnmap(AT, SIZE));
    }
  }],
  [42, "MUST", UNMAP, "A range that was never mapped is answered.", async (t) => {
    await t.survives(dmaUnmap(AT, SIZE));
  }],
  [43, "MUST", UNMAP, "A part of a map can't be unmapped.", async (t) => {
    await map(t);
    await t.refuses(dmaUnmap(AT, PAGE));
    await t.refuses(dmaUnmap(AT + PAGE, SIZE - PAGE));
    await t.inStep();
  }],
  [44, "MUST", UNMAP, "A range that is refused takes no map away.", async (t) => {
    await map(t);
    await t.ask(dmaUnmap(AT, PAGE));
    await t.refuses(dmaMap(AT + PAGE, PAGE, { fds: [t.memory(Number(SIZE))] }));
  }],
  [45, "MUST", UNMAP, "An argsz below 24 is refused.", async (t) => {
    await map(t);
    await t.refuses(dmaUnmap(AT, SIZE, 0, 23));
    await t.inStep();
  }],
  [46, "MUST", UNMAP, "A range that wraps around 2^64 does no harm.", async (t) => {
    await t.survives(dmaUnmap(0xffff_ffff_ffff_f000n, SIZE));
  }, RISKY],
  [47, "MUST", UNMAP, "A size of 0 does no harm.", async (t) => {
    await map(t);
    await t.survives(dmaUnmap(AT, 0n));
  }, RISKY],
  [48, "MAY", UNMAP, "A range that covers several maps takes all of them away.", async (t) => {
    await map(t, AT, PAGE);
    await map(t, AT + PAGE, PAGE);
    await t.accepts(dmaUnmap(AT, 2n * PAGE));
    await t.accepts(dmaMap(AT, 2n * PAGE, { fds: [t.memory(Number(SIZE))] }));
    await t.accepts(dmaUnmap(AT, 2n * PAGE));
  }],
  [49, "MUST", UNMAP, "A descriptor that comes with it does no harm.", async (t) => {
    const memory = t.memory(Number(SIZE));
    await t.accepts(dmaMap(AT, SIZE, { fds: [memory] }));
    await t.survives({ ...dmaUnmap(AT, SIZE), fds: [memory] });
  }],
  [50, "MUST", UNMAP, "The descriptor of a map is closed with it.", async (t) => {
    await t.inStep();
    const before = t.serverFds();
    for (let i = 0; i < 8; i++) {
      await t.accepts(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
      await t.accepts(dmaUnmap(AT, SIZE));
    }
    await t.noFdsLeft(before);
  }],
  [51, "MUST", UNMAP, "The descriptor of a refused map is closed.", async (t) => {
    await t.inStep();
    const before = t.serverFds();
    for (let i = 0; i < 8; i++) {
      await t.refuses(dmaMap(AT, SIZE, { argsz: 3, fds: [t.memory(Number(SIZE))] }));
    }
    await t.noFdsLeft(before);
  }],
  [52, "SHOULD", UNMAP, "Memory that was shared is let go of when it is unmapped.", async (t) => {
    const before = t.serverMappings();
    await t.accepts(dmaMap(AT, SIZE, { fds: [t.memory(Number(SIZE))] }));
    await t.accepts(dmaUnmap(AT, SIZE));
    await t.noMappingsLeft(before);
  }],
  [53, "SHOULD", UNMAP, "Flags that do not exist are refused.", async (t) => {
    await map(t);
    await t.refuses(dmaUnmap(AT, SIZE, 0x100));
    await t.inStep();
  }],
  [54, "MUST", UNMAP, "To unmap all is refused, or takes each map away.", async (t) => {
    await map(t, AT, PAGE);
    await map(t, AT + SIZE, PAGE);
    const { flags } = await t.ask(dmaUnmap(0n, 0n, UNMAP_ALL));
    if ((flags & MessageFlags.ERROR) !== 0) return;
    await map(t, AT, 2n * SIZE);
  }],
  [55, "SHOULD", UNMAP, "To ask for a dirty bitmap is refused, or brings one.", async (t) => {
    await map(t);
    const reply = await t.ask(dmaUnmap(AT, SIZE, WITH_BITMAP, 4096));
    const isRefused = (reply.flags & MessageFlags.ERROR) !== 0;
    t.expectRefusal(isRefused || reply.payload.length > 24, "an error reply, or a bitmap", reply);
  }],
];

/** The checks of memory of the client. */
export const dma: CheckGroup = group("dma", "Memory of the client", ROWS.map(withDma));

/** Maps that are tried at most, where a limit is looked for. */
const MOST_MAPS = 64;

/** Maps until one is refused; all are unmapped afterwards. */
async function fill(t: Trial): Promise<bigint[]> {
  const maps: bigint[] = [];
  while (maps.length < MOST_MAPS) {
    const address = AT + BigInt(maps.length) * SIZE;
    const reply = await t.ask(dmaMap(address, PAGE, { fds: [t.memory(4096)] }));
    if ((reply.flags & 0x20) !== 0) break;
    maps.push(address);
    t.atEnd(async () => void await t.ask(dmaUnmap(address, PAGE)));
  }
  return maps;
}
