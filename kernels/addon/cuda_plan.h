// A checked program as the kernels that a GPU launches for it.
//
// A launch costs microseconds, so ops that follow one another are taken together: a
// residual with the norm behind it, products of one input, the rotations with the write of
// k and v. Products read int8 or half forms of their input; the kernel that writes the
// input makes them, told by `preparedFor` which products will come.
#pragma once
#include <vector>

#include "plan.h"

namespace quetzal::cuda {

struct DeviceOp {
  enum class Kind {
    embed, norm, groupNorm, matmul, add, ropeKv, attention, siluMul, gather, prepare, sample,
  };
  Kind kind;
  int32_t dst = -1, a = -1, b = -1;
  int32_t sum = -1;                  // norm: where a + b goes; -1: no residual
  int32_t weight = -1;               // norm, embed
  int32_t groups = 1;
  float number = 0;                  // epsilon, or the scale of attention
  std::vector<int32_t> weights = {}, biases = {}, outputs = {};  // matmul, entry by entry
  std::vector<int32_t> preparedFor = {};  // weights that will read the prepared form of dst
  // ropeKv: q and k are turned where they are >= 0; k and v written when `writesKv`
  int32_t q = -1, k = -1, v = -1, heads = 0, kHeads = 0, headDim = 0, table = -1, neox = 0;
  int32_t layer = 0;
  bool writesKv = false;
};

struct RopeFrequencies {
  int32_t rotated;
  float base, scale;
  int32_t divisors;  // weight id, or -1
};

struct DevicePlan {
  std::vector<DeviceOp> ops;
  std::vector<RopeFrequencies> ropes;
  int64_t preparedCols = 0;  // widest prepared input
  int32_t headsMax = 0;      // of attention ops
};

/// `spec` has passed makePlan; refuses what only the CPU can do.
Status makeDevicePlan(const ModelSpec& spec, DevicePlan& plan);

}  // namespace quetzal::cuda
