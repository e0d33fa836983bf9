// The plain twins of the vector kernels: one readable file each, no intrinsics.
#pragma once
#include "../include/kernels.h"

namespace quetzal::ref {

int64_t packedBytes(WeightType type, int64_t rows, int64_t cols);
void pack(WeightType type, int64_t rows, int64_t cols, int64_t rowBegin, int64_t count,
          const uint8_t* src, uint8_t* dst);
/// One value of a row of F32, F16 or BF16; the reference keeps the layout of the file.
float plainAt(WeightType type, const uint8_t* row, int64_t col);

void embed(const Matrix* table, const int32_t* ids, int64_t count, float* dst);
void rmsNorm(const float* a, const float* weight, float* dst, int64_t rows, int64_t cols,
             int64_t groups, float epsilon);
void quantizeRows(const QuantizeArgs* args, int64_t rowBegin, int64_t rowEnd);
int64_t matmulScratchBytes(int64_t rows, int64_t cols);
void matmul(const MatmulArgs* args, int64_t panelBegin, int64_t panelEnd);
void add(const float* a, const float* b, float* dst, int64_t count);
void siluMul(const float* a, const float* b, float* dst, int64_t count);
void rope(const RopeArgs* args);
void kvWrite(const KvWriteArgs* args, int64_t rowBegin, int64_t rowEnd);
void attention(const AttentionArgs* args);
SampleStatus sample(const SampleArgs* args);

}  // namespace quetzal::ref
