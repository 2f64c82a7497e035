import { assertEquals } from "@std/assert";
import { callbacks, cap, defineDevice, memory, overlay, registers } from "../../../mod.ts";
import type { ServedAccess, ServedRegion } from "../../../lib/server/served_device.ts";
import { Unmodelled } from "../../../lib/define/unmodelled.ts";
import { connect } from "../../../lib/client/connect.ts";
import { Server } from "../../../lib/server/server.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";

const MAP = {
  name: "uart",
  registers: [
    { name: "DATA", offset: 0, width: 4 },
    { name: "CTRL", offset: 4, width: 4, reset: 0x100, fields: [{ name: "EN", bits: "1:0" }] },
    { name: "CHANNEL", offset: 0x10, width: 2, count: 2, stride: 4 },
  ],
} as const;

/** Accesses of one region, which `seen` collects. */
function accesses(region: ServedRegion, index = 0) {
  const unmodelled = new Unmodelled();
  const saw = (rest: Pick<ServedAccess, "offset" | "bytes" | "isWrite">) =>
    unmodelled.saw({ index, region, ...rest });
  return {
    unmodelled,
    read: (offset: number, size: number, value = 0) => {
      const bytes = new Uint8Array(size);
      bytes[0] = value;
      saw({ offset, bytes, isWrite: false });
    },
    write: (offset: number, ...bytes: number[]) =>
      saw({ offset, bytes: new Uint8Array(bytes), isWrite: true }),
    /** As offset, size, reads and writes. */
    places: () =>
      unmodelled.report().places.map((
        { offset, size, reads, writes },
      ) => [offset, size, reads, writes]),
  };
}

Deno.test("bytes of no register are told, with their reads and writes", () => {
  const seen = accesses(registers(MAP, { size: 0x40 }));
  seen.read(0, 4);
  seen.read(0x14, 2); // an element of an array
  seen.read(0x20, 4);
  seen.read(0x20, 4);
  seen.write(0x20, 1, 2, 3, 4);
  seen.read(0x20, 1);
  seen.read(0, 16); // two registers, and 8 bytes behind them
  seen.write(0x12, 7, 8, 9, 10); // between two elements, and the next
  assertEquals(seen.places(), [[8, 8, 1, 0], [0x12, 2, 0, 1], [0x20, 4, 2, 1], [0x20, 1, 1, 0]]);
  const written = seen.unmodelled.report().places.map((each) => each.written && [...each.written]);
  assertEquals(written, [undefined, [7, 8], [1, 2, 3, 4], undefined]);
  seen.unmodelled.clear();
  assertEquals(seen.places(), []);
});

Deno.test("reserved bits are told that differ from the reset value", () => {
  const seen = accesses(registers(MAP));
  seen.write(4, 3, 1, 0, 0); // EN, and the bit that is 1 after a reset
  seen.write(5, 1);
  assertEquals(seen.unmodelled.report().reserved, []);
  seen.write(4, 0x83, 1, 0, 0);
  seen.write(6, 0x40);
  seen.write(5, 0); // clears the one that was set
  seen.write(0, 255, 255, 255, 255); // a register without fields
  assertEquals(seen.unmodelled.report().reserved, [
    { region: 0, offset: 4, register: "uart.CTRL", bits: 0x400180n, writes: 3 },
  ]);
});

Deno.test("polls are told that spun until the client gave up, not those that ended well", () => {
  const seen = accesses(registers(MAP, { size: 0x40 }));
  const poll = (offset: number, count: number, value = 0) => {
    for (let i = 0; i < count; i++) seen.read(offset, 4, value);
  };
  poll(0, 5000);
  poll(0, 1, 1); // what it waited for
  poll(4, 999);
  poll(0x10, 2000);
  seen.write(0, 1, 0, 0, 0);
  poll(0x10, 1500);
  poll(0x30, 1000, 9);
  const polls = seen.unmodelled.report().polls.map((
    { offset, register, value, count },
  ) => [offset, register, [...value], count]);
  assertEquals(polls, [
    [0x10, "uart.CHANNEL", [0, 0, 0, 0], 2000],
    [0x30, undefined, [9, 0, 0, 0], 1000],
  ]);
});

Deno.test("memory and callbacks model what they have, overlays what shows through", () => {
  const own = accesses(callbacks({ size: 12, read: () => {} }));
  own.read(8, 8);
  assertEquals(own.places(), [[12, 4, 1, 0]]);
  using below = memory({ size: 0x2000, mappable: false });
  const whole = accesses(below);
  whole.read(0x1ffc, 4);
  assertEquals(whole.places(), []);
  const region = registers(MAP, { size: 0x40 });
  const seen = accesses(overlay(below, [{ offset: 0x100, region }]));
  seen.read(0xfc, 4);
  seen.read(0x100, 4);
  seen.read(0x130, 4); // a gap of the region on top
  seen.read(0x140, 4);
  assertEquals(seen.places(), [[0x130, 4, 1, 0]]);
});

Deno.test("a client that goes everywhere does not take all memory", () => {
  const seen = accesses(registers(MAP, { size: 1 << 20 }));
  for (let i = 0; i < 5000; i++) seen.write(0x1000 + 4 * i, 0, 0, 0, 0);
  const { places, others } = seen.unmodelled.report();
  assertEquals([places.length, others], [4096, 904]);
});

testFds("a server reports the accesses of its client", async () => {
  const definition = defineDevice({
    name: "odd",
    pci: { vendor: 0x1234, device: 1, capabilities: [cap.msix({ vectors: 1, bar: 4 })] },
    create: () => ({
      regions: {
        bar0: registers(MAP, { ioeventfds: ["DATA"] }),
        bar1: callbacks({
          size: 16,
          read: async () => await Promise.resolve(),
          write: async () => await Promise.resolve(),
        }),
      },
    }),
  });
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const heard: string[] = [];
  using server = Server.listen(`${folder}/s.sock`, definition.create(), {
    onAccess: ({ index, offset, bytes, isWrite }) =>
      void heard.push(`${isWrite ? "write" : "read"} ${index} ${offset} ${[...bytes].join()}`),
  });
  using client = await connect(server.path!, PATIENT);
  await client.info();
  for (const index of [0, 1]) await client.regionInfo(index);
  const [bar0, bar1] = [client.region("bar0"), client.region("bar1")];
  await bar0.write32Async(0, 5);
  await bar0.read32Async(0);
  await bar1.write16Async(2, 7);
  await bar1.read16Async(4);
  await bar1.write32Async(0x100, 1).catch(() => {}); // beyond: it was not done
  assertEquals(heard, ["write 0 0 5,0,0,0", "read 0 0 5,0,0,0", "write 1 2 7,0", "read 1 4 0,0"]);
  Deno.removeSync(folder, { recursive: true });
});
