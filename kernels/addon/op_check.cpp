#include "op_check.h"

#include <cmath>
#include <cstring>

namespace quetzal {
namespace {

using LL = long long;

bool isRows(const TensorSpec& tensor, RowKind kind) {
  return tensor.rowKind == static_cast<int32_t>(kind);
}

/// Ids that an op has no use for are whatever the caller left there.
void forgetUnused(Item& item) {
  const ItemKind kind = item.kind;
  if (kind == ItemKind::kvWrite || kind == ItemKind::sample) item.dst = -1;
  if (kind == ItemKind::embed || kind == ItemKind::rope) item.a = -1;
  if (kind != ItemKind::add && kind != ItemKind::siluMul && kind != ItemKind::kvWrite &&
      kind != ItemKind::sample) {
    item.b = -1;
  }
}

}  // namespace

Status OpChecker::check(size_t index, Item& item) {
  const char* name = nullptr;
  QUETZAL_TRY(decode(index, item, name));
  forgetUnused(item);
  QUETZAL_TRY(checkKind(item, name, index));
  if (item.dst >= 0) written[item.dst] = true;
  return {};
}

Status OpChecker::decode(size_t index, Item& item, const char*& name) {
  static const struct { const char* name; ItemKind kind; } known[] = {
      {"embed", ItemKind::embed}, {"rmsNorm", ItemKind::rmsNorm}, {"matmul", ItemKind::matmul},
      {"add", ItemKind::add}, {"rope", ItemKind::rope}, {"kvWrite", ItemKind::kvWrite},
      {"attention", ItemKind::attention}, {"siluMul", ItemKind::siluMul},
      {"gather", ItemKind::gather}, {"sample", ItemKind::sample}};
  const int32_t* words = spec.ops.data() + index * opWords;
  if (words[0] < 1 || words[0] > 10) {
    return failure("Cannot load program: op %zu needs an opcode 1..10, found %d", index, words[0]);
  }
  name = known[words[0] - 1].name;
  item.kind = known[words[0] - 1].kind;
  item.dst = words[1];
  item.a = words[2];
  item.b = words[3];
  item.w0 = words[5];
  item.w1 = words[6];
  std::memcpy(item.ints, words + 7, sizeof item.ints);
  std::memcpy(item.floats, words + 13, sizeof item.floats);
  return {};
}

Status OpChecker::checkKind(const Item& item, const char* name, size_t index) {
  switch (item.kind) {
    case ItemKind::embed: return embed(item, name, index);
    case ItemKind::rmsNorm: return rmsNorm(item, name, index);
    case ItemKind::matmul: return matmul(item, name, index);
    case ItemKind::add:
    case ItemKind::siluMul: return elementwise(item, name, index);
    case ItemKind::rope: return rope(item, name, index);
    case ItemKind::kvWrite: return kvWrite(item, name, index);
    case ItemKind::attention: return attention(item, name, index);
    case ItemKind::gather: return gather(item, name, index);
    default: return sample(item, name, index);
  }
}

Status OpChecker::readable(const char* name, size_t index, const char* role, int32_t tensor) {
  if (tensor < 0 || tensor >= static_cast<int32_t>(spec.tensors.size())) {
    return failure("Cannot load program: op %zu (%s) needs a tensor id 0..%zu as %s, found %d",
                   index, name, spec.tensors.size() - 1, role, tensor);
  }
  if (!written[tensor]) {
    return failure("Cannot load program: op %zu (%s) reads tensor %d as %s before any op writes it",
                   index, name, tensor, role);
  }
  return {};
}

Status OpChecker::writable(const char* name, size_t index, int32_t tensor) {
  if (tensor >= 0 && tensor < static_cast<int32_t>(spec.tensors.size())) return {};
  return failure("Cannot load program: op %zu (%s) needs a tensor id 0..%zu as dst, found %d",
                 index, name, spec.tensors.size() - 1, tensor);
}

Status OpChecker::sameShape(const char* name, size_t index, int32_t a, int32_t b) {
  const TensorSpec &x = spec.tensors[a], &y = spec.tensors[b];
  if (x.rowKind == y.rowKind && x.cols == y.cols) return {};
  return failure("Cannot load program: op %zu (%s) needs tensors of one shape, found %d "
                 "[kind %d, %d] and %d [kind %d, %d]", index, name, a, x.rowKind, x.cols, b,
                 y.rowKind, y.cols);
}

Status OpChecker::matrix(const char* name, size_t index, int32_t weight, int64_t rows,
                         int64_t cols) {
  if (weight < 0 || weight >= static_cast<int32_t>(spec.weights.size())) {
    return failure("Cannot load program: op %zu (%s) needs a weight id 0..%lld, found %d", index,
                   name, static_cast<LL>(spec.weights.size()) - 1, weight);
  }
  const WeightSpec& found = spec.weights[weight];
  if ((rows >= 0 && found.rows != rows) || found.cols != cols) {
    return failure("Cannot load program: op %zu (%s) needs weight %.100s as [%lld, %lld], found "
                   "[%lld, %lld]", index, name, found.name.c_str(),
                   static_cast<LL>(rows < 0 ? found.rows : rows), static_cast<LL>(cols),
                   static_cast<LL>(found.rows), static_cast<LL>(found.cols));
  }
  plan.usedAsMatrix[weight] = true;
  return {};
}

Status OpChecker::vector(const char* name, size_t index, int32_t weight, int64_t length) {
  if (weight < 0 || weight >= static_cast<int32_t>(spec.weights.size())) {
    return failure("Cannot load program: op %zu (%s) needs a weight id 0..%lld, found %d", index,
                   name, static_cast<LL>(spec.weights.size()) - 1, weight);
  }
  const WeightSpec& found = spec.weights[weight];
  if (found.rows != 1 || found.cols != length) {
    return failure("Cannot load program: op %zu (%s) needs weight %.100s as a vector of %lld, "
                   "found [%lld, %lld]", index, name, found.name.c_str(),
                   static_cast<LL>(length), static_cast<LL>(found.rows),
                   static_cast<LL>(found.cols));
  }
  plan.usedAsVector[weight] = true;
  return {};
}

Status OpChecker::layer(const char* name, size_t index, int32_t layer) {
  if (layer >= 0 && layer < spec.kv.layers) return {};
  return failure("Cannot load program: op %zu (%s) needs a layer 0..%lld, found %d", index, name,
                 static_cast<LL>(spec.kv.layers - 1), layer);
}

Status OpChecker::embed(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(writable(name, index, item.dst));
  if (!isRows(spec.tensors[item.dst], RowKind::rows)) {
    return failure("Cannot load program: op %zu (%s) needs dst of row kind 0, found 1", index,
                   name);
  }
  QUETZAL_TRY(matrix(name, index, item.w0, -1, spec.tensors[item.dst].cols));
  const auto rows = static_cast<int32_t>(spec.weights[item.w0].rows);
  if (plan.vocabIn == 0 || rows < plan.vocabIn) plan.vocabIn = rows;
  return {};
}

Status OpChecker::rmsNorm(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "a", item.a));
  QUETZAL_TRY(writable(name, index, item.dst));
  QUETZAL_TRY(sameShape(name, index, item.dst, item.a));
  const int32_t cols = spec.tensors[item.a].cols, groups = item.ints[0];
  if (groups < 1 || cols % groups != 0) {
    return failure("Cannot load program: op %zu (%s) needs groups that divide %d, found %d", index,
                   name, cols, groups);
  }
  if (!(item.floats[0] >= 0) || !std::isfinite(item.floats[0])) {
    return failure("Cannot load program: op %zu (%s) needs a finite epsilon >= 0, found %g", index,
                   name, item.floats[0]);
  }
  return vector(name, index, item.w0, cols / groups);
}

