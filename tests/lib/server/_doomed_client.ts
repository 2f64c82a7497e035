/**
 * A client in a process of its own that goes as far as it is told, then waits to be killed:
 * `_doomed_client.ts PATH STAGE`.
 *
 * @module
 */

import { EventFd } from "../../../ffi/event.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { IrqSetFlags, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { ask } from "./_client.ts";
import { BASE, ClientFile, map } from "./_memory.ts";

const STAGES = ["connected", "agreed", "mapped", "listening", "asked"];

const [path, stage] = Deno.args;
const isTwin = stage === "twin";
const last = isTwin ? STAGES.length - 1 : STAGES.indexOf(stage!);
const peer = new RawPeer(UnixSocket.connect(path!)!);
const file = new ClientFile(4096);
const event = new EventFd();
// The reply holds the descriptor of the twin socket: without it that would be closed
let twin: unknown;
const steps = [
  () => {},
  async () => {
    const capabilities = { maxMsgFds: 8, twinSocket: { supported: isTwin } };
    twin = await ask(peer, Command.VERSION, encodeVersion({ major: 0, minor: 2, capabilities }));
  },
  () => map(peer, { address: 0n }, [file.fd]),
  async () => {
    const flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER;
    const request = { argsz: 20, flags, index: 0, start: 0, count: 1, data: new Uint8Array() };
    await ask(peer, Command.DEVICE_SET_IRQS, SetIrqsRequest.encode(request), [event.handle]);
  },
  () => map(peer, { address: BASE }),
];
for (const step of steps.slice(0, last + 1)) await step();
Deno.stdout.writeSync(new TextEncoder().encode(stage!));
setInterval(() => void twin, 1000);
