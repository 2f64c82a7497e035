/**
 * The examination of `vfu doctor`: the connection first, then the device.
 *
 * @module
 */

import { DEFAULT_TIMEOUT_MS } from "../../lib/base/limits.ts";
import type { Finding } from "../../lib/client/diagnose/cause.ts";
import { connectionFinding, socketUse } from "../../lib/client/diagnose/connection_causes.ts";
import { diagnose } from "../../lib/client/diagnose/diagnose.ts";
import type { HarmlessRead } from "../../lib/client/diagnose/examination.ts";
import { type Connection, type ConnectionOptions, connectTo } from "../shared/connect.ts";
import type { Context } from "../shared/context.ts";

/** An examination takes the time of so many answers at most. Most servers answer in no time. */
const ANSWERS = 60;

/** Options of {@linkcode examine}. */
export interface ExamineOptions extends ConnectionOptions {
  /** False to read no register of a BAR. */
  read: boolean;
  /** Registers that a read does not change. */
  harmless: readonly HarmlessRead[];
}

/** The outcome of an examination. */
export interface Report {
  /** The path of the server's socket. */
  readonly socket: string;
  /** True if there was a connection. */
  readonly isConnected: boolean;
  /** The causes that were found. */
  readonly found: readonly Finding[];
}

/** Examines the device behind `socket`. */
export async function examine(
  context: Context,
  socket: string,
  { read, harmless, ...options }: ExamineOptions,
): Promise<Report> {
  const { timeout = DEFAULT_TIMEOUT_MS } = options;
  const before = socketUse(socket);
  let connection: Connection;
  try {
    connection = await connectTo(context, socket, options);
  } catch (error) {
    context.signal.throwIfAborted();
    const finding = connectionFinding(error, before);
    if (finding === undefined) throw error;
    return { socket, isConnected: false, found: [finding] };
  }
  using _ = connection;
  const found = await diagnose(connection.device, {
    answerMs: timeout,
    budgetMs: ANSWERS * timeout,
    readBars: read,
    harmless,
  });
  context.signal.throwIfAborted();
  return { socket, isConnected: true, found };
}
