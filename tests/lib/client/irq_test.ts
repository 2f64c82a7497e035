import { assert, assertEquals, assertLessOrEqual, assertRejects, assertThrows } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { closeAll, countOpenFds } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import { ConnectionError, RemoteError, TimeoutError } from "../../../lib/base/errors.ts";
import type { IrqIndex, VectorRange } from "../../../lib/client/irq.ts";
import { Command } from "../../../lib/wire/command.ts";
import { IrqInfoReply, IrqInfoRequest, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import type { RawMessage, RawPeer } from "../../_raw_peer.ts";
import { outcome, pause, withHand } from "../_by_hand.ts";
import { DELAY_MS, startServer } from "../_server_process.ts";
import { PATIENCE_MS, PATIENT, until } from "../../_until.ts";

const { DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS, DEVICE_RESET, DMA_MAP, DMA_READ } = Command;

const [NONE, BOOL, EVENTFD] = [1, 2, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];
const MSIX = 2;
const F_SETFL = 4;

const server = await startServer();
Deno.test.afterAll(async () => void await server.stop());

/** MSI-X with `count` vectors of a server that is driven by hand. */
function withIrqs(
  body: (irqs: IrqIndex, peer: RawPeer, device: Device) => void | Promise<void>,
  { count = 8, maxMsgFds = 8 } = {},
): Promise<void> {
  return withHand(async ({ device, peer }) => {
    const asking = device.irqs("msix");
    const request = await peer.expect(DEVICE_GET_IRQ_INFO);
    const { index } = IrqInfoRequest.decode(request.payload);
    assertEquals(index, MSIX);
    peer.reply(request, IrqInfoReply.encode({ argsz: 16, flags: 1, index, count }));
    await body(await asking, peer, device);
  }, { maxMsgFds });
}

/** Answers the next SET_IRQS; what it said, and the eventfds that came, which are the caller's. */
async function answerSet(
  peer: RawPeer,
): Promise<[flags: number, start: number, count: number, EventFd[], RawMessage]> {
  const request = await peer.expect(DEVICE_SET_IRQS);
  peer.reply(request);
  const { flags, index, start, count, argsz, data } = SetIrqsRequest.decode(request.payload);
  assertEquals([index, argsz], [MSIX, 20 + data.length]);
  return [flags, start, count, request.fds.map((fd) => new EventFd(fd)), request];
}

/**
 * Enables vectors with the server's consent. Its eventfds by vector, which are closed with `using`.
 */
async function enableByHand(
  irqs: IrqIndex,
  peer: RawPeer,
  range: VectorRange = {},
): Promise<Lines> {
  const lines = new Lines();
  const { start = 0, count = irqs.count - start } = range;
  const enabling = irqs.enable(range);
  for (let done = 0; done < count;) {
    const [, first, many, events] = await answerSet(peer);
    events.forEach((event, i) => lines.add(first + i, event));
    done += many;
  }
  await enabling;
  return lines;
}

/** The server's side of the vectors. */
class Lines implements Disposable {
  readonly #events = new Map<number, EventFd>();

  add(vector: number, event: EventFd): void {
    this.#events.get(vector)?.close();
    this.#events.set(vector, event);
  }

  signal(vector: number, count = 1n): void {
    this.#events.get(vector)!.signal(count);
  }

  [Symbol.dispose](): void {
    for (const event of this.#events.values()) event.close();
  }
}

// ---- What is sent

for (const maxMsgFds of [1, 2, 8]) {
  testFds(
    `enable() sends eventfds in messages of ${maxMsgFds}, each for its vector`,
    () =>
      withIrqs(async (irqs, peer) => {
        const enabling = irqs.enable({ start: 1, count: 5 });
        using lines = new Lines();
        for (let start = 1; start < 6; start += maxMsgFds) {
          const count = Math.min(maxMsgFds, 6 - start);
          const [flags, first, many, events, request] = await answerSet(peer);
          assertEquals([flags, first, many], [EVENTFD | TRIGGER, start, count]);
          assertEquals([events.length, request.payload.length], [count, 20]);
          events.forEach((event, i) => lines.add(start + i, event));
        }
        await enabling;
        assertEquals(irqs.enabled, [1, 2, 3, 4, 5]);
        for (const vector of [3, 1, 5, 2, 4]) {
          lines.signal(vector, BigInt(vector));
          assertEquals(irqs.wait(), { vector, count: BigInt(vector) });
          assertEquals(irqs.total(vector), BigInt(vector));
        }
        lines.signal(4);
        assertThrows(() => irqs.wait(3, { timeoutMs: 0 }), TimeoutError);
        assertEquals(irqs.wait(4), { vector: 4, count: 1n });
      }, { maxMsgFds }),
  );
}

/** Reads the next SET_IRQS, which is not answered: flags, the first vector and how many. */
async function hearSet(peer: RawPeer): Promise<[RawMessage, number[]]> {
  const request = await peer.expect(DEVICE_SET_IRQS);
  closeAll(request.fds);
  const { flags, start, count } = SetIrqsRequest.decode(request.payload);
  return [request, [flags, start, count]];
}

testFds(
  "enable() takes back what the server may have done when the wait is called off or too long",
  () =>
    withIrqs(async (irqs, peer) => {
      using _lines = await enableByHand(irqs, peer, { start: 3, count: 1 });
      const reason = new Error("enough");
      const aborting = new AbortController();
      for (
        const [options, check] of [
          [{ signal: aborting.signal }, (error: unknown) => assertEquals(error, reason)],
          [{ timeoutMs: 5 }, (error: unknown) => assert(error instanceof TimeoutError)],
        ] as const
      ) {
        const enabling = irqs.enable({ start: 2, count: 3 }, options).then(
          () => "enabled",
          (error) => error,
        );
        const [request, set] = await hearSet(peer);
        assertEquals(set, [EVENTFD | TRIGGER, 2, 3]);
        aborting.abort(reason);
        // Vector 3 was enabled before, and stays so.
        for (const vector of [2, 4]) {
          const [request, set] = await hearSet(peer);
          assertEquals(set, [EVENTFD | TRIGGER, vector, 1]);
          peer.reply(request);
        }
        check(await enabling);
        peer.reply(request); // too late
        assertEquals(irqs.enabled, [3]);
      }
    }),
);

testFds(
  "enable() takes back the vectors of messages before the one that is refused",
  () =>
    withIrqs(async (irqs, peer) => {
      const enabling = irqs.enable({ count: 5 });
      enabling.catch(() => {});
      for (const start of [0, 2]) {
        const [request, set] = await hearSet(peer);
        assertEquals(set, [EVENTFD | TRIGGER, start, 2]);
        if (start === 0) peer.reply(request);
        else peer.fail(request, EINVAL);
      }
      const [request, set] = await hearSet(peer);
      assertEquals(set, [EVENTFD | TRIGGER, 0, 2]);
      peer.reply(request);
      await assertRejects(() => enabling, RemoteError, "Cannot set the eventfds");
      assertEquals(irqs.enabled, []);
    }, { maxMsgFds: 2 }),
);

/** Answers the next SET_IRQS, which must be for these vectors. */
async function expectSet(peer: RawPeer, start: number, count: number): Promise<void> {
  const [request, set] = await hearSet(peer);
  assertEquals(set, [EVENTFD | TRIGGER, start, count]);
  peer.reply(request);
}

testFds(
  "enable() called again when the first is called off enables all the same",
  () =>
    withIrqs(async (irqs, peer) => {
      using _lines = await enableByHand(irqs, peer, { start: 1, count: 1 });
      const reason = new Error("enough");
      // At once; and in the middle of taking back, which takes two messages here.
      for (const turns of [0, 20]) {
        const aborting = new AbortController();
        const first = assertRejects(() => irqs.enable({}, { signal: aborting.signal }));
        const [request] = await hearSet(peer); // it is never answered
        aborting.abort(reason);
        for (let i = 0; i < turns; i++) await Promise.resolve();
        const second = irqs.enable();
        await expectSet(peer, 0, 1); // taken back
        await expectSet(peer, 2, 1);
        assertEquals(await first, reason);
        await expectSet(peer, 0, 3); // the last message: the server has what it passed
        await second;
        assertEquals(irqs.enabled, [0, 1, 2]);
        peer.reply(request); // too late
        const disabling = irqs.disable({ start: 0, count: 1 });
        await expectSet(peer, 0, 1);
        await disabling;
        const more = irqs.disable({ start: 2, count: 1 });
        await expectSet(peer, 2, 1);
        await more;
      }
    }, { count: 3 }),
);

testFds("enable() right behind disable() enables", () =>
  withIrqs(async (irqs, peer) => {
    using _lines = await enableByHand(irqs, peer);
    const disabling = irqs.disable({ start: 0, count: 3 });
    const enabling = irqs.enable();
    await expectSet(peer, 0, 3);
    await disabling;
    assertEquals(irqs.enabled.length % 3, 0);
    await expectSet(peer, 0, 3);
    await enabling;
    assertEquals(irqs.enabled, [0, 1, 2]);
  }, { count: 3 }));

testFds(
  "enable() waits for an earlier one within its own limits",
  () =>
    withIrqs(async (irqs, peer) => {
      const first = irqs.enable({ count: 1 }, { timeoutMs: Infinity });
      const [request] = await hearSet(peer);
      await assertRejects(
        () => irqs.enable({ count: 2 }, { timeoutMs: 1 }),
        TimeoutError,
        "Cannot enable vectors of msix: an earlier call did not end within 1 ms",
      );
      const aborting = new AbortController();
      const second = assertRejects(() => irqs.enable({ count: 2 }, { signal: aborting.signal }));
      const reason = new Error("enough");
      aborting.abort(reason);
      assertEquals(await second, reason);
      peer.reply(request); // nothing else was sent
      await first;
      assertEquals(irqs.enabled, [0]);
      const third = irqs.enable({ start: 1, count: 1 });
      await expectSet(peer, 1, 1);
      await third;
      assertEquals(irqs.enabled, [0, 1]);
    }, { count: 3 }),
);

testFds("enable() without a range enables all", () =>
  withIrqs(async (irqs, peer) => {
    using _lines = await enableByHand(irqs, peer);
    assertEquals(irqs.enabled, [0, 1, 2]);
  }, { count: 3 }));

testFds(
  "enable() again passes the same eventfds, and keeps the counts",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer, { count: 2 });
      lines.signal(1, 3n);
      const before = countOpenFds();
      using again = await enableByHand(irqs, peer, { start: 1, count: 2 });
      assertEquals(countOpenFds(), before + 3, "an eventfd for vector 2, and the two that came");
      again.signal(1);
      assertEquals(irqs.wait(1), { vector: 1, count: 4n });
      assertEquals(irqs.enabled, [0, 1, 2]);
    }),
);

