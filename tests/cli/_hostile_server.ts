/**
 * Servers that mean no good to their client: `_hostile_server.ts WAY SOCKET`.
 *
 * A server of the way `mute` answers nothing, and one of `flood` sends without an end. `gifts`
 * sends descriptors with each reply. `leak` keeps a descriptor of each client. `report` writes what
 * a sanitizer writes.
 *
 * @module
 */

import { IoBuffer } from "../../ffi/buffer.ts";
import { EAGAIN, ETOOMANYREFS } from "../../ffi/errno.ts";
import { EventFd, POLLIN } from "../../ffi/event.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { watch } from "../../ffi/poller.ts";
import { UnixListener } from "../../ffi/listener.ts";
import type { UnixSocket } from "../../ffi/socket.ts";
import { DeviceInfoReply } from "../../lib/wire/device.ts";
import { encodeMessage, HeaderLayout } from "../../lib/wire/header.ts";
import { encodeVersion } from "../../lib/wire/version.ts";

const [way, path] = Deno.args as [string, string];
const kept: OwnedFd[] = [];
const buffer = new IoBuffer(1 << 20);
const gifts = Array.from({ length: 8 }, () => new EventFd().handle.fd);

/** The reply to a request: that of VERSION and of DEVICE_GET_INFO, or an error. */
function replyTo(bytes: Uint8Array): Uint8Array {
  const { messageId, command } = HeaderLayout.decode(bytes);
  const reply = (payload: Uint8Array) => encodeMessage({ messageId, command, flags: 1 }, payload);
  if (command === 1) return reply(encodeVersion({ major: 0, minor: 1, capabilities: {} }));
  if (command !== 4) return encodeMessage({ messageId, command, flags: 0x21, error: 22 });
  return reply(DeviceInfoReply.encode({ argsz: 16, flags: 2, numRegions: 0, numIrqs: 0 }));
}

function send(socket: UnixSocket, bytes: Uint8Array, fds: readonly number[] = []): void {
  const out = new IoBuffer(Uint8Array.from(bytes));
  // The client takes what is sent, or leaves.
  while ([-EAGAIN, -ETOOMANYREFS].includes(socket.send(out, 0, bytes.length, fds)));
}

/** Answers the whole messages of what came. */
function answer(socket: UnixSocket, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) {
    if (at + 16 > bytes.length) return socket.shutdown(); // it came in pieces
    const { size, flags } = HeaderLayout.decode(bytes, at);
    if (size < 16 || at + size > bytes.length) return socket.shutdown();
    const message = bytes.slice(at, at + size);
    at += size;
    if ((flags & 0x1f) !== 0) continue;
    send(socket, replyTo(message), way === "gifts" ? gifts : []);
    if (way === "report" && HeaderLayout.decode(message).command === 13) {
      const text = "reset.c:5:9: runtime error: shift exponent 32 is too large\n";
      Deno.stderr.writeSync(new TextEncoder().encode(text));
    }
  }
}

const listener = UnixListener.listen(path);
watch(listener.fd, POLLIN, () => {
  const socket = listener.accept();
  if (socket === undefined) return;
  if (way === "leak") kept.push(OwnedFd.open("/dev/null"));
  let pieces = 0;
  const watching = watch(socket.fd, POLLIN, () => {
    const count = socket.receive(buffer, 0, buffer.length);
    for (const fd of socket.receivedFds) fd.close();
    if (count <= 0) {
      watching.close();
      socket.close();
      return;
    }
    if (way === "mute") return;
    answer(socket, buffer.bytes.slice(0, count));
    // A flood begins behind the questions what the server offers.
    if (way === "flood" && ++pieces > 30) {
      const flood = new Uint8Array(1 << 16).fill(0xff);
      for (let i = 0; i < 64; i++) send(socket, flood);
    }
  });
});
