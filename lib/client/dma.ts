/**
 * The IOVA space of a device: memory that it may read and write (specification:
 * "VFIO_USER_DMA_MAP", "VFIO_USER_DMA_UNMAP", "VFIO_USER_DMA_READ", "VFIO_USER_DMA_WRITE").
 *
 * Memory is shared through a file descriptor, and the device accesses it by itself. Or it stays in
 * this process, and the device's accesses come as messages. Accesses to shared memory may come as
 * messages, too: libvfio-user sends them.
 *
 * Messages are answered from the first map to the last unmap, whether a synchronous call waits or
 * the client is idle. Memory by message keeps the process alive as long as it is mapped. Shared
 * memory does not: the process may end, and a thread whose event loop does not turn answers in its
 * next request.
 *
 * @module
 */

import { EACCES, EFAULT, EINVAL } from "../../ffi/errno.ts";
import { MAX_MAPPING } from "../../ffi/memory.ts";
import { DmaMap, type DmaMapOptions } from "./dma_map.ts";
import { describeRange, makeMemory, type Memory } from "./dma_memory.ts";
import { drive, driveAsync, type Plan } from "../base/plan.ts";
import { DEFAULT_MAX_DATA_XFER_SIZE, MAX_PENDING } from "../base/limits.ts";
import type { Negotiated, WaitOptions } from "./info.ts";
import type { PageLog } from "../base/page_log.ts";
import { isUnanswered, TAKE_BACK_TIMEOUT_MS } from "./take_back.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import type { AsyncRequestOptions } from "../transport/pending.ts";
import type { VfioProxy } from "../transport/proxy.ts";
import type { Message } from "../transport/message.ts";
import { Command } from "../wire/command.ts";
import { DmaMapFlags, DmaMapRequest, DmaUnmapRequest } from "../wire/dma.ts";
import { DmaAccessLayout, DmaAccessLayout32 } from "../wire/access.ts";
import { hex } from "../text/hex.ts";

/** An access of the device that came as a message. */
export interface DmaEvent {
  /** Kind of the access. */
  readonly kind: "read" | "write";
  /** The first address. */
  readonly iova: bigint;
  /** In bytes. */
  readonly length: bigint;
  /** 0 if it was served, else what was answered. */
  readonly errno: number;
}

/** Parts of a device that a DmaSpace needs. */
export interface DmaHost {
  /** The connection. */
  readonly proxy: VfioProxy;
  /** The limits that both ends agreed on. */
  readonly negotiated: Negotiated;
  /** Sends a request, and says of a refusal if the device is stopped for a migration. */
  request(command: number, payload: Uint8Array, options: AsyncRequestOptions): Promise<Message>;
}

/** A request of a plan. */
type DmaStep = AsyncRequestOptions & { readonly command: number; readonly payload: Uint8Array };

type DmaPlan<T> = Plan<DmaStep, Message, T>;

const MAX_ADDRESS = 1n << 64n;

/** Limits of taking back a map that the server has not answered about. */
const TAKE_BACK = { timeoutMs: TAKE_BACK_TIMEOUT_MS };

/**
 * The IOVA space of a device. `Device.dma` returns it.
 *
 * @example
 * ```ts
 * import { connect } from "./connect.ts";
 * import { DemoDevice } from "../devices/demo_device.ts";
 * import { Server } from "../server/server.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const map = await device.dma.mapAsync({ iova: 0x100000, size: 0x1000 });
 * map.bytes.fill(0x5a);
 * console.assert(device.dma.read(0x100ffcn, 4).join() === "90,90,90,90");
 * await map.unmapAsync();
 * ```
 */
export class DmaSpace {
  readonly #host: DmaHost;
  readonly #memory = new Map<DmaMap, Memory>();
  readonly #maps: DmaMap[] = []; // by address
  #isAsked = false; // whether the device has sent a DMA_READ or DMA_WRITE for shared memory
  #written: PageLog | undefined; // what the device writes by message, while that is counted
  /** Called for every access of the device that comes as a message. It must not throw. */
  onAccess: ((event: DmaEvent) => void) | undefined;

  /** @ignore made by `Device` */
  constructor(host: DmaHost) {
    this.#host = host;
  }