testFds(
  "disable(), mask(), unmask(), trigger() and setBool() say what is meant",
  () =>
    withIrqs(async (irqs, peer) => {
      using _lines = await enableByHand(irqs, peer);
      const cases: [
        () => Promise<void>,
        flags: number,
        start: number,
        count: number,
        data: number[],
      ][] = [
        [() => irqs.mask(3), NONE | MASK, 3, 1, []],
        [() => irqs.mask(0, 8), NONE | MASK, 0, 8, []],
        [() => irqs.unmask(7), NONE | UNMASK, 7, 1, []],
        [() => irqs.trigger(2, 3), NONE | TRIGGER, 2, 3, []],
        [() => irqs.setBool("mask", 1, [true, false]), BOOL | MASK, 1, 2, [1, 0]],
        [() => irqs.setBool("unmask", 7, [true]), BOOL | UNMASK, 7, 1, [1]],
        [() => irqs.setBool("trigger", 0, [false, true, true]), BOOL | TRIGGER, 0, 3, [0, 1, 1]],
        [() => irqs.disable({ start: 6 }), EVENTFD | TRIGGER, 6, 2, []],
        [() => irqs.disable({ start: 1, count: 1 }), EVENTFD | TRIGGER, 1, 1, []],
      ];
      for (const [act, flags, start, count, data] of cases) {
        const acting = act();
        const [came, first, many, events, { payload }] = await answerSet(peer);
        await acting;
        assertEquals([came, first, many, events.length], [flags, start, count, 0]);
        assertEquals([...payload.subarray(20)], data);
      }
      assertEquals(irqs.enabled, [0, 2, 3, 4, 5]);
      const disabling = irqs.disable();
      assertEquals((await answerSet(peer)).slice(0, 3), [NONE | TRIGGER, 0, 0]);
      await disabling;
      assertEquals(irqs.enabled, []);
    }),
);

