// Device memory, pinned host memory and streams that give themselves back.
#pragma once
#include <utility>

#include "cuda_driver.h"

namespace quetzal::cuda {

/// Managed memory can be reached from the host as well.
enum class MemoryKind { plain, managed };

/// Part of the device's memory, one in so many, that managed memory leaves free. What does
/// not fit beside it moves to the host without an error, and every step then waits for the
/// bus. As backend.ts has it.
constexpr uint64_t managedMarginShare = 16;

/// One allocation; `bytes` is 0 when there is none.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory() { reset(); }
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(pointer_, other.pointer_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  /// `what` as in "needs 5 bytes of device memory for <what>". Never asks for more than is
  /// free: some of it would be managed memory's.
  Status allocate(const Api& api, uint64_t bytes, const char* what,
                  MemoryKind kind = MemoryKind::plain) {
    reset();
    const uint64_t wanted = bytes < 16 ? 16 : (bytes + 255) / 256 * 256;
    size_t free = 0, total = 0;
    Result result = api.memoryInfo(&free, &total);
    const bool isManaged = kind == MemoryKind::managed;
    const uint64_t margin = isManaged ? total / managedMarginShare : 0;
    if (result == resultOk && wanted + margin > free) result = resultOutOfMemory;
    if (result == resultOk) {
      result = isManaged ? api.allocateManaged(&pointer_, wanted, 1)
                         : api.allocate(&pointer_, wanted);
    }
    if (result == resultOk) {
      api_ = &api;
      bytes_ = wanted;
      return {};
    }
    const std::string more =
        margin > 0 ? " and a margin of " + std::to_string(margin) : std::string();
    return failure("Cannot go on: needs %llu bytes of device memory for %s%s, %zu of %zu are free "
                   "(%s)", static_cast<unsigned long long>(wanted), what, more.c_str(), free, total,
                   describe(api, result).c_str());
  }
  void reset() {
    if (bytes_ > 0) api_->release(pointer_);
    bytes_ = 0;
    pointer_ = 0;
  }

  DevicePointer pointer() const { return pointer_; }
  uint64_t bytes() const { return bytes_; }
  template <typename T>
  T* as(uint64_t byteOffset = 0) const { return reinterpret_cast<T*>(pointer_ + byteOffset); }

 private:
  const Api* api_ = nullptr;
  DevicePointer pointer_ = 0;
  uint64_t bytes_ = 0;
};

/// Host memory that the device reads and writes at full speed.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory() { reset(); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  Status allocate(const Api& api, uint64_t bytes) {
    reset();
    QUETZAL_CUDA_TRY(api, hostAllocate(&data_, bytes < 16 ? 16 : bytes, 0), "get pinned memory");
    api_ = &api;
    return {};
  }
  void reset() {
    if (data_) api_->hostRelease(data_);
    data_ = nullptr;
  }
  template <typename T>
  T* as(uint64_t byteOffset = 0) const {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(data_) + byteOffset);
  }

 private:
  const Api* api_ = nullptr;
  void* data_ = nullptr;
};

class Stream {
 public:
  Stream() = default;
  ~Stream() {
    if (handle_) api_->streamDestroy(handle_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Status open(const Api& api) {
    api_ = &api;
    constexpr unsigned nonBlocking = 1;
    return check(api, api.streamCreate(&handle_, nonBlocking), "make a stream");
  }
  Handle handle() const { return handle_; }

 private:
  const Api* api_ = nullptr;
  Handle handle_ = nullptr;
};

}  // namespace quetzal::cuda
