/** A server with a deliberate fault: the demo device behind a relay that alters messages. */

import { POLLIN } from "../../../ffi/event.ts";
import { watch } from "../../../ffi/poller.ts";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN, EINTR } from "../../../ffi/errno.ts";
import { closeAll, type OwnedFd } from "../../../ffi/fd.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { join } from "../../../lib/conformance/pack.ts";
import { RawPeer } from "../../../lib/conformance/raw_peer.ts";
import type { Target } from "../../../lib/conformance/target.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { encodeMessage, type Header, HEADER_SIZE, HeaderLayout } from "../../../lib/wire/header.ts";

/** A message that a mutant may alter. */
export interface Altered extends Header {
  payload: Uint8Array;
  fds: readonly OwnedFd[];
}

/** A deliberate fault, and the check that has to name it. */
export interface Mutant {
  readonly name: string;
  readonly check: string;
  /** Alters a reply of the server. */
  readonly reply?: (message: Altered) => void;
  /** Alters a request of the client that came whole. */
  readonly request?: (message: Altered) => void;
}

/** Settles when there is something to read, or the signal is aborted. */
async function readable(socket: UnixSocket, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watching = watch(socket.fd, POLLIN, () => {
    watching.close();
    resolve();
  });
  const onAbort = () => resolve();
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) resolve();
  await promise;
  signal.removeEventListener("abort", onAbort);
  watching.close();
}

/** The demo device, behind a relay for each client. */
export class MutantTarget implements Target {
  readonly isSpawned = true;
  readonly process = undefined;
  readonly servesOne = false;
  readonly name: string;
  readonly #mutant: Mutant;
  readonly #folder = Deno.makeTempDirSync();
  readonly #server = Server.listen(`${this.#folder}/s`, new DemoDevice());
  readonly #end = new AbortController();
  readonly #loops: Promise<void>[] = [];

  constructor(mutant: Mutant) {
    this.#mutant = mutant;
    this.name = mutant.name;
  }

  connect(): Promise<UnixSocket> {
    const [client, relay] = UnixSocket.pair();
    const server = UnixSocket.connect(this.#server.path!)!;
    this.#loops.push(
      this.#relay(relay, server).finally(() => {
        relay[Symbol.dispose]();
      }),
    );
    return Promise.resolve(client);
  }

  tryConnect(): undefined {}
  wasSpent = () => Promise.resolve(false);
  takeCrash(): undefined {}
  left = () => Promise.resolve();
  restart = () => Promise.resolve();
  output = () => undefined;

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#loops);
    this.#server.close();
    await this.#server.closed;
    Deno.removeSync(this.#folder, { recursive: true });
  }

  async #relay(client: UnixSocket, server: UnixSocket): Promise<void> {
    const { signal } = this.#end;
    const options = { timeoutMs: () => 600_000, signal, notes: [] };
    using out = new RawPeer(server, options);
    const back = new RawPeer(client, options);
    const replies = (async () => {
      try {
        for (let came; (came = await out.receive()) !== undefined;) {
          const message: Altered = { ...came };
          const { size } = message;
          this.#mutant.reply?.(message);
          const { payload, fds, ...fields } = message;
          const bytes = encodeMessage(fields, payload);
          if (fields.size !== size) HeaderLayout.write(fields, bytes);
          await back.send(bytes, fds);
        }
      } catch { /* the client has gone, or the test ends */ }
      client.shutdown();
    })();
    await this.#requests(client, out);
    await replies;
  }

  /** Passes on what the client sends, piece by piece, as it came. */
  async #requests(client: UnixSocket, out: RawPeer): Promise<void> {
    const buffer = new IoBuffer(1 << 20);
    while (!this.#end.signal.aborted) {
      const count = client.receive(buffer, 0, buffer.length);
      if (count === -EAGAIN || count === -EINTR) {
        await readable(client, this.#end.signal);
        continue;
      }
      if (count <= 0) break;
      const fds = client.receivedFds;
      try {
        await out.send(this.#altered(buffer.bytes.slice(0, count), fds), fds, "passed on");
      } catch {
        break;
      } finally {
        closeAll(fds);
      }
    }
    out.shutdownSending();
  }

  #altered(bytes: Uint8Array, fds: readonly OwnedFd[]): Uint8Array {
    const { request } = this.#mutant;
    if (request === undefined || bytes.length < HEADER_SIZE) return bytes;
    const header = HeaderLayout.decode(bytes);
    const isWhole = header.size >= HEADER_SIZE && header.size <= bytes.length;
    if (!isWhole) return bytes;
    if (header.size < bytes.length) { // several that came together
      const [head, tail] = [bytes.slice(0, header.size), bytes.slice(header.size)];
      return join(this.#altered(head, fds), this.#altered(tail, []));
    }
    const message: Altered = { ...header, payload: bytes.subarray(HEADER_SIZE), fds };
    request(message);
    const { payload, fds: _, ...fields } = message;
    const altered = encodeMessage(fields, payload);
    if (fields.size !== header.size) HeaderLayout.write(fields, altered);
    return altered;
  }
}
