import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { EINVAL, EIO } from "../../../ffi/errno.ts";
import { DeviceError } from "../../../lib/server/served_device.ts";
import { migrationPath } from "../../../lib/server/migration.ts";
import { Command, commandName } from "../../../lib/wire/command.ts";
import {
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  deviceStateName,
  Feature,
  FeatureFlags,
} from "../../../lib/wire/feature.ts";
import { decodeVersion, encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { access, ask, negotiate, serve, serveNegotiated, words } from "./_client.ts";
import { feature, getState, MigratingDevice, readData, setState, writeData } from "./_migration.ts";

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P } =
  DeviceState;
const { GET, SET, PROBE } = FeatureFlags;

const STATES = [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P];

/**
 * The states from one to another, as the kernel's documentation of `vfio_mig_get_next_state` has
 * them, without P2P; where there is none the way is an error.
 */
const WAYS: readonly (readonly [from: number, to: number, ...way: number[]])[] = [
  [STOP, RUNNING, RUNNING],
  [STOP, STOP_COPY, STOP_COPY],
  [STOP, RESUMING, RESUMING],
  [STOP, PRE_COPY, RUNNING, PRE_COPY],
  [RUNNING, STOP, STOP],
  [RUNNING, STOP_COPY, STOP, STOP_COPY],
  [RUNNING, RESUMING, STOP, RESUMING],
  [RUNNING, PRE_COPY, PRE_COPY],
  [STOP_COPY, STOP, STOP],
  [STOP_COPY, RUNNING, STOP, RUNNING],
  [STOP_COPY, RESUMING, STOP, RESUMING],
  [RESUMING, STOP, STOP],
  [RESUMING, RUNNING, STOP, RUNNING],
  [RESUMING, STOP_COPY, STOP, STOP_COPY],
  [RESUMING, PRE_COPY, STOP, RUNNING, PRE_COPY],
  [PRE_COPY, RUNNING, RUNNING],
  [PRE_COPY, STOP, RUNNING, STOP],
  [PRE_COPY, STOP_COPY, STOP_COPY],
  [PRE_COPY, RESUMING, RUNNING, STOP, RESUMING],
];

/** The hooks of the device that the server calls on the way. */
const HOOKS: Readonly<Record<string, string>> = {
  [`${RUNNING}>${STOP}`]: "stop",
  [`${STOP}>${RUNNING}`]: "start",
  [`${STOP}>${STOP_COPY}`]: "stopCopy(false)",
  [`${STOP_COPY}>${STOP}`]: "",
  [`${STOP}>${RESUMING}`]: "resume",
  [`${RESUMING}>${STOP}`]: "abort",
  [`${RUNNING}>${PRE_COPY}`]: "preCopy",
  [`${PRE_COPY}>${RUNNING}`]: "",
  [`${PRE_COPY}>${STOP_COPY}`]: "stop stopCopy(false)",
};

/** The states that can be set, by way of which. */
const REACHED_BY: Readonly<Record<number, number[]>> = {
  [STOP]: [STOP],
  [RUNNING]: [],
  [STOP_COPY]: [STOP_COPY],
  [RESUMING]: [RESUMING],
  [PRE_COPY]: [PRE_COPY],
};

Deno.test("migrationPath() takes the shortest way without a saving state in between", () => {
  for (const from of STATES) {
    for (const to of STATES) {
      const way = WAYS.find(([a, b]) => a === from && b === to)?.slice(2);
      const expected = from === to ? [] : way;
      assertEquals(migrationPath(from, to), expected, `${from} to ${to}`);
    }
  }
});

for (
  const [from, by] of Object.entries(REACHED_BY).map(([key, by]) => [Number(key), by] as const)
) {
  testFds(`every state is set from ${deviceStateName(from)}, or refused`, async () => {
    for (const to of [...STATES, 8, 0xffff_ffff]) {
      const device = new MigratingDevice();
      using served = await serveNegotiated({ device });
      const { peer } = served;
      for (const state of by) assertEquals(await setState(peer, state), 0);
      device.take();
      const way = WAYS.find(([a, b]) => a === from && b === to)?.slice(2);
      const isGood = from === to || way !== undefined;
      assertEquals(await setState(peer, to), isGood ? 0 : EINVAL, `to ${deviceStateName(to)}`);
      assertEquals(await getState(peer), isGood ? to : from);
      const steps = (way ?? []).map((state, i) =>
        HOOKS[`${i === 0 ? from : way![i - 1]}>${state}`]
      );
      assertEquals(device.take(), steps.filter(Boolean).join(" "), `to ${deviceStateName(to)}`);
      assertEquals(served.errors, []);
    }
  });
}

