import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN, EFAULT } from "../../../ffi/errno.ts";
import { closeAll } from "../../../ffi/fd.ts";
import { idle } from "../../../ffi/poller.ts";
import { ConnectionError, ProtocolError, TimeoutError } from "../../../lib/base/errors.ts";
import type { DmaMap, DmaMapOptions } from "../../../lib/client/dma_map.ts";
import type { IrqIndex } from "../../../lib/client/irq.ts";
import { MAX_PENDING } from "../../../lib/base/limits.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { IrqInfoReply } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { type ByHand, outcome, pause, replyTo, withTwin } from "../_by_hand.ts";
import { PATIENT } from "../../_until.ts";

const { DMA_MAP, DMA_UNMAP, DMA_READ, DMA_WRITE, DEVICE_RESET, REGION_READ, DEVICE_SET_IRQS } =
  Command;

const PAGE = 0x1000;

async function mapByHand(
  { device, peer }: ByHand,
  options: Partial<DmaMapOptions> = {},
): Promise<DmaMap> {
  const mapping = device.dma.mapAsync({ iova: 0, size: PAGE, ...options });
  const request = await peer.expect(DMA_MAP);
  closeAll(request.fds);
  peer.reply(request);
  return await mapping;
}

async function enableByHand({ device, peer }: ByHand): Promise<IrqIndex> {
  const asking = device.irqs("msix");
  const reply = IrqInfoReply.encode({ argsz: 16, flags: 1, index: 2, count: 1 });
  peer.reply(await peer.expect(Command.DEVICE_GET_IRQ_INFO), reply);
  const irqs = await asking;
  const enabling = irqs.enable();
  const request = await peer.expect(DEVICE_SET_IRQS);
  closeAll(request.fds);
  peer.reply(request);
  await enabling;
  return irqs;
}

function head(address: number, count: number): Uint8Array {
  return new Uint8Array(new BigUint64Array([BigInt(address), BigInt(count)]).buffer);
}

function write(address: number, data: Uint8Array): Uint8Array {
  const payload = new Uint8Array(16 + data.length);
  payload.set(head(address, data.length));
  payload.set(data, 16);
  return payload;
}

/** Fails if anything waits to be read. */
function assertSilent(peer: RawPeer): void {
  assertEquals(peer.socket.receive(new IoBuffer(64), 0, 64), -EAGAIN, "nothing belongs there");
}

testFds(
  "the server's commands come on the twin, and their replies go back there",
  () =>
    withTwin(async (hand) => {
      const { device, peer, twin } = hand;
      const map = await mapByHand(hand, { share: "message" });
      assert(device.negotiated.twinSocket);
      twin.command(7, DMA_WRITE, write(8, new Uint8Array([1, 2, 3])));
      assertEquals((await twin.expect(DMA_WRITE)).messageId, 7);
      twin.command(8, DMA_READ, head(7, 4));
      assertEquals((await twin.expect(DMA_READ)).payload.slice(16), new Uint8Array([0, 1, 2, 3]));
      twin.command(9, DMA_READ, head(PAGE, 1));
      assertEquals(outcome(await twin.expect(DMA_READ)), EFAULT);
      assertEquals(map.bytes[8], 1);
      assertSilent(peer);
    }),
);

testFds(
  "requests go on as ever with a twin: many in flight, whatever is mapped",
  () =>
    withTwin(async (hand) => {
      const { device: { proxy }, peer, twin } = hand;
      const map = await mapByHand(hand, { share: "message" });
      assertEquals([proxy.window, proxy.serving, proxy.twin!.serving], [MAX_PENDING, false, true]);
      const requests = [1, 2, 3].map(() => proxy.request(REGION_READ));
      const came = [];
      for (let i = 0; i < 3; i++) came.push(await peer.expect(REGION_READ));
      // The same message id, another direction
      twin.command(came[0]!.messageId, DMA_READ, head(0, 4));
      await twin.expect(DMA_READ);
      for (const request of came) peer.reply(request);
      await Promise.all(requests);
      const unmapping = map.unmapAsync();
      peer.reply(await peer.expect(DMA_UNMAP), new Uint8Array(24));
      await unmapping;
      assertEquals(proxy.twin!.serving, false);
      await idle();
      assertSilent(twin);
    }),
);

