import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import fc from "fast-check";
import { IoBuffer } from "../../../ffi/buffer.ts";
import { EAGAIN, EPIPE } from "../../../ffi/errno.ts";
import { countOpenFds, OwnedFd } from "../../../ffi/fd.ts";
import { EventFd } from "../../../ffi/event.ts";
import { idle } from "../../../ffi/poller.ts";
import { UnixListener } from "../../../ffi/listener.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import { connect, type ConnectOptions } from "../../../lib/client/connect.ts";
import type { Device } from "../../../lib/client/device.ts";
import {
  ConnectionError,
  ProtocolError,
  RemoteError,
  TimeoutError,
} from "../../../lib/base/errors.ts";
import { Command } from "../../../lib/wire/command.ts";
import { encodeMessage, MessageFlags } from "../../../lib/wire/header.ts";
import { decodeVersion, encodeVersion } from "../../../lib/wire/version.ts";
import { testFds } from "../../_fds.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { answerWell, connectScripted, ScriptedServer } from "../_scripted_server.ts";
import { DENO } from "../../_deno.ts";
import { PATIENCE_MS, PATIENT } from "../../_until.ts";

/** A temporary folder for the duration of `body`. */
async function withFolder(body: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "vfu-test-" });
  try {
    await body(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** The error of a connect that fails, as one clear line. */
async function failureOf(connecting: Promise<Device>): Promise<Error> {
  const error = await assertRejects(() => connecting);
  assertMatch(error.message, /^[A-Z][^\n]{10,250}[^.\n]$/);
  return error;
}

// ---- Paths where no process serves

/** Runs a synchronous function without root's privileges. */
function asNobody<T>(body: () => T): T {
  if (Deno.uid() !== 0) return body();
  const libc = Deno.dlopen("libc.so.6", { seteuid: { parameters: ["u32"], result: "i32" } });
  libc.symbols.seteuid(65534);
  try {
    return body();
  } finally {
    libc.symbols.seteuid(0);
    libc.close();
  }
}

const PATHS: [what: string, prepare: (folder: string) => string, message: RegExp][] = [
  [
    "there is no such path",
    (folder) => `${folder}/none.sock`,
    /none\.sock: there is no such file; start the server, or check the path$/,
  ],
  [
    "a part of the path is a file",
    (folder) => {
      Deno.writeTextFileSync(`${folder}/file`, "");
      return `${folder}/file/dev.sock`;
    },
    /dev\.sock: there is no such file; start the server, or check the path$/,
  ],
  [
    "it is a regular file",
    (folder) => {
      Deno.writeTextFileSync(`${folder}/file`, "");
      return `${folder}/file`;
    },
    /file: it is not a socket; give the path that the server was started with$/,
  ],
  [
    "it is a folder",
    (folder) => folder,
    /: it is not a socket; give the path that the server was started with$/,
  ],
  [
    "the server has ended",
    (folder) => {
      using _listener = UnixListener.listen(`${folder}/new.sock`);
      // Close() does not find it there
      Deno.renameSync(`${folder}/new.sock`, `${folder}/stale.sock`);
      return `${folder}/stale.sock`;
    },
    /stale\.sock: no process listens on it: the server has ended, or .*; start it again/,
  ],
  [
    "the path is longer than an address holds",
    (folder) => `${folder}/${"x".repeat(107 - folder.length)}`,
    /: Socket path is too long: 108 bytes, an address holds 107; use a relative path or a link to it$/,
  ],
  ["the path is empty", () => "", /^Cannot connect to : A socket path is not empty/],
  [
    "the path holds a NUL",
    () => "a\0b",
    /^Cannot connect to .*: A socket path is not empty and holds no NUL$/,
  ],
  [
    "the path is a link to itself",
    (folder) => {
      Deno.symlinkSync(`${folder}/loop`, `${folder}/loop`);
      return `${folder}/loop`;
    },
    /loop: ELOOP/,
  ],
];
for (const [what, prepare, message] of PATHS) {
  testFds(`connect() says what to do when ${what}`, () =>
    withFolder(async (folder) => {
      const error = await failureOf(connect(prepare(folder)));
      assertInstanceOf(error, ConnectionError);
      assertMatch(error.message, message);
      assertInstanceOf(error.cause, Error);
    }));
}

testFds("connect() says what to do when permission is denied", () =>
  withFolder(async (folder) => {
    Deno.chmodSync(folder, 0o755);
    const path = `${folder}/dev.sock`;
    using _listener = UnixListener.listen(path);
    Deno.chmodSync(path, 0o600);
    if (Deno.uid() !== 0) Deno.chmodSync(path, 0);
    const error = await asNobody(() => failureOf(connect(path)));
    assertInstanceOf(error, ConnectionError);
    assertMatch(error.message, /dev\.sock: permission denied; it takes write permission on the/);
  }));

testFds("connect() takes a path of 107 bytes", () =>
  withFolder(async (folder) => {
    const path = `${folder}/${"x".repeat(106 - folder.length)}`;
    using listener = UnixListener.listen(path);
    const connecting = connect(path);
    using peer = new RawPeer(listener.accept()!);
    await peer.acceptVersion();
    (await connecting).close();
  }));

/** Fills the queue of a listener. */
function fillQueue(path: string): UnixSocket[] {
  const sockets: UnixSocket[] = [];
  for (let socket; (socket = UnixSocket.connect(path)) !== undefined;) sockets.push(socket);
  return sockets;
}

testFds(
  "connect() gives up with a clear message when the server's queue stays full",
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/dev.sock`;
      using _listener = UnixListener.listen(path, 0);
      const others = fillQueue(path);
      const error = await failureOf(connect(path, { timeoutMs: 50 }));
      assertInstanceOf(error, TimeoutError);
      assertMatch(
        error.message,
        /dev\.sock: the server did not accept within 50 ms; it may be busy/,
      );
      for (const other of others) other.close();
    }),
);

testFds(
  "connect() goes on when the server's queue has room again",
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/dev.sock`;
      using listener = UnixListener.listen(path, 0);
      const others = fillQueue(path);
      const connecting = connect(path);
      await new Promise((resolve) => setTimeout(resolve, 30));
      for (const other of others) {
        listener.accept()!.close();
        other.close();
      }
      let socket: UnixSocket | undefined;
      while ((socket = listener.accept()) === undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      using peer = new RawPeer(socket);
      await peer.acceptVersion();
      (await connecting).close();
    }),
);

// ---- Descriptors in place of a path

testFds("connect() refuses a descriptor that is no connected UNIX stream socket", async () => {
  using event = new EventFd();
  for (
    const [fd, message] of [
      [event.fd, /^Cannot use file descriptor \d+: .*ENOTSOCK/],
      [1023, /^Cannot use file descriptor 1023: EBADF/],
      [-1, /^Cannot use file descriptor -1: EBADF/],
    ] as const
  ) {
    const error = await failureOf(connect(fd));
    assertInstanceOf(error, ConnectionError);
    assertMatch(error.message, message);
  }
  assert(event.isOpen && event.take() === 0n, "what it can't use stays the caller's");
});

testFds("connect() refuses a socket of another kind", async () => {
  const before = socketFds();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [fd] = socketFds().difference(before);
  try {
    const error = await failureOf(connect(fd!));
    assertInstanceOf(error, ConnectionError);
    assertMatch(error.message, /^Cannot use file descriptor \d+: it is not a UNIX stream socket$/);
  } finally {
    listener.close();
  }
});

/** The sockets of this process: of its own, Deno does not tell the number. */
function socketFds(): Set<number> {
  const fds = new Set<number>();
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:")) fds.add(Number(name));
    } catch { /* the folder's own */ }
  }
  return fds;
}

