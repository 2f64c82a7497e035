/**
 * A small client that trusts the server in one thing, and falls by that; or in none.
 *
 * @module
 */

import { UnixSocket } from "../../../ffi/socket.ts";
import { capabilitiesOf } from "../../../lib/conformance/learn.ts";
import { join, pack, u32At, u64At } from "../../../lib/conformance/pack.ts";
import { type CameMessage, RawPeer } from "../../../lib/conformance/raw_peer.ts";
import type { ClientProcess } from "../../../lib/conformance/run_client.ts";
import type { ServerEnd } from "../../../lib/conformance/target.ts";
import { OUR_CAPABILITIES, versionPayload } from "../../../lib/conformance/requests.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { PATIENCE_MS } from "../../_until.ts";

const RAM = 0x10_0000n;
const RAM_SIZE = 0x1000;
const MAX_REGIONS = 16;

/** Each fault: the test of a reply, or of a command, that the client leaves out. */
export const TRUSTS = [
  "the number of regions",
  "the index of a region",
  "the length of a read",
  "the address of a DMA_READ",
  "the JSON of a version",
  "the descriptors of a reply",
  "that a reply has an id of ours",
  "that a reply comes once",
] as const;

/** A deliberate fault. */
export type Trust = typeof TRUSTS[number];

/** Faults by which the client is silent for ever, in place of a crash. */
const HANGING: readonly Trust[] = ["that a reply comes once"];

/** The client has done what no client should. */
class Fall extends Error {}

/** The client, in this process. */
export class TrustingClient implements ClientProcess {
  end: ServerEnd | undefined;
  /** Its end, for a process around it. */
  readonly over: Promise<void>;
  readonly #leaving = new AbortController();
  readonly #trust: Trust | undefined;
  #peer!: RawPeer;
  #id = 0;

  constructor(path: string, trust: Trust | undefined) {
    this.#trust = trust;
    this.over = this.#run(path).then(() => ({ code: 0, signal: undefined }), (error) => {
      const isFall = error instanceof Fall;
      return { code: isFall ? 139 : 1, signal: isFall ? "SIGSEGV" : undefined };
    }).then((end) => {
      this.#peer?.[Symbol.dispose]();
      this.end = { ...end, words: [], output: "" };
    });
  }

  async stop(): Promise<void> {
    this.#leaving.abort();
    await this.over;
  }

  async #run(path: string): Promise<void> {
    this.#peer = new RawPeer(UnixSocket.connect(path)!, {
      timeoutMs: () => PATIENCE_MS,
      signal: this.#leaving.signal,
      notes: [],
    });
    const capabilities = JSON.stringify({ capabilities: OUR_CAPABILITIES });
    const version = await this.#ask(Command.VERSION, versionPayload(0, 2, capabilities), 4);
    const json = new TextDecoder().decode(version.payload.subarray(4)).split("\0")[0]!;
    try {
      JSON.parse(json);
    } catch {
      this.#demand("the JSON of a version", false);
    }
    const limit = capabilitiesOf(version.payload).max_data_xfer_size;
    this.#demand(undefined, typeof limit !== "number" || limit >= 64);
    const asked = pack("u32 u32 u32 u32", 16, 0, 0, 0);
    const info = (await this.#ask(Command.DEVICE_GET_INFO, asked, 16)).payload;
    const regions = u32At(info, 8);
    this.#demand("the number of regions", regions <= MAX_REGIONS);
    const sizes = [0n, 0n];
    for (let index = 0; index < 2; index++) {
      const region = pack("u32 u32 u32 u32 u64 u64", 32, 0, index, 0, 0, 0);
      const { payload } = await this.#ask(Command.DEVICE_GET_REGION_INFO, region, 32);
      this.#demand("the index of a region", u32At(payload, 8) < 2);
      sizes[index] = u64At(payload, 16);
    }
    const map = pack("u32 u32 u64 u64 u64", 32, 3, 0, RAM, RAM_SIZE);
    await this.#ask(Command.DMA_MAP, map, 0);
    for (let at = 0; at < 64; at += 16) {
      const head = pack("u64 u32 u32", at, 0, 16);
      const { payload } = await this.#ask(Command.REGION_READ, head, 16);
      this.#demand("the length of a read", payload.length === 32);
    }
    await this.#ask(Command.DEVICE_RESET, new Uint8Array(), 0);
  }

  /** @throws {Fall} by its fault, and an error otherwise, unless the demand is met */
  #demand(trust: Trust | undefined, isMet: boolean): void {
    if (isMet) return;
    if (trust !== undefined && trust === this.#trust) throw new Fall();
    throw new Error("refused");
  }

  async #ask(command: number, payload: Uint8Array, least: number): Promise<CameMessage> {
    const messageId = ++this.#id;
    await this.#peer.send(encodeMessage({ messageId, command }, payload));
    while (true) {
      const message = await this.#peer.receive();
      if (message === undefined) throw new Error("the end");
      const isReply = (message.flags & MessageFlags.TYPE_MASK) === MessageFlags.REPLY;
      if (!isReply) {
        await this.#serve(message);
        continue;
      }
      this.#demand("the descriptors of a reply", message.fds.length <= 1);
      for (const fd of message.fds) fd[Symbol.dispose]();
      if (message.messageId === messageId - 1 && HANGING.includes(this.#trust!)) {
        await this.#never();
      }
      this.#demand("that a reply has an id of ours", message.messageId === messageId);
      this.#demand(undefined, message.command === command);
      this.#demand(undefined, (message.flags & MessageFlags.ERROR) === 0);
      this.#demand(undefined, message.payload.length >= least);
      return message;
    }
  }

  async #never(): Promise<void> {
    const { signal } = this.#leaving;
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  }

  async #serve({ messageId, command, payload }: CameMessage): Promise<void> {
    let answer: Uint8Array | undefined;
    if (command === Command.DMA_READ && payload.length === 16) {
      const [address, count] = [u64At(payload, 0), u64At(payload, 8)];
      const isMapped = address >= RAM && address + count <= RAM + BigInt(RAM_SIZE);
      if (!isMapped && this.#trust === "the address of a DMA_READ") throw new Fall();
      if (isMapped) answer = join(payload, new Uint8Array(Number(count)));
    }
    const flags = MessageFlags.REPLY | (answer === undefined ? MessageFlags.ERROR : 0);
    const error = answer === undefined ? 22 : 0;
    await this.#peer.send(encodeMessage({ messageId, command, flags, error }, answer));
  }
}

// As a program: `deno run -A _trusting_client.ts SOCKET [TRUST]`, which falls by a real signal.
if (import.meta.main) {
  const [path, trust] = Deno.args;
  const client = new TrustingClient(path!, TRUSTS.find((each) => each === trust));
  await client.over;
  if (client.end?.signal !== undefined) {
    Deno.stderr.writeSync(new TextEncoder().encode("trusted too much\n"));
    Deno.kill(Deno.pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
  }
  Deno.exit(client.end?.code);
}