Status OpChecker::matmul(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "a", item.a));
  QUETZAL_TRY(writable(name, index, item.dst));
  const TensorSpec &dst = spec.tensors[item.dst], &a = spec.tensors[item.a];
  if (item.dst == item.a || dst.rowKind != a.rowKind) {
    return failure("Cannot load program: op %zu (%s) needs two tensors of one row kind, found %d "
                   "(kind %d) and %d (kind %d)", index, name, item.dst, dst.rowKind, item.a,
                   a.rowKind);
  }
  QUETZAL_TRY(matrix(name, index, item.w0, dst.cols, a.cols));
  return item.w1 == -1 ? Status{} : vector(name, index, item.w1, dst.cols);
}

Status OpChecker::elementwise(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "a", item.a));
  QUETZAL_TRY(readable(name, index, "b", item.b));
  QUETZAL_TRY(writable(name, index, item.dst));
  QUETZAL_TRY(sameShape(name, index, item.dst, item.a));
  return sameShape(name, index, item.dst, item.b);
}

Status OpChecker::rope(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "dst", item.dst));
  const TensorSpec& x = spec.tensors[item.dst];
  const int64_t heads = item.ints[0], headDim = item.ints[1], rotated = item.ints[2];
  if (!isRows(x, RowKind::rows) || heads < 1 || headDim < 1 || heads * headDim != x.cols ||
      rotated < 2 || rotated > headDim || rotated % 2 != 0) {
    return failure("Cannot load program: op %zu (%s) needs heads x headDim = %d columns of row "
                   "kind 0 and an even number of rotated dims up to headDim, found %lld x %lld, "
                   "%lld, kind %d", index, name, x.cols, static_cast<LL>(heads),
                   static_cast<LL>(headDim), static_cast<LL>(rotated), x.rowKind);
  }
  if (item.ints[3] != 0 && item.ints[3] != 1) {
    return failure("Cannot load program: op %zu (%s) needs pairing 0 or 1, found %d", index, name,
                   item.ints[3]);
  }
  if (!(item.floats[0] > 0) || !std::isfinite(item.floats[0]) || !std::isfinite(item.floats[1])) {
    return failure("Cannot load program: op %zu (%s) needs a finite base > 0 and a finite scale, "
                   "found %g and %g", index, name, item.floats[0], item.floats[1]);
  }
  return item.w0 == -1 ? Status{} : vector(name, index, item.w0, rotated / 2);
}

