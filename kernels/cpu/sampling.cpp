// Sampling without sorting the vocabulary.
//
// Order: bias, penalties, then argmax (temperature 0) or temperature, min_p,
// top_k, top_p and one draw. Ranks are by adjusted logit, lower ids first among
// equals. A draw walks the kept tokens in order of id until their probabilities
// exceed u * total, in double; u is Philox of (seed, draw).
//
// top_k and top_p only need the head of the ranking, so a threshold below the
// best logit picks candidates, widened until it is sure to hold the head. What is no
// candidate costs a comparison: its probability is not computed.
#include "sampling.h"

#include <algorithm>
#include <cmath>

#include "../include/half.h"
#include "../include/philox.h"

namespace quetzal {
namespace {

struct Candidate {
  float logit;
  int32_t id;
  float p;
};

/// What is drawn from: logits after bias and penalties.
struct Logits {
  const float* x;
  int32_t vocab;
  float max, temperature;
};

bool ranksBefore(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// Repetition divides positive and multiplies negative logits.
void adjustLogits(const SampleArgs& args, float* x) {
  std::copy(args.logits, args.logits + args.vocab, x);
  for (int32_t i = 0; i < args.biasCount; ++i) x[args.biasIds[i]] += args.biasValues[i];
  for (int32_t i = 0; i < args.historyCount; ++i) {
    float& logit = x[args.history[2 * i]];
    const int32_t count = args.history[2 * i + 1];
    logit = logit > 0 ? logit / args.repetition : logit * args.repetition;
    logit -= args.frequency * static_cast<float>(count) + (count > 0 ? args.presence : 0.0f);
  }
}

bool isAdjusted(const SampleArgs& args) {
  return args.biasCount > 0 ||
      (args.historyCount > 0 &&
       (args.repetition != 1 || args.presence != 0 || args.frequency != 0));
}

void reportTop(const SampleArgs& args, const SamplePasses& passes, double logTotal,
               Candidate* top) {
  const int32_t wanted =
      std::min({std::max(args.topLogprobs, 0), topLogprobsMax, args.vocab});
  int32_t held = 0;
  for (int32_t id = 0; id < args.vocab && wanted > 0; ++id) {
    if (held == wanted) {
      const float least = top[held - 1].logit;
      id = static_cast<int32_t>(passes.firstAtLeast(args.logits, id, args.vocab, least));
      if (id == args.vocab) break;
    }
    const Candidate candidate = {args.logits[id], id, 0};
    if (held == wanted && !ranksBefore(candidate, top[held - 1])) continue;
    int32_t at = held < wanted ? held++ : held - 1;
    for (; at > 0 && ranksBefore(candidate, top[at - 1]); --at) top[at] = top[at - 1];
    top[at] = candidate;
  }
  for (int32_t i = 0; i < topLogprobsMax; ++i) {
    args.topIds[i] = i < held ? top[i].id : -1;
    args.topLogprobValues[i] = i < held ? static_cast<float>(top[i].logit - logTotal) : 0;
  }
}

/// Log of min_p: below it no token may stay.
float floorOf(const SampleArgs& args) { return args.minP > 0 ? std::log(args.minP) : -INFINITY; }

/// Ordered as the floats are.
int32_t orderOf(float x) {
  const auto bits = static_cast<int32_t>(bitsOfFloat(x));
  return bits < 0 ? INT32_MIN - bits : bits;
}
float floatAt(int32_t order) {
  return floatOfBits(static_cast<uint32_t>(order < 0 ? INT32_MIN - order : order));
}

/// The smallest x whose (x - max) / temperature is at least `least` as floats round it:
/// rounding keeps their order, so a comparison does for a division.
float boundOf(const Logits& logits, float least) {
  int64_t low = orderOf(-INFINITY), high = orderOf(logits.max);
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    const float x = floatAt(static_cast<int32_t>(middle));
    if ((x - logits.max) / logits.temperature >= least) high = middle;
    else low = middle + 1;
  }
  return floatAt(static_cast<int32_t>(high));
}

/// Probabilities, less a common factor, of `count` candidates.
void weigh(const Logits& logits, const SamplePasses& passes, Candidate* all, int64_t count) {
  constexpr int64_t some = 256;
  float x[some], p[some];
  for (int64_t begin = 0; begin < count; begin += some) {
    const int64_t n = std::min(some, count - begin);
    for (int64_t i = 0; i < n; ++i) x[i] = all[begin + i].logit;
    passes.expSum(x, n, logits.max, logits.temperature, p);
    for (int64_t i = 0; i < n; ++i) all[begin + i].p = p[i];
  }
}

/// All with (x - max) / temperature >= least that have a probability, in order of id.
int64_t gather(const Logits& logits, const SamplePasses& passes, float least, Candidate* out) {
  const float bound = boundOf(logits, least);
  int64_t count = 0;
  for (int64_t id = 0;; ++id) {
    id = passes.firstAtLeast(logits.x, id, logits.vocab, bound);
    if (id == logits.vocab) break;
    out[count++] = {logits.x[id], static_cast<int32_t>(id), 0};
  }
  weigh(logits, passes, out, count);
  return std::remove_if(out, out + count, [](const Candidate& one) { return one.p == 0; }) - out;
}

double massOf(const Candidate* all, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += all[i].p;
  return total;
}

/// Eight sums side by side, for the adder's latency.
double sumOf(const float* p, int64_t count) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t j = 0; j < 8; ++j) lanes[j] += p[i + j];
  }
  for (int64_t j = 0; i < count; ++i, ++j) lanes[j] += p[i];
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
      ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/// Probability mass of what min_p leaves, for top_p without top_k.
