/**
 * Checks of a client: replies to maps and unmaps (specification: "VFIO_USER_DMA_MAP").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { cut, empty, hangUp, late, longer, put, refuse, swapped, withStray } from "../alter.ts";
import { clientGroup } from "../client_check.ts";
import { u32At } from "../pack.ts";

const SECTION = "VFIO_USER_DMA_MAP";
const UNMAP_SECTION = "VFIO_USER_DMA_UNMAP";
const { DMA_MAP: MAP, DMA_UNMAP: UNMAP } = Command;
const [EINVAL, ENOSPC] = [22, 28];

/** Replies to maps and unmaps. */
export const dma = clientGroup("dma", "Memory for the device", [
  [1, "MUST", SECTION, "A late reply to a map is taken.", "goes on", MAP, late],
  [2, "MUST", SECTION, "A refused map is survived.", "survives", MAP, refuse(EINVAL)],
  [
    3,
    "MUST",
    SECTION,
    "A map for which there is no room is survived.",
    "survives",
    MAP,
    refuse(ENOSPC),
  ],
  [4, "MUST", SECTION, "A refused map without an errno is survived.", "survives", MAP, refuse(0)],
  [5, "MUST", SECTION, "Each map may be refused.", "survives", MAP, refuse(EINVAL), "each"],
  [
    6,
    "SHOULD",
    SECTION,
    "A reply to a map with a payload is survived.",
    "survives",
    MAP,
    longer(32),
  ],
  [7, "SHOULD", SECTION, "A descriptor with the reply is closed.", "survives", MAP, withStray],
  [8, "MUST", SECTION, "A reply to a map that never comes is given up.", "gives up", MAP, hangUp],
  [9, "SHOULD", SECTION, "Replies to two maps may change places.", "goes on", MAP, swapped],
  [20, "MUST", UNMAP_SECTION, "A late reply to an unmap is taken.", "goes on", UNMAP, late],
  [21, "MUST", UNMAP_SECTION, "A refused unmap is survived.", "survives", UNMAP, refuse(EINVAL)],
  [
    22,
    "MUST",
    UNMAP_SECTION,
    "A refusal without an errno is survived.",
    "survives",
    UNMAP,
    refuse(0),
  ],
  [23, "SHOULD", UNMAP_SECTION, "A reply without the range is survived.", "survives", UNMAP, empty],
  [24, "SHOULD", UNMAP_SECTION, "A reply that is cut is survived.", "survives", UNMAP, cut(4)],
  [
    25,
    "SHOULD",
    UNMAP_SECTION,
    "A reply with another range is survived.",
    "survives",
    UNMAP,
    (a) => {
      put(a, 8, u32At(a.payload, 8) ^ 0x1000);
    },
  ],
  [
    26,
    "SHOULD",
    UNMAP_SECTION,
    "A reply with a payload too long is survived.",
    "survives",
    UNMAP,
    longer(64),
  ],
  [
    27,
    "SHOULD",
    UNMAP_SECTION,
    "A descriptor with the reply is closed.",
    "survives",
    UNMAP,
    withStray,
  ],
  [
    28,
    "SHOULD",
    UNMAP_SECTION,
    "Replies to two unmaps may change places.",
    "goes on",
    UNMAP,
    swapped,
  ],
]);
