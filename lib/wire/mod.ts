/**
 * The vfio-user protocol as bytes: messages become values and values messages, without any I/O.
 *
 * A message is a {@linkcode Header} and a payload. {@linkcode messages} has, for every command, the
 * codec of its request and of its reply; each is exported under its own name too. Decoding checks
 * everything that can be checked without knowing the device, and throws a `ProtocolError`. Data in
 * a decoded value are views of the bytes, not copies.
 *
 * @example
 * ```ts
 * import { Command, describeMessage, encodeMessage, HEADER_SIZE, RegionReadReply } from "./mod.ts";
 *
 * const message = encodeMessage(
 *   { messageId: 3, command: Command.REGION_READ, flags: 1 },
 *   RegionReadReply.encode({ offset: 0x1cn, region: 0, data: new Uint8Array([1, 0, 0, 0]) }),
 * );
 * const { data } = RegionReadReply.decode(message.subarray(HEADER_SIZE));
 * console.assert(data[0] === 1);
 * const line = describeMessage(message);
 * console.assert(line === "#3 REGION_READ reply bar0+0x1c 4 bytes: 01 00 00 00");
 * ```
 *
 * @module
 */

export { DecodeError, ProtocolError } from "../base/errors.ts";
export {
  decodeDmaWriteReply,
  type DmaAccess,
  type DmaData,
  DmaReadReply,
  DmaReadRequest,
  DmaWriteReply,
  DmaWriteRequest,
  type RegionAccess,
  RegionAccessLayout,
  type RegionData,
  RegionReadReply,
  RegionReadRequest,
  RegionWriteMultiReply,
  RegionWriteMultiRequest,
  RegionWriteReply,
  RegionWriteRequest,
  type SmallWrite,
} from "./access.ts";
export type { Codec, PayloadForm, PayloadTail, PayloadVariants } from "./codec.ts";
export { Command, type CommandName, commandName } from "./command.ts";
export { describeMessage, type DescribeOptions } from "./describe.ts";
export {
  DeviceFlags,
  DeviceInfoReply,
  DeviceInfoRequest,
  DeviceResetReply,
  DeviceResetRequest,
} from "./device.ts";
export {
  DmaMapFlags,
  DmaMapReply,
  DmaMapRequest,
  type DmaUnmap,
  DmaUnmapFlags,
  DmaUnmapReply,
  DmaUnmapRequest,
} from "./dma.ts";
export {
  type DeviceFeature,
  DeviceFeatureReply,
  DeviceFeatureRequest,
  DeviceState,
  DeviceStateData,
  deviceStateName,
  type DmaLoggingRange,
  DmaLoggingReportData,
  DmaLoggingStartData,
  Feature,
  FeatureFlags,
  featureName,
  MigrationData,
  MigrationFlags,
} from "./feature.ts";
export {
  commandHeader,
  encodeMessage,
  errorReplyHeader,
  type Header,
  HEADER_SIZE,
  HeaderLayout,
  MessageFlags,
  type MessageKey,
  replyHeader,
} from "./header.ts";
export {
  IoFdType,
  NO_IO_FD,
  RegionIoFdsReply,
  RegionIoFdsRequest,
  type SubRegion,
} from "./io_fds.ts";
export {
  IrqFlags,
  irqIndex,
  IrqInfoReply,
  IrqInfoRequest,
  irqName,
  IrqSetFlags,
  PciIrq,
  SetIrqsReply,
  SetIrqsRequest,
} from "./irq.ts";
export {
  type Field,
  type FieldTable,
  type FlagTable,
  type Layout,
  layout,
  type LayoutValues,
  type StructForm,
  u16,
  u32,
  u64,
  u8,
} from "./layout.ts";
export {
  type CommandOf,
  type DroppedCommand,
  type MessageCodecs,
  messageOf,
  type Messages,
  messages,
  type Sender,
} from "./messages.ts";
export {
  type MigData,
  MigDataReadReply,
  MigDataReadRequest,
  MigDataWriteReply,
  MigDataWriteRequest,
} from "./migration.ts";
export {
  encodeRegionInfo,
  parseRegionCapabilities,
  PciRegion,
  type RegionCapability,
  RegionCapabilityId,
  RegionFlags,
  regionIndex,
  RegionInfoReply,
  RegionInfoRequest,
  regionInfoSize,
  regionName,
  type SparseArea,
  type SparseFdArea,
} from "./region.ts";
export {
  type Capabilities,
  decodeVersion,
  encodeVersion,
  type JsonObject,
  type JsonValue,
  limitsOf,
  type MigrationCapability,
  type PeerLimits,
  type TwinSocket,
  Version,
} from "./version.ts";
