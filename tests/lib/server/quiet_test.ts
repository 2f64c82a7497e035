import { assert, assertEquals } from "@std/assert";
import { EACCES, EBUSY, EIO, ETIMEDOUT } from "../../../ffi/errno.ts";
import { countOpenFds } from "../../../ffi/fd.ts";
import { testFds } from "../../_fds.ts";
import type { DmaRange } from "../../../lib/server/device_dma.ts";
import {
  DeviceError,
  type QuietReason,
  type ServedDevice,
} from "../../../lib/server/served_device.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags } from "../../../lib/wire/dma.ts";
import { DeviceState } from "../../../lib/wire/feature.ts";
import { ask, serveNegotiated, type ServeOptions, TestDevice } from "./_client.ts";
import { BASE, ClientFile, map, PAGE, READ_WRITE, unmap } from "./_memory.ts";
import { MigratingDevice, setState } from "./_migration.ts";
import { until } from "../../_until.ts";

/** Serves a device with these hooks. */
function serveWith(hooks: Partial<ServedDevice>, options: ServeOptions = {}) {
  const device = Object.assign(new TestDevice(), hooks);
  return serveNegotiated({ ...options, device });
}

testFds("a device hears of each map once, and of its end, also of the client's", async () => {
  const heard: string[] = [];
  const line = (verb: string) => ({ iova, size, rights, isShared }: DmaRange) =>
    void heard.push(`${verb} ${iova} ${size} ${rights} ${isShared}`);
  using served = await serveWith({
    mapped: line("mapped"),
    unmapped: line("unmapped"),
    disconnected: () => heard.push("disconnected"),
  });
  using file = new ClientFile(PAGE);
  const { peer } = served;
  await map(peer, { address: BASE }, [file.fd]);
  await map(peer, { address: BASE }, [file.fd]); // again
  await map(peer, { address: 0n, flags: DmaMapFlags.READ });
  const { dma } = served.device.bus!;
  assertEquals(dma.maps(), [
    { iova: 0n, size: 4096n, rights: DmaMapFlags.READ, isShared: false },
    { iova: BASE, size: 4096n, rights: READ_WRITE, isShared: true },
  ]);
  await unmap(peer, BASE, 4096n);
  assertEquals(dma.maps().length, 1);
  peer.close();
  await served.closed;
  assertEquals(heard, [
    `mapped ${BASE} 4096 3 true`,
    "mapped 0 4096 1 false",
    `unmapped ${BASE} 4096 3 true`,
    "unmapped 0 4096 1 false",
    "disconnected",
  ]);
  assertEquals(dma.maps(), []);
});

testFds("a device may refuse a map, and nothing of it is kept", async () => {
  let error: unknown = new DeviceError(EACCES, "not there");
  using served = await serveWith({
    mapped: () => {
      throw error;
    },
    unmapped: () => assert(false, "it was never mapped"),
  });
  using file = new ClientFile(PAGE);
  const before = countOpenFds();
  assertEquals(await map(served.peer, { address: BASE }, [file.fd]), EACCES);
  error = new TypeError("a mistake in the hook");
  assertEquals(await map(served.peer, { address: BASE }, [file.fd]), EIO);
  assertEquals(served.errors.map(([each]) => each), [error]);
  assertEquals(served.device.bus!.dma.maps(), []);
  assertEquals(countOpenFds(), before);
});

testFds("what `unmapped` throws is reported, and the client's DMA_UNMAP succeeds", async () => {
  const error = new TypeError("a mistake in the hook");
  using served = await serveWith({
    unmapped: () => {
      throw error;
    },
  });
  await map(served.peer, { address: BASE });
  assertEquals(await unmap(served.peer, BASE, 4096n), 0);
  assertEquals(served.errors, [[error, "unmapped"]]);
});

testFds("a change waits until the device is quiet, which may take DMA by message", async () => {
  const asked: QuietReason[] = [];
  let done = 0;
  const device: TestDevice = Object.assign(new TestDevice(), {
    quiesce: async (reason: QuietReason) => {
      asked.push(reason);
      if (reason === "unmap") await device.bus!.dma.write(BASE, new Uint8Array([1, 2, 3]));
      done++;
    },
  });
  using served = await serveNegotiated({ device });
  const { peer } = served;
  assertEquals(await map(peer, { address: BASE }), 0);
  // The device writes the end of its work before the memory goes.
  const unmapped = unmapRaw(peer);
  const write = await peer.expect(Command.DMA_WRITE);
  assertEquals(write.payload.slice(-3), new Uint8Array([1, 2, 3]));
  assertEquals(device.bus!.dma.maps().length, 1);
  peer.reply(write, write.payload.slice(0, 16));
  assertEquals(await unmapped(), 0);
  assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, 0);
  assertEquals([asked, done, device.resets], [["map", "unmap", "reset"], 3, 1]);
});

