/**
 * `deno task bench`: how fast the library and `vfu` are, beside a C program that does the same.
 *
 *   bench.ts [--json] [--row NAME]... [--compare FILE] [PATTERN]
 *
 * `--row` chooses the rows whose name has that text, PATTERN those that it matches. `--compare`
 * shows how far the ratios are from those of a file that `--json` wrote, and how far they may be by
 * chance.
 *
 * Both sides take turns, so that what else the machine does troubles both; a ratio is the median of
 * those of the turns. An aim that is missed is marked, and no failure. All rows together take less
 * than three minutes: where the machine is slow, rows have fewer turns.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { changesText, compare, noiseOf, parseReport, type Report, type Result } from "./compare.ts";
import { Lab } from "./lab.ts";
import { type Row, rows } from "./rows.ts";
import { median } from "./stopwatch.ts";

const USAGE = "deno task bench [--json] [--row NAME]... [--compare FILE] [PATTERN]; " +
  "docs/performance.md says more";
/** Beyond this something hangs. */
const LIMIT_MS = 600_000;
/**
 * The time that all rows may take together, each a share of what is left. Some take longer, and the
 * whole run less than three minutes.
 */
const BUDGET_MS = 110_000;
/** The turns that each row has, however long they take. */
const LEAST_ROUNDS = 3;

async function run(lab: Lab, row: Row, shareMs: number): Promise<Result> {
  const ours: number[] = [];
  const theirs: number[] = [];
  const end = performance.now() + shareMs;
  const measureTheirs = await row.theirs?.(lab);
  const measureOurs = await row.ours(lab);
  for (let i = 0; i < row.rounds; i++) {
    if (i >= LEAST_ROUNDS && performance.now() > end) break;
    if (measureTheirs) theirs.push(await measureTheirs());
    ours.push(await measureOurs());
  }
  const note = lab.takeNote();
  await lab.clear();
  const { name, aim } = row;
  const ratios = ours.map((ns, i) => ns / (theirs[i] ?? 1));
  const result: Result = {
    name,
    ns: median(ours),
    noise: noiseOf(ratios),
    rounds: ours.length,
    ...(note !== undefined && { note }),
  };
  if (row.theirs) {
    result.baselineNs = median(theirs);
    result.ratio = median(ratios);
    if (aim !== undefined) Object.assign(result, { aim, isMet: result.ratio <= aim });
  }
  return result;
}

/** 80 columns with the mark of a missed aim. */
function line(name: string, ours: string, theirs: string, ratio: string, aim: string): string {
  return name.padEnd(38) + ours.padStart(10) + theirs.padStart(10) + ratio.padStart(8) +
    aim.padStart(7);
}

function describe({ name, ns, baselineNs, ratio, aim, isMet, note }: Result): string {
  const theirs = baselineNs === undefined ? "" : duration(baselineNs);
  const columns = line(name, duration(ns), theirs, ratio?.toFixed(2) ?? "", aim?.toFixed(2) ?? "");
  const end = (columns + (isMet === false ? " missed" : "")).trimEnd();
  return note === undefined ? end : `${end}\n  ${note}`;
}

function duration(ns: number): string {
  if (ns < 1e3) return `${ns.toPrecision(3)} ns`;
  return ns < 1e6 ? `${(ns / 1e3).toPrecision(3)} us` : `${(ns / 1e6).toPrecision(3)} ms`;
}

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text + "\n"));
}

/** The words of a command line. */
interface Line {
  readonly asJson: boolean;
  readonly chosen: readonly Row[];
  /** The report to compare with. */
  readonly before: Report | undefined;
}

/**
 * Reads the command line.
 *
 * @throws {TypeError} if it makes no sense
 */
function readLine(args: string[]): Line {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: "boolean" },
      row: { type: "string", multiple: true },
      compare: { type: "string" },
      help: { type: "boolean" },
    },
  });
  if (values.help === true) throw new TypeError(USAGE);
  const [pattern = "", ...others] = positionals;
  if (others.length > 0) throw new TypeError(`One pattern is possible, not ${positionals.length}`);
  const matching = rows.filter(({ name }) => new RegExp(pattern).test(name));
  const texts = values.row?.map((text) => text.toLowerCase());
  const chosen = texts === undefined
    ? matching
    : matching.filter(({ name }) => texts.some((text) => name.toLowerCase().includes(text)));
  if (chosen.length === 0) {
    const names = rows.map(({ name }) => `  ${name}`).join("\n");
    throw new TypeError(`There is no such row; there are:\n${names}`);
  }
  return { asJson: values.json === true, chosen, before: readBefore(values.compare) };
}

function readBefore(file: string | undefined): Report | undefined {
  if (file === undefined) return undefined;
  try {
    return parseReport(Deno.readTextFileSync(file));
  } catch (error) {
    throw new TypeError(`Cannot compare with ${file}: ${(error as Error).message}`);
  }
}

async function bench(lab: Lab, { asJson, chosen, before }: Line): Promise<void> {
  const results: Result[] = [];
  const possible = chosen.filter(({ needsC }) => lab.hasBaseline || !needsC);
  if (!asJson) {
    if (!lab.hasBaseline) {
      print("There is no C compiler (cc): rows that compare with C are left out");
    }
    print(line("", "ours", "baseline", "ratio", "aim"));
  }
  const end = performance.now() + BUDGET_MS;
  for (const [i, row] of possible.entries()) {
    const shareMs = (end - performance.now()) / (possible.length - i);
    const result = await run(lab, row, shareMs);
    results.push(result);
    if (!asJson) print(describe(result));
  }
  const report = { hasBaseline: lab.hasBaseline, rows: results };
  const changes = before && compare(before, report);
  if (asJson) print(JSON.stringify({ ...report, ...(changes && { changes }) }, null, 2));
  else if (changes) print(`\n${changesText(changes)}`);
}

/** Settled, by failing, when the user or the clock calls it off. */
function calledOff(): Promise<never> {
  const off = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => reject(new Error(`Called off by ${signal}`)));
    }
    setTimeout(() => reject(new Error(`Not done after ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  });
  off.catch(() => {}); // it may come before anybody waits for it
  return off;
}

async function main(): Promise<number> {
  const complain = (error: unknown) =>
    Deno.stderr.write(new TextEncoder().encode(`bench: ${(error as Error).message}\n`));
  let line: Line;
  try {
    line = readLine(Deno.args);
  } catch (error) {
    await complain(error);
    return 2;
  }
  const off = calledOff();
  await using lab = await Lab.open();
  try {
    await Promise.race([bench(lab, line), off]);
    return 0;
  } catch (error) {
    await complain(error);
    return 1;
  }
}

Deno.exit(await main());
