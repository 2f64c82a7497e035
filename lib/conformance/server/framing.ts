/** Checks of the stream of messages and their headers. @module */

import { Command } from "../../wire/command.ts";
import { encodeMessage, HEADER_SIZE, HeaderLayout, MessageFlags } from "../../wire/header.ts";
import { type CheckGroup, group } from "../check.ts";
import { join, pack } from "../pack.ts";
import { type Ask, deviceInfo, irqInfo, read, regionInfo, reset, write } from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "Header";
const MAY_END = { mayEnd: true } as const;

/** The bytes of a request. */
function bytesOf({ command, payload }: Ask, messageId: number, flags = 0): Uint8Array {
  return encodeMessage({ messageId, command, flags }, payload);
}

/** A header that says what its message is not. */
function header(fields: { command: number; size: number; flags?: number; messageId?: number }) {
  return HeaderLayout.encode({ messageId: 0x55, flags: 0, error: 0, ...fields });
}

/** Sends pieces one by one; the reply to a request that they are made of must come. */
async function inPieces(t: Trial, ask: Ask, cuts: readonly number[]): Promise<void> {
  const bytes = bytesOf(ask, 0x66);
  let from = 0;
  for (const to of [...cuts, bytes.length]) {
    await t.peer.send(bytes.subarray(from, to), [], `bytes ${from} to ${to} of a message`);
    await t.peer.taken(); // what is received together would be no pieces
    from = to;
  }
  await t.reply(ask, 0x66);
}

/** A request whose size is not that of its payload is refused, and does not stop the server. */
function wrongSize(size: number): (t: Trial) => Promise<void> {
  return async (t) => {
    await t.peer.send(header({ command: Command.DEVICE_GET_INFO, size }));
    await t.refusedOrEnded(`a message of ${size} bytes is impossible`);
  };
}

