/**
 * A thread that reads a socket while this one is blocked in a send.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EINTR } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";

/** The number of bytes that came, and their sum, each weighted by its position modulo 251. */
export interface Came {
  readonly bytes: number;
  readonly sum: number;
}

/** Returns the `Came.sum` of these bytes. */
export function sumOf(bytes: Uint8Array, from = 0): number {
  return bytes.reduce((sum, byte, i) => sum + byte * (1 + (from + i) % 251), 0);
}

/** A thread that reads. */
export class ReaderThread implements Disposable {
  readonly #worker: Worker;
  /** Resolves to what the thread has read, once its end of the socket is closed. */
  readonly came: Promise<Came>;

  private constructor(worker: Worker, came: Promise<Came>) {
    this.#worker = worker;
    this.came = came;
  }

  /** The first thread of a process opens descriptors that stay: not in a test that counts them. */
  static async warmUp(): Promise<void> {
    const [worker, next] = makeWorker();
    await next();
    worker.terminate();
  }

  /** Takes the socket over, and reads `count` bytes of it, or to its end. */
  static async start(socket: UnixSocket, count: number): Promise<ReaderThread> {
    const [worker, next] = makeWorker();
    await next();
    worker.postMessage({ fd: socket.release(), count });
    await next();
    return new ReaderThread(worker, next().then(({ data }) => data));
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

function makeWorker(): [Worker, () => Promise<MessageEvent>] {
  const worker = new Worker(import.meta.url, { type: "module" });
  const next = () =>
    new Promise<MessageEvent>((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = reject;
    });
  return [worker, next];
}

/** The thread's own part. */
function read(fd: number, count: number): Came {
  using socket = new UnixSocket(new OwnedFd(fd));
  const buffer = new IoBuffer(16 << 10);
  let [bytes, sum] = [0, 0];
  while (bytes < count) {
    const came = socket.receive(buffer, 0, Math.min(buffer.length, count - bytes), 10_000);
    if (came === -EINTR) continue; // the process was stopped, and goes on
    if (came <= 0) break;
    sum += sumOf(buffer.bytes.subarray(0, came), bytes);
    bytes += came;
  }
  return { bytes, sum };
}

/** A function of a worker's global scope that a window's scope lacks. */
declare const postMessage: (message: unknown) => void;

if ("WorkerGlobalScope" in globalThis) {
  addEventListener("message", (event) => {
    const { fd, count } = (event as MessageEvent).data;
    postMessage("ready");
    postMessage(read(fd, count));
  });
  postMessage("loaded");
}