testFds("a device without PRE_COPY says so, and refuses it", async () => {
  for (const [hasPreCopy, flags, errno] of [[true, 5, 0], [false, 1, EINVAL]] as const) {
    using served = await serveNegotiated({ device: new MigratingDevice({ hasPreCopy }) });
    const { payload } = await feature(served.peer, GET | Feature.MIGRATION);
    assertEquals(payload, words(16, GET | Feature.MIGRATION, flags, 0));
    assertEquals(await setState(served.peer, PRE_COPY), errno);
  }
});

// ---- DEVICE_FEATURE

testFds("PROBE says what is served, and anything else gets EINVAL", async () => {
  using served = await serveNegotiated({ device: new MigratingDevice() });
  const GOOD: [index: number, ...operations: number[]][] = [
    [Feature.MIGRATION, GET],
    [Feature.MIG_DEVICE_STATE, GET, SET, GET | SET],
    [Feature.DMA_LOGGING_START, SET],
    [Feature.DMA_LOGGING_STOP, SET],
    [Feature.DMA_LOGGING_REPORT, GET],
  ];
  for (let index = 0; index < 12; index++) {
    const good = GOOD.find(([known]) => known === index);
    for (const operations of [0, GET, SET, GET | SET]) {
      const isGood = good !== undefined && (operations === 0 || good.slice(1).includes(operations));
      const { errno, payload } = await feature(served.peer, PROBE | operations | index);
      assertEquals(errno, isGood ? 0 : EINVAL, `feature ${index}, ${operations}`);
      if (isGood) assertEquals(payload, words(65536, PROBE | operations | index));
    }
  }
  for (const flags of [2, GET | SET | 2, GET | 1 << 19 | 2, (GET | 2 | 1 << 31) >>> 0]) {
    assertEquals((await feature(served.peer, flags, new Uint8Array(8))).errno, EINVAL);
  }
});

testFds("a feature whose data or room are short gets EINVAL", async () => {
  using served = await serveNegotiated({ device: new MigratingDevice() });
  const flags = GET | Feature.MIG_DEVICE_STATE;
  const BAD: Uint8Array[] = [
    new Uint8Array(),
    new Uint8Array(7),
    words(7, flags),
    words(8, flags),
    words(15, flags, 0, 0),
    words(16, SET | Feature.MIG_DEVICE_STATE),
    words(16, SET | Feature.MIG_DEVICE_STATE, STOP),
    words(16, SET | Feature.DMA_LOGGING_START, 4096, 0, 1),
    words(64, SET | Feature.DMA_LOGGING_START, 4096, 0, 1, 0), // the range is missing
    words(64, SET | Feature.DMA_LOGGING_START, 4096, 0, 0xffff_ffff, 0),
    words(64, GET | Feature.DMA_LOGGING_REPORT, 0, 0),
  ];
  for (const payload of BAD) {
    assertEquals((await ask(served.peer, Command.DEVICE_FEATURE, payload)).errno, EINVAL);
  }
  assertEquals(await getState(served.peer), RUNNING);
  const { errno, payload } = await ask(served.peer, Command.DEVICE_FEATURE, words(16, flags));
  assertEquals([errno, payload], [0, words(16, flags, RUNNING, 0)]);
});

testFds("a device that does not migrate answers EINVAL to all of it", async () => {
  using served = await serveNegotiated();
  for (const flags of [PROBE | 1, GET | 1, GET | 2, SET | 7]) {
    assertEquals((await feature(served.peer, flags)).errno, EINVAL);
  }
  assertEquals(await readData(served.peer, 4), EINVAL);
  assertEquals(await writeData(served.peer, new Uint8Array(4)), EINVAL);
});

