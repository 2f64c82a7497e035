import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { EINVAL, EIO } from "../../../../ffi/errno.ts";
import { idle } from "../../../../ffi/poller.ts";
import { connect } from "../../../../lib/client/connect.ts";
import type { Device } from "../../../../lib/client/device.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../../lib/base/errors.ts";
import type { MigrationProgress } from "../../../../lib/client/migration/options.ts";
import type { ServedDevice } from "../../../../lib/server/served_device.ts";
import { Server } from "../../../../lib/server/server.ts";
import { UnixSocket } from "../../../../ffi/socket.ts";
import { Command } from "../../../../lib/wire/command.ts";
import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  Feature,
  FeatureFlags,
} from "../../../../lib/wire/feature.ts";
import { encodeVersion } from "../../../../lib/wire/version.ts";
import { testFds } from "../../../_fds.ts";
import { until } from "../../../_until.ts";
import { LibvfioUser } from "../../_libvfio_user.ts";
import { connectScripted } from "../../_scripted_server.ts";
import { TestDevice, words } from "../../server/_client.ts";
import { MigratingDevice } from "../../server/_migration.ts";

/** A device that is served, and its client. */
async function serveHere(
  served: ServedDevice,
): Promise<{ device: Device; errors: unknown[] } & Disposable> {
  const [a, b] = UnixSocket.pair();
  const errors: unknown[] = [];
  const server = Server.serve(a.release(), served, { onError: (error) => errors.push(error) });
  const device = await connect(b.release());
  return {
    device,
    errors,
    [Symbol.dispose]() {
      device.close();
      server.close();
    },
  };
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<number[]> {
  const bytes: number[] = [];
  for await (const chunk of stream) bytes.push(...chunk);
  return bytes;
}

// ---- State and support

testFds("state() and setState() go all ways, by name and by number", async () => {
  using here = await serveHere(new MigratingDevice());
  const { migration } = here.device;
  assertEquals(await migration.state(), "RUNNING");
  await migration.setState("STOP_COPY");
  assertEquals(await migration.state(), "STOP_COPY");
  await migration.setState(4);
  assertEquals(await migration.state(), "RESUMING");
  const error = await assertRejects(() => migration.setState("RUNNING_P2P"), RemoteError);
  assertEquals(
    [error.errno, error.message],
    [
      EINVAL,
      "Cannot set the state of the device to RUNNING_P2P: the server answered EINVAL (Invalid " +
      "argument)",
    ],
  );
});

testFds("support() says how the device migrates, or that it does not", async () => {
  const CASES = [
    [new MigratingDevice(), { flags: 5n, stopCopy: true, preCopy: true, p2p: false }],
    [new MigratingDevice({ hasPreCopy: false }), {
      flags: 1n,
      stopCopy: true,
      preCopy: false,
      p2p: false,
    }],
    [new TestDevice(), undefined],
  ] as const;
  for (const [device, support] of CASES) {
    using here = await serveHere(device);
    assertEquals(await here.device.migration.support(), support);
  }
  using here = await serveHere(new TestDevice());
  await assertRejects(() => here.device.migration.state(), RemoteError, "does not migrate");
});

testFds("features are read, written and probed", async () => {
  using here = await serveHere(new MigratingDevice());
  const { features } = here.device;
  assertEquals(await features.get(Feature.MIG_DEVICE_STATE, 8), words(2, 0));
  await features.set(Feature.MIG_DEVICE_STATE, words(1, 0));
  assertEquals(await features.get(Feature.MIG_DEVICE_STATE, 8), words(1, 0));
  assertEquals(await features.probe(Feature.MIGRATION), true);
  assertEquals(await features.probe(Feature.MIGRATION, "get"), true);
  assertEquals(await features.probe(Feature.MIGRATION, "set"), false);
  assertEquals(await features.probe(77), false);
  await assertRejects(() => features.get(77, 8), RemoteError, "Cannot get the feature 77: ");
  await assertRejects(() => features.get(0x10000, 8), RangeError, "There is no feature 65536");
});

// ---- Saving

for (const preCopy of [false, true]) {
  testFds(`save() with preCopy ${preCopy} gives the state, and has the device go on`, async () => {
    for (const chunkSize of [1, 2, 4, 6, 100]) {
      const served = new MigratingDevice();
      using here = await serveHere(served);
      const seen: MigrationProgress[] = [];
      const onProgress = (progress: MigrationProgress) => seen.push(progress);
      const stream = here.device.migration.save({ preCopy, chunkSize, onProgress });
      assertEquals(served.take(), ""); // nothing happens before it is read
      assertEquals(await bytesOf(stream), [1, 2, 3, 4, 5, 6]);
      assertEquals(await here.device.migration.state(), "RUNNING");
      assertEquals(seen.at(-1), { bytes: 6, state: "STOP_COPY" });
      assertEquals(seen[0]!.state, preCopy ? "PRE_COPY" : "STOP_COPY");
      const calls = served.take().replaceAll(/ ?(next|return)/g, "").trim();
      const saving = preCopy ? "preCopy stop stopCopy(true)" : "stop stopCopy(false)";
      assertEquals(calls, `${saving} start`);
    }
  });
}

testFds("save() leaves the device as is asked, or as it was", async () => {
  const CASES = [
    ["RUNNING", undefined, "RUNNING"],
    ["RUNNING", "STOP", "STOP"],
    ["STOP", undefined, "STOP"],
    ["STOP", "RUNNING", "RUNNING"],
    ["STOP_COPY", undefined, "STOP"], // what one has left who was here before
    ["PRE_COPY", undefined, "RUNNING"],
  ] as const;
  for (const [before, after, expected] of CASES) {
    for (const preCopy of [false, true]) {
      using here = await serveHere(new MigratingDevice());
      const { migration } = here.device;
      await migration.setState(before);
      const stream = migration.save({ preCopy, ...(after && { after }) });
      assertEquals(await bytesOf(stream), [1, 2, 3, 4, 5, 6]);
      assertEquals(await migration.state(), expected);
    }
  }
});

testFds("save() with chunks whose memory is used again gives the same", async () => {
  const served = new MigratingDevice();
  served.bytes = Uint8Array.from({ length: 5_000_001 }, (_, i) => i * i >> 3);
  served.chunk = 1 << 20;
  using here = await serveHere(served);
  for (
    const options of [
      { reuseChunks: false },
      { reuseChunks: true },
      { reuseChunks: false, chunkSize: 20_000 },
      { reuseChunks: true, chunkSize: 20_000 },
    ]
  ) {
    let at = 0;
    for await (const chunk of here.device.migration.save(options)) {
      const { length } = chunk;
      assertEquals(chunk.toHex(), served.bytes.subarray(at, at + length).toHex());
      at += length;
      // A reader may pass a chunk on to a Worker.
      if (at > length) structuredClone(chunk.buffer, { transfer: [chunk.buffer] });
    }
    assertEquals(at, served.bytes.length);
  }
});

testFds("save() that is cancelled has the device do what it did", async () => {
  for (const before of ["RUNNING", "STOP"] as const) {
    for (const preCopy of [false, true]) {
      const served = new MigratingDevice();
      using here = await serveHere(served);
      await here.device.migration.setState(before);
      const options = { preCopy, chunkSize: 1, after: "STOP" } as const;
      for await (const chunk of here.device.migration.save(options)) {
        assertEquals(chunk.length, 1);
        break;
      }
      assertEquals(await here.device.migration.state(), before);
    }
  }
});

testFds("save() that is aborted fails with the reason, and the device goes on", async () => {
  using here = await serveHere(new MigratingDevice());
  const { migration } = here.device;
  const controller = new AbortController();
  const reason = new Error("called off");
  const reader = migration.save({ chunkSize: 1, signal: controller.signal }).getReader();
  await reader.read();
  controller.abort(reason); // while no process reads
  assertEquals(await reader.closed.catch((error) => error), reason);
  while (await migration.state() !== "RUNNING");
  const early = migration.save({ signal: AbortSignal.abort(reason) });
  assertEquals(await bytesOf(early).catch((error) => error), reason);
  assertEquals(await migration.state(), "RUNNING");
});

testFds("save() of a device that fails has it go on", async () => {
  const served = new MigratingDevice();
  using here = await serveHere(served);
  const { migration } = here.device;
  served.faults.add("next");
  const error = await assertRejects(() => bytesOf(migration.save()), RemoteError);
  assertEquals(
    error.message,
    "Cannot read the state of the device from byte 0 on: the server answered EIO (Input/output " +
      "error)",
  );
  assertEquals(await migration.state(), "RUNNING");
  served.faults.add("stopCopy(false)");
  await assertRejects(() => bytesOf(migration.save()), RemoteError, "STOP_COPY");
  assertEquals(await migration.state(), "RUNNING");
});

testFds("save() says so when the device can't be set back either", async () => {
  const served = new MigratingDevice();
  using here = await serveHere(served);
  served.faults.add("next").add("start");
  const error = await assertRejects(
    () => bytesOf(here.device.migration.save()),
    AggregateError,
    "The device could not be set back to RUNNING: Cannot set the state",
  );
  assertInstanceOf(error.errors[0], RemoteError);
  assertEquals(await here.device.migration.state(), "ERROR");
  await assertRejects(() => bytesOf(here.device.migration.save()), RangeError, "reset it first");
});

testFds("save() refuses what can't be", async () => {
  using here = await serveHere(new MigratingDevice({ hasPreCopy: false }));
  const { migration } = here.device;
  for (const chunkSize of [0, -1, 1.5, NaN, (1 << 20) + 1]) {
    assertThrows(() => migration.save({ chunkSize }), RangeError, "bytes at once");
    assertThrows(() => migration.restore({ chunkSize }), RangeError, "bytes at once");
  }
  await assertRejects(() => bytesOf(migration.save({ preCopy: true })), RangeError, "no PRE_COPY");
  assertEquals(await migration.state(), "RUNNING");
  await migration.setState("RESUMING");
  await assertRejects(() => bytesOf(migration.save()), RangeError, "RESUMING");
  assertEquals(await migration.state(), "RESUMING");
});

// ---- Restoring

async function restore(
  device: Device,
  bytes: Uint8Array,
  options: Parameters<Device["migration"]["restore"]>[0] = {},
): Promise<void> {
  const writer = device.migration.restore(options).getWriter();
  writer.closed.catch(() => {});
  try {
    await writer.write(bytes);
    await writer.close();
  } finally {
    writer.releaseLock();
  }
}

testFds("restore() writes in pieces, and has the device take it on and go on", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(60_000));
  const CASES = [[undefined, "RUNNING"], ["STOP", "STOP"], ["RUNNING", "RUNNING"]] as const;
  for (const [after, expected] of CASES) {
    for (const chunkSize of [1000, 32 << 10, 1 << 20]) {
      const served = new MigratingDevice();
      using here = await serveHere(served);
      const seen: number[] = [];
      const onProgress = ({ bytes }: MigrationProgress) => seen.push(bytes);
      await restore(here.device, bytes, { chunkSize, onProgress, ...(after && { after }) });
      assertEquals(served.bytes, bytes);
      assertEquals(await here.device.migration.state(), expected);
      assertEquals(served.take().split(" write").length - 1, Math.ceil(bytes.length / chunkSize));
      assertEquals(seen, [bytes.length]);
    }
  }
});

