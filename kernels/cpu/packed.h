// Panels: the weight layout of the vector kernels.
//
// Sixteen rows of a weight lie side by side, so that one register lane belongs to
// one output: activations are broadcast, nothing is summed across lanes, and an
// output adds up over k in plain order. The last panel is filled up with zeros.
//
//   F32, F16, BF16  [panel][k][16]
//   Q8_0            quants [panel][block][8 groups][16 rows][4 k], then f16
//                   scales [panel][block][16]
//   Q4_0            quants [panel][block][4][16 rows][4]: low nibbles are k group
//                   g, high nibbles group g + 4, then the scales as above
//
// Bytes equal the file's (rows rounded up to 16).
#pragma once
#include <cstdint>

#include "../include/kernels.h"

namespace quetzal {

constexpr int64_t panelWidth = 16;

int64_t packedPanelBytes(WeightType type, int64_t rows, int64_t cols);
void packPanels(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
                const uint8_t* src, uint8_t* dst);
void embedPanels(const Matrix* table, const int32_t* ids, int64_t count, float* dst);

static inline int64_t panelsOf(int64_t rows) { return (rows + panelWidth - 1) / panelWidth; }

/// Bytes of the quants of a whole quantized weight; its scales follow.
static inline int64_t quantBytes(WeightType type, int64_t rows, int64_t cols) {
  const int64_t values = panelsOf(rows) * panelWidth * cols;
  return type == WeightType::q8_0 ? values : values / 2;
}

}  // namespace quetzal
