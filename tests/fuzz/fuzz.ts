/**
 * `deno task fuzz`: a million mutated messages at a served demo device, with descriptors of every
 * kind, and hostile clients with an order of their own. Those send requests ahead of broken
 * headers, descriptors whose flags change, and the client's own socket. They map terabytes, and
 * take buffers away while the server uses them.
 *
 *   fuzz.ts [MESSAGES] [SEED]
 *
 * The run fails at each finding of `vfu fuzz`.
 * The run fails if the server does not serve the next client, or has a descriptor more than before.
 * The run also fails if the server uses more memory at the end than half-way.
 * Garbage that is not collected yet is allowed for; until half-way the heap takes its size.
 *
 * @module
 */

import { learnFacts } from "../../lib/conformance/run.ts";
import { ListeningTarget } from "../../lib/conformance/target.ts";
import { Corpus } from "../../lib/fuzz/corpus.ts";
import { fuzz, FuzzProgress } from "../../lib/fuzz/run.ts";
import { startServe } from "../_demo_process.ts";
import { HostileClient } from "./_client.ts";
import { useDemo } from "./_next_client.ts";
import { quietFdsOf, residentOf, settledFdsOf } from "./_process.ts";
import { Random } from "../../lib/base/random.ts";
import { transferBuffers } from "./_transfers.ts";

/** Garbage that is not collected yet. */
const SLACK = 48 << 20;
const STEPS = 10;

function print(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text + "\n"));
}

function mib(bytes: number): string {
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/** Fuzzes a server as `vfu fuzz` does; returns the number of findings, and of messages. */
async function fuzzStep(path: string, seed: number, messages: number): Promise<FuzzProgress> {
  const { signal } = new AbortController();
  const target = new ListeningTarget(path);
  const timeoutMs = 60_000;
  const facts = await learnFacts(target, {
    ...{ timeoutMs, signal, isDestructive: true, isFresh: false },
  });
  const progress = new FuzzProgress();
  const findings = fuzz(target, progress, {
    ...{ seed, facts, timeoutMs, signal, timeMs: Infinity, messages },
    corpus: new Corpus(undefined, print),
    minimise: { plays: 600, timeMs: 60_000 },
  });
  for await (const { kind, text, conversation } of findings) {
    print(`${kind}: ${text}`);
    for (const line of conversation) print(`  ${line.from}: ${line.text}`);
  }
  return progress;
}

async function main(messages: number, seed: number): Promise<number> {
  await using served = await startServe("demo");
  const before = await quietFdsOf(served.pid);
  using hostile = new HostileClient(served.path, seed);
  const start = performance.now();
  const resident: number[] = [];
  let [findings, sent] = [0, 0];
  for (let step = 0; step < STEPS; step++) {
    const progress = await fuzzStep(served.path, seed + step, messages / STEPS);
    findings += progress.findings;
    sent += progress.messages;
    await hostile.play(3);
    await transferBuffers(served.path, new Random(seed + step), 100);
    resident.push(residentOf(served.pid));
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    print(`${sent} messages, ${seconds} s, ${mib(resident.at(-1)!)} in use`);
  }
  await useDemo(served.path);
  const after = await settledFdsOf(served.pid, before);
  const { connections, descriptors, received } = hostile.tally;
  print(
    `Seed ${seed}: ${connections} connections, ${descriptors} descriptors, ${
      mib(received)
    } of answers`,
  );
  print(`The next client is served; descriptors ${before} before, ${after} after`);
  const isFlat = resident.at(-1)! < resident[STEPS / 2]! + SLACK;
  if (!isFlat) print(`Memory grew from ${mib(resident[STEPS / 2]!)} to ${mib(resident.at(-1)!)}`);
  const bugs = served.stderr().split("\n").filter((line) => line.includes("failed at"));
  for (const bug of bugs.slice(0, 10)) print(bug);
  return after === before && isFlat && bugs.length === 0 && findings === 0 ? 0 : 1;
}

const [messages = "1000000", seed = "20210301"] = Deno.args;
Deno.exit(await main(Number(messages), Number(seed)));
