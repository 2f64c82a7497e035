/**
 * Reports of a server while it serves: lines for people, or an object of JSON a line.
 *
 * @module
 */

import type { FaultEvent } from "../../lib/server/faults.ts";
import { errnoName } from "../../lib/text/errno.ts";
import type { RefusedRequest } from "../../lib/server/refusals.ts";
import type { UnmodelledReport } from "../../lib/define/unmodelled.ts";
import type { Succession } from "../../lib/server/succession.ts";
import { DeviceError } from "../../lib/server/served_device.ts";
import { thrownText } from "../../lib/base/thrown.ts";
import { commandName } from "../../lib/wire/command.ts";
import type { Context, Output } from "../shared/context.ts";
import { type PeerProcess, peerProcessText } from "../../lib/transport/peer_process.ts";
import { printable } from "../shared/printable.ts";
import { blame, causes, ModuleError, type Place, placeText } from "./blame.ts";
import { type DeviceJson, deviceLines } from "./describe.ts";
import { faultText } from "./fault.ts";
import { eventLine, type HoldJson, holdText, type LostJson, lostText } from "./guard_lines.ts";
import type { Style } from "../shared/style.ts";
import { qemuLines } from "./qemu.ts";
import { type UnmodelledJson, unmodelledJson, unmodelledLines } from "./unmodelled.ts";

/** A device that is served, and where. */
export interface ServedJson extends DeviceJson {
  /** Its name. */
  device: string;
  /** The path at which it listens; null on a descriptor. */
  socket: string | null;
  /** The descriptor that it is served on; null if it listens. */
  fd: number | null;
  /** The faults on purpose. */
  faults: string[];
}

/** The object that `vfu serve --json` writes on each line. */
export type ServeJson =
  /** All of them listen. `seed` repeats the faults, if there are any. */
  | { event: "ready"; devices: ServedJson[]; seed?: number }
  | { event: "connect"; device: string; client: PeerProcess | null }
  /** `reason` is null if the client just left. */
  | { event: "disconnect"; device: string; reason: string | null }
  /** The device does not take the state that a client restores, and keeps its own. */
  | { event: "refused"; device: string; message: string }
  /** A hook threw what is no `DeviceError`. */
  | {
    event: "error";
    device: string;
    doing: string;
    message: string;
    /** The place in the device's own files; null if it is in none. */
    place: Place | null;
    /** Mistakes, a line each, then the stack without the frames of vfu. */
    stack: string[];
  }
  /** `count`: which of the requests that the fault is about. */
  | { event: "fault"; device: string; command: string; fault: string; count: number }
  /** The module has changed, under `--watch`. */
  | ReloadJson
  /** At the end and on SIGUSR2 or SIGUSR1, under `--unmodelled`. */
  | UnmodelledJson
  /** A line of the device itself. */
  | { event: "log"; device: string; line: string }
  /** A process of `--isolate` has ended: with a code, or by a signal; the other one is null. */
  | { event: "ended"; device: string; code: number | null; signal: string | null }
  | HoldJson
  | LostJson;

/** A new version of a device, whose module has changed. */
export interface ReloadJson {
  event: "reload";
  device: string;
  /**
   * `done`; `next client` if the one that is connected keeps the old version; `failed` if the new
   * one can't be used.
   */
  outcome: "done" | "next client" | "failed";
  /** Why not, or why the state begins afresh; null if nothing is to be said. */
  message: string | null;
  /** Parts of the state that were lost, in words. */
  lost: string[];
  /** The place in the device's own files; null if it is in none. */
  place: Place | null;
  /** The single mistakes, a line each. */
  details: string[];
}

/** Takes what is to be told. */
export type Tell = (event: ServeJson) => void;

/** Takes what happens. */
export interface Report {
  ready(devices: readonly ServedJson[], seed: number | undefined): void;
  connect(device: string, client: PeerProcess | null): void;
  disconnect(device: string, cause: Error | undefined): void;
  error(device: string, doing: string, error: unknown): void;
  fault(device: string, event: FaultEvent): void;
  unmodelled(device: string, found: UnmodelledReport): void;
  reload(device: string, done: Succession | { readonly failed: unknown }): void;
  log(device: string, line: string): void;
}

/** Puts into words what happens. */
export function reportTo(tell: Tell): Report {
  return {
    ready: (devices, seed) =>
      tell({ event: "ready", devices: [...devices], ...(seed !== undefined && { seed }) }),
    connect: (device, client) => tell({ event: "connect", device, client }),
    disconnect: (device, cause) =>
      tell({ event: "disconnect", device, reason: cause?.message ?? null }),
    error(device, doing, error) {
      if (isRefusal(error)) return tell({ event: "refused", device, message: error.message });
      const { place = null, message, details, frames } = blame(error);
      const stack = [...details, ...frames, ...causes(error)].map((line) => line.trim());
      tell({ event: "error", device, doing, message, place, stack });
    },
    fault: (device, { command, fault, count }) =>
      tell({
        event: "fault",
        device,
        command: commandName(command),
        fault: faultText(fault),
        count,
      }),
    unmodelled: (device, found) => tell(unmodelledJson(device, found)),
    reload: (device, done) => tell(reloadJson(device, done)),
    log: (device, line) => tell({ event: "log", device, line }),
  };
}

