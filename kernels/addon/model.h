// A loaded model: weights, KV pool, activations, threads.
#pragma once
#include <memory>

#include "batch.h"
#include "cuda_model.h"
#include "memory.h"
#include "pool.h"

namespace quetzal {

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
  explicit Model(ModelSpec spec) : spec_(std::move(spec)) {}
  /// The KV pool's pages go back even if JavaScript still knows the buffer.
  ~Model() {
    if (kv_) kv_->drop();
  }

  /// Checks the spec, reads the file, allocates. Runs off the JavaScript thread.
  Status load();
  /// Of a model on the CPU.
  Status step(const StepInput& input, bool wantsLogits, StepResult& result);
  /// Of a model on a GPU: the first half of a step; `cuda()->finish()` is the other.
  Status beginStep(const StepInput& input, bool wantsLogits, StepResult& result);

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
  Status allocate();

  ModelSpec spec_;
  Plan plan_;
  const KernelTable* table_ = nullptr;
  std::vector<LoadedWeight> weights_;
  Memory weightMemory_, arena_, quantized_, ropes_, scratch_;
  int64_t scratchBytes_ = 0;
  std::shared_ptr<Memory> kv_;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<cuda::CudaModel> cuda_;
};

/// What this machine can run, slowest first.
struct NamedTable {
  const char* name;
  const KernelTable* table;
};
std::vector<NamedTable> supportedTables();

}  // namespace quetzal