testFds(
  "connect() says so when the descriptor's socket is not connected",
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/dev.sock`;
      using listener = UnixListener.listen(path);
      const borrowed = new OwnedFd(listener.fd);
      const copy = borrowed.duplicate();
      borrowed.release();
      assertInstanceOf(await failureOf(connect(copy.release())), ConnectionError);
    }),
);

// ---- Answers to VERSION

function bytes(...values: number[]): Uint8Array {
  return new Uint8Array(values);
}

function versionWith(json: string, major = 0, minor = 1): Uint8Array {
  return new Uint8Array([major, 0, minor, 0, ...new TextEncoder().encode(json)]);
}

/** A VERSION reply with another header. */
function replyWith(
  header: Partial<Parameters<typeof encodeMessage>[0]> & { size?: number },
  payload = versionWith("{}\0"),
): Uint8Array {
  const message = encodeMessage(
    { messageId: 1, command: Command.VERSION, flags: MessageFlags.REPLY, ...header },
    payload,
  );
  if (header.size !== undefined) new DataView(message.buffer).setUint32(4, header.size, true);
  return message;
}

type ErrorClass =
  | typeof ConnectionError
  | typeof ProtocolError
  | typeof RemoteError
  | typeof TimeoutError;
interface Scenario {
  what: string;
  /** Answers for the server when VERSION has come. */
  answer: (peer: RawPeer) => void;
  error: ErrorClass;
  message: RegExp;
  options?: ConnectOptions;
}

function answering(
  what: string,
  message: Uint8Array,
  error: ErrorClass,
  pattern: RegExp,
): Scenario {
  return { what, answer: (peer) => peer.send(message), error, message: pattern };
}

function saying(what: string, capabilities: string, pattern: RegExp): Scenario {
  return answering(
    what,
    replyWith({}, versionWith(`{"capabilities":${capabilities}}\0`)),
    ProtocolError,
    pattern,
  );
}

const whole = replyWith({});
const refusal = (error: number, size = 16) =>
  replyWith({ flags: MessageFlags.REPLY | MessageFlags.ERROR, error, size }, bytes());
/** Greetings of servers of other protocols, and the part of each that the user sees. */
const STRANGERS: readonly [name: string, greeting: Uint8Array, said: string][] = [
  [
    "HTTP",
    ascii("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "HTTP/1.1 400 Bad Request (HTTP)",
  ],
  [
    "HTTP/2",
    bytes(0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100),
    "00 00 06 04 00 00 00 00 00 00 03 00 00 00 64 |..............d| (HTTP/2)",
  ],
  [
    "QMP",
    ascii(
      '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 7}}, "capabilities": []}}',
    ),
    '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 2, "major": 7}}, "capabilitie … ' +
    "(QMP, a monitor of QEMU)",
  ],
  ["SSH", ascii("SSH-2.0-OpenSSH_9.2p1\r\n"), "SSH-2.0-OpenSSH_9.2p1 (SSH)"],
  ["SSH of few letters", ascii("SSH-2.0-x\r\n"), "SSH-2.0-x (SSH)"],
  ["SMTP", ascii("220 mail ESMTP\r\n"), "220 mail ESMTP"],
  ["VNC", ascii("RFB 003.008\n"), "RFB 003.008 (VNC)"],
  [
    "vhost-user",
    bytes(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
    "01 00 00 00 01 00 00 00 00 00 00 00 |............| (vhost-user)",
  ],
  ["TLS", bytes(0x15, 3, 1, 0, 2, 2, 70), "15 03 01 00 02 02 46 |......F| (TLS)"],
  [
    "terminal sequences",
    ascii("\x1b]0;owned\x07\x1b[2J\x1b[31mhello"),
    "1b 5d 30 3b 6f 77 6e 65 64 07 1b 5b 32 4a 1b 5b … |.]0;owned..[2J.[|",
  ],
  ["for ever", ascii("x".repeat(4000)), `${"x".repeat(80)} …`],
];

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

const SCENARIOS: Scenario[] = [
  {
    what: "stays silent",
    answer: () => {},
    error: TimeoutError,
    message:
      /^Cannot agree on a version \(proposed 0\.2\): the server did not answer within 60 ms; it may be busy with another client, or be no vfio-user server$/,
    options: { timeoutMs: 60 },
  },
  {
    what: "stops in the middle of its answer",
    answer: (peer) => peer.send(whole.subarray(0, 20)),
    error: TimeoutError,
    message: /did not answer within 60 ms/,
    options: { timeoutMs: 60 },
  },
  {
    what: "closes in place of an answer",
    answer: (peer) => peer.close(),
    error: ConnectionError,
    message:
      /^Cannot agree on a version \(proposed 0\.2\): the server closed the connection; it may refuse this version, or be no vfio-user server$/,
  },
  ...[1, 15, 16, whole.length - 1].map((count): Scenario => ({
    what: `closes after ${count} bytes of its answer`,
    answer: (peer) => {
      peer.send(whole.subarray(0, count));
      peer.close();
    },
    error: ConnectionError,
    message: new RegExp(
      `the server closed the connection in the middle of a message: ${count} of .* bytes came`,
    ),
  })),
  ...[0, 1, 15].map((size) =>
    answering(
      `says a message size of ${size}`,
      replyWith({ size }),
      ProtocolError,
      new RegExp(`impossible reply \\(VERSION\\): its size is ${size}, less than a header's 16`),
    )
  ),
  ...[16401, 0xffffffff].map((size) =>
    answering(
      `says a message size of ${size}`,
      replyWith({ size }),
      ProtocolError,
      new RegExp(`its size is ${size}, at most 16400 are allowed`),
    )
  ),
  answering(
    "says a message size that cuts its answer",
    replyWith({ size: 19 }),
    ProtocolError,
    /^Cannot decode VERSION: 3 bytes came, 4 are needed$/,
  ),
  answering(
    "says a message size that ends in its JSON",
    replyWith({ size: 21 }),
    ProtocolError,
    /^Cannot decode VERSION: the JSON does not end with a NUL$/,
  ),
  ...[2, 3, 15].map((type) =>
    answering(
      `sends a message of type ${type}`,
      replyWith({ flags: type }),
      ProtocolError,
      new RegExp(`its type is ${type}, neither command nor reply`),
    )
  ),
  answering(
    "answers with an unknown message id",
    replyWith({ messageId: 7 }),
    ProtocolError,
    /sent a VERSION reply with message id 7, which no request has/,
  ),
  answering(
    "answers another command",
    replyWith({ command: Command.DMA_MAP }),
    ProtocolError,
    /sent a DMA_MAP reply to request 1, which is VERSION/,
  ),
  ...STRANGERS.map(([name, greeting, said]): Scenario => ({
    what: `speaks ${name}`,
    answer: (peer) => peer.send(greeting),
    error: ProtocolError,
    message: new RegExp(
      `^Cannot agree on a version \\(proposed 0\\.2\\): it is no vfio-user server; it said: ${
        escapePattern(said)
      }$`,
    ),
    // What is shorter than a header may be the beginning of a message until the wait ends.
    ...(greeting.length < 16 && { options: { timeoutMs: 1000 } }),
  })),
  {
    what: "says half a line and closes",
    answer: (peer) => {
      peer.send(ascii("500 OOPS"));
      peer.close();
    },
    error: ProtocolError,
    message: /it is no vfio-user server; it said: 500 OOPS$/,
  },
  {
    what: "echoes",
    answer: (peer) => peer.command(1, Command.VERSION, versionWith("", 0, 2)),
    error: ProtocolError,
    message: /it is no vfio-user server; it sent a VERSION request, .* an echo of ours$/,
  },
  answering("refuses with EINVAL", refusal(22), RemoteError, /: the server answered EINVAL/),
  answering(
    "refuses without an errno",
    refusal(0),
    RemoteError,
    /with an error, but gave no errno/,
  ),
  answering("refuses with an unknown errno", refusal(4242), RemoteError, /answered errno 4242$/),
  answering(
    "refuses with an errno beyond 31 bits",
    refusal(0xffffffea),
    RemoteError,
    /answered errno 4294967274$/,
  ),
  answering(
    "answers another major version",
    replyWith({}, versionWith("", 1, 0)),
    ProtocolError,
    /answered version 1\.0, which we do not speak: we proposed 0\.2$/,
  ),
  answering(
    "answers a greater minor version",
    replyWith({}, versionWith("", 0, 3)),
    ProtocolError,
    /answered version 0\.3, greater than the 0\.2 proposed$/,
  ),
  answering(
    "answers nothing at all",
    replyWith({}, bytes()),
    ProtocolError,
    /^Cannot decode VERSION: 0 bytes came, 4 are needed$/,
  ),
  answering(
    "leaves the NUL out",
    replyWith({}, versionWith("{}")),
    ProtocolError,
    /the JSON does not end with a NUL$/,
  ),
  answering(
    "sends a NUL in the middle",
    replyWith({}, versionWith("{}\0{}\0")),
    ProtocolError,
    /3 bytes follow the NUL that ends the JSON$/,
  ),
  answering("sends no JSON text", replyWith({}, versionWith("\0")), ProtocolError, /is not valid/),
  answering(
    "sends bad JSON",
    replyWith({}, versionWith('{"capabilities":\n\t{,}\0')),
    ProtocolError,
    /^Cannot decode VERSION: the JSON is not valid: /,
  ),
  answering(
    "sends deep JSON",
    replyWith({}, versionWith("[".repeat(16000) + "\0")),
    ProtocolError,
    /the JSON is not valid/,
  ),
  answering(
    "sends bytes that are not UTF-8",
    replyWith({}, bytes(0, 0, 1, 0, 0xff, 0xfe, 0)),
    ProtocolError,
    /the JSON is not UTF-8$/,
  ),
  answering(
    "sends JSON that is no object",
    replyWith({}, versionWith("[]\0")),
    ProtocolError,
    /the JSON is an array, not an object$/,
  ),
  saying("sends capabilities of a wrong type", '"yes"', /capabilities is a string, not an object/),
  saying("sends a string for a number", '{"max_msg_fds":"8"}', /max_msg_fds is a string, not a/),
  saying("sends null for a number", '{"max_dma_maps":null}', /max_dma_maps is null, not a number$/),
  saying("sends a number for a boolean", '{"write_multiple":1}', /write_multiple is a number, not/),
  saying("sends a boolean for an object", '{"twin_socket":true}', /twin_socket is a boolean, not/),
  saying("sends a negative number", '{"max_msg_fds":-1}', /max_msg_fds is -1, the least is 0$/),
  saying("sends a size of 0", '{"max_data_xfer_size":0}', /size is 0, the least is 1$/),
  saying("sends a mask of 0", '{"pgsizes":0}', /pgsizes is 0, the least is 1$/),
  saying("sends a fraction", '{"max_data_xfer_size":1.5}', /size is 1\.5, not an integer$/),
  saying("sends a mask of 2^64", '{"pgsizes":18446744073709551616}', /not a mask of 64 bits$/),
  saying("sends 1e400", '{"max_msg_fds":1e400}', /max_msg_fds is Infinity, not an integer$/),
  {
    ...saying(
      "makes a twin socket that nobody asked for",
      '{"twin_socket":{"supported":true,"fd_index":0}}',
      /answered with a twin socket, which was not asked for$/,
    ),
    options: { twinSocket: false },
  },
  {
    what: "passes descriptors where none belong",
    options: { twinSocket: false },
    answer: (peer) => sendWithFds(peer, whole, 2),
    error: ProtocolError,
    message: /passed 2 file descriptors with a VERSION reply, where none belong$/,
  },
  {
    what: "passes more descriptors than the kernel's limit in pieces",
    answer: (peer) => {
      sendWithFds(peer, whole.subarray(0, 8), 253);
      sendWithFds(peer, whole.subarray(8), 1);
    },
    error: ProtocolError,
    message: /passed 254 file descriptors with a message, 253 are allowed$/,
  },
];

