/**
 * Every message of the protocol in one table: who sends it, and how its request and its reply are
 * coded.
 *
 * @module
 */

import {
  type DmaAccess,
  type DmaData,
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
  type RegionAccess,
  type RegionData,
  RegionReadReply,
  RegionReadRequest,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
  RegionWriteReply,
  RegionWriteRequest,
} from "./access.ts";
import type { Codec } from "./codec.ts";
import { Command, type CommandName } from "./command.ts";
import {
  DeviceInfoReply,
  DeviceInfoRequest,
  DeviceResetReply,
  DeviceResetRequest,
} from "./device.ts";
import {
  DmaMapReply,
  DmaMapRequest,
  type DmaUnmap,
  DmaUnmapReply,
  DmaUnmapRequest,
} from "./dma.ts";
import { type DeviceFeature, DeviceFeatureReply, DeviceFeatureRequest } from "./feature.ts";
import { RegionIoFdsReply, RegionIoFdsRequest } from "./io_fds.ts";
import { IrqInfoReply, IrqInfoRequest, SetIrqsReply, SetIrqsRequest } from "./irq.ts";
import {
  type MigData,
  MigDataReadReply,
  MigDataReadRequest,
  MigDataWriteReply,
  MigDataWriteRequest,
} from "./migration.ts";
import { RegionInfoReply, RegionInfoRequest } from "./region.ts";
import { Version } from "./version.ts";

/** The end of a connection that sends a request. */
export type Sender = "client" | "server";

/** A command: its request, its reply, and whose it is. */
export interface MessageCodecs<Q, P, S extends Sender = Sender> {
  /** Its name in {@linkcode Command}. */
  readonly name: CommandName;
  /** Its number. */
  readonly command: number;
  /** The end that sends the request. */
  readonly sender: S;
  /** The payload of the request. */
  readonly request: Codec<Q>;
  /** The payload of the reply, if it is not an error reply. */
  readonly reply: Codec<P>;
}

function message<Q, P, S extends Sender>(
  name: CommandName,
  sender: S,
  request: Codec<Q>,
  reply: Codec<P>,
): MessageCodecs<Q, P, S> {
  return { name, command: Command[name], sender, request, reply };
}

/**
 * The type of {@linkcode messages}: request and reply of each command, and who sends the request.
 * A message that is added here is asked for by the compiler wherever messages are dealt with.
 */
export interface Messages {
  /** Version and capabilities. */
  readonly VERSION: MessageCodecs<Version, Version, "client">;
  /** Gives memory. */
  readonly DMA_MAP: MessageCodecs<DmaMapRequest, void, "client">;
  /** Takes memory back. */
  readonly DMA_UNMAP: MessageCodecs<DmaUnmap, DmaUnmap, "client">;
  /** The device's flags, and the numbers of its regions and IRQ indexes. */
  readonly DEVICE_GET_INFO: MessageCodecs<DeviceInfoRequest, DeviceInfoReply, "client">;
  /** The flags, size and capabilities of a region. */
  readonly DEVICE_GET_REGION_INFO: MessageCodecs<RegionInfoRequest, RegionInfoReply, "client">;
  /** File descriptors in place of parts of a region. */
  readonly DEVICE_GET_REGION_IO_FDS: MessageCodecs<RegionIoFdsRequest, RegionIoFdsReply, "client">;
  /** The flags of an IRQ index, and the number of its vectors. */
  readonly DEVICE_GET_IRQ_INFO: MessageCodecs<IrqInfoRequest, IrqInfoReply, "client">;
  /** Sets up, masks or fires interrupts. */
  readonly DEVICE_SET_IRQS: MessageCodecs<SetIrqsRequest, void, "client">;
  /** Reads a region. */
  readonly REGION_READ: MessageCodecs<RegionAccess, RegionData, "client">;
  /** Writes a region. */
  readonly REGION_WRITE: MessageCodecs<RegionData, RegionAccess, "client">;
  /** Reads memory of the client. */
  readonly DMA_READ: MessageCodecs<DmaAccess, DmaData, "server">;
  /** Writes memory of the client. */
  readonly DMA_WRITE: MessageCodecs<DmaData, DmaAccess, "server">;
  /** Resets the device. */
  readonly DEVICE_RESET: MessageCodecs<void, void, "client">;
  /** Several small region writes. */
  readonly REGION_WRITE_MULTI: MessageCodecs<
    RegionWriteMultiRequest,
    RegionWriteMultiReply,
    "client"
  >;
  /** Gets, sets or probes a feature. */
  readonly DEVICE_FEATURE: MessageCodecs<DeviceFeature, DeviceFeature, "client">;
  /** Reads migration data. */
  readonly MIG_DATA_READ: MessageCodecs<MigDataReadRequest, MigData, "client">;
  /** Writes migration data. */
  readonly MIG_DATA_WRITE: MessageCodecs<MigData, void, "client">;
}

