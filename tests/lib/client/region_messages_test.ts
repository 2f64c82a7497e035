import { assert, assertEquals, assertRejects } from "@std/assert";
import { ProtocolError, TimeoutError } from "../../../lib/base/errors.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";

import { withRegion } from "./_region_by_hand.ts";

testFds("a device that answers for another place ends the connection", async () => {
  for (const [at, value] of [[0, 8], [4, 1], [8, 1]] as const) { // offset, and region
    for (const isWrite of [false, true]) {
      await withRegion({}, async (region, peer, device) => {
        const access = isWrite ? region.write32Async(4, 1) : region.read32Async(4);
        const { REGION_READ, REGION_WRITE } = Command;
        const request = await peer.expect(isWrite ? REGION_WRITE : REGION_READ);
        const answer = new Uint8Array(isWrite ? 16 : 20);
        answer.set(request.payload.subarray(0, 16));
        new DataView(answer.buffer).setUint32(at, value, true);
        peer.reply(request, answer);
        await assertRejects(() => access, ProtocolError, "The server answered for ");
        assertEquals(device.state, "CLOSED");
      });
    }
  }
});

testFds("a device that answers with fewer or more bytes ends the connection", async () => {
  for (const size of [0, 3, 5, 100]) {
    await withRegion({}, async (region, peer, device) => {
      const read = region.read32Async(0);
      const request = await peer.expect(Command.REGION_READ);
      peer.reply(request, new Uint8Array([...request.payload, ...new Uint8Array(size)]));
      await assertRejects(
        () => read,
        ProtocolError,
        `answered ${16 + size} bytes to a read of 4 bytes of bar0 at 0x0`,
      );
      assertEquals(device.state, "CLOSED");
    });
  }
});

testFds(
  "a write that was taken in part ends the connection",
  () =>
    withRegion({}, async (region, peer) => {
      const write = region.write32Async(8, 1);
      const request = await peer.expect(Command.REGION_WRITE);
      const reply = request.payload.slice(0, 16);
      reply[12] = 3;
      peer.reply(request, reply);
      await assertRejects(() => write, ProtocolError, "says that it wrote 3 of 4 bytes");
    }),
);

testFds(
  "a large write leaves in pieces of 32 KiB at most, several under way",
  () =>
    withRegion({ size: 1n << 20n }, async (region, peer) => {
      const write = region.writeAsync(0, new Uint8Array(100_000));
      const sizes: number[] = [];
      for (let i = 0; i < 4; i++) {
        const request = await peer.expect(Command.REGION_WRITE);
        sizes.push(request.payload.length - 16);
        peer.reply(request, request.payload.subarray(0, 16));
      }
      await write;
      assertEquals(sizes, [32768, 32768, 32768, 1696]);
    }),
);

testFds(
  "a server that dies in the middle of a large read fails it",
  () =>
    withRegion({ size: 1n << 24n }, async (region, peer) => {
      const read = region.readAsync(0, 1 << 24);
      const failed = assertRejects(() => read, Error, "closed the connection");
      await peer.expect(Command.REGION_READ);
      peer.close();
      await failed;
    }),
);

testFds(
  "read() puts large data right where they are wanted, and no more once it has given up",
  () =>
    withRegion({ size: 1n << 24n }, async (region, peer) => {
      const answer = async (fill: number, cut = 0) => {
        const request = await peer.expect(Command.REGION_READ);
        const { buffer, byteOffset } = request.payload;
        const count = new DataView(buffer, byteOffset).getUint32(12, true);
        const payload = new Uint8Array(16 + count).fill(fill);
        payload.set(request.payload);
        const message = encodeMessage(
          { messageId: request.messageId, command: request.command, flags: MessageFlags.REPLY },
          payload,
        );
        const end = cut === 0 ? message.length : cut;
        for (let at = 0; at < end; at += 50_000) {
          peer.send(message.subarray(at, Math.min(at + 50_000, end)));
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        return message.subarray(end);
      };
      const into = new Uint8Array(200_000);
      const first = region.readAsync(0x1000, into.length, { into });
      await answer(7);
      assert(await first === into);
      assert(into.every((byte) => byte === 7));

      const given = new Uint8Array(200_000);
      const late = region.readAsync(0, given.length, { into: given, timeoutMs: 40 });
      const failed = assertRejects(() => late, TimeoutError);
      const rest = await answer(9, 120_000);
      await failed;
      given.fill(1);
      peer.send(rest); // the reply is completed after its request has ended
      const next = region.read32Async(0);
      await answer(5);
      assertEquals(await next, 0x05050505);
      assert(
        given.every((byte) => byte === 1),
        "a reply that came late was put where nobody wanted it",
      );
      await assertRejects(
        () => region.readAsync(0, 10, { into: given }),
        RangeError,
        "Cannot read 10 bytes into 200000",
      );
    }),
);
