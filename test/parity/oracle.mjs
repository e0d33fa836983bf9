// llama.cpp as a reference, in a process of its own under Node: one JSON request a
// line on stdin, one JSON answer a line on stdout, in order. See `oracle.ts`.
import { createInterface } from "node:readline";
import { getLlama, GgmlType, LlamaLogLevel } from "node-llama-cpp";

const threads = Number(process.env.ORACLE_THREADS ?? 2);
const llama = await getLlama({
  gpu: false,
  build: "never",
  logLevel: LlamaLogLevel.error,
  logger: (level, message) => console.error(`${level}: ${message}`),
  maxThreads: threads,
});

const models = new Map();

/** A vocabulary alone, or a model with its context; kept until the process ends. */
async function open(modelPath, vocabOnly) {
  const key = `${vocabOnly}:${modelPath}`;
  if (!models.has(key)) {
    const model = await llama.loadModel({ modelPath, gpuLayers: 0, vocabOnly });
    models.set(key, { model });
  }
  return models.get(key);
}

async function openContext(modelPath, contextSize = 1024, kvType = "F16") {
  const opened = await open(modelPath, false);
  const fits = opened.kvType === kvType && opened.contextSize >= contextSize;
  if (opened.sequence === undefined || !fits) {
    await opened.context?.dispose();
    opened.contextSize = contextSize;
    opened.kvType = kvType;
    // Flash attention and the KV type shift logits; both are pinned. Quantized values
    // need it.
    opened.context = await opened.model.createContext({
      contextSize,
      batchSize: 512,
      threads,
      flashAttention: kvType !== "F16",
      experimentalKvCacheKeyType: kvType,
      experimentalKvCacheValueType: kvType,
    });
    const { kvCacheKeyType, kvCacheValueType } = opened.context;
    if (
      [kvCacheKeyType, kvCacheValueType].some((type) =>
        type !== GgmlType[kvType]
      )
    ) {
      throw new Error(`KV in ${kvType} is not to be had`);
    }
    opened.sequence = opened.context.getSequence();
  }
  await opened.sequence.clearHistory();
  return opened.sequence;
}

const first = (probabilities, count) => [...probabilities].slice(0, count);

const operations = {
  async ping() {
    return { node: process.version };
  },

  async tokenize({ model, texts, special = false }) {
    const opened = await open(model, true);
    return { ids: texts.map((text) => opened.model.tokenize(text, special)) };
  },

  async detokenize({ model, ids, special = false }) {
    const opened = await open(model, true);
    return { texts: ids.map((each) => opened.model.detokenize(each, special)) };
  },

  async embed({ model, ids, contextSize = 1024 }) {
    const opened = await open(model, false);
    opened.embedding ??= await opened.model.createEmbeddingContext({
      contextSize,
      batchSize: 512,
      threads,
    });
    // It may add a token at either end; the answer says which ids it took.
    const taken = [...ids];
    opened.embedding._prepareInput(taken);
    const { vector } = await opened.embedding.getEmbeddingFor(taken);
    return { ids: taken, values: [...vector] };
  },

  async greedy({ model, prompt, n, top = 5, contextSize }) {
    const sequence = await openContext(model, contextSize);
    const answer = { ids: [], logProbs: [], top: [] };
    const steps = sequence.evaluateWithMetadata(
      prompt,
      { confidence: true, probabilities: true },
      { temperature: 0 },
    );
    for await (const { token, confidence, probabilities } of steps) {
      answer.ids.push(token);
      answer.logProbs.push(Math.log(confidence));
      answer.top.push(first(probabilities, top));
      if (answer.ids.length >= n) break;
    }
    return answer;
  },

  async forced({ model, ids, top = 5, contextSize, kvType }) {
    const sequence = await openContext(model, contextSize, kvType);
    const generateNext = {
      token: true,
      probabilities: true,
      confidence: true,
      options: { temperature: 0 },
    };
    const steps = await sequence.controlledEvaluate(
      ids.map((id) => [id, { generateNext }]),
    );
    const next = steps.map((step) => step?.next);
    return {
      argmax: next.map((step) => step.token),
      top: next.map((step) => first(step.probabilities, top)),
      logProbs: next.slice(0, -1).map((step, i) =>
        Math.log(step.probabilities.get(ids[i + 1]) ?? 0)
      ),
    };
  },
};

/** JSON in ASCII: readers of lines also break at U+2028 and its like. */
function toAsciiJson(value) {
  const json = JSON.stringify(
    value,
    (_, each) => each === -Infinity ? null : each,
  );
  return json.replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { op, ...request } = JSON.parse(line);
    const operation = operations[op];
    if (operation === undefined) throw new Error(`unknown operation ${op}`);
    answer = await operation(request);
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  console.log(toAsciiJson(answer));
}
await llama.dispose();
