import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { EIO } from "../../../ffi/errno.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import type { Region } from "../../../lib/client/region.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import {
  type Fault,
  type FaultEvent,
  type FaultOptions,
  type FaultRule,
  Faults,
} from "../../../lib/server/faults.ts";
import { Server } from "../../../lib/server/server.ts";
import { Command } from "../../../lib/wire/command.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { access, ask, negotiate, TestDevice } from "./_client.ts";
import { PATIENCE_MS, PATIENT, until } from "../../_until.ts";

/** Serves with faults. */
async function withFaults(
  rules: FaultRule[],
  body: (path: string, device: TestDevice, events: FaultEvent[]) => Promise<void>,
  options: Partial<FaultOptions> = {},
): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    const device = new TestDevice();
    const events: FaultEvent[] = [];
    const path = `${folder}/dev.sock`;
    using _server = Server.listen(path, device, {
      faults: { rules, onFault: (event) => events.push(event), ...options },
    });
    await body(path, device, events);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Its region 0, with its info asked for ahead: this thread serves as well. */
async function bar0Of(client: Device): Promise<Region> {
  await client.regionInfo(0);
  return client.region(0);
}

const read: FaultRule = { command: Command.REGION_READ, fault: { kind: "drop" }, when: { nth: 1 } };

/**
 * A first read that has a fault fails with this; a second one, of the next client at the latest,
 * succeeds.
 */
const FATES: [fault: Fault, type: string, message: RegExp][] = [
  [{ kind: "drop" }, "TimeoutError", /^Cannot read 4 bytes .*: the server did not answer within/],
  [{ kind: "error", errno: EIO }, "RemoteError", /the server answered EIO/],
  [{ kind: "garbage" }, "ProtocolError", /^The server (answered|says that it read) /],
  [{ kind: "garbage", size: 0 }, "ProtocolError", /^The server (answered|says that it read) /],
  [{ kind: "truncate" }, "ProtocolError", /^The server (answered|says that it read) /],
  [{ kind: "truncate", size: 0 }, "ProtocolError", /^The server (answered|says that it read) /],
  [
    { kind: "close" },
    "ConnectionError",
    /^Cannot read 4 bytes of bar0 at 0x0: the server closed the connection$/,
  ],
  [
    { kind: "close", size: 3 },
    "ConnectionError",
    /closed the connection in the middle of a message: 3 of a header's 16 bytes came/,
  ],
  [
    { kind: "close", size: 20 },
    "ConnectionError",
    /in the middle of a message: 20 of 36 bytes came/,
  ],
];

for (const [fault, type, message] of FATES) {
  const name = JSON.stringify(fault);
  testFds(
    `faults: our client tells what ${name} is, and the next one is served`,
    () =>
      withFaults([{ ...read, fault }], async (path, device, events) => {
        device.bar0.bytes.set([1, 2, 3, 4]);
        {
          using client = await connect(path, PATIENT);
          const bar0 = await bar0Of(client);
          const timeoutMs = type === "TimeoutError" ? 100 : PATIENCE_MS;
          const error = await assertRejects(() => bar0.read32Async(0, { timeoutMs }));
          assertInstanceOf(error, Error);
          assertEquals(error.name, type);
          assertMatch(error.message, message);
          const goesOn = type === "TimeoutError" || type === "RemoteError";
          assertEquals(client.state, goesOn ? "CONNECTED" : "CLOSED");
          if (goesOn) assertEquals(await bar0.read32Async(0), 0x0403_0201);
        }
        using next = await connect(path, PATIENT);
        assertEquals(await (await bar0Of(next)).read32Async(0), 0x0403_0201);
        assertEquals(events, [{ command: Command.REGION_READ, fault, count: 1 }]);
      }),
  );
}

