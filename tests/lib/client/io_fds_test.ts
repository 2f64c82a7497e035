import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EINVAL, SystemError } from "../../../ffi/errno.ts";
import { EventFd } from "../../../ffi/event.ts";
import { countOpenFds, OwnedFd } from "../../../ffi/fd.ts";
import { createMemfd } from "../../../ffi/memory.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import type { Device } from "../../../lib/client/device.ts";
import { ConnectionError, ProtocolError, RemoteError } from "../../../lib/base/errors.ts";
import type { RegionIoFds } from "../../../lib/client/io_fds.ts";
import { MAX_REGION_INFO_SIZE } from "../../../lib/base/limits.ts";
import { Command } from "../../../lib/wire/command.ts";
import { RegionIoFdsRequest } from "../../../lib/wire/io_fds.ts";
import { testFds } from "../../_fds.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { withHand } from "../_by_hand.ts";

const { DEVICE_GET_REGION_IO_FDS } = Command;

/** An entry as the server writes it. `value` and `data` as the form has them. */
interface Entry {
  offset?: bigint;
  size?: bigint;
  fdIndex?: number;
  type?: number;
  flags?: number;
  shadow?: number;
  value?: bigint;
  data?: bigint;
}

/** A reply with entries of 40 bytes, or of 48; `argsz` and `count` may lie. */
function reply(
  entries: Entry[],
  options: { entrySize?: number; index?: number; argsz?: number; count?: number } = {},
): Uint8Array {
  const { entrySize = 40, index = 0, count = entries.length } = options;
  const { argsz = 16 + entries.length * entrySize } = options;
  const bytes = new Uint8Array(16 + entries.length * entrySize);
  const view = new DataView(bytes.buffer);
  [argsz, 0, index, count].forEach((each, i) => view.setUint32(i * 4, each, true));
  for (const [i, each] of entries.entries()) {
    const at = 16 + i * entrySize;
    view.setBigUint64(at, each.offset ?? 0n, true);
    view.setBigUint64(at + 8, each.size ?? 4n, true);
    const words = [each.fdIndex ?? 0, each.type ?? 0, each.flags ?? 0, each.shadow ?? 0];
    words.forEach((word, j) => view.setUint32(at + 16 + j * 4, word, true));
    view.setBigUint64(at + 32, each.value ?? 0n, true);
    if (entrySize === 48) view.setBigUint64(at + 40, each.data ?? 0n, true);
  }
  return bytes;
}

/** Asks for the I/O descriptors of region 0; each request gets the next of `answers`. */
async function ask(
  device: Device,
  peer: RawPeer,
  answers: [payload: Uint8Array, fds?: OwnedFd[]][],
): Promise<[RegionIoFds, argszs: number[]]> {
  const asking = device.regionIoFds(0);
  asking.catch(() => {}); // it is looked at when all is answered
  const argszs: number[] = [];
  for (const [payload, fds] of answers) {
    const request = await peer.expect(DEVICE_GET_REGION_IO_FDS);
    const { argsz, index, flags, count } = RegionIoFdsRequest.decode(request.payload);
    assertEquals([index, flags, count, request.payload.length], [0, 0, 0, 16]);
    argszs.push(argsz);
    peer.reply(request, payload, fds);
  }
  return [await asking, argszs];
}

/** A small answer that says how large the whole one is. */
function tooSmall(argsz: number, count = 1): [Uint8Array] {
  return [reply([], { argsz, count })];
}

testFds(
  "regionIoFds() asks again with the size that the server says",
  () =>
    withHand(async ({ device, peer }) => {
      using event = new EventFd();
      const entries = [{ offset: 0x1000n, size: 4n, flags: 5, value: 0x77n }];
      const [fds, argszs] = await ask(device, peer, [tooSmall(56), [reply(entries), [
        event.handle,
      ]]]);
      using _ = fds;
      assertEquals(argszs, [16, 56]);
      const { fd, ...rest } = fds.entries[0]!;
      assertEquals(rest, {
        offset: 0x1000n,
        size: 4n,
        kind: "ioeventfd",
        flags: 5,
        data: 0x77n,
        shadowOffset: 0n,
        shadowFd: undefined,
      });
      fds.kick(fds.entries[0]!);
      fds.kick(fds.entries[0]!);
      assertEquals(event.take(), 2n);
      assertEquals(fd!.isOpen, true);
    }),
);

