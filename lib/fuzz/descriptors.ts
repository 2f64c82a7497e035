/**
 * Descriptors of many kinds, by name: those that belong into a message, and others.
 *
 * @module
 */

import { EventFd } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { createMemfd } from "../../ffi/memory.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import type { RecordedDescriptor } from "../record/event.ts";

/** Bytes of the memory that most maps name. */
export const MEMORY_SIZE = 1 << 20;

const O_RDONLY = 0;
const FULL = 2n ** 64n - 2n;

/** The kinds: how each is made. */
const KINDS = {
  "memory": () => createMemfd("vfu-fuzz", MEMORY_SIZE),
  "page": () => createMemfd("vfu-fuzz-page", 0x1000),
  "byte": () => createMemfd("vfu-fuzz-byte", 1),
  "sparse": () => createMemfd("vfu-fuzz-sparse", 2 ** 40),
  "eventfd": () => new EventFd().handle,
  "full-eventfd": () => {
    const event = new EventFd();
    event.signal(FULL);
    return event.handle;
  },
  "socket": () => {
    const [a, b] = UnixSocket.pair();
    b.close();
    const borrowed = new OwnedFd(a.fd);
    const fd = borrowed.duplicate();
    borrowed.release(); // the socket closes it
    a.close();
    return fd;
  },
  "null": () => OwnedFd.open("/dev/null"),
  "directory": () => OwnedFd.open("/", O_RDONLY),
  "proc": () => OwnedFd.open("/proc/self/maps", O_RDONLY),
} as const;

/** The name of a kind of descriptor; `self` is the socket of the connection. */
export type DescriptorName = keyof typeof KINDS | "self";

/** All kinds. */
export const DESCRIPTOR_NAMES: readonly DescriptorName[] = [
  ...Object.keys(KINDS) as (keyof typeof KINDS)[],
  "self",
];

/** Finds the kind of a name that a file has; undefined if there is none. */
export function descriptorName(text: string): DescriptorName | undefined {
  return DESCRIPTOR_NAMES.find((name) => name === text);
}

/** Finds the kind that is most like a recorded descriptor. */
export function likeRecorded({ kind, size }: RecordedDescriptor): DescriptorName {
  switch (kind) {
    case "memfd":
    case "file":
      return size !== null && size > BigInt(MEMORY_SIZE) ? "sparse" : "memory";
    case "eventfd":
    case "socket":
      return kind;
    case "device":
      return "null";
    default:
      return "proc";
  }
}

/** Descriptors that are made when they are needed, one of a kind, and kept. */
export class Descriptors implements Disposable {
  readonly #open = new Map<DescriptorName, OwnedFd>();

  /**
   * Returns descriptors by name.
   *
   * @param self the socket's own descriptor
   */
  numbers(names: readonly DescriptorName[], self: number): number[] {
    return names.map((name) => {
      if (name === "self") return self;
      let fd = this.#open.get(name);
      if (fd === undefined) this.#open.set(name, fd = KINDS[name]());
      return fd.fd;
    });
  }

  /** Returns the descriptor of a kind, for facts about it; undefined for `self`. */
  of(name: DescriptorName): OwnedFd | undefined {
    return this.#open.get(name);
  }

  /** Closes all. */
  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) fd[Symbol.dispose]();
    this.#open.clear();
  }
}
