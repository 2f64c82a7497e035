import { assert, assertEquals, assertThrows } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EINVAL, ENOSPC } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { closeAll, countOpenFds, type OwnedFd } from "../../../ffi/fd.ts";
import { readNow, writeNow } from "../../../ffi/nowait.ts";
import { IRQ_INPUT_BURST, IRQ_INPUTS_PER_MS } from "../../../lib/base/limits.ts";
import type { DeviceIrqs, ServedIrq } from "../../../lib/server/served_device.ts";
import { Command } from "../../../lib/wire/command.ts";
import { IrqFlags, IrqSetFlags, PciIrq, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import { blockingPipe, fillPipe, ODD_FDS, semaphore } from "../../_odd_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { runJson } from "../../ffi/_subprocess.ts";
import { ask, isReadable, type Served, serveNegotiated, sleep, TestDevice } from "./_client.ts";
import { ClientFile, PAGE } from "./_memory.ts";
import { until } from "../../_until.ts";

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } =
  IrqSetFlags;
const { INTX, MSI, MSIX, ERR } = PciIrq;
const VECTORS = 8;
const IRQ_MODULE = new URL("../../../lib/server/client_irqs.ts", import.meta.url).href;

/** INTx that masks itself, no MSI, 8 vectors of MSI-X, ERR, and an index without eventfds. */
class IrqDevice extends TestDevice {
  override readonly irqs: ServedIrq[] = [
    { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE | IrqFlags.AUTOMASKED, count: 1 },
    { flags: IrqFlags.EVENTFD, count: 0 },
    { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: VECTORS },
    { flags: IrqFlags.EVENTFD, count: 1 },
    { flags: 0, count: 1 },
  ];
}

function serveIrqs(): Promise<Served> {
  return serveNegotiated({ device: new IrqDevice() });
}

function irqsOf(served: Served): DeviceIrqs {
  return served.device.bus!.irqs;
}

/** Sends SET_IRQS; what is left out is sane. Gives the errno. */
async function set(
  peer: RawPeer,
  flags: number,
  request: Partial<SetIrqsRequest> = {},
  fds: readonly OwnedFd[] = [],
): Promise<number> {
  const { errno, payload } = await ask(
    peer,
    Command.DEVICE_SET_IRQS,
    SetIrqsRequest.encode({
      argsz: 20,
      flags,
      index: MSIX,
      start: 0,
      count: 1,
      data: new Uint8Array(),
      ...request,
    }),
    fds,
  );
  assertEquals(payload.length, 0);
  return errno;
}

/** Eventfds of a client, given to the first vectors of an index. */
class Events implements Disposable {
  readonly all: EventFd[];

  constructor(count: number) {
    this.all = Array.from({ length: count }, () => new EventFd());
  }

  get fds(): OwnedFd[] {
    return this.all.map((event) => event.handle);
  }

  /** Returns the number of signals of each since the last call. */
  take(): number[] {
    return this.all.map((event) => Number(event.take()));
  }

  [Symbol.dispose](): void {
    for (const event of this.all) event.close();
  }
}

const TRIGGER = DATA_EVENTFD | ACTION_TRIGGER;

async function setUp(served: Served, index: number, events: Events): Promise<void> {
  const count = events.all.length;
  assertEquals(await set(served.peer, TRIGGER, { index, count }, events.fds), 0);
}

testFds("eventfds are signalled when their vectors are raised", async () => {
  using served = await serveIrqs();
  using events = new Events(3);
  const irqs = irqsOf(served);
  assertEquals([irqs.raise(MSIX, 2), irqs.isEnabled(MSIX, 2)], [false, false]);
  assertEquals(await set(served.peer, TRIGGER, { start: 2, count: 3 }, events.fds), 0);
  const enabled = Array.from({ length: VECTORS }, (_, vector) => irqs.isEnabled(MSIX, vector));
  assertEquals(enabled, [false, false, true, true, true, false, false, false]);
  assertEquals([2, 4, 4, 5].map((vector) => irqs.raise(MSIX, vector)), [true, true, true, false]);
  assertEquals(events.take(), [1, 0, 2]);
});

