// A loaded model: weights, KV pool, activations, threads.
#pragma once
#include <functional>
#include <memory>

#include "batch.h"
#include "cuda_model.h"
#include "memory.h"
#include "pool.h"

namespace quetzal {

class PackedWriter;
struct OpenFile;
struct WeightPlaces;

struct StepResult {
  std::vector<int32_t> tokens, topIds;
  std::vector<float> logprobs, topLogprobs, logits;
  /// Hidden states of the out rows that want theirs, one after another.
  std::vector<float> hidden;
  double stepUs = 0;
  /// On a GPU: time of its kernels, and bytes of weights and KV that they read.
  double deviceUs = 0, bytesRead = 0;
  /// On a GPU: from the end of the step before to the end of this one.
  double periodUs = 0;
};

struct LoadedWeight {
  Matrix matrix = {};
  const float* vector = nullptr;  // for norms, biases and rope divisors
};

class Model {
 public:
  explicit Model(ModelSpec spec);
  /// The KV pool's pages go back even if JavaScript still knows the buffer.
  ~Model();

  /// Checks the spec, reads the file, allocates. Runs off the JavaScript thread.
  Status load();
  /// Of a model on the CPU.
  Status step(const StepInput& input, bool wantsLogits, StepResult& result);
  /// Of a model on a GPU: the first half of a step; `cuda()->finish()` is the other.
  Status beginStep(const StepInput& input, bool wantsLogits, StepResult& result);

  /// Writes the packed weights to the file of the spec, beside the steps; `done` as for
  /// PackedWriter.
  void storePacked(std::function<void(Status, bool)> done);
  /// The weights are those of a file of packed weights.
  bool isMapped() const { return isMapped_; }
  /// Why a file of packed weights that is there was not used.
  const std::string& packedProblem() const { return packedProblem_; }

  const ModelSpec& spec() const { return spec_; }
  const Plan& plan() const { return plan_; }
  const KernelTable& table() const { return *table_; }
  const LoadedWeight& weight(int32_t id) const { return weights_[id]; }
  const std::shared_ptr<Memory>& kv() const { return kv_; }
  uint64_t weightBytes() const { return cuda_ ? cuda_->weightBytes() : weightMemory_.bytes(); }
  /// Set when the model runs on a GPU; then `kv` is null.
  cuda::CudaModel* cuda() const { return cuda_.get(); }
  int threads() const { return pool_->threads(); }

  float* tensor(int32_t id) const { return arena_.as<float>() + plan_.tensorOffset[id]; }
  float* ropeTable(int32_t id) const { return ropes_.as<float>() + plan_.ropes[id].offset; }
  KvPool kvPool() const;
  QuantizedRows quantized() const;
  uint8_t* scratch(int worker) const { return scratch_.data() + worker * scratchBytes_; }

 private:
  Status readWeights();
  Status packWeights(const OpenFile& file, const WeightPlaces& places);
  Status allocate();

  ModelSpec spec_;
  Plan plan_;
  const KernelTable* table_ = nullptr;
  std::vector<LoadedWeight> weights_;
  /// Of the file that may be written; empty: not for these weights.
  std::vector<uint8_t> packedHead_;
  std::string packedProblem_;
  bool isMapped_ = false;
  Memory weightMemory_, arena_, quantized_, ropes_, scratch_;
  int64_t scratchBytes_ = 0;
  std::shared_ptr<Memory> kv_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<cuda::CudaModel> cuda_;
  std::unique_ptr<PackedWriter> writer_;  // reads the weights: goes first
};

/// What this machine can run, slowest first.
struct NamedTable {
  const char* name;
  const KernelTable* table;
};
std::vector<NamedTable> supportedTables();

}  // namespace quetzal
