import { assertEquals } from "@std/assert";
import { Relocation } from "../../../lib/replay/relocation.ts";

function u64(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

Deno.test("a page that a driver tells elsewhere is elsewhere, with all that is in it", () => {
  const relocation = new Relocation();
  relocation.add(0x5040n, 64n);
  assertEquals(relocation.learn(u64(7n, 0x5000n), u64(7n, 0x9000n)), true);
  assertEquals(relocation.address(0x5040n), 0x9040n);
  assertEquals(relocation.address(0x6040n), 0x6040n);
});

Deno.test("an access that begins elsewhere in a page is found by its start", () => {
  const relocation = new Relocation();
  relocation.add(0x5010n, 512n);
  assertEquals(relocation.learn(u64(0x5010n), u64(0x9a40n)), true);
  assertEquals(relocation.address(0x5010n), 0x9a40n);
});

Deno.test("numbers that are no addresses of the device are compared", () => {
  const relocation = new Relocation();
  relocation.add(0x5040n, 64n);
  assertEquals(relocation.learn(u64(0x7000n), u64(0x8000n)), false);
  assertEquals(relocation.learn(u64(0x5000n), u64(0n)), false);
  assertEquals(relocation.learn(Uint8Array.of(1, 2, 3), Uint8Array.of(1, 2, 4)), false);
  assertEquals(relocation.learn(Uint8Array.of(1), Uint8Array.of(1, 2)), false);
});

Deno.test("an address that moved and comes back is where it was", () => {
  const relocation = new Relocation();
  relocation.add(0x5000n, 64n);
  relocation.learn(u64(0x5000n), u64(0x9000n));
  relocation.learn(u64(0x5000n), u64(0x5000n));
  assertEquals(relocation.address(0x5020n), 0x5020n);
});
