/**
 * Makes the recordings in `tests/lib/record/golden/` anew, of real peers. Run it after
 * `tests/peers/setup.sh`, and look at the differences before they are committed:
 *
 * ```sh
 * deno run --frozen -A tests/peers/recordings.ts
 * ```
 *
 * @module
 */

import type { NewEvent, RecordedDescriptor, RecordedEvent } from "../../lib/record/event.ts";
import { startServe } from "../_demo_process.ts";
import { readRecording } from "../../lib/record/reader.ts";
import { type RecordProcess, startRecord } from "../_record_process.ts";
import {
  GOLDEN_RECORDINGS,
  type GoldenName,
  goldenPath,
  goldenText,
} from "../lib/record/_golden.ts";
import { vfuLine } from "./_vfu.ts";
import { bootGuest, guestPrograms } from "./guest.ts";
import { startQemu } from "./peers.ts";

/** A way to come to a recording. */
interface GoldenRecording {
  /** Its peers and what they do, for the head of the file. */
  readonly title: string;
  /** Records, and returns the events. */
  make(): Promise<RecordedEvent[]>;
}

/** The process of a client, as recorders name it. */
const PROCESS = /\(\d+\)$/;

/** All that is recorded, by the name of the file. */
export const RECORDINGS: Readonly<Record<GoldenName, GoldenRecording>> = {
  edu: {
    title: "examples/sessions/edu.yaml on the edu of QEMU 7.2's server.",
    async make() {
      await using peer = await startQemu("edu");
      // This server does no DMA by message.
      const options = ["--connect", peer.socketPath, "--intercept", "mmap,irq"];
      await using record = await startRecord(...options);
      const session = new URL("../../examples/sessions/edu.yaml", import.meta.url).pathname;
      const { code, err } = await vfuLine("run", session, record.path);
      if (code !== 0) throw new Error(`The session has failed: ${err}`);
      return await finish(record);
    },
  },
  gpio: {
    title: "A Linux guest of QEMU 11.1 reads examples/gpio.ts, whose pin interrupts.",
    async make() {
      await using served = await startServe("examples/gpio.ts");
      await using record = await startRecord("--connect", served.path, "--intercept", "all");
      {
        await using guest = await bootGuest({
          devices: [{ socket: record.path }],
          files: await guestPrograms("pcidev"),
        });
        await guest.sh(
          `set -e
          modprobe uio_pci_generic
          echo 494f 0dc8 > /sys/bus/pci/drivers/uio_pci_generic/new_id
          pcidev sysfs ${guest.address(0)} r1:2:0 r1:2:0 r1:2:0 irq:0:5000 r1:2:0 unmask`,
        );
      }
      return await finish(record);
    },
  },
  nvme: {
    title: "A Linux guest of QEMU 11.1 binds its driver to examples/nvme.ts, writes and reads.",
    async make() {
      await using served = await startServe("examples/nvme.ts", "--option", "size=64M");
      await using record = await startRecord("--connect", served.path, "--intercept", "all");
      {
        await using guest = await bootGuest({ devices: [{ socket: record.path }] });
        await guest.sh(
          `set -e
          echo vfu | dd of=/dev/nvme0n1 bs=512 count=1 conv=sync oflag=direct 2>/dev/null
          dd if=/dev/nvme0n1 bs=512 count=1 iflag=direct 2>/dev/null | grep -q vfu`,
        );
      }
      return await finish(record);
    },
  },
};

/** All events, up to the end of the connection. */
async function finish(record: RecordProcess): Promise<RecordedEvent[]> {
  for await (const { kind } of readRecording(record.file, { follow: true })) {
    if (kind === "end") break;
  }
  return (await record.finish()).events;
}

/** Takes out the process, the path and the inodes of this run: all that is not of the peers. */
export function plainEvents(name: GoldenName, events: readonly RecordedEvent[]): NewEvent[] {
  const files = new Map<string, string>();
  const plain = (descriptor: RecordedDescriptor): RecordedDescriptor => {
    const { identity } = descriptor;
    if (identity === null) return descriptor;
    if (!files.has(identity)) files.set(identity, `1:${files.size + 1}`);
    return { ...descriptor, identity: files.get(identity)! };
  };
  return events.map(({ index: _, ...event }): NewEvent => {
    switch (event.kind) {
      case "message":
      case "garbage":
        return { ...event, descriptors: event.descriptors.map(plain) };
      case "open":
        return {
          ...event,
          client: event.client && event.client.replace(PROCESS, "(4711)"),
          server: event.server && `/tmp/${name}.sock`,
        };
      default:
        return event;
    }
  });
}

if (import.meta.main) {
  for (const name of GOLDEN_RECORDINGS) {
    const { title, make } = RECORDINGS[name];
    await Deno.writeTextFile(goldenPath(name), goldenText(title, plainEvents(name, await make())));
  }
}
