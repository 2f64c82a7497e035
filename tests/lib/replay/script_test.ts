import { assertEquals, assertRejects } from "@std/assert";
import { learnPart } from "../../../lib/replay/part.ts";
import { Script, type ScriptStep } from "../../../lib/replay/script.ts";
import type { NewEvent, RecordedEvent } from "../../../lib/record/event.ts";
import { Talk, u32 } from "../record/_talk.ts";

async function* numbered(events: readonly NewEvent[]): AsyncGenerator<RecordedEvent> {
  for (const [index, event] of events.entries()) yield { ...event, index } as RecordedEvent;
}

/** Writes of a device to the memory of a client, without replies. */
function dma(talk: Talk, connection: number, times: number): void {
  for (let i = 0; i < times; i++) {
    talk.ask("DMA_WRITE", { address: BigInt(i) << 12n, data: u32(i) }, { connection });
  }
}

function read(talk: Talk, connection: number): void {
  const id = talk.ask("REGION_READ", { region: 0, offset: 0n, count: 4 }, { connection });
  talk.answer("REGION_READ", id, { region: 0, offset: 0n, data: u32(0) }, { connection });
}

async function all(script: Script): Promise<ScriptStep[]> {
  const steps: ScriptStep[] = [];
  for (let step = await script.next(); step !== undefined; step = await script.next()) {
    steps.push(step);
  }
  return steps;
}

/** The addresses of the DMA that a script expects, in pages. */
function expected({ expectedDma }: Script): number[] {
  return [...expectedDma].map(({ asked: { payload } }) =>
    payload?.name === "DMA_WRITE" && payload.side === "request"
      ? Number(payload.value.address >> 12n)
      : -1
  );
}

Deno.test("DMA of clients without a part is not kept, wherever it comes", async () => {
  for (const client of [1, "first"] as const) {
    const talk = new Talk();
    dma(talk, 0, 20);
    dma(talk, 1, 20);
    read(talk, 1);
    dma(talk, 0, 20);
    dma(talk, 2, 20);
    dma(talk, 1, 2);
    const script = new Script(numbered(talk.events), { client });
    while (await script.readMore());
    assertEquals(new Set(script.ahead.map(({ event }) => event.connection)), new Set([1]));
    assertEquals(expected(script).slice(-2), [0, 1]);
    assertEquals(expected(script).length, client === 1 ? 22 : 2);
    assertEquals([script.client, script.otherClients.size], [1, 2]);
  }
});

Deno.test("DMA that a play has passed is expected no longer", async () => {
  const talk = new Talk();
  read(talk, 0);
  dma(talk, 0, 3);
  const script = new Script(numbered(talk.events));
  while (await script.readMore());
  for (let i = 0; i < 3; i++) await script.next();
  assertEquals(expected(script), [0, 1, 2]); // the first is the step that is played
  await script.next();
  assertEquals(expected(script), [1, 2]);
  for (const step of script.expectedDma) script.closeDma(step);
  assertEquals(expected(script), []);
  assertEquals((await all(script)).length, 1);
});

Deno.test("a client that is dropped leaves nothing behind, and others stay", async () => {
  const talk = new Talk();
  read(talk, 0);
  for (const connection of [0, 1, 0]) dma(talk, connection, 5);
  read(talk, 1);
  const script = new Script(numbered(talk.events));
  await script.next();
  for (let i = 0; i < 12; i++) await script.readMore();
  script.drop(0);
  assertEquals(expected(script), [0, 1, 2, 3, 4]);
  const steps = await all(script);
  assertEquals(steps.map(({ event }) => event.connection), Array(7).fill(1));
  assertEquals(expected(script), []);
});

Deno.test("events of other clients do not outlast a signal", async () => {
  const controller = new AbortController();
  const talk = new Talk();
  dma(talk, 0, 1);
  async function* endless() {
    for (let i = 0;; i++) {
      if (i === 10) controller.abort(new Error("enough"));
      yield* numbered(talk.events);
    }
  }
  const script = new Script(endless(), { client: 1, signal: controller.signal });
  await assertRejects(() => script.next(), Error, "enough");
});

Deno.test("a part is not bounded by what other clients did", async () => {
  const talk = new Talk();
  read(talk, 1);
  // 160 MiB of the same bytes: more than a part may have.
  const data = new Uint8Array(1 << 20);
  talk.ask("DMA_WRITE", { address: 0n, data }, { connection: 0 });
  const foreign = talk.events.at(-1)!;
  for (let i = 0; i < 160; i++) talk.events.push(foreign);
  dma(talk, 1, 1);
  const part = await learnPart(numbered(talk.events));
  assertEquals([part.otherClients, part.scenes[0]!.effects.length], [1, 1]);
});

Deno.test("a client that is not there is refused with those that are", async () => {
  const talk = new Talk();
  for (let connection = 0; connection < 10; connection++) read(talk, connection);
  await assertRejects(
    () => learnPart(numbered(talk.events), { client: 77 }),
    RangeError,
    "no client 77; name another one: it has 0, 1, 2, 3, 4, 5, 6, 7 and 2 more",
  );
  await assertRejects(
    () => learnPart(numbered([]), { client: 0 }),
    RangeError,
    "it has none at all",
  );
});