testFds(
  "regionIoFds() of a region without any is empty",
  () =>
    withHand(async ({ device, peer }) => {
      using fds = (await ask(device, peer, [[reply([])]]))[0];
      assertEquals(fds.entries, []);
    }),
);

testFds("regionIoFds() asks once more if they have grown, and no oftener", async () => {
  await withHand(async ({ device, peer }) => {
    using event = new EventFd();
    const answers: [Uint8Array, OwnedFd[]?][] = [
      tooSmall(56),
      [reply([{}], { argsz: 96 }), [event.handle]], // closed, as the next one brings all
      [reply([{}, { offset: 8n }]), [event.handle]],
    ];
    const [fds, argszs] = await ask(device, peer, answers);
    assertEquals([argszs, fds.entries.length], [[16, 56, 96], 2]);
    fds.close();
  });
  await withHand(async ({ device, peer }) => {
    const growing = [tooSmall(56), tooSmall(96), tooSmall(136)];
    await assertRejects(() => ask(device, peer, growing), ProtocolError, "ever more room");
    assertEquals(device.state, "CLOSED");
  });
  await withHand(async ({ device, peer }) => {
    const huge = [tooSmall(MAX_REGION_INFO_SIZE + 1)];
    await assertRejects(() => ask(device, peer, huge), ProtocolError, "wants 65537 bytes of room");
    assertEquals(device.state, "CLOSED");
  });
});

for (const entrySize of [40, 48]) {
  testFds(
    `entries of ${entrySize} bytes are understood, each kind`,
    () =>
      withHand(async ({ device, peer }) => {
        using a = new EventFd();
        using b = new EventFd();
        const isLong = entrySize === 48;
        const entries: Entry[] = [
          { offset: 1n, fdIndex: 1, type: 0, ...(isLong ? { data: 5n } : { value: 5n }) },
          { offset: 2n, fdIndex: 1, type: 1, value: 6n },
          { offset: 3n, fdIndex: 0, type: 2, shadow: 1, value: 7n, data: 8n },
          { offset: 4n, fdIndex: 0xffff_ffff, type: 0 },
          { offset: 5n, fdIndex: 0, type: 9 },
        ];
        const argsz = 16 + entries.length * entrySize;
        const answers: [Uint8Array, OwnedFd[]?][] = [
          tooSmall(argsz),
          [reply(entries, { entrySize }), [a.handle, b.handle]],
        ];
        using fds = (await ask(device, peer, answers))[0];
        const [plain, socket, shadow, none, unknown] = fds.entries;
        assertEquals(fds.entries.map(({ offset }) => offset), [1n, 2n, 3n, 4n, 5n]);
        assertEquals(
          fds.entries.map(({ kind }) => kind),
          ["ioeventfd", "ioregionfd", "shadow ioeventfd", "ioeventfd", "type 9"],
        );
        assertEquals([plain!.data, socket!.data], [5n, 6n]);
        assertEquals([shadow!.shadowOffset, shadow!.data], [7n, isLong ? 8n : 0n]);
        assertStrictEquals(plain!.fd, socket!.fd, "one descriptor, shared");
        assertStrictEquals(shadow!.shadowFd, plain!.fd);
        assertEquals([none!.fd, plain!.shadowFd], [undefined, undefined]);
        fds.kick(plain!);
        fds.kick(shadow!);
        assertEquals([b.take(), a.take()], [1n, 1n]);
        for (const each of [socket!, none!, unknown!]) {
          assertThrows(
            () => fds.kick(each),
            TypeError,
            `offset 0x${each.offset}: its descriptor is`,
          );
        }
      }),
  );
}

testFds(
  "a descriptor that did not come ends the connection, and those that came are closed",
  async () => {
    for (const entry of [{ fdIndex: 1 }, { type: 2, shadow: 1 }, { fdIndex: 0xffff_fffe }]) {
      await withHand(async ({ device, peer }) => {
        using event = new EventFd();
        await idle();
        const before = countOpenFds();
        const answers: [Uint8Array, OwnedFd[]?][] = [
          tooSmall(56),
          [reply([{ offset: 0x20n, ...entry }]), [event.handle]],
        ];
        const index = entry.fdIndex ?? 1;
        await assertRejects(
          () => ask(device, peer, answers),
          ProtocolError,
          `says that descriptor ${index} is for offset 0x20, but passed 1`,
        );
        assertEquals(device.state, "CLOSED");
        await idle();
        assertEquals(countOpenFds(), before - 1, "the socket has gone, and nothing has come");
      });
    }
  },
);

