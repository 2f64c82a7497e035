/** Each deliberate fault of a client is named by a check; the same checks pass without it. */

import { assert, assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { CLIENT_CHECKS, CLIENT_GROUPS } from "../../../lib/conformance/client/groups.ts";
import { ConnectionEnded } from "../../../lib/conformance/deviation.ts";
import { pack, u32At } from "../../../lib/conformance/pack.ts";
import { type CameMessage, RawPeer } from "../../../lib/conformance/raw_peer.ts";
import { type CheckResult, planOf } from "../../../lib/conformance/run.ts";
import { type ClientProcess, runClientChecks } from "../../../lib/conformance/run_client.ts";
import type { ServerEnd } from "../../../lib/conformance/target.ts";
import { OUR_CAPABILITIES, versionPayload } from "../../../lib/conformance/trial.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { testFds } from "../../_fds.ts";

libc(); // opened once for all tests

/** Faults, and the check that has to name each. */
const MUTANTS = {
  "ignores the id": "framing/3",
  "ignores the command": "framing/5",
  "takes a command for a reply": "framing/7",
  "ignores the error flag": "info/4",
  "takes the errno for the error flag": "framing/18",
  "takes a truncated read": "region_read/1",
  "takes a read of another region": "region_read/6",
  "takes cut information": "info/1",
  "leaves descriptors open": "info/14",
  "ignores the major version": "negotiation/2",
  "rejects a smaller minor version": "negotiation/1",
  "reads memory that is not mapped": "server_commands/1",
  "leaves when the device asks": "server_commands/2",
} as const;

type Fault = keyof typeof MUTANTS;

/** A small client in this process. */
class RawClient implements ClientProcess {
  end: ServerEnd | undefined;
  readonly #leaving = new AbortController();
  readonly #over: Promise<void>;
  readonly #fault: Fault | undefined;
  #id = 0;

  constructor(path: string, fault: Fault | undefined) {
    this.#fault = fault;
    this.#over = this.#run(path).then(() => 0, () => 1).then((code) => {
      this.end = { signal: undefined, code, words: [] };
    });
  }

  async stop(): Promise<void> {
    this.#leaving.abort();
    await this.#over;
  }

  async #run(path: string): Promise<void> {
    const { signal } = this.#leaving;
    using peer = new RawPeer(UnixSocket.connect(path)!, {
      timeoutMs: () => 60_000,
      signal,
      notes: [],
    });
    const capabilities = JSON.stringify({ capabilities: OUR_CAPABILITIES });
    const proposed = versionPayload(0, 2, capabilities);
    const version = (await this.#ask(peer, Command.VERSION, proposed)).payload;
    this.#demand("takes cut information", version.length >= 4);
    this.#demand("ignores the major version", (u32At(version, 0) & 0xffff) === 0);
    if (this.#fault === "rejects a smaller minor version") {
      this.#demand(undefined, u32At(version, 0) >>> 16 === 2);
    }
    const json = new TextDecoder().decode(version.subarray(4)).split("\0")[0]!;
    if (json !== "") JSON.parse(json);
    const info = await this.#ask(
      peer,
      Command.DEVICE_GET_INFO,
      pack("u32 u32 u32 u32", 16, 0, 0, 0),
    );
    this.#demand("takes cut information", info.payload.length >= 16);
    for (const index of [0, 7]) {
      const asked = pack("u32 u32 u32 u32 u64 u64", 32, 0, index, 0, 0, 0);
      const { payload } = await this.#ask(peer, Command.DEVICE_GET_REGION_INFO, asked);
      this.#demand("takes cut information", payload.length >= 32 && u32At(payload, 8) === index);
    }
    for (let i = 0; i < 3; i++) {
      const asked = pack("u64 u32 u32", i * 8, 7, 8);
      const { payload } = await this.#ask(peer, Command.REGION_READ, asked);
      this.#demand("takes a truncated read", payload.length === 24 && u32At(payload, 12) === 8);
      const isSame = payload.subarray(0, 12).every((byte, at) => byte === asked[at]);
      this.#demand("takes a read of another region", isSame || payload.length < 16);
    }
  }

  /** @throws {Error} unless the demand is met, or this client does not look */
  #demand(fault: Fault | undefined, isMet: boolean): void {
    if (!isMet && (fault === undefined || fault !== this.#fault)) throw new Error("refused");
  }

  async #ask(peer: RawPeer, command: number, payload: Uint8Array): Promise<CameMessage> {
    const messageId = ++this.#id;
    await peer.send(encodeMessage({ messageId, command }, payload));
    while (true) {
      const message = await peer.receive();
      if (message === undefined) throw new ConnectionEnded("a reply", "the end");
      if (this.#fault !== "leaves descriptors open") {
        for (const fd of message.fds) fd[Symbol.dispose]();
      }
      const isReply = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
      if (!isReply && message.command !== command) {
        await this.#refuse(peer, message);
        continue;
      }
      this.#demand("takes a command for a reply", isReply);
      this.#demand("ignores the id", message.messageId === messageId);
      this.#demand("ignores the command", message.command === command);
      const isError = this.#fault === "takes the errno for the error flag"
        ? message.error !== 0
        : (message.flags & MessageFlags.ERROR) !== 0;
      this.#demand("ignores the error flag", !isError);
      if (isError) return { ...message, payload: new Uint8Array(32) };
      return message;
    }
  }

  async #refuse(peer: RawPeer, { messageId, command, payload }: CameMessage): Promise<void> {
    if (this.#fault === "leaves when the device asks") throw new Error("asked");
    const isTaken = this.#fault === "reads memory that is not mapped";
    const flags = MessageFlags.REPLY | (isTaken ? 0 : MessageFlags.ERROR);
    const reply = { messageId, command, flags, error: isTaken ? 0 : 22 };
    await peer.send(encodeMessage(reply, isTaken ? payload : new Uint8Array()));
  }
}

async function check(fault: Fault | undefined, ids: readonly string[]): Promise<CheckResult[]> {
  const folder = Deno.makeTempDirSync();
  try {
    const plans = planOf(CLIENT_GROUPS, ({ id }) => ids.includes(id));
    return await Array.fromAsync(runClientChecks(plans, {
      path: `${folder}/s`,
      start: (path) => new RawClient(path, fault),
      timeoutMs: 60_000,
      signal: new AbortController().signal,
    }));
  } finally {
    Deno.removeSync(folder, { recursive: true });
    await idle();
  }
}

testFds("a careful client keeps each rule", async () => {
  const results = await check(undefined, CLIENT_CHECKS.map(({ id }) => id));
  assertEquals(
    results.filter(({ verdict }) => verdict === "failed").map((r) => [r.check.id, r.came]),
    [],
  );
  assert(results.filter(({ verdict }) => verdict === "passed").length >= 60);
});

for (const [fault, id] of Object.entries(MUTANTS)) {
  testFds(`a client that ${fault} fails ${id}`, async () => {
    const [result] = await check(fault as Fault, [`client/${id}`]);
    assertEquals(result?.verdict, "failed", `${result?.reason}`);
  });
}
