/**
 * Checks of a client: what a device is, its regions and interrupts (specification:
 * "VFIO_USER_DEVICE_GET_INFO", "VFIO_USER_DEVICE_GET_REGION_INFO").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { cut, put, refuse } from "../alter.ts";
import { type Answer, clientGroup, type Scene } from "../client_check.ts";
import { regionPayload, SHARED_SIZE, SPARSE_AREAS, sparseChain } from "../model_device.ts";
import { join, pack, u32At } from "../pack.ts";

const DEVICE = "VFIO_USER_DEVICE_GET_INFO";
const SECTION = "VFIO_USER_DEVICE_GET_REGION_INFO";
const { DEVICE_GET_INFO: INFO, DEVICE_GET_REGION_INFO: REGION } = Command;
const IRQ = Command.DEVICE_GET_IRQ_INFO;

/** Information of the device. */
export const info = clientGroup("info", "Device, regions and interrupts", [
  [1, "MUST", DEVICE, "Device information that is cut is rejected.", "gives up", INFO, cut(4)],
  [2, "MUST", DEVICE, "Empty device information is rejected.", "gives up", INFO, (a) => {
    a.payload = new Uint8Array();
  }],
  [3, "MUST", DEVICE, "A refusal of device information is reported.", "gives up", INFO, refuse(5)],
  [4, "MUST", DEVICE, "An error reply with errno 0 is an error.", "gives up", INFO, refuse(0)],
  [
    5,
    "MUST",
    DEVICE,
    "An errno that Linux does not know is survived.",
    "survives",
    INFO,
    refuse(
      0x7fff_ffff,
    ),
  ],
  [
    6,
    "SHOULD",
    DEVICE,
    "Device information with 4 billion regions is survived.",
    "survives",
    INFO,
    (
      a,
    ) => put(a, 8, 0xffff_ffff),
  ],
  [
    7,
    "SHOULD",
    DEVICE,
    "Device information with 4 billion interrupts is survived.",
    "survives",
    INFO,
    (
      a,
    ) => put(a, 12, 0xffff_ffff),
  ],
  [8, "MUST", DEVICE, "Flags that are not known are ignored.", "goes on", INFO, (a) => {
    put(a, 4, u32At(a.payload, 4) | 0x4000_0000);
  }],
  [9, "MUST", SECTION, "Region information that is cut is rejected.", "gives up", REGION, cut(4)],
  [10, "SHOULD", SECTION, "A capability chain that is a circle is survived.", "survives", REGION, (
    a,
  ) => {
    a.payload = join(a.payload.slice(0, 32), pack("u16 u16 u32", 3, 1, 32));
    put(a, 0, 40);
    put(a, 4, u32At(a.payload, 4) | 8);
    put(a, 12, 32);
  }, "each"],
  [
    11,
    "SHOULD",
    SECTION,
    "A capability behind the end of the reply is survived.",
    "survives",
    REGION,
    (
      a,
    ) => {
      put(a, 4, u32At(a.payload, 4) | 8);
      put(a, 12, 0xffff_fff0);
    },
    "each",
  ],
  [12, "SHOULD", SECTION, "A demand for 4 GiB of capabilities is survived.", "survives", REGION, (
    a,
  ) => put(a, 0, 0xffff_ffff), "each"],
  [
    13,
    "SHOULD",
    SECTION,
    "A descriptor of a region without mapping is closed.",
    "survives",
    REGION,
    (
      a,
      t,
    ) => {
      if (a.fds.length === 0) a.fds = [t.stray()];
    },
  ],
  [14, "SHOULD", DEVICE, "A descriptor with device information is closed.", "survives", INFO, (
    a,
    t,
  ) => {
    a.fds = [t.stray()];
  }],
  [15, "SHOULD", DEVICE, "Each of eight stray descriptors is closed.", "survives", INFO, (a, t) => {
    a.fds = Array.from({ length: 8 }, () => t.stray());
  }],
  [
    16,
    "MUST",
    "VFIO_USER_DEVICE_GET_IRQ_INFO",
    "Interrupt information that is cut is rejected.",
    "gives up",
    IRQ,
    cut(4),
  ],
  [
    17,
    "SHOULD",
    "VFIO_USER_DEVICE_GET_IRQ_INFO",
    "An index with 4 billion interrupts is survived.",
    "survives",
    IRQ,
    (
      a,
    ) => put(a, 12, 0xffff_ffff),
    "each",
  ],
  [18, "SHOULD", SECTION, "A reply larger than its room is survived.", "survives", REGION, (a) => {
    if (a.fds.length > 0) return;
    a.payload = join(a.payload, new Uint8Array(8));
  }],
  [19, "MUST", SECTION, "Information of another region is rejected.", "gives up", REGION, (a) => {
    put(a, 8, u32At(a.payload, 8) ^ 1);
  }],
  [
    20,
    "SHOULD",
    SECTION,
    "A mapping without a descriptor is survived.",
    "survives",
    REGION,
    (a) => {
      put(a, 4, u32At(a.payload, 4) | 4);
      a.fds = [];
    },
    "each",
  ],
  [21, "SHOULD", SECTION, "A region of 2^64 bytes is survived.", "survives", REGION, (a) => {
    a.payload.fill(0xff, 16, 24);
  }, "each"],
  [
    22,
    "SHOULD",
    SECTION,
    "A demand for room that grows for ever is survived.",
    "survives",
    REGION,
    (
      a,
      { request },
    ) => put(a, 0, Math.max(32, u32At(request.payload, 0)) + 32),
    "each",
  ],
  [23, "SHOULD", SECTION, "Four billion sparse areas are survived.", "survives", REGION, (a) => {
    if (a.payload.length > 40) put(a, 40, 0xffff_ffff);
  }, "each"],
  [
    24,
    "SHOULD",
    SECTION,
    "A sparse area outside the region is survived.",
    "survives",
    REGION,
    (a) => {
      if (a.payload.length > 48) a.payload.fill(0xf0, 48, 64);
    },
    "each",
  ],
  [25, "MUST", SECTION, "A capability that is not known is skipped.", "goes on", REGION, (a, t) => {
    chained(a, t, join(pack("u16 u16 u32 u64", 0x7777, 1, 48, 0), sparseChain(SPARSE_AREAS)));
  }, "each"],
  [
    26,
    "MUST",
    SECTION,
    "A capability behind the sparse one is skipped.",
    "goes on",
    REGION,
    (a, t) => {
      const sparse = sparseChain(SPARSE_AREAS);
      sparse.set(pack("u32", 32 + sparse.length), 4);
      chained(a, t, join(sparse, pack("u16 u16 u32 u64", 0x7777, 1, 0, 0)));
    },
    "each",
  ],
  [27, "MUST", SECTION, "Room between capabilities is skipped.", "goes on", REGION, (a, t) => {
    chained(
      a,
      t,
      join(pack("u16 u16 u32 u64 u64 u64", 0x7777, 1, 64, 0, 0, 0), sparseChain(SPARSE_AREAS)),
    );
  }, "each"],
  [28, "MUST", SECTION, "Sparse areas may come in any order.", "goes on", REGION, (a, t) => {
    chained(a, t, sparseChain(SPARSE_AREAS.toReversed()));
  }, "each"],
  [29, "SHOULD", SECTION, "A list of no sparse area is survived.", "survives", REGION, (a, t) => {
    chained(a, t, sparseChain([]));
  }, "each"],
  [30, "MUST", SECTION, "One area may be the whole region.", "goes on", REGION, (a, t) => {
    chained(a, t, sparseChain([[0, SHARED_SIZE]]));
  }, "each"],
  [
    31,
    "MUST",
    SECTION,
    "Without areas the whole region can be mapped.",
    "goes on",
    REGION,
    (a, t) => {
      chained(a, t, new Uint8Array());
    },
    "each",
  ],
  [32, "SHOULD", SECTION, "An area of no byte is survived.", "survives", REGION, (a, t) => {
    chained(a, t, sparseChain([[0x1000, 0], [0x2000, 0x1000]]));
  }, "each"],
  [33, "SHOULD", SECTION, "Areas that overlap are survived.", "survives", REGION, (a, t) => {
    chained(a, t, sparseChain([[0, 0x3000], [0x1000, 0x3000]]));
  }, "each"],
  [
    34,
    "SHOULD",
    SECTION,
    "An area that is no whole page is survived.",
    "survives",
    REGION,
    (a, t) => {
      chained(a, t, sparseChain([[0x10, 0x100]]));
    },
    "each",
  ],
  [
    35,
    "SHOULD",
    SECTION,
    "An area behind the end of its file is survived.",
    "survives",
    REGION,
    (a, t) => {
      if (a.fds.length > 0) a.fds = [t.memory(4096)];
    },
    "each",
  ],
  [
    36,
    "SHOULD",
    SECTION,
    "An offset in the file near 2^64 is survived.",
    "survives",
    REGION,
    (a) => {
      if (a.fds.length > 0) a.payload.fill(0xff, 25, 32);
    },
    "each",
  ],
  [
    37,
    "SHOULD",
    SECTION,
    "A socket in place of memory is survived.",
    "survives",
    REGION,
    (a, t) => {
      if (a.fds.length > 0) a.fds = [t.kept()];
    },
    "each",
  ],
  [
    38,
    "SHOULD",
    SECTION,
    "A second descriptor for a region is closed.",
    "survives",
    REGION,
    (a, t) => {
      if (a.fds.length > 0) a.fds = [...a.fds, t.stray()];
    },
    "each",
  ],
  [39, "SHOULD", SECTION, "A region that can't be read is survived.", "survives", REGION, (a) => {
    put(a, 4, u32At(a.payload, 4) & ~1);
  }, "each"],
  [40, "SHOULD", SECTION, "Regions of no byte are survived.", "survives", REGION, (a) => {
    a.payload.fill(0, 16, 24);
  }, "each"],
  [
    41,
    "SHOULD",
    SECTION,
    "A refusal of each region is survived.",
    "survives",
    REGION,
    refuse(22),
    "each",
  ],
  [
    42,
    "MUST",
    DEVICE,
    "More regions than are known are legal.",
    "goes on",
    INFO,
    (a) => put(a, 8, 40),
  ],
  [43, "MUST", DEVICE, "More IRQ indexes than are known are legal.", "goes on", INFO, (a) => {
    put(a, 12, 20);
  }],
  [44, "SHOULD", DEVICE, "Information larger than its room is survived.", "survives", INFO, (a) => {
    a.payload = join(a.payload, new Uint8Array(16));
    put(a, 0, 32);
  }],
  [
    45,
    "SHOULD",
    DEVICE,
    "A device without regions is survived.",
    "survives",
    INFO,
    (a) => put(a, 8, 0),
  ],
  [46, "SHOULD", DEVICE, "A device without interrupts is survived.", "survives", INFO, (a) => {
    put(a, 12, 0);
  }],
  [47, "SHOULD", DEVICE, "A device that is no PCI device is survived.", "survives", INFO, (a) => {
    put(a, 4, 1);
  }],
]);

/** Gives the shared region another capability chain; other regions stay as they are. */
function chained(answer: Answer, { request }: Scene, chain: Uint8Array): void {
  if (answer.fds.length === 0) return;
  const [index, flags] = [u32At(answer.payload, 8), u32At(answer.payload, 4) & ~8];
  answer.payload = regionPayload(u32At(request.payload, 0), {
    index,
    flags,
    size: SHARED_SIZE,
    chain,
  });
}
