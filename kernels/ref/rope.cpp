#include "twins.h"

namespace quetzal::ref {

void rope(const RopeArgs* args) {
  const int64_t half = args->rotated / 2;
  for (int64_t row = 0; row < args->rows; ++row) {
    for (int64_t head = 0; head < args->heads; ++head) {
      float* x = args->x + (row * args->heads + head) * args->headDim;
      for (int64_t i = 0; i < half; ++i) {
        float& first = args->neox ? x[i] : x[2 * i];
        float& second = args->neox ? x[i + half] : x[2 * i + 1];
        const float c = args->cosines[row * half + i], s = args->sines[row * half + i];
        const float turned = first * c - second * s;
        second = first * s + second * c;
        first = turned;
      }
    }
  }
}

}  // namespace quetzal::ref
