/**
 * Turns the prompts of one request into vectors, on as many workers as it takes.
 *
 * Prompts travel in groups: a call per prompt would cost more than a short prompt
 * does, and one call for all would keep a request on one worker and lose it all when
 * that dies. A group is held, placed and sent elsewhere as a whole; on its worker it
 * counts as many sequences as it has prompts.
 */
import { Code, MeshError } from "../../../lib/errors/mesh_error.ts";
import { callUnary } from "../../../lib/rpc/mod.ts";
import type {
  EmbedClient,
  EmbedRunRequest,
  EmbedRunResponse,
  EmbedVector,
} from "../../../proto/gen/quetzal/v1/embed.ts";
import type { TrafficMeter } from "../workers/traffic_meter.ts";
import type { WorkerClients } from "../workers/worker_clients.ts";
import type { WorkerTable } from "../workers/worker_table.ts";
import type { Dispatcher, Lease } from "./dispatcher.ts";
import { goesOnElsewhere, setAside } from "./elsewhere.ts";
import type { EmbeddingRequest, EmbeddingResult } from "./embedding.ts";
import type { EmbeddingTrace } from "./embedding_trace.ts";
import type { RequestScope } from "./request_scope.ts";
import { tracedSearch } from "./route_trace.ts";

export interface EmbedParts {
  readonly dispatcher: Dispatcher;
  readonly workers: WorkerTable;
  readonly embedClients: WorkerClients<EmbedClient>;
  readonly traffic: TrafficMeter;
  /** Calls per group before it fails. */
  readonly attemptsMax: number;
}

export interface EmbedOptions {
  readonly scope: RequestScope;
  readonly trace: EmbeddingTrace;
}

/** Prompts of a group; workers take up to 64. */
const groupPromptsMax = 32;
/** A group ends behind the prompt that reaches this. */
const groupTokensMin = 4_096;
/** Groups of one request that run at a time, so that it leaves room for others. */
const groupsAtOnce = 8;

/** Some adjacent prompts of a request. */
export interface PromptGroup {
  readonly prompts: readonly Int32Array[];
  readonly tokenCount: number;
}

/** Sequences that a request may have at workers at once. */
export function sequencesOf({ prompts }: EmbeddingRequest): number {
  return Math.min(prompts.length, groupPromptsMax * groupsAtOnce);
}

/** The first group that fails ends the others, and the scope with them. */
export async function embed(
  request: EmbeddingRequest,
  options: EmbedOptions,
  parts: EmbedParts,
): Promise<EmbeddingResult> {
  const groups = groupsOf(request.prompts);
  const found: EmbedVector[][] = [];
  let next = 0;
  const lane = async () => {
    while (next < groups.length) {
      const index = next++;
      const run = new GroupRun(groups[index], { request, options, parts });
      found[index] = await run.metered();
    }
  };
  const lanes = Array.from({ length: groupsAtOnce }, lane);
  try {
    await Promise.all(lanes);
  } catch (reason) {
    options.scope.abort(MeshError.from(reason));
    await Promise.allSettled(lanes);
    throw reason;
  }
  return resultOf(found.flat(), request);
}

export function groupsOf(prompts: readonly Int32Array[]): PromptGroup[] {
  const groups: PromptGroup[] = [];
  let begin = 0;
  let tokenCount = 0;
  for (let end = 1; end <= prompts.length; end++) {
    tokenCount += prompts[end - 1].length;
    const isFull = end - begin === groupPromptsMax ||
      tokenCount >= groupTokensMin;
    if (!isFull && end < prompts.length) continue;
    groups.push({ prompts: prompts.slice(begin, end), tokenCount });
    begin = end;
    tokenCount = 0;
  }
  return groups;
}

interface GroupContext {
  readonly request: EmbeddingRequest;
  readonly options: EmbedOptions;
  readonly parts: EmbedParts;
}

/** One group across its attempts. */
class GroupRun {
  readonly #group: PromptGroup;
  readonly #context: GroupContext;

  constructor(group: PromptGroup, context: GroupContext) {
    this.#group = group;
    this.#context = context;
  }