testFds("restore() that the device refuses leaves it as it was, at work", async () => {
  for (const fault of ["write", "commit"]) {
    for (const before of ["RUNNING", "STOP"] as const) {
      const served = new MigratingDevice();
      using here = await serveHere(served);
      await here.device.migration.setState(before);
      served.faults.add(fault);
      const error = await assertRejects(
        () => restore(here.device, new Uint8Array(100_000)),
        RemoteError,
        "it does not take this state, which may be incomplete, corrupt or of another device",
      );
      assertEquals(error.errno, EIO);
      assertEquals(await here.device.migration.state(), before);
      assertEquals(served.bytes.length, 6);
      assert(here.errors.length > 0);
    }
  }
});

testFds("restore() that is aborted, by either side or a signal, has the device go on", async () => {
  const ways: ((writer: WritableStreamDefaultWriter, off: AbortController) => unknown)[] = [
    (writer) => writer.abort(new Error("called off")),
    (_, off) => off.abort(new Error("called off")),
  ];
  for (const way of ways) {
    const served = new MigratingDevice();
    served.faults.add("commit"); // as of a device that checks what has come
    using here = await serveHere(served);
    const off = new AbortController();
    const writer = here.device.migration.restore({ signal: off.signal }).getWriter();
    writer.closed.catch(() => {});
    await writer.write(new Uint8Array(10));
    await way(writer, off);
    await assertRejects(() => writer.write(new Uint8Array(1)), Error, "called off");
    while (await here.device.migration.state() !== "RUNNING");
    assertEquals(served.bytes.length, 6);
  }
});

