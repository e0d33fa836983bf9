#include <cmath>

#include "twins.h"

namespace quetzal::ref {

void rmsNorm(const float* a, const float* weight, float* dst, int64_t rows, int64_t cols,
             int64_t groups, float epsilon) {
  const int64_t width = cols / groups;
  for (int64_t group = 0; group < rows * groups; ++group) {
    const float* in = a + group * width;
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += double{in[i]} * in[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (int64_t i = 0; i < width; ++i) {
      dst[group * width + i] = static_cast<float>(in[i] * inverse * weight[i]);
    }
  }
}

}  // namespace quetzal::ref
