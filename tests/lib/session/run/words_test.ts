/**
 * Each word of sessions does a step on a device. A word without a sample here does not compile.
 */

import { assertEquals } from "@std/assert";
import { InteractiveSession } from "../../../../lib/session/run/interactive.ts";
import type { StepWord } from "../../../../lib/session/model.ts";
import { testFds } from "../../../_fds.ts";
import { onDevice, resultsOf, sessionOf, words } from "../_run.ts";

/** A word in use. */
interface Sample {
  /** The step, as a file has it. */
  readonly step: string;
  /** The method for programs; undefined where a program has other means. */
  readonly method: keyof InteractiveSession | undefined;
}

/** A sample of each word, in an order in which all of them pass on the demo device. */
const SAMPLES: Readonly<Record<StepWord, Sample>> = {
  "pci enable": { step: "pci enable", method: "enablePci" },
  "read": { step: "{ read: bar0.l, into: id }", method: "read" },
  "write": { step: "{ write: bar0+8.l, value: 6 }", method: "write" },
  "modify": { step: "{ modify: bar0+8.l, value: 1, mask: 3 }", method: "modify" },
  "poll": { step: "{ poll: bar0+8.l, equals: 5 }", method: "poll" },
  "expect": { step: "{ expect: bar0+8.l, equals: 5 }", method: "expect" },
  "set": { step: "{ set: x, to: 3 }", method: "set" },
  "dma map": { step: "{ dma map: box, iova: 0x10000, size: 4K }", method: "map" },
  "dma fill": { step: "{ dma fill: box, u8: 1 }", method: "fill" },
  "dma put": { step: "{ dma put: box, text: hi }", method: "put" },
  "dma dump": { step: "{ dma dump: box, file: DUMP }", method: undefined },
  "dma load": { step: "{ dma load: box, file: DUMP }", method: undefined },
  "dma unmap": { step: "{ dma unmap: box }", method: "unmap" },
  "irq enable": { step: '{ irq enable: "msix[1]" }', method: "enableIrqs" },
  "irq trigger": { step: '{ irq trigger: "msix[1]" }', method: "triggerIrqs" },
  "irq wait": { step: '{ irq wait: "msix[1]" }', method: "waitForIrq" },
  "irq expect none": { step: '{ irq expect none: "msix[1]", for: 1ms }', method: "expectNoIrq" },
  "irq mask": { step: '{ irq mask: "msix[1]" }', method: "maskIrqs" },
  "irq unmask": { step: '{ irq unmask: "msix[1]" }', method: "unmaskIrqs" },
  "irq disable": { step: '{ irq disable: "msix[1]" }', method: "disableIrqs" },
  "sleep": { step: "{ sleep: 1ms }", method: undefined },
  "log": { step: '{ log: "${x}" }', method: undefined },
  "repeat": { step: "{ repeat: 2, steps: [{ read: bar0.l }] }", method: undefined },
  "call": { step: "{ call: other.yaml }", method: undefined },
  "reset": { step: "reset", method: "reset" },
};

testFds("each word of sessions is done on a device", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    const steps = Object.values(SAMPLES).map(({ step }) => `  - ${step}\n`).join("");
    const text = `steps:\n${steps}`.replaceAll("DUMP", `${folder}/dump`);
    const session = await sessionOf(text, { "other.yaml": "steps: [{ read: bar0.l }]" });
    const results = await onDevice((device) => resultsOf(session, device));
    assertEquals(results.filter(({ status }) => status !== "passed").map(words), []);
    const done = results.filter(({ number }) => !number.includes("."));
    assertEquals(done.map(({ step }) => step.word), Object.keys(SAMPLES) as StepWord[]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a word that programs need is a method of InteractiveSession", () => {
  for (const { method } of Object.values(SAMPLES)) {
    if (method !== undefined) assertEquals(typeof InteractiveSession.prototype[method], "function");
  }
});
