// Panels: the weight layout of the vector kernels.
//
// Sixteen rows of a weight lie side by side, so that one register lane belongs to
// one output: activations are broadcast, nothing is summed across lanes, and an
// output adds up over k in plain order. The last panel is filled up with zeros.
//
// F32, F16, BF16 are [panel][k][16]. A quantized weight has up to three areas, all
// by panel, then by block of 32 k; a group is 4 adjacent k, so a block has eight,
// and 64 bytes hold a group of all 16 rows as [row][k]:
//
//   low    8 bits: [8 groups][64]. 4 bits: [4][64], low halves are groups 0..3, high
//          halves groups 4..7. 2 bits: [2][64], bits 2i of half h are group 4h + i.
//   high   what 5, 6 and 3-bit codes have beyond. 1 bit: [64], bit g is group g.
//          2 bits: [2][64] as above.
//   scales of a block, or of a superblock of 256: see `scaleBytes`.
//
// Bytes are nearly the file's (rows rounded up to 16, packed 6-bit scales become bytes).
#pragma once
#include <cstdint>
#include <type_traits>

#include "../include/kernels.h"

namespace quetzal {

constexpr int64_t panelWidth = 16;

/// The name of this layout, for files that hold packed weights.
constexpr const char* panelLayout = "panels16";

/// Goes up by one with every change of a byte that packing writes, here, in packed.cpp,
/// in ref/ or in where addon/weights.cpp places a weight: files of packed weights that
/// carry another version are written anew. Forgotten, such files give wrong tokens.
constexpr uint32_t packedLayoutVersion = 1;

static inline int64_t panelsOf(int64_t rows) { return (rows + panelWidth - 1) / panelWidth; }

struct PackedFormat {
  int lowBits, highBits;
  int64_t unitValues;  // values of k that a unit of scales covers: 32 or 256
  /// Per panel and unit, in this order, each [..][16 rows]: f16 scale; f16 minimum;
  /// scales of the groups of a superblock, a byte each; their minimums.
  int64_t scaleBytes;
};

static constexpr PackedFormat packedFormatOf(WeightType type) {
  switch (type) {
    case WeightType::q8_0: return {8, 0, 32, 32};
    case WeightType::q4_0:
    case WeightType::iq4_nl: return {4, 0, 32, 32};
    case WeightType::mxfp4: return {4, 0, 32, 16};  // one byte, e8m0
    case WeightType::q4_1: return {4, 0, 32, 64};
    case WeightType::q5_0: return {4, 1, 32, 32};
    case WeightType::q5_1: return {4, 1, 32, 64};
    case WeightType::q2_k: return {2, 0, 256, 64 + 512};
    case WeightType::q3_k: return {2, 1, 256, 32 + 256};
    case WeightType::q4_k: return {4, 0, 256, 64 + 256};
    case WeightType::q5_k: return {4, 1, 256, 64 + 256};
    case WeightType::q6_k: return {4, 2, 256, 32 + 256};
    case WeightType::iq4_xs: return {4, 0, 256, 32 + 128};
    default: return {0, 0, 32, 0};
  }
}

/// Where the areas of a quantized weight begin, in bytes from its start.
struct PackedAreas {
  int64_t high, scales, end;
};

static constexpr PackedAreas packedAreasOf(WeightType type, int64_t rows, int64_t cols) {
  const PackedFormat format = packedFormatOf(type);
  const int64_t panels = (rows + panelWidth - 1) / panelWidth;
  const int64_t perBit = panels * panelWidth * cols / 8;
  const int64_t high = perBit * format.lowBits, scales = high + perBit * format.highBits;
  return {high, scales, scales + panels * (cols / format.unitValues) * format.scaleBytes};
}

/// Calls `use` with the type as a compile-time constant.
template <typename Use>
static inline void visitQuantized(WeightType type, Use use) {
#define QUETZAL_VISIT(name) \
  case WeightType::name: use(std::integral_constant<WeightType, WeightType::name>{}); break
  switch (type) {
    QUETZAL_VISIT(q4_0);
    QUETZAL_VISIT(q4_1);
    QUETZAL_VISIT(q5_0);
    QUETZAL_VISIT(q5_1);
    QUETZAL_VISIT(q8_0);
    QUETZAL_VISIT(iq4_nl);
    QUETZAL_VISIT(mxfp4);
    QUETZAL_VISIT(q2_k);
    QUETZAL_VISIT(q3_k);
    QUETZAL_VISIT(q4_k);
    QUETZAL_VISIT(q5_k);
    QUETZAL_VISIT(q6_k);
    QUETZAL_VISIT(iq4_xs);
    default: break;
  }
#undef QUETZAL_VISIT
}

int64_t packedPanelBytes(WeightType type, int64_t rows, int64_t cols);
void packPanels(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
                const uint8_t* src, uint8_t* dst);

}  // namespace quetzal
