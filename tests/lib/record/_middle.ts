/**
 * A recorder between a client and a server that are driven by hand.
 *
 * @module
 */

import { UnixListener } from "../../../ffi/listener.ts";
import { UnixSocket } from "../../../ffi/socket.ts";
import type { NewEvent } from "../../../lib/record/event.ts";
import { ListeningServer, Recorder, type RecorderOptions } from "../../../lib/record/recorder.ts";
import { Command } from "../../../lib/wire/command.ts";
import { type Capabilities, encodeVersion } from "../../../lib/wire/version.ts";
import { RawPeer } from "../../_raw_peer.ts";
import { until } from "../../_until.ts";

/** Both ends of a recorder. */
export interface Middle extends AsyncDisposable {
  readonly recorder: Recorder;
  /** All events so far; their bytes are copies. */
  readonly events: NewEvent[];
  readonly client: RawPeer;
  readonly server: RawPeer;
  /** The path at which clients connect, and that of the side socket. */
  readonly paths: { readonly listen: string; readonly side: string };
  /** Connects another client; the server's end of it comes once it is served. */
  connect(): RawPeer;
  /** The server's next connection. */
  accept(): Promise<RawPeer>;
}

/** Events of one kind. */
export function ofKind<K extends NewEvent["kind"]>(
  events: readonly NewEvent[],
  kind: K,
): Extract<NewEvent, { kind: K }>[] {
  return events.filter((each): each is Extract<NewEvent, { kind: K }> => each.kind === kind);
}

/** Starts a recorder, and connects a client through it. */
export async function beInTheMiddle(
  options: Partial<RecorderOptions> & { hasSide?: boolean } = {},
): Promise<Middle> {
  const { hasSide = false, ...rest } = options;
  const dir = Deno.makeTempDirSync();
  const paths = { listen: `${dir}/listen.sock`, side: `${dir}/side.sock` };
  const listener = UnixListener.listen(`${dir}/server.sock`);
  const events: NewEvent[] = [];
  const peers: RawPeer[] = [];
  const recorder = Recorder.start({
    listen: paths.listen,
    server: new ListeningServer(`${dir}/server.sock`),
    ...(hasSide && { side: paths.side }),
    ...rest,
    sink: (event) => {
      const isTransfer = event.kind === "message" || event.kind === "garbage";
      events.push(isTransfer ? { ...event, bytes: event.bytes.slice() } : event);
      rest.sink?.(event);
    },
  });
  const own = (socket: UnixSocket) => {
    const peer = new RawPeer(socket);
    peers.push(peer);
    return peer;
  };
  const connect = () => own(UnixSocket.connect(paths.listen)!);
  const accept = async () => {
    let socket: UnixSocket | undefined;
    await until(() => (socket = listener.accept()) !== undefined, "the connection to the server");
    return own(socket!);
  };
  const client = connect();
  const server = await accept();
  return {
    recorder,
    events,
    client,
    server,
    paths,
    connect,
    accept,
    async [Symbol.asyncDispose]() {
      for (const peer of peers) peer.close();
      recorder.close();
      listener.close();
      await recorder.closed;
      Deno.removeSync(dir, { recursive: true });
    },
  };
}

/** Has client and server agree on a version. */
export async function shakeHands(
  { client, server }: Middle,
  capabilities: Capabilities = {},
  fds: Parameters<RawPeer["reply"]>[2] = [],
) {
  client.command(1, Command.VERSION, encodeVersion({ major: 0, minor: 1, capabilities: {} }));
  const request = await server.expect(Command.VERSION);
  server.reply(request, encodeVersion({ major: 0, minor: 1, capabilities }), fds);
  return await client.expect(Command.VERSION);
}