testFds("eventfds replace others, and none at all disables", async () => {
  using served = await serveIrqs();
  using first = new Events(2);
  using second = new Events(1);
  const irqs = irqsOf(served);
  const before = countOpenFds();
  await setUp(served, MSIX, first);
  await setUp(served, MSIX, second);
  assertEquals(countOpenFds(), before + 2);
  irqs.raise(MSIX, 0);
  assertEquals([first.take(), second.take()], [[0, 0], [1]]);
  assertEquals(await set(served.peer, TRIGGER, { start: 0, count: 1 }), 0);
  assertEquals([irqs.isEnabled(MSIX, 0), irqs.isEnabled(MSIX, 1)], [false, true]);
  assertEquals(countOpenFds(), before + 1);
});

testFds(
  "NONE and TRIGGER with start 0 and count 0 tears the index down, and no other",
  async () => {
    using served = await serveIrqs();
    using events = new Events(VECTORS);
    using pin = new Events(1);
    const irqs = irqsOf(served);
    const before = countOpenFds();
    await setUp(served, MSIX, events);
    await setUp(served, INTX, pin);
    assertEquals(await set(served.peer, DATA_NONE | ACTION_TRIGGER, { count: 0 }), 0);
    assertEquals([irqs.isEnabled(MSIX, 0), irqs.isEnabled(INTX, 0)], [false, true]);
    assertEquals(countOpenFds(), before + 1);
    assertEquals(await set(served.peer, DATA_NONE | ACTION_TRIGGER, { count: 0 }), 0);
    // With another start it is about no vector at all.
    assertEquals(await set(served.peer, DATA_NONE | ACTION_TRIGGER, { start: 1, count: 0 }), 0);
  },
);

testFds("what is out of range is refused with EINVAL, and its descriptors are closed", async () => {
  using served = await serveIrqs();
  using events = new Events(4);
  using file = new ClientFile(PAGE);
  const { peer } = served;
  const before = countOpenFds();
  const bools = (length: number) => new Uint8Array(length);
  const cases: [string, number, Partial<SetIrqsRequest>, OwnedFd[]][] = [
    ["unknown index", TRIGGER, { index: 5 }, events.fds.slice(1)],
    ["index without vectors", TRIGGER, { index: MSI }, events.fds.slice(3)],
    [
      "teardown of an index without vectors",
      DATA_NONE | ACTION_TRIGGER,
      { index: MSI, count: 0 },
      [],
    ],
    ["start at the end", DATA_NONE | ACTION_TRIGGER, { start: VECTORS, count: 0 }, []],
    ["beyond the end", TRIGGER, { start: 6, count: 4 }, events.fds],
    ["wrapping to 0", TRIGGER, { start: 1, count: 0xffffffff }, events.fds],
    ["wrapping to 3", DATA_NONE | ACTION_TRIGGER, { start: 4, count: 0xffffffff }, []],
    ["start that wraps", TRIGGER, { start: 0xffffffff, count: 4 }, events.fds],
    ["more descriptors", TRIGGER, { count: 3 }, events.fds],
    ["fewer descriptors", TRIGGER, { count: 5 }, events.fds],
    ["descriptors for no vector", TRIGGER, { count: 0 }, events.fds],
    ["too few bools", DATA_BOOL | ACTION_TRIGGER, { count: 4, data: bools(3) }, []],
    ["two actions", DATA_EVENTFD | ACTION_TRIGGER | ACTION_MASK, { count: 4 }, events.fds],
    ["no action", DATA_EVENTFD, { count: 4 }, events.fds],
    ["two kinds of data", DATA_NONE | DATA_EVENTFD | ACTION_TRIGGER, { count: 4 }, events.fds],
    ["a flag that is not defined", TRIGGER | 0x40, { count: 4 }, events.fds],
    ["the highest flag", 0x8000_0000 + (DATA_NONE | ACTION_TRIGGER), { count: 0 }, []],
    ["MASK of what is not MASKABLE", DATA_NONE | ACTION_MASK, { index: ERR }, []],
    ["UNMASK of it", DATA_BOOL | ACTION_UNMASK, { index: ERR, data: bools(1) }, []],
    ["its mask by eventfd", DATA_EVENTFD | ACTION_MASK, { index: ERR }, events.fds.slice(3)],
    ["eventfds of an index without EVENTFD", TRIGGER, { index: 4 }, events.fds.slice(3)],
    ["argsz too small", TRIGGER, { argsz: 19, count: 4 }, events.fds],
    ["a regular file", TRIGGER, { count: 2 }, [events.fds[0]!, file.fd]],
  ];
  for (const [what, flags, request, fds] of cases) {
    assertEquals([what, await set(peer, flags, request, fds)], [what, EINVAL]);
    assertEquals([what, countOpenFds()], [what, before]);
  }
  assert(!irqsOf(served).isEnabled(MSIX, 0));
  const short = await ask(peer, Command.DEVICE_SET_IRQS, new Uint8Array(19));
  assertEquals(short.errno, EINVAL);
});