double allowedMass(const SampleArgs& args, const Logits& logits, const SamplePasses& passes,
                   float* p, Candidate* candidates) {
  if (args.minP > 0) return massOf(candidates, gather(logits, passes, floorOf(args), candidates));
  passes.expSum(logits.x, logits.vocab, logits.max, logits.temperature, p);
  return sumOf(p, logits.vocab);
}

/// Candidates in order of id, holding at least all that top_k and top_p can keep.
int64_t gatherHead(const SampleArgs& args, const Logits& logits, const SamplePasses& passes,
                   double allowed, Candidate* out) {
  const float floor = floorOf(args);
  int64_t count = 0;
  for (const float threshold : {-4.0f, -8.0f, -16.0f, -INFINITY}) {
    const float least = std::max(threshold, floor);
    count = gather(logits, passes, least, out);
    if (least == floor) break;
    if (args.topK > 0 ? count >= args.topK : massOf(out, count) >= args.topP * allowed) break;
  }
  return count;
}

/// More candidates than this are not sorted for top_p: their last is looked for by halves.
constexpr int64_t sortedMax = 4096;

/// The last that top_p keeps of many candidates, whose order changes: the first in rank
/// with which their mass reaches `wanted`, or the very last.
Candidate lastWithin(Candidate* all, int64_t count, double wanted) {
  int64_t begin = 0, end = count;
  double mass = 0;
  while (end - begin > 64) {
    const int64_t middle = begin + (end - begin) / 2;
    std::nth_element(all + begin, all + middle, all + end, ranksBefore);
    const double left = massOf(all + begin, middle - begin);
    if (mass + left >= wanted) {
      end = middle;
    } else {
      mass += left;
      begin = middle;
    }
  }
  std::sort(all + begin, all + end, ranksBefore);
  for (int64_t i = begin; i < end; ++i) {
    mass += all[i].p;
    if (mass >= wanted) return all[i];
  }
  return all[end - 1];
}

/// How many of the ranked candidates top_k and then top_p keep; at least one.
int64_t keepHead(const SampleArgs& args, const Candidate* ranked, int64_t count, double allowed) {
  double total = allowed;
  if (args.topK > 0) {
    count = std::min<int64_t>(count, args.topK);
    total = massOf(ranked, count);
  }
  if (args.topP >= 1) return count;
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) {
    mass += ranked[i].p;
    if (mass >= args.topP * total) return i + 1;
  }
  return count;
}

/// Walks over whole pieces first: their sums are the steps of the walk.
int32_t drawAll(const SampleArgs& args, const float* p) {
  constexpr int64_t piece = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < args.vocab; begin += piece) {
    total += sumOf(p + begin, std::min(piece, args.vocab - begin));
  }
  const double target = uniformOf(args.seed, args.draw) * total;
  double before = 0;
  int32_t last = -1;
  for (int64_t begin = 0; begin < args.vocab; begin += piece) {
    const int64_t end = std::min<int64_t>(begin + piece, args.vocab);
    const double behind = before + sumOf(p + begin, end - begin);
    // Near the end `last` has to be known, should rounding hide the last step.
    if (behind > target || end == args.vocab) {
      double mass = before;
      for (int64_t id = begin; id < end; ++id) {
        if (p[id] == 0) continue;
        mass += p[id];
        last = static_cast<int32_t>(id);
        if (mass > target) return last;
      }
    }
    before = behind;
  }
  return last;
}

