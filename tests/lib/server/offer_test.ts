import { assert, assertEquals, assertThrows } from "@std/assert";
import { createMemfd } from "../../../ffi/memory.ts";
import { EINVAL, ENOSPC } from "../../../ffi/errno.ts";
import { Offer, type ServerOffer } from "../../../lib/server/offer.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DmaMapFlags, DmaMapRequest } from "../../../lib/wire/dma.ts";
import { type Capabilities, decodeVersion, encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { access, ask, serve, type Served } from "./_client.ts";

/** Everything that a client may propose. */
const PROPOSED: Capabilities = {
  maxMsgFds: 16,
  maxDataXferSize: 1 << 20,
  maxDmaMaps: 65535,
  pgsizes: 4096n,
  writeMultiple: true,
  twinSocket: { supported: true },
};

async function version(served: Served, proposed: Capabilities) {
  const payload = encodeVersion({ major: 0, minor: 2, capabilities: proposed });
  const reply = await ask(served.peer, Command.VERSION, payload);
  reply.fds.forEach((fd) => fd.close());
  return { ...decodeVersion(reply.payload), fdCount: reply.fds.length };
}

testFds(
  "limits that are chosen are told to every client, also to one that proposes none",
  async () => {
    const offer: ServerOffer = {
      minor: 1,
      maxMsgFds: 2,
      maxDataXferSize: 8192,
      maxDmaMaps: 5,
      pgsizes: 0x1_0000n,
    };
    const limits = { maxMsgFds: 2, maxDataXferSize: 8192, maxDmaMaps: 5, pgsizes: 0x1_0000n };
    for (const proposed of [{}, PROPOSED]) {
      using served = serve(offer);
      const { minor, capabilities } = await version(served, proposed);
      const { writeMultiple: _, twinSocket: __, ...told } = capabilities;
      assertEquals([minor, told], [1, limits]);
    }
  },
);

testFds("REGION_WRITE_MULTI and a twin socket can be withheld", async () => {
  using served = serve({ writeMultiple: false, twinSocket: false });
  const { capabilities, fdCount } = await version(served, PROPOSED);
  assertEquals([capabilities.writeMultiple, capabilities.twinSocket, fdCount], [
    undefined,
    undefined,
    0,
  ]);
  const one = new Uint8Array(8 + 24);
  new DataView(one.buffer).setBigUint64(0, 1n, true);
  assertEquals((await ask(served.peer, Command.REGION_WRITE_MULTI, one)).errno, EINVAL);
  using usual = serve();
  const offered = await version(usual, PROPOSED);
  assertEquals([offered.capabilities.writeMultiple, offered.fdCount], [true, 1]);
});

testFds("an access is as large as was offered, and no larger", async () => {
  for (const maxDataXferSize of [64, (1 << 20) + 4096]) {
    using served = serve({ maxDataXferSize });
    await version(served, {});
    const read = (count: number) => ask(served.peer, Command.REGION_READ, access(0n, 3, count));
    const { errno, payload } = await read(maxDataXferSize);
    assertEquals([errno, payload.length], [0, 16 + maxDataXferSize]);
    assertEquals((await read(maxDataXferSize + 1)).errno, EINVAL);
  }
});

testFds("maps are of whole pages, and as many as were offered", async () => {
  using served = serve({ pgsizes: 0x1_0000n | 0x20_0000n, maxDmaMaps: 1 });
  await version(served, {});
  const map = async (address: bigint, size: bigint) => {
    const { READ } = DmaMapFlags;
    const request = DmaMapRequest.encode({ argsz: 32, flags: READ, offset: 0n, address, size });
    return (await ask(served.peer, Command.DMA_MAP, request)).errno;
  };
  assertEquals(await map(0x1000n, 0x1_0000n), EINVAL);
  assertEquals(await map(0x1_0000n, 0x1000n), EINVAL);
  assertEquals(await map(0x1_0000n, 0x1_0000n), 0);
  assertEquals(await map(0x2_0000n, 0x1_0000n), ENOSPC);
});

testFds("a client that sends more descriptors than it was told is refused", async () => {
  using served = serve({ maxMsgFds: 1 });
  await version(served, {});
  using one = createMemfd("one", 4096);
  using other = createMemfd("other", 4096);
  assertEquals((await ask(served.peer, Command.DEVICE_RESET, undefined, [one])).errno, 0);
  assertEquals(
    (await ask(served.peer, Command.DEVICE_RESET, undefined, [one, other])).errno,
    EINVAL,
  );
  assertEquals(served.device.resets, 1);
});

Deno.test("an offer that can't be is a RangeError, which says what can", () => {
  const impossible: ServerOffer[] = [
    { minor: 3 },
    { minor: -1 },
    { maxMsgFds: 254 },
    { maxMsgFds: 0.5 },
    { maxDataXferSize: 0 },
    { maxDataXferSize: (64 << 20) + 1 },
    { maxDmaMaps: -1 },
    { maxDmaMaps: NaN },
    { pgsizes: 0n },
    { pgsizes: 2048n },
    { pgsizes: 1n << 64n },
    { pgsizes: -4096n },
  ];
  for (const offer of impossible) {
    const [name] = Object.keys(offer);
    const { message } = assertThrows(() => new Offer(offer), RangeError);
    assert(message.startsWith(`Cannot offer ${name} `), message);
  }
});
