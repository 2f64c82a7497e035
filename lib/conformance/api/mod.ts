/**
 * Conformance: which rules of the specification a server, or a client, keeps. Checks are data, with
 * a small function each; a program may bring its own.
 *
 * @example
 * ```ts
 * import { checkServer, group, read } from "./mod.ts";
 * import { DemoDevice, Server } from "../../../mod.ts";
 *
 * const mine = group("mine", "My device", [
 *   [1, "MUST", "My manual", "The device says who it is.", async (t) => {
 *     const reply = await t.accepts(read(0, 0, 4));
 *     t.expect(reply.payload[16] === 0x76, "the ID register", reply);
 *   }],
 * ]);
 * const path = `${Deno.makeTempDirSync()}/demo.sock`;
 * using _server = Server.listen(path, new DemoDevice());
 * for await (const { verdict } of checkServer({ path, groups: [mine] })) {
 *   console.assert(verdict === "passed");
 * }
 * ```
 *
 * @module
 */

export {
  checkClient,
  type CheckClientOptions,
  checkServer,
  type CheckServerOptions,
  type ConformanceOptions,
} from "./conformance.ts";
export {
  type Check,
  type CheckGroup,
  type CheckRow,
  type CheckTraits,
  group,
  type Level,
  type Rule,
  type RuleGroup,
} from "../check.ts";
export { SERVER_CHECKS, SERVER_GROUPS } from "../server/groups.ts";
export {
  type Act,
  type Answer,
  ANY,
  type AskOptions,
  type ClientCheck,
  type ClientGroup,
  clientGroup,
  type ClientRow,
  type Demand,
  type Scene,
} from "../client_check.ts";
export type { ClientMap, ClientVector } from "../client_state.ts";
export { CLIENT_CHECKS, CLIENT_GROUPS } from "../client/groups.ts";
export { type Copied, copy, type CopyEnd, firstAsked } from "../copy.ts";
export type { Copying, CopySession } from "../copying.ts";
export {
  ConnectionEnded,
  Deviation,
  NoCopy,
  NotApplicable,
  NotRefused,
  Silence,
} from "../deviation.ts";
export type { Facts, FoundIrq, FoundRegion } from "../facts.ts";
export { join, pack, u32At, u64At } from "../pack.ts";
export {
  type CameMessage,
  type Note,
  type PeerRole,
  RawPeer,
  type RawPeerOptions,
} from "../raw_peer.ts";
export type { CheckResult, Usable, Verdict } from "../run.ts";
export type { ClientProcess } from "../run_client.ts";
export { type ServerEnd, Unreachable } from "../target.ts";
export {
  type Ask,
  deviceInfo,
  dmaMap,
  dmaUnmap,
  feature,
  ioFds,
  irqInfo,
  migRead,
  migWrite,
  read,
  regionInfo,
  reset,
  setIrqs,
  write,
  writeMulti,
} from "../requests.ts";
export type { DmaAsked } from "../served_memory.ts";
export { Trial, type TrialOptions } from "../trial.ts";
export type { EventFd } from "../../../ffi/event.ts";
export type { FileAccess, FileKind, FileStat, FileSystem, OwnedFd } from "../../../ffi/fd.ts";
export type { IoBuffer } from "../../../ffi/buffer.ts";
export type { UnixSocket } from "../../../ffi/socket.ts";
export type { Header } from "../../wire/header.ts";
