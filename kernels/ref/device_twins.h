// Plain twins of what only the CUDA kernels do: weights of every type that they read, in
// the layout of the file, and products in double.
#pragma once
#include <cstdint>

namespace quetzal::ref {

/// Value `col` of a row as GGUF stores it; `type` is the ggml id.
float storedValue(int32_t type, const uint8_t* row, int64_t col);
/// Bytes of a row in the file; 0 for a type that is not known here.
int64_t storedRowBytes(int32_t type, int64_t cols);

struct ProductTwin {
  double value;
  double norm;  // of weights times norm of activations: what an error is measured by
};
/// Row `n` of the weight times `x`.
ProductTwin storedProduct(int32_t type, const uint8_t* weight, int64_t cols, int64_t n,
                          const double* x);

/// How many leading drafts equal what was chosen at their places.
int32_t acceptedDrafts(const int32_t* tokens, const int32_t* drafts, int32_t count);

}  // namespace quetzal::ref
