/**
 * Mappings and descriptors of the files of one client. A process has few of them, and a client
 * behind a vIOMMU maps thousands of pages of one file: those share one for each GiB. A mapping of
 * huge pages reserves what the file has not got yet, so these share one for each such page only.
 *
 * @module
 */

import { addressSpace, BudgetShare, keptDescriptors, mappings } from "../../ffi/budget.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import { ENOMEM, ENOSPC, SystemError } from "../../ffi/errno.ts";
import { MappedFile, type Mapping, type MappingOwner } from "../../ffi/memory.ts";
import { MAX_SHARED_MAPPING } from "../base/limits.ts";
import type { ClientFile } from "./client_file.ts";

/** The bytes of a file that are mapped, and their access. */
export interface FileRange {
  /** The first byte, a multiple of the page size. */
  readonly offset: bigint;
  /** Bytes. */
  readonly length: number;
  /** True if writes go to the file. */
  readonly writable: boolean;
}

/** Mappings and descriptors of one client's files, within its share of those of the process. */
export class FileMaps {
  /** Mappings that are shared, by file, rights, and place in the file. */
  readonly #shared = new Map<string, MappedFile>();
  readonly #owner: MappingOwner = {
    mappings: new BudgetShare(mappings),
    addressSpace: new BudgetShare(addressSpace),
  };
  readonly #descriptors = new BudgetShare(keptDescriptors);

  /**
   * Keeps a descriptor of a file of its own, until it is given to `release`.
   *
   * @throws {SystemError} ENOSPC if this process keeps as many as it may; as fcntl(2) fails
   */
  keep({ fd }: ClientFile): OwnedFd {
    this.#descriptors.take(1, "Cannot keep a descriptor");
    try {
      return fd.duplicate();
    } catch (error) {
      this.#descriptors.give(1);
      throw error;
    }
  }

  /** Closes a descriptor that was kept. */
  release(fd: OwnedFd): void {
    fd.close();
    this.#descriptors.give(1);
  }

  /**
   * Maps a part of a file that holds it now. Closing the last part of a shared mapping unmaps that.
   *
   * @throws {SystemError} as {@linkcode MappedFile.create}
   * @throws {RangeError} if the file has become shorter
   */
  map(file: ClientFile, range: FileRange): Mapping {
    const size = file.hugePage ?? MAX_SHARED_MAPPING;
    const start = Number(range.offset % BigInt(size));
    const end = start + range.length;
    if (end > size) return this.#mapAlone(file, range);
    const offset = range.offset - BigInt(start);
    const { device, inode } = file.stat;
    const key = `${device} ${inode} ${range.writable} ${offset}`;
    const known = this.#shared.get(key);
    const mapped = known !== undefined && end <= known.length // else the file has grown since
      ? known
      : this.#share(key, file, { ...range, offset, length: size });
    return mapped?.part(start, range.length) ?? this.#mapAlone(file, range);
  }

  #mapAlone({ fd }: ClientFile, range: FileRange): Mapping {
    return MappedFile.create(fd, range, this.#owner).part(0, range.length);
  }

  /** Maps what of a range the file has. Undefined if there is no room for so much. */
  #share(key: string, { fd, stat }: ClientFile, range: FileRange): MappedFile | undefined {
    const rest = stat.size - range.offset;
    const length = rest < BigInt(range.length) ? Number(rest) : range.length;
    try {
      const ended = () => {
        if (this.#shared.get(key) === mapped) this.#shared.delete(key);
      };
      const mapped = MappedFile.create(fd, { ...range, length }, { ...this.#owner, ended });
      this.#shared.set(key, mapped);
      return mapped;
    } catch (error) {
      if (error instanceof SystemError && NO_ROOM.includes(error.errno)) return undefined;
      throw error;
    }
  }
}

/** The errors of a mapping for which the kernel, or a budget, has no room. */
const NO_ROOM = [ENOMEM, ENOSPC];