testFds("the kernel's ints behind the struct change nothing", async () => {
  using served = await serveIrqs();
  using events = new Events(2);
  const data = new Uint8Array(8).fill(0xff);
  assertEquals(await set(served.peer, TRIGGER, { argsz: 28, count: 2, data }, events.fds), 0);
  irqsOf(served).raise(MSIX, 1);
  assertEquals(events.take(), [0, 1]);
});

testFds("a client fires vectors itself, all of a range or by bools", async () => {
  using served = await serveIrqs();
  using events = new Events(4);
  await setUp(served, MSIX, events);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_TRIGGER, { start: 1, count: 2 }), 0);
  assertEquals(events.take(), [0, 1, 1, 0]);
  const data = new Uint8Array([1, 0, 255, 0]);
  assertEquals(await set(served.peer, DATA_BOOL | ACTION_TRIGGER, { count: 4, data }), 0);
  assertEquals(events.take(), [1, 0, 1, 0]);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_TRIGGER, { count: VECTORS }), 0);
  assertEquals(events.take(), [1, 1, 1, 1]);
});

testFds("a masked vector stays pending and fires once when it is unmasked", async () => {
  using served = await serveIrqs();
  using events = new Events(2);
  const irqs = irqsOf(served);
  const { peer } = served;
  await setUp(served, MSIX, events);
  assertEquals(await set(peer, DATA_NONE | ACTION_MASK, { count: 2 }), 0);
  assertEquals([irqs.raise(MSIX, 0), irqs.raise(MSIX, 0)], [true, true]);
  assertEquals(events.take(), [0, 0]);
  assertEquals(await set(peer, DATA_NONE | ACTION_UNMASK, { count: 2 }), 0);
  assertEquals(events.take(), [1, 0]);
  irqs.raise(MSIX, 0);
  assertEquals(events.take(), [1, 0]);
  await set(peer, DATA_BOOL | ACTION_MASK, { count: 2, data: new Uint8Array([0, 1]) });
  for (const vector of [0, 1]) irqs.raise(MSIX, vector);
  assertEquals(events.take(), [1, 0]);
  await set(peer, DATA_BOOL | ACTION_UNMASK, { count: 2, data: new Uint8Array([1, 0]) });
  assertEquals(events.take(), [0, 0]);
  await set(peer, DATA_BOOL | ACTION_UNMASK, { count: 2, data: new Uint8Array([0, 1]) });
  assertEquals(events.take(), [0, 1]);
});

testFds("a vector that is disabled forgets that it was masked and pending", async () => {
  using served = await serveIrqs();
  using events = new Events(1);
  const irqs = irqsOf(served);
  await setUp(served, MSIX, events);
  await set(served.peer, DATA_NONE | ACTION_MASK);
  irqs.raise(MSIX, 0);
  await set(served.peer, TRIGGER, { count: 1 });
  await setUp(served, MSIX, events);
  assertEquals(events.take(), [0]);
  irqs.raise(MSIX, 0);
  assertEquals(events.take(), [1]);
});

