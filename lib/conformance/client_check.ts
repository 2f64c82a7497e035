/**
 * Checks of a client: rules, each with a function that alters the answers of a device.
 *
 * @module
 */

import type { OwnedFd } from "../../ffi/fd.ts";
import type { Level, Rule, RuleGroup } from "./check.ts";
import type { CameMessage } from "./raw_peer.ts";

/**
 * The demand on a client after an altered answer: "goes on" as with a plain device, "gives up" with
 * a failure, or "survives", which leaves the choice between these but excludes a crash or a hang.
 */
export type Demand = "goes on" | "gives up" | "survives";

/** An answer, as it is about to be sent. */
export interface Answer {
  messageId: number;
  command: number;
  flags: number;
  error: number;
  payload: Uint8Array;
  /** Descriptors that go with it; the scene owns them. */
  fds: OwnedFd[];
  /** The size in the header, if that is another than the true one. */
  size?: number;
}

/** The means of a check of a client: the connection that it alters. */
export interface Scene {
  /** The request that is answered. */
  readonly request: CameMessage;
  /** The DMA_MAP requests so far, by their payload. */
  readonly maps: readonly Uint8Array[];
  /** Sends an answer at once, before that which the function returns. */
  send(answer: Answer): Promise<void>;
  /** The bytes of an answer. */
  encode(answer: Answer): Uint8Array;
  /** Sends bytes as they are. */
  sendBytes(bytes: Uint8Array): Promise<void>;
  /** Sends a command to the client, and returns its reply; requests meanwhile wait. */
  ask(command: number, payload: Uint8Array, flags?: number): Promise<CameMessage>;
  /** Waits a moment, as a busy server does. */
  pause(ms?: number): Promise<void>;
  /** Makes a descriptor whose closing by the client is watched: it is to be closed. */
  stray(): OwnedFd;
  /** Makes one end of a socket pair, which the client may keep. */
  kept(): OwnedFd;
  /** Makes memory that the client may keep. */
  memory(size: number): OwnedFd;
  /** Closes the connection, after what was sent. */
  hangUp(): void;
}

/** Alters an answer in place, or returns the answers that take its place. */
export type Act = (answer: Answer, scene: Scene) => void | Answer[] | Promise<void | Answer[]>;

/** A rule, and the alteration that tries it. */
export interface ClientCheck extends Rule {
  readonly demand: Demand;
  /** The command whose answers are altered. */
  readonly command: number;
  /** Answers that are altered: the first, or each. */
  readonly times: "first" | "each";
  readonly act: Act;
}

/** The fields of a check, in the order in which they are written down. */
export type ClientRow = readonly [
  number: number,
  level: Level,
  section: string,
  rule: string,
  demand: Demand,
  command: number,
  act: Act,
  times?: "first" | "each",
];

/** Checks of a client about one subject. */
export type ClientGroup = RuleGroup<ClientCheck>;

/** Makes a group of rows. A number stays with its check, and is not used again. */
export function clientGroup(
  name: string,
  title: string,
  rows: readonly ClientRow[],
): ClientGroup {
  const checks = rows.map(([number, level, section, rule, demand, command, act, times]) => ({
    id: `client/${name}/${number}`,
    level,
    section,
    rule,
    demand,
    command,
    act,
    times: times ?? "first",
    mayEnd: demand !== "goes on",
  }));
  return { name, title, checks };
}
