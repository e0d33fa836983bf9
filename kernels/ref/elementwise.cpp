#include <cmath>

#include "twins.h"

namespace quetzal::ref {

void add(const float* a, const float* b, float* dst, int64_t count) {
  for (int64_t i = 0; i < count; ++i) dst[i] = a[i] + b[i];
}

void siluMul(const float* a, const float* b, float* dst, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    dst[i] = static_cast<float>(a[i] / (1 + std::exp(-double{a[i]})) * b[i]);
  }
}

}  // namespace quetzal::ref
