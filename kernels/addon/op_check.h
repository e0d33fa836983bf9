// Decodes ops and checks each against tensors, weights and the KV shape.
#pragma once
#include "plan.h"

namespace quetzal {

struct OpChecker {
  const ModelSpec& spec;
  Plan& plan;
  std::vector<bool> written;  // per tensor, so far

  /// Turns op `index` into an item.
  Status check(size_t index, Item& item);

 private:
  Status decode(size_t index, Item& item, const char*& name);
  Status checkKind(const Item& item, const char* name, size_t index);
  Status readable(const char* name, size_t index, const char* role, int32_t tensor);
  Status writable(const char* name, size_t index, int32_t tensor);
  Status sameShape(const char* name, size_t index, int32_t a, int32_t b);
  Status matrix(const char* name, size_t index, int32_t weight, int64_t rows, int64_t cols);
  Status vector(const char* name, size_t index, int32_t weight, int64_t length);
  Status layer(const char* name, size_t index, int32_t layer);

  Status embed(const Item& item, const char* name, size_t index);
  Status rmsNorm(const Item& item, const char* name, size_t index);
  Status matmul(const Item& item, const char* name, size_t index);
  Status elementwise(const Item& item, const char* name, size_t index);
  Status rope(const Item& item, const char* name, size_t index);
  Status kvWrite(const Item& item, const char* name, size_t index);
  Status attention(const Item& item, const char* name, size_t index);
  Status gather(const Item& item, const char* name, size_t index);
  Status sample(const Item& item, const char* name, size_t index);
};

}  // namespace quetzal
