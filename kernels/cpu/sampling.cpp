// Sampling without sorting the vocabulary.
//
// Order: bias, penalties, then argmax (temperature 0) or temperature, min_p,
// top_k, top_p and one draw. Ranks are by adjusted logit, lower ids first among
// equals. A draw walks the kept tokens in order of id until their probabilities
// exceed u * total, in double; u is Philox of (seed, draw).
//
// top_k and top_p only need the head of the ranking, so a threshold below the
// best logit picks candidates, widened until it is sure to hold the head.
#include "sampling.h"

#include <algorithm>
#include <cmath>

#include "../include/philox.h"

namespace quetzal {
namespace {

struct Candidate {
  float logit;
  int32_t id;
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

void reportTop(const SampleArgs& args, double logTotal, Candidate* top) {
  const int32_t wanted =
      std::min({std::max(args.topLogprobs, 0), topLogprobsMax, args.vocab});
  int32_t held = 0;
  for (int32_t id = 0; id < args.vocab && wanted > 0; ++id) {
    const Candidate candidate = {args.logits[id], id};
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

/// Probability mass of what min_p leaves.
double allowedMass(const SampleArgs& args, const float* x, const float* p, float max) {
  const float floor = floorOf(args);
  double total = 0;
  for (int32_t id = 0; id < args.vocab; ++id) {
    if ((x[id] - max) / args.temperature >= floor) total += p[id];
  }
  return total;
}

/// Candidates in order of rank, holding at least all that top_k and top_p can keep.
int64_t gatherHead(const SampleArgs& args, const float* x, const float* p, float max,
                   double allowed, Candidate* out) {
  const float floor = floorOf(args);
  int64_t count = 0;
  for (const float threshold : {-4.0f, -8.0f, -16.0f, -INFINITY}) {
    const float least = std::max(threshold, floor);
    double mass = 0;
    count = 0;
    for (int32_t id = 0; id < args.vocab; ++id) {
      if (!((x[id] - max) / args.temperature >= least) || p[id] == 0) continue;
      out[count++] = {x[id], id};
      mass += p[id];
    }
    if (least == floor) break;
    if (args.topK > 0 ? count >= args.topK : mass >= args.topP * allowed) break;
  }
  std::sort(out, out + count, ranksBefore);
  return count;
}

/// How many of the ranked candidates top_k and then top_p keep; at least one.
int64_t keepHead(const SampleArgs& args, const float* p, const Candidate* ranked, int64_t count,
                 double allowed) {
  double total = allowed;
  if (args.topK > 0) {
    count = std::min<int64_t>(count, args.topK);
    total = 0;
    for (int64_t i = 0; i < count; ++i) total += p[ranked[i].id];
  }
  if (args.topP >= 1) return count;
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) {
    mass += p[ranked[i].id];
    if (mass >= args.topP * total) return i + 1;
  }
  return count;
}

int32_t drawAll(const SampleArgs& args, const float* p) {
  double total = 0;
  for (int32_t id = 0; id < args.vocab; ++id) total += p[id];
  const double target = uniformOf(args.seed, args.draw) * total;
  double mass = 0;
  int32_t last = -1;
  for (int32_t id = 0; id < args.vocab; ++id) {
    if (p[id] == 0) continue;
    mass += p[id];
    last = id;
    if (mass > target) return id;
  }
  return last;
}

int32_t drawKept(const SampleArgs& args, const float* p, Candidate* kept, int64_t count) {
  std::sort(kept, kept + count, [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += p[kept[i].id];
  const double target = uniformOf(args.seed, args.draw) * total;
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) {
    mass += p[kept[i].id];
    if (mass > target) return kept[i].id;
  }
  return kept[count - 1].id;
}

int32_t argmax(const float* x, int32_t vocab, float max) {
  for (int32_t id = 0; id < vocab; ++id) {
    if (x[id] == max) return id;
  }
  return -1;
}

}  // namespace

SampleStatus sampleWith(const SampleArgs* args, MaxFinite maxFinite, ExpSum expSum) {
  bool finite = false;
  const float rawMax = maxFinite(args->logits, args->vocab, &finite);
  if (!finite) return SampleStatus::logitsNotFinite;
  const double logTotal =
      rawMax + std::log(expSum(args->logits, args->vocab, rawMax, 1.0f, nullptr));

  auto* candidates = static_cast<Candidate*>(args->scratch);
  float* adjusted = reinterpret_cast<float*>(candidates + args->vocab);
  float* p = adjusted + args->vocab;
  reportTop(*args, logTotal, candidates);

  const float* x = args->logits;
  float max = rawMax;
  if (isAdjusted(*args)) {
    adjustLogits(*args, adjusted);
    x = adjusted;
    max = -INFINITY;
    bool isNan = false;
    for (int32_t id = 0; id < args->vocab; ++id) {
      isNan = isNan || x[id] != x[id];
      if (x[id] > max) max = x[id];
    }
    if (isNan || max == INFINITY) return SampleStatus::adjustedNotFinite;
    if (max == -INFINITY) return SampleStatus::allForbidden;
  }

  int32_t token;
  if (args->temperature == 0) {
    token = argmax(x, args->vocab, max);
  } else {
    expSum(x, args->vocab, max, args->temperature, p);
    if (args->topK <= 0 && args->topP >= 1 && args->minP <= 0) {
      token = drawAll(*args, p);
    } else {
      const double allowed = allowedMass(*args, x, p, max);
      const int64_t count = gatherHead(*args, x, p, max, allowed, candidates);
      token = drawKept(*args, p, candidates, keepHead(*args, p, candidates, count, allowed));
    }
  }
  *args->token = token;
  *args->logprob = static_cast<float>(args->logits[token] - logTotal);
  return SampleStatus::ok;
}

}  // namespace quetzal
