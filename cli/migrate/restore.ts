/**
 * `vfu migrate restore`: the state of a device out of a file.
 *
 * @module
 */

import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { Unfinished } from "../shared/failure.ts";
import { Grace } from "../shared/cleanup_grace.ts";
import { Progress, transferText } from "../shared/progress.ts";
import { humanSize } from "../shared/size.ts";
import { StateFile } from "./file.ts";
import { identify, identityText, isSameDevice, stateOf } from "./identity.ts";
import { savedJson } from "./save.ts";
import { jsonText } from "../shared/json.ts";

/** Options of {@linkcode restore}. */
export interface RestoreOptions extends ConnectionOptions {
  /** Leave it stopped. */
  keepStopped?: true | undefined;
  /** Bytes that are written at once; default 32 KiB. */
  chunkSize?: number | undefined;
  /** Write JSON: what was restored. */
  json?: true | undefined;
}

/** Restores the state of the device behind `socket`. */
export async function restore(
  context: Context,
  socket: string,
  path: string,
  options: RestoreOptions,
): Promise<void> {
  const { err, out, signal } = context;
  const { keepStopped, chunkSize, json, verbose } = options;
  // All of it is checked before the device is touched
  using file = await StateFile.open(path, signal);
  const { identity, size: total } = file.info;
  using grace = new Grace(signal);
  using connection = await connectTo({ ...context, signal: grace.signal }, socket, options);
  const { migration } = connection.device;
  await stateOf(connection.device);
  const found = await identify(connection.device);
  if (!isSameDevice(identity, found)) {
    throw new RangeError(
      `Cannot restore ${path}: it is of ${identityText(identity)}; ` +
        `the device is ${identityText(found)}`,
    );
  }
  grace.begin(); // from here on it is stopped, and has to be set back
  let done = 0;
  using progress = verbose ? undefined : new Progress(
    err,
    (elapsedMs) => transferText({ done, total, elapsedMs }, err.columns),
  );
  const writer = migration.restore({
    signal,
    ...(keepStopped && { after: "STOP" }),
    ...(chunkSize !== undefined && { chunkSize }),
    onProgress: ({ bytes }) => void (done = bytes),
  }).getWriter();
  writer.closed.catch(() => {}); // each write reports it
  try {
    for await (const bytes of file.blocks(signal)) await writer.write(bytes);
    await writer.close();
  } catch (cause) {
    await writer.abort(cause).catch(() => {}); // has it set back; what is thrown says why
    if (!signal.aborted) throw cause;
    throw new Unfinished(cause, signal, "the device has the state that it had");
  }
  progress?.[Symbol.dispose]();
  const state = await migration.state();
  if (json) out.write(jsonText({ ...savedJson(identity, file.info), state }) + "\n");
  else if (err.isTerminal) {
    err.write(err.style.dim(`Restored ${humanSize(BigInt(total))}; it is ${state}`) + "\n");
  }
}
