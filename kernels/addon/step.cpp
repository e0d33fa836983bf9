// Replays the plan for the rows of one step.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "clock.h"
#include "model.h"

namespace quetzal {
namespace {

/// A chunk should take some microseconds, or handing it out costs more than it saves.
constexpr int64_t rowLocalValuesMin = 8192;
constexpr int64_t matmulValuesMin = 65536;
constexpr int chunksPerThread = 4;

const char* describe(SampleStatus status) {
  switch (status) {
    case SampleStatus::logitsNotFinite: return "logits are not finite";
    case SampleStatus::adjustedNotFinite: return "logits are not finite after bias and penalties";
    case SampleStatus::allForbidden: return "all tokens are forbidden";
    case SampleStatus::noMemory: return "memory ran out";
    case SampleStatus::ok: break;
  }
  return "ok";
}

int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

class StepJob final : public PhasedJob {
 public:
  StepJob(const Model& model, const StepInput& input, StepResult& result)
      : model_(model), in_(input), result_(result), places_(placeRows(model.spec().kv, input)),
        statuses_(input.outRows, SampleStatus::ok) {}

  int phases() const override { return static_cast<int>(model_.plan().phases.size()); }

  int chunks(int index) const override {
    const Phase& phase = model_.plan().phases[index];
    const int64_t rows = rowsOf(phase.rows);
    if (rows == 0) return 0;
    switch (phase.kind) {
      case PhaseKind::rowLocal: return limited(rows, rows * phase.rowWork / rowLocalValuesMin);
      case PhaseKind::matmul: {
        const auto [panels, values] = panelsOf(phase);
        return limited(panels, values * rows / matmulValuesMin);
      }
      case PhaseKind::attention: return limited(attentionUnits(phase), attentionUnits(phase));
      case PhaseKind::sample: return static_cast<int>(rows);
    }
    return 0;
  }

  void run(int index, int chunk, int worker) noexcept override {
    const Phase& phase = model_.plan().phases[index];
    const int count = chunks(index);
    switch (phase.kind) {
      case PhaseKind::rowLocal: {
        const int64_t rows = rowsOf(phase.rows);
        for (const Item& item : phase.items) {
          runRows(item, rows * chunk / count, rows * (chunk + 1) / count);
        }
        break;
      }
      case PhaseKind::matmul: {
        const int64_t panels = panelsOf(phase).panels;
        runPanels(phase, panels * chunk / count, panels * (chunk + 1) / count, worker);
        break;
      }
      case PhaseKind::attention: {
        const int64_t units = attentionUnits(phase);
        for (int64_t unit = units * chunk / count; unit < units * (chunk + 1) / count; ++unit) {
          attend(phase.items[0], unit, worker);
        }
        break;
      }
      case PhaseKind::sample: sample(phase.items[0], chunk, worker); break;
    }
  }

  Status outcome() const {
    for (size_t row = 0; row < statuses_.size(); ++row) {
      if (statuses_[row] == SampleStatus::ok) continue;
      return failure("Cannot sample out row %zu (row %d): needs finite logits and an allowed token, "
                     "%s", row, in_.outRowIndex[row], describe(statuses_[row]));
    }
    return {};
  }

 private:
  struct PanelCount {
    int64_t panels, values;  // values: weights that one row meets
  };

  int64_t rowsOf(RowKind kind) const { return kind == RowKind::rows ? in_.rows : in_.outRows; }

  /// Chunks for `units` indivisible units, of which `worthwhile` are big enough.
  int limited(int64_t units, int64_t worthwhile) const {
    const int64_t threads = model_.threads();
    if (threads == 1) return 1;
    return static_cast<int>(std::clamp<int64_t>(worthwhile, 1,
                                                std::min(units, threads * chunksPerThread)));
  }

  int64_t panelsIn(const Item& item) const {
    return ceilDiv(model_.weight(item.w0).matrix.rows, model_.table().panelRows);
  }

  PanelCount panelsOf(const Phase& phase) const {
    PanelCount count = {0, 0};
    for (const Item& item : phase.items) {
      const Matrix& weight = model_.weight(item.w0).matrix;
      count.panels += panelsIn(item);
      count.values += weight.rows * weight.cols;
    }
    return count;
  }

  /// Few tiles are split further, down to single query heads.
  int64_t headSplits(const Item& item) const {
    const int64_t group = item.ints[1] / model_.spec().kv.kvHeads;
    const auto tiles = static_cast<int64_t>(places_.tiles.size());
    const bool isWide = tiles * model_.spec().kv.kvHeads >= 2 * model_.threads();
    return isWide || model_.threads() == 1 ? 1 : group;
  }

