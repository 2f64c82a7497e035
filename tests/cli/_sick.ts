/**
 * A PCI device in good health, as messages, and what makes it sick.
 */

import {
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  FeatureFlags,
} from "../../lib/wire/feature.ts";
import { DeviceStateData, Feature } from "../../lib/wire/feature.ts";
import { Command } from "../../lib/wire/command.ts";
import { RegionReadRequest, RegionWriteReply, RegionWriteRequest } from "../../lib/wire/access.ts";
import { IrqFlags, IrqInfoReply } from "../../lib/wire/irq.ts";
import { RegionFlags, type RegionInfoReply } from "../../lib/wire/region.ts";
import { RegionInfoReply as RegionInfoCodec } from "../../lib/wire/region.ts";
import { encodeVersion } from "../../lib/wire/version.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { type Answer, indexOf, serveOddly } from "./_server.ts";
import { replyRead } from "./_registers.ts";

const TABLE = 0x800;
const PBA = 0xc00;

/** The parts of a device that a fault changes. */
export class Patient {
  readonly config = new DataView(new ArrayBuffer(256));
  readonly bar0 = new DataView(new ArrayBuffer(0x1000));
  /** Flags of bar0. */
  flags: number = RegionFlags.READ | RegionFlags.WRITE;
  /** Flags and vectors of INTx, MSI and MSI-X, or the errno in place of them. */
  irqs: { flags: number; count: number; refusal?: number }[] = [
    { flags: IrqFlags.EVENTFD | IrqFlags.AUTOMASKED | IrqFlags.MASKABLE, count: 1 },
    { flags: IrqFlags.EVENTFD, count: 4 },
    { flags: IrqFlags.EVENTFD | IrqFlags.NORESIZE, count: 4 },
  ];
  /** The protocol's minor version. */
  minor = 1;
  /** The state of the migration. */
  state: number = DeviceState.RUNNING;
  /** The error number with which accesses of bar0 outside the MSI-X table are refused. */
  refusal = 0;
  /** The file of bar0. */
  file: OwnedFd | undefined;

  /** A device that is enabled, with MSI-X on and no vector masked. */
  constructor() {
    const { config } = this;
    config.setUint32(0x00, 0x0de5_1234, true);
    config.setUint32(0x04, 0x0010_0006, true); // bus master, memory; a list of capabilities
    config.setUint32(0x10, 0xfebf_0000, true);
    config.setUint8(0x34, 0x40);
    config.setUint8(0x3d, 1);
    config.setUint16(0x40, 0x5001, true); // Power Management
    config.setUint16(0x50, 0x6011, true); // MSI-X
    config.setUint16(0x52, 0x8003, true);
    config.setUint32(0x54, TABLE, true);
    config.setUint32(0x58, PBA, true);
    config.setUint16(0x60, 0x0005, true); // MSI with masks, 4 vectors
    config.setUint16(0x62, 0x0184, true);
  }

  /** Has MSI take the place of MSI-X. */
  useMsi(control = 0x0185): void {
    this.config.setUint16(0x52, 0x0003, true);
    this.config.setUint16(0x62, control, true);
  }

  /** Has INTx be what is left. */
  useIntx(): void {
    this.config.setUint16(0x50, 0x6001, true); // no capability of interrupts
    this.config.setUint16(0x60, 0x0001, true);
  }

  /** Serves it at a path. */
  serve(path: string): Disposable {
    return serveOddly(path, this.#answer);
  }

  readonly #answer: Answer = (request) => {
    switch (request.command) {
      case Command.VERSION:
        return request.reply(encodeVersion({ major: 0, minor: this.minor, capabilities: {} }));
      case Command.DEVICE_FEATURE: {
        const { flags, data: given } = DeviceFeatureRequest.decode(request.payload);
        if ((flags & 0xffff) !== Feature.MIG_DEVICE_STATE) return request.fail(95);
        if ((flags & FeatureFlags.SET) !== 0) this.state = DeviceStateData.decode(given).state;
        const data = DeviceStateData.encode({ state: this.state, dataFd: 0 });
        return request.reply(
          DeviceFeatureReply.encode({ argsz: 8 + data.length, flags, data }),
        );
      }
      case Command.DEVICE_GET_REGION_INFO: {
        const index = indexOf(request);
        const size = index === 0 ? 0x1000n : index === 7 ? 256n : 0n;
        const flags = index === 0 ? this.flags : size > 0n ? 3 : 0;
        const info: RegionInfoReply = {
          argsz: 32,
          flags,
          index,
          size,
          offset: 0n,
          capabilities: [],
        };
        const fds = index === 0 && this.file !== undefined ? [this.file] : [];
        return request.reply(RegionInfoCodec.encode(info), undefined, fds);
      }
      case Command.DEVICE_GET_IRQ_INFO: {
        const index = indexOf(request);
        const { flags, count, refusal } = this.irqs[index] ?? { flags: 0, count: 0 };
        if (refusal !== undefined) return request.fail(refusal);
        return request.reply(IrqInfoReply.encode({ argsz: 16, flags, index, count }));
      }
      case Command.REGION_READ: {
        const { region, offset, count } = RegionReadRequest.decode(request.payload);
        const at = Number(offset);
        const isMsix = at >= TABLE && at < PBA + 8;
        if (region === 0 && !isMsix && this.refusal !== 0) return request.fail(this.refusal);
        const { buffer } = region === 0 ? this.bar0 : this.config;
        return replyRead(request, new Uint8Array(buffer, at, count));
      }
      case Command.REGION_WRITE: {
        const { region, offset, data } = RegionWriteRequest.decode(request.payload);
        const { buffer } = region === 0 ? this.bar0 : this.config;
        new Uint8Array(buffer).set(data, Number(offset));
        const done = { offset, region, count: data.length };
        return request.reply(RegionWriteReply.encode(done));
      }
      case Command.DEVICE_RESET:
        return request.reply(new Uint8Array());
      default:
        return "default";
    }
  };
}

