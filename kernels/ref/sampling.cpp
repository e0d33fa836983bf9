// Sampling as it is defined: adjust, sort everything, cut, draw; all in double.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../include/philox.h"
#include "twins.h"

namespace quetzal::ref {
namespace {

struct Choice {
  float logit;
  double p;
  int32_t id;
};

bool ranksBefore(const Choice& a, const Choice& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

std::vector<Choice> rankedChoices(const float* logits, int32_t vocab, float temperature) {
  std::vector<Choice> choices;
  for (int32_t id = 0; id < vocab; ++id) choices.push_back({logits[id], 0, id});
  std::sort(choices.begin(), choices.end(), ranksBefore);
  const float max = choices[0].logit;
  for (Choice& choice : choices) {
    choice.p = std::exp((double{choice.logit} - max) / (temperature > 0 ? temperature : 1));
  }
  return choices;
}

double massOf(const std::vector<Choice>& choices) {
  double total = 0;
  for (const Choice& choice : choices) total += choice.p;
  return total;
}

std::vector<float> adjusted(const SampleArgs& args) {
  std::vector<float> x(args.logits, args.logits + args.vocab);
  for (int32_t i = 0; i < args.biasCount; ++i) x[args.biasIds[i]] += args.biasValues[i];
  for (int32_t i = 0; i < args.historyCount; ++i) {
    float& logit = x[args.history[2 * i]];
    const int32_t count = args.history[2 * i + 1];
    logit = logit > 0 ? logit / args.repetition : logit * args.repetition;
    logit -= args.frequency * static_cast<float>(count) + (count > 0 ? args.presence : 0.0f);
  }
  return x;
}

void cutMinP(std::vector<Choice>& ranked, float minP) {
  while (ranked.size() > 1 && ranked.back().p < minP) ranked.pop_back();
}

void cutTopP(std::vector<Choice>& ranked, float topP) {
  const double total = massOf(ranked);
  double mass = 0;
  for (size_t i = 0; i < ranked.size(); ++i) {
    mass += ranked[i].p;
    if (mass >= topP * total) return ranked.resize(i + 1);
  }
}

int32_t draw(std::vector<Choice>& kept, double u) {
  std::sort(kept.begin(), kept.end(),
            [](const Choice& a, const Choice& b) { return a.id < b.id; });
  const double target = u * massOf(kept);
  double mass = 0;
  int32_t last = kept.front().id;
  for (const Choice& choice : kept) {
    if (choice.p == 0) continue;
    mass += choice.p;
    last = choice.id;
    if (mass > target) break;
  }
  return last;
}

}  // namespace

SampleStatus sample(const SampleArgs* args) {
  for (int32_t id = 0; id < args->vocab; ++id) {
    if (!std::isfinite(args->logits[id])) return SampleStatus::logitsNotFinite;
  }
  const std::vector<Choice> raw = rankedChoices(args->logits, args->vocab, 1);
  const double logTotal = raw[0].logit + std::log(massOf(raw));
  for (int32_t i = 0; i < topLogprobsMax; ++i) {
    const bool wanted = i < std::min(args->topLogprobs, args->vocab);
    args->topIds[i] = wanted ? raw[i].id : -1;
    args->topLogprobValues[i] = wanted ? static_cast<float>(raw[i].logit - logTotal) : 0;
  }

  const std::vector<float> x = adjusted(*args);
  for (const float logit : x) {
    if (std::isnan(logit) || logit == INFINITY) return SampleStatus::adjustedNotFinite;
  }
  std::vector<Choice> ranked = rankedChoices(x.data(), args->vocab, args->temperature);
  if (ranked[0].logit == -INFINITY) return SampleStatus::allForbidden;

  int32_t token = ranked[0].id;
  if (args->temperature > 0) {
    if (args->minP > 0) cutMinP(ranked, args->minP);
    if (args->topK > 0 && ranked.size() > static_cast<size_t>(args->topK)) {
      ranked.resize(args->topK);
    }
    if (args->topP < 1) cutTopP(ranked, args->topP);
    token = draw(ranked, uniformOf(args->seed, args->draw));
  }
  *args->token = token;
  *args->logprob = static_cast<float>(args->logits[token] - logTotal);
  return SampleStatus::ok;
}

}  // namespace quetzal::ref