/** Commands of drafts that the specification has dropped: their numbers are reserved. */
export type DroppedCommand = "DIRTY_PAGES";

/** The commands whose requests one end sends. */
export type CommandOf<S extends Sender> = {
  [K in keyof Messages]: Messages[K] extends MessageCodecs<infer _Q, infer _P, S> ? K : never;
}[keyof Messages];

/**
 * The messages by name: all of {@linkcode Command} but DIRTY_PAGES, which the specification
 * dropped.
 *
 * @example
 * ```ts
 * import { messages } from "./messages.ts";
 *
 * const { request } = messages.REGION_READ;
 * const payload = request.encode({ offset: 0x1cn, region: 0, count: 4 });
 * console.assert(request.decode(payload).offset === 0x1cn);
 * ```
 */
export const messages: Messages = {
  VERSION: message("VERSION", "client", Version, Version),
  DMA_MAP: message("DMA_MAP", "client", DmaMapRequest, DmaMapReply),
  DMA_UNMAP: message("DMA_UNMAP", "client", DmaUnmapRequest, DmaUnmapReply),
  DEVICE_GET_INFO: message("DEVICE_GET_INFO", "client", DeviceInfoRequest, DeviceInfoReply),
  DEVICE_GET_REGION_INFO: message(
    "DEVICE_GET_REGION_INFO",
    "client",
    RegionInfoRequest,
    RegionInfoReply,
  ),
  DEVICE_GET_REGION_IO_FDS: message(
    "DEVICE_GET_REGION_IO_FDS",
    "client",
    RegionIoFdsRequest,
    RegionIoFdsReply,
  ),
  DEVICE_GET_IRQ_INFO: message("DEVICE_GET_IRQ_INFO", "client", IrqInfoRequest, IrqInfoReply),
  DEVICE_SET_IRQS: message("DEVICE_SET_IRQS", "client", SetIrqsRequest, SetIrqsReply),
  REGION_READ: message("REGION_READ", "client", RegionReadRequest, RegionReadReply),
  REGION_WRITE: message("REGION_WRITE", "client", RegionWriteRequest, RegionWriteReply),
  DMA_READ: message("DMA_READ", "server", DmaReadRequest, DmaReadReply),
  DMA_WRITE: message("DMA_WRITE", "server", DmaWriteRequest, DmaWriteReply),
  DEVICE_RESET: message("DEVICE_RESET", "client", DeviceResetRequest, DeviceResetReply),
  REGION_WRITE_MULTI: message(
    "REGION_WRITE_MULTI",
    "client",
    RegionWriteMultiRequest,
    RegionWriteMultiReply,
  ),
  DEVICE_FEATURE: message("DEVICE_FEATURE", "client", DeviceFeatureRequest, DeviceFeatureReply),
  MIG_DATA_READ: message("MIG_DATA_READ", "client", MigDataReadRequest, MigDataReadReply),
  MIG_DATA_WRITE: message("MIG_DATA_WRITE", "client", MigDataWriteRequest, MigDataWriteReply),
};

/** The same, which does not compile if a command that was not dropped has no message. */
const ALL: Readonly<Record<Exclude<CommandName, DroppedCommand>, MessageCodecs<unknown, unknown>>> =
  messages;

const BY_COMMAND: ReadonlyMap<number, MessageCodecs<unknown, unknown>> = new Map(
  Object.values(ALL).map((each) => [each.command, each]),
);

/** The message of a command number; undefined for one that the specification does not give. */
export function messageOf(command: number): MessageCodecs<unknown, unknown> | undefined {
  return BY_COMMAND.get(command);
}
