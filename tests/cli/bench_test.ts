import { assertEquals, assertMatch } from "@std/assert";
import { Interrupted } from "../../cli/shared/context.ts";
import { startDemo, startServe } from "../_demo_process.ts";
import { assertGolden, runHere } from "./_cli.ts";
import { assertFailures } from "./_registers.ts";

// In a process of its own: synchronous reads block this one.
const demo = await startDemo();
Deno.test.afterAll(() => demo.stop());

Deno.test("bench shows its help", async () => {
  assertGolden("bench-help.txt", (await runHere(["bench", "--help"])).out);
});

Deno.test("bench --json has rates and latencies", async () => {
  const args = ["bench", demo.path, "bar2+0x1000.q", "--count", "500", "--json"];
  const { code, out, err } = await runHere(args);
  assertEquals([code, err], [0, ""]);
  const { synchronous, pipelined, mapped, ...rest } = JSON.parse(out);
  assertEquals(rest, { address: "bar2+0x1000.q", region: "bar2", offset: 0x1000, width: 8 });
  for (const rate of [synchronous, pipelined, mapped]) {
    assertEquals([rate.reads, rate.per_second > 0], [500, true]);
  }
  assertEquals(pipelined.outstanding, 32);
  const { min, p50, p90, p99, p99_9, max } = synchronous.latency_us;
  const times = [min, p50, p90, p99, p99_9, max];
  assertEquals(times, times.toSorted((a, b) => a - b));
  assertEquals(min > 0, true);
});

Deno.test("bench reads as often as it was told to", async () => {
  const counter = "bar0+0xc.l";
  await runHere(["write", demo.path, `${counter}=0`]);
  const { code } = await runHere(["bench", demo.path, counter, "--count", "100"]);
  const { out } = await runHere(["read", demo.path, counter, "--format", "dec"]);
  // 100 to warm up, one after another, under way together; and this one
  assertEquals([code, out], [0, "301\n"]);
});

Deno.test("bench shows rates, percentiles and a histogram within 80 columns", async () => {
  const { out } = await runHere(["bench", demo.path, "bar0", "--count", "500"]);
  const lines = out.split("\n");
  assertEquals(lines.filter((line) => line.length > 80), []);
  const shape = out.replaceAll(/[\d,.]+ (?:µs|ms)/g, "T").replaceAll(
    /(?<= )[\d,]+(?= {2}reads)/g,
    "N",
  )
    .replaceAll(/ +/g, " ");
  assertMatch(
    shape,
    new RegExp(
      "^Rate of reading bar0, 4 bytes\n by message, one after another N reads/s\n by message, " +
        "32 under way N reads/s\n" +
        " through the map - bar0 is not mapped there\n\nHow long one takes, by message, one " +
        "after another\n" +
        " min T p50 T p90 T p99 T p99.9 T max T\n\n( T \\d+( [█▉▊▋▌▍▎▏]+)?\n){10}$",
    ),
  );
});

Deno.test("bench measures the ways that are there, and says which are refused", async () => {
  await using server = await startServe(
    new URL("./_refusing_device.ts", import.meta.url).pathname,
  );
  const mappedOnly = await runHere(["bench", server.path, "bar2", "--count", "500"]);
  assertEquals([mappedOnly.code, mappedOnly.err], [0, ""]);
  const text = mappedOnly.out.replaceAll(/\s+/g, " ");
  assertMatch(text, /one after another - refused: Cannot read 4 bytes of bar2 at 0x0: the server/);
  assertMatch(text, /32 under way - refused: Cannot read 4 bytes of bar2 at 0x0: the server/);
  assertMatch(text, /through the map [\d,]+ reads\/s/);
  const json = await runHere(["bench", server.path, "bar2", "--count", "500", "--json"]);
  const { synchronous, pipelined, mapped } = JSON.parse(json.out);
  assertEquals(mapped.reads, 500);
  for (const { refused } of [synchronous, pipelined]) {
    assertMatch(refused, /^Cannot read 4 bytes of bar2 at 0x0: the server answered EINVAL/);
  }
  const writeOnly = await runHere(["bench", server.path, "bar1", "--count", "500"]);
  assertEquals(writeOnly, {
    code: 1,
    out: "",
    err: "vfu: Cannot access bar1: the device says that it can't be read\n",
  });
});

Deno.test("bench ends at Ctrl-C", async () => {
  const controller = new AbortController();
  const args = ["bench", demo.path, "bar0", "--count", "16777216"]; // it takes minutes
  const running = runHere(args, { signal: controller.signal });
  setTimeout(() => controller.abort(new Interrupted("SIGINT")), 20);
  assertEquals(await running, { code: 130, out: "", err: "" });
});

Deno.test("bench ends at Ctrl-C while a slow device warms up", async () => {
  await using server = await startServe("demo", "--fault", "REGION_READ:delay=1s");
  const controller = new AbortController();
  const startMs = performance.now();
  const running = runHere(["bench", server.path, "bar0"], { signal: controller.signal });
  setTimeout(() => controller.abort(new Interrupted("SIGINT")), 500);
  assertEquals(await running, { code: 130, out: "", err: "" });
  assertEquals(performance.now() - startMs < 100_000, true); // 200 reads take 200 s
});

Deno.test("bench returns 1 and says why in one line when it can't be done", async (t) => {
  await assertFailures(t, demo.path, 1, [
    [["bench", "bar1"], "Cannot access bar1: the device does not have it"],
    [
      ["bench", "bar0.w", "--pci-enable"],
      "Cannot read 2 bytes of bar0 at 0x0: the server answered EINVAL (Invalid argument); " +
      "a read of 4 bytes is answered there: name the width, bar0.l",
    ],
  ]);
});