testFds("maskBy() gives the server an eventfd", () =>
  withIrqs(async (irqs, peer) => {
    for (const [action, flag] of [["mask", MASK], ["unmask", UNMASK]] as const) {
      const giving = irqs.maskBy(action, 5);
      const [flags, start, count, events] = await answerSet(peer);
      const ours = await giving;
      assertEquals([flags, start, count, events.length], [EVENTFD | flag, 5, 1, 1]);
      ours.signal();
      assertEquals(events[0]!.take(), 1n);
      for (const event of events) event.close();
    }
    const before = countOpenFds();
    const refused = irqs.maskBy("mask", 0);
    const request = await peer.expect(DEVICE_SET_IRQS);
    closeAll(request.fds);
    peer.fail(request, EINVAL);
    await assertRejects(() => refused, RemoteError);
    assertEquals(countOpenFds(), before, "the eventfd of a refusal is closed");
  }));

testFds(
  "ranges that the device does not have are refused, and nothing is sent",
  () =>
    withIrqs(async (irqs, peer) => {
      const cases: [() => Promise<unknown>, string][] = [
        [() => irqs.enable({ start: 8 }), "Cannot use"],
        [
          () => irqs.enable({ start: 7, count: 2 }),
          "msix[7-8]: the device has msix[0-7]",
        ],
        [() => irqs.enable({ count: 9 }), "msix[0-8]"],
        [() => irqs.enable({ start: -1 }), "-1"],
        [() => irqs.enable({ start: -1, count: 1 }), "msix[-1]"],
        [() => irqs.enable({ count: 0 }), "Cannot use"],
        [() => irqs.enable({ count: -1 }), "Cannot use"],
        [() => irqs.enable({ start: 0.5 }), "0.5"],
        [() => irqs.enable({ start: 2 ** 32, count: 1 }), "4294967296"],
        [() => irqs.enable({ count: NaN }), "NaN"],
        [() => irqs.disable({ start: 8, count: 1 }), "msix[8]"],
        [() => irqs.mask(8), "msix[8]"],
        [() => irqs.mask(-1), "msix[-1]"],
        [() => irqs.unmask(0, 9), "msix[0-8]"],
        [() => irqs.trigger(7, 2), "msix[7-8]"],
        [() => irqs.setBool("mask", 7, [true, true]), "msix[7-8]"],
        [() => irqs.setBool("mask", 0, []), "Cannot use"],
        [() => irqs.maskBy("mask", 8), "msix[8]"],
      ];
      for (const [act, part] of cases) await assertRejects(act, RangeError, part);
      assertThrows(() => irqs.wait(0), RangeError, "msix[0] is not enabled");
      assertThrows(() => irqs.wait(), RangeError, "No vector of msix is enabled");
      assertThrows(() => irqs.total(0), RangeError, "msix[0] is not enabled");
      await assertRejects(() => irqs.waitAsync(9), RangeError, "msix[9] is not enabled");
      using lines = await enableByHand(irqs, peer, { count: 1 });
      lines.signal(0);
      assertEquals(irqs.wait().vector, 0);
    }),
);

