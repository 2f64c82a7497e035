/**
 * One client of a recording, played again.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { EFAULT, EINVAL } from "../../ffi/errno.ts";
import { EventFd } from "../../ffi/event.ts";
import { closeAll, type OwnedFd } from "../../ffi/fd.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { RemoteError, TimeoutError } from "../base/errors.ts";
import {
  DEFAULT_MAX_DATA_XFER_SIZE,
  HEADER_SIZE,
  MAX_MSG_FDS,
  MAX_REGION_INFO_SIZE,
  MESSAGE_OVERHEAD,
} from "../base/limits.ts";
import { type Access, accessesOf, decodeMessage } from "../record/decode.ts";
import type { RecordedDescriptor, RecordedEnd, RecordedInterrupt } from "../record/event.ts";
import type { IncomingRequest } from "../transport/incoming.ts";
import type { Message } from "../transport/message.ts";
import { type ProxyOptions, VfioProxy } from "../transport/proxy.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import { irqName, IrqSetFlags } from "../wire/irq.ts";
import { type IgnoredRange, isSameMessage } from "./compare.ts";
import type { Difference, PlayCounts } from "./difference.ts";
import { KnownMemory, MAX_PAGES, MemoryFiles } from "./memory.ts";
import { readPlace } from "./polls.ts";
import type { DmaStep, ReplyStep, RequestStep, Script, ScriptStep } from "./script.ts";
import { MAX_SIGNALS, Signals } from "./signals.ts";

/** The interval in milliseconds at which a register is read again that does not have its value. */
const AGAIN_MS = 2;
/** Registers that are remembered as different, which then get no more time. */
const MAX_FAILED = 4096;
/** Descriptors of region parts that are kept. */
const MAX_KICKS = 1024;

/** The parts of a play that a connection uses. */
export interface PlayHost {
  readonly script: Script;
  readonly counts: PlayCounts;
  readonly timeoutMs: number;
  readonly ignore: readonly IgnoredRange[];
  readonly signal: AbortSignal | undefined;
  /** Tells if the recording polls a place, and a value may be an earlier or later one there. */
  mayDiffer(place: string, expected: Uint8Array, found: Uint8Array): Promise<boolean>;
  /** Reports a remark, once. */
  note(text: string): void;
  /** Reports a difference, at the step that is played unless it names another one. */
  differ(difference: Omit<Difference, "before" | "step"> & { step?: ScriptStep }): void;
}

/** The end of a request. */
type Outcome =
  | { readonly kind: "reply"; readonly bytes: Uint8Array }
  | { readonly kind: "none"; readonly error: Error };

/** A connection to the server, and what the client has there. */
export class PlayedConnection implements Disposable {
  /** The number of the client in the recording. */
  readonly number: number;
  readonly #host: PlayHost;
  readonly #proxy: VfioProxy;
  readonly #proxyOptions: ProxyOptions;
  readonly #memory = new KnownMemory();
  readonly #files = new MemoryFiles();
  readonly #signals: Signals;
  readonly #outcomes = new Map<RequestStep, Promise<Outcome>>();
  readonly #kicks: { region: number; offset: bigint; event: EventFd }[] = [];
  /** Places of registers that got their time and had another value all the same. */
  readonly #failed = new Set<string>();
  #onChange: (() => void) | undefined;
  /** Waits in a row in which nothing came. */
  #missed = 0;
  #isLost = false;
  #isOver = false;