for (const share of ["message", "memfd"] as const) {
  testFds(
    `a request that blocks serves the twin, with memory by ${share}`,
    () =>
      withTwin(async (hand) => {
        const { device, peer, twin } = hand;
        await mapByHand(hand, { share });
        twin.command(1, DMA_READ, head(0, 4));
        peer.send(replyTo(3, DEVICE_RESET));
        device.proxy.requestSync(DEVICE_RESET);
        assertEquals(outcome(await twin.expect(DMA_READ)), "ok");
        await peer.expect(DEVICE_RESET);
      }),
  );

  testFds(
    `a request that is awaited has the twin served, with memory by ${share}`,
    () =>
      withTwin(async (hand) => {
        const { device, peer, twin } = hand;
        await mapByHand(hand, { share });
        for (let i = 0; i < 2; i++) {
          const resetting = device.reset();
          const request = await peer.expect(DEVICE_RESET);
          twin.command(i, DMA_READ, head(0, 4));
          assertEquals(outcome(await twin.expect(DMA_READ)), "ok");
          peer.reply(request);
          await resetting;
        }
      }),
  );

  testFds(
    `an interrupt that is awaited has the twin served, with memory by ${share}`,
    () =>
      withTwin(async (hand) => {
        const { twin } = hand;
        await mapByHand(hand, { share });
        const irqs = await enableByHand(hand);
        const waiting = irqs.waitAsync(0, PATIENT);
        twin.command(1, DMA_READ, head(0, 4));
        assertEquals(outcome(await twin.expect(DMA_READ)), "ok");
        const ended = assertRejects(() => waiting, RangeError, "disabled");
        irqs.close();
        await ended;
        twin.command(2, DMA_READ, head(0, 4));
        assertThrows(
          () => hand.device.proxy.requestSync(DEVICE_RESET, undefined, { timeoutMs: 5 }),
          TimeoutError,
        );
        assertEquals((await twin.expect(DMA_READ)).messageId, 2);
      }),
  );
}

testFds(
  "what the twin's handler was given holds while it asks over the other socket",
  () =>
    withTwin(async (hand) => {
      const { device, peer, twin } = hand;
      const map = await mapByHand(hand, { size: 32 * PAGE, share: "message" });
      const data = [0, 1].map((i) => new Uint8Array(40_000).fill(0x11 * (i + 1)));
      device.dma.onAccess = () => {
        peer.send(replyTo(device.dma.maps.length + id++, DEVICE_RESET));
        device.proxy.requestSync(DEVICE_RESET);
      };
      let id = 2;
      twin.command(1, DMA_WRITE, write(0, data[0]!));
      twin.command(2, DMA_WRITE, write(0x8000, data[1]!));
      for (const messageId of [1, 2]) {
        const answer = await twin.expect(DMA_WRITE);
        assertEquals([answer.messageId, outcome(answer)], [messageId, "ok"]);
      }
      assertEquals(map.bytes.subarray(0, 0x8000).every((byte) => byte === 0x11), true);
      assertEquals(
        map.bytes.subarray(0x8000, 0x8000 + 40_000).every((byte) => byte === 0x22),
        true,
      );
    }),
);

testFds(
  "a wait is not cut short by a handler that asks over the other socket",
  () =>
    withTwin(async (hand) => {
      const { device, peer, twin } = hand;
      await mapByHand(hand, { share: "message" });
      const irqs = await enableByHand(hand);
      device.dma.onAccess = () => {
        peer.send(replyTo(5, DEVICE_RESET));
        device.proxy.requestSync(DEVICE_RESET);
      };
      twin.command(1, DMA_READ, head(0, 4));
      const start = performance.now();
      assertThrows(() => irqs.wait(0, { timeoutMs: 30 }), TimeoutError);
      assertGreaterOrEqual(performance.now() - start, 25);
      assertEquals(outcome(await twin.expect(DMA_READ)), "ok");
    }),
);

