// A model on a GPU: the same spec, program and batch checks as on the CPU, other memory
// and other kernels.
//
// A step copies its input over in one piece, replays a graph and reads tokens back. A
// graph is captured for a bucket of rows, out rows and splits, the first time it is
// needed; rows beyond the batch are padding that writes no KV.
//
// Two steps may be on the device's queue: while one computes, the host prepares the next,
// whose token ids may name rows of the one before (id -1 - i: what its out row i chose).
// One stream orders them, so activations, input and results exist once on the device;
// what the host writes and reads of a step exists once per flight.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "../cuda/launches.h"
#include "batch.h"
#include "cuda_plan.h"
#include "cuda_weights.h"

namespace quetzal {
struct StepResult;
}

namespace quetzal::cuda {

/// Where libcuda and the kernels are; device 0 is used.
struct CudaSetup {
  std::string library = "libcuda.so.1";
  std::string fatbin;
  size_t graphsMax = 64;  // of one model
};
/// For the process; set before the first model is loaded.
CudaSetup& cudaSetup();

/// The device with its free memory, or why there is none.
Status probeDevice(DeviceFacts& facts, uint64_t& freeBytes);

/// KV blocks as the host sees them, in managed memory: pieces of whole blocks, each small
/// enough for an ArrayBuffer. They stay readable until the last user lets go.
struct KvPieces {
  KvPieces(const Api& api, Handle context) : api(api), context(context) {}
  /// Whoever lets go last may be a thread that never used the device.
  ~KvPieces() { api.contextSet(context); }
  const Api& api;
  const Handle context;
  DeviceMemory memory;
  uint64_t pieceBytes = 0, bytes = 0;
};

class CudaModel {
 public:
  CudaModel(const ModelSpec& spec, const Plan& plan) : spec_(spec), plan_(plan) {}
  ~CudaModel();

  Status load();
  /// With random weights in place of a file's, and KV out of the host's reach: for measuring.
  Status loadRandom(const DeviceWeights::Fill& fill) { return loadWith(&fill); }
  Status step(const StepInput& input, bool wantsLogits, StepResult& result) {
    QUETZAL_TRY(begin(input, wantsLogits, result));
    return finish();
  }
  /// Queues a step; `input` and `result` must live until it is finished. Needs room.
  Status begin(const StepInput& input, bool wantsLogits, StepResult& result);
  static constexpr size_t flightsMax = 2;
  size_t flightCount() const { return flightCount_; }
  /// Whether `finish` would not wait.
  bool isOldestDone() const;
  /// Waits for the oldest step and fills its result.
  Status finish();
  /// No step may be in flight.
  Status sleep();
  Status wake();

  const std::shared_ptr<KvPieces>& kv() const { return kv_; }
  uint64_t weightBytes() const { return weights_ ? weights_->bytes() : 0; }
  const DeviceFacts& facts() const { return facts_; }
  /// Why no step can run any more; empty while all is well.
  const std::string& lost() const { return lost_; }

 private:
  struct Bucket {
    int32_t rows, outRows, splits;
    auto operator<=>(const Bucket&) const = default;
  };

  /// A step between `begin` and `finish`.
  struct Flight {
    PinnedMemory staging, found;
    Handle begin = nullptr, end = nullptr, read = nullptr;  // events
    const StepInput* input = nullptr;
    StepResult* result = nullptr;
    double begunUs = 0;
  };

  Status loadWith(const DeviceWeights::Fill* fill);
  Status openDevice(bool needsManagedMemory);
  Status loadKernels();
  Status allocate(MemoryKind kvKind);
  Status growTables(uint64_t words);
  void layOut();

  Bucket bucketOf(const StepInput& input) const;
  Status fill(Flight& flight, const Bucket& bucket);
  Status graphOf(const Bucket& bucket, Handle& graph);
  void dropGraphs();
  void dropOldGraph();
  Status run(Flight& flight, bool wantsLogits);
  Status queueReading(Flight& flight, bool wantsLogits);
  Status queueHidden(Flight& flight);
  Status readResults(Flight& flight);
  Status outcome(const Status& status);
  uint64_t productWeightBytes() const;
  double bytesRead(const StepInput& input) const;

  Status launchAll(const Bucket& bucket);
  Status launchOp(const DeviceOp& op, const Bucket& bucket);
  Status launchMatmuls(const DeviceOp& op, int32_t rows);
  Status launchAttention(const DeviceOp& op, const Bucket& bucket);
  Status launchRopeKv(const DeviceOp& op, const Bucket& bucket);
  Status launchSample(const DeviceOp& op, const Bucket& bucket);
  template <typename Args>
  Status launch(const KernelLaunch& shape, const Args& args);

  float* tensor(int32_t id) const { return activations_.as<float>(tensorAt_[id] * 4); }
  int32_t colsOf(int32_t id) const { return spec_.tensors[id].cols; }
  int32_t rowsOf(int32_t id, const Bucket& bucket) const {
    return spec_.tensors[id].rowKind == 0 ? bucket.rows : bucket.outRows;
  }
  Prepared preparedOf(const DeviceOp& op, int32_t rows) const;
  DeviceKv kvOf() const;
  template <typename T>
  T* input(uint64_t offset) const { return step_.as<T>(offset); }

  const ModelSpec& spec_;
  const Plan& plan_;
  DevicePlan device_;
  const Api* api_ = nullptr;
  Device deviceId_ = 0;
  DeviceFacts facts_;
  Handle context_ = nullptr, module_ = nullptr;
  std::vector<uint8_t> image_;
  std::array<Handle, kernelNames.size()> functions_ = {};
  Stream stream_;
  std::array<Flight, flightsMax> flights_;
  size_t oldest_ = 0, flightCount_ = 0;
  double finishedUs_ = 0;
  Handle lastEnd_ = nullptr;  // event at the end of the step before
  bool hasLastEnd_ = false;
  std::unique_ptr<DeviceWeights> weights_;
  uint64_t weightBytesRead_ = 0;
  std::shared_ptr<KvPieces> kv_;

  DeviceMemory activations_, prepared_, ropes_, attention_, sampling_, step_, results_;
  std::vector<uint64_t> tensorAt_;      // floats
  std::vector<uint64_t> ropeAt_;        // bytes into ropes_: frequencies, cosines, sines
  uint64_t preparedScales_ = 0, preparedSums_ = 0, preparedHalves_ = 0, preparedRowScales_ = 0;
  uint64_t partialState_ = 0, adjustedLogits_ = 0;
  struct StepLayout {
    uint64_t tokenIds, positions, block, slot, lengths, tableBegin, outRowIndex, ints, floats, tables;
  } at_ = {};
  struct ResultLayout {
    uint64_t logprobs, topIds, topLogprobs, statuses, bytes;
  } resultAt_ = {};
  uint64_t tableWords_ = 0, usedBytes_ = 0;
  struct KeptGraph {
    Handle graph;
    uint64_t lastUsed;
  };
  std::map<Bucket, KeptGraph> graphs_;
  uint64_t graphUses_ = 0;
  bool isFirstLaunch_ = true, canOverlap_ = false;
  std::string lost_;
};

}  // namespace quetzal::cuda
