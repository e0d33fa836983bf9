#include "plan.h"

#include <algorithm>

#include "op_check.h"

namespace quetzal {
namespace {

/// Builds phases from checked items, in program order.
class PhaseBuilder {
 public:
  PhaseBuilder(const ModelSpec& spec, Plan& plan) : spec_(spec), plan_(plan) {}

  void add(Item item) {
    switch (item.kind) {
      case ItemKind::matmul: addMatmul(item); break;
      case ItemKind::attention: open(PhaseKind::attention, RowKind::rows).items.push_back(item); break;
      case ItemKind::sample: open(PhaseKind::sample, RowKind::outRows).items.push_back(item); break;
      case ItemKind::rope: addRope(item); break;
      default: addRowLocal(item); break;
    }
    if (item.dst >= 0 && item.dst == quantized_) quantized_ = -1;
  }

 private:
  Phase& open(PhaseKind kind, RowKind rows) {
    plan_.phases.push_back({kind, rows, {}, 0});
    return plan_.phases.back();
  }

  RowKind rowsOf(int32_t tensor) const {
    return static_cast<RowKind>(spec_.tensors[tensor].rowKind);
  }

  /// Rows pass through the whole phase one after another; gather reads any row, but
  /// its source has the other row kind and so an earlier phase.
  void addRowLocal(const Item& item) {
    const int32_t shaped = item.dst >= 0 ? item.dst : item.a;
    const RowKind rows = item.kind == ItemKind::ropeTable ? RowKind::rows : rowsOf(shaped);
    const bool joins = !plan_.phases.empty() &&
        plan_.phases.back().kind == PhaseKind::rowLocal && plan_.phases.back().rows == rows;
    Phase& phase = joins ? plan_.phases.back() : open(PhaseKind::rowLocal, rows);
    phase.items.push_back(item);
    phase.rowWork += item.kind == ItemKind::ropeTable ? 16 * plan_.ropes[item.ropeTable].rotated
                                                      : spec_.tensors[shaped].cols;
  }

  /// The table is made where it is first needed, which is before all later uses.
  void addRope(Item item) {
    const int32_t rotated = item.ints[2], divisors = item.w0;
    const float base = item.floats[0], scale = item.floats[1];
    for (size_t i = 0; i < plan_.ropes.size() && item.ropeTable < 0; ++i) {
      const RopeSetting& have = plan_.ropes[i];
      if (have.rotated == rotated && have.base == base && have.scale == scale &&
          have.divisors == divisors) {
        item.ropeTable = static_cast<int32_t>(i);
      }
    }
    if (item.ropeTable < 0) {
      item.ropeTable = static_cast<int32_t>(plan_.ropes.size());
      plan_.ropes.push_back({rotated, base, scale, divisors, plan_.ropeFloats});
      plan_.ropeFloats += spec_.rowsMax * rotated;
      Item table = {ItemKind::ropeTable};
      table.ropeTable = item.ropeTable;
      addRowLocal(table);
    }
    addRowLocal(item);
  }

  void addMatmul(const Item& item) {
    if (isQuantized(static_cast<WeightType>(spec_.weights[item.w0].type)) && quantized_ != item.a) {
      Item quantize = {ItemKind::quantize};
      quantize.a = item.a;
      addRowLocal(quantize);
      quantized_ = item.a;
      plan_.quantCols = std::max<int64_t>(plan_.quantCols, spec_.tensors[item.a].cols);
    }
    const RowKind rows = rowsOf(item.dst);
    const bool joins = !plan_.phases.empty() && plan_.phases.back().kind == PhaseKind::matmul &&
        plan_.phases.back().rows == rows && isIndependent(item, plan_.phases.back());
    (joins ? plan_.phases.back() : open(PhaseKind::matmul, rows)).items.push_back(item);
  }

  static bool isIndependent(const Item& item, const Phase& phase) {
    return std::none_of(phase.items.begin(), phase.items.end(), [&](const Item& other) {
      return item.a == other.dst || item.dst == other.dst || item.dst == other.a;
    });
  }

  const ModelSpec& spec_;
  Plan& plan_;
  int32_t quantized_ = -1;  // tensor whose int8 form the buffer holds
};

struct Lifetime {
  int32_t tensor;
  int64_t floats;
  int64_t first, last;  // phases
};

std::vector<Lifetime> lifetimesOf(const ModelSpec& spec, const Plan& plan) {
  std::vector<Lifetime> all(spec.tensors.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t rows = spec.tensors[i].rowKind == 0 ? spec.rowsMax : spec.outRowsMax;
    all[i] = {static_cast<int32_t>(i), (rows * spec.tensors[i].cols + 15) / 16 * 16, -1, -1};
  }
  for (size_t phase = 0; phase < plan.phases.size(); ++phase) {
    for (const Item& item : plan.phases[phase].items) {
      for (const int32_t tensor : {item.dst, item.a, item.b}) {
        if (tensor < 0) continue;
        if (all[tensor].first < 0) all[tensor].first = static_cast<int64_t>(phase);
        all[tensor].last = static_cast<int64_t>(phase);
      }
    }
  }
  // These are read out after the last phase.
  for (const int32_t tensor : {plan.logits, plan.hidden}) {
    if (tensor >= 0) all[tensor].last = static_cast<int64_t>(plan.phases.size());
  }
  return all;
}

}  // namespace

void placeTensors(const ModelSpec& spec, Plan& plan) {
  std::vector<Lifetime> waiting = lifetimesOf(spec, plan);
  plan.tensorOffset.assign(waiting.size(), 0);
  std::erase_if(waiting, [](const Lifetime& life) { return life.first < 0; });
  std::sort(waiting.begin(), waiting.end(), [](const Lifetime& a, const Lifetime& b) {
    return a.floats != b.floats ? a.floats > b.floats : a.tensor < b.tensor;
  });
  std::vector<Lifetime> placed;  // by offset
  for (const Lifetime& life : waiting) {
    int64_t offset = 0;
    for (const Lifetime& other : placed) {
      if (other.last < life.first || other.first > life.last) continue;
      const int64_t begin = plan.tensorOffset[other.tensor];
      if (begin >= offset + life.floats) break;
      offset = std::max(offset, begin + other.floats);
    }
    plan.tensorOffset[life.tensor] = offset;
    plan.arenaFloats = std::max(plan.arenaFloats, offset + life.floats);
    const auto behind = std::find_if(placed.begin(), placed.end(), [&](const Lifetime& other) {
      return plan.tensorOffset[other.tensor] > offset;
    });
    placed.insert(behind, life);
  }
}

Status makePlan(const ModelSpec& spec, Plan& plan) {
  const size_t count = spec.ops.size() / opWords;
  if (spec.ops.size() % opWords != 0 || count < 1 || count > (1 << 16)) {
    return failure("Cannot load program: needs 1..65536 ops of %d words, found %zu words", opWords,
                   spec.ops.size());
  }
  plan.usedAsMatrix.assign(spec.weights.size(), false);
  plan.usedAsVector.assign(spec.weights.size(), false);
  OpChecker checker = {spec, plan, std::vector<bool>(spec.tensors.size(), false)};
  PhaseBuilder builder(spec, plan);
  for (size_t index = 0; index < count; ++index) {
    Item item = {};
    QUETZAL_TRY(checker.check(index, item));
    builder.add(item);
  }
  placeTensors(spec, plan);
  return {};
}

}  // namespace quetzal
