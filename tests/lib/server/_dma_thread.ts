/**
 * A client by hand that answers DMA requests, here or on a thread of its own, for a server that
 * blocks this one.
 *
 * @module
 */

import { OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import {
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { type RawMessage, RawPeer } from "../../_raw_peer.ts";
import { BASE, PAGE } from "./_memory.ts";

/** Misdeeds of a client in place of answering. */
export interface Misdeeds {
  errno?: number;
  leave?: boolean;
}

/**
 * Answers DMA_READ and DMA_WRITE from `memory`, which begins at BASE, until the connection ends.
 * Tells what was asked.
 */
export async function answer(
  peer: RawPeer,
  memory: Uint8Array,
  count: number,
  { errno, leave }: Misdeeds = {},
): Promise<string[]> {
  const log: string[] = [];
  for (let i = 0; i < count; i++) {
    const message = await peer.receive();
    if (message === undefined) break;
    if (leave) peer.socket.shutdown();
    else if (errno !== undefined) peer.fail(message, errno);
    else log.push(answerOne(peer, memory, message));
  }
  return log;
}

function answerOne(peer: RawPeer, memory: Uint8Array, message: RawMessage): string {
  if (message.command === Command.DMA_READ) {
    const { address, count } = DmaReadRequest.decode(message.payload);
    const at = Number(address - BASE);
    const data = memory.slice(at, at + Number(count));
    peer.reply(message, DmaReadReply.encode({ address, data }));
    return `read ${at}+${count}`;
  }
  const { address, data } = DmaWriteRequest.decode(message.payload);
  const at = Number(address - BASE);
  memory.set(data, at);
  peer.reply(message, DmaWriteReply.encode({ address, count: BigInt(data.length) }));
  return `write ${at}+${data.length}`;
}

/** A thread that answers a number of DMA requests. */
export class DmaThread implements AsyncDisposable {
  readonly #worker: Worker;
  /** Resolves to the requests, when all are answered. */
  readonly log: Promise<string[]>;

  private constructor(worker: Worker, log: Promise<string[]>) {
    this.#worker = worker;
    this.log = log;
  }

  /** The first thread of a process opens descriptors that stay: not in a test that counts them. */
  static async warmUp(): Promise<void> {
    const worker = new Worker(import.meta.url, { type: "module" });
    await new Promise((resolve) => worker.onmessage = resolve);
    worker.terminate();
  }

  /** It receives from the peer's socket until it has answered. */
  static async start(peer: RawPeer, count: number, misdeeds: Misdeeds = {}): Promise<DmaThread> {
    const worker = new Worker(import.meta.url, { type: "module" });
    const next = () =>
      new Promise<MessageEvent>((resolve, reject) => {
        worker.onmessage = resolve;
        worker.onerror = reject;
      });
    await next();
    worker.postMessage({ fd: peer.socket.fd, count, misdeeds });
    const ready = next();
    await ready;
    return new DmaThread(worker, next().then(({ data }) => data));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.log;
    this.#worker.terminate();
  }
}

/** The thread's own part. */
async function runThread(fd: number, count: number, misdeeds: Misdeeds): Promise<string[]> {
  const borrowed = new OwnedFd(fd);
  const own = borrowed.duplicate();
  borrowed.release();
  using peer = new RawPeer(new UnixSocket(own));
  postMessage("ready");
  return await answer(peer, new Uint8Array(PAGE), count, misdeeds);
}

/** A function of a worker's global scope that a window's scope lacks. */
declare const postMessage: (message: unknown) => void;

if ("WorkerGlobalScope" in globalThis) {
  addEventListener("message", async (event) => {
    const { fd, count, misdeeds } = (event as MessageEvent).data;
    postMessage(await runThread(fd, count, misdeeds));
  });
  postMessage("loaded");
}
