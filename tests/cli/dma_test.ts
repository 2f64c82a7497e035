import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import type { VfioProxy } from "../../lib/transport/proxy.ts";
import { Command } from "../../lib/wire/command.ts";
import { layout, u64 } from "../../lib/wire/layout.ts";
import { startDemo } from "../_demo_process.ts";
import { assertGolden, type Outcome, runHere, spawn, temporaryFolder } from "./_cli.ts";
import { assertFailures, runOdd, withBar0 } from "./_registers.ts";
import { serveOddly } from "./_server.ts";

const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

/** The head of DMA_READ and DMA_WRITE. */
const DmaAccess = layout("DMA access", 16, { address: u64(0), count: u64(8) });

/** Has the demo device copy so many bytes. */
function copy(source: number, destination: number, length: number): string[] {
  const registers = { 0x40: source, 0x48: destination, 0x50: length, 0x54: 1 };
  return Object.entries(registers).flatMap(([at, value]) => ["--write", `bar0+${at}=${value}`]);
}

/** Runs `vfu dma` on the demo device, switched on. */
function dma(...args: string[]): Promise<Outcome> {
  return runHere(["dma", demo.path, ...args, "--pci-enable"]);
}

/** The same until there are so many lines of output, and then Ctrl-C. */
async function dmaUntil(lines: number, ...args: string[]): Promise<Outcome> {
  return await runHere(["dma", demo.path, ...args, "--pci-enable", "--hold"], {
    endWhen: ({ out }) => out.split("\n").length > lines,
  });
}

function withoutTimes(text: string): string[] {
  return text.trimEnd().split("\n").map((line) => line.replace(/^ *[\d.]+ ms {2}/, ""));
}

Deno.test("dma shows its help", async () => {
  assertGolden("dma-help.txt", (await runHere(["dma", "--help"])).out);
});

Deno.test("dma shows what the device reads and writes by message", async () => {
  const maps = ["--map", "1M:64K:ro:message", "--map", "2M:4K:wo:message"];
  const fill = ["--fill", "1M:256=0x5a", "--fill", "1M:2=1"];
  const { code, out, err } = await dmaUntil(2, ...maps, ...fill, ...copy(1 << 20, 2 << 20, 300));
  assertEquals([code, err], [130, ""]);
  assertMatch(out, /^ +\d+\.\d ms {2}read/);
  assertEquals(withoutTimes(out), [
    "read     0x00100000      300  01015a5a 5a5a5a5a 5a5a5a5a …",
    "write    0x00200000      300  01015a5a 5a5a5a5a 5a5a5a5a …",
  ]);
});

Deno.test("dma --json shows accesses, also those that are refused", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  let client: VfioProxy;
  const answers: (number | undefined)[] = [];
  const access = async (command: number, address: bigint, data?: Uint8Array) => {
    const payload = DmaAccess.encode({ address, count: BigInt(data?.length ?? 8) });
    const answer = await client.request(command, payload, { ...(data && { data }) })
      .then(() => 0, (error) => error.errno);
    answers.push(answer);
  };
  using _server = serveOddly(
    path,
    (request) => {
      if (request.command === Command.DMA_UNMAP) return request.reply(request.payload.slice());
      if (request.command !== Command.DMA_MAP) return "default";
      request.reply();
      setTimeout(async () => {
        await access(Command.DMA_WRITE, 0x1004n, Uint8Array.of(1, 2, 3, 4));
        await access(Command.DMA_READ, 0x1000n);
        await access(Command.DMA_READ, 0x1ffcn);
      });
    },
    (proxy) => client = proxy,
  );
  const args = ["--map", "4K:4K:message", "--json", "--hold"];
  const { code, out } = await runHere(["dma", path, ...args], {
    endWhen: ({ out }) => out.split("\n").length > 3,
  });
  const events = out.trimEnd().split("\n").map((line) => ({ ...JSON.parse(line), time_ms: 0 }));
  const served = { time_ms: 0, errno: 0, code: "" };
  assertEquals(code, 130);
  assertEquals(events, [
    { ...served, event: "write", iova: 0x1004, length: 4, bytes: "01020304" },
    { ...served, event: "read", iova: 0x1000, length: 8, bytes: "0000000001020304" },
    { time_ms: 0, event: "read", iova: 0x1ffc, length: 8, bytes: "", errno: 14, code: "EFAULT" },
  ]);
  assertEquals(answers, [0, 0, 14]);
});

