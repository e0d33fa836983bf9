/**
 * Deliberate faults in KV transfers, for tests of the mesh.
 *
 * `QUETZAL_FAULT_KV=corrupt:0.5,stall:0.1`: of all transfers this worker sends,
 * half carry a corrupted byte in some block and a tenth stop without a word.
 * Off by default; a worker that runs with it says so loudly at start.
 */
import type { KvBlock } from "../../proto/gen/quetzal/v1/prefill.ts";

export const kvFaultKinds = [
  /** One bit of one block's payload is turned after the checksum was taken. */
  "corrupt",
  /** One block claims to come from another model. */
  "fingerprint",
  /** One block is left out. */
  "missing",
  /** One block is sent twice. */
  "duplicate",
  /** One block is sent behind its successor. */
  "reorder",
  /** One block lacks its last bytes. */
  "truncate",
  /** Nothing more is sent, nor is the stream closed. */
  "stall",
  /** An in-band error comes in the middle of the stream. */
  "error",
  /** The process dies, as if killed. */
  "death",
] as const;
export type KvFaultKind = typeof kvFaultKinds[number];

/** Share of transfers (0..1) per kind; together at most 1. */
export type KvFaultRates = ReadonlyMap<KvFaultKind, number>;

/** Reads `kind:rate,kind:rate`; a string says what is wrong with it. */
export function parseKvFaults(text: string): KvFaultRates | string {
  const rates = new Map<KvFaultKind, number>();
  for (const part of text.split(",").map((part) => part.trim())) {
    if (part === "") continue;
    const [name, rateText = "1"] = part.split(":");
    const kind = kvFaultKinds.find((known) => known === name);
    if (kind === undefined) {
      return `fault "${name}" is unknown, known are ${kvFaultKinds.join(", ")}`;
    }
    const rate = Number(rateText);
    if (!(rate >= 0 && rate <= 1)) {
      return `rate of "${name}" is "${rateText}", not 0..1`;
    }
    rates.set(kind, rate);
  }
  const sum = [...rates.values()].reduce((total, rate) => total + rate, 0);
  return sum > 1 + 1e-9 ? `rates add up to ${sum}, more than 1` : rates;
}

/** The fault of one transfer: what, and at which of its blocks. */
export interface PlannedFault {
  readonly kind: KvFaultKind;
  /** Counted from the first block that this transfer sends. */
  readonly position: number;
}

/** Chooses the fault, if any, of a transfer of `blockCount` blocks. */
export function planFault(
  rates: KvFaultRates,
  blockCount: number,
  random: () => number,
): PlannedFault | undefined {
  let draw = random();
  for (const [kind, rate] of rates) {
    if (draw < rate) {
      return { kind, position: Math.floor(random() * Math.max(1, blockCount)) };
    }
    draw -= rate;
  }
  return undefined;
}

/** What goes out in place of a block, and how the transfer goes on. */
export interface FaultyStep {
  readonly blocks: readonly KvBlock[];
  readonly then: "go-on" | "stall" | "error" | "death";
}

/** Applies a planned fault to the blocks of one transfer, one after another. */
export class FaultyBlocks {
  readonly #fault: PlannedFault;
  #position = 0;
  #held: KvBlock | undefined;

  constructor(fault: PlannedFault) {
    this.#fault = fault;
  }

  next(block: KvBlock): FaultyStep {
    const here = this.#position++ === this.#fault.position;
    if (this.#held !== undefined) {
      const blocks = [block, this.#held];
      this.#held = undefined;
      return { blocks, then: "go-on" };
    }
    return here ? this.#distort(block) : { blocks: [block], then: "go-on" };
  }

  #distort(block: KvBlock): FaultyStep {
    switch (this.#fault.kind) {
      case "corrupt":
        return goOn({ ...block, payload: withTurnedBit(block.payload) });
      case "fingerprint":
        return goOn({ ...block, modelFingerprint: "0000" });
      case "missing":
        return goOn();
      case "duplicate":
        return goOn(block, block);
      case "reorder":
        this.#held = block;
        return goOn();
      case "truncate":
        return goOn({ ...block, payload: block.payload.subarray(0, -2) });
      default:
        return { blocks: [], then: this.#fault.kind };
    }
  }
}

function goOn(...blocks: KvBlock[]): FaultyStep {
  return { blocks, then: "go-on" };
}

function withTurnedBit(payload: Uint8Array): Uint8Array {
  const turned = Buffer.from(payload);
  turned[turned.length >> 1] ^= 0x10;
  return turned;
}