/** A fault that `vfu doctor` has a name for. */
export type Sickness = (patient: Patient) => void;

/** Each cause of a device, and devices that have it and no other. */
export const SICK: Readonly<Record<string, readonly Sickness[]>> = {
  stopped: ["STOP", "STOP_COPY", "RESUMING", "ERROR"].map((state) => (patient: Patient) => {
    patient.state = DeviceState[state as keyof typeof DeviceState];
  }),
  gone: [({ config }) => new Uint8Array(config.buffer).fill(0xff)],
  "older-protocol": [(patient) => patient.minor = 0],
  "bar-unassigned": [
    ({ config }) => config.setUint32(0x10, 0, true),
    ({ config }) => config.setUint32(0x10, 0xffff_f000, true), // after a size probe
  ],
  "memory-off": [({ config }) => config.setUint16(0x04, 0x0004, true)],
  "io-off": [({ config }) => config.setUint32(0x10, 0xc001, true)],
  "no-access": [(patient) => patient.flags = 0],
  "flags-disagree": [
    (patient) => patient.flags = RegionFlags.WRITE,
    (patient) => patient.refusal = 22,
  ],
  "no-map": [(patient) => patient.flags |= RegionFlags.MMAP],
  "intx-disabled": [(patient) => {
    patient.useIntx();
    patient.config.setUint16(0x04, 0x0406, true);
  }],
  "no-pin": [(patient) => {
    patient.useIntx();
    patient.config.setUint8(0x3d, 0);
  }],
  "intx-asserted": [(patient) => {
    patient.useIntx();
    patient.config.setUint16(0x06, 0x0018, true);
  }],
  "msix-off": [({ config }) => {
    config.setUint16(0x52, 0x0003, true);
    config.setUint16(0x60, 0x0001, true); // nor is there MSI
  }],
  "msix-masked": [({ config }) => config.setUint16(0x52, 0xc003, true)],
  "msix-vector-masked": [({ bar0 }) => bar0.setUint32(TABLE + 2 * 16 + 12, 1, true)],
  "msix-pending": [({ bar0 }) => bar0.setUint32(PBA, 8, true)],
  "msix-outside": [
    ({ config }) => config.setUint32(0x54, 0xfd0, true), // 3 of 4 entries are inside
    ({ config }) => config.setUint32(0x58, 0x1000, true),
    ({ config }) => config.setUint32(0x58, PBA | 3, true), // there is no bar3
    ({ config }) => config.setUint32(0x54, TABLE | 7, true),
  ],
  "msi-off": [(patient) => {
    patient.useMsi(0x0184);
    patient.config.setUint16(0x50, 0x6001, true);
  }],
  "msi-vector-masked": [(patient) => {
    patient.useMsi();
    patient.config.setUint32(0x70, 2, true);
  }],
  "msi-pending": [(patient) => {
    patient.useMsi();
    patient.config.setUint32(0x74, 1, true);
  }],
  "msix-count": [
    (patient) => patient.irqs[2]!.count = 3,
    (patient) => patient.irqs[2]!.count = 0,
    (patient) => patient.irqs[2]!.refusal = 5,
  ],
  "msi-count": [
    (patient) => patient.irqs[1]!.count = 1,
    (patient) => patient.irqs[1]!.refusal = 22,
  ],
  "no-eventfd": [(patient) => patient.irqs[2]!.flags = IrqFlags.NORESIZE],
  "bus-master-off": [({ config }) => config.setUint16(0x04, 0x0002, true)],
  asleep: [({ config }) => config.setUint16(0x44, 3, true)],
};