Deno.test("dma --changes shows what has changed in shared memory, and dumps it", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/memory`;
  const { code, out, err } = await dmaUntil(
    1,
    ...["--map", "1M:64K", "--fill", "1M:16=0xa5", "--dump", `0x100ff8:16=${file}`],
    ...[...copy(1 << 20, 0x101000, 16), "--changes"],
  );
  assertEquals([code, err], [130, ""]);
  assertEquals(withoutTimes(out), [
    "changed  0x00101000       16  a5a5a5a5 a5a5a5a5 a5a5a5a5 …",
  ]);
  assertEquals(Deno.readFileSync(file).toHex(), "00".repeat(8) + "a5".repeat(8));
});

Deno.test("dma without --hold and --for ends when all is done", async () => {
  await using folder = temporaryFolder();
  const [there, back] = [`${folder.path}/there`, `${folder.path}/back`];
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
  Deno.writeFileSync(there, bytes);
  const outcome = await dma(
    ...["--map", "1M:64K:message", "--map", "0x110000:1M", "--fill", `0x100007:99999=${there}`],
    ...["--dump", `0x100007:99999=${back}`],
  );
  assertEquals(outcome, { code: 0, out: "", err: "" });
  assertEquals(Deno.readFileSync(back).toHex(), bytes.subarray(0, 99_999).toHex());
});

Deno.test("dma says that the device did no DMA, and why", async () => {
  const off =
    "The device did no DMA that is seen\n  why: bus master is off in COMMAND (0x0000), without " +
    "which there is no DMA and no MSI: enable the device (--pci-enable, device.pci.enable(), or " +
    "pci enable in a session)\n";
  const maps = ["--map", "1M:64K", "--map", "2M:64K:message"];
  const go = ["--fill", "1M:16=3", ...copy(1 << 20, 2 << 20, 16)];
  const without = (...args: string[]) => runHere(["dma", demo.path, ...args]);
  await runHere(["reset", demo.path]);
  // What the registers were to begin did not happen: that is a failure.
  assertEquals(await without(...maps, ...go), { code: 1, out: "", err: `vfu: ${off}` });
  const waited = await without(...maps, ...go, "--for", "50ms");
  assertEquals(waited, { code: 1, out: "", err: `vfu: ${off}` });
  // Nothing was begun: that is only said.
  const watched = await without(...maps, "--for", "50ms");
  assertEquals(watched, { code: 0, out: "", err: off });
  // Bus master is on, and the device was not told to copy: a person is told what is seen.
  const enabled = ["--pci-enable", "--for", "50ms", "--write", "bar0+8=1"];
  for (
    const [map, seen] of [
      ["1M:64K", "the shared memory is as it was, and reads of it are not seen (:message shows "],
      ["1M:64K:message", "it asked for none of the memory"],
    ] as const
  ) {
    const args = ["dma", demo.path, "--map", map, ...enabled];
    assertEquals(await runHere(args), { code: 0, out: "", err: "" });
    const { code, err } = await runHere(args, { isWatched: true });
    assertEquals(code, 0);
    assertStringIncludes(err, `The device did no DMA that is seen: ${seen}`);
  }
  const done = await dmaUntil(
    1,
    ...["--map", "1M:64K", "--fill", "1M:16=3", ...copy(1 << 20, 0x101000, 16), "--changes"],
  );
  assertEquals([done.code, done.err], [130, ""]);
  await runHere(["reset", demo.path]);
});

Deno.test("dma shares a file", async () => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/file`;
  Deno.writeFileSync(file, new Uint8Array(8192).fill(7));
  const { code } = await dmaUntil(
    1,
    ...["--map", `1M:8K:file=${file}`, ...copy(1 << 20, 0x101000, 4)],
    ...["--fill", "1M:4=9", "--changes"],
  );
  assertEquals(code, 130);
  assertEquals(Deno.readFileSync(file).subarray(4096, 4101).toHex(), "0909090907");
});

Deno.test("dma --hold dumps, unmaps and returns 130 at Ctrl-C", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  const file = `${folder.path}/memory`;
  const commands: number[] = [];
  const controller = new AbortController();
  using _server = serveOddly(path, (request) => {
    commands.push(request.command);
    if (request.command === Command.DMA_MAP) {
      controller.abort(new Interrupted("SIGINT")); // before its reply
    } else if (request.command !== Command.DMA_UNMAP) return "default";
    request.reply(request.payload.slice());
  });
  const args = ["dma", path, "--map", "0:4K:message", "--hold", "--dump", `0:4=${file}`];
  const outcome = await runHere(args, { signal: controller.signal });
  assertEquals(outcome, { code: 130, out: "", err: "" });
  assertEquals(commands, [Command.VERSION, Command.DMA_MAP, Command.DMA_UNMAP]);
  assertEquals(Deno.readFileSync(file).length, 4);
});

Deno.test("dma unmaps what it has mapped when Ctrl-C comes, or the server refuses", async () => {
  for (const ends of ["at Ctrl-C", "at a refusal"]) {
    await using folder = temporaryFolder();
    const path = `${folder.path}/odd.sock`;
    const commands: number[] = [];
    const controller = new AbortController();
    using _server = serveOddly(path, (request) => {
      commands.push(request.command);
      const isSecond = commands.length === 3;
      if (isSecond && ends === "at a refusal") return request.fail(22);
      if (isSecond) controller.abort(new Interrupted("SIGINT"));
      if (request.command === Command.VERSION) return "default";
      request.reply(request.payload.slice());
    });
    const maps = ["0:4K:message", "4K:4K:message", "8K:4K:message"];
    const args = ["dma", path, ...maps.flatMap((map) => ["--map", map])];
    const { code } = await runHere(args, { signal: controller.signal });
    const { VERSION, DMA_MAP, DMA_UNMAP } = Command;
    const isRefused = ends === "at a refusal";
    assertEquals(code, isRefused ? 1 : 130);
    const unmaps = Array(isRefused ? 1 : 2).fill(DMA_UNMAP);
    assertEquals(commands, [VERSION, DMA_MAP, DMA_MAP, ...unmaps], ends);
  }
});

