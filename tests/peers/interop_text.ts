/**
 * The text of `docs/interop.md`: results of `vfu check`, with explanations written by hand.
 *
 * @module
 */

import { DENO } from "../_deno.ts";
import { type PeerProgram, peerProgram, peersCache } from "./peers.ts";

/** A server of the matrix. */
export interface InteropPeer {
  /** The heading of its column. */
  readonly name: string;
  /** The program that serves, as a phrase. */
  readonly title: string;
  readonly program: PeerProgram | "vfu";
  /** The device, where the program has several. */
  readonly device?: string;
  /** The session of `examples/sessions/` by which the device copies, if there is one. */
  readonly copy?: string;
}

/** The columns, in order. Ours come first, and have no deviation. */
export const INTEROP_PEERS: readonly InteropPeer[] = [
  { name: "demo", title: "vfu's demo device", program: "vfu", device: "demo" },
  ...["nvme", "gpio", "timer", "dma_engine"].map((name): InteropPeer => ({
    name: `${name}.ts`,
    title: `vfu serving \`examples/${name}.ts\``,
    program: "vfu",
    device: `./examples/${name}.ts`,
    ...(name === "dma_engine" && { copy: "dma_engine_copy" }),
  })),
  ...["edu", "nvme", "e1000e"].map((device): InteropPeer => ({
    name: `qemu-${device}`,
    title: `QEMU 7.2's server with ${device}`,
    program: "qemu-system-x86_64",
    device,
    ...(device === "edu" && { copy: "edu_copy" }),
  })),
  {
    name: "sample-server",
    title: "the sample `server` of libvfio-user (late 2022)",
    program: "server",
  },
  {
    name: "sample-gpio",
    title: "the sample `gpio-pci-idio-16` of libvfio-user (late 2022)",
    program: "gpio-pci-idio-16",
  },
  { name: "crate-gpio", title: "the example `gpio` of the crate `vfio_user`", program: "gpio" },
];

/** A client of the matrix. */
export interface InteropClient {
  /** The heading of its column. */
  readonly name: string;
  /** The client and its work, as a phrase. */
  readonly title: string;
  /** The command, in which `{vfu}` stands for ours and `{peer:NAME}` for a program of the cache. */
  readonly command: string;
}

/** QEMU without a guest: it sets the device up, and leaves by its monitor. */
const QEMU_CLIENT = [
  `sh -c '(echo "{\\"execute\\":\\"qmp_capabilities\\"}"; sleep 0.5;`,
  `echo "{\\"execute\\":\\"quit\\"}") | {guest}/qemu -S -qmp stdio -accel tcg -nodefaults`,
  "-no-user-config -display none -m 64M -machine q35,memory-backend=mem",
  "-object memory-backend-memfd,id=mem,size=64M,share=on",
  "-device pcie-root-port,id=rp0,chassis=1,slot=1,addr=4.0 -device",
  `"{\\"driver\\":\\"vfio-user-pci\\",\\"bus\\":\\"rp0\\",\\"x-msg-timeout\\":2000,`,
].join(" ") + `\\"socket\\":{\\"type\\":\\"unix\\",\\"path\\":\\"{socket}\\"}}"'`;

/** Whatever the crate's client can do with the device. */
const CRATE_STEPS = [
  ...["info", "irqs:5", "read:7:0:4", "map:0x100000:0x10000", "fill:0x100010:00112233"],
  ...["write:0:8:01020304", "read:0:8:4", "enable:2:0:4", "write:0:0x20:02000000", "wait:2:2"],
  ...["disable:2", "reset", "unmap:0x100000:0x10000"],
].join(" ");

/** The columns of clients, in order. Ours come first, and have no deviation. */
export const INTEROP_CLIENTS: readonly InteropClient[] = [
  { name: "vfu-probe", title: "`vfu probe`", command: "{vfu} probe {socket}" },
  {
    name: "vfu-run",
    title: "`vfu run` of a session with memory, interrupts and a reset",
    command: "{vfu} run tests/peers/client_session.yaml {socket}",
  },
  {
    name: "vfu-module",
    title: "a program that has several requests under way, with the module",
    command: "{deno} run --frozen -A tests/cli/_busy_client.ts {socket}",
  },
  {
    name: "client-qemu",
    title: "QEMU 11.1's `vfio-user-pci`, which sets the device up for no guest",
    command: QEMU_CLIENT,
  },
  {
    name: "client-crate",
    title: "a program on the client of the crate `vfio_user`",
    command: `{peer:crate-client} {socket} ${CRATE_STEPS}`,
  },
  {
    name: "client-sample",
    title: "the sample `client` of libvfio-user, which wants the device of its `server`",
    command: "{peer:client} {socket}",
  },
];

