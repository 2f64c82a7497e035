/**
 * Checks of a client: descriptors for parts of regions (specification:
 * "VFIO_USER_DEVICE_GET_REGION_IO_FDS").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { cut, empty, put, refuse, withStray } from "../alter.ts";
import { type Act, clientGroup } from "../client_check.ts";
import { join, pack } from "../pack.ts";

const SECTION = "VFIO_USER_DEVICE_GET_REGION_IO_FDS";
const FDS = Command.DEVICE_GET_REGION_IO_FDS;

/** Answers one sub-region; `argsz` and count are those of one, too. */
const subRegion = (
  { offset = 0, size = 4, fdIndex = 0, type = 0 }: {
    offset?: number | bigint;
    size?: number | bigint;
    fdIndex?: number;
    type?: number;
  },
): Act =>
(answer, t) => {
  const part = pack("u64 u64 u32 u32 u32 u32 u64", offset, size, fdIndex, type, 0, 0, 0);
  answer.payload = join(answer.payload.slice(0, 16), part);
  put(answer, 0, answer.payload.length);
  put(answer, 12, 1);
  answer.fds = [t.stray()];
};

/** Descriptors for parts of regions. */
export const ioFds = clientGroup("io_fds", "Descriptors for parts of regions", [
  [1, "SHOULD", SECTION, "A refused question is survived.", "survives", FDS, refuse(22)],
  [2, "SHOULD", SECTION, "A refusal without an errno is survived.", "survives", FDS, refuse(0)],
  [3, "SHOULD", SECTION, "A reply that is cut is survived.", "survives", FDS, cut(4)],
  [4, "SHOULD", SECTION, "A reply without a payload is survived.", "survives", FDS, empty],
  [5, "SHOULD", SECTION, "Four billion parts are survived.", "survives", FDS, (a) => {
    put(a, 12, 0xffff_ffff);
  }],
  [6, "SHOULD", SECTION, "A demand for room that grows for ever is survived.", "survives", FDS, (
    a,
    { request },
  ) => {
    put(a, 0, new DataView(request.payload.slice(0, 4).buffer).getUint32(0, true) + 40);
  }, "each"],
  [
    7,
    "SHOULD",
    SECTION,
    "An index of no descriptor is survived.",
    "survives",
    FDS,
    subRegion({
      fdIndex: 9,
    }),
  ],
  [
    8,
    "SHOULD",
    SECTION,
    "A part outside the region is survived.",
    "survives",
    FDS,
    subRegion({
      offset: 0xffff_ffff_ffff_fff0n,
      size: 0x100,
    }),
  ],
  [
    9,
    "SHOULD",
    SECTION,
    "A part of no known type is survived.",
    "survives",
    FDS,
    subRegion({
      type: 77,
    }),
  ],
  [10, "SHOULD", SECTION, "A descriptor of no part is closed.", "survives", FDS, withStray],
]);
