#include "batch.h"

#include <algorithm>
#include <cmath>

namespace quetzal {
namespace {

using LL = long long;

Status checkLength(const char* what, size_t length, int64_t needed) {
  if (static_cast<int64_t>(length) >= needed) return {};
  return failure("Cannot step: %s needs %lld entries, found %zu", what, static_cast<LL>(needed),
                 length);
}

Status checkCount(const char* what, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return failure("Cannot step: %s must be %lld..%lld, is %lld", what, static_cast<LL>(least),
                 static_cast<LL>(most), static_cast<LL>(value));
}

Status checkEntry(const char* what, int64_t index, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return failure("Cannot step: %s[%lld] must be %lld..%lld, is %lld", what,
                 static_cast<LL>(index), static_cast<LL>(least), static_cast<LL>(most),
                 static_cast<LL>(value));
}

Status checkRows(const ModelSpec& spec, const Plan& plan, const StepInput& in,
                 int64_t outRowsBefore) {
  QUETZAL_TRY(checkCount("rows", in.rows, 1, spec.rowsMax));
  QUETZAL_TRY(checkCount("sequences", in.sequences, 1, in.rows));
  QUETZAL_TRY(checkCount("outRows", in.outRows, 0,
                         plan.logits < 0 ? 0 : std::min(in.rows, spec.outRowsMax)));
  QUETZAL_TRY(checkLength("tokenIds", in.tokenIds.size(), in.rows));
  QUETZAL_TRY(checkLength("positions", in.positions.size(), in.rows));
  for (int64_t row = 0; row < in.rows; ++row) {
    if (plan.vocabIn > 0) {
      QUETZAL_TRY(checkEntry("tokenIds", row, in.tokenIds[row], -outRowsBefore,
                             plan.vocabIn - 1));
    }
    QUETZAL_TRY(checkEntry("positions", row, in.positions[row], 0, positionsMax - 1));
  }
  QUETZAL_TRY(checkLength("outRowIndex", in.outRowIndex.size(), in.outRows));
  for (int64_t i = 0; i < in.outRows; ++i) {
    const int64_t least = i == 0 ? 0 : in.outRowIndex[i - 1] + int64_t{1};
    QUETZAL_TRY(checkEntry("outRowIndex", i, in.outRowIndex[i], least, in.rows - 1));
  }
  return {};
}

Status checkSequences(const ModelSpec& spec, const StepInput& in) {
  QUETZAL_TRY(checkLength("sequenceTable", in.sequenceTable.size(), in.sequences * 4));
  const int64_t blockTokens = spec.kv.blockTokens;
  int64_t row = 0;
  std::vector<int32_t> writer(spec.kv.blocks, -1);
  for (int64_t sequence = 0; sequence < in.sequences; ++sequence) {
    const int32_t* entry = in.sequenceTable.data() + sequence * 4;
    const int64_t count = entry[1], before = entry[2], begin = entry[3];
    if (entry[0] != row || count < 1 || count > in.rows - row) {
      return failure("Cannot step: sequence %lld needs first row %lld and 1..%lld rows, found %d "
                     "and %lld", static_cast<LL>(sequence), static_cast<LL>(row),
                     static_cast<LL>(in.rows - row), entry[0], static_cast<LL>(count));
    }
    row += count;
    if (before < 0 || before + count > positionsMax) {
      return failure("Cannot step: sequence %lld needs 0..%lld tokens before the step, found %lld",
                     static_cast<LL>(sequence), static_cast<LL>(positionsMax - count),
                     static_cast<LL>(before));
    }
    const int64_t blocks = (before + count + blockTokens - 1) / blockTokens;
    const auto held = static_cast<int64_t>(in.blockTables.size());
    if (begin < 0 || begin > held - blocks) {
      return failure("Cannot step: sequence %lld needs %lld block ids from entry %lld, blockTables "
                     "has %lld", static_cast<LL>(sequence), static_cast<LL>(blocks),
                     static_cast<LL>(begin), static_cast<LL>(held));
    }
    for (int64_t i = 0; i < blocks; ++i) {
      const int32_t block = in.blockTables[begin + i];
      QUETZAL_TRY(checkEntry("blockTables", begin + i, block, 0, spec.kv.blocks - 1));
      if (i < before / blockTokens) continue;
      if (writer[block] >= 0) {
        return failure("Cannot step: block %d needs one place that writes it, found sequence %d "
                       "and sequence %lld", block, writer[block], static_cast<LL>(sequence));
      }
      writer[block] = static_cast<int32_t>(sequence);
    }
  }
  if (row == in.rows) return {};
  return failure("Cannot step: sequences need to cover %lld rows, found %lld",
                 static_cast<LL>(in.rows), static_cast<LL>(row));
}

Status checkSamplingFloats(const float* f, int64_t row) {
  static const struct { const char* name; float least, most; } ranges[] = {
      {"temperature", 0, 1e6f}, {"topP", 0, 1}, {"minP", 0, 1},
      {"presence", -1e6f, 1e6f}, {"frequency", -1e6f, 1e6f}, {"repetition", 1e-6f, 1e6f}};
  for (int i = 0; i < samplingFloatWords; ++i) {
    if (f[i] >= ranges[i].least && f[i] <= ranges[i].most) continue;
    return failure("Cannot step: %s of out row %lld must be %g..%g, is %g", ranges[i].name,
                   static_cast<LL>(row), ranges[i].least, ranges[i].most, f[i]);
  }
  return {};
}

Status checkSpan(const char* what, int64_t row, int64_t begin, int64_t count, int64_t held) {
  if (begin >= 0 && count >= 0 && begin + count <= held) return {};
  return failure("Cannot step: %s of out row %lld needs entries inside 0..%lld, found %lld from "
                 "%lld", what, static_cast<LL>(row), static_cast<LL>(held),
                 static_cast<LL>(count), static_cast<LL>(begin));
}

Status checkSampling(const Plan& plan, const StepInput& in) {
  QUETZAL_TRY(checkLength("samplingInts", in.samplingInts.size(), in.outRows * samplingIntWords));
  QUETZAL_TRY(checkLength("samplingFloats", in.samplingFloats.size(),
                          in.outRows * samplingFloatWords));
  const auto history = static_cast<int64_t>(in.history.size() / 2);
  const auto bias = static_cast<int64_t>(std::min(in.biasIds.size(), in.biasValues.size()));
  for (int64_t row = 0; row < in.outRows; ++row) {
    const int32_t* ints = in.samplingInts.data() + row * samplingIntWords;
    QUETZAL_TRY(checkSamplingFloats(in.samplingFloats.data() + row * samplingFloatWords, row));
    QUETZAL_TRY(checkEntry("topK of out row", row, ints[0], 0, INT32_MAX));
    QUETZAL_TRY(checkEntry("topLogprobs of out row", row, ints[1], -1, topLogprobsMax));
    QUETZAL_TRY(checkEntry("hidden of out row", row, ints[9], 0, plan.hidden < 0 ? 0 : 1));
    QUETZAL_TRY(checkSpan("history", row, ints[5], ints[6], history));
    QUETZAL_TRY(checkSpan("bias", row, ints[7], ints[8], bias));
    for (int64_t i = ints[5]; i < int64_t{ints[5]} + ints[6]; ++i) {
      QUETZAL_TRY(checkEntry("history id", i, in.history[2 * i], 0, plan.vocabOut - 1));
      QUETZAL_TRY(checkEntry("history count", i, in.history[2 * i + 1], 0, positionsMax));
    }
    for (int64_t i = ints[7]; i < int64_t{ints[7]} + ints[8]; ++i) {
      QUETZAL_TRY(checkEntry("biasIds", i, in.biasIds[i], 0, plan.vocabOut - 1));
      const float value = in.biasValues[i];
      if (value == -INFINITY || std::fabs(value) <= 1e30f) continue;
      return failure("Cannot step: biasValues[%lld] must be -Infinity or within +-1e30, is %g",
                     static_cast<LL>(i), value);
    }
  }
  return {};
}

}  // namespace

Status checkBatch(const ModelSpec& spec, const Plan& plan, const StepInput& input,
                  int64_t outRowsBefore) {
  QUETZAL_TRY(checkRows(spec, plan, input, plan.vocabOut <= plan.vocabIn ? outRowsBefore : 0));
  QUETZAL_TRY(checkSequences(spec, input));
  return checkSampling(plan, input);
}

RowPlaces placeRows(const KvShape& kv, const StepInput& in) {
  RowPlaces places;
  places.block.reserve(in.rows);
  places.slot.reserve(in.rows);
  for (int64_t sequence = 0; sequence < in.sequences; ++sequence) {
    const int32_t* entry = in.sequenceTable.data() + sequence * 4;
    const int64_t count = entry[1], before = entry[2], begin = entry[3];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = before + i;
      places.block.push_back(in.blockTables[begin + token / kv.blockTokens]);
      places.slot.push_back(static_cast<int32_t>(token % kv.blockTokens));
    }
    for (int64_t i = 0; i < count; i += attentionTileRows) {
      const auto rows = static_cast<int32_t>(std::min(attentionTileRows, count - i));
      places.tiles.push_back({entry[0] + static_cast<int32_t>(i), rows, before + i, begin});
    }
  }
  return places;
}

}  // namespace quetzal
