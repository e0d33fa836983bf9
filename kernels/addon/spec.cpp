#include "spec.h"

namespace quetzal {
namespace {

Status checkRange(const char* what, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return failure("Cannot load model: %s must be %lld..%lld, is %lld", what,
                 static_cast<long long>(least), static_cast<long long>(most),
                 static_cast<long long>(value));
}

Status checkWeight(const WeightSpec& weight) {
  const char* name = weight.name.c_str();
  if (!isKnown(weight.type)) {
    std::string known;
    for (const WeightFormat& format : weightFormats) {
      known += (known.empty() ? "" : ", ") + std::to_string(static_cast<int>(format.type)) + " (" +
          format.name + ")";
    }
    return failure("Cannot load weight %.200s: type must be one of %s, is %d", name, known.c_str(),
                   weight.type);
  }
  const auto type = static_cast<WeightType>(weight.type);
  const int64_t most = 1 << 30;
  if (weight.cols < 1 || weight.cols > (1 << 24) || weight.rows < 1 || weight.rows > most) {
    return failure("Cannot load weight %.200s: needs cols 1..16777216 and rows 1..%lld, found "
                   "%lld x %lld", name, static_cast<long long>(most),
                   static_cast<long long>(weight.cols), static_cast<long long>(weight.rows));
  }
  if (weight.cols % formatOf(type).blockValues != 0) {
    return failure("Cannot load weight %.200s: %s needs cols in multiples of %lld, found %lld",
                   name, nameOf(type), static_cast<long long>(formatOf(type).blockValues),
                   static_cast<long long>(weight.cols));
  }
  const int64_t needed = weight.rows * rowBytes(type, weight.cols);
  if (weight.bytes != needed) {
    return failure("Cannot load weight %.200s: %s [%lld, %lld] needs %lld bytes, found %lld", name,
                   nameOf(type), static_cast<long long>(weight.rows),
                   static_cast<long long>(weight.cols), static_cast<long long>(needed),
                   static_cast<long long>(weight.bytes));
  }
  if (weight.offset < 0 || weight.offset > (int64_t{1} << 52)) {
    return failure("Cannot load weight %.200s: offset must be 0..2^52, is %lld", name,
                   static_cast<long long>(weight.offset));
  }
  return {};
}

Status checkKv(const KvShape& kv) {
  QUETZAL_TRY(checkRange("kv.layers", kv.layers, 1, 4096));
  QUETZAL_TRY(checkRange("kv.kvHeads", kv.kvHeads, 1, 4096));
  QUETZAL_TRY(checkRange("kv.headDim", kv.headDim, 1, 1024));
  QUETZAL_TRY(checkRange("kv.blockTokens", kv.blockTokens, 1, 1024));
  QUETZAL_TRY(checkRange("kv.blocks", kv.blocks, 1, 1 << 30));
  if (kv.type == KvType::q8_0 && (kv.headDim % 32 != 0 || kv.blockTokens % 16 != 0)) {
    return failure("Cannot load model: KV in q8_0 needs heads in multiples of 32 dims and blocks in "
                   "multiples of 16 tokens, found %lld dims and %lld tokens",
                   static_cast<long long>(kv.headDim), static_cast<long long>(kv.blockTokens));
  }
  // At most 2^46 bytes per block, so this cannot overflow.
  const int64_t bytesMax = int64_t{1} << 46;
  if (kv.blockBytes() > bytesMax / kv.blocks) {
    return failure("Cannot load model: the KV pool needs %lld blocks of %lld bytes, at most 2^46 "
                   "bytes are possible", static_cast<long long>(kv.blocks),
                   static_cast<long long>(kv.blockBytes()));
  }
  return {};
}

}  // namespace

Status checkShapes(const ModelSpec& spec) {
  QUETZAL_TRY(checkRange("threads", spec.threads, 1, 256));
  QUETZAL_TRY(checkRange("rowsMax", spec.rowsMax, 1, 1 << 16));
  QUETZAL_TRY(checkRange("outRowsMax", spec.outRowsMax, 1, spec.rowsMax));
  QUETZAL_TRY(checkRange("the number of tensors", static_cast<int64_t>(spec.tensors.size()), 1,
                         1 << 14));
  QUETZAL_TRY(checkKv(spec.kv));
  for (const WeightSpec& weight : spec.weights) QUETZAL_TRY(checkWeight(weight));
  for (size_t i = 0; i < spec.tensors.size(); ++i) {
    const TensorSpec& tensor = spec.tensors[i];
    if ((tensor.rowKind != 0 && tensor.rowKind != 1) || tensor.cols < 1 ||
        tensor.cols > (1 << 24)) {
      return failure("Cannot load program: tensor %zu needs row kind 0 or 1 and cols 1..2^24, "
                     "found %d and %d", i, tensor.rowKind, tensor.cols);
    }
  }
  return {};
}

}  // namespace quetzal
