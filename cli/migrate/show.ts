/**
 * `vfu migrate show` and `vfu migrate state`: how a device can migrate, and in which state it is;
 * what a file holds.
 *
 * @module
 */

import type { DeviceStateName, MigrationSupport } from "../../lib/client/migration/options.ts";
import { type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";
import { humanSize } from "../shared/size.ts";
import { StateFile } from "./file.ts";
import { identityText } from "./identity.ts";
import { savedJson } from "./save.ts";
import { jsonText } from "../shared/json.ts";
import { STANDARD_INPUT } from "../../lib/base/input.ts";
import { hex } from "../../lib/text/hex.ts";

/** Options of {@linkcode show} and {@linkcode setState}. */
export interface ShowOptions extends ConnectionOptions {
  /** Write one JSON object. */
  json?: true | undefined;
}

/** Shows what the device behind a socket, or a file, has to do with migration. */
export async function show(context: Context, path: string, options: ShowOptions): Promise<void> {
  if (isFile(path)) await showFile(context, path, options);
  else await showDevice(context, path, options);
}

/** Reports whether a path is none of a server, but of what may hold a state. */
function isFile(path: string): boolean {
  if (path === STANDARD_INPUT) return true;
  try {
    const { isFile, isFifo } = Deno.statSync(path);
    return isFile || isFifo === true;
  } catch {
    return false; // the connection says what is wrong
  }
}

async function showFile(
  { out, signal }: Context,
  path: string,
  { json }: ShowOptions,
): Promise<void> {
  using file = await StateFile.open(path, signal);
  const { identity, size, crc } = file.info;
  if (json) {
    return out.write(jsonText({ file: path, ...savedJson(identity, file.info) }) + "\n");
  }
  out.write(
    `Device    ${identityText(identity)}\n` +
      `State     ${size} bytes${size < 1024 ? "" : ` (${humanSize(BigInt(size))})`}\n` +
      `Checksum  ${hex(crc, 8)} (valid)\n`,
  );
}

async function showDevice(context: Context, socket: string, options: ShowOptions): Promise<void> {
  const { out } = context;
  using connection = await connectTo(context, socket, options);
  const { migration, negotiated } = connection.device;
  const support = await migration.support();
  const state = support && await migration.state();
  const pageSize = negotiated.server.migration?.pgsize;
  const chunk = negotiated.maxDataXferSize;
  if (options.json) {
    const json = {
      socket,
      migrates: support !== undefined,
      state: state ?? null,
      flags: support ? flagNames(support) : [],
      dirty_page_size: pageSize ?? null,
      max_data_xfer_size: chunk,
    };
    return out.write(jsonText(json) + "\n");
  }
  if (support === undefined) return out.write("The device does not migrate\n");
  out.write(
    `State        ${state}\n` +
      `Supports     ${flagNames(support).join(", ") || "nothing"}\n` +
      `Dirty pages  ${pageSize === undefined ? "not said" : humanSize(BigInt(pageSize))}\n` +
      `One message  ${humanSize(BigInt(chunk))}\n`,
  );
}

function flagNames({ stopCopy, preCopy, p2p }: MigrationSupport): string[] {
  return [stopCopy && "STOP_COPY", p2p && "P2P", preCopy && "PRE_COPY"].filter((name) =>
    name !== false
  );
}

/** Sets the state, if one is given, and shows it. */
export async function setState(
  context: Context,
  socket: string,
  state: DeviceStateName | undefined,
  { json, ...options }: ShowOptions,
): Promise<void> {
  using connection = await connectTo(context, socket, options);
  const { migration } = connection.device;
  if (state !== undefined) await migration.setState(state);
  const now = await migration.state();
  context.out.write(json ? jsonText({ socket, state: now }) + "\n" : `${now}\n`);
}
