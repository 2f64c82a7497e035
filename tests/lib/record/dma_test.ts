/** The device's DMA through a recorder that withholds the client's memory. */

import { assert, assertEquals } from "@std/assert";
import { connect } from "../../../lib/client/connect.ts";
import { DemoRegister } from "../../../lib/devices/demo.ts";
import { DmaStatus } from "../../../lib/devices/demo_dma.ts";
import { accessesOf, decodeMessage } from "../../../lib/record/decode.ts";
import type { NewEvent } from "../../../lib/record/event.ts";
import { ListeningServer, Recorder } from "../../../lib/record/recorder.ts";
import { startDemo } from "../../_demo_process.ts";
import { testFds } from "../../_fds.ts";
import { PATIENT, until } from "../../_until.ts";
import { ofKind } from "./_middle.ts";

const PAGE = 4096;

/** Requests of the server for DMA: the first and the last byte of each. */
function dmaOf(events: readonly NewEvent[]): { first: bigint; last: bigint }[] {
  return ofKind(events, "message").flatMap(({ bytes, direction }) => {
    const { type, payload } = decodeMessage(bytes)!;
    if (direction !== "to-client" || type !== "request") return [];
    if (payload?.name !== "DMA_READ" && payload?.name !== "DMA_WRITE") return [];
    return accessesOf(payload).map(({ offset, count }) => ({
      first: offset,
      last: offset + BigInt(count) - 1n,
    }));
  });
}

testFds("DMA over adjoining maps comes map by map, in pieces that the client takes", async () => {
  await using demo = await startDemo();
  for (const twinSocket of [false, true]) {
    const path = `${demo.folder}/record-${twinSocket}.sock`;
    const events: NewEvent[] = [];
    using recorder = Recorder.start({
      listen: path,
      server: new ListeningServer(demo.path),
      intercept: ["dma"],
      sink: (event) =>
        events.push(event.kind === "message" ? { ...event, bytes: event.bytes.slice() } : event),
    });
    {
      using device = await connect(path, {
        ...PATIENT,
        twinSocket,
        capabilities: { maxDataXferSize: 3000 },
      });
      const base = 0x10_0000;
      for (const share of ["memfd", "message", "memfd", "memfd"] as const) {
        const iova = base + device.dma.maps.length * PAGE;
        await device.dma.mapAsync({ iova, size: PAGE, share });
      }
      const sent = Uint8Array.from({ length: 2 * PAGE }, (_, i) => i * 7);
      device.dma.write(base, sent);
      await device.regionInfo(0); // now region() asks nothing, which would block this recorder
      await device.regionInfo(7);
      await device.region(7).write16Async(4, 6); // memory and bus master
      const bar0 = device.region(0);
      const registers = {
        DMA_SRC_LO: base + 100,
        DMA_DST_LO: base + 2 * PAGE + 60,
        DMA_LENGTH: 2 * PAGE - 200,
        DMA_DOORBELL: 1,
      } as const;
      for (const [name, value] of Object.entries(registers)) {
        const offset = DemoRegister[name as keyof typeof registers];
        await bar0.write32Async(offset, value, PATIENT);
      }
      await until(async () =>
        (await bar0.read32Async(DemoRegister.DMA_STATUS) & DmaStatus.BUSY) === 0
      );
      assertEquals(await bar0.read32Async(DemoRegister.DMA_ERRNO), 0);
      const got = device.dma.read(base + 2 * PAGE + 60, 2 * PAGE - 200);
      assertEquals(got, sent.slice(100, 2 * PAGE - 100));
    }
    await until(() => ofKind(events, "end").some(({ socket }) => socket === "main"));
    const requests = dmaOf(events);
    assert(requests.length >= 8, `${requests.length}`);
    for (const { first, last } of requests) {
      assert(last - first < 3000n, `${first} to ${last}`);
      assertEquals(first / BigInt(PAGE), last / BigInt(PAGE));
    }
    recorder.close();
  }
});
