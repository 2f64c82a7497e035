/** `vfu fuzz` against real servers: known faults of theirs are found from nothing. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runHere } from "../cli/_cli.ts";
import { peerProgram, QEMU_DEVICES } from "./peers.ts";

/** A slow machine is no finding. */
const PATIENT = ["--timeout", "10s"];
/** Hangs come before what is looked for; each is awaited, and made shorter, again and again. */
const BRISK = ["--timeout", "2s", "--minimise", "2m"];

interface FindingLine {
  readonly kind: string;
  readonly text: string;
  readonly repeatable: boolean;
  readonly messages: number;
  readonly file: string;
  readonly conversation: readonly { readonly from: string; readonly text: string }[];
}

/** Fuzzes until a finding is there; a bound of messages ends a run that finds nothing. */
async function fuzzUntil(
  command: string,
  output: string,
  isFound: (finding: FindingLine) => boolean,
): Promise<FindingLine> {
  const findings = (out: string): FindingLine[] =>
    out.split("\n").filter((line) => line.startsWith('{"type":"finding"'))
      .map((line) => JSON.parse(line));
  const { out } = await runHere([
    ...["fuzz", "--spawn", command, "--seed", "1", "--messages", "500000", "--json"],
    ...["-o", output, ...BRISK],
  ], { endWhen: ({ out }) => out.endsWith("\n") && findings(out).some(isFound) });
  const found = findings(out).find(isFound);
  assert(found !== undefined, out.slice(-4000));
  return found;
}

function qemu(device: keyof typeof QEMU_DEVICES): string {
  return [
    peerProgram("qemu-system-x86_64"),
    ...["-machine", "x-remote,vfio-user=on,auto-shutdown=on", "-accel", "tcg", "-m", "16M"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "none", "-monitor"],
    ...["none", ...QEMU_DEVICES[device].arguments],
    ...["-object", "x-vfio-user-server,id=vfu0,type=unix,path={socket},device=dev0"],
  ].join(" ");
}

Deno.test("QEMU's abort at accesses to config space of 3 bytes modulo 4 is found", async () => {
  const output = Deno.makeTempDirSync();
  const command = qemu("edu");
  const isFound = ({ kind, text, repeatable }: FindingLine) =>
    kind === "crash" && repeatable && /(?:ld|st)n_le_p/.test(text);
  const found = await fuzzUntil(command, output, isFound);
  assertStringIncludes(found.text, "SIGABRT");
  assert(found.messages <= 3, `${found.messages} messages`);
  const sent = found.conversation.filter(({ from }) => from === "us").at(-1)!.text;
  const bytes = Number(/REGION_\w+ request (?:\(no reply\) )?config\S* (\d+) byte/.exec(sent)?.[1]);
  assertEquals(bytes % 4, 3, sent);
  const again = await runHere(["fuzz", "--spawn", command, "--again", found.file, ...PATIENT]);
  assertEquals(again.code, 1);
  assertStringIncludes(again.out, "✘ crash: it was ended by SIGABRT");
  Deno.removeSync(output, { recursive: true });
});

Deno.test("the crate's errors without an errno, and its loss of step, are found", async () => {
  const output = Deno.makeTempDirSync();
  const command = `${peerProgram("gpio")} --socket-path {socket}`;
  const errno = await fuzzUntil(
    command,
    output,
    ({ text, repeatable }) => repeatable && text === "its error reply has no errno",
  );
  assert(errno.messages <= 3, `${errno.messages} messages`);
  const step = await fuzzUntil(
    command,
    output,
    ({ text, repeatable }) =>
      repeatable && /with an id that no request has|its reply names command/.test(text),
  );
  assert(step.messages <= 3, `${step.messages} messages`);
  Deno.removeSync(output, { recursive: true });
});
