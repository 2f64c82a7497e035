/** States that are restored without a client: as a whole, or not at all. */

import { assertEquals, assertRejects } from "@std/assert";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { restoreState } from "../../../lib/server/state_snapshot.ts";

/** A device that takes any bytes for a state, and tells what was asked of it. */
function deviceOf(resume?: () => never) {
  const asked: string[] = [];
  let state = "first";
  const device = {
    flags: 0,
    regions: [],
    irqs: [],
    reset() {},
    migration: {
      stop: () => void asked.push("stop"),
      start: () => void asked.push("start"),
      stopCopy: () => [],
      resume() {
        resume?.();
        let came = "";
        return {
          write: (data) => void (came += new TextDecoder().decode(data)),
          commit: () => void (state = came),
          abort: () => void asked.push("abort"),
        };
      },
    },
  } as const satisfies ServedDevice;
  return { device, asked, state: () => state };
}

function* endingEarly(): Generator<Uint8Array> {
  yield new TextEncoder().encode("a part");
  throw new Error("the disk failed");
}

Deno.test("restoreState() commits a state that came whole", async () => {
  const { device, asked, state } = deviceOf();
  await restoreState(device, [new TextEncoder().encode("sec"), new TextEncoder().encode("ond")]);
  assertEquals([state(), asked], ["second", ["stop", "start"]]);
});

Deno.test("restoreState() keeps the state whose successor ends early", async () => {
  const { device, asked, state } = deviceOf();
  await assertRejects(() => restoreState(device, endingEarly()), Error, "the disk failed");
  assertEquals([state(), asked], ["first", ["stop", "abort", "start"]]);
  await restoreState(device, [new TextEncoder().encode("second")]);
  assertEquals(state(), "second");
});

Deno.test("restoreState() has a device go on that takes no state", async () => {
  const { device, asked, state } = deviceOf(() => {
    throw new Error("not now");
  });
  await assertRejects(() => restoreState(device, []), Error, "not now");
  assertEquals([state(), asked], ["first", ["stop", "start"]]);
});

Deno.test("restoreState() throws the first error of a device that fails twice", async () => {
  const { device } = deviceOf();
  const stop = () => {
    throw new Error("it does not stop");
  };
  const failing = { ...device, migration: { ...device.migration, stop } };
  await assertRejects(() => restoreState(failing, []), Error, "it does not stop");
});
