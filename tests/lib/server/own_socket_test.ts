import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EINVAL } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { countOpenFds, OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";
import { IrqSetFlags, PciIrq, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { testFds } from "../../_fds.ts";
import { lingeringSocket } from "../../_odd_fds.ts";
import { access, ask, commands, type Served, serveNegotiated, sleep, words } from "./_client.ts";
import { PATIENCE_MS, until } from "../../_until.ts";

const { DATA_EVENTFD, ACTION_TRIGGER, ACTION_MASK, ACTION_UNMASK } = IrqSetFlags;

/** The client's own end of the connection, a second descriptor of it. */
function ownEnd({ peer }: Served): OwnedFd {
  const borrowed = new OwnedFd(peer.socket.fd);
  try {
    return borrowed.duplicate();
  } finally {
    borrowed.release();
  }
}

/** A socket in whose queue the client's own end is: `depth` sockets deep. */
function hidden(served: Served, depth: number): OwnedFd {
  let inside = ownEnd(served);
  for (let i = 0; i < depth; i++) {
    const [a, b] = UnixSocket.pair();
    a.send(new IoBuffer(1), 0, 1, [inside.fd]);
    a.close();
    inside.close();
    inside = new OwnedFd(b.release());
  }
  return inside;
}

function setIrqs(action: number): Uint8Array {
  const flags = DATA_EVENTFD | action;
  const data = new Uint8Array();
  return SetIrqsRequest.encode({ argsz: 20, flags, index: PciIrq.INTX, start: 0, count: 1, data });
}

/** A DMA_MAP of a page. */
const MAP = words(32, 3, 0, 0, 0x1000, 0, 0x1000, 0);

const REQUESTS: [string, number, Uint8Array][] = [
  ["a trigger", Command.DEVICE_SET_IRQS, setIrqs(ACTION_TRIGGER)],
  ["a mask", Command.DEVICE_SET_IRQS, setIrqs(ACTION_MASK)],
  ["an unmask", Command.DEVICE_SET_IRQS, setIrqs(ACTION_UNMASK)],
  ["memory", Command.DMA_MAP, MAP],
];

for (const depth of [0, 1, 3]) {
  const place = depth === 0 ? "own socket" : `own socket, ${depth} queues deep,`;
  testFds(`a client's ${place} is refused, and the client's end is seen`, async () => {
    for (const [name, command, payload] of REQUESTS) {
      using served = await serveNegotiated();
      const fd = hidden(served, depth);
      assertEquals((await ask(served.peer, command, payload, [fd])).errno, EINVAL, name);
      fd.close();
      served.peer.close();
      assert(await served.closed, name);
    }
  });

  testFds(`a client's ${place} with a message that never becomes whole holds nothing`, async () => {
    for (const cut of [1, 15, 20]) {
      using served = await serveNegotiated();
      const fd = hidden(served, depth);
      const whole = encodeMessage(
        { messageId: 9, command: Command.DEVICE_SET_IRQS, flags: 0 },
        setIrqs(ACTION_TRIGGER),
      );
      served.peer.send(whole.subarray(0, cut), [fd]);
      fd.close();
      await sleep(5);
      served.peer.close();
      assert(await served.closed);
    }
  });
}

testFds("a client's own socket behind requests that wait for it to read is found", async () => {
  using event = new EventFd();
  for (const depth of [0, 1]) {
    using served = await serveNegotiated();
    const { peer } = served;
    const read = encodeMessage(
      { messageId: 1, command: Command.REGION_READ, flags: 0 },
      access(0n, 3, 1 << 20),
    );
    // Answers of some MiB, which the client does not read; then its requests wait.
    for (let i = 0; i < 12; i++) peer.send(read);
    await sleep(50);
    for (let i = 0; i < 20; i++) peer.send(read, [event.handle]);
    const fd = hidden(served, depth);
    peer.send(read.subarray(0, 5), [fd]);
    fd.close();
    peer.send(read.subarray(5));
    served.peer.close();
    const cause = await served.closed;
    assertStringIncludes(`${cause}`, "passed a socket, and does not read its answers");
  }
});

testFds("a client that leaves answers unread for a while is served on", async () => {
  using served = await serveNegotiated();
  const { peer } = served;
  const requests = commands(12, Command.REGION_READ, access(0n, 3, 1 << 20));
  peer.send(requests);
  const setting = encodeMessage(
    { messageId: 99, command: Command.DEVICE_SET_IRQS, flags: 0 },
    setIrqs(ACTION_TRIGGER),
  );
  using event = new EventFd();
  await sleep(50);
  peer.send(setting, [event.handle]);
  await sleep(2500); // looked at twice
  for (let i = 0; i < 12; i++) {
    assertEquals((await peer.expect(Command.REGION_READ)).payload.length, 16 + (1 << 20));
  }
  assertEquals((await peer.expect(Command.DEVICE_SET_IRQS)).error, 0);
  served.device.bus!.irqs.raise(PciIrq.INTX, 0);
  assertEquals(event.take(), 1n);
});

testFds("sockets that go along with anything are closed, wherever they are", async () => {
  using served = await serveNegotiated();
  const before = countOpenFds();
  const read = new Uint8Array(16);
  new DataView(read.buffer).setUint32(12, 4, true);
  for (const command of [Command.REGION_READ, Command.DMA_UNMAP, Command.VERSION, 99]) {
    const fd = hidden(served, 1);
    await ask(served.peer, command, read, [fd]);
    fd.close();
  }
  await until(() => countOpenFds() === before, "the descriptors to be closed");
  served.peer.close();
  assert(await served.closed);
});

testFds("a socket that takes long to close keeps nothing waiting", async () => {
  // Longer than `expect` waits.
  const { socket, end } = lingeringSocket(2 * PATIENCE_MS / 1000);
  using served = await serveNegotiated();
  served.peer.command(1, Command.DEVICE_SET_IRQS, setIrqs(ACTION_TRIGGER), [socket]);
  socket.close();
  try {
    assertEquals((await served.peer.expect(Command.DEVICE_SET_IRQS)).error, EINVAL);
    assertEquals((await ask(served.peer, Command.DEVICE_RESET)).errno, 0);
  } finally {
    end.close(); // now it is closed soon
  }
});
