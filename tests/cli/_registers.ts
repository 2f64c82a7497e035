/**
 * Servers for the commands that access registers.
 */

import type { IncomingRequest } from "../../lib/transport/incoming.ts";
import { RegionReadReply, RegionReadRequest } from "../../lib/wire/access.ts";
import { Command } from "../../lib/wire/command.ts";
import { assertEquals } from "@std/assert";
import { type Outcome, runHere, temporaryFolder } from "./_cli.ts";
import { type Answer, indexOf, replyRegion, serveOddly } from "./_server.ts";

/**
 * A device whose bar0 has so many bytes, with other flags if they are given.
 * Requests that `answer` leaves are answered by default.
 */
export function withBar0(size: number, answer: Answer, flags?: number): Answer {
  return (request) => {
    const isAsked = request.command === Command.DEVICE_GET_REGION_INFO && indexOf(request) === 0;
    return isAsked ? replyRegion(request, BigInt(size), flags) : answer(request);
  };
}

/** Answers a read with `data`, whatever it asked for. */
export function replyRead(request: IncomingRequest, data: Uint8Array): void {
  const { offset, region } = RegionReadRequest.decode(request.payload);
  request.reply(RegionReadReply.encode({ offset, region, data }));
}

/** Runs `vfu COMMAND odd.sock ARGS` in this process against a server of odd answers. */
export async function runOdd(answer: Answer, command: string, ...args: string[]): Promise<Outcome> {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  using _server = serveOddly(path, answer);
  return await runHere([command, path, ...args]);
}

/** Runs command lines that must fail with `code`, and say why on one line and nothing else. */
export async function assertFailures(
  t: Deno.TestContext,
  path: string,
  code: number,
  cases: readonly [args: string[], line: string][],
): Promise<void> {
  for (const [[command, ...args], line] of cases) {
    await t.step([command, ...args].join(" "), async () => {
      const outcome = await runHere([command!, path, ...args]);
      assertEquals(outcome, { code, out: "", err: `vfu: ${line}\n` });
    });
  }
}
