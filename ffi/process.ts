/**
 * This process: how it ends, and what ends it.
 *
 * @module
 */

import { check, libc } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;
const SIG_IGN = 1n;
/** More than the struct sigaction of any libc has; its first member is the handler. */
const SIGACTION_ROOM = 256;

/**
 * Ends the process at once, from any of its threads. No handler runs, nothing is flushed.
 *
 * @param code the exit code, 0 to 255
 */
export function exitNow(code: number): never {
  libc()._exit(code);
  throw new Error("_exit has returned");
}

/**
 * Whether the process ignores a signal, as those started by nohup ignore SIGHUP.
 *
 * @param signal its number
 * @throws {SystemError} as sigaction(2) fails
 */
export function ignoresSignal(signal: number): boolean {
  const old = new BigUint64Array(SIGACTION_ROOM / 8);
  check("Cannot look at a signal", "sigaction", libc().sigaction(signal, null, old));
  return old[0] === SIG_IGN;
}

/**
 * Has the kernel send SIGTERM to this process when the thread ends that started it.
 *
 * @param parent the process id of the parent, which may have ended already
 * @returns whether the parent still runs
 * @throws {SystemError} as prctl(2) fails
 */
export function endWithParent(parent: number): boolean {
  const c = libc();
  check("Cannot follow the parent", "prctl", c.prctl(PR_SET_PDEATHSIG, BigInt(SIGTERM)));
  return c.getppid() === parent;
}
