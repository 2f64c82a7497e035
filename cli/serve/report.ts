/**
 * What a server tells while it serves: lines for people, or an object of JSON a line.
 *
 * @module
 */

import type { FaultEvent } from "../../lib/server/faults.ts";
import { errnoName } from "../../lib/errno.ts";
import type { Refusal } from "../../lib/server/connection.ts";
import { DeviceError } from "../../lib/server/device.ts";
import { commandName } from "../../lib/wire/command.ts";
import type { Context } from "../context.ts";
import { failureLines } from "../failure.ts";
import { jsonText } from "../json.ts";
import { printable } from "../printable.ts";
import { type DeviceJson, deviceLines } from "./describe.ts";
import { faultLine, faultText } from "./fault.ts";
import { QEMU_MEMORY, qemuOption } from "./qemu.ts";

/** A device that is served, and where. */
export interface ServedJson extends DeviceJson {
  /** Its name. */
  device: string;
  /** Where it listens; null on a descriptor. */
  socket: string | null;
  /** The descriptor that it is served on; null if it listens. */
  fd: number | null;
  /** What goes wrong on purpose. */
  faults: string[];
}

/** What `vfu serve --json` writes on each line. */
export type ServeJson =
  /** All of them listen. `seed` repeats the faults, if there are any. */
  | { event: "ready"; devices: ServedJson[]; seed?: number }
  | { event: "connect"; device: string }
  /** `reason` is null if the client just left. */
  | { event: "disconnect"; device: string; reason: string | null }
  /** The device does not take the state that a client restores, and keeps its own. */
  | { event: "refused"; device: string; message: string }
  /** A hook threw what is no `DeviceError`. */
  | { event: "error"; device: string; doing: string; message: string; stack: string[] }
  /** `count`: which of the requests that the fault is about. */
  | { event: "fault"; device: string; command: string; fault: string; count: number }
  /** What the device itself says. */
  | { event: "log"; device: string; line: string };

/** Takes what happens. */
export interface Report {
  ready(devices: readonly ServedJson[], seed: number | undefined): void;
  connect(device: string): void;
  disconnect(device: string, cause: Error | undefined): void;
  error(device: string, doing: string, error: unknown): void;
  fault(device: string, event: FaultEvent): void;
  log(device: string, line: string): void;
}

/** For programs, on standard output. */
export function jsonReport({ out }: Context): Report {
  const write = (event: ServeJson) => out.write(jsonText(event) + "\n");
  return {
    ready: (devices, seed) =>
      write({ event: "ready", devices: [...devices], ...(seed !== undefined && { seed }) }),
    connect: (device) => write({ event: "connect", device }),
    disconnect: (device, cause) =>
      write({ event: "disconnect", device, reason: cause?.message ?? null }),
    error(device, doing, error) {
      if (isRefusal(error)) return write({ event: "refused", device, message: error.message });
      const [message = "", ...stack] = failureLines(error, true);
      write({ event: "error", device, doing, message, stack: stack.map((line) => line.trim()) });
    },
    fault: (device, { command, fault, count }) =>
      write({
        event: "fault",
        device,
        command: commandName(command),
        fault: faultText(fault),
        count,
      }),
    log: (device, line) => write({ event: "log", device, line }),
  };
}

/**
 * For people, on standard error.
 *
 * @param hasSeveral whether each line says which device it is about
 * @param verbose whether faults have lines, too
 */
export function textReport({ err }: Context, hasSeveral: boolean, verbose: boolean): Report {
  const { style } = err;
  const write = (device: string, line: string) =>
    err.write(`${hasSeveral ? `${printable(device)}: ` : ""}${line}\n`);
  return {
    ready(devices, seed) {
      const lines = devices.flatMap((device) => [
        `Serving ${printable(device.device)} ${place(device)}`,
        ...deviceLines(device).map((line) => `  ${line}`),
        ...device.faults.map((fault) => `  ${style.yellow("Fault:")} ${fault}`),
      ]);
      if (seed !== undefined) {
        lines.push(`The faults that come at random repeat with --seed=${seed}`);
      }
      const hint = err.isTerminal ? qemuLines(devices).map((line) => style.dim(line)) : [];
      err.write([...lines, "Ready; Ctrl-C stops it", ...hint, ""].join("\n"));
    },
    connect: (device) => write(device, style.dim("A client has connected")),
    disconnect: (device, cause) =>
      write(device, cause ? printable(cause.message) : style.dim("The client has left")),
    error(device, doing, error) {
      if (isRefusal(error)) return write(device, style.yellow(printable(error.message)));
      const title = style.red(`The device failed at ${doing}:`);
      write(device, `${title} ${failureLines(error, true).join("\n")}`);
    },
    fault(device, { command, fault, count }) {
      if (verbose) write(device, style.yellow(faultLine(command, fault, count)));
    },
    log: (device, line) => write(device, printable(line)),
  };
}

/** How QEMU attaches to what listens. */
function qemuLines(devices: readonly ServedJson[]): string[] {
  const options = devices.flatMap(({ socket, pci }) =>
    socket === null || pci === null ? [] : [`  ${qemuOption(socket)}`]
  );
  return options.length === 0 ? [] : [`QEMU: ${QEMU_MEMORY}`, ...options];
}

/** The reason of a refusal as a line for `-v`, ahead of its answer. */
export function refusalLine({ command, errno, error }: Refusal): string {
  const reason = error instanceof Error ? error.message : String(error);
  return `Refusing ${commandName(command)} with ${errnoName(errno)}: ${printable(reason)}`;
}

/**
 * Whether a request was refused, and nothing of the device has failed: a state that is cut off,
 * damaged or of another device, an unmap that cuts a map.
 */
function isRefusal(error: unknown): error is DeviceError {
  return error instanceof DeviceError &&
    (error.cause === undefined || error.cause instanceof DeviceError);
}

function place({ socket, fd }: ServedJson): string {
  return socket === null ? `on file descriptor ${fd}` : `at ${printable(socket)}`;
}