testFds(
  "answers that make no sense end the connection, and their descriptors are closed",
  async () => {
    const cases: [Uint8Array, string][] = [
      [reply([{}], { argsz: 16, index: 1 }), "answered about region 1, asked about 0"],
      [reply([{}], { argsz: 16, count: 2 }), "2 sub-regions of 40 or 48 bytes, 40 bytes came"],
      [reply([{}], { argsz: 16, count: 0xffff_ffff }), "4294967295 sub-regions"],
      [reply([]).subarray(0, 15), "15 bytes"],
    ];
    for (const [payload, message] of cases) {
      await withHand(async ({ device, peer }) => {
        using event = new EventFd();
        await assertRejects(
          () => ask(device, peer, [[payload, [event.handle]]]),
          ProtocolError,
          message,
        );
        assertEquals(device.state, "CLOSED");
      });
    }
  },
);

testFds("a refusal leaves the connection as it is", () =>
  withHand(async ({ device, peer }) => {
    const asking = device.regionIoFds(3);
    peer.fail(await peer.expect(DEVICE_GET_REGION_IO_FDS), EINVAL);
    await assertRejects(() => asking, RemoteError, "Cannot get the I/O descriptors of bar3");
    assertEquals(device.state, "CONNECTED");
    const pending = device.regionIoFds(3);
    await peer.expect(DEVICE_GET_REGION_IO_FDS);
    peer.close();
    await assertRejects(() => pending, ConnectionError);
  }));

testFds(
  "surplus descriptors are closed with the others",
  () =>
    withHand(async ({ device, peer }) => {
      using event = new EventFd();
      const fds = [event.handle, event.handle, event.handle];
      const [came] = await ask(device, peer, [tooSmall(56), [reply([{}]), fds]]);
      came.close();
      came.close();
      assertThrows(() => came.kick(came.entries[0]!), Error, "closed");
    }),
);

testFds(
  "kick() neither blocks on a full eventfd nor takes a socket for one",
  () =>
    withHand(async ({ device, peer }) => {
      using full = new EventFd();
      full.signal(2n ** 64n - 2n);
      const [ours, theirs] = UnixSocket.pair();
      using socket = new OwnedFd(ours.release());
      theirs.close();
      const entries = [{ fdIndex: 0 }, { fdIndex: 1 }];
      const answers: [Uint8Array, OwnedFd[]?][] = [
        tooSmall(96),
        [reply(entries), [full.handle, socket]],
      ];
      using fds = (await ask(device, peer, answers))[0];
      fds.kick(fds.entries[0]!);
      assert(full.take() >= 2n ** 64n - 2n);
      assertEquals(assertThrows(() => fds.kick(fds.entries[1]!), SystemError).code, "EINVAL");
    }),
);

testFds(
  "kick() with a value leaves it in the shadow memory first",
  () =>
    withHand(async ({ device, peer }) => {
      using event = new EventFd();
      using memory = createMemfd("shadow", 4096);
      const entries: Entry[] = [
        { fdIndex: 0, type: 2, shadow: 1, value: 0x10n },
        { fdIndex: 0, type: 0 },
      ];
      const answers: [Uint8Array, OwnedFd[]?][] = [
        tooSmall(96),
        [reply(entries), [event.handle, memory]],
      ];
      using fds = (await ask(device, peer, answers))[0];
      const [shadow, plain] = fds.entries;
      fds.kick(shadow!, 0x11223344n);
      fds.kick(shadow!); // the value stays
      const bytes = new Uint8Array(8);
      memory.readAt(bytes, 0x10n);
      assertEquals([[...bytes], event.take()], [[0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0], 2n]);
      assertThrows(() => fds.kick(plain!, 1n), TypeError, "it has no shadow memory");
      for (const value of [-1n, 1n << 32n]) {
        assertThrows(() => fds.kick(shadow!, value), RangeError, "it takes 4 bytes");
      }
      assertEquals(event.take(), 0n);
    }),
);