testFds("an index without vectors says so", () =>
  withIrqs(async (irqs) => {
    await assertRejects(
      () => irqs.enable(),
      RangeError,
      "Cannot use msix: the device does not have it",
    );
    await assertRejects(() => irqs.trigger(0), RangeError, "the device does not have it");
  }, { count: 0 }));

testFds(
  "what enable() made is closed when the server refuses in the middle",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer, { start: 1, count: 1 });
      await idle();
      const before = countOpenFds();
      const enabling = irqs.enable();
      for (const [, , , events] of [await answerSet(peer), await answerSet(peer)]) {
        for (const event of events) event.close();
      }
      const request = await peer.expect(DEVICE_SET_IRQS);
      closeAll(request.fds);
      peer.fail(request, EINVAL);
      await assertRejects(
        () => enabling,
        RemoteError,
        "Cannot set the eventfds of msix from 4, 2 in number: the server answered EINVAL",
      );
      await idle();
      assertEquals(countOpenFds(), before);
      assertEquals(irqs.enabled, [1], "what was enabled before stays");
      lines.signal(1);
      assertEquals(irqs.wait(), { vector: 1, count: 1n });
    }, { maxMsgFds: 2 }),
);

testFds("a server that takes no descriptors is not sent any", () =>
  withIrqs(async (irqs) => {
    await assertRejects(() => irqs.enable(), RangeError, "takes 0");
    assertEquals(irqs.enabled, []);
  }, { maxMsgFds: 0 }));

