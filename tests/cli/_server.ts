/**
 * Servers that no device author would write: what they answer is given message by message.
 */

import { POLLIN } from "../../ffi/event.ts";
import { watch } from "../../ffi/poller.ts";
import { UnixListener } from "../../ffi/listener.ts";
import { DecodeError } from "../../lib/base/errors.ts";
import type { IncomingRequest } from "../../lib/transport/incoming.ts";
import { VfioProxy } from "../../lib/transport/proxy.ts";
import type { Trace } from "../../lib/transport/message.ts";
import { Command } from "../../lib/wire/command.ts";
import { DeviceFlags, DeviceInfoReply } from "../../lib/wire/device.ts";
import { HeaderLayout } from "../../lib/wire/header.ts";
import { IrqInfoReply, IrqInfoRequest } from "../../lib/wire/irq.ts";
import { RegionFlags, RegionInfoReply, RegionInfoRequest } from "../../lib/wire/region.ts";
import { encodeVersion } from "../../lib/wire/version.ts";

/**
 * Answers one request.
 * "default" leaves the request to a PCI device whose regions and interrupts are all absent.
 * "silence" lets the client wait.
 */
export type Answer = (request: IncomingRequest) => void | "default" | "silence";

/** The largest message of a client to which the server named no limit. */
const MAX_MESSAGE_SIZE = 2 << 20;

/**
 * Listens at `path` and serves every client that comes.
 * `onClient` is given the connection to each client, for commands to that client.
 * `trace` sees each message, also those behind a request that is not answered.
 */
export function serveOddly(
  path: string,
  answer: Answer,
  onClient?: (proxy: VfioProxy) => void,
  trace?: Trace,
): Disposable {
  const listener = UnixListener.listen(path);
  const proxies: VfioProxy[] = [];
  const accepting = watch(listener.fd, POLLIN, () => {
    const socket = listener.accept();
    if (socket === undefined) return;
    const handler = (request: IncomingRequest) => {
      const done = answer(request);
      if (done === "silence") return new Promise<void>(() => {});
      if (done !== "default") return;
      try {
        answerByDefault(request);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        request.fail(22);
      }
    };
    const proxy = new VfioProxy(socket, { role: "server", handler, ...(trace && { trace }) });
    proxy.limits = { maxFds: 1, maxMessageSize: MAX_MESSAGE_SIZE };
    proxy.serving = true;
    proxies.push(proxy);
    onClient?.(proxy);
  });
  return {
    [Symbol.dispose]() {
      accepting.close();
      listener.close();
      for (const proxy of proxies) proxy.close();
    },
  };
}

function answerByDefault(request: IncomingRequest): void {
  switch (request.command) {
    case Command.VERSION:
      return request.reply(encodeVersion({ major: 0, minor: 1, capabilities: {} }));
    case Command.DEVICE_GET_INFO: {
      const flags = DeviceFlags.PCI;
      return request.reply(DeviceInfoReply.encode({ argsz: 16, flags, numRegions: 9, numIrqs: 5 }));
    }
    case Command.DEVICE_GET_REGION_INFO:
      return replyRegion(request, 0n, 0);
    case Command.DEVICE_GET_IRQ_INFO: {
      const { index } = IrqInfoRequest.decode(request.payload);
      return request.reply(IrqInfoReply.encode({ argsz: 16, flags: 0, index, count: 0 }));
    }
    default:
      return request.fail(22);
  }
}

/** Calls `then` when so many commands of a kind have come. */
export function atCommand(command: number, count: number, then: () => void): Trace {
  let came = 0;
  return (direction, bytes) => {
    const isOne = direction === "received" && HeaderLayout.decode(bytes).command === command;
    if (isOne && ++came === count) then();
  };
}

/** Answers a question about a region: it has so many bytes. */
export function replyRegion(
  request: IncomingRequest,
  size: bigint,
  flags: number = RegionFlags.READ | RegionFlags.WRITE,
): void {
  const { index } = RegionInfoRequest.decode(request.payload);
  const info = { argsz: 32, flags, index, size, offset: 0n, capabilities: [] };
  request.reply(RegionInfoReply.encode(info));
}

/** The index that a request for the info of a region or IRQ asks about. */
export function indexOf(request: IncomingRequest): number {
  return IrqInfoRequest.decode(request.payload.subarray(0, 16)).index;
}
