/**
 * The NVMe controller: its registers, and commands from their fetch to their completion.
 *
 * @module
 */

import {
  after,
  ConnectionError,
  type DeviceDma,
  DeviceError,
  type DevicePoll,
  type Late,
  type RegisterRegion,
} from "../../mod.ts";
import { ADMIN } from "./admin.ts";
import { Command, COMMAND_SIZE } from "./command.ts";
import { addressOf } from "./data.ts";
import type { Disk } from "./disk.ts";
import { EVENTS, Events } from "./events.ts";
import { FEATURE, Features } from "./features.ts";
import { Identity } from "./identity.ts";
import { IO } from "./io.ts";
import { Logs } from "./logs.ts";
import { CAP, checkCommand, mistakeInRegisters, VERSION } from "./promises.ts";
import type { Queues } from "./queues.ts";
import { Failed, Status } from "./status.ts";

/**
 * Commands by opcode. Each returns dword 0 of its completion, or undefined if it is answered some
 * day.
 */
export type Commands = Readonly<
  Record<
    number,
    (
      command: Command,
      controller: Controller,
    ) => Late<number | undefined>
  >
>;

/** The parts of the device that the controller uses. */
export interface Surroundings {
  readonly registers: RegisterRegion;
  readonly queues: Queues;
  readonly disk: Disk;
  readonly dma: DeviceDma;
  /** Lets others have their turn. */
  readonly turn: () => Promise<void> | undefined;
  /** Looks at the doorbells. */
  readonly doorbells: Pick<DevicePoll, "start" | "stop">;
  /** Raises the interrupt of a completion queue. */
  readonly interrupt: (vector: number) => void;
  /** Tells whoever runs the device. */
  readonly log: (line: string) => void;
}

const COMPLETION_SIZE = 16;
/** Commands that are done between two looks at the doorbells and the clock. */
const AT_ONCE = 8;
const ENXIO = 6;
const ECANCELED = 125;

/** Registers of what the controller does not have: they are 0. */
const ABSENT = ["NSSR", "BPRSEL", "BPMBL", "CMBMSC", "NSSD", "PMRCTL", "PMRMSCL", "PMRMSCU"];

/** The controller. */
export class Controller {
  readonly queues: Queues;
  readonly disk: Disk;
  readonly dma: DeviceDma;
  readonly turn: Surroundings["turn"];
  readonly events = new Events();
  readonly features: Features;
  readonly logs = new Logs();
  /** The registers. */
  readonly regs: RegisterRegion["regs"];
  /** Who it is. */
  identity: Identity;
  readonly #around: Surroundings;
  readonly #command = new Command();
  readonly #completion = new Uint32Array(COMPLETION_SIZE / 4);
  readonly #wrong = new Map<number, number>(); // doorbells, and the values that were ignored
  #working: Promise<boolean> = Promise.resolve(false);
  #fatal = ""; // what was told last

  constructor(around: Surroundings, serial: string) {
    this.#around = around;
    this.queues = around.queues;
    this.disk = around.disk;
    this.dma = around.dma;
    this.turn = around.turn;
    this.features = new Features(around.queues.last);
    this.identity = new Identity(serial, around.disk);
    const regs = this.regs = around.registers.regs;
    around.registers.on({
      CC: { write: () => this.#configure() },
      INTMS: { write: () => void (regs.INTMC.value = regs.INTMS.value) }, // both show the mask
      INTMC: { write: () => void (regs.INTMS.value = regs.INTMC.value) },
      ...Object.fromEntries(ABSENT.map((name) => [name, { write: () => regs[name].reset() }])),
    });
  }

  /** All is as after power on. */
  powerOn(): void {
    this.regs.CAP.set(CAP);
    this.regs.VS.value = VERSION;
    this.#disable();
  }

  #disable(): void {
    this.#around.doorbells.stop();
    this.queues.clear();
    this.events.clear();
    this.features.clear();
    this.#wrong.clear();
    this.regs.CSTS.value = 0;
  }

