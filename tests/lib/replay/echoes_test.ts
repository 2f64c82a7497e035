import { assert, assertEquals } from "@std/assert";
import { Echoes, EchoPlaces } from "../../../lib/replay/echoes.ts";

Deno.test("places that are always zero cost little memory, in structures of any size", () => {
  const places = new EchoPlaces();
  const sizes = Array.from({ length: 16 }, (_, i) => 256 - 2 * i);
  const before = Deno.memoryUsage().rss;
  for (const size of sizes) places.addRead(new Uint8Array(size));
  for (let i = 0; i < 4; i++) for (const size of sizes) places.addWrite(new Uint8Array(size));
  assert(Deno.memoryUsage().rss - before < 200e6, "as much as 128 MiB of messages");
  for (const size of sizes) assertEquals(places.ofAnswer(size), []);
});

Deno.test("a number is repeated as long as it is of a command that was not forgotten", () => {
  const places = new EchoPlaces();
  const read = (id: number) => places.addRead(Uint8Array.of(6, 0, id & 0xff, id >> 8));
  const write = (id: number) => places.addWrite(Uint8Array.of(0, 0, id & 0xff, id >> 8));
  for (let id = 1; id <= 300; id++) read(id);
  for (const id of [45, 300, 200]) write(id);
  assertEquals(places.ofAnswer(4), [{ commandSize: 4, from: 2, to: 2 }]);
  assertEquals([...places.ofCommand(4)], [2]);
  const echoes = new Echoes(places);
  echoes.learn(Uint8Array.of(6, 0, 45, 0), Uint8Array.of(6, 0, 0x34, 0x12));
  assertEquals(echoes.apply(Uint8Array.of(0, 0, 45, 0)), Uint8Array.of(0, 0, 0x34, 0x12));
  assertEquals(echoes.apply(Uint8Array.of(0, 0, 200, 0)), undefined);
  write(44); // of a command that 256 others came behind
  assertEquals(places.ofAnswer(4), []);
});