  /** @param number the number of the client in the recording */
  constructor(number: number, socket: UnixSocket, host: PlayHost) {
    this.number = number;
    this.#host = host;
    this.#proxyOptions = {
      role: "client",
      timeoutMs: host.timeoutMs,
      handler: (request) => this.#serve(request),
    };
    this.#proxy = new VfioProxy(socket, {
      ...this.#proxyOptions,
      onClose: (cause) => {
        this.#proxy.twin?.close(cause);
        this.#wake();
      },
    });
    this.#proxy.peerMaxFds = MAX_MSG_FDS;
    this.#proxy.serving = true;
    this.#signals = new Signals(() => this.#wake());
  }

  /** True once the recorded client has left. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** True once the server is gone, or can't be talked to, before that. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Does a step, or waits for it. */
  async play(step: ScriptStep): Promise<void> {
    switch (step.kind) {
      case "request":
        return await this.#request(step);
      case "reply":
        return await this.#reply(step);
      case "dma":
        return await this.#awaitDma(step);
      case "interrupt":
        return await this.#interrupt(step, step.event);
      case "kick": {
        const { region, offset, count } = step.event;
        const most = count < MAX_SIGNALS ? count : MAX_SIGNALS;
        this.#noteSignals(count);
        this.#kicks.find((each) => each.region === region && each.offset === offset)
          ?.event.signal(most);
        return;
      }
      case "end":
        return await this.#end(step.event);
      case "nothing":
        if (step.reason !== undefined) this.#host.note(`Not played: ${step.reason}`);
        return;
    }
  }

  /** Looks for what came and is not in the recording. */
  async finish(): Promise<void> {
    await Promise.all(this.#outcomes.values());
    for (const { irq, vector, count } of this.#signals.takeSurplus()) {
      const times = count === 1n ? "once" : `${count} times`;
      this.#host.differ({
        kind: "other interrupt",
        text: `${irqName(irq)}[${vector}] came ${times} more than in the recording`,
      });
    }
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#proxy.twin?.close();
    this.#proxy.close();
    this.#signals[Symbol.dispose]();
    this.#files[Symbol.dispose]();
    for (const { event } of this.#kicks) event[Symbol.dispose]();
    this.#kicks.length = 0;
  }

  async #request(step: RequestStep): Promise<void> {
    if (step.isSkipped) return;
    const { sent, bytes } = step;
    const payload = bytes.subarray(HEADER_SIZE);
    if (sent.header.command === Command.VERSION) this.#setLimits(step);
    const fds = this.#descriptors(step);
    this.#host.counts.requests++;
    if (sent.noReply) {
      try {
        this.#proxy.post(sent.header.command, payload, { fds });
        this.#proxy.flushSync();
      } catch (error) {
        this.#lose(error);
      }
      return;
    }
    this.#outcomes.set(step, this.#send(step, payload, fds));
    await Promise.resolve(); // requests leave at the end of the turn
  }

  async #send(step: RequestStep, payload: Uint8Array, fds: readonly OwnedFd[]): Promise<Outcome> {
    const { command } = step.sent.header;
    const { signal } = this.#host;
    try {
      const reply = await this.#proxy.request(command, payload, {
        fds,
        maxReplyFds: REPLIES_WITH_FDS.has(command) ? MAX_MSG_FDS : 0,
        ...(signal && { signal }),
      });
      this.#takeReplyFds(command, reply);
      return { kind: "reply", bytes: bytesOf(command, reply.payload) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof RemoteError) {
        return { kind: "reply", bytes: bytesOf(command, undefined, error.errno) };
      }
      if (error instanceof Error) return { kind: "none", error };
      throw error;
    }
  }

  /** Messages may be as large as the recorded client said. */
  #setLimits({ sent: { payload } }: RequestStep): void {
    const { maxDataXferSize = DEFAULT_MAX_DATA_XFER_SIZE } = payload?.name === "VERSION"
      ? payload.value.capabilities
      : {};
    const most = Math.min(Math.max(maxDataXferSize, MAX_REGION_INFO_SIZE), 64 << 20);
    const maxMessageSize = HEADER_SIZE + MESSAGE_OVERHEAD + most;
    this.#proxy.limits = { maxFds: MAX_MSG_FDS, maxMessageSize };
  }

  /** Descriptors in place of those that the server got with a request. */
  #descriptors({ event, sent }: RequestStep): OwnedFd[] {
    const passed = event.descriptors.filter(({ fate }) => fate !== "withheld");
    const { payload } = sent;
    if (payload?.name === "DMA_MAP" && payload.side === "request") {
      const { offset, size } = payload.value;
      if (passed.length > 0) {
        this.#host.note(
          "The recorded client shared memory, whose contents are not in the recording: " +
            "the device finds zeros there. vfu record --intercept dma makes them visible",
        );
      }
      return passed.map((each) => this.#files.file(each, offset + size));
    }
    if (payload?.name !== "DEVICE_SET_IRQS" || payload.side !== "request") return [];
    const { flags, index, start } = payload.value;
    const action = actionOf(flags);
    if (action === "trigger" && passed.some((each) => !isIntercepted(each))) {
      this.#host.note(
        "Interrupts are not compared: the recording does not have them. " +
          "vfu record --intercept irq makes them visible",
      );
    }
    return passed.map((each, i) =>
      this.#signals.handle(index, start + i, action, isIntercepted(each))
    );
  }

  /** Takes descriptors that came with a reply. */
  #takeReplyFds(command: number, reply: Message): void {
    const fds = reply.takeFds();
    try {
      if (fds.length === 0) return;
      const payload = decodeMessage(bytesOf(command, reply.payload))?.payload;
      if (payload?.name === "VERSION" && payload.side === "reply") {
        const fd = fds[payload.value.capabilities.twinSocket?.fdIndex ?? -1];
        if (fd !== undefined) this.#useTwin(fd);
      }
      if (payload?.name === "DEVICE_GET_REGION_IO_FDS" && payload.side === "reply") {
        for (const { offset, fdIndex } of payload.value.subRegions) {
          const fd = fds[fdIndex];
          if (fd === undefined || !fd.isOpen) continue;
          if (this.#kicks.length >= MAX_KICKS) {
            this.#host.note(`The server gives more than ${MAX_KICKS} eventfds: not all are used`);
            continue;
          }
          fds[fdIndex] = undefined!;
          this.#kicks.push({ region: payload.value.index, offset, event: new EventFd(fd) });
        }
      }
    } finally {
      closeAll(fds.filter((fd) => fd !== undefined && fd.isOpen));
    }
  }

  #useTwin(fd: OwnedFd): void {
    const twin = new VfioProxy(UnixSocket.adopt(fd.fd), {
      ...this.#proxyOptions,
      onClose: (cause) => this.#proxy.close(cause),
    });
    fd.release();
    twin.limits = this.#proxy.limits;
    twin.serving = true;
    this.#proxy.twin = twin;
  }

  async #reply(step: ReplyStep): Promise<void> {
    const { to, reply, event } = step;
    if (to.isSkipped) return;
    const pending = this.#outcomes.get(to);
    if (pending === undefined) return;
    this.#outcomes.delete(to);
    if (reply.name === "DEVICE_GET_REGION_INFO" && event.descriptors.some(isPassed)) {
      this.#host.note(
        "The recorded client could map registers: accesses there are not in the recording. " +
          "vfu record --intercept mmap makes them visible",
      );
    }
    let outcome = await pending;
    if (outcome.kind === "none") return this.#noReply(step, outcome.error);
    this.#host.counts.replies++;
    const isSame = (found: Outcome) =>
      found.kind === "reply" && isSameMessage(reply, event.bytes, found.bytes, this.#host.ignore);
    if (isSame(outcome)) return;
    if (readPlace(to.sent.payload) !== undefined) {
      const settled = await this.#readAgain(step, outcome, isSame);
      if (settled === undefined) return;
      outcome = settled;
      if (outcome.kind === "none") return this.#noReply(step, outcome.error);
    }
    this.#host.differ({
      kind: "reply",
      request: to,
      expected: event.bytes,
      found: outcome.bytes,
      text: "the reply differs",
    });
  }

  #noReply(step: ReplyStep, error: Error): void {
    const { to, event } = step;
    const isLate = error instanceof TimeoutError;
    const kind = isLate ? "no reply" : "connection";
    this.#host.differ({
      kind,
      request: to,
      expected: event.bytes,
      text: lowerFirst(error.message),
    });
    if (!isLate) this.#isLost = true;
  }

  /**
   * Reads a register again that has another value than the recorded one: a device may be slower, or
   * faster. This is for registers alone that the recording polls, and for bits that change there by
   * themselves. The values of a loop may come earlier; a loop goes on as long as the timeout. An
   * error, or a malformed reply, is final: a read that fails is a difference.
   *
   * @returns undefined if a value came that the recording has here, else the last outcome
   */
  async #readAgain(
    step: ReplyStep,
    first: Outcome,
    isSame: (outcome: Outcome) => boolean,
  ): Promise<Outcome | undefined> {
    const { to, reply } = step;
    const place = readPlace(to.sent.payload)!;
    const run = await this.#restOfRun(step, place);
    let outcome = first;
    const isSettled = () => {
      if (isSame(outcome)) return true;
      const at = run.findIndex(({ reply, event }) =>
        outcome.kind === "reply" &&
        isSameMessage(reply, event.bytes, outcome.bytes, this.#host.ignore)
      );
      if (at < 0) return false;
      for (const each of run.slice(0, at + 1)) each.to.isSkipped = true;
      return true;
    };
    if (isSettled()) return undefined;
    const expected = reply.payload?.name === "REGION_READ" && reply.payload.side === "reply"
      ? reply.payload.value.data
      : undefined;
    const mayChange = async () => {
      const found = valueOf(to, outcome);
      return expected?.length === found?.length && expected !== undefined &&
        await this.#host.mayDiffer(place, expected, this.#withoutIgnored(to, expected, found!));
    };
    if (this.#failed.has(place) || !await mayChange()) return outcome;
    const deadline = monotonicMs() + this.#host.timeoutMs;
    while (monotonicMs() < deadline) {
      await this.#changed(AGAIN_MS);
      outcome = await this.#send(to, to.bytes.subarray(HEADER_SIZE), []);
      if (isSettled()) return undefined;
      if (!await mayChange()) return outcome;
    }
    if (this.#failed.size < MAX_FAILED) this.#failed.add(place);
    return outcome;
  }

  /** The value that came, with the recorded bytes in place of those that are ignored. */
  #withoutIgnored({ sent }: RequestStep, expected: Uint8Array, found: Uint8Array): Uint8Array {
    const [access] = accessesOf(sent.payload);
    const start = Number(access!.offset);
    const ranges = this.#host.ignore.filter(({ region }) => region === access!.region);
    return found.map((byte, i) =>
      ranges.some(({ start: from, end }) => start + i >= from && start + i < end)
        ? expected[i]!
        : byte
    );
  }

  /** The replies of the same read that follow, up to a request that is another one. */
  async #restOfRun(step: ReplyStep, place: string): Promise<ReplyStep[]> {
    const { script } = this.#host;
    await script.readUntil((each) =>
      each.kind === "request" && readPlace(each.sent.payload) !== place
    );
    const run: ReplyStep[] = [];
    for (const each of script.ahead) {
      if (each.event.connection !== step.event.connection) break;
      if (each.kind === "request" && readPlace(each.sent.payload) !== place) break;
      if (each.kind === "reply" && readPlace(each.to.sent.payload) === place) run.push(each);
    }
    return run;
  }

  /** Waits for a DMA that the recording has here, unless it came before. */
  async #awaitDma(step: DmaStep): Promise<void> {
    if (step.isDone) return;
    const waitMs = this.#waitMs;
    if (await this.#until(() => step.isDone)) return;
    this.#host.script.closeDma(step);
    this.#host.differ({
      kind: this.#isConnected ? "no dma" : "connection",
      expected: step.event.bytes,
      text: this.#isConnected
        ? `the device did not do this within ${waitMs} ms`
        : lowerFirst(this.#proxy.cause?.message ?? "the server left"),
    });
    this.#isLost ||= !this.#isConnected;
  }

  async #interrupt(
    step: ScriptStep,
    event: RecordedInterrupt,
  ): Promise<void> {
    const { irq, vector, count, action } = event;
    if (action !== "trigger") {
      this.#noteSignals(count);
      return this.#signals.signal(event);
    }
    const waitMs = this.#waitMs;
    const came = await this.#until(() => this.#signals.pending(irq, vector) >= count);
    const found = this.#signals.pending(irq, vector);
    this.#signals.take(irq, vector, count);
    if (came) {
      this.#host.counts.interrupts++;
      return;
    }
    this.#host.differ({
      kind: this.#isConnected ? "no interrupt" : "connection",
      step,
      text: this.#isConnected
        ? `${irqName(irq)}[${vector}] came ${found} of ${count} times within ${waitMs} ms`
        : lowerFirst(this.#proxy.cause?.message ?? "the server left"),
    });
    this.#isLost ||= !this.#isConnected;
  }

  #noteSignals(count: bigint): void {
    if (count <= MAX_SIGNALS) return;
    this.#host.note(`Of ${count} signals at once, ${MAX_SIGNALS} are played`);
  }

  async #end({ side, socket, text }: RecordedEnd): Promise<void> {
    if (socket !== "main") return;
    if (side === "server") {
      const hasLeft = await this.#until(() => !this.#isConnected);
      if (!hasLeft) this.#host.note(`The recorded server left here (${text}); this one stays`);
    }
    await this.finish();
    this.#proxy.close();
    this.#isOver = true;
  }

  get #isConnected(): boolean {
    return this.#proxy.state === "CONNECTED";
  }

  /** Answers a request of the server as the recorded client did. */
  async #serve(request: IncomingRequest): Promise<void> {
    const { command } = request;
    const bytes = bytesOf(command, request.payload.slice(), undefined, true);
    const decoded = decodeMessage(bytes);
    const [access] = accessesOf(decoded?.payload);
    if (decoded === undefined || access?.space !== "memory") {
      this.#host.differ({
        kind: "other dma",
        found: bytes,
        text: `the server asks what a client does not answer`,
      });
      return request.fail(EINVAL);
    }
    const step = await this.#takeExpected(access, bytes);
    this.#host.counts.dma++;
    if (step === undefined) {
      const [next] = this.#host.script.expectedDma;
      this.#host.differ({
        kind: "other dma",
        found: bytes,
        ...(next && { expected: next.event.bytes }),
        text: "the recording does not have this access",
      });
      this.#answerAsKnown(request, access);
      return this.#wake();
    }
    if (!isSameMessage(step.asked, step.event.bytes, bytes)) {
      this.#host.differ({
        kind: "dma",
        step,
        expected: step.event.bytes,
        found: bytes,
        text: "the device writes other data",
      });
    }
    if (access.data !== undefined) this.#memory.write(access.offset, access.data);
    while (step.answer === undefined && await this.#host.script.readMore());
    const { answer } = step;
    if (answer === undefined) this.#answerAsKnown(request, access);
    else if (answer.errno !== 0) request.fail(answer.errno);
    else {
      if (access.action === "read") this.#memory.write(access.offset, answer.payload.subarray(16));
      request.reply(answer.payload);
    }
    this.#wake();
  }

  /**
   * Takes the access in the recording that this one is: the first with the same data, else the
   * first. Two requests of the server never take the same one.
   */
  async #takeExpected(access: Access, bytes: Uint8Array): Promise<DmaStep | undefined> {
    const { script } = this.#host;
    const isThere = ({ asked, event }: DmaStep) => {
      const [other] = accessesOf(asked.payload);
      return event.connection === this.number && other?.action === access.action &&
        other.offset === access.offset && other.count === access.count;
    };
    const isExact = (step: DmaStep) =>
      isThere(step) && isSameMessage(step.asked, step.event.bytes, bytes);
    let found: DmaStep | undefined;
    for (let seen = -1; found === undefined;) {
      for (const step of script.expectedDma) {
        if (step.event.index <= seen) continue;
        seen = step.event.index;
        if (!isExact(step)) continue;
        found = step;
        break;
      }
      if (found === undefined && !await script.readMore()) {
        found = script.expectedDma.find(isThere);
        break;
      }
    }
    if (found !== undefined) script.closeDma(found);
    return found;
  }

  #answerAsKnown(request: IncomingRequest, { action, offset, count, data }: Access): void {
    const head = request.payload.subarray(0, 16);
    if (action === "write") {
      this.#memory.write(offset, data!);
      return request.reply(head);
    }
    if (count > BigInt(this.#proxy.limits.maxMessageSize - MESSAGE_OVERHEAD)) {
      return request.fail(EFAULT);
    }
    if (this.#memory.hasForgotten) {
      this.#host.note(
        `The device accessed more than ${MAX_PAGES} pages of memory: ` +
          "where the recording has no contents, it may find zeros in place of older ones",
      );
    }
    request.reply(head, this.#memory.read(offset, Number(count)));
  }

  /** Waits until something is so; false after the time for it, or if the connection ends. */
  async #until(isSo: () => boolean): Promise<boolean> {
    const deadline = monotonicMs() + this.#waitMs;
    while (!isSo()) {
      this.#host.signal?.throwIfAborted();
      const left = deadline - monotonicMs();
      if (left <= 0 || !this.#isConnected) break;
      await this.#changed(left);
    }
    const has = isSo();
    this.#missed = has ? 0 : this.#missed + 1;
    return has;
  }

  /** The time for what the device does by itself: less once something did not come. */
  get #waitMs(): number {
    return this.#missed === 0 ? this.#host.timeoutMs : Math.ceil(this.#host.timeoutMs / 10);
  }

  /** Waits until anything happens, for so long at most. */
  #changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#host;
      const finish = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", finish);
        this.#onChange = undefined;
        resolve();
      };
      const timer = setTimeout(finish, ms);
      signal?.addEventListener("abort", finish);
      this.#onChange = finish;
    });
  }

  #wake(): void {
    this.#onChange?.();
  }

  #lose(error: unknown): void {
    if (!(error instanceof Error)) throw error;
    this.#host.differ({ kind: "connection", text: lowerFirst(error.message) });
    this.#isLost = true;
  }
}