  #enable(): void {
    const { AQA, ASQ, ACQ, CSTS } = this.regs;
    this.queues.clear();
    this.queues.add("completion", 0, { base: ACQ.value, size: AQA.ACQS + 1, other: 0 });
    this.queues.add("submission", 0, { base: ASQ.value, size: AQA.ASQS + 1, other: 0 });
    CSTS.RDY = 1;
    this.#around.doorbells.start();
  }

  /** CC was written. */
  async #configure(): Promise<void> {
    await this.#working; // what has begun is done first
    const { CC, CSTS } = this.regs;
    const mistake = CC.EN === 1 ? mistakeInRegisters(this.regs) : undefined;
    if (CC.EN === 0) this.#disable();
    else if (mistake !== undefined) this.#fail(mistake);
    else if (CSTS.RDY === 0 && CSTS.CFS === 0) this.#enable();
    if (CC.SHN === 0) CSTS.SHST = 0;
    else if (CSTS.SHST === 0) {
      CSTS.SHST = 1;
      try {
        await this.disk.flush();
        CSTS.SHST = 2;
      } catch (error) {
        this.#fail(`the disk can't be shut down: ${error}`);
      }
    }
  }

  /** It can't go on, until it is disabled. */
  #fail(reason: string, isTold = true): void {
    this.regs.CSTS.CFS = 1;
    this.#around.doorbells.stop();
    if (!isTold) return;
    if (reason !== this.#fatal) this.#around.log(`CSTS.CFS: ${reason}`);
    this.#fatal = reason;
  }

  /** True if it takes commands. */
  get isWorking(): boolean {
    // CC.EN and not CC.SHN, CSTS.RDY and not CSTS.CFS: whole registers are read faster.
    return (this.regs.CC.value & 0xc001) === 1 && (this.regs.CSTS.value & 3) === 1;
  }

  /** Does a few things, if there are some to do. */
  look(): Late<boolean> {
    if (!this.isWorking) return false;
    this.queues.ring(this.#ignore);
    for (let count = 0; count < AT_ONCE && this.isWorking; count++) {
      const done = after(() => this.#act(), Boolean, (error) => {
        this.#fail("the client's memory where its queues are can't be reached", !isEnded(error));
        return false;
      });
      if (done === false) return count > 0;
      if (done !== true) return this.#working = done;
    }
    return true;
  }

  #act(): Late<boolean> {
    if (this.events.isDue && this.queues.room(0) > 0) {
      const { id, result } = this.events.take();
      return this.complete(0, id, Status.SUCCESS, result);
    }
    const id = this.queues.next(1 << (this.features.get(FEATURE.ARBITRATION) & 7));
    return id === undefined ? false : this.#serve(id);
  }

  /** A doorbell was rung that makes no sense. */
  readonly #ignore = (doorbell: number, value: number): void => {
    if (this.#wrong.get(doorbell) === value) return; // it is still there
    this.#wrong.set(doorbell, value);
    this.events.post(EVENTS.DOORBELL_VALUE);
  };

  /** A message wrote to the page of doorbells. */
  rung(doorbell: number): void {
    if (!this.isWorking) return;
    const kind = doorbell % 2 === 0 ? "submission" : "completion";
    if (!this.queues[kind].has(doorbell >> 1)) this.events.post(EVENTS.DOORBELL_REGISTER);
  }

  /** Fetches a command, does it, and completes it. */
  #serve(id: number): Late<boolean> {
    const command = this.#command;
    const queue = this.queues.submission.get(id)!;
    const at = addressOf(queue.base, queue.head * COMMAND_SIZE);
    return after(() => this.dma.copyTo(at, command.words), () => {
      queue.head = (queue.head + 1) % queue.size;
      return after(
        () => this.#do(command, id === 0),
        (result) => result === undefined || this.complete(id, command.id, Status.SUCCESS, result),
        (error) => this.complete(id, command.id, this.#failed(command, id, error), 0),
      );
    });
  }

  /** Logs a command that failed; returns its status. */
  #failed(command: Command, queue: number, error: unknown): number {
    const status = error instanceof Failed ? error.status : Status.INTERNAL;
    if (!(error instanceof Failed || isEnded(error))) {
      this.#around.log(`A command failed: ${error}`);
    }
    const block = queue === 0 ? 0n : command.long(10);
    const { id, namespace } = command;
    this.logs.failed({ queue, command: id, status, block, namespace });
    return status;
  }

  #do(command: Command, isAdmin: boolean): ReturnType<Commands[number]> {
    const act = (isAdmin ? ADMIN : IO)[command.opcode];
    if (act === undefined) throw new Failed(Status.OPCODE, "there is no such command");
    if (isAdmin && this.events.has(command.id)) {
      throw new Failed(Status.ID_CONFLICT, "CID: a request for events has it");
    }
    checkCommand(command, this, isAdmin);
    return act(command, this);
  }

  /** Plain data: what is in no register. */
  get saved() {
    return {
      serial: this.identity.serial,
      queues: this.queues.saved,
      events: this.events.saved,
      features: this.features.saved,
    };
  }

  /**
   * Takes plain data, which may be anything. The registers hold what was saved already.
   *
   * @throws if it is not what was saved
   */
  restore(saved: unknown): void {
    const { serial, queues, events, features } = saved as Controller["saved"];
    const isReady = this.regs.CSTS.RDY === 1;
    this.queues.restore(queues);
    if (isReady && !this.queues.submission.has(0)) {
      throw new RangeError("There are no admin queues");
    }
    this.events.restore(events);
    this.features.restore(features);
    this.identity = new Identity(String(serial), this.disk);
    this.#around.doorbells.stop();
    if (isReady) this.#around.doorbells.start();
  }

  /** Completes a command of a submission queue, and raises the interrupt. Returns true. */
  complete(id: number, command: number, status: number, result: number): Late<true> {
    const { head, other } = this.queues.submission.get(id)!;
    const queue = this.queues.completion.get(other)!;
    const entry = this.#completion;
    entry[0] = result;
    entry[2] = head | id << 16;
    entry[3] = command | (status << 1 | queue.phase) << 16;
    const at = addressOf(queue.base, queue.tail * COMPLETION_SIZE);
    return after(() => this.dma.copyFrom(at, entry), () => {
      queue.tail = (queue.tail + 1) % queue.size;
      if (queue.tail === 0) queue.phase ^= 1;
      if (queue.other >= 0) this.#around.interrupt(queue.other);
      return true;
    });
  }
}

/** Tells whether it is a reset, or the client is gone: what was under way has ended. */
function isEnded(error: unknown): boolean {
  return error instanceof ConnectionError ||
    (error instanceof DeviceError && [ECANCELED, ENXIO].includes(error.errno));
}
