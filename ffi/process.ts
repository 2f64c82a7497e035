/**
 * This process: how it ends, and what ends it.
 *
 * @module
 */

import { IoBuffer } from "./buffer.ts";
import { SystemError } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { askSigaction, check, libc } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const O_RDONLY = 0;
/** Linux has no longer command lines: a quarter of the largest stack limit that is usual. */
const MAX_COMMAND_LINE = 2 << 20;
const SIGTERM = 15;
const SIGXFSZ = 25; // on x86_64 and aarch64
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
 * Tells whether the process ignores a signal, as those started by nohup ignore SIGHUP.
 *
 * @param signal its number
 * @throws {SystemError} as sigaction(2) fails
 */
export function ignoresSignal(signal: number): boolean {
  const old = new BigUint64Array(SIGACTION_ROOM / 8);
  const errno = askSigaction(signal, old);
  if (errno !== 0) throw new SystemError("sigaction", errno, "Cannot look at a signal");
  return old[0] === SIG_IGN;
}

/**
 * Has a write beyond the limit of a file's size (RLIMIT_FSIZE) fail with EFBIG. Without this it
 * ends the process by SIGXFSZ, with nothing said and nothing put back.
 *
 * @throws {SystemError} as sigaction(2) fails
 */
export function ignoreFileSizeSignal(): void {
  const action = new IoBuffer(SIGACTION_ROOM);
  new DataView(action.bytes.buffer).setBigUint64(0, SIG_IGN, true);
  check("Cannot ignore a signal", "sigaction", libc().sigaction(SIGXFSZ, action.pointer, null));
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

/**
 * The words of the command line that this process was started with, the program first. Deno reads
 * `/proc` with `--allow-all` only; this takes `--allow-ffi`.
 *
 * @throws {SystemError} as open(2) and read(2) fail
 */
export function commandLine(): string[] {
  using file = OwnedFd.open("/proc/self/cmdline", O_RDONLY);
  const buffer = new IoBuffer(MAX_COMMAND_LINE);
  let length = 0;
  while (length < buffer.length) {
    const rest = new IoBuffer(buffer.bytes.subarray(length));
    const doing = "Cannot read the command line";
    const count = check(
      doing,
      "read",
      libc().read(file.fd, rest.pointer, BigInt(rest.length)),
    );
    if (count === 0) break;
    length += count;
  }
  return new TextDecoder().decode(buffer.bytes.subarray(0, length)).split("\0").slice(0, -1);
}

/**
 * Sets whether processes that are started from now on have a descriptor as well.
 *
 * @throws {SystemError} EBADF if it is not open
 */
export function setInherited(fd: number, isInherited: boolean): void {
  const doing = `Cannot use file descriptor ${fd}`;
  check(doing, "fcntl", libc().fcntl(fd, F_SETFD, isInherited ? 0 : FD_CLOEXEC));
}
