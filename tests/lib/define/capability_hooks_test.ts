import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { type CapabilityHooks, type DeviceContext, RemoteError } from "../../../mod.ts";
import { cap, defineDevice, DeviceError } from "../../../mod.ts";
import { EPERM } from "../../../ffi/errno.ts";
import { testDevice } from "../../../lib/testing/mod.ts";
import { testFds } from "../../_fds.ts";

const WINDOW = cap.vendor([1, 2, 3, 4, 5], { writable: [0, 0, 0xff, 0xff, 0xff] });
const AT = 0x40;

function windowed(open: (capability: DeviceContext["capability"]) => void) {
  return defineDevice({
    name: "windowed",
    pci: { vendor: 0x1234, device: 1, capabilities: [WINDOW] },
    create({ capability }) {
      open(capability);
      return { regions: {} };
    },
  });
}

testFds(
  "capability() hears of accesses to the bytes that are meant, and to no others",
  async () => {
    const heard: string[] = [];
    const definition = windowed((capability) => {
      const bytes = capability(WINDOW, {
        offset: 4,
        size: 2,
        async read() {
          await Promise.resolve();
          heard.push("read");
          bytes[4] = 0x77;
        },
        write() {
          heard.push(`write ${bytes[5]}`);
        },
      });
      assertEquals([...bytes], [0x09, 0, 8, 1, 2, 3, 4, 5]);
    });
    await using test = await testDevice(definition);
    const config = test.client.region("config");
    assertEquals(await config.read32Async(AT), 0x01080009);
    assertEquals(await config.read16Async(AT + 6), 0x0504);
    await config.write16Async(AT + 6, 0xffff);
    assertEquals(heard, []);
    assertEquals(await config.read32Async(AT + 4), 0xffff0377);
    await config.write8Async(AT + 5, 9);
    await config.write8Async(AT + 4, 9); // read-only for the client
    assertEquals(heard, ["read", "write 9", "write 9"]);
    assertEquals(await config.read8Async(AT + 4), 0x77);
    const whole = await test.client.readConfigSpace();
    assertEquals([...whole.subarray(AT, AT + 8)], [0x09, 0, 8, 1, 0x77, 9, 0xff, 0xff]);
  },
);

testFds("a hook of a capability refuses an access, and its bytes are state", async () => {
  const make = (refuses: boolean) =>
    windowed((capability) => {
      const bytes = capability(WINDOW, {
        offset: 3,
        read() {
          if (refuses) throw new DeviceError(EPERM, "not now");
          bytes[3]!++;
        },
      });
    });
  await using refusing = await testDevice(make(true));
  const error = await refusing.client.region("config").read32Async(AT).catch((error) => error);
  assertEquals([error instanceof RemoteError, error.code], [true, "EPERM"]);
  await using from = await testDevice(make(false));
  await using to = await testDevice(make(false));
  assertEquals(await from.client.region("config").read8Async(AT + 3), 2);
  const state = await Array.fromAsync(from.client.migration.save());
  const sink = to.client.migration.restore().getWriter();
  for (const chunk of state) await sink.write(chunk);
  await sink.close();
  assertEquals(await to.client.region("config").read8Async(AT + 3), 3);
});

Deno.test("capability() refuses what the device does not declare, and bytes outside", () => {
  const opening = (declared: typeof WINDOW, hooks?: CapabilityHooks) => () =>
    windowed((capability) => capability(declared, hooks)).create();
  assertThrows(opening(cap.vendor([1])), RangeError, "none of those in pci.capabilities");
  assertThrows(opening(WINDOW, { offset: 7, size: 2 }), RangeError, "it has 8 bytes");
  assertThrows(opening(WINDOW, { offset: 8 }), RangeError, "it has 8 bytes");
  const wrong = assertThrows(opening(WINDOW, { reed() {} } as CapabilityHooks));
  assertMatch(String(wrong), /hooks\.reed: unknown; did you mean "read"\?/);
});
