/**
 * A hostile client, with one connection after another.
 * The client sends what is no longer right, with descriptors that the server did not ask for.
 * Or the client plays one of the scenarios.
 *
 * @module
 */

import {
  Command,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  encodeMessage,
  Feature,
  FeatureFlags,
} from "../../lib/wire/mod.ts";
import { Descriptors } from "./_descriptors.ts";
import { Line, type Tally, turn } from "./_line.ts";
import { greeting, mutant } from "./_messages.ts";
import { Random } from "../../lib/base/random.ts";
import { SCENARIOS } from "./_scenarios.ts";

/** Messages over one connection, if that lasts. */
const PER_CONNECTION = 400;

/** Bytes that leave together. */
const BURST = 4096;

const RUN = encodeMessage(
  { messageId: 2, command: Command.DEVICE_FEATURE },
  DeviceFeatureRequest.encode({
    argsz: 16,
    flags: FeatureFlags.SET | Feature.MIG_DEVICE_STATE,
    data: DeviceStateData.encode({ state: DeviceState.RUNNING, dataFd: 0 }),
  }),
);

/** A client that means no good. */
export class HostileClient implements Disposable {
  readonly #path: string;
  readonly #random: Random;
  readonly #out = new Uint8Array(1 << 18);
  readonly #descriptors = new Descriptors();
  readonly tally: Tally = { messages: 0, descriptors: 0, connections: 0, received: 0 };

  constructor(path: string, seed: number) {
    this.#path = path;
    this.#random = new Random(seed);
  }

  /**
   * Sends so many messages, over as many connections as it takes.
   * The event loop has its turn whenever this waits, and reads the server's standard error.
   * Otherwise the server would wait for a reader.
   */
  async send(count: number): Promise<void> {
    const end = this.tally.messages + count;
    while (this.tally.messages < end) {
      await turn();
      using line = await Line.open(this.#path, this.tally);
      if (this.#random.oneIn(5)) await this.#play(line);
      else await this.#talk(line, Math.min(PER_CONNECTION, end - this.tally.messages));
    }
  }

  /** Plays each scenario so many times. */
  async play(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      for (const scenario of SCENARIOS) {
        using line = await Line.open(this.#path, this.tally);
        await scenario({ line, random: this.#random, descriptors: this.#descriptors });
      }
    }
  }

  async #play(line: Line): Promise<void> {
    const random = this.#random;
    this.tally.messages += 100; // about
    await random.pick(SCENARIOS)({ line, random, descriptors: this.#descriptors });
  }

  /** Until so many are sent, or the server has enough. */
  async #talk(line: Line, count: number): Promise<void> {
    const random = this.#random;
    if (!random.oneIn(20) && !await line.send(greeting(random))) return;
    // A device that is stopped to migrate refuses nearly all: mostly it is to go on first.
    if (!random.oneIn(4) && !await line.send(RUN)) return;
    let end = 0;
    const push = (fds?: number[]) => {
      const bytes = this.#out.subarray(0, end);
      end = 0;
      return line.send(bytes, fds);
    };
    for (let sent = 0; sent < count; sent++) {
      const { bytes, fdCount, isFatal, isMemory } = mutant(random);
      this.tally.messages++;
      this.tally.descriptors += fdCount;
      // What has descriptors is a segment of its own, as the protocol wants it, or for once not.
      const isAlone = fdCount > 0 && !random.oneIn(10);
      if (end > 0 && (isAlone || end + bytes.length > BURST)) {
        if (!await push()) return;
      }
      this.#out.set(bytes, end);
      end += bytes.length;
      if (fdCount > 0 || isFatal) {
        const { files, events } = this.#descriptors;
        const belonging = isMemory ? files : events;
        const pick = () => this.#descriptors.pick(random, belonging);
        if (!await push(Array.from({ length: fdCount }, pick))) return;
      }
    }
    // Now and then the last one is cut off, or the answers are not waited for.
    if (end > 0 && random.oneIn(10)) {
      end = 1 + random.below(end);
      await push();
    } else if ((end === 0 || await push()) && !random.oneIn(10)) await line.settle();
  }

  [Symbol.dispose](): void {
    this.#descriptors[Symbol.dispose]();
  }
}