testFds("a device that refuses to be quiet changes nothing", async () => {
  const busy = new DeviceError(EBUSY, "busy");
  for (const isAsync of [false, true]) {
    const device = Object.assign(new MigratingDevice(), {
      quiesce: () => {
        if (isAsync) return Promise.reject(busy);
        throw busy;
      },
    });
    using served = await serveNegotiated({ device });
    using file = new ClientFile(PAGE);
    const { peer } = served;
    const before = countOpenFds();
    assertEquals(await map(peer, { address: BASE }, [file.fd]), EBUSY);
    assertEquals(await unmap(peer, BASE, 4096n), EBUSY);
    assertEquals((await ask(peer, Command.DEVICE_RESET)).errno, EBUSY);
    assertEquals(await setState(peer, DeviceState.STOP), EBUSY);
    assertEquals(await setState(peer, DeviceState.PRE_COPY), 0); // it goes on working
    assertEquals([device.resets, device.bus!.dma.maps().length], [0, 0]);
    assertEquals(countOpenFds(), before);
    assertEquals(served.errors, []);
  }
});

testFds("a device that never gets quiet is reported, and the request fails", async () => {
  using served = await serveWith({ quiesce: () => new Promise<void>(() => {}) }, {
    quiesceTimeoutMs: 20,
  });
  using file = new ClientFile(PAGE);
  const before = countOpenFds();
  assertEquals(await map(served.peer, { address: BASE }, [file.fd]), ETIMEDOUT);
  assertEquals(countOpenFds(), before);
  const [[error, doing]] = served.errors as [[Error, string]];
  assertEquals(doing, "quiesce");
  assertEquals(
    error.message,
    "The device did not become quiet within 20 ms (map): the client's request was refused",
  );
  assertEquals((await ask(served.peer, Command.DEVICE_RESET)).errno, ETIMEDOUT);
});

testFds("a client that leaves while a device gets quiet leaves nothing", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isAsked = false;
  using served = await serveWith({
    quiesce: () => {
      isAsked = true;
      return promise;
    },
    mapped: () => assert(false, "the client is gone"),
  });
  using file = new ClientFile(PAGE);
  const { dma } = served.device.bus!;
  const left = map(served.peer, { address: BASE }, [file.fd]).catch(() => "gone");
  await until(() => isAsked, "the hook");
  served.peer.close();
  resolve();
  assertEquals(await left, "gone");
  await served.closed;
  assertEquals(dma.maps(), []);
});

testFds("DMA by message of shared memory asks the client", async () => {
  using served = await serveNegotiated();
  using file = new ClientFile(PAGE);
  file.bytes.fill(0xee);
  const { peer } = served;
  await map(peer, { address: BASE }, [file.fd]);
  const { dma } = served.device.bus!;
  const via = { via: "message" } as const;
  const read = dma.read(BASE, 2, via);
  const request = await peer.expect(Command.DMA_READ);
  peer.reply(request, new Uint8Array([...request.payload.slice(0, 16), 7, 8]));
  assertEquals(await read, new Uint8Array([7, 8]));
  const into = new Uint8Array(1);
  const readInto = dma.readInto(BASE, into, via);
  const second = await peer.expect(Command.DMA_READ);
  peer.reply(second, new Uint8Array([...second.payload.slice(0, 16), 9]));
  await readInto;
  const write = dma.write(BASE, new Uint8Array([5]), via);
  const third = await peer.expect(Command.DMA_WRITE);
  peer.reply(third, third.payload.slice(0, 16));
  await write;
  assertEquals([into[0], file.bytes[0]], [9, 0xee]); // the client did nothing with it
});

/** Sends DMA_UNMAP of a page at BASE. Returns a function that waits for its answer. */
function unmapRaw(peer: Parameters<typeof unmap>[0]): () => Promise<number> {
  const payload = new Uint8Array(24);
  const view = new DataView(payload.buffer);
  view.setUint32(0, 24, true);
  view.setBigUint64(8, BASE, true);
  view.setBigUint64(16, 4096n, true);
  peer.command(77, Command.DMA_UNMAP, payload);
  return async () => (await peer.expect(Command.DMA_UNMAP)).error;
}
