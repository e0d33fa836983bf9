// Memory in huge pages where the kernel has some: anonymous, or the page cache's.
#pragma once
#include <cstddef>
#include <cstdint>

namespace quetzal {

constexpr uint64_t hugePage = 2 << 20;

/// `data` is null when the system refused. Never throws.
class Memory {
 public:
  Memory() = default;
  /// Zeroed, and ours alone.
  explicit Memory(uint64_t bytes);
  /// A part of a file, to read only, shared with all who map it. `offset` is a multiple of
  /// `hugePage`. Reading behind the file's end kills the process: its size is checked before.
  static Memory ofFile(int fd, uint64_t offset, uint64_t bytes);
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
