/**
 * A device that migrates, whose hooks are written down, and the messages of migration by hand.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { MigrationSink, ServedMigration } from "../../../lib/server/served_device.ts";
import { Command } from "../../../lib/wire/command.ts";
import {
  DeviceFeatureRequest,
  DeviceStateData,
  Feature,
  FeatureFlags,
} from "../../../lib/wire/feature.ts";
import {
  MigDataReadReply,
  MigDataReadRequest,
  MigDataWriteRequest,
} from "../../../lib/wire/migration.ts";
import type { RawPeer } from "../../_raw_peer.ts";
import { ask, type Reply, TestDevice } from "./_client.ts";

const { GET, SET } = FeatureFlags;

/**
 * Its state is `bytes`; PRE_COPY tells the first half. What its hooks do is written into `calls`;
 * what is in `faults` fails.
 */
export class MigratingDevice extends TestDevice {
  readonly calls: string[] = [];
  readonly faults = new Set<string>();
  bytes: Uint8Array = new Uint8Array([1, 2, 3, 4, 5, 6]);
  /** The number of bytes that a chunk has. */
  chunk = 2;
  readonly migration: ServedMigration;

  constructor({ hasPreCopy = true, isAsync = false } = {}) {
    super();
    const hook = (name: string): void | Promise<void> => {
      const run = () => this.#call(name);
      return isAsync ? new Promise((resolve) => setTimeout(resolve, 1)).then(run) : run();
    };
    const chunks = (start: number, end: number) =>
      isAsync ? this.#asyncChunks(start, end) : this.#chunks(start, end);
    this.migration = {
      stop: () => hook("stop"),
      start: () => hook("start"),
      ...(hasPreCopy && {
        preCopy: () => {
          this.#call("preCopy");
          return chunks(0, this.bytes.length / 2);
        },
      }),
      stopCopy: (continues) => {
        this.#call(`stopCopy(${continues})`);
        return chunks(continues ? this.bytes.length / 2 : 0, this.bytes.length);
      },
      resume: () => {
        this.#call("resume");
        return this.#sink(hook);
      },
    };
  }

  override reset(): void | Promise<void> {
    this.#call("reset");
  }

  #call(name: string): void {
    this.calls.push(name);
    if (this.faults.has(name)) throw new Error(`The test has ${name} fail`);
  }

  *#chunks(start: number, end: number): Generator<Uint8Array> {
    try {
      for (let at = start; at < end; at += this.chunk) {
        this.#call("next");
        yield this.bytes.slice(at, Math.min(end, at + this.chunk));
      }
    } finally {
      this.calls.push("return");
    }
  }

  async *#asyncChunks(start: number, end: number): AsyncGenerator<Uint8Array> {
    for (const chunk of this.#chunks(start, end)) {
      await undefined;
      yield chunk;
    }
  }

  #sink(hook: (name: string) => void | Promise<void>): MigrationSink {
    const came: number[] = [];
    return {
      write: (data) => {
        came.push(...data);
        return hook("write");
      },
      commit: async () => {
        await hook("commit");
        this.bytes = new Uint8Array(came);
      },
      abort: () => this.#call("abort"),
    };
  }

  /** Takes the calls since the last time. */
  take(): string {
    return this.calls.splice(0).join(" ");
  }
}

/** DEVICE_FEATURE with flags and data; room for a reply of 64 KiB. */
export function feature(
  peer: RawPeer,
  flags: number,
  data: Uint8Array = new Uint8Array(),
): Promise<Reply> {
  const argsz = Math.max(65536, 8 + data.length);
  return ask(peer, Command.DEVICE_FEATURE, DeviceFeatureRequest.encode({ argsz, flags, data }));
}

/** Sets the state. Gives the errno. */
export async function setState(peer: RawPeer, state: number): Promise<number> {
  const data = DeviceStateData.encode({ state, dataFd: 0 });
  return (await feature(peer, SET | Feature.MIG_DEVICE_STATE, data)).errno;
}

/** The state. */
export async function getState(peer: RawPeer): Promise<number> {
  const { errno, payload } = await feature(peer, GET | Feature.MIG_DEVICE_STATE);
  assertEquals([errno, payload.length], [0, 16]);
  return DeviceStateData.decode(payload.subarray(8)).state;
}

/** MIG_DATA_READ. Gives the data, or the errno. */
export async function readData(
  peer: RawPeer,
  size: number,
  argsz = 8 + size,
): Promise<number[] | number> {
  const request = MigDataReadRequest.encode({ argsz, size });
  const { errno, payload } = await ask(peer, Command.MIG_DATA_READ, request);
  if (errno !== 0) return errno;
  const { argsz: came, data } = MigDataReadReply.decode(payload);
  assertEquals([came, payload.length], [8 + data.length, 8 + data.length]);
  return [...data];
}

/** MIG_DATA_WRITE. Gives the errno. */
export async function writeData(peer: RawPeer, data: Uint8Array): Promise<number> {
  const request = MigDataWriteRequest.encode({ argsz: 8 + data.length, data });
  const { errno, payload } = await ask(peer, Command.MIG_DATA_WRITE, request);
  assertEquals(payload.length, 0);
  return errno;
}
