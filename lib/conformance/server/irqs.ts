/** Checks of DEVICE_SET_IRQS. @module */

import type { EventFd } from "../../../ffi/event.ts";
import { IrqFlags, IrqSetFlags } from "../../wire/irq.ts";
import { Command } from "../../wire/command.ts";
import { type CheckGroup, type CheckRow, group } from "../check.ts";
import type { FoundIrq } from "../facts.ts";
import { limitsOf } from "../limits.ts";
import { pack } from "../pack.ts";
import { setIrqs } from "../requests.ts";
import type { Trial } from "../trial.ts";
import { plural } from "../../text/plural.ts";

const SECTION = "VFIO_USER_DEVICE_SET_IRQS";
const RISKY = { isDestructive: true } as const;
const { DATA_NONE, DATA_BOOL, DATA_EVENTFD } = IrqSetFlags;
const { ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = IrqSetFlags;
const { EVENTFD, MASKABLE, AUTOMASKED } = IrqFlags;

/** Gives eventfds to vectors; they are taken back afterwards. */
async function enable(t: Trial, { index }: FoundIrq, start = 0, count = 1): Promise<EventFd[]> {
  const events = Array.from({ length: count }, () => t.event());
  t.atEnd(async () => void await t.ask(setIrqs(index, DATA_NONE | ACTION_TRIGGER, 0, 0)));
  const fds = events.map(({ handle }) => handle);
  await t.accepts(setIrqs(index, DATA_EVENTFD | ACTION_TRIGGER, start, count, undefined, fds));
  return events;
}

/** Has the server fire a vector, as if the device had. */
async function fire(t: Trial, { index }: FoundIrq, vector = 0): Promise<void> {
  await t.accepts(setIrqs(index, DATA_NONE | ACTION_TRIGGER, vector, 1));
}

async function comes(t: Trial, event: EventFd): Promise<void> {
  await t.until(() => event.take() > 0n, "the eventfd signalled", () => "no signal");
}

/** Expects no signal from what was answered before. */
function isQuiet(t: Trial, event: EventFd): void {
  const count = event.take();
  t.expect(count === 0n, "no signal", `the eventfd signalled, ${plural(count, "time")}`);
}

/** Has the server fire a vector that is masked, and expects the signal once it is unmasked. */
async function fireMasked(t: Trial): Promise<{ readonly irq: FoundIrq; readonly event: EventFd }> {
  const irq = t.irq(EVENTFD | MASKABLE);
  const [event] = await enable(t, irq);
  await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
  await fire(t, irq);
  await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_UNMASK, 0, 1));
  await comes(t, event!);
  return { irq, event: event! };
}

/** Flags that mean nothing, or several things at once. */
const WRONG_FLAGS: readonly (readonly [name: string, flags: number])[] = [
  ["No flag at all", 0],
  ["A form of data without an action", DATA_NONE],
  ["An action without a form of data", ACTION_TRIGGER],
  ["Two forms of data", DATA_NONE | DATA_BOOL | ACTION_TRIGGER],
  ["Two actions", DATA_NONE | ACTION_MASK | ACTION_UNMASK],
  ["A flag that does not exist", DATA_NONE | ACTION_TRIGGER | 0x100],
];

/** Ranges of vectors that no index has. */
const WRONG_RANGES:
  readonly (readonly [name: string, start: (n: number) => number, count: number])[] = [
    ["The first vector that does not exist", (n) => n, 1],
    ["A range that leaves the index", (n) => n - 1, 2],
    ["A start of 2^32 - 1", () => 0xffff_ffff, 1],
    ["A range that wraps around 2^32", () => 0xffff_ffff, 2],
    ["A count of 2^32 - 1", () => 0, 0xffff_ffff],
  ];