testFds("INTx is masked by firing, and fires again on unmask while its level is up", async () => {
  using served = await serveIrqs();
  using events = new Events(1);
  const irqs = irqsOf(served);
  const unmask = () => set(served.peer, DATA_NONE | ACTION_UNMASK, { index: INTX });
  await setUp(served, INTX, events);
  irqs.setLevel(true);
  irqs.setLevel(true);
  assertEquals(events.take(), [1]);
  await unmask();
  assertEquals(events.take(), [1]);
  irqs.setLevel(false);
  irqs.setLevel(true);
  assertEquals(events.take(), [0]); // masked
  irqs.setLevel(false);
  await unmask();
  assertEquals(events.take(), [0]);
  irqs.setLevel(true);
  assertEquals(events.take(), [1]);
  irqs.setLevel(false);
  assertEquals(irqs.raise(INTX, 0), true); // still masked
  assertEquals(events.take(), [0]);
  await unmask();
  assertEquals(events.take(), [1]); // the one that was pending
  await unmask();
  assertEquals(events.take(), [0]);
});

/** INTx as defined devices have it. */
class PlainPinDevice extends TestDevice {
  override readonly irqs: ServedIrq[] = [
    { flags: IrqFlags.EVENTFD | IrqFlags.MASKABLE, count: 1 },
  ];
}

testFds("INTx without AUTOMASKED fires each time that its level rises", async () => {
  using served = await serveNegotiated({ device: new PlainPinDevice() });
  using events = new Events(1);
  const irqs = irqsOf(served);
  await setUp(served, INTX, events);
  for (let i = 0; i < 3; i++) {
    irqs.setLevel(true);
    irqs.setLevel(false);
  }
  assertEquals(events.take(), [3]); // as clients count them that never unmask
  irqs.setLevel(true);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_UNMASK, { index: INTX }), 0);
  assertEquals(events.take(), [2]); // a VMM's end of interrupt, while the level is up
  irqs.setLevel(false);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_UNMASK, { index: INTX }), 0);
  assertEquals(events.take(), [0]);
});

testFds("vectors that are added one by one take nothing from those before them", async () => {
  using served = await serveIrqs();
  using events = new Events(VECTORS);
  const irqs = irqsOf(served);
  const { peer } = served;
  const raiseAll = (count: number) => {
    for (let vector = 0; vector < count; vector++) irqs.raise(MSIX, vector);
  };
  // As QEMU's client does it without NORESIZE: one, the same without, then one after another.
  await set(peer, DATA_NONE | ACTION_TRIGGER, { count: 0 });
  await set(peer, TRIGGER, { count: 1 }, events.fds.slice(0, 1));
  await set(peer, TRIGGER, { count: 1 });
  for (let vector = 0; vector < VECTORS; vector++) {
    raiseAll(vector);
    const fds = events.fds.slice(vector, vector + 1);
    assertEquals(await set(peer, TRIGGER, { start: vector }, fds), 0);
    raiseAll(vector + 1);
  }
  const expected = Array.from({ length: VECTORS }, (_, i) => 2 * (VECTORS - i) - 1);
  assertEquals(events.take(), expected);
  // And all again at once, as for NORESIZE, but without the teardown: none is lost either.
  for (let round = 0; round < 3; round++) {
    raiseAll(VECTORS);
    assertEquals(await set(peer, TRIGGER, { count: VECTORS }, events.fds), 0);
    raiseAll(VECTORS);
  }
  assertEquals(events.take(), new Array(VECTORS).fill(6));
});

testFds("INTx fires as soon as it is set up if its level is up already", async () => {
  using served = await serveIrqs();
  using events = new Events(1);
  irqsOf(served).setLevel(true);
  await setUp(served, INTX, events);
  assertEquals(events.take(), [1]);
  await set(served.peer, DATA_NONE | ACTION_TRIGGER, { index: INTX, count: 0 });
  await setUp(served, INTX, events);
  assertEquals(events.take(), [1]);
});

