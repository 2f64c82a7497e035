/**
 * vfio-user for Deno: talk to an emulated PCI device in another process, or be one.
 *
 * `connect` gives the {@linkcode Device} behind a socket; {@linkcode Server} serves one, and
 * {@linkcode defineDevice} makes one. The wire format alone, without any system call, is in
 * `@vfu/vfu/wire`; decoding configuration space in `@vfu/vfu/pci`.
 *
 * @example A device is served and asked what it is
 * ```ts
 * import { connect, DemoDevice, Server } from "./mod.ts";
 *
 * const path = Deno.makeTempDirSync() + "/demo.sock";
 * using server = Server.listen(path, new DemoDevice());
 * using device = await connect(path);
 * const bar2 = await device.regionInfo(2);
 * console.assert(bar2.size === 0x10000n);
 * ```
 *
 * @module
 */

export { connect, type ConnectOptions } from "./lib/client/connect.ts";
export { PROTOCOL_VERSION } from "./lib/wire/version.ts";
export {
  type Address,
  type AddressBase,
  parseAddress,
  resolveAddress,
  type ResolvedAddress,
} from "./lib/client/address.ts";
export { type DmaEvent, type DmaHost, DmaSpace } from "./lib/client/dma.ts";
export { DmaMap, type DmaMapOptions, type DmaPermission } from "./lib/client/dma_map.ts";
export type { DmaSource } from "./lib/client/dma_memory.ts";
export {
  DirtyPages,
  DmaLogging,
  type DmaLoggingHost,
  type IovaRange,
  type LoggingOptions,
} from "./lib/client/dma_logging.ts";
export {
  DeviceFeatures,
  type FeatureOperation,
  type GetFeatureOptions,
} from "./lib/client/features.ts";
export { Migration, type MigrationHost } from "./lib/client/migration/migration.ts";
export type {
  AfterMigration,
  DeviceStateName,
  MigrationProgress,
  MigrationSupport,
  RestoreOptions,
  SaveOptions,
} from "./lib/client/migration/options.ts";
export { type IoFdKind, type RegionIoFd, RegionIoFds } from "./lib/client/io_fds.ts";
export { IrqIndex, type VectorRange } from "./lib/client/irq.ts";
export type { AsyncIrqWaitOptions, Interrupt, IrqWaitOptions } from "./lib/client/irq_vectors.ts";
export { type ConfigSpaceOptions, Device } from "./lib/client/device.ts";
export type {
  DeviceInfo,
  IrqId,
  IrqInfo,
  Negotiated,
  RegionId,
  RegionInfo,
  WaitOptions,
} from "./lib/client/info.ts";
export {
  ConnectionError,
  type ConnectionErrorKind,
  DecodeError,
  ProtocolError,
  type RegionAccess,
  RemoteError,
  type RequestInFlight,
  TimeoutError,
} from "./lib/base/errors.ts";
export { after, type Late } from "./lib/base/after.ts";
export type { ProxyState } from "./lib/transport/dispatcher.ts";
export type { IncomingRequest, RequestHandler } from "./lib/transport/incoming.ts";
export type { AsyncRequestOptions, RequestOptions } from "./lib/transport/pending.ts";
export { type ProxyOptions, VfioProxy } from "./lib/transport/proxy.ts";
export type { Role } from "./lib/transport/peer.ts";
export { type BarAddress, type EnableOptions, PciFunction } from "./lib/client/pci_function.ts";
export { Region } from "./lib/client/region.ts";
export type {
  AccessOptions,
  AsyncAccessOptions,
  AsyncPollOptions,
  BatchedWrite,
  BulkOptions,
  PollOptions,
  RegionHost,
  Via,
  WriteOptions,
} from "./lib/client/region_options.ts";
export type { Width } from "./lib/client/info.ts";
export type { Clue, Finding, Subject } from "./lib/client/diagnose/cause.ts";
export {
  diagnose,
  type DiagnoseOptions,
  dmaReasons,
  interruptReasons,
} from "./lib/client/diagnose/diagnose.ts";
export type { ExaminationOptions, HarmlessRead } from "./lib/client/diagnose/examination.ts";
export type { KnownOfRegion } from "./lib/client/refusal.ts";
export type { PeerProcess } from "./lib/transport/peer_process.ts";
export type { Trace } from "./lib/transport/message.ts";
export type { StreamLimits } from "./lib/transport/receiver.ts";
export { Message } from "./lib/transport/message.ts";
export { cap } from "./lib/define/capabilities.ts";
export { DefinitionError } from "./lib/define/mistakes.ts";
export type {
  BytesCapabilityOptions,
  CapabilityHooks,
  CapabilityMakers,
  CapabilityPlace,
  DeviceCapability,
  ExpressOptions,
  MsiOptions,
  MsixOptions,
  MsixPlace,
  PmOptions,
} from "./lib/define/capability.ts";
export type { BusState } from "./lib/define/bus_state.ts";
export type { DeviceDefinition, DeviceHost } from "./lib/define/definition.ts";
export { defineDevice } from "./lib/define/device.ts";
export type { DeviceContext, DeviceParts, DeviceRegions, DeviceSpec } from "./lib/define/spec.ts";
export type { InterruptSpec } from "./lib/define/index_interrupts.ts";
export type { InterruptPin, Interrupts, InterruptVector } from "./lib/define/interrupts.ts";
export {
  type DeviceOption,
  type DeviceOptions,
  option,
  type OptionBounds,
  type OptionDefault,
  type OptionDescription,
  type OptionMaker,
  type OptionMakers,
  type OptionValues,
} from "./lib/define/option.ts";
export type { PciSpec } from "./lib/define/pci.ts";
export type { PlainData } from "./lib/define/plain_data.ts";
export type { DevicePoll, DevicePollOptions, PollLook } from "./lib/define/polls.ts";
export type {
  BarKind,
  DeviceRegion,
  RegionName,
  RegionPart,
  RegionRange,
  RegionReview,
} from "./lib/define/device_region.ts";
export { type CallbackOptions, callbacks } from "./lib/define/callbacks.ts";
export {
  DeviceMemoryRegion,
  type MappableArea,
  memory,
  type MemoryOptions,
} from "./lib/define/memory.ts";
export { overlay, type OverlayPart } from "./lib/define/overlay.ts";
export type {
  InlineField,
  InlineRegister,
  InlineRegisterMap,
  RegisterSource,
} from "./lib/define/register_source.ts";
export type {
  CellOf,
  FieldValues,
  HooksOf,
  RegisterCell,
  RegisterCells,
  RegisterHooks,
  RegistersOf,
  RegisterValue,
} from "./lib/define/register_types.ts";
export { RegisterRegion, registers, type RegistersOptions } from "./lib/define/registers.ts";
export type { EarlierState, StateHooks, StateStream } from "./lib/define/state.ts";
export type { DeviceTimer, DeviceTimers } from "./lib/define/timers.ts";
export { type BarOptions, ConfigRegion } from "./lib/server/config.ts";
export type { DeviceDma, DmaAccessOptions, DmaRange, DmaWindow } from "./lib/server/device_dma.ts";
export {
  type AdoptableMemory,
  type DeviceBus,
  DeviceError,
  type DeviceIrqs,
  DmaError,
  type ErrorReport,
  type MigrationSink,
  type QuietReason,
  type ResetReason,
  type ServedAccess,
  type ServedDevice,
  type ServedIoFd,
  type ServedIrq,
  type ServedMigration,
  type ServedRegion,
  type ServedSuccession,
  type ShadowPlace,
} from "./lib/server/served_device.ts";
export type { DmaOptions } from "./lib/server/client_memory.ts";
export type {
  Fault,
  FaultEvent,
  FaultOptions,
  FaultRule,
  FaultTiming,
} from "./lib/server/faults.ts";
export { MemoryRegion } from "./lib/server/memory_region.ts";
export { type Lack, lacks } from "./lib/session/run/requirements.ts";
export type { Definitions, VariableFacts } from "./lib/session/file/definitions.ts";
export { EvaluationError, type Scope } from "./lib/session/expression.ts";
export { misfits } from "./lib/session/run/preflight.ts";
export {
  type BufferInput,
  type ConditionInput,
  type DataInput,
  type InteractiveOptions,
  InteractiveSession,
  type RawStep,
  type StepOptions,
  type ValueInput,
} from "./lib/session/run/interactive.ts";
export { type IrqAction, SessionInterrupts } from "./lib/session/run/interrupts.ts";
export { sessionJsonSchema } from "./lib/session/file/json_schema.ts";
export { type LiveOptions, LiveSession, type SingleStep } from "./lib/session/run/executor.ts";
export { loadSession, parseSession, type SessionOptions } from "./lib/session/file/load.ts";
export type { ParsedSession } from "./lib/session/file/parsed.ts";
export { SessionMemory } from "./lib/session/run/buffers.ts";
export type * from "./lib/session/model.ts";
export {
  type Outcome,
  type SeenValue,
  StepFailure,
  type StepResult,
  type StepStatus,
} from "./lib/session/run/step_result.ts";
export { type RunOptions, runSession, runSteps } from "./lib/session/run/runner.ts";
export { type ExtentOf, Variables } from "./lib/session/run/variables.ts";
export { loadRegisterMap } from "./lib/registers/load.ts";
export {
  type Register,
  REGISTER_ACCESS,
  type RegisterAccess,
  type RegisterArray,
  type RegisterField,
  type RegisterMap,
} from "./lib/registers/map.ts";
export { FileProblems, type Position, type Problem, problemText } from "./lib/yaml/problem.ts";
export { embed, type Embedded } from "./lib/server/embedded.ts";
export { wrapDevice, wrapRegion } from "./lib/server/wrap.ts";
export {
  type SectionForm,
  type StateForm,
  type StateIdentity,
  StateReader,
  StateWriter,
} from "./lib/server/state_stream.ts";
export { type Activity, Doing, doingName } from "./lib/server/activity.ts";
export type { RefusedRequest } from "./lib/server/refusals.ts";
export { Server, type ServerOptions } from "./lib/server/server.ts";
export type { Succession } from "./lib/server/succession.ts";
export type { ServerOffer } from "./lib/server/offer.ts";
export {
  DEMO_DEVICE_ID,
  DEMO_VECTORS,
  DEMO_VENDOR_ID,
  demoDevice,
  DemoRegister,
} from "./lib/devices/demo.ts";
export { DemoDevice } from "./lib/devices/demo_device.ts";
export { Command, commandName } from "./lib/wire/command.ts";
export { describeMessage, type DescribeOptions } from "./lib/wire/describe.ts";
export { DeviceFlags } from "./lib/wire/device.ts";
export {
  DeviceState,
  deviceStateName,
  Feature,
  featureName,
  MigrationFlags,
} from "./lib/wire/feature.ts";
export { IoFdType } from "./lib/wire/io_fds.ts";
export { IrqFlags, irqName, PciIrq } from "./lib/wire/irq.ts";
export {
  PciRegion,
  type RegionCapability,
  RegionFlags,
  regionName,
  type SparseArea,
  type SparseFdArea,
} from "./lib/wire/region.ts";
export type {
  Capabilities,
  JsonObject,
  JsonValue,
  MigrationCapability,
  TwinSocket,
} from "./lib/wire/version.ts";
export type {
  AcsCapability,
  AdvancedFeaturesCapability,
  AerCapability,
  AgpCapability,
  AriCapability,
  AspmStates,
  AtsCapability,
  Bar,
  BarCommon,
  Bist,
  BridgeHeader,
  BridgeWindow,
  Capability,
  CapabilityCommon,
  CapabilityFields,
  CapabilityKey,
  CapabilityLists,
  CapabilityName,
  CardbusHeader,
  ClassNames,
  ConfigSpace,
  ConfigSpaceNames,
  DebugPortCapability,
  DevselTiming,
  DpcCapability,
  DvsecCapability,
  EnhancedAllocationCapability,
  ExpressCapability,
  ExpressDevice,
  ExpressDevice2,
  ExpressLink,
  ExpressLink2,
  ExpressSlot,
  ExtendedFields,
  Flags,
  HyperTransportCapability,
  IoBar,
  L1PmCapability,
  ListedCapability,
  LspciDumpEntry,
  LspciDumpOptions,
  LtrCapability,
  MemoryBar,
  MsiCapability,
  MsixCapability,
  NamedCapability,
  NormalHeader,
  ParseConfigSpaceOptions,
  PasidCapability,
  PowerManagementCapability,
  PriCapability,
  PtmCapability,
  RegionSizes,
  RegisterHeader,
  RegisterName,
  ResizableBar,
  ResizableBarCapability,
  RomBar,
  SataCapability,
  SecondaryExpressCapability,
  SerialNumberCapability,
  SlotIdCapability,
  SriovCapability,
  StandardFields,
  Subsystem,
  SubsystemCapability,
  TphCapability,
  UnknownCapability,
  UnknownHeader,
  VendorCapability,
  VirtioStructure,
  VirtualChannelCapability,
  VpdCapability,
  VsecCapability,
} from "./lib/pci/mod.ts";
export {
  type FileAccess,
  type FileKind,
  type FileStat,
  type FileSystem,
  OwnedFd,
} from "./ffi/fd.ts";
export { EventFd } from "./ffi/event.ts";
export { SystemError } from "./ffi/errno.ts";
export { type SocketFile, UnixListener } from "./ffi/listener.ts";
export { UnixSocket } from "./ffi/socket.ts";
export { IoBuffer } from "./ffi/buffer.ts";
export { createMemfd, Mapping } from "./ffi/memory.ts";
