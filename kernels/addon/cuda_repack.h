// From the layout of a GGUF file to the one that CUDA kernels read.
//
// Values and their order stay; only what stands in the way of 16-byte loads moves: the
// scales of Q4_0 and Q8_0 and the last scale of Q6_K go to a plane of their own.
#pragma once
#include <cstdint>

namespace quetzal::cuda {

/// Whether CUDA kernels exist for a ggml type, with these columns.
bool isSupported(int32_t type, int64_t cols);
/// Values per block, and its bytes in the file.
struct BlockShape {
  int64_t values, fileBytes, quantBytes, scaleBytes;
};
BlockShape blockOf(int32_t type);

struct DeviceBytes {
  uint64_t quants, scales;
};
DeviceBytes deviceBytes(int32_t type, int64_t rows, int64_t cols);

/// Repacks `rows` rows of the file; both outputs begin with the first of them.
void repackRows(int32_t type, int64_t rows, int64_t cols, const uint8_t* src, uint8_t* quants,
                uint8_t* scales);

}  // namespace quetzal::cuda