testFds("eventfds for mask and unmask do that when the client signals them", async () => {
  using served = await serveIrqs();
  using events = new Events(2);
  using masks = new Events(2);
  using unmasks = new Events(2);
  const irqs = irqsOf(served);
  const { peer } = served;
  await setUp(served, MSIX, events);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_MASK, { count: 2 }, masks.fds), 0);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_UNMASK, { count: 2 }, unmasks.fds), 0);
  masks.all[1]!.signal(5n);
  await until(() => !isReadable(masks.all[1]!.fd), "the mask to be heard");
  for (const vector of [0, 1]) irqs.raise(MSIX, vector);
  assertEquals(events.take(), [1, 0]);
  unmasks.all[1]!.signal();
  await until(() => isReadable(events.all[1]!.fd), "what was pending");
  assertEquals(events.take(), [0, 1]);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_MASK, { count: 2 }), 0); // no more
  masks.all[1]!.signal();
  await sleep(20);
  irqs.raise(MSIX, 1);
  assertEquals(events.take(), [0, 1]);
});

testFds(
  "only eventfds and pipes are taken, and the client's other descriptors are closed",
  async () => {
    using served = await serveIrqs();
    using events = new Events(1);
    const { peer } = served;
    for (const [name, make] of Object.entries(ODD_FDS)) {
      for (const action of [ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK]) {
        using fd = make();
        const before = countOpenFds();
        assertEquals(await set(peer, DATA_EVENTFD | action, {}, [fd]), EINVAL, name);
        // Of several none is taken.
        const both = [events.all[0]!.handle, fd];
        assertEquals(await set(peer, DATA_EVENTFD | action, { count: 2 }, both), EINVAL, name);
        await until(() => countOpenFds() === before);
      }
    }
    assertEquals(irqsOf(served).isEnabled(MSIX, 0), false);
    assertEquals(served.errors, []);
  },
);

testFds("a pipe takes the place of an eventfd: it gets 8 bytes, a 1", async () => {
  using served = await serveIrqs();
  const irqs = irqsOf(served);
  const [end, other] = blockingPipe();
  assertEquals(await set(served.peer, TRIGGER, {}, [end]), EINVAL); // can't be written to
  assertEquals(await set(served.peer, TRIGGER, {}, [other]), 0);
  other.close();
  irqs.raise(MSIX, 0);
  irqs.raise(MSIX, 0);
  const buffer = new IoBuffer(64);
  assertEquals(readNow(end.fd, buffer), 16);
  assertEquals(
    buffer.bytes.slice(0, 16),
    new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
  );
  // A client that never reads is not waited for.
  for (let i = 0; i < 10_000; i++) irqs.raise(MSIX, 0);
  end.close();
  assertEquals([irqs.raise(MSIX, 0), irqs.isEnabled(MSIX, 0)], [false, false]);
});

testFds("a pipe masks and unmasks, until its other end is closed", async () => {
  using served = await serveIrqs();
  using events = new Events(1);
  const irqs = irqsOf(served);
  const { peer } = served;
  await setUp(served, MSIX, events);
  const before = countOpenFds();
  const [maskEnd, mask] = blockingPipe();
  const [unmaskEnd, unmask] = blockingPipe();
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_MASK, {}, [mask]), EINVAL); // can't be read
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_MASK, {}, [maskEnd]), 0);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_UNMASK, {}, [unmaskEnd]), 0);
  closeAll([maskEnd, unmaskEnd]);
  const byte = new IoBuffer(1);
  const isMasked = () => {
    irqs.raise(MSIX, 0);
    return events.take()[0] === 0;
  };
  writeNow(mask.fd, byte);
  await until(isMasked, "the mask");
  writeNow(unmask.fd, byte);
  await until(() => events.take()[0] === 1);
  fillPipe(mask);
  closeAll([mask, unmask]);
  await until(isMasked, "the mask"); // what is left in the pipe is read, and then its end
  await set(peer, DATA_EVENTFD | ACTION_MASK);
  await set(peer, DATA_EVENTFD | ACTION_UNMASK);
  await until(() => countOpenFds() === before);
});

