/** Sessions of recordings that say what no device does: they have to be sessions all the same. */

import fc from "fast-check";
import { assert, assertEquals, assertRejects } from "@std/assert";
import type { RecordedEvent } from "../../../lib/record/event.ts";
import { learnPart } from "../../../lib/replay/part.ts";
import { sessionText } from "../../../lib/replay/session_text.ts";
import { loadSession } from "../../../lib/session/file/load.ts";
import { IrqSetFlags } from "../../../lib/wire/irq.ts";
import { Talk } from "../record/_talk.ts";

const { ACTION_TRIGGER, ACTION_MASK, DATA_EVENTFD, DATA_NONE } = IrqSetFlags;
const EVENTFD = {
  kind: "eventfd",
  size: null,
  seals: [],
  access: "rw",
  identity: null,
  fate: "passed",
} as const;

/** The lines of the session that a talk becomes, once it has been read as one. */
async function stepsOf({ events }: Talk): Promise<string[]> {
  async function* numbered(): AsyncGenerator<RecordedEvent> {
    for (const [index, event] of events.entries()) yield { ...event, index } as RecordedEvent;
  }
  const text = await sessionText(await learnPart(numbered()), { title: "Odd" });
  await loadSession("odd.yaml", { readText: () => Promise.resolve(text) });
  const lines = text.split("\n").filter((line) => /^ {2,}[-#]/.test(line));
  return lines.map((line) => line.trim());
}

function setIrqs(talk: Talk, flags: number, index: number, start: number, count: number): void {
  const value = { argsz: 20, flags, index, start, count, data: new Uint8Array() };
  const id = talk.ask("DEVICE_SET_IRQS", value);
  if ((flags & DATA_EVENTFD) !== 0) Object.assign(talk.events.at(-1)!, { descriptors: [EVENTFD] });
  talk.answer("DEVICE_SET_IRQS", id, undefined);
}

Deno.test("accesses that no region has become comments", async () => {
  const talk = new Talk();
  for (const [region, offset] of [[7, 0xffdn], [0, (1n << 64n) - 2n], [2 ** 31, 0n]] as const) {
    const place = { region, offset };
    talk.answer("REGION_READ", talk.ask("REGION_READ", { ...place, count: 4 }), {
      ...place,
      data: new Uint8Array(4),
    });
    const data = new Uint8Array(4);
    talk.answer("REGION_WRITE", talk.ask("REGION_WRITE", { ...place, data }), {
      ...place,
      count: 4,
    });
  }
  assertEquals(await stepsOf(talk), [
    "# Not expressed: a read of 4 bytes at config+0xffd.",
    "# Not expressed: event 2 writes 4 bytes at config+0xffd.",
    "# Not expressed: a read of 4 bytes at bar0+0xfffffffffffffffe.",
    "# Not expressed: event 6 writes 4 bytes at bar0+0xfffffffffffffffe.",
    "# Not expressed: a read of 4 bytes at region2147483648+0x0.",
    "# Not expressed: event 10 writes 4 bytes at region2147483648+0x0.",
  ]);
});

Deno.test("interrupts have numbers beyond the indexes of PCI, and comments beyond all", async () => {
  const talk = new Talk();
  setIrqs(talk, ACTION_TRIGGER | DATA_EVENTFD, 8, 1, 1);
  setIrqs(talk, ACTION_MASK | DATA_NONE, 8, 0, 4);
  setIrqs(talk, ACTION_MASK | DATA_NONE, 2, 2 ** 32 - 1, 2);
  setIrqs(talk, ACTION_TRIGGER | DATA_EVENTFD, 2 ** 31, 0, 1);
  assertEquals(await stepsOf(talk), [
    "- irq enable: irq8[1]  # event 0",
    "- irq mask: irq8[0-3]  # event 2",
    "# Not expressed: event 4, DEVICE_SET_IRQS with flags 0x9.",
    "# Not expressed: event 6, DEVICE_SET_IRQS with flags 0x24.",
  ]);
});

Deno.test("DMA that wraps around, and errors that have no number, become comments", async () => {
  const talk = new Talk();
  const place = { region: 0, offset: 0n };
  talk.refuse(
    "REGION_WRITE",
    talk.ask("REGION_WRITE", { ...place, data: new Uint8Array(4) }),
    5000,
  );
  const address = (1n << 64n) - 2n;
  const data = new Uint8Array(4).fill(7);
  talk.answer("DMA_READ", talk.ask("DMA_READ", { address, count: 4n }), { address, data });
  talk.answer("DMA_WRITE", talk.ask("DMA_WRITE", { address, data }), { address, count: 4n });
  talk.refuse("REGION_READ", talk.ask("REGION_READ", { ...place, count: 4 }), 5000);
  assertEquals(await stepsOf(talk), [
    "# Not expressed: event 2 accesses memory at 0xfffffffffffffffe and beyond 2^64.",
    "# Not expressed: event 0 writes 4 bytes at bar0+0x0.",
    "# Not expressed: event 4 accesses memory at 0xfffffffffffffffe and beyond 2^64.",
    "# Not expressed: a read at bar0+0x0 fails with errno 5000.",
  ]);
});

Deno.test("memory in more places than a session has buffers keeps its widest gaps", async () => {
  const talk = new Talk();
  for (let i = 0; i < 40; i++) {
    const address = BigInt(i) * 0x2000n + (i < 20 ? 0n : 0x10_0000n);
    const value = { argsz: 32, flags: 3, offset: 0n, address, size: 4096n };
    talk.answer("DMA_MAP", talk.ask("DMA_MAP", value), undefined);
  }
  async function* numbered(): AsyncGenerator<RecordedEvent> {
    for (const [index, event] of talk.events.entries()) yield { ...event, index } as RecordedEvent;
  }
  const text = await sessionText(await learnPart(numbered()), { title: "Many" });
  const buffers = text.match(/^ {2}memory\d+: .*$/gm)!;
  assertEquals(buffers.length, 16);
  assertEquals(buffers.at(-1), "  memory15: { iova: 0x128000, size: 0x27000 }");
});

Deno.test("a signal ends the work on a session", async () => {
  const talk = new Talk();
  talk.write(0n, 1);
  async function* numbered(): AsyncGenerator<RecordedEvent> {
    for (const [index, event] of talk.events.entries()) yield { ...event, index } as RecordedEvent;
  }
  const part = await learnPart(numbered());
  const signal = AbortSignal.abort(new RangeError("stop"));
  await assertRejects(() => learnPart(numbered(), { signal }), RangeError, "stop");
  await assertRejects(() => sessionText(part, { title: "Late", signal }), RangeError, "stop");
});

Deno.test("memory of any length is the same bytes in the session, on lines that one can read", async () => {
  const size = fc.uint8Array({ minLength: 1, maxLength: 5000 });
  await fc.assert(
    fc.asyncProperty(size, fc.boolean(), async (bytes, isWrite) => {
      const data = bytes.map((each) => each | 1); // memory that is all zeros needs no step
      const talk = new Talk();
      const address = 0x1000n;
      talk.write(0n, 1);
      if (isWrite) {
        const id = talk.ask("DMA_WRITE", { address, data });
        talk.answer("DMA_WRITE", id, { address, count: BigInt(data.length) });
      } else {
        const id = talk.ask("DMA_READ", { address, count: BigInt(data.length) });
        talk.answer("DMA_READ", id, { address, data });
      }
      async function* numbered(): AsyncGenerator<RecordedEvent> {
        for (const [index, event] of talk.events.entries()) {
          yield { ...event, index } as RecordedEvent;
        }
      }
      const text = await sessionText(await learnPart(numbered()), { title: "Bytes" });
      assert(text.split("\n").every((line) => line.length <= 80));
      const { steps } = await loadSession("bytes.yaml", { readText: () => Promise.resolve(text) });
      const found = steps.flatMap((step) => {
        const { data } = step as { data?: { bytes?: Uint8Array } };
        const { condition } = step as { condition?: { bytes?: Uint8Array } };
        return [...data?.bytes ?? condition?.bytes ?? []];
      });
      assertEquals(found, [...data.subarray(0, isWrite ? 4096 : undefined)]);
    }),
    { numRuns: 60 },
  );
});