// ---- Waiting

testFds(
  "wait() and waitAsync() take what came before, and count it",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer);
      for (const wait of [irqs.wait.bind(irqs), irqs.waitAsync.bind(irqs)]) {
        lines.signal(2, 3n);
        lines.signal(2);
        lines.signal(6);
        assertEquals(await wait(), { vector: 2, count: 4n });
        assertEquals(await wait(6), { vector: 6, count: 1n });
        await assertRejects(
          async () => await wait(undefined, { timeoutMs: 0 }),
          TimeoutError,
          "No interrupt of msix came within 0 ms",
        );
        await assertRejects(
          async () => await wait(2, { timeoutMs: 3 }),
          TimeoutError,
          "No interrupt of msix[2] came within 3 ms",
        );
      }
      assertEquals([irqs.total(2), irqs.total(6), irqs.total(0)], [8n, 2n, 0n]);
    }),
);

testFds("a million signals are a million counts", () =>
  withIrqs(async (irqs, peer) => {
    using lines = await enableByHand(irqs, peer);
    let counted = 0n;
    const countAll = async (signals: number) => {
      for (let i = 0; i < signals; i++) {
        lines.signal(i & 7);
        if ((i & 0xfff) !== 0xfff) continue;
        for (let j = 0; j < 4; j++) counted += irqs.wait(j, { timeoutMs: 0 }).count;
        for (let j = 4; j < 8; j++) counted += (await irqs.waitAsync()).count;
      }
    };
    await countAll(1 << 17);
    const before = Deno.memoryUsage().rss;
    await countAll(1_000_000 - (1 << 17));
    const grown = Deno.memoryUsage().rss - before;
    while (counted < 1_000_000n) counted += irqs.wait(undefined, { timeoutMs: 0 }).count;
    assertEquals(counted, 1_000_000n);
    assertEquals(irqs.enabled.reduce((sum, vector) => sum + irqs.total(vector), 0n), 1_000_000n);
    assertLessOrEqual(grown, 16 << 20);
  }));

