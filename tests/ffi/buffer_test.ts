import { assertEquals, assertThrows } from "@std/assert";
import { IoBuffer, lastingBytes } from "../../ffi/buffer.ts";
import { UnixSocket } from "../../ffi/socket.ts";
import { testFds } from "../_fds.ts";

testFds("IoBuffer shows one memory as bytes, fields and address", () => {
  const buffer = new IoBuffer(8);
  buffer.view.setUint32(4, 0x04030201, true);
  assertEquals(buffer.bytes, new Uint8Array([0, 0, 0, 0, 1, 2, 3, 4]));
  assertEquals(Deno.UnsafePointer.value(buffer.pointer), buffer.address);
  const native = new Deno.UnsafePointerView(buffer.pointer);
  assertEquals(native.getUint32(4), 0x04030201);
  assertEquals(buffer.length, 8);
});

testFds("IoBuffer uses a part of a larger buffer where it is", () => {
  const memory = new Uint8Array(64);
  const whole = new IoBuffer(memory);
  const part = new IoBuffer(memory.subarray(16, 32));
  assertEquals(part.address - whole.address, 16n);
  part.view.setUint8(0, 7);
  part.bytes[15] = 8;
  assertEquals([memory[16], memory[31], part.length], [7, 8, 16]);
  assertThrows(() => part.view.getUint8(16), RangeError);
});

testFds("IoBuffer refuses to be empty", () => {
  assertThrows(() => new IoBuffer(0), RangeError, "at least one byte");
  assertThrows(() => new IoBuffer(new Uint8Array(0)), RangeError, "at least one byte");
});

testFds("the address stays the same under garbage", () => {
  const buffer = new IoBuffer(32);
  for (let i = 0; i < 2000; i++) new Uint8Array(4096).fill(i);
  assertEquals(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer.bytes)), buffer.address);
});

testFds("a detached buffer is no memory for a system call", () => {
  const [a, b] = UnixSocket.pair();
  const buffer = new IoBuffer(16);
  structuredClone(null, { transfer: [buffer.bytes.buffer] });
  assertEquals(buffer.length, 0);
  assertThrows(() => a.send(buffer, 0, 16), RangeError, "buffer of 0");
  assertThrows(() => b.receive(buffer, 0, 16), RangeError, "buffer of 0");
  a.close();
  b.close();
});

testFds("lastingBytes() is zeroed memory outside of the garbage collector's", () => {
  const buffer = new IoBuffer(lastingBytes(100));
  assertEquals(buffer.bytes, new Uint8Array(100));
  assertEquals(Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer.bytes)), buffer.address);
  assertThrows(() => lastingBytes(2 ** 52), RangeError, "Cannot allocate");
});
