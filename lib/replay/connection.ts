/**
 * One client of a recording, played again.
 *
 * @module
 */

import { SystemError } from "../../ffi/errno.ts";
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
import { decodeMessage } from "../record/decode.ts";
import type {
  RecordedDescriptor,
  RecordedEnd,
  RecordedInterrupt,
  RecordedIoeventfd,
} from "../record/event.ts";
import type { Message } from "../transport/message.ts";
import { type ProxyOptions, VfioProxy } from "../transport/proxy.ts";
import { Command } from "../wire/command.ts";
import { encodeMessage, MessageFlags } from "../wire/header.ts";
import { irqName, IrqSetFlags, vectorsName } from "../wire/irq.ts";
import { placeText } from "../wire/region.ts";
import { isSameMessage } from "./compare.ts";
import { DmaAnswers } from "./dma_answers.ts";
import { MemoryFiles } from "./memory.ts";
import { Patience } from "./patience.ts";
import type { PlayHost } from "./play_host.ts";
import { readPlace } from "./polls.ts";
import { type Outcome, Reread } from "./reread.ts";
import type { DmaStep, ReplyStep, RequestStep, ScriptStep } from "./script.ts";
import { MAX_SIGNALS, Signals } from "./signals.ts";
import { plural } from "../text/plural.ts";

/** Descriptors of region parts that are kept. */
const MAX_KICKS = 1024;

/** A connection to the server, and what the client has there. */
export class PlayedConnection implements Disposable {
  /** The number of the client in the recording. */
  readonly number: number;
  readonly #host: PlayHost;
  readonly #proxy: VfioProxy;
  readonly #proxyOptions: ProxyOptions;
  readonly #files = new MemoryFiles();
  readonly #signals: Signals;
  readonly #outcomes = new Map<RequestStep, Promise<Outcome>>();
  readonly #kicks: { region: number; offset: bigint; event: EventFd }[] = [];
  readonly #patience: Patience;
  readonly #reread: Reread;
  #isLost = false;
  #isOver = false;

  /** @param number the number of the client in the recording */
  constructor(number: number, socket: UnixSocket, host: PlayHost) {
    this.number = number;
    this.#host = host;
    this.#patience = new Patience(host.timeoutMs, host.signal);
    this.#reread = new Reread(host, {
      repeat: (step) => this.#send(step, step.bytes.subarray(HEADER_SIZE), []),
      change: (ms) => this.#patience.change(ms),
    });
    const dma = new DmaAnswers(host, {
      number,
      maxMessageSize: () => this.#proxy.limits.maxMessageSize,
      onAnswered: () => this.#patience.wake(),
    });
    this.#proxyOptions = {
      role: "client",
      timeoutMs: host.timeoutMs,
      handler: (request) => dma.answer(request),
    };
    this.#proxy = new VfioProxy(socket, {
      ...this.#proxyOptions,
      onClose: (cause) => {
        this.#proxy.twin?.close(cause);
        this.#patience.wake();
      },
    });
    this.#proxy.peerMaxFds = MAX_MSG_FDS;
    this.#proxy.serving = true;
    this.#signals = new Signals(() => this.#patience.wake());
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
      case "kick":
        return this.#kick(step.event);
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
      const times = count === 1n ? "once" : plural(count, "time");
      this.#host.differ({
        kind: "other interrupt",
        text: `${vectorsName(irqName(irq), vector)} came ${times} more than in the recording`,
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
      return { kind: "reply", bytes: replyOf(command, reply.payload) };
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (error instanceof RemoteError) {
        return { kind: "reply", bytes: replyOf(command, undefined, error.errno) };
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
      const payload = decodeMessage(replyOf(command, reply.payload))?.payload;
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
      const settled = await this.#reread.settle(step, outcome, isSame);
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

  /** Waits for a DMA that the recording has here, unless it came before. */
  async #awaitDma(step: DmaStep): Promise<void> {
    if (step.isDone) return;
    const waitMs = this.#patience.limitMs;
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
    const waitMs = this.#patience.limitMs;
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
        ? `${vectorsName(irqName(irq), vector)} came ${found} of ${
          plural(count, "time")
        } within ${waitMs} ms`
        : lowerFirst(this.#proxy.cause?.message ?? "the server left"),
    });
    this.#isLost ||= !this.#isConnected;
  }

  /** Signals the server's descriptor for a part of a region. */
  #kick({ region, offset, count }: RecordedIoeventfd): void {
    const most = count < MAX_SIGNALS ? count : MAX_SIGNALS;
    this.#noteSignals(count);
    const kick = this.#kicks.find((each) => each.region === region && each.offset === offset);
    try {
      kick?.event.signal(most);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      const place = placeText(region, offset);
      const text = `the server's descriptor for ${place} fails: ${lowerFirst(error.message)}`;
      this.#host.differ({ kind: "reply", text });
    }
  }

  #noteSignals(count: bigint): void {
    if (count <= MAX_SIGNALS) return;
    this.#host.note(`Of ${plural(count, "signal")} at once, ${MAX_SIGNALS} are played`);
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

  /** Waits until something is so; false after the time for it, or if the connection ends. */
  #until(isSo: () => boolean): Promise<boolean> {
    return this.#patience.until(isSo, () => this.#isConnected);
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

/** A reply of the server, with a header of ours. */
function replyOf(command: number, payload: Uint8Array | undefined, errno?: number): Uint8Array {
  const flags = MessageFlags.REPLY | (errno === undefined ? 0 : MessageFlags.ERROR);
  return encodeMessage({ messageId: 0, command, flags, error: errno ?? 0 }, payload);
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
