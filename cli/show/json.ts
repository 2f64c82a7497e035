/**
 * `vfu show --json`: events as objects.
 *
 * @module
 */

import type { HeardMessage } from "../../lib/record/conversation.ts";
import type { Access } from "../../lib/record/decode.ts";
import type { RecordedEvent } from "../../lib/record/event.ts";
import { decodeRegister } from "../../lib/registers/decode.ts";
import { littleEndian } from "../../lib/base/little_endian.ts";
import type { RegisterLocator } from "../../lib/registers/locate.ts";
import { errnoName } from "../../lib/text/errno.ts";
import { regionName } from "../../lib/wire/region.ts";

/** An event as an object of plain values, bytes and bigints; `time_ns` is a string. */
export function eventJson(
  event: RecordedEvent,
  heard: HeardMessage | undefined,
  locator: RegisterLocator | undefined,
): Record<string, unknown> {
  const { index, timeNs, connection, socket, kind, comment, ...own } = event;
  return {
    index,
    time_ns: String(timeNs),
    connection,
    socket,
    kind,
    ...(comment !== undefined && { comment }),
    ...snakeCase(own) as Record<string, unknown>,
    ...(heard !== undefined && messageJson(heard, locator)),
  };
}

function messageJson(
  { decoded, request, latencyNs, accesses }: HeardMessage,
  locator: RegisterLocator | undefined,
): Record<string, unknown> {
  if (decoded === undefined) return {};
  const { header, name, type, noReply, payload, problem } = decoded;
  const accessed = accesses.map((access) => accessJson(access, locator));
  return {
    command: name,
    id: header.messageId,
    type: type === "error" ? "error_reply" : type,
    ...(noReply && { no_reply: true }),
    ...(type === "error" && {
      error: header.error === 0
        ? { errno: 0 }
        : { errno: header.error, code: errnoName(header.error) },
    }),
    ...(payload?.value !== undefined && { fields: snakeCase(payload.value) }),
    ...(problem !== undefined && { problem }),
    ...(accessed.length > 0 && { accesses: accessed }),
    ...(request !== undefined && { request: request.index }),
    ...(latencyNs !== undefined && { latency_ns: Number(latencyNs) }),
  };
}

function accessJson(
  { space, action, region, offset, count, data }: Access,
  locator: RegisterLocator | undefined,
): Record<string, unknown> {
  const located = region === undefined ? undefined : locator?.at(region, offset, count);
  const fields = located?.isWhole && data?.length === located.register.width
    ? decodeRegister(located.register, littleEndian(data))
    : undefined;
  return {
    space,
    action,
    ...(region !== undefined && { region, region_name: regionName(region) }),
    offset,
    count,
    ...(located !== undefined && { register: located.name }),
    ...(fields !== undefined && fields.length > 0 && { fields }),
  };
}

/** Keys as `snake_case`; all else stays. */
function snakeCase(value: unknown): unknown {
  if (value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(snakeCase);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [
      key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      snakeCase(each),
    ]),
  );
}