testFds("a feature whose answer has no room is not set", async () => {
  using served = await serveNegotiated({ device: new MigratingDevice() });
  const stop = DeviceStateData.encode({ state: DeviceState.STOP, dataFd: 0 });
  const set = async (flags: number, argsz: number) => {
    const payload = DeviceFeatureRequest.encode({ argsz, flags, data: stop });
    return (await ask(served.peer, Command.DEVICE_FEATURE, payload)).errno;
  };
  const current = async () => {
    const { payload } = await feature(served.peer, GET | Feature.MIG_DEVICE_STATE);
    return DeviceStateData.decode(payload.subarray(8)).state;
  };
  for (const argsz of [8, 15]) {
    assertEquals(await set(SET | Feature.MIG_DEVICE_STATE, argsz), EINVAL);
    assertEquals(await set(SET | PROBE | Feature.MIG_DEVICE_STATE, argsz), EINVAL);
    assertEquals(await current(), DeviceState.RUNNING);
  }
  assertEquals(await set(SET | Feature.MIG_DEVICE_STATE, 16), 0);
  assertEquals(await current(), DeviceState.STOP);
});

testFds("VERSION says which pages are logged, in a reply that QEMU's client takes", async () => {
  using served = serve({ device: new MigratingDevice() });
  const payload = await negotiate(served.peer, {
    migration: { pgsize: 4096, maxBitmapSize: 268435456 },
    maxMsgFds: 16,
    maxDataXferSize: 1048576,
    pgsizes: 4096n,
    maxDmaMaps: 65535,
    writeMultiple: true,
  });
  assertEquals(decodeVersion(payload).capabilities.migration, { pgsize: 4096 });
  assert(payload.length - 4 < 214, `${payload.length} bytes`);
});

// ---- What is served in which state

const VERSION = encodeVersion({ major: 0, minor: 1, capabilities: {} });
const MAP = words(32, 3, 0, 0, 0x1000, 0, 0x1000, 0);
const REQUESTS: readonly [command: number, payload: Uint8Array][] = [
  [Command.VERSION, VERSION],
  [Command.DMA_UNMAP, words(24, 0, 0x1000, 0, 0x1000, 0)], // of what was mapped before
  [Command.DMA_MAP, MAP],
  [Command.DEVICE_GET_INFO, words(16, 0, 0, 0)],
  [Command.DEVICE_GET_REGION_INFO, words(32, 0, 0, 0, 0, 0, 0, 0)],
  [Command.DEVICE_GET_IRQ_INFO, words(16, 0, 0, 0)],
  [Command.DEVICE_SET_IRQS, words(20, 0x21, 0, 0, 0)],
  [Command.REGION_READ, access(0n, 0, 4)],
  [Command.REGION_WRITE, access(0n, 0, 4, [0, 1, 2, 3])],
  [Command.DEVICE_FEATURE, words(16, GET | 2, 0, 0)],
  [Command.MIG_DATA_READ, words(10, 2)],
  [Command.MIG_DATA_WRITE, words(8, 0)],
  [Command.DEVICE_RESET, new Uint8Array()],
];
const READ_WRITE = ["REGION_READ", "REGION_WRITE"];
const ALWAYS = ["DMA_UNMAP", "DEVICE_FEATURE"];
const INFO = ["DEVICE_GET_INFO", "DEVICE_GET_REGION_INFO", "DEVICE_GET_IRQ_INFO"];
const ALL = [...ALWAYS, ...INFO, ...READ_WRITE, "DMA_MAP", "DEVICE_SET_IRQS", "DEVICE_RESET"];
const SERVED: readonly [state: number, commands: string[]][] = [
  [RUNNING, ALL],
  [PRE_COPY, [...ALL, "MIG_DATA_READ"]],
  [STOP, [...ALWAYS, ...READ_WRITE]],
  [STOP_COPY, [...ALWAYS, "REGION_READ", "MIG_DATA_READ"]],
  [RESUMING, [...ALL, "MIG_DATA_WRITE"]],
  [ERROR, [...ALWAYS, ...INFO, "DMA_MAP", "DEVICE_RESET"]],
];
for (const [state, commands] of SERVED) {
  testFds(`in ${deviceStateName(state)} that is served which changes nothing`, async () => {
    const device = new MigratingDevice();
    using served = await serveNegotiated({ device });
    assertEquals((await ask(served.peer, Command.DMA_MAP, MAP)).errno, 0);
    await enter(served.peer, device, state);
    for (const [command, payload] of REQUESTS) {
      const { errno } = await ask(served.peer, command, payload);
      const name = commandName(command);
      assertEquals(errno, commands.includes(name) ? 0 : EINVAL, name);
    }
  });
}

