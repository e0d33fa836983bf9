// Weights on the device: one pool, filled by threads that read the file.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "../cuda/kernel_args.h"
#include "cuda_memory.h"
#include "cuda_repack.h"
#include "memory.h"
#include "plan.h"

namespace quetzal::cuda {

class DeviceWeights {
 public:
  DeviceWeights(const Api& api, Handle context, const ModelSpec& spec, const Plan& plan)
      : api_(api), context_(context), spec_(spec), plan_(plan) {}

  /// Places all weights, allocates, reads and uploads.
  Status load();
  /// The same with random weights that `fill` makes on the device, for measuring.
  using Fill = std::function<Status(const DeviceMatrix& matrix, const DeviceBytes& bytes)>;
  Status makeRandom(const Fill& fill);
  /// Weights go to host memory, the device's is given back.
  Status sleep();
  Status wake();
  bool isAsleep() const { return isAsleep_; }

  uint64_t bytes() const { return bytes_; }
  /// What one matrix takes of them.
  uint64_t matrixBytes(int32_t id) const;
  DeviceMatrix matrix(int32_t id) const;
  const float* vector(int32_t id) const;
  /// A vector as the file has it, in f32, on the host.
  const std::vector<float>& hostVector(int32_t id) const { return hostVectors_[id]; }

 private:
  struct Job {
    int32_t weight;
    int64_t rowBegin, rows;
  };
  void place();
  void work(int fd);
  Status upload(int fd, const Job& job, std::vector<uint8_t>& file, PinnedMemory& pinned,
                uint64_t& pinnedBytes, Stream& stream);
  Status copyPool(bool isOut);

  const Api& api_;
  const Handle context_;
  const ModelSpec& spec_;
  const Plan& plan_;
  DeviceMemory pool_;
  Memory host_;  // while asleep
  bool isAsleep_ = false;
  uint64_t bytes_ = 0;
  std::vector<uint64_t> quantsAt_, scalesAt_, vectorAt_;
  std::vector<std::vector<float>> hostVectors_;
  std::vector<Job> jobs_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  Status status_;
};

}  // namespace quetzal::cuda