function reloadJson(
  device: string,
  done: Succession | { readonly failed: unknown },
): ReloadJson {
  const isDone = "when" in done && done.when === "now";
  const outcome = isDone ? "done" : "when" in done ? "next client" : "failed";
  const lost = "lost" in done ? [...done.lost] : [];
  const error = "failed" in done ? done.failed : done.reason;
  if (error === undefined) {
    return { event: "reload", device, outcome, message: null, lost, place: null, details: [] };
  }
  const { place = null, message, details } = error instanceof ModuleError
    ? { place: error.place, message: error.reason, details: error.details }
    : blame(error);
  return { event: "reload", device, outcome, message, lost, place, details: [...details] };
}

/**
 * Tells programs, on standard output.
 *
 * @param mark stands ahead of each event
 */
export function tellJson({ out }: Context, mark = ""): Tell {
  return (event) => out.write(eventLine(event, mark));
}

/**
 * Tells people, on standard error.
 *
 * @param hasSeveral whether each line says which device it is about
 * @param verbose whether faults have lines, too
 */
export function tellText({ err }: Context, hasSeveral: boolean, verbose: boolean): Tell {
  return (event) => {
    if (event.event === "fault" && !verbose) return;
    const names = hasSeveral && "device" in event && !isHold(event);
    err.write(`${names ? `${printable(event.device)}: ` : ""}${eventText(event, err)}\n`);
  };
}

function isHold(event: ServeJson): event is HoldJson {
  return event.event === "busy" || event.event === "free";
}

/** An event for people, without the name of its device but where that is part of the sentence. */
function eventText(event: ServeJson, { style, isTerminal }: Output): string {
  switch (event.event) {
    case "ready":
      return readyLines(event, style, isTerminal).join("\n");
    case "connect":
      return style.dim(connectText(event.client));
    case "disconnect":
      return event.reason === null ? style.dim("The client has left") : printable(event.reason);
    case "refused":
      return style.yellow(printable(event.message));
    case "error": {
      const stack = event.stack.map((line) => `${line.startsWith("at ") ? "    " : "  "}${line}`);
      const place = event.place === null ? "" : `${printable(placeText(event.place))}: `;
      const title = style.red(`The device failed at ${event.doing}:`);
      return [`${place}${title} ${printable(event.message)}`, ...stack.map(printable)].join("\n");
    }
    case "fault":
      return style.yellow(`Fault at ${event.command} ${event.count}: ${event.fault}`);
    case "unmodelled":
      return unmodelledLines(event).map(printable).join("\n");
    case "reload":
      return reloadText(event, style);
    case "log":
      return printable(event.line);
    case "ended":
      return style.red(endedText(event));
    case "busy":
    case "free":
      return holdText(event, true);
    case "discarded":
      return lostText(event);
  }
}

function reloadText(
  { outcome, message, lost, place, details }: ReloadJson,
  style: Style,
): string {
  const where = place === null ? "" : `${printable(placeText(place))}: `;
  const why = printable(message ?? "");
  const lines = details.map((line) => `\n  ${printable(line)}`).join("");
  if (outcome === "failed") {
    const what = style.red("Not reloaded, the old version is served on:");
    return `${where}${what} ${why}${lines}`;
  }
  if (outcome === "next client") {
    const what = style.yellow("Not reloaded for this client; the next one gets the new version:");
    return `${where}${what} ${why}${lines}`;
  }
  if (message !== null) {
    return `${where}${style.yellow("Reloaded, without its state:")} ${why}${lines}`;
  }
  const without = lost.length === 0 ? "" : `, without ${printable(lost.join(", "))}`;
  return `Reloaded with its state${without}`;
}

function connectText(client: PeerProcess | null): string {
  const who = client === null ? "" : `: ${printable(peerProcessText(client))}`;
  return `A client has connected${who}`;
}

function endedText({ code, signal }: { code: number | null; signal: string | null }): string {
  const how = signal === null ? `with code ${code}` : `by ${signal}`;
  return `Its process has ended ${how}, and its socket is removed; the others are served on`;
}

function readyLines(
  { devices, seed }: { devices: readonly ServedJson[]; seed?: number },
  style: Style,
  isTerminal: boolean,
): string[] {
  return [
    ...devices.flatMap((device) => [
      `Serving ${printable(device.device)} ${place(device)}`,
      ...deviceLines(device).map((line) => `  ${line}`),
      ...device.faults.map((fault) => `  ${style.yellow("Fault:")} ${fault}`),
    ]),
    ...(seed === undefined ? [] : [`The faults that come at random repeat with --seed=${seed}`]),
    "Ready; Ctrl-C stops it",
    ...(isTerminal ? attachLines(devices).map((line) => style.dim(line)) : []),
  ];
}

/** Writes QEMU's options that attach it to the devices. */
function attachLines(devices: readonly ServedJson[]): string[] {
  const sockets = devices.flatMap(({ socket, pci }) =>
    socket === null || pci === null ? [] : [socket]
  );
  if (sockets.length === 0) return [];
  return qemuLines(sockets).map((line, i) => i === 0 ? `QEMU: ${line}` : `  ${line}`);
}

/** The reason of a refusal as a line for `-v`, ahead of its answer. */
export function refusalLine({ command, errno, error }: RefusedRequest): string {
  const reason = printable(thrownText(error));
  return `Refusing ${commandName(command)} with ${errnoName(errno)}: ${reason}`;
}

/**
 * Tells whether a request was refused, and nothing of the device has failed. Examples are a state
 * that is cut off, damaged or of another device, and an unmap that cuts a map.
 */
function isRefusal(error: unknown): error is DeviceError {
  return error instanceof DeviceError &&
    (error.cause === undefined || error.cause instanceof DeviceError);
}

function place({ socket, fd }: ServedJson): string {
  return socket === null ? `on file descriptor ${fd}` : `at ${printable(socket)}`;
}
