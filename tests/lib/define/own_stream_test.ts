import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  cap,
  defineDevice,
  DefinitionError,
  DeviceError,
  registers,
  RemoteError,
  type StateStream,
} from "../../../mod.ts";
import { testFds } from "../../_fds.ts";
import { serveDefined } from "./_served.ts";
import { until } from "../../_until.ts";

const text = new TextDecoder();

/** A counter whose state is a line of text, with what the kit keeps behind it. */
function makeCounter({ hasPreCopy = false } = {}) {
  const heard: string[] = [];
  const bar0 = registers({ registers: [{ name: "COUNT", offset: 0, width: 4 }] });
  const { COUNT } = bar0.regs;
  const definition = defineDevice({
    name: "counter",
    pci: { vendor: 1, device: 1, capabilities: [cap.msix({ vectors: 2, bar: 4 })] },
    create({ bus }) {
      const state: StateStream = {
        ...(hasPreCopy && {
          *preCopy() {
            yield new TextEncoder().encode("early ");
          },
        }),
        *stopCopy(continues) {
          heard.push(`stopCopy ${continues}`);
          yield new TextEncoder().encode(`count=${COUNT.value}\n`);
          yield bus.save();
        },
        saveEnded: () => void heard.push("saveEnded"),
        resume() {
          const all: number[] = [];
          return {
            write: (data) => void all.push(...data),
            commit() {
              const bytes = new Uint8Array(all);
              const end = bytes.indexOf(10);
              const count = /^(?:early )?count=(\d+)$/.exec(text.decode(bytes.subarray(0, end)));
              if (count === null) throw new DeviceError(22, "no count");
              bus.restore(bytes.subarray(end + 1));
              COUNT.value = Number(count[1]);
            },
            abort: () => void heard.push("abort"),
          };
        },
      };
      return {
        regions: { bar0 },
        stop: () => void heard.push("stop"),
        start: () => void heard.push("start"),
        state,
      };
    },
  });
  return { definition, served: definition.create(), COUNT, heard };
}

type Pair = Awaited<ReturnType<typeof serveDefined>>;

async function save({ device }: Pair, preCopy = false): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of device.migration.save({ preCopy })) parts.push(chunk.slice());
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function restore({ device }: Pair, state: Uint8Array): Promise<void> {
  return ReadableStream.from([state]).pipeTo(device.migration.restore());
}

testFds("a device migrates in a form of its own, with what the kit keeps", async () => {
  const [one, other] = [makeCounter(), makeCounter()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  one.COUNT.value = 77;
  await from.device.region("config").write16Async(4, 6);
  await from.device.region("bar4").write32Async(16, 0xfee0_0000);
  const state = await save(from);
  assertEquals(text.decode(state.subarray(0, 9)), "count=77\n");
  assertEquals(state.length, 9 + 256 + 2 * 16 + 8); // configuration space, MSI-X's table, bits
  assertEquals(one.heard, ["stop", "stopCopy false", "saveEnded", "start"]);
  await restore(to, state);
  assertEquals(other.COUNT.value, 77);
  assertEquals(await to.device.region("config").read16Async(4), 6);
  assertEquals(await to.device.region("bar4").read32Async(16), 0xfee0_0000);
  assertEquals(other.heard, ["stop", "start"]);
});

testFds("a stream of its own may begin while the device works", async () => {
  const [one, other] = [makeCounter({ hasPreCopy: true }), makeCounter()];
  await using from = await serveDefined(one.served);
  await using to = await serveDefined(other.served);
  one.COUNT.value = 5;
  const state = await save(from, true);
  assertEquals(text.decode(state.subarray(0, 14)), "early count=5\n");
  assertEquals(one.heard, ["stop", "stopCopy true", "saveEnded", "start"]);
  await restore(to, state);
  assertEquals(other.COUNT.value, 5);
});

testFds("what a device refuses of its own form leaves it as it was", async () => {
  const { served, COUNT, heard } = makeCounter();
  await using pair = await serveDefined(served);
  COUNT.value = 3;
  const good = await save(pair);
  const other = good.slice();
  other[8] = 0x99; // the vendor id, behind "count=3\n"
  for (const bad of [new TextEncoder().encode("nonsense\n"), good.subarray(0, 20), other]) {
    heard.splice(0);
    COUNT.value = 4;
    await assertRejects(() => restore(pair, bad), RemoteError, "EINVAL");
    await until(() => heard.includes("abort"), "the end of the refused state");
    assertEquals(COUNT.value, 4);
    assertEquals(await pair.device.region("config").read16Async(0), 1);
    await pair.device.migration.setState("RUNNING");
  }
});

testFds("a new version of such a device takes the stream", async () => {
  const [one, other] = [makeCounter(), makeCounter()];
  await using pair = await serveDefined(one.served);
  one.COUNT.value = 9;
  const { promise, resolve } = Promise.withResolvers<unknown>();
  await pair.server.replaceDevice(() => other.served, resolve);
  assertEquals(await promise, { when: "now", reason: undefined, lost: [] });
  assertEquals(await pair.device.region("bar0").read32Async(0), 9);
});

Deno.test("mistakes in a stream are told", () => {
  const make = (state: never) => () =>
    defineDevice({
      name: "bad",
      pci: { vendor: 1, device: 1 },
      create: () => ({ regions: {}, state }),
    }).create();
  assertEquals(
    assertThrows(make({ stopCopy: () => [], save: 1 } as never), DefinitionError).mistakes,
    [
      "state.save: unknown; there are preCopy, stopCopy, saveEnded, resume",
      "state.resume: missing; it takes a function",
    ],
  );
});