/** Takes the device to a state, ERROR among them. */
async function enter(peer: RawPeer, device: MigratingDevice, state: number): Promise<void> {
  if (state !== ERROR) return assertEquals(await setState(peer, state), 0);
  device.faults.add("stop");
  assertEquals(await setState(peer, STOP), EIO);
  device.faults.clear();
  assertEquals(await getState(peer), ERROR);
}

testFds("DEVICE_RESET leads to RUNNING, but for PRE_COPY, which goes on", async () => {
  const RESETS: [state: number, calls: string, after: number][] = [
    [RUNNING, "reset", RUNNING],
    [PRE_COPY, "reset", PRE_COPY],
    [RESUMING, "abort reset start", RUNNING],
    [ERROR, "reset start", RUNNING],
  ];
  for (const [state, calls, after] of RESETS) {
    const device = new MigratingDevice();
    using served = await serveNegotiated({ device });
    await enter(served.peer, device, state);
    device.take();
    assertEquals((await ask(served.peer, Command.DEVICE_RESET)).errno, 0);
    assertEquals([await getState(served.peer), device.take()], [after, calls]);
  }
});

testFds("DEVICE_RESET in PRE_COPY keeps the stream, unless the device fails on it", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  const { peer } = served;
  assertEquals(await setState(peer, PRE_COPY), 0);
  assertEquals(await readData(peer, 2), [1, 2]);
  assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, 0);
  assertEquals(await readData(peer, 2), [3]);
  assertEquals(await setState(peer, STOP_COPY), 0);
  assertEquals(await readData(peer, 10), [4, 5, 6]);
  assertEquals([await setState(peer, PRE_COPY), await setState(peer, RUNNING)], [EINVAL, 0]);
  assertEquals(await setState(peer, PRE_COPY), 0);
  device.faults.add("reset");
  assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, EIO);
  assertEquals([await getState(peer), await readData(peer, 2)], [ERROR, EINVAL]);
});

testFds("a device that can't start is in ERROR, also after a reset that fails", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  const { peer } = served;
  assertEquals(await setState(peer, STOP), 0);
  device.faults.add("start").add("reset");
  assertEquals([await setState(peer, RUNNING), await getState(peer)], [EIO, ERROR]);
  assertEquals([await setState(peer, RUNNING), await getState(peer)], [EINVAL, ERROR]);
  const { errno } = await ask(peer, Command.DEVICE_RESET);
  assertEquals([errno, await getState(peer)], [EIO, ERROR]);
  assertEquals(served.errors.map(([error]) => (error as Error).message), [
    "The test has start fail",
    "The test has reset fail",
  ]);
});

testFds("the state outlives the connection, and what was begun", async () => {
  const device = new MigratingDevice();
  {
    using served = await serveNegotiated({ device });
    assertEquals(await setState(served.peer, STOP_COPY), 0);
    assertEquals(await readData(served.peer, 2), [1, 2]);
    served.connection.close();
    await served.closed;
  }
  using served = await serveNegotiated({ device });
  assertEquals(await getState(served.peer), STOP_COPY);
  assertEquals(await readData(served.peer, 2), [3, 4]);
});

// ---- Saving

for (const isAsync of [false, true]) {
  const how = isAsync ? "asynchronously" : "at once";
  for (const chunk of [1, 2, 4, 100]) {
    testFds(`a device that gives chunks of ${chunk} ${how} is read in pieces`, async () => {
      for (const size of [1, 2, 3, 6, 7, 50]) {
        const device = new MigratingDevice({ isAsync });
        device.chunk = chunk;
        using served = await serveNegotiated({ device });
        assertEquals(await setState(served.peer, STOP_COPY), 0);
        const came: number[] = [];
        let data: number[];
        do {
          data = await readData(served.peer, size) as number[];
          came.push(...data);
        } while (data.length > 0);
        assertEquals(came, [1, 2, 3, 4, 5, 6]);
        assertEquals(await readData(served.peer, size), []);
      }
    });
  }

  testFds(`PRE_COPY and STOP_COPY give one stream ${how}`, async () => {
    for (const size of [1, 2, 3]) {
      const device = new MigratingDevice({ isAsync });
      using served = await serveNegotiated({ device });
      const { peer } = served;
      assertEquals(await setState(peer, PRE_COPY), 0);
      // Of size 1 it leaves half a chunk behind
      const first = await readData(peer, size) as number[];
      assertEquals(await setState(peer, STOP_COPY), 0);
      const rest = await readData(peer, 10) as number[];
      // What PRE_COPY did not come to is the device's to tell, or not: this one does not.
      assertEquals([...first, ...rest], size < 3 ? [1, 2, 4, 5, 6] : [1, 2, 3, 4, 5, 6]);
      assertStringIncludes(device.take(), "stopCopy(true)");
    }
  });
}

