/**
 * `vfu migrate save`: the state of a device into a file.
 *
 * @module
 */

import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { openDestination } from "../shared/destination.ts";
import { Unfinished } from "../shared/failure.ts";
import { assertReplaceable } from "../shared/force.ts";
import { Grace } from "../shared/cleanup_grace.ts";
import { DEFAULT_MAX_SIZE, tooLarge } from "../shared/max_size.ts";
import { Progress, spinner } from "../shared/progress.ts";
import { humanSize } from "../shared/size.ts";
import { StateFileWriter } from "./file.ts";
import { identify, identityJson, identityText, stateOf } from "./identity.ts";
import { jsonText } from "../shared/json.ts";
import { plural } from "../../lib/text/plural.ts";

/** Options of {@linkcode save}. */
export interface SaveOptions extends ConnectionOptions {
  /** The file, or "-". */
  output: string;
  /** Replace a file that is there. */
  force?: true | undefined;
  /** Begin while the device runs. */
  preCopy?: true | undefined;
  /** Leave it stopped. */
  keepStopped?: true | undefined;
  /** Bytes that are asked for at once; default 1 MiB, or as many as were agreed on. */
  chunkSize?: number | undefined;
  /** Bytes that the state may have; default 1 GiB. */
  maxSize?: bigint | undefined;
  /** Write JSON: what was saved. */
  json?: true | undefined;
}

/** Saves the state of the device behind `socket`. */
export async function save(context: Context, socket: string, options: SaveOptions): Promise<void> {
  const { err } = context;
  const { output, preCopy = false, keepStopped, chunkSize, json, verbose } = options;
  const { maxSize = DEFAULT_MAX_SIZE } = options;
  assertReplaceable(output, options.force);
  using destination = openDestination(output, context.out);
  using grace = new Grace(context.signal);
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, options);
  const { migration } = connection.device;
  // What an earlier client has left in the middle is begun anew, and libvfio-user tells nothing of
  // the device in STOP_COPY.
  if (await stateOf(connection.device) === "STOP_COPY") await migration.setState("STOP");
  const identity = await identify(connection.device);
  grace.begin(); // from here on it may be stopped, and has to be set back
  const at = { bytes: 0, state: "RUNNING" };
  using progress = verbose ? undefined : new Progress(
    err,
    (elapsedMs) => {
      const rate = humanSize(BigInt(Math.round(at.bytes / elapsedMs * 1000)));
      return `${spinner(elapsedMs)} ${at.state}  ${humanSize(BigInt(at.bytes))}  ${rate}/s`;
    },
  );
  const stream = migration.save({
    preCopy,
    signal: context.signal,
    reuseChunks: true,
    ...(chunkSize !== undefined && { chunkSize }),
    ...(keepStopped && { after: "STOP" }),
    onProgress: (now) => Object.assign(at, now),
  });
  let saved: { size: number; crc: number };
  try {
    const file = new StateFileWriter(identity, (bytes) => destination.write(bytes));
    for await (const chunk of stream) {
      if (at.bytes > maxSize) throw tooLarge("Cannot save the device: its state has", maxSize);
      file.add(chunk);
    }
    saved = file.finish();
    destination.finish();
  } catch (cause) {
    const { written, where } = destination;
    if (written === 0 || cause instanceof Deno.errors.BrokenPipe) throw cause;
    throw new Unfinished(cause, context.signal, `${plural(written, "byte")} ${where}`);
  }
  progress?.[Symbol.dispose]();
  const state = await migration.state();
  if (json) {
    const text = jsonText({ ...savedJson(identity, saved), state }) + "\n";
    (output === "-" ? err : context.out).write(text);
  } else if (err.isTerminal) {
    const size = humanSize(BigInt(saved.size));
    err.write(err.style.dim(`Saved ${size} of ${identityText(identity)}; it is ${state}`) + "\n");
  }
}

/** Describes a file in JSON. */
export function savedJson(
  identity: Parameters<typeof identityJson>[0],
  { size, crc }: { size: number; crc: number },
) {
  return { device: identityJson(identity), size, crc32: crc };
}