Status OpChecker::kvWrite(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(layer(name, index, item.ints[0]));
  for (const int32_t tensor : {item.a, item.b}) {
    QUETZAL_TRY(readable(name, index, tensor == item.a ? "k" : "v", tensor));
    const TensorSpec& x = spec.tensors[tensor];
    if (isRows(x, RowKind::rows) && x.cols == spec.kv.kvHeads * spec.kv.headDim) continue;
    return failure("Cannot load program: op %zu (%s) needs k and v of row kind 0 with %lld "
                   "columns, found kind %d with %d", index, name,
                   static_cast<LL>(spec.kv.kvHeads * spec.kv.headDim), x.rowKind, x.cols);
  }
  return {};
}

Status OpChecker::attention(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(layer(name, index, item.ints[0]));
  QUETZAL_TRY(readable(name, index, "q", item.a));
  QUETZAL_TRY(writable(name, index, item.dst));
  QUETZAL_TRY(sameShape(name, index, item.dst, item.a));
  const TensorSpec& q = spec.tensors[item.a];
  const int64_t heads = item.ints[1];
  if (item.dst == item.a || !isRows(q, RowKind::rows) || heads < 1 ||
      heads % spec.kv.kvHeads != 0 || heads * spec.kv.headDim != q.cols) {
    return failure("Cannot load program: op %zu (%s) needs another dst, row kind 0 and heads in "
                   "multiples of %lld with heads x %lld = %d columns, found %lld heads", index,
                   name, static_cast<LL>(spec.kv.kvHeads), static_cast<LL>(spec.kv.headDim),
                   q.cols, static_cast<LL>(heads));
  }
  if (!std::isfinite(item.floats[0])) {
    return failure("Cannot load program: op %zu (%s) needs a finite scale, found %g", index, name,
                   item.floats[0]);
  }
  plan.headsPerKvHead = std::max<int64_t>(plan.headsPerKvHead, heads / spec.kv.kvHeads);
  return {};
}

Status OpChecker::gather(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "a", item.a));
  QUETZAL_TRY(writable(name, index, item.dst));
  const TensorSpec &dst = spec.tensors[item.dst], &a = spec.tensors[item.a];
  if (isRows(dst, RowKind::outRows) && isRows(a, RowKind::rows) && dst.cols == a.cols) return {};
  return failure("Cannot load program: op %zu (%s) needs dst of row kind 1 and a of row kind 0 "
                 "with equal columns, found [kind %d, %d] and [kind %d, %d]", index, name,
                 dst.rowKind, dst.cols, a.rowKind, a.cols);
}

Status OpChecker::sample(const Item& item, const char* name, size_t index) {
  QUETZAL_TRY(readable(name, index, "logits", item.a));
  if (plan.logits >= 0 || !isRows(spec.tensors[item.a], RowKind::outRows)) {
    return failure("Cannot load program: op %zu (%s) needs logits of row kind 1 and to be the only "
                   "one, found kind %d%s", index, name, spec.tensors[item.a].rowKind,
                   plan.logits >= 0 ? " after another sample op" : "");
  }
  plan.logits = item.a;
  plan.vocabOut = spec.tensors[item.a].cols;
  if (item.b == -1) return {};
  QUETZAL_TRY(readable(name, index, "hidden", item.b));
  if (!isRows(spec.tensors[item.b], RowKind::outRows)) {
    return failure("Cannot load program: op %zu (%s) needs hidden states of row kind 1, found 0",
                   index, name);
  }
  plan.hidden = item.b;
  return {};
}

}  // namespace quetzal
