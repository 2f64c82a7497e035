/**
 * A server in a process of its own, for tests of calls that block this thread and for servers that
 * die. What it does, it does some milliseconds after it was told, when the client waits:
 *
 * - DEVICE_RESET: it kills itself, without an answer.
 * - SET_IRQS that fires a vector, which is answered. It writes 8 bytes to the last map without a
 *   descriptor, if there is one, waits for the answer, and signals the vector.
 *
 * @module
 */

import { closeAll, OwnedFd } from "../../ffi/fd.ts";
import { EventFd } from "../../ffi/event.ts";
import { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { Command } from "../../lib/wire/command.ts";
import { DmaMapRequest, DmaUnmapRequest } from "../../lib/wire/dma.ts";
import { IrqInfoReply, IrqInfoRequest, IrqSetFlags, SetIrqsRequest } from "../../lib/wire/irq.ts";
import { decodeVersion, encodeVersion } from "../../lib/wire/version.ts";
import { type RawMessage, RawPeer } from "../_raw_peer.ts";
import { DENO } from "../_deno.ts";

/** The time that it waits before it acts. */
export const DELAY_MS = 40;

/** A server that runs. */
export interface ServerProcess {
  /** Its socket. It takes one client after the other. */
  readonly path: string;
  /**
   * Ends it, if it has not ended. When it killed itself, in the milliseconds of Date.now; NaN if it
   * did not.
   */
  stop(): Promise<number>;
}

/** Starts one, and waits until it listens. */
export async function startServer(): Promise<ServerProcess> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  const path = `${folder}/server.sock`;
  const child = new Deno.Command(DENO, {
    args: ["run", "--no-prompt", "--allow-all", import.meta.url, path],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  if ((await reader.read()).done) throw new Error("The server has ended");
  const lastWords = (async () => {
    let words = "";
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      words += new TextDecoder().decode(read.value);
    }
    return words;
  })();
  return {
    path,
    async stop() {
      try {
        child.kill("SIGKILL");
      } catch { /* it has ended */ }
      const words = await lastWords;
      await child.status;
      Deno.removeSync(folder, { recursive: true });
      return words === "" ? NaN : Number(words);
    },
  };
}

/** Serves one client. */
class Session {
  readonly #peer: RawPeer;
  #carrier: RawPeer; // of our own commands
  readonly #vectors = new Map<number, EventFd>();
  readonly #due = new Set<number>(); // vectors to be signalled
  #iova: bigint | undefined;

  constructor(socket: UnixSocket) {
    this.#peer = this.#carrier = new RawPeer(socket);
  }

  async run(): Promise<void> {
    for (let message = await next(this.#peer); message; message = await next(this.#peer)) {
      this.#serve(message);
    }
    this.#peer.close();
    if (this.#carrier !== this.#peer) this.#carrier.close();
    for (const event of this.#vectors.values()) event.close();
  }

  #serve(message: RawMessage): void {
    const peer = this.#peer;
    const { command, payload, fds } = message;
    switch (command) {
      case Command.VERSION:
        return this.#agree(message);
      case Command.DEVICE_RESET:
        setTimeout(() => {
          Deno.stdout.writeSync(new TextEncoder().encode(String(Date.now())));
          Deno.kill(Deno.pid, "SIGKILL");
        }, DELAY_MS);
        return;
      case Command.DMA_MAP:
        if (fds.length === 0) this.#iova = DmaMapRequest.decode(payload).address;
        closeAll(fds);
        return peer.reply(message);
      case Command.DMA_UNMAP:
        if (DmaUnmapRequest.decode(payload).address === this.#iova) this.#iova = undefined;
        return peer.reply(message, payload);
      case Command.DEVICE_GET_IRQ_INFO: {
        const { index } = IrqInfoRequest.decode(payload);
        return peer.reply(message, IrqInfoReply.encode({ argsz: 16, flags: 1, index, count: 8 }));
      }
      case Command.DEVICE_SET_IRQS:
        peer.reply(message);
        return this.#setIrqs(SetIrqsRequest.decode(payload), fds);
      case Command.DMA_WRITE: // the answer, on the one socket
        return this.#signalAll();
      default:
        peer.reply(message);
    }
  }

  #agree(message: RawMessage): void {
    const wanted = decodeVersion(message.payload).capabilities.twinSocket?.supported ?? false;
    if (!wanted) {
      return this.#peer.reply(
        message,
        encodeVersion({ major: 0, minor: 1, capabilities: { maxMsgFds: 8 } }),
      );
    }
    const [twin, socket] = RawPeer.pair();
    const theirs = new OwnedFd(socket.release());
    const capabilities = { maxMsgFds: 8, twinSocket: { supported: true, fdIndex: 0 } };
    this.#peer.reply(message, encodeVersion({ major: 0, minor: 1, capabilities }), [theirs]);
    theirs.close();
    this.#carrier = twin;
  }

  #setIrqs({ flags, start, count }: SetIrqsRequest, fds: OwnedFd[]): void {
    if (fds.length > 0) {
      for (const [i, fd] of fds.entries()) this.#vectors.set(start + i, new EventFd(fd));
      return;
    }
    if ((flags & IrqSetFlags.DATA_NONE) === 0 || count === 0) return;
    setTimeout(async () => {
      for (let i = 0; i < count; i++) this.#due.add(start + i);
      if (this.#iova === undefined) return this.#signalAll();
      const write = new Uint8Array(24);
      const view = new DataView(write.buffer);
      view.setBigUint64(0, this.#iova, true);
      view.setBigUint64(8, 8n, true);
      view.setBigUint64(16, 0x1122334455667788n, true);
      this.#carrier.command(1, Command.DMA_WRITE, write);
      if (this.#carrier === this.#peer) return;
      await next(this.#carrier);
      this.#signalAll();
    }, DELAY_MS);
  }

  #signalAll(): void {
    for (const vector of this.#due) this.#vectors.get(vector)?.signal();
    this.#due.clear();
  }
}

/** The next message, however long it takes; undefined at the end. */
async function next(peer: RawPeer): Promise<RawMessage | undefined> {
  while (true) {
    try {
      return await peer.receive();
    } catch { /* none came for a while */ }
  }
}

if (import.meta.main) {
  const listener = UnixListener.listen(Deno.args[0]!);
  Deno.stdout.writeSync(new TextEncoder().encode("listening\n"));
  while (true) {
    const socket = listener.accept();
    if (socket !== undefined) void new Session(socket).run();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