testFds("restore() of nothing is refused, and the device is not touched", async () => {
  const served = new MigratingDevice();
  using here = await serveHere(served);
  const writer = here.device.migration.restore().getWriter();
  writer.closed.catch(() => {});
  await assertRejects(() => writer.close(), RangeError, "the state is empty");
  assertEquals(served.take(), "");
});

testFds("restore() drops what one has left who was here before", async () => {
  const served = new MigratingDevice();
  using here = await serveHere(served);
  served.faults.add("write");
  await assertRejects(() => restore(here.device, new Uint8Array(3)), RemoteError);
  served.faults.clear();
  await here.device.migration.setState("RESUMING");
  await restore(here.device, new Uint8Array([7, 7]), { after: "STOP" });
  assertEquals(served.bytes, new Uint8Array([7, 7]));
});

testFds("a stream that moves from one device to another goes on", async () => {
  const [a, b] = [new MigratingDevice(), new MigratingDevice()];
  a.bytes = crypto.getRandomValues(new Uint8Array(60_000));
  a.chunk = 7000;
  using here = await serveHere(a);
  using there = await serveHere(b);
  const { migration } = here.device;
  await migration.save({ preCopy: true, after: "STOP" }).pipeTo(there.device.migration.restore());
  assertEquals(b.bytes, a.bytes);
  assertEquals([await migration.state(), await there.device.migration.state()], [
    "STOP",
    "RUNNING",
  ]);
});