testFds(
  "waitAsync() wakes for a signal that comes meanwhile",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer);
      for (const timeoutMs of [PATIENCE_MS, 1e12, Infinity]) {
        const waiting = irqs.waitAsync(undefined, { timeoutMs });
        await pause(3);
        lines.signal(5);
        assertEquals(await waiting, { vector: 5, count: 1n });
      }
      await idle();
    }),
);

testFds(
  "waitAsync() ends with the signal's reason, whatever that is",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer);
      const aborting = new AbortController();
      const waiting = irqs.waitAsync(0, { signal: aborting.signal });
      setTimeout(() => aborting.abort("enough"), 3);
      assertEquals(await waiting.catch((reason) => reason), "enough");
      const late = irqs.waitAsync(0, { signal: aborting.signal });
      assertEquals(await late.catch((reason) => reason), "enough");
      lines.signal(0);
      assertEquals(irqs.wait(0).count, 1n, "nothing was lost to those who gave up");
    }),
);

testFds(
  "of those who wait for one vector one gets its signal, the others the next",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer);
      const got: string[] = [];
      const waits = ["a", "b", "any"].map((name) =>
        irqs.waitAsync(name === "any" ? undefined : 3, PATIENT)
          .then(({ vector, count }) => got.push(`${vector} ${count}`))
      );
      const other = irqs.waitAsync(4, PATIENT);
      await pause(2);
      for (let i = 1; i <= 3; i++) {
        lines.signal(3, 2n);
        await until(() => got.length >= i, "the signal");
        await pause(3);
        assertEquals(got.length, i);
      }
      assertEquals(got, ["3 2", "3 2", "3 2"]);
      await Promise.all(waits);
      lines.signal(4);
      assertEquals(await other, { vector: 4, count: 1n });
      assertEquals(irqs.total(3), 6n);
    }),
);

testFds("total() takes nothing away from one who waits", () =>
  withIrqs(async (irqs, peer) => {
    using lines = await enableByHand(irqs, peer);
    for (let i = 0; i < 20; i++) {
      const waiting = irqs.waitAsync(1, PATIENT);
      await pause(1);
      lines.signal(1);
      assertEquals(irqs.total(1), BigInt(i + 1));
      assertEquals(await waiting, { vector: 1, count: 1n });
    }
  }));

testFds(
  "a vector that is enabled later wakes one who waits for any",
  () =>
    withIrqs(async (irqs, peer) => {
      using _first = await enableByHand(irqs, peer, { count: 1 });
      const waiting = irqs.waitAsync(undefined, PATIENT);
      using lines = await enableByHand(irqs, peer, { start: 4, count: 1 });
      lines.signal(4);
      assertEquals(await waiting, { vector: 4, count: 1n });
    }),
);

testFds(
  "a wait ends when its vectors are disabled or closed, and only then",
  () =>
    withIrqs(async (irqs, peer) => {
      for (const close of [false, true]) {
        using lines = await enableByHand(irqs, peer, { count: 3 });
        const one = irqs.waitAsync(1);
        const any = irqs.waitAsync(undefined, { timeoutMs: Infinity });
        const failed = assertRejects(() => one, RangeError, "Vector 1 of msix was disabled");
        const disabling = irqs.disable({ start: 1, count: 1 });
        await answerSet(peer);
        await disabling;
        await failed;
        lines.signal(2);
        assertEquals(await any, { vector: 2, count: 1n });
        const last = irqs.waitAsync();
        const ended = assertRejects(() => last, RangeError, "of msix was disabled");
        if (close) irqs.close();
        else {
          const disabling = irqs.disable();
          await answerSet(peer);
          await disabling;
        }
        await ended;
        assertEquals(irqs.enabled, []);
      }
    }),
);

