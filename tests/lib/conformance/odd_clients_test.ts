/** Clients whose numbers are odd: the checks of a client come to an end with a verdict each. */

import { assertEquals } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { checkClient, type ClientProcess, pack } from "../../../lib/conformance/api/mod.ts";
import type { ServerEnd } from "../../../lib/conformance/target.ts";
import { versionPayload } from "../../../lib/conformance/requests.ts";
import { VfioProxy } from "../../../lib/transport/proxy.ts";
import { Command } from "../../../lib/wire/command.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";

libc(); // opened once for all tests

const RAM = 0x10_0000n;
const RAM_SIZE = 0x2000n;

/** A client that maps memory, reads, and leaves. */
class OddClient implements ClientProcess {
  end: ServerEnd | undefined;
  readonly #proxy: VfioProxy;
  readonly #over: Promise<void>;

  constructor(path: string, capabilities: string, maps: readonly (readonly [bigint, bigint])[]) {
    this.#proxy = new VfioProxy(UnixSocket.connect(path)!, {
      role: "client",
      handler: (request) => {
        const { buffer, byteOffset } = request.payload;
        const view = new DataView(buffer, byteOffset);
        const [address, count] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
        const isInside = address >= RAM && address + count <= RAM + RAM_SIZE;
        if (!isInside) return request.fail(14);
        request.reply(request.payload.slice(0, 16), new Uint8Array(Number(count)));
      },
    });
    this.#proxy.serving = true;
    this.#over = this.#run(capabilities, maps).then(() => 0, () => 1).then((code) => {
      this.#proxy.close();
      this.end = { signal: undefined, code, words: [], output: "" };
    });
  }

  async stop(): Promise<void> {
    this.#proxy.close();
    await this.#over;
  }

  async #run(capabilities: string, maps: readonly (readonly [bigint, bigint])[]): Promise<void> {
    const text = `{"capabilities":${capabilities}}`;
    await this.#proxy.request(Command.VERSION, versionPayload(0, 0, text));
    for (const [address, size] of maps) {
      const payload = pack("u32 u32 u64 u64 u64", 32, 3, 0, address, size);
      // A refusal of a map of nothing is right.
      await this.#proxy.request(Command.DMA_MAP, payload).catch((error) => {
        if (size > 0n) throw error;
      });
    }
    for (let i = 0; i < 3; i++) {
      await this.#proxy.request(Command.REGION_READ, pack("u64 u32 u32", 0, 7, 4));
    }
  }
}

async function verdicts(
  ids: readonly string[],
  capabilities: string,
  maps: readonly (readonly [bigint, bigint])[],
): Promise<string[]> {
  const folder = Deno.makeTempDirSync();
  try {
    const results = await Array.fromAsync(checkClient({
      path: `${folder}/s`,
      start: (path) => new OddClient(path, capabilities, maps),
      chooses: ({ id }) => ids.includes(id),
      ...PATIENT,
    }));
    return results.map(({ verdict }) => verdict);
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

const LARGEST = ["client/dma_messages/4", "client/dma_messages/9"];

testFds("a limit that is a fraction, or beyond all numbers, ends no run", async () => {
  for (const limit of ["4096.5", "1e999", "1e300", "-1", '"many"']) {
    const capabilities = `{"max_data_xfer_size":${limit}}`;
    const found = await verdicts(LARGEST, capabilities, [[RAM, RAM_SIZE]]);
    assertEquals(found, ["passed", "not applicable"], limit);
  }
});

testFds("maps of nothing are refused, and walked over by no check", async () => {
  const maps = [[RAM, RAM_SIZE], [RAM + RAM_SIZE, 0n], [RAM, 0n]] as const;
  const ids = ["client/dma_messages/6", "client/dma_messages/7", "client/dma_messages/8"];
  assertEquals(await verdicts(ids, "{}", maps), ["passed", "passed", "passed"]);
});
