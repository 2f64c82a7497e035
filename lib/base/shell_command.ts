/**
 * A command line of the user, started by the shell, with all processes that belong to it.
 *
 * @module
 */

import { shellWord } from "../text/shell_word.ts";

/** Stands for the path of the socket in a command line. */
export const SOCKET_PLACE = "{socket}";

/** Has the kernel end the command with this process, where the kernel can be asked to. */
const START = 'setpriv --pdeathsig "$1" true 2>/dev/null && ' +
  'exec setpriv --pdeathsig "$1" sh -c "$2"; exec sh -c "$2"';

/** Parts of a command line in which no character is special to it. */
const QUOTED = /'[^']*'|"(?:[^"\\]|\\.)*"|\\./gs;
/** The same parts, and places of the socket outside of them. */
const PARTS = new RegExp(`${QUOTED.source}|${SOCKET_PLACE}`, "gs");
/** A command line that is more than one program: `cd build && ./server`. */
const SEVERAL = /[;&|(){}\n]/;
/** A command line that begins with variables: `ASAN_OPTIONS=... ./server`. */
const VARIABLES = /^\s*[A-Za-z_]\w*=/;

/**
 * Puts the path of a socket into a command line at {@linkcode SOCKET_PLACE}. The shell takes it as
 * it is, whatever characters it has: a word of its own, or a part of a quoted one.
 */
export function withSocket(line: string, path: string): string {
  return line.replace(PARTS, (part) => {
    if (part === SOCKET_PLACE) return shellWord(path);
    if (part.startsWith("'")) {
      return part.replaceAll(SOCKET_PLACE, () => path.replaceAll("'", `'\\''`));
    }
    return part.replaceAll(SOCKET_PLACE, () => path.replaceAll(/[$`"\\]/g, "\\$&"));
  });
}

/** Settings of a {@linkcode ShellCommand}. */
export interface ShellOptions {
  /** The destination of what the command writes. */
  readonly output: "inherit" | "piped";
  /** The signal that ends the command with this process. */
  readonly deathSignal: "TERM" | "KILL";
}

/**
 * A command line in a process group of its own, which Ctrl-C does not reach. The process is the
 * program itself, not a shell, if the line is one program.
 *
 * Processes that it left behind are ended with a command that fails. Behind one that ends with 0
 * they may be a daemon, and go on until `signal`. One that leaves the process group is not reached.
 */
export class ShellCommand {
  /** The command's first process. */
  readonly process: Deno.ChildProcess;
  /** True if no process of the group is left: another may have its number. */
  #isGone = false;

  constructor(line: string, { output, deathSignal }: ShellOptions) {
    const script = SEVERAL.test(line.replace(QUOTED, ""))
      ? line
      : VARIABLES.test(line)
      ? `exec env ${line}`
      : `exec ${line}`;
    this.process = new Deno.Command("sh", {
      args: ["-c", START, "sh", deathSignal, script],
      stdin: "null",
      stdout: output,
      stderr: output,
      detached: true,
    }).spawn();
    this.process.status.then(({ code }) => {
      this.signal(code === 0 ? "SIGCONT" : "SIGKILL");
    });
  }

  /** Sends a signal to the command and to all processes that it has started and left behind. */
  signal(signal: Deno.Signal): void {
    if (this.#isGone) return;
    try {
      Deno.kill(-this.process.pid, signal);
    } catch {
      this.#isGone = true;
    }
  }
}