testFds(
  "interrupts() gives them as they come, until the signal",
  () =>
    withIrqs(async (irqs, peer) => {
      using lines = await enableByHand(irqs, peer);
      const came: number[] = [];
      const aborting = new AbortController();
      const reason = new Error("enough");
      const listening = (async () => {
        for await (const { vector } of irqs.interrupts({ signal: aborting.signal })) {
          came.push(vector);
        }
      })();
      for (const vector of [7, 0, 3]) {
        lines.signal(vector);
        await until(() => came.at(-1) === vector, "the interrupt");
      }
      aborting.abort(reason);
      assertEquals(await assertRejects(() => listening), reason);
      assertEquals(came, [7, 0, 3]);
      lines.signal(2);
      for await (const { vector, count } of irqs) {
        assertEquals([vector, count], [2, 1n]);
        break;
      }
    }),
);

testFds(
  "the device's accesses are served while waitAsync() waits",
  () =>
    withIrqs(async (irqs, peer, device) => {
      using lines = await enableByHand(irqs, peer);
      const mapping = device.dma.mapAsync({ iova: 0, size: 4096 });
      const request = await peer.expect(DMA_MAP);
      closeAll(request.fds);
      peer.reply(request);
      await mapping;
      assertEquals(device.proxy.serving, false);
      const waiting = irqs.waitAsync(0);
      const read = new Uint8Array(16);
      read[8] = 4;
      peer.command(1, DMA_READ, read);
      assertEquals(outcome(await peer.expect(DMA_READ)), "ok");
      lines.signal(0);
      await waiting;
    }),
);

testFds(
  "a device that answers a request while its interrupt is awaited has both taken",
  () =>
    withIrqs(async (irqs, peer, device) => {
      using lines = await enableByHand(irqs, peer);
      const resetting = device.reset();
      const request = await peer.expect(DEVICE_RESET);
      peer.reply(request);
      lines.signal(0);
      assertEquals(irqs.wait(0).count, 1n);
      await resetting;
    }),
);

testFds(
  "a server that makes the eventfds block does not block us",
  () =>
    withIrqs(async (irqs, peer) => {
      const enabling = irqs.enable({ count: 1 });
      const [, , , events] = await answerSet(peer);
      await enabling;
      using event = events[0]!;
      assertEquals(libc().fcntl(event.fd, F_SETFL, 0), 0);
      assertEquals(irqs.total(0), 0n);
      assertThrows(() => irqs.wait(0, { timeoutMs: 5 }), TimeoutError);
      event.signal(2n);
      assertEquals(await irqs.waitAsync(0), { vector: 0, count: 2n });
    }),
);

// ---- The end of the connection

testFds(
  "waitAsync() ends at once when the server closes, and what came before is still given",
  () =>
    withIrqs(async (irqs, peer, device) => {
      using lines = await enableByHand(irqs, peer);
      const waits = [
        irqs.waitAsync(undefined, { timeoutMs: Infinity }),
        irqs.waitAsync(3, { timeoutMs: Infinity }),
      ];
      const failed = waits.map((each) =>
        assertRejects(() => each, ConnectionError, "closed the connection")
      );
      peer.close();
      await Promise.all(failed);
      assertEquals(device.state, "CLOSED");
      lines.signal(2);
      assertEquals(irqs.wait(), { vector: 2, count: 1n });
      assertThrows(() => irqs.wait(), ConnectionError);
      await assertRejects(() => irqs.waitAsync(0, { timeoutMs: 5 }), ConnectionError);
      await pause(10); // a timer that was left would fire now
    }),
);

testFds("wait() fails at once when the server has closed", () =>
  withIrqs(async (irqs, peer) => {
    using _lines = await enableByHand(irqs, peer);
    peer.close();
    assertThrows(
      () => irqs.wait(0, { timeoutMs: Infinity }),
      ConnectionError,
      "closed the connection",
    );
  }));

