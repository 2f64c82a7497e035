/**
 * fio in a Linux guest: `examples/nvme.ts` beside QEMU's own NVMe controller in the same guest.
 * Both have a disk of the same size in the memory of the host. They take turns, so that other work
 * of the machine troubles both.
 *
 * `deno task bench:guest [--json] [--row TEXT] [--turns N] [--seconds N]`
 *
 * @module
 */

import { parseArgs } from "node:util";
import { median } from "../bench/stopwatch.ts";
import { startServe } from "../_demo_process.ts";
import { bootGuest, type Guest, whyNoGuest } from "./guest.ts";
import { peersCache } from "./peers.ts";

const MIB = 1 << 20;
const DISK_MIB = 256;

/** One kind of work, and the ratio of both disks' operations a second that is aimed at. */
interface Work {
  readonly name: string;
  readonly arguments: readonly string[];
  readonly aim: number;
}

const works: readonly Work[] = (["read", "write"] as const).flatMap((kind) =>
  ([["4k", 1, 1.0], ["4k", 32, 1.1], ["128k", 4, 1.0]] as const).map(([size, depth, aim]) => ({
    name: `${kind} ${size}, ${depth} in flight`,
    arguments: [`--rw=rand${kind}`, `--bs=${size}`, `--iodepth=${depth}`],
    aim,
  }))
);

const disks = { ours: "vfu-fio", theirs: "qemu-fio" } as const;
type Disk = keyof typeof disks;

/** The result of a row. */
interface Result {
  /** The name of the work. */
  readonly name: string;
  /** The medians of operations a second. */
  readonly iops: Readonly<Record<Disk, number>>;
  /** The median of the ratios of the turns: ours to theirs. */
  readonly ratio: number;
  /** The ratio that is aimed at. */
  readonly aim: number;
}

/** fio and its libraries, for the guest's root. */
function fioFiles(): Record<string, Uint8Array> {
  const root = `${peersCache()}/fio`;
  const files: Record<string, Uint8Array> = {};
  for (const folder of ["bin", "lib"]) {
    for (const { name } of Deno.readDirSync(`${root}/${folder}`)) {
      files[`${folder}/${name}`] = Deno.readFileSync(`${root}/${folder}/${name}`);
    }
  }
  return files;
}

/** The block device of a controller, found by its serial number. */
async function findDisk(guest: Guest, serial: string): Promise<string> {
  const controller = await guest.sh(`grep -l '^${serial} *$' /sys/class/nvme/nvme*/serial`);
  return `/dev/${controller.split("/")[4]}n1`;
}

async function measure(guest: Guest, disk: string, work: Work, seconds: number): Promise<number> {
  const parts = [
    ...["fio", "--name=row", `--filename=${disk}`, "--ioengine=libaio", "--direct=1"],
    ...[`--size=${DISK_MIB}m`, "--time_based", `--runtime=${seconds}`, "--output-format=json"],
    ...["--randrepeat=1", "--norandommap", "--thread", "--gtod_reduce=1"],
    ...work.arguments,
  ];
  const text = await guest.sh(parts.join(" "), { timeoutMs: 120_000 + seconds * 20_000 });
  const [job] = JSON.parse(text.slice(text.indexOf("{"))).jobs;
  const { iops } = work.name.startsWith("read") ? job.read : job.write;
  if (!(iops > 0)) throw new Error(`fio did nothing on ${disk}: ${text.slice(0, 500)}`);
  return iops;
}

async function measureAll(row: string, turns: number, seconds: number): Promise<Result[]> {
  const image = await Deno.makeTempFile({ prefix: "vfu-fio-" });
  try {
    await Deno.truncate(image, DISK_MIB * MIB);
    await using served = await startServe(
      "examples/nvme.ts",
      ...["--option", `size=${DISK_MIB}M`, "--option", `serial=${disks.ours}`],
    );
    await using guest = await bootGuest({
      devices: [{ socket: served.path }],
      megabytes: 1024,
      files: fioFiles(),
      arguments: [
        ...["-drive", `file=${image},if=none,id=disk,format=raw,cache=unsafe`],
        ...["-device", `nvme,serial=${disks.theirs},drive=disk`],
      ],
    });
    const paths = {
      ours: await findDisk(guest, disks.ours),
      theirs: await findDisk(guest, disks.theirs),
    };
    for (const path of Object.values(paths)) {
      await guest.sh(`dd if=/dev/urandom of=${path} bs=1M count=${DISK_MIB} oflag=direct 2>&1`);
    }
    const results: Result[] = [];
    for (const work of works.filter(({ name }) => name.includes(row))) {
      const iops: Record<Disk, number[]> = { ours: [], theirs: [] };
      for (let turn = 0; turn < turns; turn++) {
        const order: Disk[] = turn % 2 === 0 ? ["ours", "theirs"] : ["theirs", "ours"];
        for (const disk of order) {
          iops[disk].push(await measure(guest, paths[disk], work, seconds));
        }
      }
      results.push({
        name: work.name,
        iops: { ours: median(iops.ours), theirs: median(iops.theirs) },
        ratio: median(iops.ours.map((value, turn) => value / iops.theirs[turn]!)),
        aim: work.aim,
      });
    }
    return results;
  } finally {
    await Deno.remove(image);
  }
}

function resultsText(results: readonly Result[]): string {
  const lines = ["fio's operations a second        ours    QEMU's   ratio   aim"];
  for (const { name, iops, ratio, aim } of results) {
    lines.push(
      name.padEnd(26) + Math.round(iops.ours).toString().padStart(11) +
        Math.round(iops.theirs).toString().padStart(10) + ratio.toFixed(2).padStart(8) +
        aim.toFixed(1).padStart(6) + (ratio >= aim ? "" : "  missed"),
    );
  }
  return lines.join("\n");
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      row: { type: "string", default: "" },
      turns: { type: "string", default: "3" },
      seconds: { type: "string", default: "3" },
    },
  });
  const reason = whyNoGuest();
  if (reason !== undefined) throw new Error(reason);
  const results = await measureAll(values.row, Number(values.turns), Number(values.seconds));
  // deno-lint-ignore no-console -- the results are for whoever runs it
  console.log(values.json ? JSON.stringify(results) : resultsText(results));
}
