#include "cuda_plan.h"

#include <algorithm>
#include <cstring>

#include "../cuda/kernel_args.h"
#include "cuda_repack.h"

namespace quetzal::cuda {
namespace {

using Kind = DeviceOp::Kind;

struct Op {
  Opcode code;
  int32_t dst, a, b, w0, w1;
  int32_t ints[6];
  float floats[3];
};

std::vector<Op> decodeOps(const ModelSpec& spec) {
  std::vector<Op> ops;
  for (size_t at = 0; at + opWords <= spec.ops.size(); at += opWords) {
    const int32_t* words = &spec.ops[at];
    Op op = {static_cast<Opcode>(words[0]), words[1], words[2], words[3], words[5], words[6], {}, {}};
    std::memcpy(op.ints, words + 7, sizeof op.ints);
    std::memcpy(op.floats, words + 13, sizeof op.floats);
    ops.push_back(op);
  }
  return ops;
}

class Builder {
 public:
  Builder(const ModelSpec& spec, DevicePlan& plan) : spec_(spec), plan_(plan), ops_(decodeOps(spec)) {}

  void build() {
    while (at_ < ops_.size()) at_ += take();
  }

 private:
  const Op* next(size_t ahead) const {
    return at_ + ahead < ops_.size() ? &ops_[at_ + ahead] : nullptr;
  }

  bool isNext(size_t ahead, Opcode code) const {
    const Op* op = next(ahead);
    return op && op->code == code;
  }

  /// Turns the op at `at_`, and those that join it, into one; how many there were.
  size_t take() {
    const Op& op = ops_[at_];
    switch (op.code) {
      case Opcode::embed: push({Kind::embed, op.dst}).weight = op.w0; return 1;
      case Opcode::rmsNorm: return takeNorm(op);
      case Opcode::add: return takeAdd(op);
      case Opcode::matmul: return takeMatmuls(op);
      case Opcode::rope: return takeRope(op);
      case Opcode::kvWrite: {
        DeviceOp& write = push({Kind::ropeKv});
        setWrite(write, op);
        return 1;
      }
      case Opcode::attention: {
        DeviceOp& attention = push({Kind::attention, op.dst, op.a});
        attention.layer = op.ints[0];
        attention.heads = op.ints[1];
        attention.number = op.floats[0];
        plan_.headsMax = std::max(plan_.headsMax, op.ints[1]);
        return 1;
      }
      case Opcode::siluMul: push({Kind::siluMul, op.dst, op.a, op.b}); return 1;
      case Opcode::gather: push({Kind::gather, op.dst, op.a}); return 1;
      case Opcode::sample: push({Kind::sample, -1, op.a}); return 1;
    }
    return 1;
  }

  size_t takeNorm(const Op& op) {
    const bool isWhole = op.ints[0] == 1;
    DeviceOp& norm = push({isWhole ? Kind::norm : Kind::groupNorm, op.dst, op.a});
    norm.weight = op.w0;
    norm.groups = op.ints[0];
    norm.number = op.floats[0];
    return 1;
  }

  /// A residual and the norm that reads it.
  size_t takeAdd(const Op& op) {
    const Op* norm = next(1);
    if (!norm || norm->code != Opcode::rmsNorm || norm->a != op.dst || norm->ints[0] != 1) {
      push({Kind::add, op.dst, op.a, op.b});
      return 1;
    }
    DeviceOp& both = push({Kind::norm, norm->dst, op.a, op.b});
    both.sum = op.dst;
    both.weight = norm->w0;
    both.number = norm->floats[0];
    noteWritten(op.dst);
    return 2;
  }

  size_t takeMatmuls(const Op& first) {
    std::vector<const Op*> group = {&first};
    while (group.size() < segmentsMax && isNext(group.size(), Opcode::matmul)) {
      const Op* op = next(group.size());
      const bool isIndependent = op->a == first.a &&
          std::none_of(group.begin(), group.end(), [&](const Op* other) {
            return op->dst == other->dst || other->dst == first.a;
          });
      if (!isIndependent || op->dst == op->a) break;
      group.push_back(op);
    }
    std::vector<int32_t> weights;
    for (const Op* op : group) weights.push_back(op->w0);
    askPrepared(first.a, weights);
    DeviceOp& matmul = push({Kind::matmul, -1, first.a});
    matmul.weights = weights;
    for (const Op* op : group) {
      matmul.biases.push_back(op->w1);
      matmul.outputs.push_back(op->dst);
      noteWritten(op->dst);
    }
    return group.size();
  }