testFds("a descriptor that is always readable is looked at by and by", async () => {
  using served = await serveIrqs();
  using events = new Events(1);
  const irqs = irqsOf(served);
  const { peer } = served;
  await setUp(served, INTX, events);
  irqs.setLevel(true); // so that each unmask fires
  using endless = semaphore();
  const start = performance.now();
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_UNMASK, { index: INTX }, [endless]), 0);
  let looks = 0;
  for (let i = 0; i < 10 || looks <= IRQ_INPUTS_PER_MS; i++) {
    await sleep(20);
    looks += events.take()[0]!;
  }
  const elapsed = performance.now() - start;
  const most = IRQ_INPUT_BURST + elapsed * IRQ_INPUTS_PER_MS + 2;
  assert(looks <= most, `${looks} looks in ${elapsed} ms, ${most} at most`);
  // And it goes on, and can be ended.
  await until(() => events.take()[0]! > 0);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_UNMASK, { index: INTX }), 0);
  events.take();
  await sleep(30);
  assertEquals(events.take(), [0]);
});

testFds("raise() and setLevel() refuse a vector that the device has not", async () => {
  using served = await serveIrqs();
  const irqs = irqsOf(served);
  for (
    const [index, vector] of [[MSIX, VECTORS], [MSIX, -1], [MSIX, 0.5], [MSI, 0], [5, 0]] as const
  ) {
    assertThrows(() => irqs.raise(index, vector), RangeError, `no vector ${vector}`);
    assertEquals(irqs.isEnabled(index, vector), false);
  }
  assertThrows(() => irqs.setLevel(true, MSI), RangeError);
});

testFds("a storm of a million interrupts is counted, and costs no memory", async () => {
  using served = await serveIrqs();
  using events = new Events(2);
  const irqs = irqsOf(served);
  await setUp(served, MSIX, events);
  for (let i = 0; i < 10_000; i++) irqs.raise(MSIX, 0);
  events.take();
  const before = Deno.memoryUsage();
  for (let i = 0; i < 1_000_000; i++) irqs.raise(MSIX, 0);
  const after = Deno.memoryUsage();
  assertEquals(events.take(), [1_000_000, 0]);
  assert(after.rss - before.rss < 32 << 20, `${(after.rss - before.rss) >> 20} MiB more`);
  await set(served.peer, DATA_NONE | ACTION_MASK);
  for (let i = 0; i < 1_000_000; i++) irqs.raise(MSIX, 0);
  await set(served.peer, DATA_NONE | ACTION_UNMASK);
  assertEquals(events.take(), [1, 0]);
});

testFds("when the client goes every eventfd is closed, and nothing fires", async () => {
  const device = new IrqDevice();
  using events = new Events(VECTORS);
  using masks = new Events(1);
  const before = countOpenFds();
  using served = await serveNegotiated({ device });
  await setUp(served, MSIX, events);
  await set(served.peer, DATA_EVENTFD | ACTION_UNMASK, {}, masks.fds);
  const { irqs } = device.bus!;
  served.peer.close();
  await served.closed;
  // The poll's own may be open yet.
  await until(() => countOpenFds() <= before + 1, "the descriptors to be closed");
  assertEquals([irqs.raise(MSIX, 0), irqs.isEnabled(MSIX, 0)], [false, false]);
  assertEquals(events.take(), new Array(VECTORS).fill(0));
});

