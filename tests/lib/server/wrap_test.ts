import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  connect,
  defineDevice,
  embed,
  registers,
  type ServedDevice,
  wrapDevice,
  wrapRegion,
} from "../../../mod.ts";
import gpio from "../../../examples/gpio.ts";
import { testDevice } from "../../../lib/testing/mod.ts";
import { testFds } from "../../_fds.ts";

testFds("a wrapped device does all that the device does, but for what is replaced", async () => {
  const heard: string[] = [];
  const device = gpio.create();
  const wrapped = wrapDevice(device, {
    regions: device.regions.map((region, index) =>
      region && wrapRegion(region, {
        read(offset, into) {
          heard.push(`read ${index}+${offset}`);
          return region.read(offset, into);
        },
      })
    ),
    reset(reason) {
      heard.push(`reset ${reason}`);
      return device.reset(reason);
    },
  });
  assert(wrapped instanceof Object.getPrototypeOf(device).constructor);
  assertStrictEquals(wrapped.irqs, device.irqs);
  using client = await connect(embed(wrapped).fd);
  const { numRegions } = await client.info();
  for (let index = 0; index < numRegions; index++) await client.regionInfo(index);
  await client.pci.enable();
  heard.splice(0);
  await client.region("bar2").read8Async(0);
  await client.reset();
  assertEquals(heard, ["read 2+0", "reset device"]);
  // It migrates, through the device's own hooks.
  const from = client.migration.save();
  using other = await connect(embed(wrapDevice(gpio.create(), {})).fd);
  await from.pipeTo(other.migration.restore());
});

testFds("a definition whose devices are wrapped serves as one", async () => {
  let writes = 0;
  const counted: typeof gpio = {
    ...gpio,
    create(values, host) {
      const device = gpio.create(values, host);
      const regions = device.regions.map((region) =>
        region && wrapRegion(region, {
          write(offset, data) {
            writes++;
            return region.write(offset, data);
          },
        })
      );
      return wrapDevice(device, { regions });
    },
  };
  await using test = await testDevice(counted);
  const before = writes;
  await test.client.region("bar2").write8Async(0, 1);
  assertEquals(writes, before + 1);
});

Deno.test("a region is wrapped inside a definition, and keeps its names and refusals", () => {
  const own = registers({ registers: [{ name: "A", offset: 0, width: 4, reset: 5 }] });
  const bar0 = wrapRegion(own, { ioFds: [] });
  const device = defineDevice({
    name: "wrapped",
    pci: { vendor: 1, device: 1 },
    create: ({ memory }) => ({
      regions: { bar0, bar1: wrapRegion(memory({ size: 4096 }), {}) },
    }),
  }).create();
  bar0.regs.A.value = 6;
  assertEquals(own.regs.A.value, 6);
  device.reset("device");
  assertEquals(bar0.regs.A.value, 5);
  assertThrows(() => (bar0 as never as { regz: 1 }).regz, TypeError, 'did you mean "regs"?');
  device.close?.();
});

Deno.test("members of a wrapper read and write those of what it wraps", () => {
  class Own implements ServedDevice {
    flags = 0;
    regions = [];
    irqs = [];
    #resets = 0;
    get resets(): number {
      return this.#resets;
    }
    reset(): void {
      this.#resets++;
    }
  }
  const own = new Own();
  const wrapped = wrapDevice(own, {});
  wrapped.reset();
  own.flags = 3;
  assertEquals([wrapped.resets, own.resets, wrapped.flags], [1, 1, 3]);
  wrapped.flags = 1;
  assertEquals(own.flags, 1);
  const replaced = wrapDevice(wrapped, { reset: () => {} });
  replaced.reset();
  assertEquals(own.resets, 1);
});
