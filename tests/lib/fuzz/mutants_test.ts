/** Servers with a deliberate fault are found, each by its fault, in a few messages. */

import { assert, assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { learnFacts } from "../../../lib/conformance/run.ts";
import { NO_FACTS } from "../../../lib/conformance/facts.ts";
import { Corpus } from "../../../lib/fuzz/corpus.ts";
import { type Finding, signatureOf } from "../../../lib/fuzz/finding.ts";
import { sizeOf } from "../../../lib/fuzz/message.ts";
import { fuzz, FuzzProgress } from "../../../lib/fuzz/run.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { type Altered, type Mutant, MutantTarget } from "../conformance/_mutant.ts";

libc(); // opened once for all tests

const isError = ({ flags }: Altered) => (flags & 0x20) !== 0;
const NOTHING = new Uint8Array();

/** A fault, the finding that has to name it, and the messages that show it. */
interface Fault extends Mutant {
  readonly finding: string;
  readonly messages: number;
}

const FAULTS: readonly Fault[] = [
  {
    name: "ids count up",
    check: "",
    finding: "with an id that no request has",
    messages: 1,
    reply: (m) => m.messageId ^= 0x4000,
  },
  {
    name: "replies name another command",
    check: "",
    finding: "its reply names REGION_READ",
    messages: 2,
    reply: (m) => m.command === Command.DEVICE_GET_IRQ_INFO && (m.command = Command.REGION_READ),
  },
  {
    name: "errors have no errno",
    check: "",
    finding: "its error reply has no errno",
    messages: 2,
    reply: (m) => m.error = 0,
  },
  {
    name: "errors have a payload",
    check: "",
    finding: "its error reply has a payload",
    messages: 2,
    reply: (m) => isError(m) && (m.payload = new Uint8Array(8)),
  },
  {
    name: "success has an errno",
    check: "",
    finding: "its reply has an errno and no error flag",
    messages: 2,
    reply: (m) => m.command === Command.REGION_READ && !isError(m) && (m.error = 5),
  },
  {
    name: "posted writes are answered",
    check: "",
    finding: "a reply to a request that wants none",
    messages: 2,
    request: (m) => m.command === Command.REGION_WRITE && (m.flags &= ~0x10),
  },
  {
    name: "reads are short",
    check: "",
    finding: "its reply has another size",
    messages: 2,
    reply: (m) =>
      m.command === Command.REGION_READ && !isError(m) &&
      (m.payload = m.payload.subarray(0, m.payload.length - 1)),
  },
  {
    name: "unknown commands succeed",
    check: "",
    finding: "success of an unknown command",
    messages: 2,
    reply: (m) => m.command > 18 && isError(m) && (m.flags = 1, m.error = 0),
  },
  {
    name: "a size is below the header",
    check: "",
    finding: "bytes that are no message",
    messages: 2,
    reply: (m) => m.command === Command.DMA_UNMAP && (m.size = 4),
  },
  {
    name: "a reserved flag is set",
    check: "",
    finding: "its reply has a reserved flag",
    messages: 2,
    reply: (m) => m.command === Command.DEVICE_GET_REGION_INFO && (m.flags |= 0x80),
  },
  {
    name: "info has no payload",
    check: "",
    finding: "its reply is malformed",
    messages: 2,
    reply: (m) => m.command === Command.DEVICE_GET_REGION_IO_FDS && (m.payload = NOTHING),
  },
];

async function findIn(mutant: Mutant, messages: number): Promise<readonly Finding[]> {
  const { signal } = new AbortController();
  const findings: Finding[] = [];
  {
    await using target = new MutantTarget(mutant);
    const timeoutMs = 30_000;
    const rest = { isDestructive: true, isFresh: false, chooses: () => true };
    // What the server offers is not known of one that answers wrongly.
    const facts = mutant.reply === undefined && mutant.request === undefined
      ? await learnFacts(target, { timeoutMs, signal, ...rest })
      : NO_FACTS;
    const run = fuzz(target, new FuzzProgress(), {
      seed: 1,
      facts,
      timeoutMs,
      signal,
      timeMs: 600_000,
      messages,
      corpus: new Corpus(undefined, () => {}),
      minimise: { plays: 300, timeMs: 120_000 },
    });
    for await (const finding of run) findings.push(finding);
  }
  await idle();
  return findings;
}

testFds("a server without a fault has no findings", async () => {
  assertEquals(await findIn({ name: "none", check: "" }, 4000), []);
});

for (const fault of FAULTS) {
  testFds(`found: ${fault.name}`, async () => {
    const findings = await findIn(fault, 4000);
    const found = findings.find((each) => signatureOf(each).includes(fault.finding));
    assert(found !== undefined, findings.map(signatureOf).join("\n"));
    assert(found.isRepeatable, "it fails again");
    assert(sizeOf(found.steps) <= fault.messages, `${sizeOf(found.steps)} messages`);
    assert(found.conversation.length > 0);
  });
}
