/**
 * A command at a terminal of its own, which script(1) makes, and a person who types.
 *
 * @module
 */

import { until } from "../_until.ts";

/** A terminal with a program. */
export class Terminal implements AsyncDisposable {
  /** All that the program has written. */
  text = "";
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;

  /**
   * @param line the program, as a shell reads it
   * @param env its whole environment
   * @param columns the width of the terminal
   */
  constructor(line: string, env: Record<string, string>, columns = 80) {
    this.#child = new Deno.Command("script", {
      args: ["-qefc", `stty cols ${columns} rows 24; exec ${line}`, "/dev/null"],
      env: { PATH: Deno.env.get("PATH")!, TERM: "xterm", NO_COLOR: "1", ...env },
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.text += text;
    }
  }

  /** Presses keys, once what was written since the last of them has `after` in it. */
  async type(keys: string, after: string): Promise<void> {
    await this.see(after);
    this.text = "";
    await this.#writer.write(new TextEncoder().encode(keys));
  }

  /** Waits until the program has written a text. */
  async see(text: string): Promise<void> {
    await until(() => this.text.includes(text), `"${text}"`);
  }

  /** Waits for the end, and returns the exit code. */
  async ended(): Promise<number> {
    const { code } = await this.#child.status;
    await this.#reading;
    await this.#writer.close().catch(() => {}); // the terminal is gone
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.ended();
  }
}
