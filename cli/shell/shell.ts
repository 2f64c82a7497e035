/**
 * The shell: reads lines, does what they say, and shows what comes of it.
 *
 * @module
 */

import type { Device } from "../../lib/client/device.ts";
import { wrap } from "../../lib/text/wrap.ts";
import type { RegisterMap } from "../../lib/registers/map.ts";
import { InteractiveSession, type RawStep } from "../../lib/session/run/interactive.ts";
import { completions, parseLine } from "../../lib/session/file/line.ts";
import { sessionYaml } from "../../lib/session/file/save.ts";
import { WORDS } from "../../lib/session/file/words.ts";
import { hex } from "../../lib/text/hex.ts";
import { type Context, onAbort, type Output } from "../shared/context.ts";
import { openDestination } from "../shared/destination.ts";
import { assertReplaceable } from "../shared/force.ts";
import { failureLines } from "../shared/failure.ts";
import { jsonReporter } from "../run/json.ts";
import { shellWord } from "../../lib/text/shell_word.ts";
import { sessionMaps } from "../shared/session_maps.ts";
import { printable } from "../shared/printable.ts";
import type { Progress } from "../shared/progress.ts";
import type { Reporter } from "../run/reporter.ts";
import { watchStep } from "../run/report_session.ts";
import { textReporter } from "../run/text.ts";
import { helpText } from "./help.ts";
import { addHistory, type HistoryFile, historyFile, readHistory } from "./history.ts";
import { expanded, isRemark, type LineInput, PipeInput, TerminalInput } from "./input.ts";
import { InterruptCounts, promptText } from "./prompt.ts";
import { plural } from "../../lib/text/plural.ts";

/** The settings of a shell. */
export interface ShellSettings {
  readonly maps: readonly { readonly name: string; readonly map: RegisterMap }[];
  readonly history?: string | false | undefined;
  readonly json?: true | undefined;
  /** The device was enabled when the shell began: what is saved has to do that as well. */
  readonly pciEnable?: true | undefined;
}

/** Words that are no steps. */
const SHELL_WORDS = ["help", "save", "show", "clear", "forget", "quit"] as const;
/** `save --force FILE`, and `save FILE --force` as options stand in other places. */
const FORCE = /^--force(?:\s+|$)|\s+--force$/;
const WITH_ARGUMENT: ReadonlySet<string> = new Set(["help", "save"]);

/** The interval at which the prompt looks for interrupts, in milliseconds. */
const LOOK_MS = 100;
/** The time that each request may take that takes something back. In milliseconds. */
const CLOSE_TIMEOUT_MS = 1000;
/** Clears the screen and what was scrolled off it, and goes to its start. */
const CLEAR = "\x1b[H\x1b[2J\x1b[3J";

/** A shell on a device, until its input ends. */
export async function runShell(
  context: Context,
  device: Device,
  { maps, history, json, pciEnable }: ShellSettings,
): Promise<void> {
  const session = new InteractiveSession(device, { maps: maps.map(({ map }) => map) });
  const shell = new Shell(context, session, maps.map(({ name }) => name), json === true);
  if (pciEnable) shell.done.push({ "pci enable": null });
  const isTerminal = Deno.stdin.isTerminal() && context.out.isTerminal;
  const file = isTerminal ? historyFile(history) : undefined;
  const lines = file === undefined ? [] : orNote(file, context, () => readHistory(file)) ?? [];
  shell.last = lines.at(-1);
  using input = isTerminal
    ? new TerminalInput({
      history: lines.toReversed(),
      complete: (line) => shell.complete(line),
      onInterrupt: () => shell.interrupt(),
    })
    : new PipeInput(Deno.stdin.readable);
  using _stop = onAbort(context.signal, () => input[Symbol.dispose]());
  try {
    await (isTerminal ? shell.interact(input) : shell.runScript(input));
  } finally {
    await session.close({ timeoutMs: CLOSE_TIMEOUT_MS }).catch((error) => {
      if (device.state === "CONNECTED") throw error;
    });
    if (file !== undefined) orNote(file, context, () => addHistory(file, input.typed));
  }
}

