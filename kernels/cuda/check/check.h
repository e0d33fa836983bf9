// Runs kernels and compares them with their twins: against a GPU or the emulation, the
// code is the same.
#pragma once
#include <functional>
#include <stdexcept>
#include <random>
#include <string>
#include <vector>

#include "../../addon/cuda_driver.h"
#include "../launches.h"

namespace quetzal::cuda {

struct Outcome {
  std::string kernel, name;
  double error, tolerance;
  std::string fault;  // empty: it ran
  bool isOk() const { return fault.empty() && error <= tolerance; }
};

/// A device with one stream. Calls that fail throw std::runtime_error.
class Gpu {
 public:
  Gpu(const std::string& library, const std::string& fatbin);
  ~Gpu();
  Gpu(const Gpu&) = delete;

  const DeviceFacts& facts() const { return facts_; }
  bool isEmulated() const { return order_ != nullptr; }
  /// In emulation: the order of threads from now on.
  void setOrder(int order, uint64_t seed);
  /// In emulation: what the last launch was caught at; else what the driver says.
  std::string takeFault(Result result);

  /// Fresh memory, filled with bytes 0xFF.
  DevicePointer allocate(uint64_t bytes);
  void release(DevicePointer pointer);
  void copyIn(DevicePointer to, const void* from, uint64_t bytes);
  void copyOut(void* to, DevicePointer from, uint64_t bytes);
  Handle function(const std::string& name);
  Result launch(Handle function, const KernelLaunch& shape, const void* args, bool overlaps = false);
  Result finish();

  const Api& api() const { return *api_; }
  Handle stream() const { return stream_; }

 private:
  void must(Result result, const char* action);

  const Api* api_ = nullptr;
  Device device_ = 0;
  DeviceFacts facts_;
  Handle context_ = nullptr, stream_ = nullptr, module_ = nullptr;
  std::vector<uint8_t> image_;
  bool canOverlap_ = false;
  void (*order_)(int, uint64_t) = nullptr;
  const char* (*fault_)() = nullptr;
};

/// Device arrays of one case; gone at its end.
class Arrays {
 public:
  explicit Arrays(Gpu& gpu) : gpu_(gpu) {}
  ~Arrays() {
    for (const DevicePointer pointer : held_) gpu_.release(pointer);
  }
  Arrays(const Arrays&) = delete;

  template <typename T>
  T* make(uint64_t count) {
    held_.push_back(gpu_.allocate(std::max<uint64_t>(count * sizeof(T), 1)));
    return reinterpret_cast<T*>(held_.back());
  }
  template <typename T>
  T* give(const std::vector<T>& values) {
    T* pointer = make<T>(values.size());
    if (!values.empty()) {
      gpu_.copyIn(reinterpret_cast<DevicePointer>(pointer), values.data(),
                  values.size() * sizeof(T));
    }
    return pointer;
  }
  template <typename T>
  std::vector<T> take(const T* pointer, uint64_t count) {
    std::vector<T> values(count);
    if (count > 0) {
      gpu_.copyOut(values.data(), reinterpret_cast<DevicePointer>(pointer), count * sizeof(T));
    }
    return values;
  }
  Gpu& gpu() { return gpu_; }

 private:
  Gpu& gpu_;
  std::vector<DevicePointer> held_;
};

using Random = std::mt19937_64;

/// A case runs its kernels and says how far from its twin it came out.
struct Case {
  std::string kernel, name;
  double tolerance;
  std::function<double(Arrays&, Random&)> run;
};

std::vector<Case> matmulCases(bool quick);
std::vector<Case> rowCases(bool quick);
std::vector<Case> attentionCases(bool quick);
std::vector<Case> samplingCases(bool quick);
/// Of the emulation itself: each must be caught, or pass.
std::vector<Outcome> emulationOutcomes(Gpu& gpu);

/// Launches and waits; throws what went wrong.
template <typename Args>
void launchAndWait(Gpu& gpu, const KernelLaunch& shape, const Args& args) {
  const Handle function = gpu.function(kernelNames[static_cast<int>(shape.kernel)]);
  Result result = gpu.launch(function, shape, &args);
  if (result == resultOk) result = gpu.finish();
  if (result != resultOk) throw std::runtime_error(gpu.takeFault(result));
}

static inline double normal(Random& random) { return std::normal_distribution<double>()(random); }

static inline std::vector<float> floats(Random& random, int64_t count, double scale = 1) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(normal(random) * scale);
  return values;
}

}  // namespace quetzal::cuda
