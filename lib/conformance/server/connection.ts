/** Checks of connections: their beginning, their end, and the next client. @module */

import { Command } from "../../wire/command.ts";
import { encodeMessage } from "../../wire/header.ts";
import { type CheckGroup, group } from "../check.ts";
import { join } from "../pack.ts";
import type { RawPeer } from "../raw_peer.ts";
import {
  capabilitiesText,
  deviceInfo,
  dmaMap,
  dmaUnmap,
  ioFds,
  read,
  setIrqs,
  versionPayload,
  write,
} from "../requests.ts";
import type { Trial } from "../trial.ts";

const SECTION = "Connection Initiation";
const END = "Socket Disconnection Behavior";
const RAW = { isRaw: true, mayEnd: true } as const;
const MAY_END = { mayEnd: true } as const;

/** The bytes of a whole VERSION. */
function versionBytes(t: Trial): Uint8Array {
  const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
  return encodeMessage({ messageId: 1, command: Command.VERSION }, payload);
}

/** Bytes of a request. */
function requestBytes(messageId: number): Uint8Array {
  const { command, payload } = deviceInfo();
  return encodeMessage({ messageId, command }, payload);
}

/** Ends the check's connection, and has the next client served. */
async function next(t: Trial): Promise<void> {
  t.peer[Symbol.dispose]();
  await t.nextClient();
}

/** Expects the server to close what a client has brought, or was given, when that client leaves. */
async function endsWithClient(t: Trial, bring: (peer: RawPeer) => Promise<void>): Promise<void> {
  await t.nextClient(t.peer);
  const before = t.serverFds();
  await bring(t.connections.at(-1)!);
  t.connections.at(-1)![Symbol.dispose]();
  await t.nextClient();
  await t.noFdsLeft(before);
}