Deno.test("dma ends at Ctrl-C also if the server does not let go of the memory", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/odd.sock`;
  const controller = new AbortController();
  using _server = serveOddly(path, (request) => {
    if (request.command === Command.DMA_UNMAP) return "silence";
    if (request.command !== Command.DMA_MAP) return "default";
    controller.abort(new Interrupted("SIGINT"));
    request.reply();
  });
  const args = ["dma", path, "--map", "0:4K:message", "--hold"];
  const outcome = await runHere(args, { signal: controller.signal });
  assertEquals(outcome, { code: 130, out: "", err: "" });
});

Deno.test("dma --hold returns 1 at once, with the dumps made, when the server dies", async () => {
  await using folder = temporaryFolder();
  const path = `${folder.path}/dying.sock`;
  const file = `${folder.path}/memory`;
  const server = serveOddly(path, (request) => {
    if (request.command !== Command.DMA_MAP) return "default";
    request.reply();
    setTimeout(() => server[Symbol.dispose](), 30);
  });
  const args = ["dma", path, "--map", "0:4K", "--fill", "0:4=3", "--hold", "--dump"];
  const { code, out, err } = await runHere([...args, `0:4=${file}`]);
  assertEquals([code, out], [1, ""]);
  assertMatch(err, /^vfu: [^\n]+\n$/);
  assertEquals(Deno.readFileSync(file).toHex(), "03030303");
});

Deno.test("dma says which map the server refuses", async () => {
  const { code, err } = await runOdd(withBar0(4, () => "default"), "dma", "--map", "1M:4K");
  assertEquals([code, err], [
    1,
    "vfu: Cannot map 0x1000 bytes at IOVA 0x100000: the server answered EINVAL (Invalid " +
    "argument)\n",
  ]);
});

Deno.test("dma --dump -, ends quietly when nobody reads", async () => {
  const child = spawn(["dma", demo.path, "--map", "0:1M", "--dump", "0:1M=-"]);
  await child.stdout.cancel();
  const [{ code }, err] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assertEquals([code, err], [0, ""]);
});

Deno.test("dma returns 1 and one line when memory can't be as wanted", async (t) => {
  const at = (iova: string, size = "0x1000") => `Cannot map ${size} bytes at IOVA ${iova}`;
  const map = ["dma", "--map", "1M:4K"];
  await assertFailures(t, demo.path, 1, [
    [
      ["dma", "--map", "1:4K"],
      `${at("0x1")}: address and size must be multiples of the page size, 4096`,
    ],
    [[...map, "--map", "1M:4K"], `${at("0x100000")}: it overlaps 0x1000 bytes at IOVA 0x100000`],
    [
      ["dma", "--map", "0xfffffffffffff000:8K"],
      `${at("0xfffffffffffff000", "0x2000")}: it leaves the 64 bits of addresses`,
    ],
    [
      ["dma", "--map", "1M:4K:file=/nonexistent"],
      "Cannot open /nonexistent: ENOENT (No such file or directory)",
    ],
    [
      [...map, "--fill", "1M:8K=1"],
      "Cannot fill 0x2000 bytes at IOVA 0x100000: nothing is mapped at 0x101000",
    ],
    [
      ["dma", "--map", "1M:65M", "--changes"],
      "Cannot watch 65 MiB of shared memory for changes: 64 MiB are possible",
    ],
  ]);
});

Deno.test("dma returns 1 before it connects when a file is not as it must be", async (t) => {
  await using folder = temporaryFolder();
  const file = `${folder.path}/file`;
  Deno.writeTextFileSync(file, "short");
  const map = ["dma", "--map", "1M:4K"];
  await assertFailures(t, "/nonexistent/socket", 1, [
    [[...map, "--fill", `1M:64=${file}`], `Cannot fill 64 bytes with ${file}: it has 5`],
    [[...map, "--fill", "1M:64=/dev/zero"], "Cannot fill with /dev/zero: it is not a file"],
  ]);
});

Deno.test("dma returns 2 when the usage is wrong", async (t) => {
  const form = "write IOVA:SIZE[:ro|:wo][:file=PATH|:message], as 0x100000:64K:ro";
  await assertFailures(t, "/nonexistent/socket", 2, [
    [["dma"], "No memory is given; write it as --map IOVA:SIZE, as --map 1M:64K"],
    [
      ["dma", "--map", "1M"],
      `Cannot use '1M' for --map: "1M" is no map; ${form}`,
    ],
    [
      ["dma", "--map", "1M:4X"],
      "Cannot use '1M:4X' for --map: " +
      '"4X" is no size; write it as 4096, 0x1000, 64K or 2MiB',
    ],
  ]);
});