testFds("faults: delay answers later, and what comes behind waits", () =>
  withFaults([
    { command: Command.REGION_READ, fault: { kind: "delay", ms: 60 } },
    { fault: { kind: "delay", ms: 1 } },
  ], async (path, device) => {
    const order: string[] = [];
    device.bar0.read = () => void order.push("read");
    device.bar0.write = () => void order.push("write");
    using client = await connect(path);
    const bar0 = await bar0Of(client);
    const before = performance.now();
    await Promise.all([bar0.read32Async(0), bar0.write32Async(0, 1), bar0.read32Async(4)]);
    assert(performance.now() - before >= 100);
    assertEquals(order, ["read", "write", "read"]);
  }));

testFds(
  "faults: a client that goes during a delay makes room for the next at once",
  () =>
    withFaults([{ ...read, fault: { kind: "delay", ms: 3_600_000 } }], async (path, device) => {
      let reads = 0;
      device.bar0.read = () => void reads++;
      {
        using client = await connect(path);
        await assertRejects(
          async () => (await bar0Of(client)).read32Async(0, { timeoutMs: 20 }),
          TimeoutError,
        );
      }
      using next = await connect(path, PATIENT);
      await (await bar0Of(next)).read32Async(0);
      assertEquals(reads, 1);
    }),
);

testFds("faults: error does not ask the device, the others do", () =>
  withFaults([
    { command: Command.REGION_WRITE, fault: { kind: "error", errno: EIO }, when: { nth: 1 } },
    { command: Command.REGION_WRITE, fault: { kind: "drop" }, when: { nth: 2 } },
  ], async (path, device) => {
    using client = await connect(path);
    const bar0 = await bar0Of(client);
    await assertRejects(() => bar0.write32Async(0, 0x11111111), RemoteError, "EIO");
    assertEquals(device.bar0.bytes[0], 0);
    await assertRejects(() => bar0.write32Async(0, 0x22222222, { timeoutMs: 50 }), TimeoutError);
    await until(() => device.bar0.bytes[0] === 0x22, "the write");
  }));

testFds("faults: nth, every and all are counted over all clients", () =>
  withFaults([
    { command: Command.REGION_READ, fault: { kind: "error", errno: 3 }, when: { nth: 3 } },
    { command: Command.REGION_READ, fault: { kind: "error", errno: 4 }, when: { every: 4 } },
    { command: Command.DEVICE_RESET, fault: { kind: "error", errno: 5 } },
  ], async (path, _, events) => {
    const errnos: number[] = [];
    for (let client = 0; client < 4; client++) {
      using peer = new RawPeer(UnixSocket.connect(path)!);
      await negotiate(peer);
      for (let i = 0; i < 3; i++) {
        errnos.push((await ask(peer, Command.REGION_READ, access(0n, 0, 4))).errno);
      }
      assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, 5);
    }
    assertEquals(errnos, [0, 0, 3, 4, 0, 0, 0, 4, 0, 0, 0, 4]);
    assertEquals(events.length, 8);
  }));

testFds(
  "faults: a probability does the same again with the same seed, and else with another",
  async () => {
    const rules: FaultRule[] = [{
      command: Command.REGION_READ,
      fault: { kind: "error", errno: EIO },
      when: { probability: 0.25 },
    }];
    const run = async (seed: number) => {
      let fates = "";
      await withFaults(rules, async (path) => {
        using peer = new RawPeer(UnixSocket.connect(path)!);
        await negotiate(peer);
        for (let i = 0; i < 200; i++) {
          fates += (await ask(peer, Command.REGION_READ, access(0n, 0, 4))).errno === 0 ? "." : "x";
        }
      }, { seed });
      return fates;
    };
    const [first, again, other] = [await run(1), await run(1), await run(2)];
    assertEquals(first, again);
    assert(first !== other);
    const count = first.replaceAll(".", "").length;
    assert(count > 20 && count < 80, `${count} of 200 at a quarter`);
  },
);