/** The checks of framing. */
export const framing: CheckGroup = group("framing", "Framing", [
  [1, "MUST", SECTION, "The reply has the message id of its request.", async (t) => {
    for (const id of [0, 1, 0x7fff, 0x8000, 0xffff]) await t.accepts({ ...deviceInfo(), id });
  }],
  [2, "MUST", SECTION, "The same message id may be used again once it was answered.", async (t) => {
    for (let i = 0; i < 3; i++) await t.accepts({ ...deviceInfo(), id: 7 });
  }],
  [3, "MUST", SECTION, "The type of a reply is 1.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect((reply.flags & MessageFlags.TYPE_MASK) === 1, "type 1", reply);
  }],
  [4, "MUST", SECTION, "The reply has the command of its request.", async (t) => {
    for (const ask of [deviceInfo(), regionInfo(0), irqInfo(0)]) await t.ask(ask);
  }],
  [5, "MUST", SECTION, "A reply without an error has error number 0.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect(reply.error === 0, "error number 0", `error number ${reply.error}`);
  }],
  [6, "SHOULD", SECTION, "Flags of a reply that are reserved are 0.", async (t) => {
    const reply = await t.accepts(deviceInfo());
    t.expect((reply.flags & ~0x2f) === 0, "no reserved flag", `flags ${reply.flags}`);
  }],
  [7, "SHOULD", SECTION, "The error number of a request is ignored.", async (t) => {
    const { command, payload } = deviceInfo();
    await t.peer.send(encodeMessage({ messageId: 9, command, error: 0x7fffffff }, payload));
    const reply = await t.reply({ command }, 9);
    t.expect((reply.flags & MessageFlags.ERROR) === 0, "success", reply);
  }],
  [8, "SHOULD", SECTION, "Flags of a request that are reserved are ignored.", async (t) => {
    await t.accepts({ ...deviceInfo(), flags: 0x40 });
    await t.accepts({ ...deviceInfo(), flags: 0x8000_0000 });
  }],
  [9, "MUST", SECTION, "A command that has no number in the protocol is refused.", async (t) => {
    await t.refuses({ command: 0x7777 });
    await t.inStep();
  }],
  [10, "MUST", SECTION, "Command 0 is refused.", async (t) => {
    await t.refuses({ command: 0 });
    await t.inStep();
  }],
  [
    11,
    "MUST",
    SECTION,
    "An unknown command with a payload leaves the stream in step.",
    async (t) => {
      await t.refuses({ command: 0x7777, payload: new Uint8Array(100).fill(0xa5) });
      await t.inStep();
    },
  ],
  [12, "MUST", SECTION, "A command that only a server sends is refused.", async (t) => {
    await t.refuses({ command: Command.DMA_READ, payload: pack("u64 u64", 0, 4) });
    await t.inStep();
    await t.refuses({ command: Command.DMA_WRITE, payload: pack("u64 u64 u32", 0, 4, 0) });
    await t.inStep();
  }],
  [13, "SHOULD", SECTION, "DIRTY_PAGES of older drafts is refused.", async (t) => {
    await t.refuses({ command: Command.DIRTY_PAGES, payload: pack("u32 u32", 8, 1) });
    await t.inStep();
  }],
  [14, "MUST", SECTION, "A size below that of a header is refused.", wrongSize(15), MAY_END],
  [15, "MUST", SECTION, "A size of 0 is refused.", wrongSize(0), MAY_END],
  [16, "MUST", SECTION, "A size of 4 GiB is refused.", wrongSize(0xffff_ffff), MAY_END],
  [17, "MUST", SECTION, "A message type that does not exist is not served.", async (t) => {
    await t.send({ ...deviceInfo(), flags: 5 });
    await t.refusedOrEnded("message type 5 does not exist");
  }, MAY_END],
  [
    18,
    "SHOULD",
    SECTION,
    "A reply to nothing that the server asked stops no other request.",
    async (t) => {
      await t.send({
        command: Command.DMA_READ,
        flags: MessageFlags.REPLY,
        payload: pack("u64 u64 u32", 0, 4, 0),
      });
      await t.orEnded(async () => void await t.inStep());
    },
    MAY_END,
  ],
  [
    19,
    "MUST",
    SECTION,
    "A header that comes in two pieces is a header.",
    (t) => inPieces(t, deviceInfo(), [7]),
  ],
  [
    20,
    "MUST",
    SECTION,
    "A payload may come after its header.",
    (t) => inPieces(t, deviceInfo(), [HEADER_SIZE]),
  ],
  [
    21,
    "MUST",
    SECTION,
    "A payload may come in pieces.",
    (t) => inPieces(t, deviceInfo(), [HEADER_SIZE + 5, HEADER_SIZE + 11]),
  ],
  [22, "MUST", SECTION, "A message may come byte by byte.", (t) => {
    const { length } = bytesOf(deviceInfo(), 0);
    return inPieces(t, deviceInfo(), Array.from({ length: length - 1 }, (_, i) => i + 1));
  }],
  [23, "MUST", SECTION, "Two requests that come together are answered, in order.", async (t) => {
    await t.peer.send(join(bytesOf(deviceInfo(), 1), bytesOf(irqInfo(0), 2)), [], "two requests");
    await t.reply(deviceInfo(), 1);
    await t.reply(irqInfo(0), 2);
  }],
  [24, "MUST", SECTION, "A hundred requests under way are answered, in order.", async (t) => {
    const ids = Array.from({ length: 100 }, (_, i) => i + 1);
    await t.peer.send(join(...ids.map((id) => bytesOf(deviceInfo(), id))), [], "100 requests");
    for (const id of ids) await t.reply(deviceInfo(), id);
  }],
  [
    25,
    "MUST",
    SECTION,
    "A request and a half, then the other half, are two requests.",
    async (t) => {
      const two = join(bytesOf(deviceInfo(), 1), bytesOf(deviceInfo(), 2));
      await t.peer.send(two.subarray(0, 44), [], "a request and 12 bytes of the next");
      await t.reply(deviceInfo(), 1);
      await t.peer.send(two.subarray(44), [], "the rest of the second request");
      await t.reply(deviceInfo(), 2);
    },
  ],
  [
    26,
    "MUST",
    SECTION,
    "Requests under way with the same message id are each answered.",
    async (t) => {
      await t.peer.send(join(bytesOf(deviceInfo(), 3), bytesOf(deviceInfo(), 3)));
      await t.reply(deviceInfo(), 3);
      await t.reply(deviceInfo(), 3);
    },
  ],
  [27, "MUST", SECTION, "A request with no_reply has no reply.", async (t) => {
    const { region, offset } = t.scratch();
    const before = (await t.accepts(read(region, offset, 1))).payload.subarray(16);
    await t.send({ ...write(region, offset, before), flags: MessageFlags.NO_REPLY });
    await t.inStep();
  }],
  [28, "MUST", SECTION, "A request with no_reply is done.", async (t) => {
    const { region, offset } = t.scratch();
    const before = (await t.accepts(read(region, offset, 1))).payload.slice(16);
    t.atEnd(async () => void await t.ask(write(region, offset, before)));
    const other = new Uint8Array([before[0]! ^ 0x33]);
    await t.send({ ...write(region, offset, other), flags: MessageFlags.NO_REPLY });
    const after = await t.accepts(read(region, offset, 1));
    t.expect(after.payload[16] === other[0], `the byte ${other[0]}`, after);
  }],
  [29, "MUST", SECTION, "A request with no_reply that fails has no reply either.", async (t) => {
    const bad = t.facts.numRegions + 5;
    await t.send({ ...write(bad, 0, new Uint8Array(4)), flags: MessageFlags.NO_REPLY });
    await t.inStep();
  }],
  [
    30,
    "MUST",
    SECTION,
    "A request with no_reply between others leaves these in order.",
    async (t) => {
      const { region, offset } = t.scratch();
      const before = (await t.accepts(read(region, offset, 1))).payload.subarray(16);
      await t.peer.send(
        join(
          bytesOf(deviceInfo(), 1),
          bytesOf(write(region, offset, before), 2, MessageFlags.NO_REPLY),
          bytesOf(deviceInfo(), 3),
        ),
        [],
        "a request, one with no_reply, and a third",
      );
      await t.reply(deviceInfo(), 1);
      await t.reply(deviceInfo(), 3);
    },
  ],
  [31, "SHOULD", SECTION, "Requests ahead of an impossible header are served.", async (t) => {
    await t.peer.send(join(
      bytesOf(deviceInfo(), 1),
      header({ command: Command.DEVICE_GET_INFO, size: 3 }),
    ));
    await t.reply(deviceInfo(), 1);
  }, MAY_END],
  [
    32,
    "MUST",
    SECTION,
    "A payload behind a request without one is refused or ignored.",
    async (t) => {
      t.need(t.facts.canReset, "the device can't be reset");
      await t.survives({ ...reset(), payload: new Uint8Array(8) });
    },
  ],
]);
