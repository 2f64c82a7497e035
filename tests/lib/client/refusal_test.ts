import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { RemoteError } from "../../../lib/base/errors.ts";
import { InteractiveSession } from "../../../lib/session/run/interactive.ts";
import { RegionReadRequest } from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { connectScripted } from "../_scripted_server.ts";
import { configWith, connectTo, reads, refusingDevice, type Rule } from "./diagnose/_device.ts";

const ENABLED = { address: 0x8000_0000, command: 2 };
const DISABLED = { address: 0, command: 0 };
const ENABLE =
  "enable the device first (--pci-enable, device.pci.enable(), or pci enable in a session)";

/** The words that follow the refusal of a read or a write of bar0. */
async function reason(
  rule: Rule,
  state: { address: number; command: number },
  [kind, offset, count]: readonly ["read" | "write", number, number],
  { first, errno }: { first?: number; errno?: number } = {},
): Promise<string> {
  const config = configWith(state.address, state.command);
  const { device } = await connectTo(refusingDevice(rule, config, errno));
  try {
    const bar0 = device.region("bar0");
    if (first !== undefined) await bar0.read32Async(first);
    const error = await assertRejects(
      () =>
        kind === "read"
          ? bar0.readAsync(offset, count)
          : bar0.writeAsync(offset, new Uint8Array(count)),
      RemoteError,
    );
    assertEquals(error.access, { kind, region: 0, offset, count });
    return error.message.replace(/^[^;]*(; )?/, "");
  } finally {
    device.close();
  }
}

const never: Rule = () => false;

const CASES: readonly [what: string, expected: string, ...args: Parameters<typeof reason>][] = [
  [
    "registers of 8 bytes only, in a BAR without an address",
    "a read of 8 bytes is answered there: name the width, bar0+0x10.q",
    ({ count }) => count === 8,
    DISABLED,
    ["read", 0x10, 4],
  ],
  [
    "registers of 1 byte only",
    "a read of 1 byte is answered there: name the width, bar0.b",
    ({ count }) => count === 1,
    ENABLED,
    ["read", 0, 4],
  ],
  [
    "many bytes of registers that are 4 bytes wide",
    "reads of 4 bytes are answered there: read 4 at a time, as bar0.l does",
    ({ count }) => count === 4,
    DISABLED,
    ["read", 0, 0x1000],
  ],
  [
    "a region that refuses everything and is switched on",
    "reads of 1, 2, 4 and 8 bytes are refused there: there may be no register to read; " +
    "the BAR has an address, and memory decoding is on",
    never,
    ENABLED,
    ["read", 0, 4],
  ],
  [
    "a region that refuses everything and has no address",
    "reads of 1, 2, 4 and 8 bytes are refused there; " +
    `the BAR has no address yet: if that is why, ${ENABLE}`,
    never,
    DISABLED,
    ["read", 0, 4],
  ],
  [
    "memory that is off",
    "reads of 1, 2 and 4 bytes are refused there; " +
    `memory decoding is off in COMMAND (0x0005): if that is why, ${ENABLE}`,
    never,
    { address: 0x8000_0000, command: 5 },
    ["read", 4, 4],
  ],
  [
    "an I/O BAR that is off",
    "reads of 1, 2, 4 and 8 bytes are refused there; " +
    `I/O decoding is off in COMMAND (0x0002): if that is why, ${ENABLE}`,
    never,
    { address: 0xc001, command: 2 },
    ["read", 0, 4],
  ],
  [
    "a place beyond what a handler takes",
    "reads of 1, 2, 4 and 8 bytes are refused there: there may be no register to read; " +
    "other accesses to bar0 were answered; the BAR has an address, and memory decoding is on",
    ({ offset }) => offset < 0x100,
    ENABLED,
    ["read", 0x100, 4],
    { first: 0 },
  ],
  [
    "a write of the wrong width",
    "the register may take another width only (.b, .w, .l or .q), or not this value; " +
    "the BAR has an address, and memory decoding is on",
    ({ count }) => count === 4,
    ENABLED,
    ["write", 0, 1],
  ],
  [
    "no errno at all",
    "a read of 4 bytes is answered there: name the width, bar0.l",
    ({ count }) => count === 4,
    ENABLED,
    ["read", 0, 1],
    { errno: 34 },
  ],
  ["an errno that says why", "", never, DISABLED, ["read", 0, 4], { errno: 13 }],
];

