/**
 * Runs of checks for programs: a server, or a client, is tried check by check.
 *
 * @module
 */

import type { Session } from "../../session/model.ts";
import type { Check, Rule, RuleGroup } from "../check.ts";
import { CLIENT_GROUPS } from "../client/groups.ts";
import type { CopySession } from "../copying.ts";
import type { ClientCheck } from "../client_check.ts";
import { type CheckResult, planOf, runChecks } from "../run.ts";
import { type ClientProcess, runClientChecks } from "../run_client.ts";
import { SERVER_GROUPS } from "../server/groups.ts";
import { withSocket } from "../../base/shell_command.ts";
import { ListeningTarget, Run, SpawnedTarget } from "../target.ts";

const TIMEOUT_MS = 5000;

/** Settings of {@linkcode checkServer} and {@linkcode checkClient}. */
export interface ConformanceOptions<Each extends Rule> {
  /** The groups of checks; default all that come with vfu. */
  readonly groups?: readonly RuleGroup<Each>[];
  /** Chooses checks of these groups; default all. */
  readonly chooses?: (rule: Rule) => boolean;
  /** The longest wait for an answer, or the silence that ends a client's turn; default 5000. */
  readonly timeoutMs?: number;
  /** Ends the run, which throws its reason. */
  readonly signal?: AbortSignal;
}

/** Settings of {@linkcode checkServer}. */
export interface CheckServerOptions extends ConformanceOptions<Check> {
  /** A command of the shell that serves at `{socket}`: started as often as needed. */
  readonly spawn?: string;
  /** The path of a server that listens already, in place of `spawn`. */
  readonly path?: string;
  /** True to start the server anew for each check. */
  readonly isFresh?: boolean;
  /** True to do what may break a server that can't be started anew. */
  readonly isDestructive?: boolean;
  /**
   * Steps by which the device copies `length` bytes from the IOVA `source` to `destination`: the
   * variables of the session. Checks of DMA need them; those of the demo device are known.
   */
  readonly copy?: Session;
}

/** Settings of {@linkcode checkClient}. */
export interface CheckClientOptions extends ConformanceOptions<ClientCheck> {
  /** The path at which a device is served to the client. */
  readonly path: string;
  /** A command of the shell that is a client of `{socket}`: started for each check. */
  readonly spawn?: string;
  /** Starts a client of a path in place of `spawn`; without both, clients come by themselves. */
  readonly start?: (path: string) => ClientProcess;
  /** The longest wait for a client that comes by itself, in milliseconds; default for ever. */
  readonly waitMs?: number;
  /** Hears that a client has to come by itself: for a check, or for the plain device. */
  readonly onWait?: (check: ClientCheck | undefined) => void;
}

/**
 * Tries which rules of the specification a server keeps, one check after the other.
 *
 * @throws {TypeError} unless there is either a path or a command
 * @throws {Unreachable} if the server can't be started or reached, or serves no client any more
 * @throws {RangeError} if `copy` lacks one of its variables
 * @throws {NoCopy} if the device does not copy by the steps of `copy`
 *
 * @example
 * ```ts
 * import { checkServer } from "./mod.ts";
 * import { DemoDevice, Server } from "../../../mod.ts";
 *
 * const path = `${Deno.makeTempDirSync()}/demo.sock`;
 * using _server = Server.listen(path, new DemoDevice());
 * const chooses = ({ id }: { id: string }) => id.startsWith("server/region_read/");
 * for await (const { check, verdict, came } of checkServer({ path, chooses })) {
 *   if (verdict === "failed") throw new Error(`${check.rule} Instead came ${came}`);
 * }
 * ```
 */
export async function* checkServer(options: CheckServerOptions): AsyncGenerator<CheckResult> {
  const { path, spawn, groups = SERVER_GROUPS, chooses = () => true } = options;
  if ((path === undefined) === (spawn === undefined)) {
    throw new TypeError("Name either the path of a server, or a command that serves");
  }
  let copy: CopySession | undefined;
  if (options.copy !== undefined) {
    const { copySessionOf } = await import("../copy_session.ts");
    copy = copySessionOf(options.copy);
  }
  await using target = spawn === undefined ? new ListeningTarget(path!) : new SpawnedTarget(spawn);
  yield* runChecks(target, planOf(groups, chooses), {
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
    signal: options.signal ?? new AbortController().signal,
    isDestructive: options.isDestructive ?? false,
    isFresh: options.isFresh ?? false,
    copy,
  });
}

/**
 * Tries which rules of the specification a client keeps. The first connection finds a plain device;
 * on each later one a check alters the answers.
 *
 * @throws {Unreachable} if a client does not come, or fails with the plain device
 *
 * @example
 * ```ts
 * import { checkClient } from "./mod.ts";
 * import { connect } from "../../../mod.ts";
 *
 * const path = `${Deno.makeTempDirSync()}/c.sock`;
 * const onWait = async () => {
 *   try {
 *     using device = await connect(path);
 *     await device.info();
 *   } catch {
 *     // of some answers a client has to give up
 *   }
 * };
 * const chooses = ({ id }: { id: string }) => id === "client/info/1";
 * const verdicts = [];
 * for await (const { verdict } of checkClient({ path, onWait, chooses })) verdicts.push(verdict);
 * console.assert(verdicts.length === 1);
 * ```
 */
export async function* checkClient(options: CheckClientOptions): AsyncGenerator<CheckResult> {
  const { path, spawn, start, waitMs, onWait } = options;
  const { groups = CLIENT_GROUPS, chooses = () => true } = options;
  const run = start ??
    (spawn === undefined
      ? undefined
      : (socket: string) => new Run(withSocket(spawn, socket), socket));
  yield* runClientChecks(planOf(groups, chooses), {
    path,
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
    signal: options.signal ?? new AbortController().signal,
    ...(run && { start: run }),
    ...(waitMs !== undefined && { waitMs }),
    ...(onWait && { onWait }),
  });
}