// ---- The end

for (const which of ["twin", "peer"] as const) {
  const other = which === "twin" ? "peer" : "twin";
  const name = { twin: "the twin", peer: "the first socket" };

  testFds(
    `the end of ${name[which]} fails what is awaited, at once`,
    () =>
      withTwin(async (hand) => {
        const { device } = hand;
        await mapByHand(hand);
        const irqs = await enableByHand(hand);
        const waits = [irqs.waitAsync(0, { timeoutMs: Infinity }), device.reset()];
        await hand.peer.expect(DEVICE_RESET);
        const failed = waits.map((each) => assertRejects(() => each, ConnectionError, "closed"));
        hand[which].close();
        await Promise.all(failed);
        assertEquals([device.state, device.proxy.twin!.state], ["CLOSED", "CLOSED"]);
      }),
  );

  testFds(`the end of ${name[which]} fails what blocks, at once`, () =>
    withTwin(async (hand) => {
      const { proxy } = hand.device;
      const irqs = await enableByHand(hand);
      hand[which].close();
      assertThrows(() => irqs.wait(0, { timeoutMs: Infinity }), ConnectionError, "closed");
      assertThrows(() => proxy.requestSync(DEVICE_RESET), ConnectionError, "closed");
      assertEquals([proxy.state, proxy.twin!.state], ["CLOSED", "CLOSED"]);
    }));

  testFds(
    `the end of ${name[which]} is the end of both while commands are served`,
    () =>
      withTwin(async (hand) => {
        const { device } = hand;
        await mapByHand(hand, { share: "message" });
        if (which === "peer") {
          const resetting = device.reset();
          const failed = assertRejects(() => resetting, ConnectionError);
          hand.peer.close();
          await failed;
        } else hand.twin.close();
        await idle(); // nothing is left that keeps the process alive
        assertEquals([device.state, device.proxy.twin!.state], ["CLOSED", "CLOSED"]);
        assertEquals(await hand[other].receive().catch((error) => error), undefined);
      }),
  );
}

testFds("close() closes both", () =>
  withTwin(async ({ device, peer, twin }) => {
    device.close();
    assertEquals([await peer.receive(), await twin.receive()], [undefined, undefined]);
  }));

testFds("a reply that nobody asked for on the twin ends both", () =>
  withTwin(async (hand) => {
    const { device, twin } = hand;
    await mapByHand(hand, { share: "message" });
    const resetting = device.reset();
    twin.send(replyTo(3, DEVICE_RESET)); // the id of a request, but over the wrong socket
    await assertRejects(() => resetting, ProtocolError, "which no request has");
    assertEquals(device.state, "CLOSED");
  }));

testFds("half a message on the twin holds up nothing", () =>
  withTwin(async (hand) => {
    const { device, peer, twin } = hand;
    await mapByHand(hand, { share: "message" });
    const request = encodeMessage({ messageId: 1, command: DMA_READ, flags: 0 }, head(0, 4));
    twin.send(request.subarray(0, 20));
    peer.send(replyTo(3, DEVICE_RESET));
    device.proxy.requestSync(DEVICE_RESET);
    await pause(2);
    twin.send(request.subarray(20));
    assertEquals(outcome(await twin.expect(DMA_READ)), "ok");
  }));

testFds(
  "requestPatiently() serves the twin socket's commands while it waits for its reply",
  () =>
    withTwin(async (hand) => {
      const { device, peer, twin } = hand;
      const map = await mapByHand(hand, { share: "message" });
      map.bytes[3] = 7;
      const payload = new Uint8Array(16);
      const reply = device.proxy.requestPatiently(REGION_READ, payload, {}, 5);
      assert(reply instanceof Promise, "it did not block for good");
      twin.command(1, DMA_READ, head(3, 1));
      const answer = await twin.expect(DMA_READ);
      assertEquals([outcome(answer), answer.payload[16]], ["ok", 7]);
      peer.reply(await peer.expect(REGION_READ), new Uint8Array([1]));
      assertEquals((await reply).payload, new Uint8Array([1]));
    }),
);