  /** The maps in force, by address. */
  get maps(): readonly DmaMap[] {
    return [...this.#maps];
  }

  /** True while the server can be sent requests. */
  get isConnected(): boolean {
    return this.#host.proxy.state === "CONNECTED";
  }

  /** Tells whether a map is in force, and not being unmapped. */
  has(map: DmaMap): boolean {
    return this.#memory.get(map)?.state === "mapped";
  }

  /**
   * Maps memory for the device, blocking until the server has replied. A server that does not reply
   * in time is asked to unmap the memory, within another second.
   *
   * @throws {RangeError} if the range is misaligned or empty, wraps around or overlaps another map.
   *   Also if there are too many maps, or the file is shorter. Nothing is sent then
   * @throws {SystemError} if the memory can't be had
   * @throws {RemoteError} if the server refuses
   */
  map(options: DmaMapOptions & { timeoutMs?: number }): DmaMap {
    return drive(this.#mapPlan(options), (step) => this.#requestSync(step));
  }

  /** As {@linkcode DmaSpace.map}, asynchronously. The same holds if the signal ends the wait. */
  async mapAsync(options: DmaMapOptions & WaitOptions): Promise<DmaMap> {
    return await driveAsync(this.#mapPlan(options), (step) => this.#request(step));
  }

  /**
   * Unmaps memory, blocking until the server has let go of the memory. Views of shared memory are
   * empty then.
   *
   * @throws {RangeError} if it is not mapped, or being unmapped
   * @throws {RemoteError} if the server refuses; the memory is gone all the same
   */
  unmap(map: DmaMap, options: { timeoutMs?: number } = {}): void {
    drive(this.#unmapPlan(map, options), (step) => this.#requestSync(step));
  }

  /** As {@linkcode DmaSpace.unmap}, asynchronously. */
  async unmapAsync(map: DmaMap, options: WaitOptions = {}): Promise<void> {
    await driveAsync(this.#unmapPlan(map, options), (step) => this.#request(step));
  }

  /** The map that holds all of a range, or undefined. */
  find(iova: bigint | number, length = 1): DmaMap | undefined {
    const start = BigInt(iova);
    const map = this.#maps[this.#indexAt(start)];
    return map !== undefined && length >= 0 && start + BigInt(length) <= map.end ? map : undefined;
  }

  /**
   * The memory of a range, without a copy.
   *
   * @throws {RangeError} if no single map holds all of it
   * @throws {TypeError} if the bytes of the map were detached, by a transfer
   */
  view(iova: bigint | number, length: number): Uint8Array<ArrayBuffer> {
    const map = this.find(iova, length);
    if (map === undefined) {
      throw new RangeError(`${describeRange(BigInt(iova), length)} is not in one map`);
    }
    const start = Number(BigInt(iova) - map.iova);
    return wholeBytes(map).subarray(start, start + length);
  }

  /**
   * Copies out of the memory, across maps that are next to each other.
   *
   * @throws {RangeError} if not all of the range is mapped
   */
  read(iova: bigint | number, length: number): Uint8Array<ArrayBuffer> {
    const pieces = this.#pieces(BigInt(iova), length);
    const into = new Uint8Array(length);
    let done = 0;
    for (const piece of pieces) {
      into.set(piece, done);
      done += piece.length;
    }
    return into;
  }

  /**
   * Copies into the memory, across maps that are next to each other.
   *
   * @throws {RangeError} if not all of the range is mapped; nothing is written then
   */
  write(iova: bigint | number, data: Uint8Array): void {
    let done = 0;
    for (const piece of this.#pieces(BigInt(iova), data.length)) {
      piece.set(data.subarray(done, done + piece.length));
      done += piece.length;
    }
  }

  /**
   * Answers a DMA_READ or DMA_WRITE of the server.
   *
   * @ignore the Device hands them over
   */
  serve(request: IncomingRequest): void {
    const isWrite = request.command === Command.DMA_WRITE;
    const { payload } = request;
    const form = formOf(payload, isWrite);
    if (form === undefined) return request.fail(EINVAL);
    const { address } = form;
    const count = BigInt(form.count);
    if (!this.#isAsked && this.find(address)?.isShared) {
      this.#isAsked = true;
      this.#choose();
    }
    const errno = this.#refusal(address, count, isWrite);
    this.onAccess?.({ kind: isWrite ? "write" : "read", iova: address, length: count, errno });
    if (errno !== 0) return request.fail(errno);
    const length = Number(count);
    const head = payload.subarray(0, form.headSize);
    if (isWrite) {
      this.write(address, payload.subarray(form.headSize));
      this.#written?.mark(address, length);
      // QEMU 10.1, which has the short head, expects the reply's header alone.
      return form.headSize === DmaAccessLayout.size ? request.reply(head) : request.reply();
    }
    const map = this.find(address, length);
    request.reply(
      head,
      map === undefined ? this.read(address, length) : this.view(address, length),
    );
  }

  /**
   * Counts the pages that the device writes by message from here on; undefined counts none.
   *
   * @ignore `DmaLogging` does it
   */
  countWritten(log: PageLog | undefined): void {
    this.#written = log;
  }

  /**
   * Frees everything here; the server does the same when the connection ends.
   *
   * @ignore the Device does it
   */
  close(): void {
    for (const map of [...this.#maps]) this.#remove(map);
  }

  /** Finds the errno of an access that is refused; 0 if it is served. */
  #refusal(address: bigint, count: bigint, isWrite: boolean): number {
    const { client } = this.#host.negotiated;
    if (count > BigInt(client.maxDataXferSize ?? DEFAULT_MAX_DATA_XFER_SIZE)) return EINVAL;
    if (address + count > MAX_ADDRESS) return EFAULT;
    for (let at = address; at < address + count;) {
      const map = this.find(at);
      if (map === undefined || map.bytes.length < map.size) return EFAULT; // bytes were detached
      if (map.access === (isWrite ? "ro" : "wo")) return EACCES;
      at = map.end;
    }
    return 0;
  }

  /** The memory of a range, map by map. Checked as a whole before the first piece is given. */
  #pieces(iova: bigint, length: number): Uint8Array<ArrayBuffer>[] {
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    const end = iova + BigInt(length);
    for (let at = iova; at < end;) {
      const map = this.find(at);
      if (map === undefined) {
        throw new RangeError(
          `${describeRange(iova, length)} is not all mapped: nothing is at ${hex(at)}`,
        );
      }
      const stop = end < map.end ? end : map.end;
      pieces.push(wholeBytes(map).subarray(Number(at - map.iova), Number(stop - map.iova)));
      at = stop;
    }
    return pieces;
  }

  /** Gives memory to the device; takes it back if the server does not answer. */
  *#mapPlan(options: DmaMapOptions & WaitOptions): DmaPlan<DmaMap> {
    options.signal?.throwIfAborted();
    const map = this.#add(options);
    const memory = this.#memory.get(map)!;
    try {
      yield {
        command: Command.DMA_MAP,
        payload: mapPayload(map, memory),
        doing: () => `map ${describeRange(map.iova, map.size)}`,
        ...(memory.fd && { fds: [memory.fd] }),
        ...limitsOf(options),
      };
    } catch (error) {
      if (isUnanswered(error, options.signal)) {
        try {
          yield* this.#unmapPlan(map, TAKE_BACK);
        } catch { /* what ended the map is more to the point */ }
      }
      this.#remove(map);
      throw error;
    }
    memory.fd?.[Symbol.dispose](); // the server has its own descriptor now
    return map;
  }

  /** Takes memory back from the device. */
  *#unmapPlan(map: DmaMap, options: WaitOptions): DmaPlan<void> {
    this.#leave(map);
    try {
      yield {
        command: Command.DMA_UNMAP,
        payload: unmapPayload(map),
        doing: () => `unmap ${describeRange(map.iova, map.size)}`,
        ...limitsOf(options),
      };
    } finally {
      this.#remove(map);
    }
  }

  #requestSync({ command, payload, ...options }: DmaStep): Message {
    return this.#host.proxy.requestSync(command, payload, options);
  }

  #request({ command, payload, ...options }: DmaStep): Promise<Message> {
    return this.#host.request(command, payload, options);
  }

  /** Checks a map, makes its memory and enters it. */
  #add({ iova, size, access = "rw", share = "memfd" }: DmaMapOptions): DmaMap {
    const start = BigInt(iova);
    this.#check(start, size);
    const memory = makeMemory(share, size, start);
    const map = new DmaMap(this, start, access, memory);
    this.#memory.set(map, memory);
    this.#maps.splice(this.#indexAt(start) + 1, 0, map);
    this.#choose();
    return map;
  }