/** Passes `count` copies of one descriptor. */
function sendWithFds(peer: RawPeer, message: Uint8Array, count: number): void {
  using event = new EventFd();
  peer.send(message, new Array<OwnedFd>(count).fill(event.handle));
}

/** The rest of what a client sends: nothing, for it has closed. */
async function assertClosed(peer: RawPeer): Promise<void> {
  if (!peer.socket.isOpen) return;
  assertEquals(await peer.receive(), undefined, "the client has not closed its end");
  peer.close();
}

for (const { what, answer, error: errorClass, message, options } of SCENARIOS) {
  testFds(`connect() fails clearly with a server that ${what}`, () =>
    withFolder(async (folder) => {
      // Over a socket that was handed over
      const [peer, socket] = RawPeer.pair();
      const check = async (peer: RawPeer, connecting: Promise<Device>) => {
        const failing = failureOf(connecting);
        await peer.expect(Command.VERSION);
        answer(peer);
        const error = await failing;
        assertInstanceOf<Error>(error, errorClass, `${error.name}: ${error.message}`);
        assertMatch(error.message, message);
        await assertClosed(peer);
      };
      await check(peer, connect(socket.release(), { ...PATIENT, ...options }));
      // Over a path
      using listener = UnixListener.listen(`${folder}/dev.sock`);
      const connecting = connect(`${folder}/dev.sock`, { ...PATIENT, ...options });
      await check(new RawPeer(listener.accept()!), connecting);
    }));
}