testFds("PRE_COPY of which nothing was read begins anew in STOP_COPY", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  await setState(served.peer, PRE_COPY);
  await setState(served.peer, STOP_COPY);
  assertEquals(device.take(), "preCopy stop stopCopy(false)");
  assertEquals(await readData(served.peer, 10), [1, 2, 3, 4, 5, 6]);
});

testFds("a chunk without bytes ends no read of a device that stands still", async () => {
  const chunks = [[], [1], [], [], [2, 3], []].map((bytes) => new Uint8Array(bytes));
  const device = new MigratingDevice();
  for (const isAsync of [false, true]) {
    device.migration.stopCopy = isAsync
      ? async function* () {
        yield* chunks;
      }
      : () => chunks;
    for (const size of [1, 2, 10]) {
      using served = await serveNegotiated({ device });
      await setState(served.peer, STOP_COPY);
      const came: number[] = [];
      let data: number[];
      do {
        data = await readData(served.peer, size) as number[];
        came.push(...data);
      } while (data.length > 0);
      assertEquals(came, [1, 2, 3]);
      await setState(served.peer, RUNNING);
    }
  }
});

testFds("a chunk without bytes ends a read in PRE_COPY, and not the stream", async () => {
  const device = new MigratingDevice();
  device.migration.preCopy = function* () {
    yield new Uint8Array([1]);
    yield new Uint8Array();
    yield new Uint8Array([2, 3]);
  };
  using served = await serveNegotiated({ device });
  await setState(served.peer, PRE_COPY);
  assertEquals(await readData(served.peer, 10), [1]);
  assertEquals(await readData(served.peer, 10), [2, 3]);
  assertEquals(await readData(served.peer, 10), []);
});

testFds("leaving a saving state tells the device that no more is wanted", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  await setState(served.peer, STOP_COPY);
  await readData(served.peer, 1);
  device.take();
  await setState(served.peer, RUNNING);
  assertEquals(device.take(), "return start");
  assertEquals(await readData(served.peer, 1), EINVAL);
});

testFds("a read that the device fails fails again, until the state is left", async () => {
  for (const isAsync of [false, true]) {
    const device = new MigratingDevice({ isAsync });
    using served = await serveNegotiated({ device });
    const { peer } = served;
    await setState(peer, STOP_COPY);
    assertEquals(await readData(peer, 2), [1, 2]);
    device.faults.add("next");
    assertEquals([await readData(peer, 2), await readData(peer, 2)], [EIO, EIO]);
    device.faults.clear();
    assertEquals([await readData(peer, 2), await setState(peer, RUNNING)], [EIO, 0]);
    await setState(peer, STOP_COPY);
    assertEquals(await readData(peer, 10), [1, 2, 3, 4, 5, 6]);
  }
});

testFds("a stream that can't begin leaves the device where it was", async () => {
  const device = new MigratingDevice();
  device.faults.add("stopCopy(false)").add("preCopy").add("resume");
  using served = await serveNegotiated({ device });
  const { peer } = served;
  assertEquals([await setState(peer, PRE_COPY), await getState(peer)], [EIO, RUNNING]);
  assertEquals([await setState(peer, STOP_COPY), await getState(peer)], [EIO, STOP]);
  assertEquals([await setState(peer, RESUMING), await getState(peer)], [EIO, STOP]);
  device.faults.delete("preCopy");
  assertEquals(await setState(peer, PRE_COPY), 0);
  assertEquals([await setState(peer, STOP_COPY), await getState(peer)], [EIO, STOP]);
  assertEquals(await readData(peer, 1), EINVAL);
  assertEquals(await setState(peer, RUNNING), 0);
});

