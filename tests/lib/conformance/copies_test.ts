/** Devices that copy memory by a description, and what is said of descriptions that do not. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { libc } from "../../../ffi/libc.ts";
import { idle } from "../../../ffi/poller.ts";
import {
  type CheckResult,
  checkServer,
  type CheckServerOptions,
  copy,
  type CopyEnd,
  group,
  NoCopy,
} from "../../../lib/conformance/api/mod.ts";
import { copySessionOf } from "../../../lib/conformance/copy_session.ts";
import { callbacks } from "../../../lib/define/callbacks.ts";
import { defineDevice } from "../../../lib/define/device.ts";
import { DemoDevice } from "../../../lib/devices/demo_device.ts";
import type { ServedDevice } from "../../../lib/server/served_device.ts";
import { Server } from "../../../lib/server/server.ts";
import { parseSession } from "../../../lib/session/file/load.ts";
import type { Session } from "../../../lib/session/model.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT } from "../../_until.ts";

libc(); // opened once for all tests

/** Reads a description. */
async function sessionOf(text: string): Promise<Session> {
  const { session, problems } = await parseSession(text, "copy.yaml");
  if (session === undefined) throw new Error(JSON.stringify(problems));
  return session;
}

/** Does checks of a device that listens. */
async function checkWith(
  device: ServedDevice,
  options: CheckServerOptions,
): Promise<CheckResult[]> {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/s`;
  try {
    using _server = Server.listen(path, device);
    return await Array.fromAsync(checkServer({ ...options, path }));
  } finally {
    await idle();
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Does the checks for which a device has to copy, by a description if there is one. */
async function check(
  device: ServedDevice,
  text: string | undefined,
  ids: readonly string[] = [],
): Promise<CheckResult[]> {
  return await checkWith(device, {
    chooses: ({ id, needsCopy }) => needsCopy === true && (ids.length === 0 || ids.includes(id)),
    isDestructive: true,
    ...(text !== undefined && { copy: await sessionOf(text) }),
    ...PATIENT,
  });
}

const failures = (results: readonly CheckResult[]) =>
  results.filter(({ verdict }) => verdict !== "passed")
    .map(({ check: { id }, expected, came, reason }) => [id, expected, came, reason]);

/** The faults of a device that copies while its doorbell is written: each one line. */
interface Fault {
  /** Bytes more, or fewer. */
  readonly more?: number;
  /** Bytes behind the destination. */
  readonly beside?: number;
  /** True to write what was read before if the source can't be read. */
  readonly isStale?: true;
}

/**
 * A device that answers the write to its doorbell when it has copied, as those of libvfio-user do.
 * It shows no error: a copy that fails ends like another.
 */
function blockingDevice({ more = 0, beside = 0, isStale }: Fault = {}): ServedDevice {
  return defineDevice({
    name: "blocking",
    pci: { vendor: 1, device: 1, needsBusMaster: false },
    create({ dma }) {
      const registers = new DataView(new ArrayBuffer(32));
      let last = new Uint8Array(0);
      const bar0 = callbacks({
        size: 32,
        async write(offset, data) {
          new Uint8Array(registers.buffer).set(data, offset);
          if (offset !== 24) return;
          const [source, destination, length] = [0, 8, 16].map((at) =>
            registers.getBigUint64(at, true)
          );
          try {
            last = await dma.read(source!, Number(length) + more);
          } catch {
            if (!isStale) return;
          }
          await dma.write(destination! + BigInt(beside), last).catch(() => {});
        },
      });
      return { regions: { bar0 } };
    },
  }).create();
}

const BLOCKING = `
variables: { source: 0, destination: 0, length: 2K }
steps:
  - write: { bar0.q: "\${source}", bar0+8.q: "\${destination}", bar0+16.q: "\${length}" }
  - write: { bar0+24.q: 1 }
`;

testFds("a device that copies while its doorbell is written passes", async () => {
  const results = await check(blockingDevice(), BLOCKING);
  const log = ["server/dma_messages/20", undefined, undefined];
  assertEquals(failures(results), [[...log, "the device does not log what it writes"]]);
  assert(results.length > 20);
});

const FAULTS: readonly (readonly [words: string, fault: Fault, id: string])[] = [
  ["one byte less", { more: -1 }, "server/dma_messages/2"],
  ["one byte more", { more: 1 }, "server/dma_messages/19"],
  ["beside the destination", { beside: 4 }, "server/dma_messages/18"],
  ["old bytes where it can't read", { isStale: true }, "server/dma_messages/8"],
];

for (const [words, fault, id] of FAULTS) {
  testFds(`a device that copies ${words} fails ${id} by a description`, async () => {
    const [result] = await check(blockingDevice(fault), BLOCKING, [id]);
    assertEquals(result?.verdict, "failed", result?.reason);
    assert(result!.messages.some(({ text }) => text.includes("bar0+0x18")), "the steps are told");
  });
}

testFds("a device of which nothing is known is not tried", async () => {
  const results = await check(blockingDevice(), undefined);
  assertEquals(new Set(results.map(({ verdict }) => verdict)), new Set(["not applicable"]));
  assertStringIncludes(results[0]!.reason!, "--copy FILE says it");
});

/** The part of a description that names its variables. */
const NAMES = "variables: { source: 0, destination: 0, length: 4K }\n";

/** Descriptions of the demo device that do not copy, and the reason. */
const USELESS: readonly (readonly [text: string, reason: string])[] = [
  [
    `${NAMES}steps: [{ write: { bar0+8.l: 1 } }]`,
    "copy.yaml: its steps pass, and no byte of the destination changes",
  ],
  [
    `${NAMES}steps: [{ log: a }, { expect: bar0+8.l, equals: 77 }]`,
    "copy.yaml: step 2 (expect bar0+8.l 77): Expected bar0+8.l == 0x0000004d, found 0x00000000",
  ],
  [
    `${NAMES}steps: [{ poll: bar0+8.l, equals: 77, timeout: 50ms }]`,
    "copy.yaml: step 1 (poll bar0+8.l 77): Expected bar0+8.l == 0x0000004d within 50 ms, found",
  ],
  [
    `${NAMES}steps: [{ repeat: 2, steps: [{ read: bar0+8.b }] }]`,
    "copy.yaml: step 1.1 (read bar0+8.b): Cannot read 1 byte of bar0 at 0x8",
  ],
  [
    `${NAMES}buffers: { list: { iova: 0x8000000, size: 4K } }\nsteps: [{ log: a }]`,
    "copy.yaml: ahead of its first step: Cannot map 0x1000 bytes at IOVA 0x8000000",
  ],
  [
    `requires: { vendor: 0x1234, device: 5 }\n${NAMES}steps: [{ log: a }]`,
    "copy.yaml: device is 0x0de5, not 0x0005",
  ],
];

for (const [text, reason] of USELESS) {
  testFds(`a description that does not copy is told once: ${reason.slice(11, 50)}`, async () => {
    const { message } = await assertRejects(() => check(new DemoDevice(), text), NoCopy);
    assertStringIncludes(message, `Cannot have the device copy by ${reason}`);
  });
}

for (const step of ["{ poll: bar0+8.l, equals: 77, timeout: 1h }", "{ sleep: 1h }"]) {
  testFds(`steps that never end are ended by the time of the check: ${step}`, async () => {
    const description = copySessionOf(await sessionOf(`${NAMES}steps: [${step}]`));
    let end: CopyEnd | undefined;
    const mine = group("mine", "Mine", [
      [1, "MUST", "Mine", "Steps that never end are ended.", async (t) => {
        const { timeoutMs } = t;
        t.timeoutMs = 200; // of the copy alone
        end = await copy(t, description, { source: 0n, destination: 0n, length: 64 });
        t.timeoutMs = timeoutMs;
      }],
    ]);
    const [result] = await checkWith(new DemoDevice(), { groups: [mine], ...PATIENT });
    assertEquals([result?.verdict, result?.usable], ["passed", "same connection"]);
    assertEquals(end?.isDone, false);
  });
}

Deno.test("a session that is for no copy is refused ahead of everything", async () => {
  const path = "/nowhere"; // no connection is tried
  for (
    const [text, words] of [
      ["variables: { source: 0, length: 4K }\nsteps: []", "no variable destination"],
      ["steps: []", "no variables source, destination, length"],
      ["variables: { source: 0, destination: 0, length: 63 }\nsteps: []", "has 63 for length"],
      [
        "variables: { source: 0, destination: 0, x: 64, length: '${x}' }\n" +
        "steps: [{ set: { x: 5 } }]",
        "a value that steps change for length",
      ],
      [
        `${NAMES}buffers: { a: { iova: 0, size: 4K, share: message } }\nsteps: []`,
        "a buffer a to be asked for by message",
      ],
    ] as const
  ) {
    const copy = await sessionOf(text);
    const { message } = await assertRejects(
      () => Array.fromAsync(checkServer({ path, copy })),
      RangeError,
    );
    assertStringIncludes(message, words);
  }
});
