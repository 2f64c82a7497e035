import { assertEquals } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { IrqSetFlags, PciIrq, SetIrqsRequest } from "../../../lib/wire/irq.ts";
import { startDemo } from "../../_demo_process.ts";
import { testFds } from "../../_fds.ts";
import { SilentFile } from "../../_fuse.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { ask, negotiate, words } from "./_client.ts";

const DMA_MAP = words(32, 3, 0, 0, 0x1000, 0, 0x1000, 0);
const SET_IRQS = SetIrqsRequest.encode({
  argsz: 20,
  flags: IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER,
  index: PciIrq.MSIX,
  start: 0,
  count: 1,
  data: new Uint8Array(),
});

const REQUESTS: [string, number, Uint8Array, number][] = [
  ["memory", Command.DMA_MAP, DMA_MAP, EINVAL],
  ["an interrupt", Command.DEVICE_SET_IRQS, SET_IRQS, EINVAL],
  ["nothing", Command.DEVICE_GET_INFO, words(16, 0, 0, 0), 0],
];

for (const [what, command, payload, expected] of REQUESTS) {
  testFds(`a file system that answers nothing keeps no server waiting, as ${what}`, async () => {
    await using server = await startDemo();
    using peer = new RawPeer(UnixSocket.connect(server.path)!);
    await negotiate(peer);
    using file = SilentFile.mount();
    if (file === undefined) return; // needs root, and a kernel with FUSE
    const fd = await file.open();
    assertEquals((await ask(peer, command, payload, [fd])).errno, expected);
    assertEquals((await ask(peer, Command.DEVICE_GET_INFO, words(16, 0, 0, 0))).errno, 0);
  });
}
