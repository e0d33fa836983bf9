// Choosing a token, given the two passes that an instruction set speeds up.
#pragma once
#include "../include/kernels.h"

namespace quetzal {

using MaxFinite = float (*)(const float* x, int64_t count, bool* finite);
using ExpSum = double (*)(const float* x, int64_t count, float max, float temperature, float* out);

SampleStatus sampleWith(const SampleArgs* args, MaxFinite maxFinite, ExpSum expSum);

}  // namespace quetzal