testFds("connect() fails clearly when descriptors were lost on the way (MSG_CTRUNC)", async () => {
  // A process with no descriptor to spare loses those that come: 1 is all that this child may have.
  const code = `
    import { connect } from "${import.meta.resolve("../../../lib/client/connect.ts")}";
    import { RawPeer } from "${import.meta.resolve("../../_raw_peer.ts")}";
    import { EventFd } from "${import.meta.resolve("../../../ffi/event.ts")}";
    import { OwnedFd } from "${import.meta.resolve("../../../ffi/fd.ts")}";
    const [peer, socket] = RawPeer.pair();
    const event = new EventFd();
    const connecting = connect(socket.release(), { timeoutMs: 60_000 });
    connecting.catch(() => {});
    const request = await peer.expect(1);
    const full = [];
    try { while (true) full.push(event.handle.duplicate()); } catch { /* EMFILE */ }
    peer.reply(request, new Uint8Array([0, 0, 1, 0]), [event.handle]);
    const error = await connecting.catch((error) => error);
    for (const fd of full) fd.close();
    console.log(error.name + ": " + error.message);
    peer.close();
    event.close();
  `;
  const { stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'ulimit -n 64 && exec "$0" eval "$1"', DENO, code],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  assertMatch(
    new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr),
    /^ProtocolError: File descriptors that the server passed were lost \(MSG_CTRUNC\)/,
  );
});

