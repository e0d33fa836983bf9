#include <cmath>

#include "../../ref/device_twins.h"
#include "../../ref/twins.h"
#include "inputs.h"

namespace quetzal::cuda {
namespace {

struct Row {
  int32_t topK = 0, topLogprobs = -1;
  float temperature = 0, topP = 1, minP = 0, presence = 0, frequency = 0, repetition = 1;
  int32_t history = 0, biases = 0;
};

struct Oddity {
  bool ties = false;         // few distinct logits
  bool notFinite = false;
  bool forbidden = false;    // all ids
  bool adjustedNotFinite = false;
};

double runSampling(Arrays& arrays, Random& random, int32_t vocab, const std::vector<Row>& rows,
                   const Oddity& odd) {
  const auto count = static_cast<int32_t>(rows.size());
  auto logits = floats(random, int64_t{count} * vocab, 3);
  if (odd.ties) {
    for (float& x : logits) x = std::nearbyint(x);
  }
  if (odd.notFinite) logits[vocab / 2] = NAN;
  std::vector<int32_t> ints, tables = {-7};
  std::vector<float> values;
  std::vector<std::vector<int32_t>> histories(count), biasIds(count);
  std::vector<std::vector<float>> biasValues(count);
  for (int32_t i = 0; i < count; ++i) {
    const Row& row = rows[i];
    const auto seed = random();
    std::vector<int32_t> ids(vocab);
    for (int32_t id = 0; id < vocab; ++id) ids[id] = id;
    std::shuffle(ids.begin(), ids.end(), random);
    for (int32_t h = 0; h < row.history && h < vocab; ++h) {
      histories[i].insert(histories[i].end(), {ids[h], static_cast<int32_t>(random() % 4)});
    }
    for (int32_t b = 0; b < row.biases; ++b) {
      // Some ids come twice, some are forbidden.
      biasIds[i].push_back(odd.forbidden ? b : ids[(b / 2 * 3) % vocab]);
      biasValues[i].push_back(odd.forbidden || random() % 3 == 0
                                  ? -INFINITY
                                  : static_cast<float>(normal(random)));
    }
    if (odd.adjustedNotFinite) {
      biasIds[i].push_back(3 % vocab);
      biasValues[i].push_back(INFINITY);
    }
    const auto historyBegin = static_cast<int32_t>(tables.size());
    tables.insert(tables.end(), histories[i].begin(), histories[i].end());
    const auto idsBegin = static_cast<int32_t>(tables.size());
    tables.insert(tables.end(), biasIds[i].begin(), biasIds[i].end());
    const auto valuesBegin = static_cast<int32_t>(tables.size());
    for (const float value : biasValues[i]) tables.push_back(static_cast<int32_t>(bitsOfFloat(value)));
    ints.insert(ints.end(), {row.topK, row.topLogprobs, static_cast<int32_t>(seed),
                             static_cast<int32_t>(seed >> 32), i, historyBegin,
                             static_cast<int32_t>(histories[i].size() / 2), idsBegin,
                             static_cast<int32_t>(biasIds[i].size()), valuesBegin});
    values.insert(values.end(), {row.temperature, row.topP, row.minP, row.presence, row.frequency,
                                 row.repetition, row.minP > 0 ? std::log(row.minP) : -INFINITY});
  }
  SampleArgs args = {};
  args.logits = arrays.give(logits);
  args.ints = arrays.give(ints);
  args.floats = arrays.give(values);
  args.tables = arrays.give(tables);
  args.parts = arrays.make<SamplePart>(int64_t{count} * scanPartsOf(vocab));
  args.adjusted = arrays.make<float>(logits.size());
  args.tokens = arrays.make<int32_t>(count);
  args.logprobs = arrays.make<float>(count);
  args.topIds = arrays.make<int32_t>(int64_t{count} * sampleTopMax);
  args.topLogprobs = arrays.make<float>(int64_t{count} * sampleTopMax);
  args.statuses = arrays.make<int32_t>(count);
  args.rows = count;
  args.vocab = vocab;
  launchAndWait(arrays.gpu(), launchOfScan(args), args);
  launchAndWait(arrays.gpu(), launchOf(args), args);

  const auto tokens = arrays.take(args.tokens, count), statuses = arrays.take(args.statuses, count);
  const auto logprobs = arrays.take(args.logprobs, count);
  const auto topIds = arrays.take(args.topIds, int64_t{count} * sampleTopMax);
  const auto topLogprobs = arrays.take(args.topLogprobs, int64_t{count} * sampleTopMax);
  double worst = 0;
  for (int32_t i = 0; i < count; ++i) {
    int32_t token = -1, wantedIds[sampleTopMax];
    float logprob = 0, wantedTop[sampleTopMax];
    const int32_t* n = &ints[i * sampleIntWords];
    const float* f = &values[i * sampleFloatWords];
    quetzal::SampleArgs twin = {};
    twin.logits = &logits[int64_t{i} * vocab];
    twin.vocab = vocab;
    twin.topK = n[0];
    twin.topLogprobs = n[1];
    twin.seed = static_cast<uint64_t>(static_cast<uint32_t>(n[3])) << 32 | static_cast<uint32_t>(n[2]);
    twin.draw = static_cast<uint32_t>(n[4]);
    twin.temperature = f[0];
    twin.topP = f[1];
    twin.minP = f[2];
    twin.presence = f[3];
    twin.frequency = f[4];
    twin.repetition = f[5];
    twin.history = histories[i].data();
    twin.historyCount = n[6];
    twin.biasIds = biasIds[i].data();
    twin.biasValues = biasValues[i].data();
    twin.biasCount = n[8];
    twin.token = &token;
    twin.logprob = &logprob;
    twin.topIds = wantedIds;
    twin.topLogprobValues = wantedTop;
    const SampleStatus status = ref::sample(&twin);
    if (statuses[i] != static_cast<int32_t>(status)) return INFINITY;
    if (status == SampleStatus::logitsNotFinite) continue;
    if (status == SampleStatus::ok && tokens[i] != token) return INFINITY;
    if (status == SampleStatus::ok) worst = worse(worst, logprobs[i], logprob, 1);
    for (int32_t t = 0; t < sampleTopMax; ++t) {
      if (topIds[i * sampleTopMax + t] != wantedIds[t]) return INFINITY;
      worst = worse(worst, topLogprobs[i * sampleTopMax + t], wantedTop[t], 1);
    }
  }
  return worst;
}

double runVerify(Arrays& arrays, Random& random) {
  std::vector<int32_t> tokens, spans, drafts, wanted, next;
  for (const int32_t count : {0, 1, 4, 33, 70}) {
    const auto first = static_cast<int32_t>(tokens.size()), at = static_cast<int32_t>(drafts.size());
    for (int32_t i = 0; i <= count; ++i) tokens.push_back(static_cast<int32_t>(random() % 1000));
    const int32_t agree = count == 33 ? 33 : count / 2;
    for (int32_t i = 0; i < count; ++i) drafts.push_back(tokens[first + i] + (i < agree ? 0 : 1));
    spans.insert(spans.end(), {first, count, at});
    wanted.push_back(ref::acceptedDrafts(&tokens[first], drafts.data() + at, count));
    next.push_back(tokens[first + wanted.back()]);
  }
  const auto sequences = static_cast<int32_t>(wanted.size());
  const VerifyArgs args = {arrays.give(tokens), arrays.give(spans), arrays.give(drafts),
                           arrays.make<int32_t>(sequences), arrays.make<int32_t>(sequences), sequences};
  launchAndWait(arrays.gpu(), launchOf(args), args);
  const bool agrees = arrays.take(args.accepted, sequences) == wanted &&
      arrays.take(args.next, sequences) == next;
  return agrees ? 0 : INFINITY;
}

}  // namespace

std::vector<Case> samplingCases(bool quick) {
  std::vector<Case> cases;
  const auto add = [&](const std::string& name, int32_t vocab, std::vector<Row> rows, Oddity odd = {}) {
    cases.push_back({"sample_rows", name + ", vocabulary " + std::to_string(vocab), 2e-5,
                     [=](Arrays& a, Random& r) { return runSampling(a, r, vocab, rows, odd); }});
  };
  for (const int32_t vocab : quick ? std::vector<int32_t>{1, 517} : std::vector<int32_t>{1, 31, 517, 4099}) {
    add("greedy", vocab, {{}, {0, 5}, {0, 20}});
    add("temperature", vocab, {{0, -1, 1.0f}, {0, 3, 0.3f}, {0, -1, 2.5f}});
    add("top-k", vocab, {{1, -1, 1}, {7, -1, 1}, {40, -1, 0.8f}, {100000, -1, 1}});
    add("top-p", vocab, {{0, -1, 1, 0.1f}, {0, -1, 1, 0.5f}, {0, -1, 1.5f, 0.95f}, {0, -1, 1, 0}});
    // Cold: all but a few tokens lie in the far tail, where the last kept one is as well.
    add("top-k in the tail", vocab, {{100000, -1, 0.05f}, {3000, -1, 0.1f}, {300, -1, 0.05f, 0.99f}});
    add("top-p of nearly all", vocab, {{0, -1, 3, 0.999f}, {0, -1, 8, 0.9999f, 0.001f}, {0, -1, 0.2f, 0.99999f}});
    add("min-p", vocab, {{0, -1, 1, 1, 0.05f}, {0, -1, 2, 1, 0.3f}, {0, -1, 1, 1, 1}});
    add("all cuts", vocab, {{20, -1, 1, 0.9f, 0.02f}, {3, -1, 1.2f, 0.7f, 0.01f}, {50, 2, 3, 0.5f, 0.001f}});
    add("ties", vocab, {{}, {5, -1, 1}, {0, -1, 1, 0.6f}, {9, -1, 2, 0.8f}, {0, 20, 1}}, {.ties = true});
    add("penalties", vocab, {{0, -1, 0, 1, 0, 0.5f, 0.3f, 1.3f, 9}, {8, -1, 1, 0.9f, 0, 1, 0, 1, 20}});
    add("biases", vocab, {{0, -1, 0, 1, 0, 0, 0, 1, 0, vocab > 1 ? 12 : 0}, {0, 4, 1, 0.8f, 0, 0, 0, 1.1f, 3, vocab > 1 ? 8 : 0}});
    add("not finite", vocab, {{}}, {.notFinite = true});
    add("all forbidden", vocab, {{0, 2, 1, 1, 0, 0, 0, 1, 0, vocab}}, {.forbidden = true});
    add("infinite bias", vocab, {{0, 1, 1}}, {.adjustedNotFinite = true});
  }
  cases.push_back({"verify_drafts", "0, 1, 4, 33 and 70 drafts", 0, runVerify});
  return cases;
}

}  // namespace quetzal::cuda
