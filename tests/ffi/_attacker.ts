/**
 * Holds an eventfd that another thread uses, and fills and empties its counter without pause. Posts
 * "on" once it does.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { libc } from "../../ffi/libc.ts";

const O_NONBLOCK = 0o4000;

/** The global of a Worker, seen from within. */
interface Scope {
  onmessage: (event: MessageEvent<number>) => void;
  postMessage(message: string): void;
}

const scope = globalThis as unknown as Scope;

scope.onmessage = ({ data: fd }) => {
  const c = libc();
  const full = new IoBuffer(8);
  full.view.setBigUint64(0, 2n ** 64n - 2n, true);
  const taken = new IoBuffer(8);
  scope.postMessage("on");
  for (;;) {
    c.fcntl(fd, 4, O_NONBLOCK); // F_SETFL
    c.write(fd, full.pointer, 8n);
    c.fcntl(fd, 4, 0);
    for (let i = 0; i < 20; i++);
    c.fcntl(fd, 4, O_NONBLOCK);
    c.read(fd, taken.pointer, 8n);
    c.fcntl(fd, 4, 0);
    for (let i = 0; i < 20; i++);
  }
};