// ---- Answers that are fine

testFds("connect() proposes version and capabilities, and gives what was agreed on", async () => {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release());
  const request = await peer.expect(Command.VERSION);
  assertEquals(decodeVersion(request.payload), {
    major: 0,
    minor: 2,
    capabilities: {
      maxMsgFds: 16,
      maxDataXferSize: 1 << 20,
      maxDmaMaps: 65535,
      pgsizes: 4096n,
      writeMultiple: true,
      twinSocket: { supported: true },
      migration: { pgsize: 4096 },
    },
  });
  const server = {
    maxMsgFds: 8,
    maxDataXferSize: 4096,
    maxDmaMaps: 7,
    pgsizes: 1n << 63n,
    writeMultiple: true,
    extra: { colour: "blue" },
  };
  peer.reply(request, encodeVersion({ major: 0, minor: 1, capabilities: server }));
  using device = await connecting;
  const { client: _, ...negotiated } = device.negotiated;
  assertEquals(negotiated, {
    major: 0,
    minor: 1,
    server,
    maxMsgFds: 8,
    maxDataXferSize: 4096,
    maxDmaMaps: 7,
    pgsizes: 1n << 63n,
    writeMultiple: true,
    twinSocket: false,
  });
  assertEquals(device.proxy.peerMaxFds, 8);
  peer.close();
});