/** The command of a client, with the programs of this machine. */
export function clientCommand(command: string): string {
  return command.replace("{vfu}", `${DENO} run --frozen -A cli/main.ts`).replace("{deno}", DENO)
    .replace("{guest}", `${peersCache()}/guest`)
    .replace(/\{peer:([\w-]+)\}/, (_, name) => peerProgram(name as PeerProgram));
}

/** A line of `vfu check --json`, or of `vfu check-client --json`. */
export interface InteropResult {
  readonly id: string;
  readonly group: string;
  readonly level: string;
  readonly rule: string;
  readonly verdict: string;
  readonly came?: string;
  readonly reason?: string;
}

/** Checks whose result changes from run to run with some peers, and the reason. */
export const UNSTABLE: Readonly<Record<string, string>> = {
  "server/framing/18": "libvfio-user answers the reply in some runs, and is silent in others",
  "server/framing/25": "libvfio-user may find the parts of a message together",
  "server/connection/6": "a server that ends with its client may seem to be stopped by it",
  "server/connection/17": "the server may be slow, or be known to take one client only",
  "client/server_commands/2": "the crate's client may have left before it finds the command",
  "client/server_commands/4": "as of `client/server_commands/2`",
  "client/server_commands/5": "as of `client/server_commands/2`",
};

/** QEMU's server and the samples, which share libvfio-user. */
const LIBVFIO_USER = /^(qemu|sample)/;

/** Names of peers, a match in the id or in what came, and the sentence. */
export type Explanation = readonly [peer: RegExp, match: RegExp, text: string];

