/**
 * A file on FUSE whose server stops answering: for descriptors that keep every caller waiting.
 *
 * @module
 */

import { OwnedFd } from "../ffi/fd.ts";

const { symbols: c } = Deno.dlopen("libc.so.6", {
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  open_elsewhere: {
    name: "open",
    parameters: ["buffer", "i32", "u32"],
    result: "i32",
    nonblocking: true,
  },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  mount: { parameters: ["buffer", "buffer", "buffer", "usize", "buffer"], result: "i32" },
  umount2: { parameters: ["buffer", "i32"], result: "i32" },
});

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const MNT_DETACH = 2;
const OPEN = 14;
const INIT = 26;

/** `struct fuse_init_out`: version 7.23, writes of 64 KiB. */
const INIT_OUT = new Uint8Array(64);
new Uint32Array(INIT_OUT.buffer).set([7, 23, 65536, 0, 0, 65536]);
/** `struct fuse_open_out`: a handle, flags. */
const OPEN_OUT = new Uint8Array(16);

const cString = (text: string) => new TextEncoder().encode(text + "\0");
const pause = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

/** A mounted file, and its server, which answers nothing but what opens the file. */
export class SilentFile implements Disposable {
  readonly #path: string;
  readonly #server: OwnedFd;
  #file: OwnedFd | undefined;

  private constructor(path: string, server: OwnedFd) {
    this.#path = path;
    this.#server = server;
  }

  /** @returns undefined where this process may not mount anything */
  static mount(): SilentFile | undefined {
    const number = c.open(cString("/dev/fuse"), O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
    if (number < 0) return undefined;
    const server = new OwnedFd(number);
    const path = Deno.makeTempFileSync({ prefix: "vfu-test-" });
    const options = cString(`fd=${number},rootmode=100666,user_id=0,group_id=0`);
    if (c.mount(cString("test"), cString(path), cString("fuse"), 0n, options) === 0) {
      return new SilentFile(path, server);
    }
    server.close();
    Deno.removeSync(path);
    return undefined;
  }

  /**
   * Opens the file. From then on all calls on it wait, until the end of this object, which closes
   * it.
   */
  async open(): Promise<OwnedFd> {
    const opening = c.open_elsewhere(cString(this.#path), O_RDWR | O_CLOEXEC, 0);
    await this.#answer(INIT, INIT_OUT);
    await this.#answer(OPEN, OPEN_OUT);
    return this.#file = new OwnedFd(await opening);
  }

  /** Answers the next request, which is one of that kind. */
  async #answer(kind: number, body: Uint8Array): Promise<void> {
    const request = new Uint8Array(1 << 18);
    while (c.read(this.#server.fd, request, BigInt(request.length)) <= 0n) await pause();
    const header = new DataView(request.buffer); // u32 length, u32 kind, u64 id
    if (header.getUint32(4, true) !== kind) throw new Error(`FUSE: ${header.getUint32(4, true)}`);
    const reply = new Uint8Array(16 + body.length); // u32 length, i32 error, u64 id
    new DataView(reply.buffer).setUint32(0, reply.length, true);
    reply.set(request.subarray(8, 16), 8);
    reply.set(body, 16);
    c.write(this.#server.fd, reply, BigInt(reply.length));
  }

  /** Ends the server: all that waits for it fails. */
  [Symbol.dispose](): void {
    this.#server.close();
    this.#file?.close();
    c.umount2(cString(this.#path), MNT_DETACH);
    Deno.removeSync(this.#path);
  }
}
