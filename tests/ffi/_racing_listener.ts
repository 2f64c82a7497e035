/**
 * A thread of the race for a stale socket: in each round all of them listen on one path.
 *
 * In the shared words: how many threads are at the barrier, its generation, and from the third on
 * how many listened in each round.
 */

import { UnixListener } from "../../ffi/listener.ts";
import { UnixSocket } from "../../ffi/socket.ts";

/** The data that a thread is given. */
export interface Race {
  words: Int32Array;
  threads: number;
  rounds: number;
  path: string;
  /** True if this thread leaves the stale file. */
  isFirst: boolean;
}

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<Race>) => void;
  postMessage(message: unknown): void;
};

scope.onmessage = ({ data: { words, threads, rounds, path, isFirst } }) => {
  const barrier = () => {
    const generation = Atomics.load(words, 1);
    if (Atomics.add(words, 0, 1) === threads - 1) {
      Atomics.store(words, 0, 0);
      Atomics.add(words, 1, 1);
      Atomics.notify(words, 1);
    } else {
      while (Atomics.load(words, 1) === generation) Atomics.wait(words, 1, generation, 1000);
    }
  };
  const errors = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    if (isFirst) leaveStale(path);
    barrier();
    let listener: UnixListener | undefined;
    try {
      listener = UnixListener.listen(path);
      Atomics.add(words, 2 + round, 1);
    } catch (error) {
      errors.add((error as Error).message);
    }
    barrier();
    if (listener !== undefined) {
      // Whoever thinks that it listens is who a client reaches.
      using socket = UnixSocket.connect(path);
      const accepted = listener.accept();
      if (socket === undefined || accepted === undefined) errors.add("no client reaches it");
      accepted?.close();
      listener.close();
    }
    barrier();
  }
  scope.postMessage([...errors]);
};

/** A socket file as a process leaves it that is killed. */
function leaveStale(path: string): void {
  const listener = UnixListener.listen(`${path}.stale`);
  Deno.renameSync(`${path}.stale`, path);
  listener.close();
}
