/**
 * A client in C drives what a device of the kit has for its clients. These are quiesce, DMA by
 * message, offers, descriptors for parts of regions, masks and resets. The client's own order of
 * messages shows that a DMA_MAP waits.
 */

import { assertEquals } from "@std/assert";
import {
  callbacks,
  cap,
  defineDevice,
  DeviceError,
  IoFdType,
  registers,
  Server,
} from "../../mod.ts";
import { EBUSY } from "../../ffi/errno.ts";
import { testFds } from "../_fds.ts";
import { until } from "../_until.ts";

const SOURCE = new URL("./kit/kit_client.c", import.meta.url).pathname;
const FLAGS = ["-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"];

testFds(
  "a client in C drives quiesce, DMA by message, offers, descriptors of regions and masks",
  async () => {
    const heard: string[] = [];
    const bar0 = registers({
      registers: [
        { name: "CTRL", offset: 0, width: 4 },
        { name: "SUM", offset: 4, width: 4, access: "ro" },
        { name: "ADDRESS", offset: 8, width: 4 },
        { name: "BELL", offset: 12, width: 4 },
      ],
    }, { shadowIoeventfds: ["BELL"] });
    const ports = new Uint8Array(16);
    const bar1 = callbacks({
      size: ports.length,
      read: (offset, into) => into.set(ports.subarray(offset, offset + into.length)),
      write: (offset, data) => ports.set(data, offset),
      ioFds: [{ type: IoFdType.IOREGIONFD, offset: 0, size: ports.length, userData: 7n }],
    });
    const { CTRL, SUM, ADDRESS } = bar0.regs;
    const definition = defineDevice({
      name: "kit",
      pci: {
        vendor: 1,
        device: 1,
        needsBusMaster: false,
        capabilities: [cap.msix({ vectors: 2, bar: 4 })],
      },
      resetsWithClient: true,
      create({ dma }) {
        let work: Promise<void> | undefined;
        const readIt = async () => {
          const bytes = await dma.read(BigInt(ADDRESS.value), 8, { via: "message" });
          SUM.value = bytes.reduce((sum, byte) => sum + byte);
          await dma.write(BigInt(ADDRESS.value), bytes.subarray(6), { via: "message" });
        };
        bar0.on({
          CTRL: {
            write(value) {
              // after the answer of this write
              if (value === 1) work = Promise.resolve().then(readIt);
            },
          },
        });
        return {
          regions: { bar0, bar1 },
          async quiesce(reason) {
            heard.push(`quiesce ${reason}`);
            await work;
            if (CTRL.value === 2) throw new DeviceError(EBUSY);
          },
          masked: (index, vector, isMasked) =>
            void heard.push(`masked ${index} ${vector} ${isMasked}`),
          reset: (reason) => void heard.push(`reset ${reason}`),
        };
      },
    });
    const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
    const errors: unknown[] = [];
    const server = Server.listen(`${folder}/kit.sock`, definition.create(), {
      maxMsgFds: 2,
      maxDataXferSize: 65536,
      minor: 1,
      twinSocket: false,
      writeMultiple: false,
      onError: (error) => errors.push(error),
    });
    try {
      const program = `${folder}/kit_client`;
      const built = await new Deno.Command("cc", { args: [...FLAGS, "-o", program, SOURCE] })
        .output();
      assertEquals(new TextDecoder().decode(built.stderr), "");
      const client = await new Deno.Command(program, { args: [server.path!] }).output();
      const [version, ...lines] = new TextDecoder().decode(client.stdout).trimEnd().split("\n");
      assertEquals([client.code, lines], [0, [
        "DMA_READ of 8 bytes at 0x100000",
        "DMA_WRITE of 7, 8",
        "DMA_MAP answered 0 after that",
        "sum 36",
        "DMA_UNMAP refused: EBUSY",
        "DMA_UNMAP answered 0",
        "BELL 0xcafe by a shadow ioeventfd",
        "ioregionfd read 0x1234",
      ]]);
      const [, minor, json] = /^version 0\.(\d) (.*)$/.exec(version!)!;
      const { capabilities } = JSON.parse(json!);
      assertEquals([minor, capabilities.max_msg_fds, capabilities.max_data_xfer_size], [
        "1",
        2,
        65536,
      ]);
      assertEquals([capabilities.twin_socket, capabilities.write_multiple], [undefined, undefined]);
      await until(() => heard.includes("reset disconnected"), "the reset");
      assertEquals(heard, [
        "quiesce map",
        "quiesce map",
        "quiesce unmap",
        "quiesce unmap",
        "masked 2 1 true",
        "masked 2 1 false",
        "quiesce reset",
        "reset device",
        "reset disconnected",
      ]);
      assertEquals(errors, []);
    } finally {
      server.close();
      await server.closed;
      Deno.removeSync(folder, { recursive: true });
    }
  },
);
