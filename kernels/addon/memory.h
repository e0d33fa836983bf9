// Anonymous memory in huge pages where the kernel has some.
#pragma once
#include <cstddef>
#include <cstdint>

namespace quetzal {

/// Zeroed; `data` is null when the system refused. Never throws.
class Memory {
 public:
  Memory() = default;
  explicit Memory(uint64_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const { return reinterpret_cast<T*>(data_); }
  /// Gives the pages back and keeps the addresses: later reads see zeros.
  void drop();

 private:
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t mapped_ = 0;
};

}  // namespace quetzal