  #check(iova: bigint, size: number): void {
    const { pgsizes, maxDmaMaps } = this.#host.negotiated;
    const pageSize = pgsizes & -pgsizes; // the smallest that the server takes
    const what = `Cannot map ${describeRange(iova, size)}`;
    if (!Number.isInteger(size) || size < 1 || size > MAX_MAPPING) {
      throw new RangeError(`${what}: from 1 to ${MAX_MAPPING} bytes are possible`);
    }
    if (iova < 0n || iova + BigInt(size) > MAX_ADDRESS) {
      throw new RangeError(`${what}: it leaves the 64 bits of addresses`);
    }
    if (iova % pageSize !== 0n || BigInt(size) % pageSize !== 0n) {
      throw new RangeError(
        `${what}: address and size must be multiples of the page size, ${pageSize}`,
      );
    }
    const below = this.#maps[this.#indexAt(iova)];
    const above = this.#maps[this.#indexAt(iova) + 1];
    const other = below !== undefined && below.end > iova
      ? below
      : above !== undefined && above.iova < iova + BigInt(size)
      ? above
      : undefined;
    if (other !== undefined) {
      throw new RangeError(`${what}: it overlaps ${describeRange(other.iova, other.size)}`);
    }
    if (this.#maps.length >= maxDmaMaps) {
      throw new RangeError(`${what}: the server takes ${maxDmaMaps} maps at most`);
    }
  }

  #remove(map: DmaMap): void {
    const memory = this.#memory.get(map);
    if (memory === undefined) return;
    memory.state = "gone";
    this.#memory.delete(map);
    this.#maps.splice(this.#maps.indexOf(map), 1);
    memory.fd?.[Symbol.dispose]();
    this.#choose();
    memory.mapping?.close();
  }

  /**
   * While anything is mapped DMA_READ and DMA_WRITE are answered, also when the client is idle.
   * Over one socket, a second request may not be in flight while the device is likely to send them.
   * A server of libvfio-user takes that request for the awaited answer.
   */
  #choose(): void {
    const { proxy } = this.#host;
    const { twin } = proxy;
    const needsMessages = this.#maps.some((map) => !map.isShared);
    const carrier = twin ?? proxy;
    if (carrier.state === "CONNECTED") {
      carrier.serving = needsMessages;
      carrier.glancing = this.#maps.length > 0;
    }
    const usesMessages = needsMessages || (this.#isAsked && this.#maps.length > 0);
    proxy.window = usesMessages && twin === undefined ? 1 : MAX_PENDING;
  }

  #leave(map: DmaMap): void {
    if (!this.has(map)) throw new RangeError(`${describeRange(map.iova, map.size)} is not mapped`);
    this.#memory.get(map)!.state = "leaving";
  }

  /** The index of the last map that begins at or below an address; -1 if there is none. */
  #indexAt(iova: bigint): number {
    let low = 0;
    let high = this.#maps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#maps[middle]!.iova <= iova) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The bytes of a map, which the caller may have detached. */