/** The checks of interrupts. */
export const irqs: CheckGroup = group("irqs", "Interrupts", [
  [1, "MUST", SECTION, "An eventfd for a vector is taken, and taken away.", async (t) => {
    const irq = t.irq(EVENTFD);
    await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
  }],
  [2, "MUST", SECTION, "The reply has no payload.", async (t) => {
    const irq = t.irq(EVENTFD);
    const reply = await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    t.expect(reply.payload.length === 0, "no payload", reply);
  }],
  [3, "SHOULD", SECTION, "A trigger without data signals the eventfd of its vector.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    await fire(t, irq);
    await comes(t, event!);
  }],
  [4, "SHOULD", SECTION, "A trigger with a boolean that is true signals, too.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_BOOL | ACTION_TRIGGER, 0, 1, new Uint8Array([1])));
    await comes(t, event!);
  }],
  [5, "MUST", SECTION, "A trigger with a boolean that is false signals nothing.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_BOOL | ACTION_TRIGGER, 0, 1, new Uint8Array([0])));
    isQuiet(t, event!);
  }],
  [6, "MUST", SECTION, "A trigger signals its own vector, and no other.", async (t) => {
    const irq = t.irq(EVENTFD, 2);
    const [first, second] = await enable(t, irq, 0, 2);
    await t.ask(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 1, 1));
    await t.inStep();
    isQuiet(t, first!);
    second!.take();
  }],
  [7, "MUST", SECTION, "After a teardown nothing is signalled.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
    isQuiet(t, event!);
  }],
  [8, "MUST", SECTION, "A vector without an eventfd is disabled.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_EVENTFD | ACTION_TRIGGER, 0, 1));
    await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
    isQuiet(t, event!);
  }],
  [9, "MUST", SECTION, "Another eventfd replaces the one before.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [before] = await enable(t, irq);
    const [after] = await enable(t, irq);
    await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
    isQuiet(t, before!);
    after!.take();
  }],
  ...WRONG_FLAGS.map(([name, flags], i): CheckRow => [
    10 + i,
    "SHOULD",
    SECTION,
    `${name} is refused.`,
    async (t) => {
      const data = new Uint8Array((flags & DATA_BOOL) === 0 ? 0 : 1);
      await t.refuses(setIrqs(t.irq().index, flags, 0, 1, data));
      await t.inStep();
    },
  ]),
  ...WRONG_RANGES.map(([name, start, count], i): CheckRow => [
    20 + i,
    "MUST",
    SECTION,
    `${name} is refused.`,
    async (t) => {
      const irq = t.irq();
      const flags = DATA_NONE | ACTION_TRIGGER;
      await t.refuses(setIrqs(irq.index, flags, start(irq.count), count));
      await t.inStep();
    },
    RISKY,
  ]),
  [26, "MUST", SECTION, "An index that does not exist is refused.", async (t) => {
    await t.refuses(setIrqs(t.facts.numIrqs, DATA_NONE | ACTION_TRIGGER, 0, 0));
    await t.refuses(setIrqs(0xffff_ffff, DATA_NONE | ACTION_TRIGGER, 0, 0));
    await t.inStep();
  }],
  [27, "MUST", SECTION, "An argsz below 20 is refused.", async (t) => {
    const { index } = t.irq();
    const payload = pack("u32 u32 u32 u32 u32", 19, DATA_NONE | ACTION_TRIGGER, index, 0, 0);
    await t.refuses({ command: Command.DEVICE_SET_IRQS, payload });
    await t.inStep();
  }],
  [28, "MUST", SECTION, "Fewer booleans than vectors are refused.", async (t) => {
    const irq = t.irq(0, 2);
    const ask = setIrqs(irq.index, DATA_BOOL | ACTION_TRIGGER, 0, 2, new Uint8Array([0]));
    await t.refuses(ask);
    await t.inStep();
  }, RISKY],
  [29, "SHOULD", SECTION, "More eventfds than vectors are refused.", async (t) => {
    const irq = t.irq(EVENTFD);
    const fds = [t.event().handle, t.event().handle];
    t.atEnd(async () => void await t.ask(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0)));
    await t.refuses(setIrqs(irq.index, DATA_EVENTFD | ACTION_TRIGGER, 0, 1, undefined, fds));
    await t.inStep();
  }],
  [30, "SHOULD", SECTION, "Fewer eventfds than vectors, but some, are refused.", async (t) => {
    const irq = t.irq(EVENTFD, 3);
    const fds = [t.event().handle, t.event().handle];
    t.atEnd(async () => void await t.ask(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0)));
    await t.refuses(setIrqs(irq.index, DATA_EVENTFD | ACTION_TRIGGER, 0, 3, undefined, fds));
    await t.inStep();
  }],
  [
    31,
    "MUST",
    SECTION,
    "All vectors of an index are set up at once, up to max_msg_fds.",
    async (t) => {
      const irq = t.irq(EVENTFD);
      const most = Math.max(1, limitsOf(t.facts).fds);
      await enable(t, irq, 0, Math.min(irq.count, most, 64));
    },
  ],
  [32, "MUST", SECTION, "Vectors are set up one after the other.", async (t) => {
    const irq = t.irq(EVENTFD, 2);
    for (let i = 0; i < Math.min(irq.count, 8); i++) await enable(t, irq, i);
  }],
  [33, "MUST", SECTION, "A masked vector signals nothing.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
    await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
    isQuiet(t, event!);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_UNMASK, 0, 1));
  }],
  [34, "SHOULD", SECTION, "What was fired while masked is signalled when unmasked.", async (t) => {
    await fireMasked(t);
  }],
  [35, "MUST", SECTION, "An unmasked vector signals again.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_UNMASK, 0, 1));
    await fire(t, irq);
    await comes(t, event!);
  }],
  [36, "SHOULD", SECTION, "An index that can't be masked refuses to be.", async (t) => {
    const found = t.facts.irqs.find(({ count, flags }) => count > 0 && (flags & MASKABLE) === 0);
    const { index } = t.needed(found, "each index can be masked");
    await t.refuses(setIrqs(index, DATA_NONE | ACTION_MASK, 0, 1));
    await t.inStep();
  }],
  [37, "MUST", SECTION, "An eventfd that masks is answered.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    const fds = [t.event().handle];
    await enable(t, irq);
    await t.survives(setIrqs(irq.index, DATA_EVENTFD | ACTION_MASK, 0, 1, undefined, fds));
  }],
  [38, "MUST", SECTION, "An eventfd that can count no further stops no server.", async (t) => {
    const irq = t.irq(EVENTFD);
    const [event] = await enable(t, irq);
    event!.handle.write(Uint8Array.from(pack("u64", 0xffff_ffff_ffff_fffen)));
    for (let i = 0; i < 3; i++) await t.ask(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
    await t.inStep();
    event!.take();
  }, RISKY],
  [39, "MUST", SECTION, "Eventfds are closed when vectors are torn down.", async (t) => {
    const irq = t.irq(EVENTFD);
    await t.inStep();
    const before = t.serverFds();
    for (let i = 0; i < 8; i++) await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    await t.noFdsLeft(before);
  }],
  [40, "MUST", SECTION, "Eventfds of a refused request are closed.", async (t) => {
    await t.inStep();
    const before = t.serverFds();
    for (let i = 0; i < 8; i++) {
      const fds = [t.event().handle];
      const flags = DATA_EVENTFD | ACTION_TRIGGER;
      await t.refuses(setIrqs(t.facts.numIrqs + 3, flags, 0, 1, undefined, fds));
    }
    await t.noFdsLeft(before);
  }],
  [41, "MUST", SECTION, "A teardown of what was never set up is answered.", async (t) => {
    for (const { index } of t.facts.irqs) {
      await t.survives(setIrqs(index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    }
  }],
  [42, "MUST", SECTION, "A teardown disables the vectors of any index.", async (t) => {
    const found = t.facts.irqs.filter(({ flags, count }) => count > 0 && (flags & EVENTFD) !== 0);
    t.need(found.length > 0, "no IRQ index has vectors");
    for (const irq of found) {
      const [event] = await enable(t, irq);
      await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
      await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
      isQuiet(t, event!);
    }
  }],
  [43, "MUST", SECTION, "A boolean that is false masks nothing.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    const [event] = await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_BOOL | ACTION_MASK, 0, 1, new Uint8Array([0])));
    await fire(t, irq);
    await comes(t, event!);
  }],
  [44, "SHOULD", SECTION, "A vector that is set up anew is not masked.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    await enable(t, irq);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    const [event] = await enable(t, irq);
    await fire(t, irq);
    await comes(t, event!);
  }],
  [45, "MUST", SECTION, "A teardown disables each vector of its index.", async (t) => {
    const irq = t.irq(EVENTFD, 2);
    const last = Math.min(irq.count, 64) - 1;
    const [event] = await enable(t, irq, last);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 0));
    await t.survives(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, last, 1));
    isQuiet(t, event!);
  }],
  [46, "SHOULD", SECTION, "What was fired while masked is signalled once.", async (t) => {
    const { irq, event } = await fireMasked(t);
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_UNMASK, 0, 1));
    isQuiet(t, event);
  }],
  [
    47,
    "MAY",
    SECTION,
    "An index that masks itself signals once until it is unmasked.",
    async (t) => {
      const irq = t.irq(EVENTFD | AUTOMASKED);
      const [event] = await enable(t, irq);
      await fire(t, irq);
      await comes(t, event!);
      await t.ask(setIrqs(irq.index, DATA_NONE | ACTION_TRIGGER, 0, 1));
      isQuiet(t, event!);
      await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_UNMASK, 0, 1));
      await comes(t, event!);
    },
  ],
  [48, "MAY", SECTION, "An eventfd that unmasks does so when it is signalled.", async (t) => {
    const irq = t.irq(EVENTFD | MASKABLE);
    const [event] = await enable(t, irq);
    const [unmask, flags] = [t.event(), DATA_EVENTFD | ACTION_UNMASK];
    await t.accepts(setIrqs(irq.index, flags, 0, 1, undefined, [unmask.handle]));
    await t.accepts(setIrqs(irq.index, DATA_NONE | ACTION_MASK, 0, 1));
    await fire(t, irq);
    isQuiet(t, event!);
    unmask.signal();
    await comes(t, event!);
  }],
]);
