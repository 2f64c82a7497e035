import { assertEquals, assertInstanceOf, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../../../lib/client/connect.ts";
import { DemoDevice } from "../../../../lib/devices/demo_device.ts";
import { ConnectionError, RemoteError } from "../../../../lib/base/errors.ts";
import type { ServedDevice } from "../../../../lib/server/served_device.ts";
import type { LiveSession } from "../../../../lib/session/run/executor.ts";
import { StepFailure } from "../../../../lib/session/run/step_result.ts";
import { runSession } from "../../../../lib/session/run/runner.ts";
import type { Trace } from "../../../../lib/transport/message.ts";
import { Command } from "../../../../lib/wire/command.ts";
import { describeMessage } from "../../../../lib/wire/describe.ts";
import { startDemo } from "../../../_demo_process.ts";
import { testFds } from "../../../_fds.ts";
import { onDevice, resultsOf, sessionOf, stepsOf, words } from "../_run.ts";
import { PATIENT } from "../../../_until.ts";

/** Runs steps on the demo device, and tells in few words how each ended. */
async function run(steps: string): Promise<string[]> {
  const session = await stepsOf(steps);
  return await onDevice(async (device) => (await resultsOf(session, device)).map(words));
}

testFds("runSession() does steps in order and gives what each read or wrote", async () => {
  const session = await stepsOf(`
  - write: { bar0+8.l: 0x1234 }
  - read: bar0+8.l
    into: x
  - modify: bar0+8.l
    mask: 0xff
    value: 0x56
  - set: { y: "\${x + 1}" }
  - expect: \${y}
    equals: 0x1235
  - expect: { bar0+8.l: 0x1256 }`);
  await onDevice(async (device) => {
    const results = await resultsOf(session, device);
    assertEquals(results.map(({ number, status }) => `${number} ${status}`), [
      "1 passed",
      "2 passed",
      "3 passed",
      "4 passed",
      "5 passed",
      "6 passed",
    ]);
    assertEquals(results.map(({ outcome }) => outcome.seen?.value), [
      0x1234n,
      0x1234n,
      0x1256n,
      undefined,
      0x1235n,
      0x1256n,
    ]);
  });
});

Deno.test("runSession() stops at the step that fails, and says what it expected and found", async () => {
  const session = await stepsOf(`
  - expect: { bar0.l: 0x64756677 }
  - log: never`);
  await onDevice(async (device) => {
    const [result, ...others] = await resultsOf(session, device);
    assertEquals(others, []);
    assertInstanceOf(result?.error, StepFailure);
    assertEquals(result.error.expected, "bar0.l == 0x64756677");
    assertEquals(result.error.found, "0x64756676");
    assertEquals(result.outcome.seen?.value, 0x64756676n);
  });
});

Deno.test("runSession() goes on after a failure where the step says so, and counts it as one", async () => {
  assertEquals(
    await run(`
  - expect: { bar0.l: 1 }
    continue on failure: true
  - log: still here`),
    ["1 failed Expected bar0.l == 0x00000001, found 0x64756676", "2 passed"],
  );
});

Deno.test("runSession() passes a step whose error is the one that it has to end with", async () => {
  assertEquals(
    await run(`
  - read: bar0+8.w
    expect error: EINVAL
  - poll: { bar0+8.l: 1 }
    timeout: 10ms
    expect error: timeout
  - read: bar0+8.l
    expect error: [EINVAL, EIO]`),
    ["1 passed", "2 passed", "3 failed Expected EINVAL or EIO, found that it succeeded"],
  );
});

Deno.test("runSession() fails at another error than the one that a step has to end with", async () => {
  const [result] = await run("\n  - read: bar0+8.w\n    expect error: EIO");
  assertMatch(result!, /^1 failed .*EINVAL/);
});

Deno.test("runSession() passes a step with an error that it may end with, and without", async () => {
  assertEquals(
    await run(`
  - read: bar0+8.w
    allow error: [EPERM, EINVAL]
  - read: bar0+8.l
    allow error: EINVAL
  - poll: { bar0+8.l: 1 }
    timeout: 10ms
    allow error: timeout
  - read: bar0+8.w
    allow error: EPERM`).then((all) => all.map((each) => each.replace(/ \D.*EINVAL.*/, " EINVAL"))),
    ["1 passed", "2 passed", "3 passed", "4 EINVAL"],
  );
});

Deno.test("runSession() leaves out steps whose when is 0", async () => {
  assertEquals(
    await run(`
  - set: { x: 2 }
  - log: a
    when: \${x == 2}
  - log: b
    when: \${x == 3}
  - repeat: 2
    when: 0
    steps: [{ log: c }]`),
    ["1 passed", "2 passed", "3 skipped", "4 skipped"],
  );
});

Deno.test("runSession() repeats steps with a variable that counts", async () => {
  const session = await stepsOf(`
  - set: { sum: 0 }
  - repeat: 3
    as: i
    steps:
      - repeat: 2
        as: j
        steps:
          - set: { sum: "\${sum + 10 * i + j}" }
  - expect: \${sum}
    equals: 63`);
  await onDevice(async (device) => {
    const results = await resultsOf(session, device);
    assertEquals(results.map(words).slice(0, 4), [
      "1 passed",
      "2.1.1 passed",
      "2.1.1 passed",
      "2.1 passed",
    ]);
    assertEquals(results[2]?.rounds, [0, 1]);
    assertEquals(results.at(-1)?.status, "passed");
  });
});

Deno.test("runSession() ends a repeat at the step that fails", async () => {
  assertEquals(
    await run(`
  - repeat: 5
    as: i
    steps:
      - expect: \${i}
        at most: 1
  - log: never`),
    [
      "1.1 passed",
      "1.1 passed",
      "1.1 failed Expected \${i} <= 0x0000000000000001, found 0x0000000000000002",
      "1 failed A step in it failed",
    ],
  );
});

Deno.test("runSession() fails a repeat that takes longer than it may", async () => {
  const results = await run(`
  - repeat: 1000
    timeout: 30ms
    steps: [{ sleep: 10ms }]`);
  assertMatch(results.at(-1)!, /^1 failed Expected repeat 1000 .*within 30 ms/);
});

testFds("runSession() calls another file with arguments and takes its results back", async () => {
  const session = await sessionOf(
    `
variables: { doubled: 0 }
steps:
  - call: double.yaml
    with: { n: 21 }
    into: { doubled: result }
  - expect: \${doubled}
    equals: 42`,
    {
      "double.yaml": `
variables: { n: 1 }
buffers: { own: { iova: 0x10000, size: 4K } }
steps:
  - write: { own.l: "\${n}" }
  - set: { result: 0 }
  - read: own.l
    into: result
  - set: { result: "\${result * 2}" }`,
    },
  );
  await onDevice(async (device) => {
    const results = await resultsOf(session, device);
    assertEquals(results.map(words), [
      "1.1 passed",
      "1.2 passed",
      "1.3 passed",
      "1.4 passed",
      "1 passed",
      "2 passed",
    ]);
    assertEquals(device.dma.maps.length, 0);
  });
});

/** A device that notes what is set up and taken back. */
function watched(): { device: ServedDevice; maps: () => number; enabled: () => boolean } {
  const device = new DemoDevice();
  let bus: Parameters<NonNullable<ServedDevice["connected"]>>[0] | undefined;
  const watched: ServedDevice = {
    flags: device.flags,
    regions: device.regions,
    irqs: device.irqs,
    connected: (each) => void (bus = each),
    reset: () => device.reset(),
    close: () => device.close(),
  };
  return {
    device: watched,
    maps: () => bus?.dma.view(0x10000n, 1) === undefined ? 0 : 1,
    enabled: () => bus?.irqs.isEnabled(2, 0) ?? false,
  };
}

const SET_UP = `
buffers: { b: { iova: 0x10000, size: 4K } }
interrupts: msix[0]
steps:
  - log: one
  - sleep: 30s`;

testFds("runSession() takes back what it set up when it is left early", async () => {
  const session = await sessionOf(SET_UP);
  const { device: served, maps, enabled } = watched();
  await onDevice(async (device) => {
    for await (const result of runSession(session, device)) {
      assertEquals([result.number, maps(), enabled()], ["1", 1, true]);
      break;
    }
    assertEquals([maps(), enabled(), device.state], [0, false, "CONNECTED"]);
  }, served);
});

testFds("runSession() takes back what it set up when its signal is aborted", async () => {
  const session = await sessionOf(SET_UP);
  const { device: served, maps, enabled } = watched();
  await onDevice(async (device) => {
    const controller = new AbortController();
    const seen: string[] = [];
    const reason = new Error("enough");
    await assertRejects(
      async () => {
        for await (const result of runSession(session, device, { signal: controller.signal })) {
          seen.push(words(result));
          controller.abort(reason);
        }
      },
      Error,
      "enough",
    );
    assertEquals(seen, ["1 passed"]);
    assertEquals([maps(), enabled()], [0, false]);
  }, served);
});

for (const name of ["DMA_MAP", "DEVICE_SET_IRQS"] as const) {
  testFds(
    `runSession() takes back what ${name} may have set up when it is called off in flight`,
    async () => {
      const session = await sessionOf(SET_UP);
      const { device: served, maps, enabled } = watched();
      await onDevice(async (device) => {
        const controller = new AbortController();
        const request = device.proxy.request.bind(device.proxy);
        device.proxy.request = (...args) => {
          const reply = request(...args);
          if (args[0] === Command[name]) controller.abort(new Error("enough"));
          return reply;
        };
        const { signal } = controller;
        await assertRejects(() => resultsOf(session, device, { signal }), Error, "enough");
        assertEquals([maps(), enabled()], [0, false]);
      }, served);
    },
  );
}

testFds("runSession() fails the step in which the connection ends", async () => {
  const session = await stepsOf(`
  - write: { bar0.l: 1 }
  - log: never`);
  const device = new DemoDevice();
  const regions = [{ ...device.regions[0]!, write: () => client?.close() }];
  let client: { close(): void } | undefined;
  await onDevice(async (connected) => {
    client = { close: () => connected.proxy.close(new ConnectionError("The server is gone")) };
    const [result, ...others] = await resultsOf(session, connected);
    assertEquals(others, []);
    assertInstanceOf(result?.error, ConnectionError);
  }, { flags: 0, regions, irqs: [], reset: () => {}, close: () => device.close() });
});

Deno.test("runSession() gives the refusal of the device", async () => {
  const session = await stepsOf("\n  - read: bar0+8.w");
  await onDevice(async (device) => {
    const [result] = await resultsOf(session, device);
    assertInstanceOf(result?.error, RemoteError);
    assertEquals(result.error.code, "EINVAL");
  });
});

Deno.test("runSession() fails a step whose number can't be computed", async () => {
  assertEquals(
    await run(`
  - read: bar0+0x14.l
    into: x
  - set: { y: "\${1 / (x - x)}" }`),
    ["1 passed", "2 failed Cannot divide 1 by zero"],
  );
});

Deno.test("runSession() fails a step whose value is wider than its register", async () => {
  const results = await run(`
  - read: bar0.l
    into: x
  - write: { bar0+8.l: "\${x << 8}" }`);
  assertEquals(results, ["1 passed", "2 failed 0x6475667600 does not fit 32 bits"]);
});

Deno.test("runSession() begins and ends where it is told, with the variables of the file", async () => {
  const session = await sessionOf(`
variables: { x: 5 }
steps:
  - fail: no
`.replace(
    "  - fail: no\n",
    `  - expect: { bar0.l: 0 }
  - expect: \${x}
    equals: 5
  - expect: { bar0.l: 0 }`,
  ));
  await onDevice(async (device) => {
    const results = await resultsOf(session, device, { from: 1, until: 1 });
    assertEquals(results.map(words), ["2 passed"]);
  });
});

Deno.test("runSession() waits for interrupts, and for none", async () => {
  assertEquals(
    await run(`
  - irq enable: msix
  - write: { bar0+0x20: 1 }
  - irq wait: msix[1]
  - irq expect none: msix
    for: 10ms
  - write: { bar0+0x20: 2 }
  - irq expect none: msix[2-3]
    for: 1s
    continue on failure: true
  - irq wait: msix[0]
    timeout: 10ms`),
    [
      "1 passed",
      "2 passed",
      "3 passed",
      "4 passed",
      "5 passed",
      "6 failed Expected no interrupt of msix[2-3] for 1000 ms, found msix[2] came",
      "7 failed Expected an interrupt of msix[0] within 10 ms, found none",
    ],
  );
});

Deno.test("runSession() moves memory through a device, and compares it", async () => {
  const session = await sessionOf(`
buffers:
  from: { iova: 0x10000, size: 4K, fill: { bytes: "5a a5" } }
  to: { iova: 0x20000, size: 4K, share: message }
interrupts: msix[0]
steps:
  - pci enable
  - write: { bar0+0x40.l: "\${from.iova}", bar0+0x44.l: 0, bar0+0x48.l: "\${to.iova}", bar0+0x4c.l: 0 }
  - write: { bar0+0x50.l: 4096, bar0+0x54.l: 1 }
  - irq wait: msix[0]
  - expect: to
    same as: from
    length: 4K
  - expect: to+2
    bytes: 5aa5
  - dma put: to+0x10
    text: "hello \${from.size}"
  - expect: to+0x10
    text: hello 4096
  - dma put: to
    u16: [1, 0x203]
  - expect: { to.l: 0x02030001 }
  - expect: to+1
    same as: from
    length: 3`);
  await onDevice(async (device) => {
    const results = await resultsOf(session, device);
    assertEquals(
      results.map(words).slice(0, -1),
      Array.from({ length: 10 }, (_, i) => `${i + 1} passed`),
    );
    assertEquals(
      words(results.at(-1)!),
      "11 failed Expected to+1 as from to be 5a a5 5a, found 00 03 02",
    );
  });
});

Deno.test("runSession() reads blocking what it reads otherwise", async () => {
  const session = await stepsOf(`
  - read: bar2.q
  - read: bar2+0x1000.w`);
  let live: LiveSession | undefined;
  await onDevice(async (device) => {
    // Mapped memory takes no answer of the server, which is in this thread.
    await device.regionInfo(2);
    const mapped = await stepsOf("\n  - read: bar2+0x1000.w\n    into: v");
    const results = await resultsOf(mapped, device, {
      blocking: true,
      onBegin: (each) => live = each,
    });
    assertEquals(results[0]?.outcome.seen?.value, 0n);
    assertEquals(live?.variables.number("v"), 0n);
    assertEquals((await resultsOf(session, device)).map(words), ["1 passed", "2 passed"]);
  });
});

Deno.test("runSession() repeats as often as was said at the beginning", async () => {
  assertEquals(
    await run(`
  - set: { x: 5 }
  - repeat: \${10 / x}
    steps: [{ set: { x: 0 } }]`),
    ["1 passed", "2.1 passed", "2.1 passed", "2 passed"],
  );
});

Deno.test("runSession() fails a repeat that does not take too long, although it has to", async () => {
  assertEquals(
    await run(`
  - repeat: 1
    timeout: 1h
    expect error: timeout
    continue on failure: true
    steps: [{ log: soon }]
  - log: still here`),
    ["1.1 passed", "1 failed Expected timeout, found that it succeeded", "2 passed"],
  );
});

Deno.test("runSession() compares what is computed as whole numbers", async () => {
  assertEquals(
    await run(`
  - set: { x: 5 }
  - expect: \${x}
    at least: -1
    not: -5
  - expect: \${x - 10}
    equals: -5
    at most: 3
  - expect: \${x}
    equals: -5`),
    [
      "1 passed",
      "2 passed",
      "3 passed",
      "4 failed Expected ${x} == -0x5, found 0x0000000000000005",
    ],
  );
});

Deno.test("runSession() waits for no vector that is not enabled, nor for no interrupt at all", async () => {
  assertEquals(
    await run(`
  - irq expect none: msix[1]
    continue on failure: true
  - irq enable: msix
  - set: { none: 0 }
  - irq wait: msix[0]
    count: \${none}`),
    [
      "1 failed msix[1] is not enabled; list it under interrupts, or do irq enable msix[1] before",
      "2 passed",
      "3 passed",
      "4 failed Cannot wait for 0 interrupts: 1 at least",
    ],
  );
});

testFds(
  "runSession() reads blocking from a device that does not answer until it is aborted",
  async () => {
    const demo = await startDemo();
    try {
      using device = await connect(demo.path, PATIENT);
      const session = await stepsOf("\n  - read: bar0.l\n  - read: bar0.l");
      const controller = new AbortController();
      const options = { blocking: true, signal: controller.signal };
      const results = runSession(session, device, options);
      assertEquals((await results.next()).value?.status, "passed");
      Deno.kill(demo.pid, "SIGSTOP");
      setTimeout(() => controller.abort(new Error("enough")), 10);
      await assertRejects(() => results.next(), Error, "enough");
      Deno.kill(demo.pid, "SIGCONT");
      // The late answer is dropped, and the connection goes on.
      assertEquals(await device.region("bar0").read32Async(0), 0x64756676);
    } finally {
      Deno.kill(demo.pid, "SIGCONT");
      await demo.stop();
    }
  },
);

testFds("runSession() asks a device that does not answer to let go of nothing more", async () => {
  const demo = await startDemo();
  const sent: string[] = [];
  const trace: Trace = (direction, bytes) =>
    void (direction === "sent" && sent.push(describeMessage(bytes)));
  try {
    using device = await connect(demo.path, { trace });
    const session = await sessionOf(`
buffers: { a: { iova: 1M, size: 4K }, b: { iova: 2M, size: 4K }, c: { iova: 3M, size: 4K } }
steps: [log: begun, log: never]`);
    const results = runSession(session, device, { closeTimeoutMs: 50 });
    await results.next();
    Deno.kill(demo.pid, "SIGSTOP");
    sent.length = 0;
    await results.return();
    assertEquals(sent.map((each) => each.split(" ")[1]), ["DMA_UNMAP"]);
  } finally {
    Deno.kill(demo.pid, "SIGCONT");
    await demo.stop();
  }
});

Deno.test("runSession() does nothing at all however often", async () => {
  assertEquals(await run("\n  - repeat: 1000000000\n    steps: []"), ["1 passed"]);
});
