/**
 * Lines that a person types, or that come through a pipe.
 *
 * @module
 */

import process from "node:process";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileError } from "../../lib/text/file_error.ts";
import { printable } from "../shared/printable.ts";

/** The place where lines come from. */
export interface LineInput extends Disposable {
  /** The next line, after a prompt if a person types; undefined at the end. */
  next(): Promise<string | undefined>;
  /** Changes the prompt, also of a line that is being typed. */
  prompt(text: string): void;
  /** The lines that were typed, the first one first. */
  readonly typed: readonly string[];
}

/** The options of a terminal. */
export interface TerminalOptions {
  /** The words that may stand at the end of a line, and what of the line they replace. */
  complete(line: string): { words: readonly string[]; part: string };
  /** Lines of another time, the last first. */
  history: readonly string[];
  /** Ctrl-C was pressed: nothing is typed then, as something is under way. */
  onInterrupt(): void;
  /** The terminal; by default that of the process. */
  readonly streams?: { readonly input: Readable; readonly output: Writable };
}

const HISTORY_SIZE = 1000;

/** Tells whether a line says nothing: it is empty, or a comment. */
export function isRemark(line: string): boolean {
  return /^\s*(#|$)/.test(line);
}

/** The line that `!!`, and what follows it, stands for; undefined if there is none. */
export function expanded(line: string, last: string | undefined): string | undefined {
  const [, rest] = /^\s*!!(?=\s|$)(.*)$/s.exec(line) ?? [];
  if (rest === undefined) return line;
  return last === undefined ? undefined : last + rest.trimEnd();
}

/** Lines that are typed at a terminal, with history and completion. */
export class TerminalInput implements LineInput {
  readonly #interface: Interface;
  readonly #output: Writable;
  readonly #waiting: ((line: string | undefined) => void)[] = [];
  /** Lines that came while another one was done: typed ahead, or pasted. */
  readonly #ahead: string[] = [];
  /** The line before the next one that is typed, which `!!` stands for. */
  #last: string | undefined;
  /** The same of the next one that is done. */
  #lastDone: string | undefined;
  #prompt = "> ";
  #isTyping = false;
  #isOver = false;
  readonly typed: string[] = [];

  constructor({ complete, history, onInterrupt, streams }: TerminalOptions) {
    const { input, output } = streams ?? { input: process.stdin, output: process.stdout };
    this.#output = output;
    this.#interface = createInterface({
      input,
      output,
      terminal: true,
      history: [...history],
      historySize: HISTORY_SIZE,
      removeHistoryDuplicates: true,
      completer: (line: string): [string[], string] => {
        const { words, part } = complete(line);
        return [[...words], part];
      },
    });
    // What is typed again later is the line that was meant.
    this.#last = this.#lastDone = history[0];
    const meantBy = (line: string) => expanded(line, this.#last) ?? line;
    this.#interface.on("history", (lines: string[]) => lines[0] = meantBy(lines[0] ?? ""));
    this.#interface.on("line", (line: string) => {
      const meant = meantBy(line);
      if (line.trim() !== "") this.typed.push(meant);
      if (!isRemark(line)) this.#last = meant;
      if (this.#waiting.length > 0) this.#give(line);
      else this.#ahead.push(line);
    });
    this.#interface.on("close", () => {
      this.#isOver = true;
      // What comes next does not stand behind the prompt
      if (this.#isTyping) output.write("\n");
      this.#give(undefined);
    });
    this.#interface.on("SIGINT", () => {
      if (!this.#isTyping) {
        this.#ahead.length = 0;
        this.#last = this.#lastDone;
        return onInterrupt();
      }
      // Takes back what was typed, as a shell does.
      output.write("^C\n");
      this.#interface.write(null, { ctrl: true, name: "e" });
      this.#interface.write(null, { ctrl: true, name: "u" });
      this.#interface.prompt();
    });
  }

  next(): Promise<string | undefined> {
    const ahead = this.#ahead.shift();
    if (ahead !== undefined) {
      this.#noteDone(ahead);
      this.#output.write(`${this.#prompt}${printable(ahead)}\n`);
      return Promise.resolve(ahead);
    }
    if (this.#isOver) return Promise.resolve(undefined);
    this.#isTyping = true;
    this.#interface.setPrompt(this.#prompt);
    this.#interface.prompt();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  prompt(text: string): void {
    if (text === this.#prompt) return;
    this.#prompt = text;
    if (!this.#isTyping || this.#isOver) return;
    this.#interface.setPrompt(text);
    this.#interface.prompt(true);
  }

  #noteDone(line: string): void {
    if (!isRemark(line)) this.#lastDone = expanded(line, this.#lastDone) ?? line;
  }

  #give(line: string | undefined): void {
    this.#isTyping = false;
    if (line !== undefined) this.#noteDone(line);
    this.#waiting.shift()?.(line);
  }

  [Symbol.dispose](): void {
    this.#interface.close();
  }
}

/** Characters of a line; no person writes longer ones. */
const MAX_LINE = 64 << 10;

/** Lines that come through a pipe. */
export class PipeInput implements LineInput {
  readonly typed: readonly string[] = [];
  readonly #lines: AsyncGenerator<string>;

  /** @param stream bytes in UTF-8 */
  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#lines = linesOf(stream);
  }

  async next(): Promise<string | undefined> {
    const { done, value } = await this.#lines.next();
    return done ? undefined : value;
  }

  prompt(): void {}

  [Symbol.dispose](): void {
    // Not awaited: a pipe on which nothing comes ends with the process.
    void this.#lines.return(undefined);
  }
}

/** @throws {Error} if it can't be read, as a folder */
async function* textsOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  try {
    yield* stream.pipeThrough(new TextDecoderStream());
  } catch (cause) {
    throw fileError("read standard input", cause);
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of textsOf(stream)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
    if (rest.length > MAX_LINE) throw new RangeError(`A line has more than ${MAX_LINE} characters`);
  }
  if (rest !== "") yield rest;
}
