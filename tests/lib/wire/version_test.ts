import { assertEquals, assertThrows } from "@std/assert";
import { decodeVersion, encodeVersion, limitsOf, ProtocolError } from "../../../lib/wire/mod.ts";
import { MAX_VERSION_SIZE } from "../../../lib/base/limits.ts";
import { concat, hex, utf8 } from "./_golden.ts";

/** The payload of version 0.1 with this text and its NUL. */
function payload(json: string): Uint8Array {
  return concat(hex("00 00 01 00"), utf8(json + "\0"));
}

function withCapabilities(text: string): Uint8Array {
  return payload(`{"capabilities":{${text}}}`);
}

function refuses(bytes: Uint8Array, message: string): void {
  assertThrows(() => decodeVersion(bytes), ProtocolError, `Cannot decode VERSION: ${message}`);
}

Deno.test("encodeVersion() writes the numbers, then the JSON and its NUL", () => {
  const version = { major: 0x0102, minor: 3, capabilities: { maxMsgFds: 8 } };
  assertEquals(
    encodeVersion(version),
    concat(hex("02 01 03 00"), utf8('{"capabilities":{"max_msg_fds":8}}\0')),
  );
});

Deno.test("encodeVersion() writes no JSON when there is nothing to say", () => {
  assertEquals(encodeVersion({ major: 0, minor: 2, capabilities: {} }), hex("00 00 02 00"));
});

Deno.test("encodeVersion() refuses what no peer would take", () => {
  const extra = { long: "x".repeat(MAX_VERSION_SIZE) };
  assertThrows(() => encodeVersion({ major: 0, minor: 0, capabilities: {}, extra }), RangeError);
  assertThrows(
    () => encodeVersion({ major: 70000, minor: 0, capabilities: {} }),
    RangeError,
    "major is 70000",
  );
});

Deno.test("encodeVersion() lets a known key win over one of the same name in extra", () => {
  const bytes = encodeVersion({
    major: 0,
    minor: 0,
    capabilities: { maxMsgFds: 8, extra: { max_msg_fds: 9 } },
  });
  assertEquals(decodeVersion(bytes).capabilities, { maxMsgFds: 8 });
});

Deno.test("decodeVersion() takes a VERSION without JSON", () => {
  assertEquals(decodeVersion(hex("00 00 01 00")), { major: 0, minor: 1, capabilities: {} });
});

Deno.test("decodeVersion() reads what QEMU's client sends", () => {
  const json =
    '{"capabilities":{"migration":{"pgsize":4096,"max_bitmap_size":268435456},"max_msg_fds":16,' +
    '"max_data_xfer_size":1048576,"pgsizes":4096,"max_dma_maps":65535,"write_multiple":true}}';
  assertEquals(decodeVersion(payload(json)), {
    major: 0,
    minor: 1,
    capabilities: {
      migration: { pgsize: 4096, maxBitmapSize: 268435456 },
      maxMsgFds: 16,
      maxDataXferSize: 1048576,
      pgsizes: 4096n,
      maxDmaMaps: 65535,
      writeMultiple: true,
    },
  });
});

Deno.test("decodeVersion() reads what libvfio-user answers", () => {
  const json = '{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, ' +
    '"migration": { "pgsize": 4096 }, "twin_socket": { "supported": true, "fd_index": 0 } } }';
  assertEquals(decodeVersion(payload(json)).capabilities, {
    maxMsgFds: 8,
    maxDataXferSize: 1048576,
    migration: { pgsize: 4096 },
    twinSocket: { supported: true, fdIndex: 0 },
  });
});

Deno.test("decodeVersion() keeps keys that it does not know, at every level", () => {
  const json = '{"vendor":[1],"capabilities":{"twin_socket":{"supported":false,"x":null},' +
    '"__proto__":{"a":1}}}';
  const version = decodeVersion(payload(json));
  assertEquals(version.extra, { vendor: [1] });
  assertEquals(version.capabilities.twinSocket, { supported: false, extra: { x: null } });
  assertEquals(Object.keys(version.capabilities.extra!), ["__proto__"]);
  assertEquals(decodeVersion(encodeVersion(version)), version);
});