Deno.test("descriptors for interrupts are bounded, and free again after them", async () => {
  const result = await runJson(
    `
    import { signalDescriptors } from "ffi/budget.ts";
    import { EventFd } from "ffi/event.ts";
    const { ClientIrqs } = await import(${JSON.stringify(IRQ_MODULE)});
    const irqs = new ClientIrqs([{ flags: 1 | 2, count: 1000 }]);
    const request = { argsz: 20, flags: 4 | 32, index: 0, data: new Uint8Array() };
    const set = (start, count) => {
      const fds = Array.from({ length: count }, () => new EventFd().handle);
      try {
        irqs.set({ ...request, start, count }, fds);
        return 0;
      } catch (error) {
        if (fds.some(({ isOpen }) => isOpen)) throw error;
        return error.errno;
      }
    };
    let count = 0;
    while (set(count, 3) === 0) count += 3;
    const full = [count, set(count, 3), set(count, 1), signalDescriptors.used];
    const other = new ClientIrqs([{ flags: 1 | 2, count: 1000 }]);
    other.set({ ...request, start: 0, count: 1 }, [new EventFd().handle]);
    other.close();
    irqs.close();
    console.log(JSON.stringify([...full, signalDescriptors.limit, signalDescriptors.used]));
  `,
    { maxFds: 256 },
  );
  assertEquals(result, [63, ENOSPC, 0, 64, 128, 0]); // the others may have as many
});

testFds("a device hears each change of a mask that the client makes, once", async () => {
  const heard: string[] = [];
  let raise = false;
  const device = Object.assign(new IrqDevice(), {
    masked(index: number, vector: number, isMasked: boolean) {
      heard.push(`${index}.${vector} ${isMasked ? "masked" : "unmasked"}`);
      if (raise) device.bus!.irqs.raise(index, vector);
    },
  });
  using served = await serveNegotiated({ device });
  using events = new Events(2);
  using input = new EventFd();
  const { peer } = served;
  const take = () => heard.splice(0);
  await setUp(served, MSIX, events);
  const bools = new Uint8Array([0, 1]);
  assertEquals(await set(peer, DATA_BOOL | ACTION_MASK, { count: 2, data: bools }), 0);
  assertEquals(await set(peer, DATA_NONE | ACTION_MASK, { count: 2 }), 0);
  assertEquals(take(), ["2.1 masked", "2.0 masked"]);
  assertEquals(await set(peer, DATA_EVENTFD | ACTION_UNMASK, { start: 1 }, [input.handle]), 0);
  input.signal();
  await until(() => heard.length > 0, "the unmask");
  assertEquals(take(), ["2.1 unmasked"]);
  raise = true; // what the hook raises is not held back
  assertEquals(await set(peer, DATA_NONE | ACTION_UNMASK), 0);
  raise = false;
  assertEquals([take(), events.take()], [["2.0 unmasked"], [1, 0]]);
  // A vector that is disabled is masked no more, and the end of the client is no unmask.
  assertEquals(await set(peer, DATA_NONE | ACTION_MASK, { count: 2 }), 0);
  assertEquals(await set(peer, TRIGGER, { start: 1 }), 0);
  assertEquals(take(), ["2.0 masked", "2.1 masked", "2.1 unmasked"]);
  peer.close();
  await served.closed;
  assertEquals([take(), served.errors], [[], []]);
});

testFds("an interrupt that masks itself is not reported, its unmask neither", async () => {
  const heard: boolean[] = [];
  const masked = (_index: number, _vector: number, isMasked: boolean) => void heard.push(isMasked);
  using served = await serveNegotiated({ device: Object.assign(new IrqDevice(), { masked }) });
  using events = new Events(1);
  await setUp(served, INTX, events);
  irqsOf(served).raise(INTX, 0);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_UNMASK, { index: INTX }), 0);
  assertEquals([heard, events.take()], [[], [1]]);
  assertEquals(await set(served.peer, DATA_NONE | ACTION_MASK, { index: INTX }), 0);
  assertEquals(heard, [true]);
});

testFds("what the hook of a mask throws is reported, and the request succeeds", async () => {
  const error = new TypeError("a mistake in the hook");
  const masked = () => {
    throw error;
  };
  using served = await serveNegotiated({ device: Object.assign(new IrqDevice(), { masked }) });
  assertEquals(await set(served.peer, DATA_NONE | ACTION_MASK), 0);
  assertEquals(served.errors, [[error, "masked"]]);
});
