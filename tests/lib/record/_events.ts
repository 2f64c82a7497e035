/**
 * Events of all kinds, at random and by hand.
 *
 * @module
 */

import fc from "fast-check";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { OwnedFd } from "../../../ffi/fd.ts";
import { libc } from "../../../ffi/libc.ts";
import {
  DESCRIPTOR_KINDS,
  type NewEvent,
  type RecordedEvent,
  type RecordedMessage,
  SEALS,
} from "../../../lib/record/event.ts";
import { readRecording } from "../../../lib/record/reader.ts";
import { RecordingWriter } from "../../../lib/record/writer.ts";
import { makeFifo } from "../../_odd_fds.ts";

const O_NONBLOCK = 0o4000;

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const u32 = fc.nat(0xffff_ffff);
const bytes = fc.uint8Array({ maxLength: 200 });

const descriptor = fc.record({
  kind: fc.constantFrom(...DESCRIPTOR_KINDS),
  size: fc.option(u64),
  seals: fc.uniqueArray(fc.constantFrom(...SEALS)),
  access: fc.option(fc.constantFrom("r", "w", "rw")),
  identity: fc.option(fc.string()),
  fate: fc.constantFrom("passed", "replaced", "withheld"),
}, { noNullPrototype: true });

const base = {
  timeNs: u64,
  connection: fc.nat(3),
  socket: fc.constantFrom("main", "twin"),
  comment: fc.option(fc.string({ unit: "grapheme" }), { nil: undefined }),
};

const transfer = {
  ...base,
  direction: fc.constantFrom("to-server", "to-client"),
  bytes,
  passedOn: fc.option(fc.option(bytes), { nil: undefined }),
  descriptors: fc.array(descriptor, { maxLength: 3 }),
};

/** An event of any kind. A key that it does not have is missing, not undefined. */
export const anyEvent: fc.Arbitrary<NewEvent> = fc.oneof(
  fc.record({
    kind: fc.constant("message"),
    ...transfer,
    origin: fc.constantFrom("peer", "side", "recorder"),
  }),
  fc.record({ kind: fc.constant("garbage"), ...transfer }),
  fc.record({
    kind: fc.constant("interrupt"),
    ...base,
    irq: u32,
    vector: u32,
    count: u64,
    action: fc.constantFrom("trigger", "mask", "unmask"),
  }),
  fc.record({
    kind: fc.constant("ioeventfd"),
    ...base,
    region: u32,
    offset: u64,
    size: u32,
    count: u64,
  }),
  fc.record({
    kind: fc.constant("open"),
    ...base,
    client: fc.option(fc.string()),
    server: fc.option(fc.string()),
  }),
  fc.record({
    kind: fc.constant("end"),
    ...base,
    side: fc.constantFrom("client", "server", "recorder"),
    reason: fc.constantFrom("left", "cut", "failed", "stopped"),
    text: fc.string(),
  }),
  fc.record({ kind: fc.constant("note"), ...base, text: fc.string() }),
).map((event) =>
  Object.fromEntries(Object.entries(event).filter(([, value]) => value !== undefined))
) as fc.Arbitrary<NewEvent>;

/** A plain message of the first client; `fields` say what is different. */
export function plainMessage(
  message: Uint8Array,
  fields: Partial<NewEvent<RecordedMessage>> = {},
): NewEvent<RecordedMessage> {
  return {
    kind: "message",
    timeNs: 1_000_000_000n,
    connection: 0,
    socket: "main",
    direction: "to-server",
    origin: "peer",
    bytes: message,
    descriptors: [],
    ...fields,
  };
}

/** A file that is gone when it is disposed of. */
export function temporaryFile(): { readonly path: string } & Disposable {
  const path = Deno.makeTempFileSync({ suffix: ".pcapng" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path) };
}

/** Writes events as a recording. */
export function writeRecording(path: string, events: Iterable<NewEvent>): void {
  using writer = RecordingWriter.create(path, { application: "test" });
  for (const event of events) writer.write(event);
  if (writer.failure) throw writer.failure;
}

/** All events of a recording. */
export async function readAll(path: string): Promise<RecordedEvent[]> {
  return await Array.fromAsync(readRecording(path));
}

/** A named pipe that is gone when it is disposed of. */
export function temporaryPipe(): { readonly path: string } & Disposable {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/pipe`;
  makeFifo(path);
  return { path, [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }) };
}

/** The reading end of a pipe, which a test reads when it likes. */
export class PipeReader implements Disposable {
  readonly #pipe: OwnedFd;
  readonly #into = new IoBuffer(1 << 16);

  /** Opens the pipe, without waiting for a writer. */
  constructor(path: string) {
    this.#pipe = OwnedFd.open(path, O_NONBLOCK); // O_RDONLY is 0
  }

  /** Reads what is there: nothing if the pipe is empty, or its writer has closed it. */
  read(): Uint8Array {
    const { pointer, length, bytes } = this.#into;
    const count = libc().read(this.#pipe.fd, pointer, BigInt(length));
    return bytes.subarray(0, Math.max(0, count));
  }

  /** Stops reading for good. */
  [Symbol.dispose](): void {
    this.#pipe[Symbol.dispose]();
  }
}
