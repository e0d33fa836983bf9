// Choosing a token, given the passes over a vocabulary that an instruction set speeds up.
#pragma once
#include "../include/kernels.h"

namespace quetzal {

struct SamplePasses {
  /// The largest value, and whether all are finite.
  float (*maxFinite)(const float* x, int64_t count, bool* finite);
  /// out[i] = e^((x[i] - max) / temperature) when out is given; returns the sum.
  double (*expSum)(const float* x, int64_t count, float max, float temperature, float* out);
  /// The first index from `begin` on with x >= least, or count.
  int64_t (*firstAtLeast)(const float* x, int64_t begin, int64_t count, float least);
};

SampleStatus sampleWith(const SampleArgs* args, const SamplePasses& passes);

}  // namespace quetzal
