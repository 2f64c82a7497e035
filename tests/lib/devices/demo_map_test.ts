import { assertEquals } from "@std/assert";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { loadRegisterMap } from "../../../lib/registers/load.ts";
import { testFds } from "../../_fds.ts";

Deno.test("the map `demo` has the registers of the demo device, where they are", async () => {
  const map = await loadRegisterMap("demo");
  const offsets = map.registers.map(({ name, offset }) => [name, offset]);
  assertEquals(Object.fromEntries(offsets), DemoRegister);
  assertEquals(map.registers.every(({ width, region }) => width === 4 && region === "bar0"), true);
});

testFds("the map `demo` has the reset values and the accesses of the demo device", async () => {
  const map = await loadRegisterMap("demo");
  const device = new DemoDevice();
  const bar0 = device.regions[0]!;
  const read = (offset: number) => {
    const bytes = new Uint8Array(4);
    bar0.read(offset, bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  };
  try {
    for (const { name, offset, access, reset = 0n } of map.registers) {
      const counts = name === "COUNTER" ? 1n : 0n; // this read
      assertEquals([name, BigInt(read(offset))], [name, reset + counts]);
      bar0.write(offset, new Uint8Array([0, 0, 0, 0xff]));
      if (access === "ro") assertEquals([name, BigInt(read(offset))], [name, reset]);
      if (access === "wo") assertEquals([name, read(offset)], [name, 0]);
      device.reset();
    }
  } finally {
    device.close();
  }
});