testFds("connect() takes the lesser of what the server takes and what we do", async () => {
  const huge = [
    '{"capabilities":{"max_msg_fds":254,"max_data_xfer_size":67108865}}\0',
    '{"capabilities":{"max_msg_fds":18446744073709551615,"max_data_xfer_size":1e300}}\0\0\0',
  ];
  for (const json of huge) {
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release(), { capabilities: { maxDataXferSize: 128 << 20 } });
    peer.reply(await peer.expect(Command.VERSION), versionWith(json, 0, 0));
    using device = await connecting;
    const { maxMsgFds, maxDataXferSize } = device.negotiated;
    assertEquals([maxMsgFds, maxDataXferSize], [253, 64 << 20]);
    assertEquals(device.proxy.peerMaxFds, 253);
    peer.close();
  }
});

testFds("connect() goes without a twin socket if the server says nothing of it", async () => {
  for (const twin of ["{}", '{"supported":false}', '{"fd_index":0}']) {
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release());
    const json = `{"capabilities":{"twin_socket":${twin}}}\0`;
    peer.reply(await peer.expect(Command.VERSION), versionWith(json, 0, 0));
    using device = await connecting;
    assertEquals([device.negotiated.twinSocket, device.proxy.twin], [false, undefined]);
    peer.close();
  }
});

testFds("connect() takes the specification's defaults for what the server leaves out", async () => {
  for (const json of ["", "{}\0", '{"capabilities":{}}\0', '{"other":[1]}\0']) {
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release());
    peer.reply(await peer.expect(Command.VERSION), versionWith(json, 0, 0));
    using device = await connecting;
    const { minor, maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes, writeMultiple } =
      device.negotiated;
    assertEquals(
      [minor, maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes, writeMultiple],
      [0, 1, 1 << 20, 65535, 4096n, false],
    );
    peer.close();
  }
});

testFds("connect() proposes what its options say", async () => {
  const [peer, socket] = RawPeer.pair();
  const capabilities = { maxMsgFds: 3, maxDataXferSize: 8192, extra: { note: 1 } };
  const connecting = connect(socket.release(), { minor: 0, capabilities });
  const request = decodeVersion((await peer.acceptVersion()).payload);
  assertEquals([request.minor, request.capabilities.maxMsgFds], [0, 3]);
  assertEquals(request.capabilities.extra, { note: 1 });
  const error = await assertRejects(() => connecting, ProtocolError);
  assertMatch(error.message, /answered version 0\.1, greater than the 0\.0 proposed/);
  peer.close();
});

testFds("connect() understands a server that sends one byte at a time", async () => {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release());
  await peer.expect(Command.VERSION);
  for (const byte of whole) {
    peer.send(bytes(byte));
    await Promise.resolve();
  }
  (await connecting).close();
  peer.close();
});

testFds("connect() has given up for good when the answer comes after the timeout", async () => {
  const [peer, socket] = RawPeer.pair();
  const connecting = connect(socket.release(), { timeoutMs: 20 });
  const request = await peer.expect(Command.VERSION);
  await assertRejects(() => connecting, TimeoutError);
  const reply = encodeMessage({ ...request, flags: MessageFlags.REPLY }, versionWith(""));
  assertEquals(peer.socket.send(new IoBuffer(reply.slice()), 0, reply.length), -EPIPE);
  peer.close();
});

testFds("connect() refuses options that make no VERSION, and closes the socket", async () => {
  for (const options of [{ minor: 65536 }, { capabilities: { extra: { x: "y".repeat(20000) } } }]) {
    const [peer, socket] = RawPeer.pair();
    await assertRejects(() => connect(socket.release(), options), RangeError);
    await assertClosed(peer);
  }
});

// ---- Twin sockets

interface TwinCase {
  what: string;
  /** The value of `twin_socket` in the reply. */
  twin: unknown;
  /** Makes what the server passes. */
  fds: (twin: UnixSocket, event: EventFd) => OwnedFd[];
  /** The failure of the connection; without a failure the client takes the twin. */
  message?: RegExp;
}

/** The descriptor of a socket, which gives it up. */
function fdOf(socket: UnixSocket): OwnedFd {
  return new OwnedFd(socket.release());
}

