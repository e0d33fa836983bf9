// Choosing tokens without sorting the vocabulary.
//
// sample_scan spreads a row over many blocks: the largest logit and the sum of the
// probabilities, which is all that greedy rows need. sample_rows does the rest, a block per
// out row.
//
// The order of the steps is the CPU's: bias, penalties, then argmax (temperature 0) or
// temperature, min_p, top_k, top_p and one Philox draw over what is kept, in order of id.
// Ranks are by adjusted logit, lower ids first among equals: of the ids that share the last
// kept logit, the lowest are kept.
//
// Probabilities are summed as 2^-40ths in 64-bit integers: exact and the same in whatever
// order threads come, where float sums would differ from run to run.
#include "../include/philox.h"
#include "device.h"
#include "prepare_row.h"
#include "select_kept.h"

namespace quetzal::cuda {

constexpr int32_t statusOk = 0, statusLogitsNotFinite = 1, statusAdjustedNotFinite = 2,
                  statusAllForbidden = 3;

static __device__ __forceinline__ int32_t drawToken(Kept kept, const int32_t* ints,
                                                    const float* floats, int32_t vocab,
                                                    const SampleShared& shared) {
  const int32_t topK = ints[0];
  const float topP = floats[1];
  Candidates who = {nullptr, vocab};
  if (topK > 0) {
    const Mass allowed =
        totalOf(who, shared, [&](int32_t id) -> Mass { return kept.isAllowed(id) ? 1 : 0; });
    const Mass wanted = static_cast<Mass>(topK) < allowed ? static_cast<Mass>(topK) : allowed;
    const Selected last = selectKey(kept, who, wanted, shared, [&](int32_t id) -> Mass {
      return kept.isAllowed(id) ? 1 : 0;
    });
    kept.threshold = last.key;
    kept.lastTie = lastTieOf(kept, who, wanted - last.above, shared);
  }
  const auto keptMass = [&](int32_t id) -> Mass { return kept.isKept(id) ? kept.massOf(id) : 0; };
  if (topP < 1) {
    const Mass total = totalOf(who, shared, keptMass);
    const double share = static_cast<double>(topP) * static_cast<double>(total);
    Mass wanted = static_cast<Mass>(share);
    if (static_cast<double>(wanted) < share) ++wanted;
    wanted = wanted < 1 ? 1 : wanted > total ? total : wanted;
    const Selected last = selectKey(kept, who, wanted, shared, keptMass);
    // All ties have the same logit and so the same mass.
    const uint32_t bits = last.key & 0x80000000u ? last.key & 0x7fffffffu : ~last.key;
    const Mass each = kept.massOfLogit(bitsToFloat(bits));
    const Mass ties = each > 0 ? (wanted - last.above + each - 1) / each : 1;
    if (last.key != kept.threshold) kept.lastTie = vocab;
    kept.threshold = last.key;
    kept.lastTie = lastTieOf(kept, who, ties, shared);
  }
  const Mass total = totalOf(who, shared, keptMass);
  const uint64_t seed = static_cast<uint64_t>(static_cast<uint32_t>(ints[3])) << 32 |
      static_cast<uint32_t>(ints[2]);
  const double u = uniformOf(seed, static_cast<uint32_t>(ints[4]));
  auto target = static_cast<Mass>(u * static_cast<double>(total));
  if (total > 0 && target >= total) target = total - 1;
  return crossingId(who, target, shared, keptMass);
}

/// bias and penalties, into `adjusted`.
static __device__ __forceinline__ void adjustLogits(const SampleArgs& args, const float* logits,
                                                    const int32_t* ints, const float* floats,
                                                    float* adjusted) {
  for (int32_t id = threadIdx.x; id < args.vocab; id += sampleThreads) adjusted[id] = logits[id];
  __syncthreads();
  const int32_t *biasIds = args.tables + ints[7], *biasValues = args.tables + ints[9];
  // Ids may repeat in a bias list, so one thread adds them in order.
  if (threadIdx.x == 0) {
    for (int32_t i = 0; i < ints[8]; ++i) {
      adjusted[biasIds[i]] += bitsToFloat(static_cast<uint32_t>(biasValues[i]));
    }
  }
  __syncthreads();
  const float presence = floats[3], frequency = floats[4], repetition = floats[5];
  for (int32_t i = threadIdx.x; i < ints[6]; i += sampleThreads) {
    const int32_t id = args.tables[ints[5] + 2 * i], count = args.tables[ints[5] + 2 * i + 1];
    float logit = adjusted[id];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    adjusted[id] = logit - (frequency * static_cast<float>(count) + (count > 0 ? presence : 0.0f));
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(scanThreads) sample_scan(const SampleArgs args) {
  Shared memory;
  float* floats = memory.take<float>(scanThreads / 32);
  double* doubles = memory.take<double>(scanThreads / 32);
  Mass* masses = memory.take<Mass>(scanThreads / 32);
  waitForKernelBefore();
  letNextKernelStart();
  const int64_t row = blockIdx.y;
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * scanTokens;
  const int32_t end = begin + scanTokens < args.vocab ? begin + scanTokens : args.vocab;
  const float* logits = args.logits + row * args.vocab;
  RowValues<scanHeld> values({static_cast<int32_t>(row), begin, end});
  values.eachHeld([&](float& x, int32_t id) { x = logits[id]; });
  float worst = 0, largest = -INFINITY;
  Mass best = 0;
  values.eachHeld([&](float x, int32_t id) {
    if ((floatToBits(x) & 0x7f800000u) == 0x7f800000u) worst = 1;
    if (x > largest) largest = x;
    best = largerOf(best, rankOf(x, id));
  });
  worst = blockMax(worst, floats);
  largest = blockMax(largest, floats);
  best = blockReduce(best, masses, largerOf);
  double own = 0;
  values.eachHeld([&](float x, int32_t) { own += static_cast<double>(expf(x - largest)); });
  const double sum = blockReduce(own, doubles, sumOf);
  if (threadIdx.x == 0) {
    args.parts[row * scanPartsOf(args.vocab) + blockIdx.x] = {best, sum, worst > 0};
  }
}

extern "C" __global__ void __launch_bounds__(sampleThreads) sample_rows(const SampleArgs args) {
  Shared memory;
  SampleShared shared;
  shared.floats = memory.take<float>(sampleWarps);
  shared.doubles = memory.take<double>(sampleWarps);
  shared.masses = memory.take<Mass>(sampleWarps);
  shared.bins = memory.take<Mass>(256 * sampleBinCopies);
  shared.found = memory.take<Mass>(2);
  shared.ids = memory.take<int32_t>(sampleListMax);
  waitForKernelBefore();
  letNextKernelStart();
  const int64_t row = blockIdx.x;
  const int32_t vocab = args.vocab;
  const float* logits = args.logits + row * vocab;
  const int32_t* ints = args.ints + row * sampleIntWords;
  const float* floats = args.floats + row * sampleFloatWords;
  int32_t* topIds = args.topIds + row * sampleTopMax;
  float* topLogprobs = args.topLogprobs + row * sampleTopMax;
  if (threadIdx.x == 0) {
    args.tokens[row] = -1;
    args.logprobs[row] = 0;
    args.statuses[row] = statusOk;
  }
  for (int i = threadIdx.x; i < sampleTopMax; i += sampleThreads) {
    topIds[i] = -1;
    topLogprobs[i] = 0;
  }

  float worst = 0;
  Mass best = 0;
  const int32_t partCount = scanPartsOf(vocab);
  const SamplePart* parts = args.parts + row * partCount;
  for (int32_t i = threadIdx.x; i < partCount; i += sampleThreads) {
    if (parts[i].isNotFinite) worst = 1;
    best = largerOf(best, parts[i].rank);
  }
  if (blockMax(worst, shared.floats) > 0) {
    if (threadIdx.x == 0) args.statuses[row] = statusLogitsNotFinite;
    return;
  }
  best = maxRank(best, shared);
  const float rawMax = logits[idOf(best)];
  double own = 0;
  for (int32_t i = threadIdx.x; i < partCount; i += sampleThreads) {
    own += parts[i].sum * static_cast<double>(expf(logits[idOf(parts[i].rank)] - rawMax));
  }
  const double sum = blockReduce(own, shared.doubles, sumOf);
  const double logTotal = static_cast<double>(rawMax) + log(sum);

  Mass previous = ~Mass{0};
  for (int32_t i = 0; i < ints[1] && i < vocab; ++i) {
    Mass next = 0;
    for (int32_t id = threadIdx.x; id < vocab; id += sampleThreads) {
      const Mass rank = rankOf(logits[id], id);
      if (rank < previous && rank > next) next = rank;
    }
    previous = maxRank(next, shared);
    if (threadIdx.x == 0) {
      topIds[i] = idOf(previous);
      topLogprobs[i] = static_cast<float>(static_cast<double>(logits[idOf(previous)]) - logTotal);
    }
  }

  const float* x = logits;
  float max = rawMax;
  const bool isAdjusted = ints[8] > 0 ||
      (ints[6] > 0 && (floats[5] != 1 || floats[3] != 0 || floats[4] != 0));
  if (isAdjusted) {
    float* adjusted = args.adjusted + row * vocab;
    adjustLogits(args, logits, ints, floats, adjusted);
    x = adjusted;
    worst = 0;
    best = 0;
    for (int32_t id = threadIdx.x; id < vocab; id += sampleThreads) {
      if (x[id] != x[id] || x[id] == INFINITY) worst = 1;
      const Mass rank = rankOf(x[id], id);
      best = rank > best ? rank : best;
    }
    const bool isFaulty = blockMax(worst, shared.floats) > 0;
    best = maxRank(best, shared);
    max = x[idOf(best)];
    if (isFaulty || max == -INFINITY) {
      if (threadIdx.x == 0) {
        args.statuses[row] = isFaulty ? statusAdjustedNotFinite : statusAllForbidden;
      }
      return;
    }
  }

  int32_t token = idOf(best);
  if (floats[0] > 0) {
    const Kept all = {x, max, floats[0], floats[6], 0, vocab};
    token = drawToken(all, ints, floats, vocab, shared);
  }
  if (threadIdx.x == 0) {
    args.tokens[row] = token;
    args.logprobs[row] = static_cast<float>(static_cast<double>(logits[token]) - logTotal);
  }
}

/// A warp for each sequence.
extern "C" __global__ void __launch_bounds__(32) verify_drafts(const VerifyArgs args) {
  waitForKernelBefore();
  letNextKernelStart();
  const int32_t* span = args.spans + 3 * blockIdx.x;
  const int32_t lane = threadIdx.x;
  int32_t accepted = span[1];
  for (int32_t begin = 0; begin < span[1]; begin += 32) {
    const int32_t i = begin + lane;
    const bool differs =
        i < span[1] && args.tokens[span[0] + i] != args.drafts[span[2] + i];
    const uint32_t found = __ballot_sync(allLanes, differs);
    if (found == 0) continue;
    int32_t first = 0;
    while (!(found >> first & 1u)) ++first;
    accepted = begin + first;
    break;
  }
  if (lane == 0) {
    args.accepted[blockIdx.x] = accepted;
    args.next[blockIdx.x] = args.tokens[span[0] + accepted];
  }
}

}  // namespace quetzal::cuda