/** Deviations that one sentence explains; the first that fits is taken. */
export const EXPLANATIONS: readonly Explanation[] = [
  [
    LIBVFIO_USER,
    /negotiation\/8$/,
    "libvfio-user names all its capabilities, whatever was proposed.",
  ],
  [
    /^qemu/,
    /negotiation\/(5|16|17|18|20|21|22|32|41|42)$|connection\/[234]$/,
    "A VERSION that fails is a fatal error for QEMU's object, which aborts.",
  ],
  [
    /^sample/,
    /negotiation\/(5|16|17|18|20|21|22|32|41|42)$|connection\/[234]$/,
    "The sample takes a VERSION that fails for a reason to end.",
  ],
  [LIBVFIO_USER, /negotiation\/19$/, "libvfio-user does not check the sign of a limit."],
  [/^sample/, /framing\/13$/, "libvfio-user of 2022 still answers this command of older drafts."],
  [
    LIBVFIO_USER,
    /framing\/18$/,
    "libvfio-user answers a reply that nothing waits for as if it were a request.",
  ],
  [
    LIBVFIO_USER,
    /framing\/(19|20|21|22|25)$|connection\/6$/,
    "libvfio-user reads header and body with one recv(2) each, and no more for what is missing.",
  ],
  [
    LIBVFIO_USER,
    /connection\/17$/,
    "libvfio-user serves one client at a time, also one that says nothing.",
  ],
  [/^sample/, /region_read\/11$/, "libvfio-user does not enforce READ and WRITE flags."],
  [
    /^qemu/,
    /region_(read|write)\//,
    "QEMU splits an access to configuration space by 4, and asserts on a rest of 3 bytes.",
  ],
  [
    LIBVFIO_USER,
    /region_write\/1[45]$/,
    "libvfio-user reads a body with one recv(2), which ends before so many bytes.",
  ],
  [
    /^sample/,
    /info\/2[89]$/,
    "The sample describes its configuration space without the flag READ.",
  ],
  [LIBVFIO_USER, /dma\/14$/, "libvfio-user does not check the end of a range."],
  [LIBVFIO_USER, /dma\/1[89]$/, "libvfio-user does not compare a map with the size of its file."],
  [LIBVFIO_USER, /dma\/24$/, "libvfio-user does not check the number of descriptors of a map."],
  [LIBVFIO_USER, /dma\/48$/, "libvfio-user unmaps exact ranges only."],
  [
    /^qemu/,
    /dma_messages\/1$/,
    "QEMU's server maps memory that has a descriptor, and has no DMA_READ and DMA_WRITE.",
  ],
  [
    /^qemu/,
    /dma_messages\/2[34]$/,
    "QEMU's devices ignore the rights of a map; the kernel ends a server that writes such memory.",
  ],
  [LIBVFIO_USER, /irqs\/15$/, "libvfio-user ignores flags that it does not know."],
  [LIBVFIO_USER, /irqs\/36$/, "libvfio-user masks any index."],
  [
    LIBVFIO_USER,
    /irqs\/42$/,
    "INTx, MSI and MSI-X share one table of descriptors in libvfio-user.",
  ],
  [/^(qemu|sample|crate)/, /connection\/15$/, "The server ends with its client."],
  [/^crate/, /negotiation\/5$/, "The crate answers 0.0 to any version."],
  [/^crate/, /negotiation\/10$/, "The crate wants capabilities in the JSON of VERSION."],
  [/^crate/, /negotiation\/8$/, "The crate names all its capabilities, whatever was proposed."],
  [
    /^crate/,
    /negotiation\/(22|23|42)$|framing\/17$/,
    "The crate goes by the command alone, whatever the type is and before VERSION as well.",
  ],
  [/^crate/, /errors\/17$/, "The crate answers most faults with errno 0."],
  [
    /^crate/,
    /framing\/11$/,
    "The crate does not read the body of an unknown command, and is out of step.",
  ],
  [
    /^crate/,
    /command \d+ error reply/,
    "The crate does not read the body of a command that it does not serve, and is out of step.",
  ],
  [/^crate/, /ended with code 101$/, "The crate's server panics."],
  [/^crate/, /nothing within/, "The crate waits for bytes that do not come."],
  [
    /^crate/,
    /\/(dma|irqs|region_read|region_write|info|descriptors)\/\d+ .* reply/,
    "The crate hands requests to its device, which checks less than the rule asks for.",
  ],
  [
    /^client-qemu/,
    /framing\/[56]$/,
    "QEMU's client finds the request of a reply by the message id alone.",
  ],
  [
    /^client-qemu/,
    /framing\/(19|20|21)$|region_write\/13$/,
    "QEMU's client reads a header with one recvmsg(2), and gives up if a part is missing.",
  ],
  [
    /^client-qemu/,
    /(dma_messages|server_commands)\/\d+$/,
    "QEMU serves commands of the device in its main loop, which here waits for a reply.",
  ],
  [
    /^client-qemu/,
    /as with a plain device/,
    "QEMU's client does not compare the size and the fields of a reply with its request.",
  ],
  [
    /^client-crate/,
    /negotiation\/(2|33)$/,
    "The crate's client does not look at the version that was answered.",
  ],
  [
    /^client-crate/,
    /negotiation\/20$/,
    "The crate's client does not look at max_msg_fds.",
  ],
  [
    /^client-crate/,
    /neither asked on nor left/,
    "The crate's client waits for as many bytes as it expects, whatever the header says.",
  ],
  [/^client-crate/, /was ended by SIG/, "The crate's client panics."],
  [
    /^client-crate/,
    /info\/(13|38)$/,
    "The crate's client keeps every descriptor that comes with a region.",
  ],
  [
    /^client-crate/,
    /negotiation\//,
    "The crate's client wants the JSON of VERSION as it knows it.",
  ],
  [
    /^client-crate/,
    /(dma_messages|server_commands)\/\d+$/,
    "The crate's client serves no command of the device.",
  ],
  [
    /^client-crate/,
    /as with a plain device/,
    "The crate's client looks at hardly any field of a reply.",
  ],
];

/**
 * Parses the lines of `vfu check --json`.
 *
 * @throws {Error} If the run was not whole
 */
export function resultsOf(text: string): InteropResult[] {
  const lines = text.trim().split("\n").map((line) => JSON.parse(line));
  const summary = lines.pop();
  if (summary?.type !== "summary" || summary.error !== undefined) {
    throw new Error(`The run was not whole: ${summary?.error ?? "it has no summary"}`);
  }
  return lines;
}