Deno.test("decodeVersion() keeps all 64 bits of pgsizes", () => {
  const { capabilities } = decodeVersion(withCapabilities('"pgsizes":18446744073709547520'));
  assertEquals(capabilities.pgsizes, 0xffff_ffff_ffff_f000n);
});

Deno.test("decodeVersion() refuses fewer than 4 bytes", () => {
  refuses(hex("00 00 01"), "3 bytes came, 4 are needed");
});

Deno.test("decodeVersion() takes several NULs at the end, and nothing but NULs", () => {
  const bytes = withCapabilities('"max_msg_fds":8');
  const { capabilities } = decodeVersion(concat(bytes, new Uint8Array(100)));
  assertEquals(capabilities, { maxMsgFds: 8 });
});

Deno.test("encodeVersion() writes an empty object if that is asked for", () => {
  const version = { major: 0, minor: 2, capabilities: {}, extra: {} };
  assertEquals(encodeVersion(version), concat(hex("00 00 02 00"), utf8("{}\0")));
});

Deno.test("decodeVersion() refuses a text that does not end with a NUL", () => {
  refuses(concat(hex("00 00 01 00"), utf8("{}")), "the JSON does not end with a NUL");
  refuses(payload("{}\0x"), "2 bytes follow the NUL");
  refuses(payload("{}\0\0\0x"), "4 bytes follow the NUL");
  refuses(payload('{}\0{"capabilities":{}}'), "20 bytes follow the NUL");
});

Deno.test("decodeVersion() refuses bytes that are not UTF-8", () => {
  refuses(hex("00 00 01 00 22 c3 28 22 00"), "the JSON is not UTF-8");
  refuses(hex("00 00 01 00 ff 00"), "the JSON is not UTF-8");
});

Deno.test("decodeVersion() refuses what is not JSON", () => {
  for (const text of ["", "\0", "{", "{'a':1}", "\ufeff{}", "{}x", '{"capabilities":01}']) {
    refuses(payload(text), "the JSON is not valid: ");
  }
});

Deno.test("decodeVersion() refuses JSON that is not an object", () => {
  refuses(payload("[]"), "the JSON is an array, not an object");
  refuses(payload("null"), "the JSON is null, not an object");
  refuses(payload('"x"'), "the JSON is a string, not an object");
  refuses(payload('{"capabilities":7}'), "capabilities is a number, not an object");
  refuses(payload('{"capabilities":null}'), "capabilities is null, not an object");
});

Deno.test("decodeVersion() refuses a known key of the wrong type", () => {
  for (const key of ["max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes"]) {
    refuses(withCapabilities(`"${key}":"8"`), `${key} is a string, not a number`);
    refuses(withCapabilities(`"${key}":null`), `${key} is null, not a number`);
    refuses(withCapabilities(`"${key}":true`), `${key} is a boolean, not a number`);
    refuses(withCapabilities(`"${key}":[8]`), `${key} is an array, not a number`);
  }
  refuses(withCapabilities('"write_multiple":1'), "write_multiple is a number, not true or false");
  refuses(withCapabilities('"twin_socket":true'), "twin_socket is a boolean, not an object");
  refuses(
    withCapabilities('"twin_socket":{"supported":"yes"}'),
    "twin_socket.supported is a string, not true or false",
  );
  refuses(
    withCapabilities('"twin_socket":{"supported":true,"fd_index":-1}'),
    "twin_socket.fd_index is -1, the least is 0",
  );
  refuses(withCapabilities('"migration":[]'), "migration is an array, not an object");
  refuses(withCapabilities('"migration":{"pgsize":0}'), "migration.pgsize is 0, the least is 1");
});