/// Of candidates in order of id.
int32_t drawKept(const SampleArgs& args, const Candidate* kept, int64_t count) {
  const double target = uniformOf(args.seed, args.draw) * massOf(kept, count);
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) {
    mass += kept[i].p;
    if (mass > target) return kept[i].id;
  }
  return kept[count - 1].id;
}

int32_t drawFrom(const SampleArgs& args, const Logits& logits, const SamplePasses& passes,
                 float* p, Candidate* candidates) {
  if (args.topK <= 0 && args.topP >= 1 && args.minP <= 0) {
    passes.expSum(logits.x, logits.vocab, logits.max, logits.temperature, p);
    return drawAll(args, p);
  }
  const bool wantsAllowed = args.topK <= 0 && args.topP < 1;
  const double allowed =
      wantsAllowed ? allowedMass(args, logits, passes, p, candidates) : 0;
  if (args.topK <= 0 && args.topP >= 1) {
    // All that min_p leaves.
    return drawKept(args, candidates, gather(logits, passes, floorOf(args), candidates));
  }
  int64_t count = gatherHead(args, logits, passes, allowed, candidates);
  if (args.topK > 0 && count > args.topK) {
    std::nth_element(candidates, candidates + args.topK, candidates + count, ranksBefore);
    count = args.topK;
  }
  if (args.topK <= 0 && count > sortedMax) {
    const Candidate last = lastWithin(candidates, count, args.topP * allowed);
    count = gather(logits, passes, (last.logit - logits.max) / logits.temperature, candidates);
    const auto isBehind = [&](const Candidate& one) { return ranksBefore(last, one); };
    count = std::remove_if(candidates, candidates + count, isBehind) - candidates;
  } else {
    std::sort(candidates, candidates + count, ranksBefore);
    count = keepHead(args, candidates, count, allowed);
    std::sort(candidates, candidates + count,
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  }
  return drawKept(args, candidates, count);
}

/// Whether adjusting made something of `x` that is no logit.
bool isFaulty(const SampleArgs& args, const float* x) {
  const auto faulty = [&](int32_t id) { return x[id] != x[id] || x[id] == INFINITY; };
  for (int32_t i = 0; i < args.biasCount; ++i) {
    if (faulty(args.biasIds[i])) return true;
  }
  for (int32_t i = 0; i < args.historyCount; ++i) {
    if (faulty(args.history[2 * i])) return true;
  }
  return false;
}

}  // namespace

SampleStatus sampleWith(const SampleArgs* args, const SamplePasses& passes) {
  bool finite = false;
  const float rawMax = passes.maxFinite(args->logits, args->vocab, &finite);
  if (!finite) return SampleStatus::logitsNotFinite;
  const double logTotal =
      rawMax + std::log(passes.expSum(args->logits, args->vocab, rawMax, 1.0f, nullptr));

  auto* candidates = static_cast<Candidate*>(args->scratch);
  float* adjusted = reinterpret_cast<float*>(candidates + args->vocab);
  float* p = adjusted + args->vocab;
  reportTop(*args, passes, logTotal, candidates);

  Logits logits = {args->logits, args->vocab, rawMax, args->temperature};
  if (isAdjusted(*args)) {
    adjustLogits(*args, adjusted);
    if (isFaulty(*args, adjusted)) return SampleStatus::adjustedNotFinite;
    logits.x = adjusted;
    logits.max = passes.maxFinite(adjusted, args->vocab, &finite);
    if (logits.max == -INFINITY) return SampleStatus::allForbidden;
  }

  const int32_t token = args->temperature == 0
      ? static_cast<int32_t>(passes.firstAtLeast(logits.x, 0, args->vocab, logits.max))
      : drawFrom(*args, logits, passes, p, candidates);
  *args->token = token;
  *args->logprob = static_cast<float>(args->logits[token] - logTotal);
  return SampleStatus::ok;
}

}  // namespace quetzal
