/**
 * Checks of a client: commands that a device sends (specification: "VFIO_USER_DMA_READ").
 *
 * @module
 */

import { Command } from "../../wire/command.ts";
import { MessageFlags } from "../../wire/header.ts";
import { clientGroup, type Scene } from "../client_check.ts";
import { Deviation } from "../deviation.ts";
import { pack } from "../pack.ts";

const SECTION = "VFIO_USER_DMA_READ";
const { DEVICE_GET_REGION_INFO: REGION, DMA_READ, DMA_WRITE } = Command;
/** An address that hardly any client maps. */
const NOWHERE = 0x7fff_dead_0000_0000n;

/** Sends a command, whose reply has to be one of an error. */
async function refused(t: Scene, command: number, payload: Uint8Array): Promise<void> {
  const { flags, text } = await t.ask(command, payload);
  if ((flags & MessageFlags.ERROR) === 0) throw new Deviation("an error reply", text);
}

/** Commands of the device. */
export const serverCommands = clientGroup("server_commands", "Commands of the device", [
  [
    1,
    "MUST",
    SECTION,
    "A read of memory that is not mapped is refused.",
    "goes on",
    REGION,
    (_, t) => refused(t, DMA_READ, pack("u64 u64", NOWHERE, 4)),
  ],
  [
    2,
    "MUST",
    "VFIO_USER_DMA_WRITE",
    "A write to memory that is not mapped is refused.",
    "goes on",
    REGION,
    (
      _,
      t,
    ) => refused(t, DMA_WRITE, pack("u64 u64 u32", NOWHERE, 4, 1)),
  ],
  [
    3,
    "MUST",
    SECTION,
    "A read of all addresses is refused.",
    "goes on",
    REGION,
    (_, t) => refused(t, DMA_READ, pack("u64 u64", 0, 0xffff_ffff_ffff_ffffn)),
  ],
  [
    4,
    "MUST",
    SECTION,
    "A read that wraps around the end of addresses is refused.",
    "goes on",
    REGION,
    (
      _,
      t,
    ) => refused(t, DMA_READ, pack("u64 u64", 0xffff_ffff_ffff_fffcn, 8)),
  ],
  [
    5,
    "SHOULD",
    "Header",
    "A command that is not known is refused.",
    "goes on",
    REGION,
    (_, t) => refused(t, 999, new Uint8Array()),
  ],
  [
    6,
    "SHOULD",
    "Header",
    "A command of a client is refused.",
    "goes on",
    REGION,
    (_, t) => refused(t, Command.DEVICE_RESET, new Uint8Array()),
  ],
]);
