#include "packed.h"

#include <cstring>

#include "../include/half.h"

namespace quetzal {
namespace {

template <typename T>
void packPlain(int64_t cols, int64_t count, const uint8_t* src, uint8_t* dst) {
  T* out = reinterpret_cast<T*>(dst);
  for (int64_t row = 0; row < panelWidth; ++row) {
    for (int64_t k = 0; k < cols; ++k) {
      T value = 0;
      if (row < count) std::memcpy(&value, src + (row * cols + k) * sizeof(T), sizeof(T));
      out[k * panelWidth + row] = value;
    }
  }
}

void packQ8(int64_t blocks, int64_t count, const uint8_t* src, uint8_t* quants, uint16_t* scales) {
  std::memset(quants, 0, blocks * 512);
  std::memset(scales, 0, blocks * 32);
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const uint8_t* in = src + (row * blocks + block) * q8BlockBytes;
      std::memcpy(&scales[block * panelWidth + row], in, 2);
      for (int64_t group = 0; group < 8; ++group) {
        std::memcpy(quants + block * 512 + group * 64 + row * 4, in + 2 + group * 4, 4);
      }
    }
  }
}

void packQ4(int64_t blocks, int64_t count, const uint8_t* src, uint8_t* quants, uint16_t* scales) {
  std::memset(quants, 0, blocks * 256);
  std::memset(scales, 0, blocks * 32);
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const uint8_t* in = src + (row * blocks + block) * q4BlockBytes;
      std::memcpy(&scales[block * panelWidth + row], in, 2);
      // GGUF pairs value j with j + 16, which are groups g and g + 4 already.
      for (int64_t group = 0; group < 4; ++group) {
        std::memcpy(quants + block * 256 + group * 64 + row * 4, in + 2 + group * 4, 4);
      }
    }
  }
}

void embedQuantized(const Matrix& table, int64_t id, float* dst) {
  const int64_t blocks = table.cols / quantBlock;
  const int64_t panel = id / panelWidth, lane = id % panelWidth;
  const bool is8 = table.type == WeightType::q8_0;
  const uint8_t* quants = table.data + panel * blocks * (is8 ? 512 : 256);
  const uint8_t* scales =
      table.data + quantBytes(table.type, table.rows, table.cols) + panel * blocks * 32;
  for (int64_t k = 0; k < table.cols; ++k) {
    const int64_t block = k / quantBlock, group = k % quantBlock / 4, byte = k % 4;
    uint16_t half;
    std::memcpy(&half, scales + (block * panelWidth + lane) * 2, 2);
    const uint8_t* in = quants + block * (is8 ? 512 : 256) + (is8 ? group : group % 4) * 64;
    const uint8_t raw = in[lane * 4 + byte];
    const int value = is8 ? static_cast<int8_t>(raw) : ((group < 4 ? raw : raw >> 4) & 15) - 8;
    dst[k] = static_cast<float>(value) * f16ToF32(half);
  }
}

void embedPlain(const Matrix& table, int64_t id, float* dst) {
  const int64_t first = id / panelWidth * panelWidth * table.cols + id % panelWidth;
  for (int64_t k = 0; k < table.cols; ++k) {
    const int64_t at = first + k * panelWidth;
    if (table.type == WeightType::f32) {
      dst[k] = reinterpret_cast<const float*>(table.data)[at];
    } else {
      const uint16_t raw = reinterpret_cast<const uint16_t*>(table.data)[at];
      dst[k] = table.type == WeightType::f16 ? f16ToF32(raw) : bf16ToF32(raw);
    }
  }
}

}  // namespace

int64_t packedPanelBytes(WeightType type, int64_t rows, int64_t cols) {
  return panelsOf(rows) * panelWidth * rowBytes(type, cols);
}

void packPanels(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
                const uint8_t* src, uint8_t* dst) {
  const int64_t bytes = rowBytes(type, cols), blocks = cols / quantBlock;
  auto* scales = reinterpret_cast<uint16_t*>(dst + quantBytes(type, rows, cols));
  for (int64_t done = 0; done < count; done += panelWidth) {
    const int64_t panel = (rowBegin + done) / panelWidth;
    const int64_t some = count - done < panelWidth ? count - done : panelWidth;
    const uint8_t* in = src + done * bytes;
    switch (type) {
      case WeightType::f32:
        packPlain<uint32_t>(cols, some, in, dst + panel * panelWidth * bytes);
        break;
      case WeightType::f16:
      case WeightType::bf16:
        packPlain<uint16_t>(cols, some, in, dst + panel * panelWidth * bytes);
        break;
      case WeightType::q8_0:
        packQ8(blocks, some, in, dst + panel * blocks * 512, scales + panel * blocks * 16);
        break;
      case WeightType::q4_0:
        packQ4(blocks, some, in, dst + panel * blocks * 256, scales + panel * blocks * 16);
        break;
    }
  }
}

void embedPanels(const Matrix* table, const int32_t* ids, int64_t count, float* dst) {
  for (int64_t row = 0; row < count; ++row) {
    float* out = dst + row * table->cols;
    if (isQuantized(table->type)) {
      embedQuantized(*table, ids[row], out);
    } else {
      embedPlain(*table, ids[row], out);
    }
  }
}

}  // namespace quetzal