const TWINS: TwinCase[] = [
  {
    what: "takes the socket at fd_index",
    twin: { supported: true, fd_index: 0 },
    fds: (twin) => [fdOf(twin)],
  },
  {
    what: "closes the descriptors that are not the socket",
    twin: { supported: true, fd_index: 1 },
    fds: (twin, event) => [event.handle.duplicate(), fdOf(twin), event.handle.duplicate()],
  },
  {
    what: "does without if the server does",
    twin: { supported: false },
    fds: () => [],
  },
  {
    what: "closes what comes although it is not supported",
    twin: { supported: false },
    fds: (_, event) => [event.handle.duplicate()],
  },
  {
    what: "does without if the server does not mention it",
    twin: undefined,
    fds: () => [],
  },
  {
    what: "refuses a missing fd_index",
    twin: { supported: true },
    fds: (twin) => [fdOf(twin)],
    message: /made a twin socket, but its fd_index is missing and 1 file descriptor came$/,
  },
  {
    what: "refuses an fd_index beyond the descriptors",
    twin: { supported: true, fd_index: 2 },
    fds: (twin, event) => [fdOf(twin), event.handle.duplicate()],
    message: /its fd_index is 2 and 2 file descriptors came$/,
  },
  {
    what: "refuses an fd_index without descriptors",
    twin: { supported: true, fd_index: 0 },
    fds: () => [],
    message: /its fd_index is 0 and 0 file descriptors came$/,
  },
  {
    what: "refuses a descriptor that is no socket",
    twin: { supported: true, fd_index: 0 },
    fds: (_, event) => [event.handle.duplicate()],
    message: /^The twin socket that the server passed is not a UNIX stream socket$/,
  },
  {
    what: "refuses an fd_index that is a fraction",
    twin: { supported: true, fd_index: 0.5 },
    fds: (twin) => [fdOf(twin)],
    message: /twin_socket\.fd_index is 0\.5, not an integer$/,
  },
];
for (const { what, twin, fds: makeFds, message } of TWINS) {
  testFds(`connect() with twinSocket ${what}`, async () => {
    using event = new EventFd();
    const [ours, theirs] = UnixSocket.pair();
    using _ours = ours;
    using _theirs = theirs;
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release(), { twinSocket: true });
    const request = await peer.expect(Command.VERSION);
    assertEquals(decodeVersion(request.payload).capabilities.twinSocket, { supported: true });
    const fds = makeFds(theirs, event);
    const json = JSON.stringify({ capabilities: { twin_socket: twin } });
    peer.reply(request, versionWith(json + "\0"), fds);
    for (const fd of fds) fd.close();
    if (message === undefined) {
      const device = await connecting;
      const isTaken = JSON.stringify(twin ?? {}).includes("true");
      assertEquals(device.negotiated.twinSocket, isTaken);
      theirs[Symbol.dispose]();
      const buffer = new IoBuffer(1);
      assertEquals(ours.receive(buffer, 0, 1), isTaken ? -EAGAIN : 0, "open if it is taken");
      device.close();
      assertEquals(ours.receive(buffer, 0, 1), 0, "closed with the device");
    } else {
      const error = await failureOf(connecting);
      assertInstanceOf(error, ProtocolError);
      assertMatch(error.message, message);
    }
    await assertClosed(peer);
  });
}

// ---- Calling it off

testFds(
  "connect() can be called off before it begins, on a path and on a descriptor",
  () =>
    withFolder(async (folder) => {
      const reason = new Error("enough");
      const signal = AbortSignal.abort(reason);
      using listener = UnixListener.listen(`${folder}/dev.sock`);
      assertStrictEquals(
        await assertRejects(() => connect(`${folder}/dev.sock`, { signal })),
        reason,
      );
      assertEquals(listener.accept(), undefined);
      const [peer, socket] = RawPeer.pair();
      assertStrictEquals(await assertRejects(() => connect(socket.release(), { signal })), reason);
      await assertClosed(peer);
    }),
);

