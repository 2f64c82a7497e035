/** Capabilities that are found by name: the messages that takes, and when the list is kept. */

import { assertEquals } from "@std/assert";
import { EINVAL } from "../../../ffi/errno.ts";
import {
  RegionAccessLayout,
  RegionReadReply,
  RegionReadRequest,
} from "../../../lib/wire/access.ts";
import { Command } from "../../../lib/wire/command.ts";
import { DeviceFeatureReply, DeviceFeatureRequest } from "../../../lib/wire/feature.ts";
import { encodeRegionInfo, RegionInfoRequest } from "../../../lib/wire/region.ts";
import { encodeVersion } from "../../../lib/wire/version.ts";
import { HeaderLayout } from "../../../lib/wire/header.ts";
import { connect } from "../../../lib/client/connect.ts";
import type { Region } from "../../../lib/client/region.ts";
import type { Device } from "../../../lib/client/device.ts";
import { startDemo } from "../../_demo_process.ts";
import { testFds } from "../../_fds.ts";
import { until } from "../../_until.ts";
import { connectScripted, type ScriptedServer } from "../_scripted_server.ts";

/** Behaviour of the served configuration space. */
interface ConfigBehaviour {
  minor?: number;
  /** Bytes that a read may have. */
  most?: number;
}

/** A device of 4096 bytes of configuration space. */
interface Served extends Disposable {
  readonly device: Device;
  readonly server: ScriptedServer;
  /** The space. */
  readonly config: DataView;
  /** The counts of the reads since the last call. */
  takeReads(): number[];
}

/** Serves CAP_PM at 0x40, CAP_MSIX at 0x50; ECAP_AER at 0x100, ECAP_SRIOV at 0x200. */
async function serve({ minor = 2, most = 4096 }: ConfigBehaviour = {}): Promise<Served> {
  const bytes = new Uint8Array(4096);
  const config = new DataView(bytes.buffer);
  config.setUint16(0x06, 0x10, true);
  config.setUint8(0x34, 0x40);
  config.setUint16(0x40, 0x5001, true);
  config.setUint16(0x50, 0x0011, true);
  config.setUint32(0x100, 0x2001_0001, true);
  config.setUint32(0x200, 0x0001_0010, true);
  let reads: number[] = [];
  const [device, server] = await connectScripted((peer, request) => {
    const { command, payload } = request;
    switch (command) {
      case Command.VERSION:
        return peer.reply(
          request,
          encodeVersion({ major: 0, minor, capabilities: { writeMultiple: true } }),
        );
      case Command.DEVICE_GET_REGION_INFO: {
        const { index, argsz } = RegionInfoRequest.decode(payload);
        const size = index === 7 ? 4096n : 0n;
        const info = { index, flags: 3, size, offset: 0n, capabilities: [] };
        return peer.reply(request, encodeRegionInfo(info, argsz));
      }
      case Command.REGION_READ: {
        const { region, offset, count } = RegionReadRequest.decode(payload);
        reads.push(count);
        if (count > most) return peer.fail(request, EINVAL);
        const data = bytes.slice(Number(offset), Number(offset) + count);
        return peer.reply(request, RegionReadReply.encode({ region, offset, data }));
      }
      case Command.REGION_WRITE:
        return peer.reply(request, payload.slice(0, RegionAccessLayout.size));
      case Command.REGION_WRITE_MULTI:
        return peer.reply(request, payload.slice(0, 8));
      case Command.DEVICE_FEATURE: {
        const { flags, data } = DeviceFeatureRequest.decode(payload);
        return peer.reply(
          request,
          DeviceFeatureReply.encode({ argsz: 8 + data.length, flags, data }),
        );
      }
      default:
        return false;
    }
  });
  return {
    device,
    server,
    config,
    takeReads() {
      const taken = reads;
      reads = [];
      return taken;
    },
    [Symbol.dispose]() {
      device.close();
      server.close();
    },
  };
}

testFds("capability() takes a message for each list, and none after the first", async () => {
  using served = await serve();
  const { pci } = served.device;
  assertEquals(await pci.capability("CAP_MSIX"), 0x50);
  assertEquals(served.takeReads(), [256]);
  assertEquals(await pci.capability("CAP_PM"), 0x40);
  assertEquals(await pci.capability("CAP_EXP"), undefined);
  assertEquals(served.takeReads(), []);
  assertEquals(await pci.capability("ECAP_SRIOV"), 0x200);
  assertEquals(served.takeReads(), [3840]);
  assertEquals(await pci.capability("ECAP_AER"), 0x100);
  assertEquals(served.takeReads(), []);
});