testFds("MIG_DATA_READ takes no more than both agreed on, nor than there is room for", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device, capabilities: { maxDataXferSize: 64 } });
  await setState(served.peer, STOP_COPY);
  const BAD: [size: number, argsz: number][] = [
    [65, 200],
    [0xffff_ffff, 0xffff_ffff],
    [4, 11],
    [4, 0],
    [0, 7],
  ];
  for (const [size, argsz] of BAD) assertEquals(await readData(served.peer, size, argsz), EINVAL);
  assertEquals((await ask(served.peer, Command.MIG_DATA_READ, words(8))).errno, EINVAL);
  assertEquals(await readData(served.peer, 0), []);
  assertEquals(await readData(served.peer, 64), [1, 2, 3, 4, 5, 6]);
});

// ---- Restoring

testFds("what is written in RESUMING is taken on when that is left", async () => {
  for (const isAsync of [false, true]) {
    const device = new MigratingDevice({ isAsync });
    using served = await serveNegotiated({ device });
    const { peer } = served;
    await setState(peer, RESUMING);
    assertEquals(await writeData(peer, new Uint8Array([9, 8])), 0);
    assertEquals(await writeData(peer, new Uint8Array([7])), 0);
    assertEquals(device.bytes, new Uint8Array([1, 2, 3, 4, 5, 6]));
    assertEquals(await setState(peer, RUNNING), 0);
    assertEquals(device.take(), "stop resume write write commit start");
    assertEquals(device.bytes, new Uint8Array([9, 8, 7]));
  }
});

testFds(
  "a state that is refused at the end leaves the device as it was, and another may come",
  async () => {
    for (const isAsync of [false, true]) {
      const device = new MigratingDevice({ isAsync });
      using served = await serveNegotiated({ device });
      const { peer } = served;
      await setState(peer, RESUMING);
      await writeData(peer, new Uint8Array([9]));
      device.faults.add("commit");
      device.take();
      assertEquals([await setState(peer, RUNNING), await getState(peer)], [EIO, RESUMING]);
      assertEquals(device.take(), "commit abort resume");
      assertEquals(device.bytes.length, 6);
      assertStringIncludes((served.errors[0]![0] as Error).message, "The test has commit fail");
      device.faults.clear();
      await writeData(peer, new Uint8Array([7]));
      assertEquals([await setState(peer, RUNNING), device.bytes], [0, new Uint8Array([7])]);
    }
  },
);

testFds(
  "a state that is refused on the way is refused for good, and leaving is refused once",
  async () => {
    for (const isAsync of [false, true]) {
      const device = new MigratingDevice({ isAsync });
      using served = await serveNegotiated({ device });
      const { peer } = served;
      await setState(peer, RESUMING);
      device.faults.add("write");
      assertEquals(await writeData(peer, new Uint8Array([9])), EIO);
      device.faults.clear();
      assertEquals(await writeData(peer, new Uint8Array([9])), EIO);
      device.take();
      assertEquals([await setState(peer, RUNNING), await getState(peer)], [EIO, RESUMING]);
      assertEquals([await setState(peer, RUNNING), await getState(peer)], [0, RUNNING]);
      assertEquals(device.take(), "resume abort start");
      assertEquals(device.bytes.length, 6);
    }
  },
);

testFds("MIG_DATA_WRITEs of any size are one stream, and empty ones are none", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(5000));
  for (const size of [1, 3, 7, 64, 4099]) {
    const device = new MigratingDevice();
    using served = await serveNegotiated({ device });
    const { peer } = served;
    await setState(peer, RESUMING);
    assertEquals(await writeData(peer, new Uint8Array()), 0);
    const end = size < 64 ? 200 : bytes.length;
    for (let at = 0; at < end; at += size) {
      assertEquals(await writeData(peer, bytes.subarray(at, Math.min(end, at + size))), 0);
    }
    assertEquals([await setState(peer, STOP), device.bytes], [0, bytes.subarray(0, end)]);
  }
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  await setState(served.peer, RESUMING);
  assertEquals(await writeData(served.peer, new Uint8Array()), 0);
  assertEquals(await setState(served.peer, RUNNING), 0);
  assertEquals(device.take(), "stop resume abort start"); // nothing has come: it is as it was
});

