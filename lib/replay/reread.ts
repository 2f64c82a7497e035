/**
 * Reads of registers that are done again, as the server may be slower or faster than the recorded
 * one.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { accessesOf, decodeMessage } from "../record/decode.ts";
import { isSameMessage } from "./compare.ts";
import type { PlayHost } from "./play_host.ts";
import { readPlace } from "./polls.ts";
import type { ReplyStep, RequestStep } from "./script.ts";

/** The interval in milliseconds at which a register is read again that does not have its value. */
const AGAIN_MS = 2;
/** Registers that are remembered as different, which then get no more time. */
const MAX_FAILED = 4096;

/** The end of a request. */
export type Outcome =
  | { readonly kind: "reply"; readonly bytes: Uint8Array }
  | { readonly kind: "none"; readonly error: Error };

/** The parts of a connection that a repeated read uses. */
export interface RereadConnection {
  /** Sends a request again. */
  repeat(step: RequestStep): Promise<Outcome>;
  /** Waits until anything happens, for so long at most. */
  change(ms: number): Promise<void>;
}

/** Registers of one connection that do not have the recorded value at once. */
export class Reread {
  readonly #host: PlayHost;
  readonly #connection: RereadConnection;
  /** Places of registers that had another value until the timeout: they get no more time. */
  readonly #failed = new Set<string>();

  /** Begins with no register that failed. */
  constructor(host: PlayHost, connection: RereadConnection) {
    this.#host = host;
    this.#connection = connection;
  }

  /**
   * Reads a register again that has another value than the recorded one: a device may be slower, or
   * faster. This is for registers alone that the recording polls, and for bits that change there by
   * themselves. The values of a loop may come earlier; a loop goes on as long as the timeout. An
   * error, or a malformed reply, is final: a read that fails is a difference.
   *
   * @returns undefined if a value came that the recording has here, else the last outcome
   */
  async settle(
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
      await this.#connection.change(AGAIN_MS);
      outcome = await this.#connection.repeat(to);
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
