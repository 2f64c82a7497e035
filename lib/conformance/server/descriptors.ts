/** Checks of file descriptors beside messages. @module */

import { OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import {
  type Ask,
  deviceInfo,
  dmaMap,
  dmaUnmap,
  irqInfo,
  read,
  regionInfo,
  setIrqs,
} from "../requests.ts";
import type { Trial } from "../trial.ts";
import { unlessAnyMap } from "./dma.ts";

const SECTION = "Header";
const SOCKETS = "Connection Initiation";
const RISKY = { isDestructive: true, mayEnd: true } as const;
/** SET_IRQS: eventfds to trigger. */
const EVENTS = 0x24;
/** The most descriptors that Linux passes with one message. */
const MOST = 253;
const O_RDONLY = 0;

/** Requests with which no descriptor belongs. */
const WITHOUT: readonly (readonly [name: string, ask: (t: Trial) => Ask])[] = [
  ["DEVICE_GET_INFO", () => deviceInfo()],
  ["DEVICE_GET_REGION_INFO", () => regionInfo(0)],
  ["DEVICE_GET_IRQ_INFO", () => irqInfo(0)],
  ["REGION_READ", (t) => read(t.readable().index, 0, 4)],
  ["DMA_UNMAP", () => dmaUnmap(0x7000_0000n, 4096n)],
  ["an unknown command", () => ({ command: 0x6666 })],
];

/** Things that are no eventfd, as descriptors for an interrupt. */
const WRONG: readonly (readonly [name: string, make: (t: Trial) => OwnedFd])[] = [
  ["A folder", (t) => t.keep(OwnedFd.open("/", O_RDONLY))],
  ["A file of memory", (t) => t.memory(4096)],
  ["The device /dev/null", (t) => t.keep(OwnedFd.open("/dev/null"))],
  ["The device /dev/zero", (t) => t.keep(OwnedFd.open("/dev/zero"))],
];

/** Expects the server to hold on to none of the descriptors that a request brings, many times. */
async function leaksNothing(t: Trial, ask: () => Ask): Promise<void> {
  await t.inStep();
  const before = t.serverFds();
  for (let i = 0; i < 8; i++) await t.ask(ask());
  await t.noFdsLeft(before);
}

/** The checks of descriptors. */
export const descriptors: CheckGroup = group("descriptors", "Descriptors", [
  ...WITHOUT.map(([name, ask], i): CheckRow => [
    1 + i,
    "SHOULD",
    SECTION,
    `A descriptor with ${name} is answered, and not kept.`,
    async (t) => {
      const event = t.event();
      await leaksNothing(t, () => ({ ...ask(t), fds: [event.handle] }));
    },
  ]),
  [7, "MUST", SECTION, "As many descriptors as Linux passes at once stop no server.", async (t) => {
    const event = t.event();
    const fds = Array.from({ length: MOST }, () => event.handle);
    await t.refusesOrAccepts({ ...deviceInfo(), fds, isBeyond: true });
  }, RISKY],
  [8, "SHOULD", SECTION, "Too many descriptors are closed.", async (t) => {
    await t.inStep();
    const before = t.serverFds();
    const event = t.event();
    const fds = Array.from({ length: MOST }, () => event.handle);
    await t.refusesOrAccepts({ ...deviceInfo(), fds, isBeyond: true });
    await t.noFdsLeft(before);
  }, RISKY],
  [
    9,
    "MUST",
    SECTION,
    "A descriptor with a request in pieces arrives with its first byte.",
    async (t) => {
      const irq = t.irq(1);
      const event = t.event();
      await t.accepts(setIrqs(irq.index, EVENTS, 0, 1, undefined, [event.handle]));
      await t.ask(setIrqs(irq.index, 0x21, 0, 0));
    },
  ],
  ...WRONG.map(([name, make], i): CheckRow => [
    10 + i,
    "SHOULD",
    "VFIO_USER_DEVICE_SET_IRQS",
    `${name} is no eventfd, and refused or harmless.`,
    async (t) => {
      const irq = t.irq(1);
      t.atEnd(async () => void await t.ask(setIrqs(irq.index, 0x21, 0, 0)));
      await t.ask(setIrqs(irq.index, EVENTS, 0, 1, undefined, [make(t)]));
      await t.ask(setIrqs(irq.index, 0x21, 0, 1));
      await t.inStep();
    },
    { isDestructive: true },
  ]),
  [
    14,
    "SHOULD",
    "VFIO_USER_DEVICE_SET_IRQS",
    "A socket as eventfd keeps no connection open.",
    async (t) => {
      const irq = t.irq(1);
      const [ours, theirs] = UnixSocket.pair();
      t.keep(ours);
      const fd = t.keep(new OwnedFd(theirs.release()));
      t.atEnd(async () => void await t.ask(setIrqs(irq.index, 0x21, 0, 0)));
      await t.ask(setIrqs(irq.index, EVENTS, 0, 1, undefined, [fd]));
      await t.inStep();
    },
    { isDestructive: true },
  ],
  [15, "MUST", "VFIO_USER_DMA_MAP", "A pipe is no memory.", async (t) => {
    const [ours, theirs] = UnixSocket.pair();
    t.keep(ours);
    const fd = t.keep(new OwnedFd(theirs.release()));
    await unlessAnyMap(t, async () => {
      await t.refuses(dmaMap(0x7000_0000n, 4096n, { fds: [fd] }));
      await t.inStep();
    });
  }, { isDestructive: true }],
  [
    16,
    "MUST",
    SOCKETS,
    "Descriptors of regions are the client's own: many askings leak none.",
    async (t) => {
      const region = t.facts.regions.find((each) => each !== undefined && each.fds > 0);
      const { index, argsz } = t.needed(region, "no region comes with a descriptor");
      await t.accepts(regionInfo(index, argsz));
      await leaksNothing(t, () => regionInfo(index, argsz));
    },
  ],
]);