/** Commands whose replies may carry descriptors. */
const REPLIES_WITH_FDS: ReadonlySet<number> = new Set([
  Command.VERSION,
  Command.DEVICE_GET_REGION_INFO,
  Command.DEVICE_GET_REGION_IO_FDS,
]);

function actionOf(flags: number): RecordedInterrupt["action"] {
  const action = flags & IrqSetFlags.ACTION_MASK_BITS;
  if (action === IrqSetFlags.ACTION_MASK) return "mask";
  return action === IrqSetFlags.ACTION_UNMASK ? "unmask" : "trigger";
}

function isPassed({ fate }: RecordedDescriptor): boolean {
  return fate === "passed";
}

function isIntercepted({ fate }: RecordedDescriptor): boolean {
  return fate === "replaced";
}

/** A message of a peer, with a header of ours. */
function bytesOf(
  command: number,
  payload: Uint8Array | undefined,
  errno?: number,
  isRequest = false,
): Uint8Array {
  const { COMMAND, REPLY, ERROR } = MessageFlags;
  const flags = isRequest ? COMMAND : REPLY | (errno === undefined ? 0 : ERROR);
  return encodeMessage({ messageId: 0, command, flags, error: errno ?? 0 }, payload);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** The data that a request reads; undefined if it failed, or its reply is malformed. */
function valueOf({ sent }: RequestStep, outcome: Outcome): Uint8Array | undefined {
  if (outcome.kind !== "reply") return undefined;
  const [asked, found] = [sent.payload, decodeMessage(outcome.bytes)?.payload];
  if (asked?.name !== "REGION_READ" || asked.side !== "request") return undefined;
  if (found?.name !== "REGION_READ" || found.side !== "reply") return undefined;
  const isRange = found.value.region === asked.value.region &&
    found.value.offset === asked.value.offset && found.value.data.length === asked.value.count;
  return isRange ? found.value.data : undefined;
}