// ---- Servers that do something else

/** A server of which only migration answers, as `read` says, and whose state is what was set. */
function migrating(
  read: (payload: Uint8Array, count: number) => Uint8Array | number | undefined,
): Promise<[Device, Disposable]> {
  let state = 2;
  let count = 0;
  return connectScripted((peer, request) => {
    if (request.command === Command.DEVICE_FEATURE) {
      const { flags, data } = DeviceFeatureRequest.decode(request.payload);
      if ((flags & FeatureFlags.SET) === 0) return peer.reply(request, words(16, flags, state, 0));
      state = data[0]!;
      return peer.reply(request, request.payload);
    }
    if (request.command !== Command.MIG_DATA_READ) return false;
    const answer = read(request.payload, count++);
    if (typeof answer === "number") peer.fail(request, answer);
    else if (answer !== undefined) peer.reply(request, answer);
  });
}

testFds("save() trusts the size that is said, for libvfio-user pads", async () => {
  for (const reuseChunks of [false, true]) {
    const [device, server] = await migrating((_, count) => {
      const size = count === 0 ? 3 : 0;
      return new Uint8Array([...words(16, size), 1, 2, 3, 0, 0, 0, 0, 0]);
    });
    using _device = device;
    using _server = server;
    const stream = device.migration.save({ chunkSize: 8, reuseChunks });
    assertEquals(await bytesOf(stream), [1, 2, 3]);
  }
});

testFds("save() does not mind that a server refuses reads beyond the end", async () => {
  const [device, server] = await migrating((_, count) =>
    count === 0 ? new Uint8Array([...words(9, 1), 7]) : EINVAL
  );
  using _device = device;
  using _server = server;
  assertEquals(await bytesOf(device.migration.save({ chunkSize: 8 })), [7]);
});

// ---- libvfio-user: short answers

/** A device of libvfio-user, and its client. */
async function withLibvfioUser(
  body: (model: LibvfioUser, device: Device) => Promise<void>,
): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    using model = new LibvfioUser(`${folder}/device.sock`);
    using device = await connect(model.path);
    await body(model, device);
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

