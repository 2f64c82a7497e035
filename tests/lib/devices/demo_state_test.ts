import { assertEquals, assertThrows } from "@std/assert";
import { checkState } from "../../../lib/devices/demo_state.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";

const COPY = { source: 1n, destination: 2n, length: 10, vector: 3, done: 10 };

Deno.test("checkState() takes states of the demo device, and refuses what can't be one", () => {
  for (const good of [{ busyReads: 10, copy: undefined }, { busyReads: 0, copy: COPY }]) {
    assertEquals(checkState(good), good);
  }
  const copies = [
    null,
    {},
    { ...COPY, source: -1n },
    { ...COPY, destination: 1n << 64n },
    { ...COPY, destination: 1 },
    { ...COPY, length: 2 ** 32 },
    { ...COPY, vector: 4 },
    { ...COPY, vector: -1 },
    { ...COPY, done: 11 },
    { ...COPY, done: 0.5 },
  ];
  const states = [undefined, null, 1, {}, { busyReads: 11 }, { busyReads: -1 }, { busyReads: "1" }];
  for (const bad of [...states, ...copies.map((copy) => ({ busyReads: 0, copy }))]) {
    assertThrows(() => checkState(bad), DeviceError, "Cannot restore a state");
  }
});
