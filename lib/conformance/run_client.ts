/**
 * Serves a device to a client under test, a connection a check, and judges what the client does.
 *
 * @module
 */

import { monotonicMs } from "../../ffi/clock.ts";
import { POLLIN } from "../../ffi/event.ts";
import { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { sleep } from "../base/sleep.ts";
import { Command, commandName } from "../wire/command.ts";
import { ANY, type ClientCheck } from "./client_check.ts";
import { Stage } from "./client_stage.ts";
import { Deviation, NotApplicable } from "./deviation.ts";
import type { Note } from "./raw_peer.ts";
import { whenReady } from "./ready.ts";
import type { CheckResult, Plan } from "./run.ts";
import { endText, type ServerEnd, Unreachable, wordsText } from "./target.ts";
import { plural } from "../text/plural.ts";

const RETRY_MS = 5;
/** The time that a started client may take until it connects, in milliseconds. */
const START_MS = 30_000;

/** A client that was started. */
export interface ClientProcess {
  /** Its end; undefined while it runs. */
  readonly end: ServerEnd | undefined;
  /** Ends it. */
  stop(): Promise<void>;
}

/** Settings of {@linkcode runClientChecks}. */
export interface ClientRunOptions {
  /** The path at which the device is served. */
  readonly path: string;
  /** Starts a client of that path, for each check; without it clients come by themselves. */
  readonly start?: (path: string) => ClientProcess;
  /** The silence after which a client asks no more, in milliseconds. */
  readonly timeoutMs: number;
  /** The longest wait for a client that comes by itself, in milliseconds; default for ever. */
  readonly waitMs?: number;
  /** Hears that a client has to come by itself: for a check, or for the plain device. */
  readonly onWait?: (check: ClientCheck | undefined) => void;
  readonly signal: AbortSignal;
}

/** The behaviour of a client on one connection. */
interface Behaviour {
  /** Commands that it sent, in order. */
  readonly commands: readonly number[];
  /** Commands before the first altered answer, that one's included; undefined if none was. */
  readonly before: number | undefined;
  /** True if it sent the request of the first altered answer again. */
  readonly hasAskedAgain: boolean;
  /** True if it closed the connection, false if it just asked no more. */
  readonly hasLeft: boolean;
  /** Its end, of a client that was started and ended by itself. */
  readonly end: ServerEnd | undefined;
  readonly deviation: Deviation | undefined;
  readonly reason: string | undefined;
  /** Descriptors to be closed that stayed open while it asked on. */
  readonly leaked: number;
}

/**
 * Does checks, after one connection with a plain device.
 *
 * @throws {Unreachable} if a client that was started does not connect, or a plain device does not
 *   suit it
 */
export async function* runClientChecks(
  plans: readonly Plan<ClientCheck>[],
  options: ClientRunOptions,
): AsyncGenerator<CheckResult> {
  using listener = UnixListener.listen(options.path);
  const plain = await meet(listener, undefined, [], options);
  if (plain.commands.length === 0 || isCrash(plain)) {
    throw new Unreachable(
      `Cannot check the client: with a plain device it ${describe(plain)}; try the client with ` +
        "vfu serve demo",
    );
  }
  for (const { group, checks } of plans) {
    for (const check of checks) {
      const startMs = performance.now();
      const messages: Note[] = [];
      const behaviour = await meet(listener, check, messages, options);
      const rest = {
        check,
        group,
        messages,
        timeMs: performance.now() - startMs,
        ...(isCrash(behaviour) && behaviour.end && { end: behaviour.end }),
      };
      try {
        judge(check, behaviour, plain);
        yield { ...rest, verdict: "passed" };
      } catch (error) {
        if (error instanceof NotApplicable) {
          yield { ...rest, verdict: "not applicable", reason: error.message };
        } else if (error instanceof Deviation) {
          const { expected, came } = error;
          yield { ...rest, verdict: "failed", expected, came };
        } else throw error;
      }
    }
  }
}

/** @throws {Deviation | NotApplicable} unless the client does what the check demands */
function judge(check: ClientCheck, is: Behaviour, plain: Behaviour): void {
  if (isCrash(is)) throw new Deviation(EXPECTED[check.demand], `the client ${describe(is)}`);
  if (is.before === undefined) {
    const absent = check.command === ANY
      ? "the client asks nothing"
      : `the client sends no ${commandName(check.command)} that succeeds`;
    throw new NotApplicable(is.reason ?? absent);
  }
  if (is.deviation !== undefined) throw is.deviation;
  const hasGivenUp = is.commands.length < plain.commands.length;
  if (is.leaked > 0 && !hasGivenUp) {
    throw new Deviation(
      "descriptors without a use to be closed",
      `${is.leaked} still open at a later request`,
    );
  }
  const fail = (came: string) => {
    throw new Deviation(EXPECTED[check.demand], came);
  };
  const isHanging = !is.hasLeft && plain.hasLeft;
  if (check.demand === "goes on") {
    // A client that agreed to another version or other capabilities may ask for less.
    const usual = check.command === Command.VERSION ? plain.commands.slice(0, 2) : plain.commands;
    const missing = usual.find((command) => !is.commands.includes(command));
    if (missing !== undefined) fail(`${describe(is)}, and never sent ${commandName(missing)}`);
    if (isHanging) fail(describe(is));
    if (is.end?.code !== plain.end?.code) fail(describe(is));
    if (is.reason !== undefined) throw new NotApplicable(is.reason);
    return;
  }
  if (isHanging) fail(describe(is));
  if (check.demand === "survives") return;
  // A client that asks once more has not taken the answer.
  if (is.hasAskedAgain && is.commands.length > plain.commands.length) return;
  // The end tells more than the messages.
  if (plain.end?.code === 0 && is.end !== undefined) {
    if (is.end.code === 0) fail(`${describe(is)}, as with a plain device`);
    return;
  }
  const asked = is.commands.length - is.before;
  const usual = plain.commands.length - is.before;
  if (usual <= 0) {
    const isFailing = plain.end !== undefined;
    throw new NotApplicable(
      isFailing
        ? "the client asks nothing after it, and fails with a plain device as well"
        : "the client asks nothing after it: use --spawn",
    );
  }
  if (!is.hasLeft || asked >= usual) {
    fail(`${describe(is)}, after ${plural(asked, "more message")}`);
  }
}

const EXPECTED = {
  "goes on": "a client that goes on as with a plain device",
  "gives up": "a client that closes the connection and reports a failure",
  "survives": "a client that goes on or gives up",
} as const;

/** Describes the end of a connection. */
function describe({ end, hasLeft, commands }: Behaviour): string {
  if (end !== undefined) return `${endText(end)}${wordsText(end)}`;
  const last = commands.at(-1);
  const behind = last === undefined ? "nothing" : commandName(last);
  return hasLeft ? `left after ${behind}` : `neither asked on nor left after ${behind}`;
}

function isCrash({ end }: Pick<Behaviour, "end">): boolean {
  return end?.signal !== undefined;
}

/** Serves one client until it leaves or asks no more. */
async function meet(
  listener: UnixListener,
  check: ClientCheck | undefined,
  notes: Note[],
  options: ClientRunOptions,
): Promise<Behaviour> {
  const client = options.start?.(options.path);
  if (client === undefined) options.onWait?.(check);
  const deadline = monotonicMs() + (client === undefined ? options.waitMs ?? Infinity : START_MS);
  try {
    while (true) {
      const socket = await accept(listener, client, deadline, options);
      using stage = new Stage(socket, check, notes, options);
      await stage.serve();
      const { commands, before, hasAskedAgain, hasLeft, deviation, reason, leaked } = stage;
      // A script that waits for the socket connects and leaves; the client comes behind it.
      if (client === undefined && hasLeft && commands.length === 0) continue;
      if (hasLeft && client !== undefined) await ended(client, options);
      const { end } = client ?? { end: undefined };
      return { commands, before, hasAskedAgain, hasLeft, deviation, reason, leaked, end };
    }
  } finally {
    await client?.stop();
  }
}

/** Waits for a connection. The end of a client that was started is looked for now and then. */
async function accept(
  listener: UnixListener,
  client: ClientProcess | undefined,
  deadline: number,
  { path, waitMs, signal }: ClientRunOptions,
): Promise<UnixSocket> {
  while (true) {
    const socket = listener.accept();
    if (socket !== undefined) return socket;
    if (client === undefined) {
      if (await whenReady(listener.fd, POLLIN, deadline, signal)) continue;
      throw new Unreachable(
        `Cannot check the client: none has connected to ${path} within ` +
          `${waitMs! / 1000} s; connect it for each check, or use --spawn`,
      );
    }
    if (client.end !== undefined) {
      throw new Unreachable(
        `Cannot check the client: it ${endText(client.end)} before it connected` +
          wordsText(client.end),
      );
    }
    if (monotonicMs() > deadline) {
      throw new Unreachable(
        `Cannot check the client: it has not connected within ${START_MS / 1000} s`,
      );
    }
    await sleep(RETRY_MS, signal);
  }
}

/** Waits for a client that has left to end. */
async function ended(client: ClientProcess, { timeoutMs, signal }: ClientRunOptions) {
  const deadline = monotonicMs() + timeoutMs;
  while (client.end === undefined && monotonicMs() < deadline) await sleep(RETRY_MS, signal);
}