const RANDOM = crypto.getRandomValues(new Uint8Array(3000));

testFds(
  "save() of a device that gives less than was asked for is whole",
  () =>
    withLibvfioUser(async (model, device) => {
      const GIVES: ((wanted: number) => number)[] = [
        () => 1,
        () => 7,
        (wanted) => wanted - 1,
        (wanted) => Math.ceil(wanted / 2),
        (wanted) => 1 + Math.floor(Math.random() * wanted),
        (wanted) => model.asked.length % 3 === 0 ? wanted : 3,
        (wanted) => wanted,
      ];
      for (const give of GIVES) {
        for (const size of [1, 63, 64, 65, 300]) {
          for (const [preCopy, reuseChunks] of [[false, false], [false, true], [true, false]]) {
            model.state = RANDOM.subarray(0, size);
            model.preCopied = Math.floor(size / 3);
            model.give = give;
            const stream = device.migration.save({
              chunkSize: 64,
              preCopy: preCopy!,
              reuseChunks: reuseChunks!,
            });
            assertEquals(await bytesOf(stream), [...model.state], `${give}, ${size}, ${preCopy}`);
            assertEquals(await device.migration.state(), "RUNNING");
          }
        }
      }
      assertEquals(new Set(model.asked), new Set([64]));
    }),
);

testFds(
  "save() of a device that fails behind a short answer fails",
  () =>
    withLibvfioUser(async (model, device) => {
      model.state = RANDOM;
      model.give = () => 100;
      for (const errno of [EIO, EINVAL]) {
        model.failRead = (at) => at >= 2000 ? errno : undefined;
        const stream = device.migration.save({ chunkSize: 512 });
        const error = await assertRejects(() => bytesOf(stream), RemoteError);
        assertEquals(error.errno, errno);
        assertEquals(await device.migration.state(), "RUNNING");
      }
    }),
);

testFds(
  "save() stops a device that always has a little more",
  () =>
    withLibvfioUser(async (model, device) => {
      model.state = RANDOM;
      model.preCopied = RANDOM.length;
      model.give = () => 1;
      let most = 0;
      const onProgress = ({ bytes, state }: MigrationProgress) => {
        if (state === "PRE_COPY") most = bytes;
      };
      const stream = device.migration.save({ preCopy: true, chunkSize: 64, onProgress });
      assertEquals(await bytesOf(stream), [...RANDOM]);
      assert(most >= 1024 && most < 1100, `${most} bytes while it worked`);
    }),
);

testFds(
  "restore() writes at most 32 KiB at once, which libvfio-user takes",
  () =>
    withLibvfioUser(async (model, device) => {
      const bytes = crypto.getRandomValues(new Uint8Array(60_001));
      for (const chunkSize of [undefined, 1, 4097]) {
        const part = chunkSize === 1 ? bytes.subarray(0, 100) : bytes;
        await restore(device, part, chunkSize === undefined ? {} : { chunkSize });
        assertEquals(model.state, part);
        assertEquals(await device.migration.state(), "RUNNING");
      }
    }),
);

testFds("restore() writes 1 MiB at once to servers that read whole messages", async () => {
  const MIB = 1 << 20;
  for (
    const [capabilities, sizes] of [
      [{ writeMultiple: true }, [MIB, MIB, 7]],
      [{ writeMultiple: true, maxDataXferSize: 64 << 10 }, Array<number>(32).fill(64 << 10)],
      [{ writeMultiple: false }, Array<number>(64).fill(32 << 10)],
      [{}, Array<number>(64).fill(32 << 10)],
    ] as const
  ) {
    const writes: number[] = [];
    const [device, server] = await connectScripted((peer, request) => {
      switch (request.command) {
        case Command.VERSION:
          return peer.reply(request, encodeVersion({ major: 0, minor: 1, capabilities }));
        case Command.DEVICE_FEATURE: {
          const { flags, data } = DeviceFeatureRequest.decode(request.payload);
          const state = (flags & FeatureFlags.GET) === 0 ? data : words(DeviceState.RUNNING, 0);
          return peer.reply(
            request,
            DeviceFeatureReply.encode({ argsz: 8 + state.length, flags, data: state }),
          );
        }
        case Command.MIG_DATA_WRITE:
          writes.push(request.payload.length - 8);
          return peer.reply(request);
        default:
          return false;
      }
    });
    using _device = device;
    using _server = server;
    await restore(device, new Uint8Array(2 * MIB + 7));
    assertEquals(writes.at(-1), 7);
    if (sizes.at(-1) === 7) assertEquals(writes, [...sizes]);
    else assertEquals(writes.slice(0, -1), [...sizes]);
  }
});