  /// [rope q] [rope k] [kvWrite of that k], as far as they are there and agree.
  size_t takeRope(const Op& first) {
    const Op* second = isNext(1, Opcode::rope) ? next(1) : nullptr;
    const Op* write = isNext(2, Opcode::kvWrite) ? next(2) : nullptr;
    const int32_t table = tableOf(first);
    DeviceOp& op = push({Kind::ropeKv});
    op.table = table;
    op.headDim = first.ints[1];
    op.neox = first.ints[3];
    op.q = first.dst;
    op.heads = first.ints[0];
    noteWritten(first.dst);
    const bool fits = second && write && second->dst != first.dst && write->a == second->dst &&
        first.ints[1] == spec_.kv.headDim && second->ints[1] == first.ints[1] &&
        second->ints[3] == first.ints[3] && tableOf(*second) == table &&
        second->ints[0] == spec_.kv.kvHeads;
    if (!fits) return 1;
    setWrite(plan_.ops.back(), *write);
    noteWritten(second->dst);
    return 3;
  }

  void setWrite(DeviceOp& op, const Op& write) {
    op.k = write.a;
    op.v = write.b;
    op.kHeads = static_cast<int32_t>(spec_.kv.kvHeads);
    op.headDim = static_cast<int32_t>(spec_.kv.headDim);
    op.layer = write.ints[0];
    op.writesKv = true;
  }

  int32_t tableOf(const Op& rope) {
    const RopeFrequencies wanted = {rope.ints[2], rope.floats[0], rope.floats[1], rope.w0};
    for (size_t i = 0; i < plan_.ropes.size(); ++i) {
      const RopeFrequencies& have = plan_.ropes[i];
      if (have.rotated == wanted.rotated && have.base == wanted.base &&
          have.scale == wanted.scale && have.divisors == wanted.divisors) {
        return static_cast<int32_t>(i);
      }
    }
    plan_.ropes.push_back(wanted);
    return static_cast<int32_t>(plan_.ropes.size()) - 1;
  }

  DeviceOp& push(DeviceOp op) {
    const int32_t dst = op.dst;
    plan_.ops.push_back(std::move(op));
    if (dst >= 0) {
      noteWritten(dst);
      writer_ = static_cast<int64_t>(plan_.ops.size()) - 1;
      written_ = dst;
    }
    return plan_.ops.back();
  }

  void noteWritten(int32_t tensor) {
    if (tensor == prepared_) prepared_ = -1;
    if (tensor == written_) written_ = -1;
  }

  static bool canPrepare(Kind kind) {
    return kind == Kind::norm || kind == Kind::siluMul || kind == Kind::attention;
  }

  /// Sees to it that the prepared forms of `tensor` are there for `weights`.
  void askPrepared(int32_t tensor, const std::vector<int32_t>& weights) {
    plan_.preparedCols = std::max<int64_t>(plan_.preparedCols, spec_.tensors[tensor].cols);
    if (prepared_ != tensor) {
      // Only the op just before can make them: nothing has used the buffer since.
      const bool isJustWritten = written_ == tensor &&
          writer_ == static_cast<int64_t>(plan_.ops.size()) - 1 &&
          canPrepare(plan_.ops[writer_].kind);
      if (isJustWritten) {
        maker_ = writer_;
      } else {
        plan_.ops.push_back({Kind::prepare, -1, tensor});
        maker_ = static_cast<int64_t>(plan_.ops.size()) - 1;
      }
      prepared_ = tensor;
    }
    std::vector<int32_t>& known = plan_.ops[maker_].preparedFor;
    known.insert(known.end(), weights.begin(), weights.end());
  }

  const ModelSpec& spec_;
  DevicePlan& plan_;
  const std::vector<Op> ops_;
  size_t at_ = 0;
  int32_t prepared_ = -1, written_ = -1;  // tensors
  int64_t maker_ = -1, writer_ = -1;      // ops
};

Status checkAbilities(const ModelSpec& spec, const Plan& checked) {
  if (spec.kv.type != KvType::f16) {
    return failure("Cannot load model: CUDA kernels need KV in f16, found q8_0");
  }
  if (spec.kv.headDim % 8 != 0 || spec.kv.headDim > 256) {
    return failure("Cannot load model: CUDA kernels need heads of 8, 16, .. 256 dims, found %lld",
                   static_cast<long long>(spec.kv.headDim));
  }
  for (size_t id = 0; id < spec.weights.size(); ++id) {
    const WeightSpec& weight = spec.weights[id];
    const bool isUsed = checked.usedAsMatrix[id] || checked.usedAsVector[id];
    if (!isUsed || isSupported(weight.type, weight.cols)) continue;
    return failure("Cannot load weight %.200s: CUDA kernels need F32, F16, BF16, Q4_0, Q8_0, Q4_K, "
                   "Q5_K or Q6_K, found ggml type %d", weight.name.c_str(), weight.type);
  }
  return {};
}

}  // namespace

Status makeDevicePlan(const ModelSpec& spec, DevicePlan& plan) {
  Plan checked;
  QUETZAL_TRY(makePlan(spec, checked));
  QUETZAL_TRY(checkAbilities(spec, checked));
  Builder(spec, plan).build();
  return {};
}

}  // namespace quetzal::cuda