  int64_t attentionUnits(const Phase& phase) const {
    return static_cast<int64_t>(places_.tiles.size()) * model_.spec().kv.kvHeads *
        headSplits(phase.items[0]);
  }

  void runRows(const Item& item, int64_t begin, int64_t end);
  void fillRopeTable(const RopeSetting& setting, float* table, int64_t begin, int64_t end) const;
  void rotate(const Item& item, int64_t begin, int64_t end) const;
  void quantize(const Item& item, int64_t begin, int64_t end) const;
  void runPanels(const Phase& phase, int64_t begin, int64_t end, int worker) const;
  void attend(const Item& item, int64_t unit, int worker) const;
  void sample(const Item& item, int64_t row, int worker);

  int64_t colsOf(int32_t tensor) const { return model_.spec().tensors[tensor].cols; }
  float* at(int32_t tensor, int64_t row) const {
    return model_.tensor(tensor) + row * colsOf(tensor);
  }

  const Model& model_;
  const StepInput& in_;
  StepResult& result_;
  RowPlaces places_;
  std::vector<SampleStatus> statuses_;
};

void StepJob::runRows(const Item& item, int64_t begin, int64_t end) {
  const KernelTable& table = model_.table();
  const int64_t rows = end - begin;
  switch (item.kind) {
    case ItemKind::embed:
      table.embed(&model_.weight(item.w0).matrix, in_.tokenIds.data() + begin, rows,
                  at(item.dst, begin));
      break;
    case ItemKind::rmsNorm:
      table.rmsNorm(at(item.a, begin), model_.weight(item.w0).vector, at(item.dst, begin), rows,
                    colsOf(item.a), item.ints[0], item.floats[0]);
      break;
    case ItemKind::add:
      table.add(at(item.a, begin), at(item.b, begin), at(item.dst, begin),
                rows * colsOf(item.dst));
      break;
    case ItemKind::siluMul:
      // Row by row: how a row's tail is handled must not depend on the rows before.
      for (int64_t row = begin; row < end; ++row) {
        table.siluMul(at(item.a, row), at(item.b, row), at(item.dst, row), colsOf(item.dst));
      }
      break;
    case ItemKind::ropeTable:
      fillRopeTable(model_.plan().ropes[item.ropeTable], model_.ropeTable(item.ropeTable), begin,
                    end);
      break;
    case ItemKind::rope: rotate(item, begin, end); break;
    case ItemKind::kvWrite: {
      const KvWriteArgs args = {model_.kvPool(), item.ints[0], at(item.a, 0), at(item.b, 0),
                                places_.block.data(), places_.slot.data()};
      table.kvWrite(&args, begin, end);
      break;
    }
    case ItemKind::gather:
      for (int64_t row = begin; row < end; ++row) {
        std::memcpy(at(item.dst, row), at(item.a, in_.outRowIndex[row]), colsOf(item.a) * 4);
      }
      break;
    case ItemKind::quantize: quantize(item, begin, end); break;
    default: break;
  }
}

/// Angles in double: position * scale * base^(-2i/n) / divisor.
void StepJob::fillRopeTable(const RopeSetting& setting, float* table, int64_t begin,
                            int64_t end) const {
  const int64_t half = setting.rotated / 2;
  const float* divisors =
      setting.divisors < 0 ? nullptr : model_.weight(setting.divisors).vector;
  float* sines = table + model_.spec().rowsMax * half;
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / setting.rotated;
    const double frequency =
        std::pow(double{setting.base}, exponent) * setting.scale / (divisors ? divisors[i] : 1.0f);
    for (int64_t row = begin; row < end; ++row) {
      const double angle = in_.positions[row] * frequency;
      table[row * half + i] = static_cast<float>(std::cos(angle));
      sines[row * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void StepJob::rotate(const Item& item, int64_t begin, int64_t end) const {
  const int64_t half = item.ints[2] / 2;
  const float* cosines = model_.ropeTable(item.ropeTable);
  const float* sines = cosines + model_.spec().rowsMax * half;
  const RopeArgs args = {at(item.dst, begin), cosines + begin * half, sines + begin * half,
                         end - begin, item.ints[0], item.ints[1], item.ints[2], item.ints[3] == 1};
  model_.table().rope(&args);
}

void StepJob::quantize(const Item& item, int64_t begin, int64_t end) const {
  const auto kind = static_cast<RowKind>(model_.spec().tensors[item.a].rowKind);
  const QuantizeArgs args = {at(item.a, 0), rowsOf(kind), colsOf(item.a), model_.quantized()};
  model_.table().quantizeRows(&args, begin, end);
}

void StepJob::runPanels(const Phase& phase, int64_t begin, int64_t end, int worker) const {
  int64_t first = 0;
  for (const Item& item : phase.items) {
    const int64_t panels = panelsIn(item);
    const int64_t from = std::max(begin - first, int64_t{0});
    const int64_t to = std::min(end - first, panels);
    first += panels;
    if (from >= to) continue;
    const MatmulArgs args = {model_.weight(item.w0).matrix,
                             item.w1 < 0 ? nullptr : model_.weight(item.w1).vector,
                             at(item.a, 0), model_.quantized(), at(item.dst, 0),
                             rowsOf(phase.rows), model_.scratch(worker)};
    model_.table().matmul(&args, from, to);
  }
}

void StepJob::attend(const Item& item, int64_t unit, int worker) const {
  const int64_t kvHeads = model_.spec().kv.kvHeads, heads = item.ints[1], group = heads / kvHeads;
  const int64_t splits = headSplits(item);
  const int64_t split = unit % splits, kvHead = unit / splits % kvHeads;
  const RowTile& tile = places_.tiles[unit / splits / kvHeads];
  const int64_t headBegin = kvHead * group + split * (group / splits);
  const AttentionArgs args = {model_.kvPool(), item.ints[0], kvHead, heads, headBegin,
                              headBegin + group / splits, at(item.a, tile.firstRow),
                              at(item.dst, tile.firstRow), tile.rows, tile.kvBefore,
                              in_.blockTables.data() + tile.tableBegin, item.floats[0],
                              reinterpret_cast<float*>(model_.scratch(worker))};
  model_.table().attention(&args);
}

void StepJob::sample(const Item& item, int64_t row, int worker) {
  const int32_t* ints = in_.samplingInts.data() + row * samplingIntWords;
  const float* floats = in_.samplingFloats.data() + row * samplingFloatWords;
  SampleArgs args = {};
  args.logits = at(item.a, row);
  args.vocab = model_.plan().vocabOut;
  args.topK = ints[0];
  args.topLogprobs = ints[1];
  args.seed = static_cast<uint64_t>(static_cast<uint32_t>(ints[3])) << 32 |
      static_cast<uint32_t>(ints[2]);
  args.draw = static_cast<uint32_t>(ints[4]);
  args.history = in_.history.data() + 2 * int64_t{ints[5]};
  args.historyCount = ints[6];
  args.biasIds = in_.biasIds.data() + ints[7];
  args.biasValues = in_.biasValues.data() + ints[7];
  args.biasCount = ints[8];
  args.temperature = floats[0];
  args.topP = floats[1];
  args.minP = floats[2];
  args.presence = floats[3];
  args.frequency = floats[4];
  args.repetition = floats[5];
  args.scratch = model_.scratch(worker);
  args.token = result_.tokens.data() + row;
  args.logprob = result_.logprobs.data() + row;
  args.topIds = result_.topIds.data() + row * topLogprobsMax;
  args.topLogprobValues = result_.topLogprobs.data() + row * topLogprobsMax;
  try {
    statuses_[row] = model_.table().sample(&args);
  } catch (...) {
    statuses_[row] = SampleStatus::noMemory;
  }
}

void clear(const StepInput& input, StepResult& result) {
  result.tokens.assign(input.outRows, -1);
  result.logprobs.assign(input.outRows, 0);
  result.topIds.assign(input.outRows * topLogprobsMax, -1);
  result.topLogprobs.assign(input.outRows * topLogprobsMax, 0);
  result.hidden.clear();
}

void copyHidden(const Model& model, const StepInput& input, StepResult& result) {
  const int32_t id = model.plan().hidden;
  for (int64_t row = 0; id >= 0 && row < input.outRows; ++row) {
    if (!wantsHidden(input, row)) continue;
    const int64_t cols = model.spec().tensors[id].cols;
    const float* values = model.tensor(id) + row * cols;
    result.hidden.insert(result.hidden.end(), values, values + cols);
  }
}

}  // namespace

Status Model::beginStep(const StepInput& input, bool wantsLogits, StepResult& result) {
  clear(input, result);
  return cuda_->begin(input, wantsLogits, result);
}

Status Model::step(const StepInput& input, bool wantsLogits, StepResult& result) {
  const double begin = nowUs();
  clear(input, result);
  StepJob job(*this, input, result);
  pool_->run(job);
  result.stepUs = nowUs() - begin;
  if (wantsLogits && plan_.logits >= 0) {
    const float* logits = tensor(plan_.logits);
    result.logits.assign(logits, logits + input.outRows * plan_.vocabOut);
  }
  copyHidden(*this, input, result);
  return job.outcome();
}

}  // namespace quetzal