  /** Counted as a sequence that generates nothing. */
  async metered(): Promise<EmbedVector[]> {
    const { request, parts } = this.#context;
    const meter = parts.traffic.begin(
      request.model.name,
      this.#group.tokenCount,
    );
    try {
      const vectors = await this.#run();
      meter.end(undefined, 0);
      return vectors;
    } catch (reason) {
      meter.end(MeshError.from(reason), 0);
      throw reason;
    }
  }

  async #run(): Promise<EmbedVector[]> {
    const { request, options: { scope }, parts } = this.#context;
    for (let attempt = 1;; attempt++) {
      using lease = await this.#acquire(attempt);
      const outcome = await this.#runOn(lease);
      if (!(outcome instanceof MeshError)) return outcome;
      scope.signal.throwIfAborted();
      if (!goesOnElsewhere(outcome) || attempt >= parts.attemptsMax) {
        throw outcome;
      }
      setAside(lease.worker, outcome, { workers: parts.workers, request });
    }
  }

  #acquire(attempt: number): Promise<Lease> {
    const { request, options: { scope, trace }, parts } = this.#context;
    const { prompts } = this.#group;
    return tracedSearch(
      trace.startRoute(attempt),
      () =>
        parts.dispatcher.acquire({
          model: request.model.name,
          task: "embed",
          sequenceCount: prompts.length,
          // Prompts of one request often begin alike; the first speaks for all.
          tokenIds: prompts[0],
          contextNeeded: Math.max(...prompts.map(({ length }) => length)),
          hashes: new Map(),
          isReplay: attempt > 1,
        }, scope.signal),
    );
  }

  /** One call; answers the failure that ended it. Aborts are thrown. */
  async #runOn(lease: Lease): Promise<EmbedVector[] | MeshError> {
    const { options: { scope, trace }, parts } = this.#context;
    using span = trace.startCall(lease, this.#group);
    try {
      const response = await span.run(() => this.#call(lease));
      const vectors = this.#checked(response, lease);
      parts.workers.trust(lease.worker);
      return vectors;
    } catch (reason) {
      span.fail(reason);
      if (scope.signal.aborted) throw scope.signal.reason;
      return MeshError.from(reason);
    }
  }

  #call(lease: Lease): Promise<EmbedRunResponse> {
    const { request, options: { scope }, parts } = this.#context;
    const client = parts.embedClients.at(lease.worker.record.address);
    const message: EmbedRunRequest = {
      requestId: request.requestId,
      model: request.model.name,
      // ts-proto wants an array; the ids are only read.
      prompts: this.#group.prompts.map((ids) => ({
        ids: ids as unknown as number[],
      })),
      tenant: request.tenant,
    };
    const { signal, deadlineMs } = scope;
    return callUnary(client.run.bind(client), message, { signal, deadlineMs });
  }

  #checked({ vectors }: EmbedRunResponse, { worker }: Lease): EmbedVector[] {
    const { name, hiddenSize } = this.#context.request.model;
    const { length } = this.#group.prompts;
    const sizes = vectors.map(({ values }) => values.length);
    if (
      vectors.length === length && sizes.every((size) => size === hiddenSize)
    ) {
      return vectors;
    }
    throw new MeshError(
      Code.dataLoss,
      `Cannot use what "${worker.record.workerId}" answered: needs ${length} vectors of ` +
        `${hiddenSize} values for "${name}", found [${sizes.slice(0, 8)}]`,
    );
  }
}

function resultOf(
  found: readonly EmbedVector[],
  { prompts, normalize }: EmbeddingRequest,
): EmbeddingResult {
  return {
    vectors: found.map(({ values }) =>
      normalize ? scaledToOne(values) : values
    ),
    promptTokens: prompts.reduce((sum, { length }) => sum + length, 0),
    cachedTokens: found.reduce(
      (sum, { cachedTokens }) => sum + cachedTokens,
      0,
    ),
  };
}

/** The same direction, length 1; zero stays zero. */
function scaledToOne(values: readonly number[]): readonly number[] {
  let squares = 0;
  for (const value of values) squares += value * value;
  if (squares === 0) return values;
  const scale = 1 / Math.sqrt(squares);
  return values.map((value) => Math.fround(value * scale));
}
