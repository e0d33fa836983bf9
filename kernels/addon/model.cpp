#include "model.h"

#include <algorithm>
#include <new>
#include <system_error>

#include "packed_file.h"

namespace quetzal {

Model::Model(ModelSpec spec) : spec_(std::move(spec)) {}

Model::~Model() {
  if (kv_) kv_->drop();
}

Status Model::load() {
  QUETZAL_TRY(checkShapes(spec_));
  if (spec_.isa == "cuda") {
    QUETZAL_TRY(makePlan(spec_, plan_));
    cuda_ = std::make_unique<cuda::CudaModel>(spec_, plan_);
    return cuda_->load();
  }
  for (const NamedTable& supported : supportedTables()) {
    if (spec_.isa == supported.name) table_ = supported.table;
  }
  if (!table_) {
    std::string known;
    for (const NamedTable& supported : supportedTables()) {
      known += (known.empty() ? "" : ", ") + std::string(supported.name);
    }
    return failure("Cannot load model: isa must be one of %s on this machine, is \"%.40s\"",
                   known.c_str(), spec_.isa.c_str());
  }
  QUETZAL_TRY(makePlan(spec_, plan_));
  QUETZAL_TRY(readWeights());
  QUETZAL_TRY(allocate());
  try {
    pool_ = std::make_unique<Pool>(static_cast<int>(spec_.threads));
  } catch (const std::system_error& error) {
    return failure("Cannot load model: needs %lld threads, found: %s",
                   static_cast<long long>(spec_.threads), error.what());
  }
  return {};
}

Status Model::readWeights() {
  weights_.resize(spec_.weights.size());
  const OpenFile file(spec_.path.c_str());
  QUETZAL_TRY(checkFile(spec_, file));
  const FileStamp stamp = file.stamp();
  const WeightPlaces places = placeWeights(spec_, plan_, *table_);
  if (!spec_.packed.path.empty()) {
    packedHead_ = packedHead(spec_, plan_, *table_, places, stamp);
    packedProblem_ = mapPacked(spec_.packed.path, packedHead_, places.bytes, spec_.threads,
                               weightMemory_).message;
    isMapped_ = weightMemory_.data() != nullptr;
  }
  if (!isMapped_) QUETZAL_TRY(packWeights(file, places));
  // A file that changed meanwhile gives weights of no file at all.
  if (!(file.stamp() == stamp)) packedHead_.clear();
  assignWeights(spec_, places, weightMemory_.data(), weights_);
  return {};
}

Status Model::packWeights(const OpenFile& file, const WeightPlaces& places) {
  weightMemory_ = Memory(places.bytes);
  if (!weightMemory_.data()) {
    return failure("Cannot load model: needs %llu bytes for weights, the system has no more",
                   static_cast<unsigned long long>(places.bytes));
  }
  return WeightReader(spec_, plan_, *table_, places).read(file, weightMemory_.data());
}

void Model::storePacked(std::function<void(Status, bool)> done) {
  if (packedHead_.empty() || isMapped_ || writer_) return done({}, false);
  try {
    writer_ = std::make_unique<PackedWriter>(spec_.packed.path, packedHead_, weightMemory_, done);
  } catch (const std::exception& problem) {
    done(failure("Cannot write %.300s: %s", spec_.packed.path.c_str(), problem.what()), false);
  }
}

Status Model::allocate() {
  const int64_t attention =
      attentionScratchFloats(spec_.kv.headDim, plan_.headsPerKvHead) * 4;
  const int64_t sampling = sampleScratchBytes(plan_.vocabOut);
  const int64_t matmul = table_->matmulScratchBytes(spec_.rowsMax, plan_.quantCols);
  scratchBytes_ = (std::max({attention, sampling, matmul}) + 4095) / 4096 * 4096;
  const int64_t blocks = spec_.rowsMax * (plan_.quantCols / quantBlock);
  const uint64_t kvBytes = spec_.kv.blockBytes() * spec_.kv.blocks;

  kv_ = std::make_shared<Memory>(kvBytes);
  arena_ = Memory(plan_.arenaFloats * 4);
  quantized_ = Memory(blocks * (quantBlock + 12));
  ropes_ = Memory(plan_.ropeFloats * 4);
  scratch_ = Memory(scratchBytes_ * spec_.threads);
  if (kv_->data() && arena_.data() && quantized_.data() && ropes_.data() && scratch_.data()) {
    return {};
  }
  return failure("Cannot load model: needs %llu bytes of KV pool and %lld of activations, the "
                 "system has no more", static_cast<unsigned long long>(kvBytes),
                 static_cast<long long>(plan_.arenaFloats * 4));
}

KvPool Model::kvPool() const {
  const KvShape& kv = spec_.kv;
  return {kv_->data(), kv.type, kv.layers, kv.kvHeads, kv.headDim, kv.blockTokens, kv.blocks};
}

QuantizedRows Model::quantized() const {
  const int64_t blocks = spec_.rowsMax * (plan_.quantCols / quantBlock);
  auto* scales = quantized_.as<float>();
  auto* sums = reinterpret_cast<int32_t*>(scales + blocks);
  return {reinterpret_cast<int8_t*>(sums + 2 * blocks), scales, sums};
}

}  // namespace quetzal