function wholeBytes({ iova, size, bytes }: DmaMap): Uint8Array<ArrayBuffer> {
  if (bytes.length === size) return bytes;
  throw new TypeError(
    `Cannot use the map of ${describeRange(iova, size)}: its bytes were detached or resized`,
  );
}

function mapPayload(map: DmaMap, { fdOffset }: Memory): Uint8Array {
  const flags = (map.access === "wo" ? 0 : DmaMapFlags.READ) |
    (map.access === "ro" ? 0 : DmaMapFlags.WRITE);
  return DmaMapRequest.encode({
    argsz: 32,
    flags,
    offset: fdOffset,
    address: map.iova,
    size: BigInt(map.size),
  });
}

function unmapPayload(map: DmaMap): Uint8Array {
  return DmaUnmapRequest.encode({ argsz: 24, flags: 0, address: map.iova, size: BigInt(map.size) });
}

/** Address, count and head of a request, in whichever form it is; undefined if it is in none. */
function formOf(
  payload: Uint8Array,
  isWrite: boolean,
): { address: bigint; count: number | bigint; headSize: number } | undefined {
  for (const head of [DmaAccessLayout, DmaAccessLayout32]) {
    if (payload.length < head.size) continue;
    const { address, count } = head.decode(payload);
    const dataSize = BigInt(payload.length - head.size);
    if (dataSize === (isWrite ? BigInt(count) : 0n)) return { address, count, headSize: head.size };
  }
  return undefined;
}

function limitsOf({ timeoutMs, signal }: WaitOptions): WaitOptions {
  return { ...(timeoutMs !== undefined && { timeoutMs }), ...(signal && { signal }) };
}
