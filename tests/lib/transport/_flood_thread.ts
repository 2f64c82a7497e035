/**
 * A peer that no longer reads, and sends commands without an end, on a thread of its own.
 *
 * @module
 */

import { IoBuffer } from "../../../ffi/buffer.ts";
import { OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage } from "../../../lib/wire/header.ts";

/** The flood ends by itself after that, should the other end read on and on. */
const FLOOD_MS = 5000;
/** Commands of one send. */
const COUNT = 1024;

/** A thread that floods. */
export class FloodThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #ended: Promise<unknown>;

  private constructor(worker: Worker, ended: Promise<unknown>) {
    this.#worker = worker;
    this.#ended = ended;
  }

  /** Begins with the socket of a peer by hand, once that has shut down its receiving side. */
  static async start(fd: number): Promise<FloodThread> {
    const worker = new Worker(import.meta.url, { type: "module" });
    const next = () => new Promise((resolve) => worker.onmessage = resolve);
    await next();
    worker.postMessage(fd);
    await next();
    return new FloodThread(worker, next());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ended;
    this.#worker.terminate();
  }
}

function flood(fd: number): void {
  const borrowed = new OwnedFd(fd);
  using socket = new UnixSocket(borrowed.duplicate());
  borrowed.release();
  const message = encodeMessage({ messageId: 1, command: Command.DMA_READ });
  const bytes = new Uint8Array(COUNT * message.length);
  for (let i = 0; i < COUNT; i++) bytes.set(message, i * message.length);
  const buffer = new IoBuffer(bytes);
  socket.shutdownReceiving();
  postMessage("shut");
  let at = 0;
  const end = performance.now() + FLOOD_MS;
  while (performance.now() < end) {
    const sent = socket.send(buffer, at, bytes.length - at);
    if (sent > 0) at = (at + sent) % bytes.length;
    else if (sent !== -11) return; // EAGAIN: the other end is slower
  }
}

/** A function of a worker's global scope that a window's scope lacks. */
declare const postMessage: (message: unknown) => void;

if ("WorkerGlobalScope" in globalThis) {
  addEventListener("message", (event) => {
    flood((event as MessageEvent).data);
    postMessage("ended");
  });
  postMessage("loaded");
}