/** Results of peers, by their names. */
export type InteropResults = ReadonlyMap<string, readonly InteropResult[]>;

/** The document. */
export function interopText(servers: InteropResults, clients: InteropResults): string {
  const sections = [...servers, ...clients].map(([name, results]) => peerText(name, results));
  return `# Which server and which client keeps which rule

\`deno task interop\` writes this document from runs of \`vfu check\` against each server that the tests
have, and of \`vfu check-client\` against each client. Each cell counts the checks that passed,
deviated, and do not apply. Deviations count at every level, from MUST to MAY. \`--explain ID\` of
both commands prints the rule of a check with its section.

Servers:

${matrixText(servers)}

${INTEROP_PEERS.map(({ name, title }) => `- ${name}: ${title}`).join("\n")}

Clients:

${matrixText(clients)}

${INTEROP_CLIENTS.map(({ name, title }) => `- ${name}: ${title}`).join("\n")}

Results of these checks may change from run to run with some peers:

${Object.entries(UNSTABLE).map(([id, why]) => `- \`${id}\`: ${why}.`).join("\n")}

${sections.join("\n\n")}
`;
}

/** Counts by group and peer. */
function matrixText(results: InteropResults): string {
  const all = [...results.values()];
  const groups = [...new Set(all.flatMap((each) => each.map(({ group }) => group)))];
  const cell = (each: readonly InteropResult[]) => {
    const count = (verdict: string) => each.filter((result) => result.verdict === verdict).length;
    const [passed, failed] = [count("passed"), count("failed")];
    return `${passed} / ${failed} / ${each.length - passed - failed}`;
  };
  const row = (title: string, choose: (result: InteropResult) => boolean) => [
    title,
    ...all.map((each) => cell(each.filter(choose))),
  ];
  return tableText([
    ["group", ...results.keys()],
    ...groups.map((title) => row(title, ({ group }) => group === title)),
    row("all", () => true),
  ]);
}

/** The ids of the deviations that a document lists for a peer. */
export function deviationsIn(text: string, peer: string): string[] {
  const section = text.split(/^## /m).find((each) => each.startsWith(`${peer}\n`)) ?? "";
  return [...section.matchAll(/^\| `([^`]+)`/gm)].map(([, id]) => id!);
}

/** The section of a peer, with its deviations. */
function peerText(name: string, results: readonly InteropResult[]): string {
  const failed = results.filter(({ verdict }) => verdict === "failed");
  if (failed.length === 0) return `## ${name}\n\nNo deviation.`;
  const rows = failed.map((result) => [
    `\`${result.id}\`${result.id in UNSTABLE ? " (unstable)" : ""}`,
    result.level,
    result.rule,
    cameText(result),
    explanationOf(name, result),
  ]);
  return `## ${name}\n\n${tableText([["check", "level", "rule", "what came", "why"], ...rows])}`;
}

function explanationOf(name: string, result: InteropResult): string {
  const came = `${result.id} ${cameText(result)}`;
  const found = EXPLANATIONS.find(([peer, match]) =>
    peer.test(name) && (match.test(result.id) || match.test(came))
  );
  return found?.[2] ?? "not explained";
}

/** Last words of a peer, up to what follows them. */
const WORDS = /; it wrote: [^]*?(, as with a plain device|, (?:and never|after) [\w ]+)?$/;

/** The words of what came, without what differs from run to run. */
function cameText({ came, reason }: InteropResult): string {
  const text = (came ?? reason ?? "").replace(/^#\d+ /, "").replace(WORDS, "$1")
    .replace(/\s+/g, " ");
  return text.length > 160 ? `${text.slice(0, 159)}…` : text;
}

/** A table of Markdown, whose columns line up as the formatter has them. */
function tableText([head, ...rows]: readonly (readonly string[])[]): string {
  const cells = [head!, head!.map(() => "---"), ...rows].map((row) =>
    row.map((text) => text.replaceAll("|", "\\|"))
  );
  const widths = head!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells.map((row, index) => {
    const padded = row.map((text, column) => text.padEnd(widths[column]!, index === 1 ? "-" : " "));
    return `| ${padded.join(" | ")} |`;
  }).join("\n");
}
