import { assertEquals, assertThrows } from "@std/assert";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { tellReady } from "../../../lib/server/ready.ts";
import { testFds } from "../../_fds.ts";

testFds("tellReady() writes a line and closes the descriptor", () => {
  const [a, b] = UnixSocket.pair();
  tellReady(b.release());
  const buffer = new IoBuffer(32);
  const count = a.receive(buffer, 0, 32);
  assertEquals(new TextDecoder().decode(buffer.bytes.subarray(0, count)), "READY=1\n");
  assertEquals(a.receive(buffer, 0, 32), 0); // nothing more comes
  a.close();
});

testFds("tellReady() says which descriptor can't be written to", () => {
  assertThrows(
    () => tellReady(999),
    Error,
    "Cannot tell file descriptor 999 that the server is ready",
  );
});
