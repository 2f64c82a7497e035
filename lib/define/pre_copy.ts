/**
 * The memory of a device, saved while the device works. First all memory is saved; when the device
 * stands still, the changes since are saved.
 *
 * A snapshot of the saved memory is kept to find dirty pages, because the device does not see
 * clients' writes through maps. The snapshot takes as much memory again.
 *
 * @module
 */

import { changedPages } from "../server/page_diff.ts";
import type { StateWriter } from "../server/state_stream.ts";
import { nextTurn } from "../base/turn.ts";

/** Bytes that are saved, or compared, before others have their turn. */
const TURN_SIZE = 64 << 20;
/** Bytes that are copied together. */
const CHUNK_SIZE = 1 << 20;

/** A part of the state that is saved so. */
interface Copied {
  readonly section: number;
  /** The memory of the device. */
  readonly bytes: Uint8Array;
  /** Snapshot of the saved bytes, up to `end`. */
  readonly saved: Uint8Array;
  end: number;
}

/** The memory of one device on its way out. */
export class PreCopy {
  /** The stream: what follows goes on with it. */
  readonly writer: StateWriter;
  readonly #parts: readonly Copied[];

  /** @param sections what is saved, by section */
  constructor(writer: StateWriter, sections: ReadonlyMap<number, Uint8Array>) {
    this.writer = writer;
    this.#parts = [...sections].map(([section, bytes]) => ({
      section,
      bytes,
      saved: new Uint8Array(bytes.length),
      end: 0,
    }));
  }

  /** All of it, while the device works. It may be ended early. */
  *begin(): Generator<Uint8Array, void> {
    for (const part of this.#parts) {
      while (part.end < part.bytes.length) {
        const chunk = part.saved.subarray(part.end, part.end + CHUNK_SIZE);
        chunk.set(part.bytes.subarray(part.end, part.end + chunk.length));
        yield* this.writer.write(part.section, chunk, part.end);
        // only now: the stream may end in between, and this is saved again then
        part.end += chunk.length;
      }
    }
    yield* this.writer.flush();
  }

  /** Yields the changed bytes, and those not yet saved, of a device that stands still. */
  async *rest(): AsyncGenerator<Uint8Array, void> {
    for (const { section, bytes, saved, end } of this.#parts) {
      for (let at = 0; at < end; at += TURN_SIZE) {
        if (at > 0) await nextTurn();
        const [before, now] = [saved, bytes].map((each) =>
          each.subarray(at, Math.min(end, at + TURN_SIZE))
        );
        for (const { offset, bytes: page } of changedPages(before!, now!)) {
          yield* this.writer.write(section, page, at + offset);
        }
      }
      if (end < bytes.length) yield* this.writer.write(section, bytes.subarray(end), end);
    }
  }
}