testFds(
  "connect() can be called off while the server's queue is full",
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/dev.sock`;
      using _listener = UnixListener.listen(path, 0);
      const others = fillQueue(path);
      const controller = new AbortController();
      const connecting = connect(path, { signal: controller.signal });
      const reason = new Error("enough");
      setTimeout(() => controller.abort(reason), 5);
      assertStrictEquals(await assertRejects(() => connecting), reason);
      for (const other of others) other.close();
    }),
);

testFds("connect() can be called off before and in the middle of the answer", async () => {
  for (const sent of [0, 10, 20]) {
    const controller = new AbortController();
    const [peer, socket] = RawPeer.pair();
    const connecting = connect(socket.release(), { signal: controller.signal });
    const settled = Promise.allSettled([connecting]);
    await peer.expect(Command.VERSION);
    if (sent > 0) peer.send(whole.subarray(0, sent));
    await new Promise((resolve) => setTimeout(resolve, 2));
    const reason = new Error("enough");
    controller.abort(reason);
    const [result] = await settled;
    assertStrictEquals((result as PromiseRejectedResult).reason, reason);
    await assertClosed(peer);
  }
});

testFds("connect() is not undone by a signal that comes later", async () => {
  const controller = new AbortController();
  const [device, server] = await connectScripted(() => false, { signal: controller.signal });
  controller.abort();
  assertEquals((await device.info()).numRegions, 9);
  device.close();
  server.close();
});

// ---- Anything at all

/** A change to one reply of a valid conversation. */
type Mutation =
  | { kind: "flip"; at: number; bits: number }
  | { kind: "cut"; at: number }
  | { kind: "close"; at: number }
  | { kind: "insert"; at: number; value: number }
  | { kind: "twice" }
  | { kind: "drop" }
  | { kind: "fds"; count: number };

const mutations: fc.Arbitrary<Mutation> = fc.oneof(
  {
    weight: 12,
    arbitrary: mutation("flip", { at: fc.nat(80), bits: fc.integer({ min: 1, max: 255 }) }),
  },
  { weight: 1, arbitrary: mutation("cut", { at: fc.nat(80) }) },
  { weight: 2, arbitrary: mutation("close", { at: fc.nat(80) }) },
  { weight: 1, arbitrary: mutation("insert", { at: fc.nat(80), value: fc.nat(255) }) },
  { weight: 1, arbitrary: mutation("twice", {}) },
  { weight: 1, arbitrary: mutation("drop", {}) },
  { weight: 2, arbitrary: mutation("fds", { count: fc.integer({ min: 1, max: 20 }) }) },
);

function mutation<K extends Mutation["kind"]>(
  kind: K,
  fields: Record<string, fc.Arbitrary<number>>,
): fc.Arbitrary<Mutation> {
  return fc.record({ kind: fc.constant(kind), ...fields }) as unknown as fc.Arbitrary<Mutation>;
}

function sendMutated(
  peer: RawPeer,
  message: Uint8Array,
  fds: readonly OwnedFd[],
  mutation: Mutation,
  spare: OwnedFd,
): void {
  const at = "at" in mutation ? Math.min(mutation.at, message.length - 1) : 0;
  switch (mutation.kind) {
    case "flip":
      message[at]! ^= mutation.bits;
      return peer.send(message, fds);
    case "cut":
      return at === 0 ? undefined : peer.send(message.subarray(0, at), fds);
    case "close":
      if (at > 0) peer.send(message.subarray(0, at), fds);
      return peer.socket.shutdown();
    case "insert":
      return peer.send(
        new Uint8Array([...message.subarray(0, at), mutation.value, ...message.subarray(at)]),
        fds,
      );
    case "twice":
      peer.send(message, fds);
      return peer.send(message, fds);
    case "drop":
      return;
    case "fds":
      return peer.send(message, new Array<OwnedFd>(mutation.count).fill(spare));
  }
}

/** All that a probe asks. */
async function converse(device: Device, timeoutMs: number): Promise<void> {
  const { numIrqs } = await device.info({ timeoutMs });
  await Promise.all([device.regionInfo(0), device.regionInfo(0), device.regionInfo(1)]);
  if (numIrqs > 0) await device.irqInfo(0);
  await device.readConfigSpace();
  await device.reset({ timeoutMs });
}

testFds("no mutation of a server's answers hangs, surprises or leaks", async () => {
  using memory = new EventFd();
  await fc.assert(
    fc.asyncProperty(
      fc.nat(16),
      mutations,
      fc.boolean(),
      async (index, mutation, twinSocket) => {
        await idle();
        const before = countOpenFds(128);
        const [peer, socket] = RawPeer.pair();
        const server = new ScriptedServer(peer, (peer, request, count) => {
          const { payload, fds = [] } = answerWell(request, memory.handle);
          const reply = encodeMessage({ ...request, flags: MessageFlags.REPLY }, payload);
          try {
            if (count === index) sendMutated(peer, reply, fds, mutation, memory.handle);
            else peer.send(reply, fds);
          } catch { /* the client has closed */ }
        });
        try {
          using device = await connect(socket.release(), { timeoutMs: 25, twinSocket });
          await converse(device, 25);
        } catch (error) {
          const isOurs = error instanceof ProtocolError || error instanceof ConnectionError ||
            error instanceof TimeoutError || error instanceof RemoteError;
          assert(isOurs, `${error}`);
        }
        server.close();
        await idle();
        assertEquals(countOpenFds(128), before, "open file descriptors");
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test({
  name: "connect() looks at a file that refuses it only if that was permitted",
  permissions: { ffi: true, write: true, read: false },
  async fn() {
    const path = `/tmp/vfu-test-${crypto.randomUUID()}`;
    Deno.writeTextFileSync(path, "");
    const { statSync } = Deno;
    let looks = 0;
    Deno.statSync = (...args) => {
      looks++; // in a terminal this asks the user
      return statSync(...args);
    };
    try {
      const error = await assertRejects(() => connect(path), ConnectionError);
      assertMatch(error.message, /no process listens on it/);
      assertEquals(looks, 0);
    } finally {
      Deno.statSync = statSync;
      Deno.removeSync(path);
    }
  },
});