testFds("restore() has few writes in flight, however short they are", async () => {
  let [writes, answers] = [0, false];
  const [device, server] = await connectScripted((peer, request) => {
    if (request.command === Command.MIG_DATA_WRITE) {
      writes++;
      if (answers) peer.reply(request);
      return;
    }
    if (request.command !== Command.DEVICE_FEATURE) return false;
    const { flags, data } = DeviceFeatureRequest.decode(request.payload);
    const state = (flags & FeatureFlags.GET) === 0 ? data : words(DeviceState.RUNNING, 0);
    peer.reply(
      request,
      DeviceFeatureReply.encode({ argsz: 8 + state.length, flags, data: state }),
    );
  });
  using _device = device;
  using _server = server;
  const controller = new AbortController();
  const { signal } = controller;
  const restored = restore(device, new Uint8Array(10_000), { chunkSize: 1, signal });
  await until(() => writes > 1, "writes");
  await device.migration.state(); // its answer is behind all that was sent before
  assertEquals(writes, 32);
  answers = true; // the device is set back
  controller.abort(new Error("enough"));
  await assertRejects(() => restored);
});

testFds("save() closes the connection to a server whose sizes are impossible", async () => {
  const BAD: Uint8Array[] = [
    words(16, 9, 0, 0), // more than came
    words(20, 12, 0, 0, 0), // more than was asked for
    words(8),
    new Uint8Array(),
  ];
  for (const reply of BAD) {
    for (const reuseChunks of [false, true]) {
      const [device, server] = await migrating(() => reply);
      using _device = device;
      using _server = server;
      const stream = device.migration.save({ chunkSize: 8, reuseChunks });
      await assertRejects(() => bytesOf(stream), ProtocolError);
      assertEquals(device.state, "CLOSED");
    }
  }
});

testFds("save() ends with a server that says nothing, or goes", async () => {
  const [device, server] = await migrating(() => undefined);
  using _device = device;
  using _server = server;
  const silent = device.migration.save({ timeoutMs: 30 });
  await assertRejects(() => bytesOf(silent), TimeoutError, "read the state of the device");
  assertEquals(await device.migration.state(), "RUNNING");
  const [other, gone] = await migrating(() => {
    gone[Symbol.dispose]();
    return undefined;
  });
  using _other = other;
  await assertRejects(() => bytesOf(other.migration.save()), ConnectionError);
});

testFds("a feature that the server mixes up closes the connection", async () => {
  const [device, server] = await connectScripted((peer, request) =>
    request.command === Command.DEVICE_FEATURE ? peer.reply(request, words(16, 1, 0, 0)) : false
  );
  using _device = device;
  using _server = server;
  await assertRejects(
    () => device.migration.state(),
    ProtocolError,
    "The server answered about MIGRATION, asked about MIG_DEVICE_STATE",
  );
  assertEquals(device.state, "CLOSED");
});

testFds("memory stays flat while much is saved", async () => {
  const served = new MigratingDevice();
  const chunk = new Uint8Array(1 << 20).fill(1);
  served.migration.stopCopy = function* () {
    for (let i = 0; i < 256; i++) yield chunk;
  };
  using here = await serveHere(served);
  let bytes = 0;
  let most = 0;
  const before = Deno.memoryUsage().rss;
  for await (const chunk of here.device.migration.save({ reuseChunks: true })) {
    bytes += chunk.length;
    most = Math.max(most, Deno.memoryUsage().rss);
  }
  assertEquals(bytes, 256 << 20);
  assert(most - before < 128 << 20, `${(most - before) >> 20} MiB`);
});