for (const [what, expected, ...args] of CASES) {
  testFds(`a refusal is looked into: ${what}`, async () => {
    assertEquals(await reason(...args), expected);
  });
}

testFds("a refusal that passes is no matter of the width", async () => {
  let count = 0;
  const said = await reason(() => count++ > 0, DISABLED, ["read", 0, 4]);
  assertEquals(said, "the same read is answered now: try again");
});

testFds("a refusal says that the device is stopped for a migration", async () => {
  const { device } = await connectTo(new DemoDevice());
  await device.migration.setState("STOP_COPY");
  const error = await assertRejects(() => device.region("bar0").write32Async(8, 1), RemoteError);
  assertStringIncludes(error.message, "the device is stopped for a migration (state STOP_COPY)");
  await device.migration.setState("RUNNING");
  device.close();
});

testFds(
  "nothing more is read with explain: false, nor for an error that a step expects",
  async () => {
    const { device, sent } = await connectTo(refusingDevice(never, configWith(0, 0)));
    await assertRejects(
      () => device.region("bar0").read32Async(0, { explain: false }),
      RemoteError,
    );
    assertEquals(reads(sent), 1);
    await using session = new InteractiveSession(device);
    await session.line("read bar0.w expect error EINVAL");
    await session.line("poll bar0.w 1 expect error EINVAL");
    await session.line("read bar0 count 16 expect error EINVAL");
    assertEquals(reads(sent), 4);
    await assertRejects(() => session.line("read bar0.w"), RemoteError, "refused there");
    device.close();
  },
);

testFds("a write that is refused is not looked into by writes or reads of its place", async () => {
  const { device, sent } = await connectTo(refusingDevice(never, configWith(0, 0)));
  await assertRejects(() => device.region("bar0").write32Async(0, 1), RemoteError);
  // COMMAND and the BAR, which is one of 32 bits
  assertEquals([sent.get(Command.REGION_WRITE), reads(sent)], [1, 2]);
  device.close();
});

testFds("a server that ends at a width leaves the refusal, and says that it ended", async () => {
  let count = 0;
  const [device, server] = await connectScripted((peer, request) => {
    if (request.command !== Command.REGION_READ) return false;
    if (count++ === 0) peer.fail(request, 22);
    else server.close();
  });
  await device.regionInfo(7);
  const error = await assertRejects(() => device.region("config").read32Async(0), RemoteError);
  assertStringIncludes(error.message, "answered EINVAL (Invalid argument); to look for the reason");
  assertStringIncludes(error.message, "Cannot read 2 bytes of config at 0x0: the server closed");
  device.close();
  server.close();
});

testFds(
  "a server that announces migration and knows no features is looked into as well",
  async () => {
    const [device, server] = await connectScripted((peer, request) => {
      const { command, payload } = request;
      if (command === Command.VERSION) {
        const capabilities = { migration: { pgsize: 4096 } };
        return peer.reply(request, encodeVersion({ major: 0, minor: 1, capabilities }));
      }
      const isRefused = command === Command.DEVICE_FEATURE ||
        (command === Command.REGION_READ && RegionReadRequest.decode(payload).count === 4);
      return isRefused ? peer.fail(request, 22) : false;
    });
    await device.regionInfo(7);
    const error = await assertRejects(() => device.region("config").read32Async(0), RemoteError);
    assertStringIncludes(error.message, "; a read of 2 bytes is answered there: name the width");
    device.close();
    server.close();
  },
);
