// One step as launches: each op of the device plan with its arguments.
#include <algorithm>

#include "cuda_model.h"

namespace quetzal::cuda {

template <typename Args>
Status CudaModel::launch(const KernelLaunch& shape, const Args& args) {
  LaunchAttribute attribute = {};
  attribute.id = launchAttributeProgrammatic;
  attribute.value.isProgrammatic = 1;
  // A kernel may start while the one before ends; the first has none before.
  const bool overlaps = canOverlap_ && !isFirstLaunch_;
  isFirstLaunch_ = false;
  const LaunchConfig config = {shape.gridX, shape.gridY, shape.gridZ, shape.threads, 1, 1,
                               shape.sharedBytes, stream_.handle(), overlaps ? &attribute : nullptr,
                               overlaps ? 1u : 0u};
  void* parameters[] = {const_cast<Args*>(&args)};
  const auto index = static_cast<size_t>(shape.kernel);
  const Result result = api_->launch(&config, functions_[index], parameters, nullptr);
  if (result == resultOk) return {};
  return failure("Cannot launch %s: CUDA says %s", kernelNames[index],
                 describe(*api_, result).c_str());
}

Status CudaModel::launchAll(const Bucket& bucket) {
  isFirstLaunch_ = true;
  for (size_t i = 0; i < device_.ropes.size(); ++i) {
    const int32_t half = device_.ropes[i].rotated / 2;
    const uint64_t cosines = ropeAt_[i] + (half * 8 + 255) / 256 * 256;
    const uint64_t bytes = (static_cast<uint64_t>(spec_.rowsMax) * half * 4 + 255) / 256 * 256;
    const RopeTableArgs args = {ropes_.as<double>(ropeAt_[i]), input<int32_t>(at_.positions),
                                ropes_.as<float>(cosines), ropes_.as<float>(cosines + bytes),
                                bucket.rows, half};
    QUETZAL_TRY(launch(perRow(KernelId::ropeTable, bucket.rows), args));
  }
  for (const DeviceOp& op : device_.ops) QUETZAL_TRY(launchOp(op, bucket));
  return {};
}

/// The forms that the products behind `op` read, for this many rows.
Prepared CudaModel::preparedOf(const DeviceOp& op, int32_t rows) const {
  Prepared x = {prepared_.as<int8_t>(), prepared_.as<float>(preparedScales_),
                prepared_.as<int32_t>(preparedSums_), prepared_.as<uint16_t>(preparedHalves_),
                prepared_.as<float>(preparedRowScales_), 0};
  for (const int32_t weight : op.preparedFor) x.mode |= preparationOf(weights_->matrix(weight), rows);
  return x;
}

DeviceKv CudaModel::kvOf() const {
  const KvShape& kv = spec_.kv;
  return {kv_->memory.as<uint16_t>(), kv.blockBytes() / 2,
          2 * kv.kvHeads * kv.blockTokens * kv.headDim, static_cast<int32_t>(kv.kvHeads),
          static_cast<int32_t>(kv.headDim), static_cast<int32_t>(kv.blockTokens)};
}

Status CudaModel::launchOp(const DeviceOp& op, const Bucket& bucket) {
  using Kind = DeviceOp::Kind;
  const int32_t shaped = op.dst >= 0 ? op.dst : op.a;
  const int32_t rows = op.kind == Kind::matmul ? rowsOf(op.a, bucket)
      : shaped >= 0                            ? rowsOf(shaped, bucket)
                                               : bucket.rows;
  if (rows == 0) return {};
  switch (op.kind) {
    case Kind::embed: {
      const EmbedArgs args = {weights_->matrix(op.weight), input<int32_t>(at_.tokenIds),
                              results_.as<int32_t>(), tensor(op.dst), rows};
      return launch(perRow(KernelId::embedRows, rows), args);
    }
    case Kind::norm: {
      const NormArgs args = {tensor(op.a), op.sum < 0 ? nullptr : tensor(op.b),
                             op.sum < 0 ? nullptr : tensor(op.sum), weights_->vector(op.weight),
                             tensor(op.dst), preparedOf(op, rows), rows, colsOf(op.a), op.number};
      return launch(cuda::launchOf(args), args);
    }
    case Kind::groupNorm: {
      const GroupNormArgs args = {tensor(op.a), weights_->vector(op.weight), tensor(op.dst), rows,
                                  colsOf(op.a), op.groups, op.number};
      return launch(cuda::launchOf(args), args);
    }
    case Kind::matmul: return launchMatmuls(op, rows);
    case Kind::add: {
      const ElementwiseArgs args = {tensor(op.a), tensor(op.b), tensor(op.dst), {}, rows,
                                    colsOf(op.dst)};
      return launch(perRow(KernelId::addRows, rows), args);
    }
    case Kind::siluMul: {
      const ElementwiseArgs args = {tensor(op.a), tensor(op.b), tensor(op.dst),
                                    preparedOf(op, rows), rows, colsOf(op.dst)};
      return launch(cuda::launchOf(args), args);
    }
    case Kind::prepare: {
      const ElementwiseArgs args = {tensor(op.a), nullptr, nullptr, preparedOf(op, rows), rows,
                                    colsOf(op.a)};
      return args.x.mode == 0 ? Status{} : launch(cuda::launchOf(args), args);
    }
    case Kind::gather: {
      const GatherArgs args = {tensor(op.a), input<int32_t>(at_.outRowIndex), tensor(op.dst), rows,
                               colsOf(op.dst)};
      return launch(perRow(KernelId::gatherRows, rows), args);
    }
    case Kind::ropeKv: return launchRopeKv(op, bucket);
    case Kind::attention: return launchAttention(op, bucket);
    case Kind::sample: return launchSample(op, bucket);
  }
  return {};
}

/// Weights that read the same form of the input share a launch.
Status CudaModel::launchMatmuls(const DeviceOp& op, int32_t rows) {
  for (const int32_t wanted : {0, preparesQuants, preparesHalves}) {
    MatmulArgs args = {};
    args.a = tensor(op.a);
    args.x = preparedOf({}, rows);
    args.x.mode = wanted;
    args.rows = rows;
    args.cols = colsOf(op.a);
    for (size_t i = 0; i < op.weights.size(); ++i) {
      const DeviceMatrix weight = weights_->matrix(op.weights[i]);
      if (preparationOf(weight, rows) != wanted) continue;
      args.segment[args.segments++] = {weight, weights_->vector(op.biases[i]),
                                       tensor(op.outputs[i]), 0};
    }
    if (args.segments == 0) continue;
    const KernelLaunch shape = launchOf(args);
    QUETZAL_TRY(launch(shape, args));
  }
  return {};
}

Status CudaModel::launchRopeKv(const DeviceOp& op, const Bucket& bucket) {
  RopeKvArgs args = {};
  args.q = op.q < 0 ? nullptr : tensor(op.q);
  args.k = op.k < 0 ? nullptr : tensor(op.k);
  args.v = op.v < 0 ? nullptr : tensor(op.v);
  if (op.table >= 0) {
    const int32_t half = device_.ropes[op.table].rotated / 2;
    const uint64_t cosines = ropeAt_[op.table] + (half * 8 + 255) / 256 * 256;
    const uint64_t bytes = (static_cast<uint64_t>(spec_.rowsMax) * half * 4 + 255) / 256 * 256;
    args.cosines = ropes_.as<float>(cosines);
    args.sines = ropes_.as<float>(cosines + bytes);
    args.rotated = 2 * half;
  }
  args.block = input<int32_t>(at_.block);
  args.slot = input<int32_t>(at_.slot);
  args.kv = kvOf();
  args.kv.headDim = op.headDim;
  args.rows = bucket.rows;
  args.heads = op.heads;
  args.kHeads = op.kHeads;
  args.headDim = op.headDim;
  args.neox = op.neox;
  args.layer = op.layer;
  args.writesKv = op.writesKv;
  return launch(launchOf(args), args);
}

Status CudaModel::launchAttention(const DeviceOp& op, const Bucket& bucket) {
  constexpr int32_t rowsMax = 256;  // attentionRowsMax: what the memory of splits holds
  const Prepared all = preparedOf(op, bucket.rows);
  const int32_t cols = colsOf(op.dst);
  for (int32_t begin = 0; begin < bucket.rows; begin += rowsMax) {
    AttentionArgs args = {};
    const int64_t at = static_cast<int64_t>(begin) * cols;
    args.kv = kvOf();
    args.q = tensor(op.a) + at;
    args.dst = tensor(op.dst) + at;
    args.lengths = input<int32_t>(at_.lengths) + begin;
    args.tableBegin = input<int32_t>(at_.tableBegin) + begin;
    args.tables = input<int32_t>(at_.tables);
    args.partial = attention_.as<float>();
    args.partialState = attention_.as<float>(partialState_);
    args.x = {all.quants + at, all.scales + at / 32, all.sums + at / 16, all.halves + at,
              all.rowScales + begin, all.mode};
    args.rows = std::min(rowsMax, bucket.rows - begin);
    args.heads = op.heads;
    args.layer = op.layer;
    args.splits = bucket.splits;
    args.scale = op.number;
    QUETZAL_TRY(launch(launchOf(args), args));
    QUETZAL_TRY(launch(launchOfFinish(args), args));
  }
  return {};
}

Status CudaModel::launchSample(const DeviceOp& op, const Bucket& bucket) {
  if (bucket.outRows == 0) return {};
  SampleArgs args = {};
  args.logits = tensor(op.a);
  args.ints = input<int32_t>(at_.ints);
  args.floats = input<float>(at_.floats);
  args.tables = input<int32_t>(at_.tables);
  args.parts = sampling_.as<SamplePart>();
  args.adjusted = sampling_.as<float>(adjustedLogits_);
  args.tokens = results_.as<int32_t>();
  args.logprobs = results_.as<float>(resultAt_.logprobs);
  args.topIds = results_.as<int32_t>(resultAt_.topIds);
  args.topLogprobs = results_.as<float>(resultAt_.topLogprobs);
  args.statuses = results_.as<int32_t>(resultAt_.statuses);
  args.rows = bucket.outRows;
  args.vocab = plan_.vocabOut;
  QUETZAL_TRY(launch(launchOfScan(args), args));
  return launch(launchOf(args), args);
}

}  // namespace quetzal::cuda