testFds("capability() reads heads along the list where long reads are not taken", async () => {
  for (const [behaviour, refused] of [[{ minor: 0 }, []], [{ most: 4 }, [256]]] as const) {
    using served = await serve(behaviour);
    const { pci } = served.device;
    assertEquals(await pci.capability("CAP_MSIX"), 0x50);
    assertEquals(served.takeReads(), [...refused, 2, 1, 1, 2, 2]);
    assertEquals(await pci.capability("CAP_PM"), 0x40);
    assertEquals(served.takeReads(), []);
    assertEquals(await pci.capability("ECAP_SRIOV"), 0x200);
    assertEquals(served.takeReads(), [4, 4]);
  }
});

const CHANGES: Readonly<Record<string, (device: Device) => unknown>> = {
  "a write to configuration space": (device) => device.region("config").write16Async(4, 6),
  "a posted write": (device) => device.region("config").write8(0x3c, 6, { posted: true }),
  "a change of bits": (device) => device.region("config").modifyAsync(4, 2, 1, 1),
  "a write of bytes": (device) => device.region("config").writeAsync(0x60, new Uint8Array(4)),
  "pci.enable()": (device) => device.pci.enable(),
  "a reset": (device) => device.reset(),
  "a change of the device's migration state": (device) => device.migration.setState("RESUMING"),
  "a feature that is set": (device) => device.features.set(9, new Uint8Array(4)),
};

for (const [name, change] of Object.entries(CHANGES)) {
  for (const minor of [0, 2]) {
    testFds(`capability() reads its lists again after ${name}, version 0.${minor}`, async () => {
      using served = await serve({ minor });
      const { device: { pci }, config } = served;
      assertEquals(await pci.capability("CAP_MSIX"), 0x50);
      assertEquals(await pci.capability("ECAP_SRIOV"), 0x200);
      config.setUint16(0x40, 0x6001, true);
      config.setUint16(0x60, 0x0011, true);
      config.setUint32(0x100, 0x3001_0001, true);
      config.setUint32(0x300, 0x0001_0010, true);
      assertEquals(await pci.capability("CAP_MSIX"), 0x50);
      await change(served.device);
      assertEquals(await pci.capability("CAP_MSIX"), 0x60);
      assertEquals(await pci.capability("ECAP_SRIOV"), 0x300);
      served.takeReads();
      await pci.capability("CAP_MSIX");
      await pci.capability("ECAP_SRIOV");
      assertEquals(served.takeReads(), []);
    });
  }
}

testFds("capability() keeps no list that was being read during a write", async () => {
  for (const minor of [0, 2]) {
    using served = await serve({ minor });
    const { device, config } = served;
    await device.regionInfo(7);
    const early = device.pci.capability("CAP_MSIX");
    await until(() => served.takeReads().length > 0);
    const written = device.region("config").write32Async(0x60, 1);
    assertEquals(await early, 0x50);
    await written;
    config.setUint16(0x40, 0x6001, true);
    config.setUint16(0x60, 0x0011, true);
    assertEquals(await device.pci.capability("CAP_MSIX"), 0x60);
  }
});

const BLOCKING: Readonly<Record<string, (config: Region) => unknown>> = {
  "write16()": (config) => config.write16(4, 6),
  "modify()": (config) => config.modify(4, 2, 4, 4),
  "write()": (config) => config.write(0x3c, new Uint8Array(1)),
  "writeBatch()": (config) => config.writeBatch([{ offset: 0x3c, data: new Uint8Array(1) }]),
};

Deno.test("capability() reads its list again after writes that block", async () => {
  await using demo = await startDemo();
  let reads = 0;
  using device = await connect(demo.path, {
    trace: (direction, bytes) => {
      const { command } = HeaderLayout.decode(bytes);
      if (command === Command.REGION_READ && direction === "sent") reads++;
    },
  });
  const readsOf = async () => {
    const before = reads;
    assertEquals(await device.pci.capability("CAP_MSIX"), 0x50);
    return reads - before;
  };
  assertEquals(await readsOf(), 1);
  assertEquals(await readsOf(), 0);
  for (const [name, write] of Object.entries(BLOCKING)) {
    write(device.region("config"));
    assertEquals([await readsOf(), await readsOf()], [1, 0], name);
  }
});