/** The checks of connections. */
export const connection: CheckGroup = group("connection", "Connections", [
  [1, "MUST", SECTION, "A client that comes after another is served.", async (t) => {
    await next(t);
  }, MAY_END],
  [2, "MUST", SECTION, "A client that leaves without a word stops no server.", async (t) => {
    await next(t);
  }, RAW],
  [3, "MUST", SECTION, "A client that leaves within its VERSION stops no server.", async (t) => {
    const bytes = versionBytes(t);
    await t.peer.send(bytes.subarray(0, 20), [], "20 bytes of a VERSION");
    await next(t);
  }, RAW],
  [4, "MUST", SECTION, "A client that leaves after its VERSION stops no server.", async (t) => {
    await t.peer.send(versionBytes(t));
    await next(t);
  }, RAW],
  [5, "MUST", END, "A client that leaves within a header stops no server.", async (t) => {
    await t.peer.send(requestBytes(1).subarray(0, 9), [], "9 bytes of a header");
    await next(t);
  }, MAY_END],
  [6, "MUST", END, "A client that leaves within a payload stops no server.", async (t) => {
    await t.peer.send(requestBytes(1).subarray(0, 25), [], "25 bytes of a message");
    await next(t);
  }, MAY_END],
  [7, "MUST", END, "A client that reads no reply and leaves stops no server.", async (t) => {
    const many = Array.from({ length: 200 }, (_, i) => requestBytes(i));
    await t.peer.send(join(...many), [], "200 requests");
    await next(t);
  }, MAY_END],
  [8, "SHOULD", END, "A client that ends its direction gets what it asked for.", async (t) => {
    await t.send(deviceInfo(), t.peer);
    t.peer.shutdownSending();
    const reply = await t.receive("a reply to DEVICE_GET_INFO");
    t.expect(reply.command === Command.DEVICE_GET_INFO, "a reply to DEVICE_GET_INFO", reply);
  }, MAY_END],
  [9, "MUST", END, "After a client has ended its direction the server closes.", async (t) => {
    t.peer.shutdownSending();
    await t.ends("the client sends no more");
  }, MAY_END],
  [10, "MUST", END, "Maps end with their client.", async (t) => {
    await t.accepts(dmaMap(0x4000_0000n, 0x10000n, { fds: [t.memory(0x10000)] }));
    await next(t);
    const peer = t.connections.at(-1)!;
    await t.accepts(dmaMap(0x4000_0000n, 0x10000n, { fds: [t.memory(0x10000)] }), peer);
    await t.accepts(dmaUnmap(0x4000_0000n, 0x10000n), peer);
  }, MAY_END],
  [11, "MUST", END, "Interrupts end with their client.", async (t) => {
    const irq = t.irq(1);
    const event = t.event();
    await t.accepts(setIrqs(irq.index, 0x24, 0, 1, undefined, [event.handle]));
    await next(t);
    const peer = t.connections.at(-1)!;
    await t.survives(setIrqs(irq.index, 0x21, 0, 1), peer);
    const count = event.take();
    t.expect(count === 0n, "no signal for the client that has gone", `${count} signals`);
  }, MAY_END],
  [12, "MUST", END, "Descriptors end with their client.", async (t) => {
    await endsWithClient(t, async (peer) => {
      await t.accepts(dmaMap(0x4000_0000n, 0x10000n, { fds: [t.memory(0x10000)] }), peer);
    });
  }, MAY_END],
  [13, "SHOULD", END, "The device keeps its state when a client leaves.", async (t) => {
    const { region, offset } = t.scratch();
    const before = (await t.accepts(read(region, offset, 1))).payload[16]!;
    await t.accepts(write(region, offset, new Uint8Array([before ^ 0x55])));
    await next(t);
    const peer = t.connections.at(-1)!;
    const after = await t.accepts(read(region, offset, 1), peer);
    await t.ask(write(region, offset, new Uint8Array([before])), peer);
    t.expect(after.payload[16] === (before ^ 0x55), `the byte ${before ^ 0x55}`, after);
  }, MAY_END],
  [14, "MUST", SECTION, "A second client does not disturb the first.", async (t) => {
    await t.tryConnect();
    await t.inStep();
  }],
  [
    15,
    "SHOULD",
    SECTION,
    "A second client that waits is served when the first has left.",
    async (t) => {
      const second = await t.tryConnect();
      const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
      const ask = { command: Command.VERSION, payload };
      const id = await t.send(ask, second);
      t.peer[Symbol.dispose]();
      await t.reply(ask, id, second);
      await t.inStep(second);
    },
    MAY_END,
  ],
  [16, "MUST", SECTION, "Twenty clients come and leave, one after the other.", async (t) => {
    for (let i = 0; i < 20; i++) {
      t.connections.at(-1)![Symbol.dispose]();
      await t.nextClient();
    }
  }, MAY_END],
  [
    17,
    "SHOULD",
    SECTION,
    "A client that says nothing does not keep others out for ever.",
    async (t) => {
      const silent = t.peer;
      const second = await t.tryConnect();
      const payload = versionPayload(t.facts.major, t.facts.minor, capabilitiesText());
      const ask = { command: Command.VERSION, payload };
      const id = await t.send(ask, second);
      await t.patiently(async () => {
        await t.reply(ask, id, second);
      });
      silent[Symbol.dispose]();
    },
    RAW,
  ],
  [18, "MUST", END, "Eventfds end with their client.", async (t) => {
    const irq = t.irq(1);
    await endsWithClient(t, async (peer) => {
      const ask = setIrqs(irq.index, 0x24, 0, 1, undefined, [t.event().handle]);
      await t.accepts(ask, peer);
    });
  }, MAY_END],
  [19, "MUST", END, "Descriptors for parts of regions end with their client.", async (t) => {
    await endsWithClient(t, async (peer) => {
      for (const region of t.facts.regions) {
        if (region !== undefined) await t.ask(ioFds(region.index, 4096), peer);
      }
    });
  }, MAY_END],
  [20, "SHOULD", END, "Memory that was shared ends with its client.", async (t) => {
    const before = t.serverMappings();
    await t.accepts(dmaMap(0x4000_0000n, 0x10000n, { fds: [t.memory(0x10000)] }));
    await next(t);
    await t.noMappingsLeft(before);
  }, MAY_END],
]);