/** Does something with the history. Failures with a file that the user did not name are noted. */
function orNote<T>({ isNamed }: HistoryFile, { err }: Context, work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isNamed) throw error;
    err.write(`${err.style.dim(failureLines(error, false)[0]!)}\n`);
  }
}

class Shell {
  readonly #context: Context;
  readonly #session: InteractiveSession;
  readonly #maps: readonly string[];
  readonly #reporter: Reporter;
  /** The output for what is no step. With --json all lines of standard output are JSON. */
  readonly #words: Output;
  readonly #counts: InterruptCounts;
  /** Steps that were done, for `save`. */
  readonly done: RawStep[] = [];
  /** The line before, which `!!` stands for. */
  last: string | undefined;
  #running: AbortController | undefined;

  constructor(
    context: Context,
    session: InteractiveSession,
    maps: readonly string[],
    isJson: boolean,
  ) {
    this.#context = context;
    this.#session = session;
    this.#maps = maps;
    this.#reporter = isJson
      ? jsonReporter(context.out)
      : textReporter(context.out, { isTyped: true });
    this.#words = isJson ? context.err : context.out;
    this.#counts = new InterruptCounts(session.live.interrupts);
  }

  /** Lines that a person types. What is wrong with one is told, and the next one is read. */
  async interact(input: LineInput): Promise<void> {
    const { out } = this.#context;
    out.write(
      out.style.dim("Steps are typed as in session files; help lists them, Ctrl-D ends.\n"),
    );
    const look = setInterval(() => input.prompt(this.#prompt()), LOOK_MS);
    try {
      for (;;) {
        input.prompt(this.#prompt());
        const line = await input.next();
        if (line === undefined || this.#context.signal.aborted) return;
        this.#counts.forget();
        try {
          if (!await this.#do(line)) return;
        } catch (error) {
          if (this.#context.signal.aborted) throw error;
          this.#complain(error);
        }
      }
    } finally {
      clearInterval(look);
    }
  }

  /** Lines that come through a pipe. The first that is wrong, or fails, is the last. */
  async runScript(input: LineInput): Promise<void> {
    for (let number = 1;; number++) {
      const line = await input.next();
      this.#context.signal.throwIfAborted();
      if (line === undefined) return;
      try {
        if (!await this.#do(line)) return;
      } catch (error) {
        if (this.#context.signal.aborted || error instanceof Deno.errors.BrokenPipe) throw error;
        throw new Error(`Line ${number}: ${failureLines(error, false)[0]}`, { cause: error });
      }
    }
  }

  /** Ends the step that is under way. */
  interrupt(): void {
    this.#running?.abort(new Error("Stopped by Ctrl-C"));
  }

  /** The words that may stand at the end of a line. */
  complete(line: string): { words: readonly string[]; part: string } {
    const { words, part } = completions(line, this.#session.definitions);
    if (line.includes(" ")) return { words: spaced(words), part };
    return {
      words: spaced([...words, ...SHELL_WORDS.filter((word) => word.startsWith(line))]),
      part,
    };
  }

  #prompt(): string {
    const { device } = this.#session.live;
    return promptText(this.#counts.news, device.state === "CONNECTED", this.#context.out.style);
  }

  /** Does what a line says; false if it ends the shell. */
  async #do(typed: string): Promise<boolean> {
    const line = expanded(typed, this.last);
    if (line === undefined) throw new RangeError("There is no line before, which !! would repeat");
    if (line !== typed) {
      this.#words.write(`${this.#words.style.dim(printable(line))}\n`);
    }
    if (isRemark(line)) return true;
    const [, word = "", rest = ""] = /^\s*(\S*)\s*(.*?)\s*$/s.exec(line) ?? [];
    this.last = line.trimEnd(); // of a script that was written elsewhere it may end with CR
    switch (word) {
      case "quit":
      case "exit":
        return false;
      case "help":
        this.#words.write(helpText(rest, this.#words));
        return true;
      case "save":
        await this.#save(rest);
        return true;
      case "show":
        this.#show();
        return true;
      case "clear":
        if (this.#context.out.isTerminal) this.#context.out.write(CLEAR);
        return true;
      case "forget":
        this.done.length = 0;
        return true;
    }
    const { raw, steps } = parseLine(line, this.#session.definitions);
    let progress: Progress | undefined;
    this.#running = new AbortController();
    this.#session.live.signal = AbortSignal.any([this.#running.signal, this.#context.signal]);
    try {
      let failure: Error | undefined;
      progress = watchStep(this.#context, steps[0]!, "");
      for await (const result of this.#session.results(steps)) {
        progress?.[Symbol.dispose]();
        this.#reporter.step(result, undefined);
        if (result.status === "failed") failure ??= result.error;
      }
      if (failure !== undefined) throw new Told(failure);
      this.done.push(raw);
    } finally {
      progress?.[Symbol.dispose]();
      this.#running = undefined;
    }
    return true;
  }

  async #save(words: string): Promise<void> {
    const given = words.replace(FORCE, "");
    const force = given !== words;
    const file = given.replace(/^(["'])(.*)\1$/s, "$2"); // as texts of steps have quotes
    if (file === "") throw new SyntaxError("Write save FILE, as save bringup.yaml");
    if (file.startsWith("-")) {
      throw new SyntaxError(`${file} is no option; write save --force FILE, or save ./${file}`);
    }
    if (this.done.length === 0) throw new RangeError("There is nothing to save: no step was done");
    const { basename, dirname, extname, isAbsolute, relative } = await import("node:path");
    const title = basename(file, extname(file));
    // A session's files are relative to its own folder.
    const nameOf = (name: string) => isAbsolute(name) ? name : `./${relative(dirname(file), name)}`;
    const { include, notes } = sessionMaps(
      this.#maps,
      (map) => `./${relative(dirname(file), map)}`,
    );
    const text = sessionYaml({ title, include, raws: this.done, nameOf });
    assertReplaceable(file, force, `save --force ${file}`);
    using destination = openDestination(file, this.#context.out, false);
    destination.write(new TextEncoder().encode(text));
    destination.finish();
    const count = plural(this.done.length, "step");
    const name = printable(file);
    this.#words.write(
      `${count} in ${name}; vfu run ${printable(shellWord(file))} SOCKET does them again\n`,
    );
    for (const note of notes) this.#words.write(`${note}\n`);
  }

  /** Variables, buffers and interrupts. */
  #show(): void {
    const { variables, memory, interrupts } = this.#session.live;
    const lines = [
      ...variables.names.map((name) => `${name} = ${hex(variables.number(name))}`),
      ...[...memory.maps].map(([name, { iova, size }]) =>
        `${name}: ${size} bytes at IOVA ${hex(iova)}`
      ),
      ...interrupts.used.flatMap((irqs) =>
        irqs.enabled.map((vector) => {
          const total = irqs.total(vector);
          return `${irqs.name}[${vector}]: ${plural(total, "interrupt")}`;
        })
      ),
    ];
    this.#words.write(
      lines.length === 0
        ? "No variables, buffers and interrupts yet\n"
        : lines.map((line) => `${line}\n`).join(""),
    );
  }

  #complain(error: unknown): void {
    if (error instanceof Told) return;
    const { err } = this.#context;
    const words = failureLines(error, false)[0]!.split(" ");
    const [first = "", ...rest] = err.isTerminal
      ? wrap("vfu:", ["", ...words], "vfu: ".length, err.columns - 1)
      : [`vfu: ${words.join(" ")}`];
    const lines = [first.replace("vfu:", err.style.red("vfu:")), ...rest];
    err.write(lines.map((line) => `${line}\n`).join(""));
  }
}

/** A step word that is the only one that fits is whole: what follows it comes after a space. */
function spaced(words: readonly string[]): readonly string[] {
  const [word] = words;
  const isWord = word !== undefined && (Object.hasOwn(WORDS, word) || WITH_ARGUMENT.has(word));
  return words.length === 1 && isWord ? [`${word} `] : words;
}

/** The error of a step that a reporter has reported. */
class Told extends Error {
  override readonly name = "Told";

  constructor(cause: Error) {
    super(cause.message, { cause });
  }
}