testFds("the errno of a refusal is the device's", async () => {
  const device = new MigratingDevice();
  device.migration.resume = () => ({
    write: () => {
      throw new DeviceError(EINVAL, "it is of another device");
    },
    commit: () => {},
    abort: () => {},
  });
  using served = await serveNegotiated({ device });
  await setState(served.peer, RESUMING);
  assertEquals(await writeData(served.peer, new Uint8Array(1)), EINVAL);
  assertStringIncludes((served.errors[0]![0] as Error).message, "it is of another device");
});

testFds("MIG_DATA_WRITE whose sizes make no sense gets EINVAL, and nothing is taken", async () => {
  const device = new MigratingDevice();
  using served = await serveNegotiated({ device });
  await setState(served.peer, RESUMING);
  device.take();
  const BAD = [words(8), words(8, 1), words(7, 0), words(12, 3, 0), words(12, 0xffff_ffff, 0)];
  for (const payload of BAD) {
    assertEquals((await ask(served.peer, Command.MIG_DATA_WRITE, payload)).errno, EINVAL);
  }
  assertEquals(device.take(), "");
});

testFds("a client that goes in the middle of a hook leaves the device in the state", async () => {
  const device = new MigratingDevice({ isAsync: true });
  using served = await serveNegotiated({ device });
  const data = DeviceStateData.encode({ state: STOP_COPY, dataFd: 0 });
  served.peer.command(1, Command.DEVICE_FEATURE, new Uint8Array([...words(16, SET | 2), ...data]));
  await new Promise((resolve) => setTimeout(resolve));
  served.peer.close();
  await served.closed;
  using next = await serveNegotiated({ device });
  assertEquals(await getState(next.peer), STOP_COPY);
});

// ---- Anything, in any order

testFds("whatever a client asks for, the device can be had running again", async () => {
  type Step =
    | { kind: "state"; state: number }
    | { kind: "read" | "write"; size: number }
    | { kind: "reset" | "mend" | "again" }
    | { kind: "fault"; fault: string };
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constant("state" as const), state: fc.integer({ min: 0, max: 8 }) }),
    fc.record({ kind: fc.constant("read" as const), size: fc.integer({ min: 0, max: 9 }) }),
    fc.record({ kind: fc.constant("write" as const), size: fc.integer({ min: 0, max: 9 }) }),
    fc.record({ kind: fc.constant("reset" as const) }),
    fc.record({
      kind: fc.constant("fault" as const),
      fault: fc.constantFrom("stop", "start", "next", "write", "commit", "preCopy", "resume"),
    }),
    fc.record({ kind: fc.constant("mend" as const) }),
    fc.record({ kind: fc.constant("again" as const) }), // another client
  );
  const run = async (steps: Step[], isAsync: boolean) => {
    const device = new MigratingDevice({ isAsync });
    let served = await serveNegotiated({ device });
    try {
      for (const each of steps) {
        const { peer } = served;
        if (each.kind === "state") await setState(peer, each.state);
        else if (each.kind === "read") await readData(peer, each.size);
        else if (each.kind === "write") await writeData(peer, new Uint8Array(each.size));
        else if (each.kind === "reset") await ask(peer, Command.DEVICE_RESET);
        else if (each.kind === "fault") device.faults.add(each.fault);
        else if (each.kind === "mend") device.faults.clear();
        else {
          served[Symbol.dispose]();
          await served.closed;
          served = await serveNegotiated({ device });
        }
        assert([ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY].includes(
          await getState(served.peer) as typeof STOP,
        ));
      }
      device.faults.clear();
      const { peer } = served;
      if (await setState(peer, RUNNING) !== 0 && await setState(peer, RUNNING) !== 0) {
        assertEquals([await getState(peer), (await ask(peer, Command.DEVICE_RESET)).errno], [
          ERROR,
          0,
        ]);
      }
      assertEquals(await getState(peer), RUNNING);
      assertEquals((await ask(peer, Command.DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
    } finally {
      served[Symbol.dispose]();
      await served.closed;
    }
  };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.boolean(), run),
    { numRuns: 60 },
  );
});
