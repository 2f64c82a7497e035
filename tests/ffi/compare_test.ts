import { assertEquals } from "@std/assert";
import { isSameMemory } from "../../ffi/compare.ts";
import { testFds } from "../_fds.ts";

testFds("isSameMemory() sees every byte, and only those that are meant", () => {
  const a = crypto.getRandomValues(new Uint8Array(10_001));
  const b = a.slice();
  assertEquals(isSameMemory(a, b), true);
  for (const at of [0, 1, 4095, 10_000]) {
    b[at]! ^= 1;
    assertEquals(isSameMemory(a, b), false);
    assertEquals(isSameMemory(a.subarray(at + 1), b.subarray(at + 1)), true);
    assertEquals(isSameMemory(a.subarray(0, at), b.subarray(0, at)), true);
    b[at]! ^= 1;
  }
  assertEquals(isSameMemory(a, a.subarray(1)), false);
  assertEquals(isSameMemory(new Uint8Array(), new Uint8Array()), true);
});