testFds("faults: in the answer to VERSION they end connect() with a clear error", async () => {
  for (const [fault, type] of FATES) {
    const rule: FaultRule = { command: Command.VERSION, fault, when: { nth: 1 } };
    await withFaults([rule], async (path) => {
      const timeoutMs = type === "TimeoutError" ? 200 : PATIENCE_MS;
      const error = await assertRejects(() => connect(path, { timeoutMs }));
      assertInstanceOf(error, Error);
      assertEquals(error.name, type, error.message);
      using next = await connect(path);
      assertEquals(await (await bar0Of(next)).read32Async(0), 0x0302_0100);
    });
  }
});

testFds("faults: what passes descriptors keeps none of them", () =>
  withFaults([
    { command: Command.DEVICE_GET_REGION_INFO, fault: { kind: "garbage" }, when: { nth: 1 } },
    { command: Command.DMA_MAP, fault: { kind: "drop" }, when: { nth: 1 } },
    { command: Command.DMA_MAP, fault: { kind: "error", errno: EIO }, when: { nth: 2 } },
    { command: Command.DEVICE_SET_IRQS, fault: { kind: "close" } },
  ], async (path) => {
    for (let i = 0; i < 3; i++) {
      using client = await connect(path, PATIENT);
      const timeoutMs = i === 1 ? 100 : PATIENCE_MS;
      const map = () => client.dma.mapAsync({ iova: 0x1000, size: 0x1000, timeoutMs });
      if (i === 0) await assertRejects(() => client.regionInfo(0), ProtocolError);
      else {
        await assertRejects(map, i === 1 ? TimeoutError : undefined);
        const irqs = await client.irqs(1);
        await assertRejects(() => irqs.enable(), ConnectionError);
      }
    }
  }));

testFds("faults: posted writes meet them too, with no answer either way", () =>
  withFaults([
    { command: Command.REGION_WRITE, fault: { kind: "error", errno: EIO }, when: { nth: 2 } },
    { command: Command.REGION_WRITE, fault: { kind: "garbage" }, when: { nth: 3 } },
  ], async (path, device) => {
    using client = await connect(path);
    const bar0 = await bar0Of(client);
    for (let i = 0; i < 4; i++) bar0.write32(i * 4, 0xffff_ffff, { posted: true });
    await bar0.read32Async(0);
    assertEquals([0, 4, 8, 12].map((at) => device.bar0.bytes[at]), [0xff, 4, 0xff, 0xff]);
  }));

const IMPOSSIBLE: [rule: FaultRule, message: RegExp][] = [
  [{ fault: { kind: "delay", ms: 0 } }, /delay is an integer from 1 to 86400000, not 0/],
  [{ fault: { kind: "error", errno: 0 } }, /An errno is an integer from 1 to 4095, not 0/],
  [{ fault: { kind: "garbage", size: 2 ** 30 } }, /The size of garbage is an integer from 0/],
  [{ fault: { kind: "close", size: -1 } }, /The size of close/],
  [{ fault: { kind: "drop" }, when: { nth: 0 } }, /nth .* not 0/],
  [{ fault: { kind: "drop" }, when: { every: 1.5 } }, /every .* not 1.5/],
  [{ fault: { kind: "drop" }, when: { probability: 0 } }, /A probability is above 0/],
  [{ fault: { kind: "drop" }, when: { probability: NaN } }, /A probability is above 0/],
  [{ command: 0x10000, fault: { kind: "drop" } }, /number of a command .* not 65536/],
  [{ command: Command.DMA_READ, fault: { kind: "drop" } }, /DMA_READ can't be: .* server sends/],
];
for (const [rule, message] of IMPOSSIBLE) {
  Deno.test(`new Faults() refuses ${JSON.stringify(rule)}`, () => {
    assertMatch(assertThrows(() => new Faults({ rules: [rule] }), RangeError).message, message);
  });
}

Deno.test("new Faults() refuses a seed that is none", () => {
  assertThrows(() => new Faults({ rules: [], seed: -1 }), RangeError, "not -1");
});