testFds("waits end when the device is closed here", () =>
  withIrqs(async (irqs, peer, device) => {
    using _lines = await enableByHand(irqs, peer);
    const waiting = irqs.waitAsync();
    const failed = assertRejects(() => waiting, ConnectionError, "was closed");
    device.close();
    await failed;
    assertThrows(() => irqs.wait(0), RangeError, "not enabled");
    await assertRejects(() => irqs.enable(), ConnectionError);
    await assertRejects(() => irqs.maskBy("mask", 0), ConnectionError);
  }));

// ---- With a server in another process, which acts while this one is blocked

testFds("wait() wakes for a signal that comes meanwhile", async () => {
  using device = await connect(server.path);
  const irqs = await device.irqs("msix");
  await irqs.enable();
  await irqs.trigger(5, 2);
  const first = irqs.wait(undefined, { timeoutMs: Infinity });
  assertEquals(first, { vector: 5, count: 1n });
  assertEquals(irqs.wait(6, PATIENT), { vector: 6, count: 1n });
  assertThrows(() => irqs.wait(6, { timeoutMs: 5 }), TimeoutError);
});

for (const twinSocket of [false, true]) {
  const where = twinSocket ? "the twin socket" : "the same socket";
  testFds(`accesses over ${where} are served while wait() blocks`, async () => {
    using device = await connect(server.path, { twinSocket });
    const irqs = await device.irqs("msix");
    await irqs.enable();
    const map = await device.dma.mapAsync({ iova: 0x1000, size: 0x1000, share: "message" });
    await irqs.trigger(1);
    // The server signals only after its write was answered.
    assertEquals(irqs.wait(1, PATIENT), { vector: 1, count: 1n });
    assertEquals(new BigUint64Array(map.bytes.buffer)[0], 0x1122334455667788n);
    await irqs.trigger(2);
    assertEquals(await irqs.waitAsync(undefined, PATIENT), { vector: 2, count: 1n });
    await map.unmapAsync();
  });
}

// ---- Servers that are killed

interface Victim {
  device: Device;
  irqs: IrqIndex;
}

function countSockets(): number {
  let count = 0;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:")) count++;
    } catch { /* the folder's own descriptor, closed again */ }
  }
  return count;
}

const DEATHS: [stage: string, (victim: Victim) => void | Promise<unknown>][] = [
  ["a synchronous request waits", ({ device }) => void device.proxy.requestSync(DEVICE_RESET)],
  ["an asynchronous request waits", ({ device }) => device.reset()],
  ["wait() blocks", ({ device, irqs }) => {
    device.proxy.post(DEVICE_RESET);
    device.proxy.flushSync();
    irqs.wait(0, { timeoutMs: Infinity });
  }],
  ["waitAsync() waits", ({ device, irqs }) => {
    device.proxy.post(DEVICE_RESET);
    return irqs.waitAsync(0, { timeoutMs: Infinity });
  }],
  ["nothing is awaited", async ({ device }) => {
    device.proxy.post(DEVICE_RESET);
    device.proxy.flushSync();
    await pause(2 * DELAY_MS);
    await device.irqInfo(1, { timeoutMs: Infinity });
  }],
];

for (const [stage, act] of DEATHS) {
  for (const twinSocket of [false, true]) {
    testFds(
      `a server that is killed while ${stage} is told of at once${
        twinSocket ? ", with a twin" : ""
      }`,
      async () => {
        const victim = await startServer();
        const before = countSockets();
        using device = await connect(victim.path, { twinSocket });
        const irqs = await device.irqs("msix");
        await irqs.enable({ count: 1 });
        await device.dma.mapAsync({ iova: 0, size: 0x1000 });
        await assertRejects(async () => await act({ device, irqs }), ConnectionError);
        assertEquals(device.state, "CLOSED");
        assertEquals(countSockets(), before, "no socket stays open, even before close");
        await victim.stop();
      },
    );
  }
}
