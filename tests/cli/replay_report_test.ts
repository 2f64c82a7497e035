/** Reports of `vfu replay`, of differences made by hand. */

import { stripVTControlCharacters } from "node:util";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { DifferenceText } from "../../cli/replay/difference_text.ts";
import { makeReporters } from "../../cli/replay/report.ts";
import { COLOURED, PLAIN } from "../../cli/shared/style.ts";
import { EventText } from "../../cli/show/text.ts";
import type { NewEvent, RecordedEvent } from "../../lib/record/event.ts";
import type { Recording } from "../../lib/record/reader.ts";
import type { Difference } from "../../lib/replay/difference.ts";
import { Script, type ScriptStep } from "../../lib/replay/script.ts";
import { temporaryFile } from "../lib/record/_events.ts";
import { Talk } from "../lib/record/_talk.ts";

async function stepsOf(events: readonly NewEvent[]): Promise<ScriptStep[]> {
  async function* numbered() {
    for (const [index, event] of events.entries()) yield { ...event, index } as RecordedEvent;
  }
  await using script = new Script(numbered());
  const steps = [];
  for (let step = await script.next(); step !== undefined; step = await script.next()) {
    steps.push(step);
  }
  return steps;
}

function bytesOf({ event }: ScriptStep): Uint8Array {
  return event.kind === "message" ? event.bytes : new Uint8Array();
}

/** A difference at a DMA_WRITE of 4096 bytes, whose byte 1000 is another one. */
async function farDifference(): Promise<Difference> {
  const talk = new Talk();
  talk.write(0n, 1);
  for (let i = 0; i < 5; i++) talk.read(0n, i);
  talk.ask("DMA_WRITE", { address: 0x1234_5678_9000n, data: new Uint8Array(4096) });
  const steps = await stepsOf(talk.events);
  const step = steps.at(-1)!;
  const found = bytesOf(step).slice();
  found[16 + 16 + 1000] = 0xaa;
  const text = "the device writes other data";
  return { kind: "dma", step, before: steps.slice(-7, -1), expected: bytesOf(step), found, text };
}

Deno.test("a difference fits 80 columns, with what differs in view", async () => {
  const difference = await farDifference();
  const text = new DifferenceText(new EventText(PLAIN, undefined));
  const lines = text.lines(difference);
  assertEquals(lines[0], "event 12 at 1000.108 ms: the device writes other data");
  // Colours change nothing else.
  const coloured = new DifferenceText(new EventText(COLOURED, undefined)).lines(difference);
  assertEquals(coloured.map(stripVTControlCharacters), lines);
  for (const line of lines) assert(line.length <= 80, line);
  assertEquals(lines.filter((line) => line.startsWith("  before ")).length, 2);
  const [expected, found] = ["  expected ", "  found "].map((start) =>
    lines.find((line) => line.startsWith(start))!
  );
  assertEquals(expected!.indexOf("DMA_WRITE"), found!.indexOf("DMA_WRITE"));
  assertEquals(lines.slice(-2), [
    "  at byte   1000: expected 00 00 00 00 00 00 00 00",
    "            1000: found    aa 00 00 00 00 00 00 00",
  ]);
  // The steps before were shown.
  assertEquals(text.lines(difference).filter((line) => line.startsWith("  before ")), []);
});

Deno.test("JUnit has as many failures as tests, and says how many it does not show", async () => {
  using file = temporaryFile();
  const written: string[] = [];
  const out = { style: PLAIN, columns: 80, write: (text: string) => written.push(text) };
  const reporters = makeReporters({ out, err: out } as never, {
    file: "x.pcapng",
    server: "x",
    socket: undefined,
    maps: [],
    locator: undefined,
    junit: file.path,
  });
  const difference = await farDifference();
  for (const reporter of reporters) {
    reporter.difference(difference);
    const counts = { requests: 1, replies: 1, dma: 1, interrupts: 0, events: 3 };
    await reporter.finish({ ...counts, differences: 4, isPartial: false }, {} as Recording);
  }
  const xml = Deno.readTextFileSync(file.path);
  assertStringIncludes(xml, 'tests="1" failures="1" errors="0"');
  assertStringIncludes(xml, "3 more differences are not in this report");
  assertStringIncludes(written.join(""), ": 4 differences, 3 not shown\n");
});
