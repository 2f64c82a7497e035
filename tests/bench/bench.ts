/**
 * `deno task bench`: how fast the library and `vfu` are, beside a C program that does the same.
 *
 *   bench.ts [--json] [PATTERN]   PATTERN, a regular expression, chooses rows by name
 *
 * Both sides take turns, so that what else the machine does troubles both; a ratio is the median of
 * those of the turns. An aim that is missed is marked, and no failure.
 *
 * @module
 */

import { Lab } from "./lab.ts";
import { type Row, rows } from "./rows.ts";
import { median } from "./stopwatch.ts";

/** Beyond this something hangs. */
const LIMIT_MS = 600_000;

/** The result of a row. */
interface Result {
  name: string;
  ns: number;
  baselineNs?: number;
  ratio?: number;
  aim?: number;
  isMet?: boolean;
  note?: string;
}

async function run(lab: Lab, row: Row): Promise<Result> {
  const ours: number[] = [];
  const theirs: number[] = [];
  const measureTheirs = await row.theirs?.(lab);
  const measureOurs = await row.ours(lab);
  for (let i = 0; i < row.rounds; i++) {
    if (measureTheirs) theirs.push(await measureTheirs());
    ours.push(await measureOurs());
  }
  const note = lab.takeNote();
  await lab.clear();
  const { name, aim } = row;
  const result: Result = { name, ns: median(ours), ...(note !== undefined && { note }) };
  if (row.theirs) {
    result.baselineNs = median(theirs);
    result.ratio = median(ours.map((ns, i) => ns / theirs[i]!));
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

async function bench(lab: Lab, asJson: boolean, pattern: RegExp): Promise<void> {
  const results: Result[] = [];
  const chosen = rows.filter(({ name }) => pattern.test(name));
  if (!asJson) {
    if (!lab.hasBaseline) {
      print("There is no C compiler (cc): rows that compare with C are left out");
    }
    print(line("", "ours", "baseline", "ratio", "aim"));
  }
  for (const row of chosen) {
    if (row.needsC && !lab.hasBaseline) continue;
    const result = await run(lab, row);
    results.push(result);
    if (!asJson) print(describe(result));
  }
  if (asJson) print(JSON.stringify({ hasBaseline: lab.hasBaseline, rows: results }, null, 2));
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
  const asJson = Deno.args.includes("--json");
  const pattern = new RegExp(Deno.args.find((arg) => !arg.startsWith("--")) ?? "");
  const off = calledOff();
  await using lab = await Lab.open();
  try {
    await Promise.race([bench(lab, asJson, pattern), off]);
    return 0;
  } catch (error) {
    await Deno.stderr.write(new TextEncoder().encode(`bench: ${(error as Error).message}\n`));
    return 1;
  }
}

Deno.exit(await main());