Deno.test("decodeVersion() refuses numbers that are no sane limits", () => {
  for (const key of ["max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes"]) {
    refuses(withCapabilities(`"${key}":1.5`), `${key} is 1.5, not an integer`);
    refuses(withCapabilities(`"${key}":-1`), `${key} is -1, the least is`);
    refuses(withCapabilities(`"${key}":1e999`), `${key} is Infinity, not an integer`);
    refuses(withCapabilities(`"${key}":-18446744073709551616`), `${key} is -18446744073709551616`);
  }
  for (const key of ["max_data_xfer_size", "pgsizes"]) {
    refuses(withCapabilities(`"${key}":0`), `${key} is 0, the least is 1`);
  }
  refuses(
    withCapabilities('"pgsizes":18446744073709551616'),
    "pgsizes is 18446744073709551616, not",
  );
  refuses(
    withCapabilities(`"pgsizes":${"9".repeat(9000)}`),
    "pgsizes is 99999999999999999999… (9000",
  );
});

Deno.test("decodeVersion() takes limits as large as their sender likes, and 0 of some", () => {
  const { MAX_SAFE_INTEGER } = Number;
  const forms: [string, number][] = [
    ["253", 253],
    ["254", 254],
    ["4096.0", 4096],
    ["1e9", 1e9],
    ["4294967295", 0xffff_ffff],
    ["9007199254740991", MAX_SAFE_INTEGER],
    ["9007199254740992", MAX_SAFE_INTEGER],
    ["18446744073709551615", MAX_SAFE_INTEGER],
    ["1e300", MAX_SAFE_INTEGER],
    ["9".repeat(300), MAX_SAFE_INTEGER],
  ];
  for (const [text, value] of forms) {
    const keys = ["max_msg_fds", "max_data_xfer_size", "max_dma_maps"];
    const said = keys.map((key) => `"${key}":${text}`).join(",");
    const { capabilities } = decodeVersion(withCapabilities(said));
    assertEquals(Object.values(capabilities), [value, value, value], text);
  }
  const none = decodeVersion(withCapabilities('"max_msg_fds":0,"max_dma_maps":0')).capabilities;
  assertEquals(none, { maxMsgFds: 0, maxDmaMaps: 0 });
});

Deno.test("decodeVersion() takes a twin_socket that says nothing", () => {
  assertEquals(decodeVersion(withCapabilities('"twin_socket":{}')).capabilities, {
    twinSocket: {},
  });
});

Deno.test("decodeVersion() refuses more bytes than the limit, and survives brackets up to it", () => {
  refuses(new Uint8Array(MAX_VERSION_SIZE + 1), `${MAX_VERSION_SIZE + 1} bytes came, the limit is`);
  const depth = (MAX_VERSION_SIZE - 4 - 1) >> 1;
  const bomb = payload("[".repeat(depth) + "]".repeat(depth));
  // Whether the engine's stack holds them or not, it is the peer's fault.
  assertThrows(() => decodeVersion(bomb), ProtocolError, "Cannot decode VERSION: the JSON is");
});

Deno.test("limitsOf() is the lesser of what a peer takes and our own limits", () => {
  assertEquals(limitsOf({}), { maxMsgFds: 1, maxDataXferSize: 1 << 20 });
  assertEquals(limitsOf({ maxMsgFds: 0, maxDataXferSize: 1 }), {
    maxMsgFds: 0,
    maxDataXferSize: 1,
  });
  const huge = Number.MAX_SAFE_INTEGER;
  const most = { maxMsgFds: 253, maxDataXferSize: 64 << 20 };
  assertEquals(limitsOf(most), most);
  assertEquals(limitsOf({ maxMsgFds: 254, maxDataXferSize: (64 << 20) + 1 }), most);
  assertEquals(limitsOf({ maxMsgFds: huge, maxDataXferSize: huge }), most);
});
