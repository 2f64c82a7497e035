/**
 * The connection of a command. Without commander, which takes longer to load than connecting takes.
 *
 * @module
 */

import { connect } from "../../lib/client/connect.ts";
import type { Device } from "../../lib/client/device.ts";
import { ignoreFileSizeSignal } from "../../lib/server/process.ts";
import type { Trace } from "../../lib/transport/message.ts";
import { type Context, onAbort, type Output } from "./context.ts";

/** Options of {@linkcode connectTo}. */
export interface ConnectionOptions {
  /** Show every message on standard error. */
  verbose?: true | undefined;
  /** The time that the server may take for each answer, in milliseconds. */
  timeout: number;
  /** Do first what firmware does: give BARs addresses, and switch the device on. */
  pciEnable?: true | undefined;
  /** Sees every message. */
  trace?: Trace | undefined;
}

/** A connected device. Disposing closes it. */
export interface Connection extends Disposable {
  readonly device: Device;
}

/**
 * Connects to the device behind `socket`, a path or a connected descriptor. The context's signal
 * closes the connection.
 */
export async function connectTo(
  { err, signal }: Context,
  socket: string | number,
  { verbose, timeout, pciEnable, trace }: ConnectionOptions,
): Promise<Connection> {
  const traces = [trace, verbose && await traceOn(err)].filter((each) => each !== undefined);
  ignoreFileSizeSignal(); // a command that writes a file may have a device to put back
  using resources = new DisposableStack();
  const device = resources.use(
    await connect(socket, {
      signal,
      timeoutMs: timeout,
      ...(traces.length > 0 && { trace: allOf(traces) }),
    }),
  );
  // One listener in place of one for each of a thousand requests.
  resources.use(onAbort(signal, () => device.close()));
  if (pciEnable) await device.pci.enable();
  const kept = resources.move();
  return { device, [Symbol.dispose]: () => kept.dispose() };
}

/** The trace of `-v`. What shows it is loaded only where it is wanted. */
async function traceOn(output: Output): Promise<Trace> {
  const { traceTo } = await import("./trace.ts");
  return traceTo(output);
}

function allOf(traces: readonly Trace[]): Trace {
  const [only] = traces;
  if (traces.length === 1) return only!;
  return (direction, bytes, fds) => traces.forEach((trace) => trace(direction, bytes, fds));
}
