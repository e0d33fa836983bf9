#include "memory.h"

#include <sys/mman.h>

#include <utility>

namespace quetzal {

Memory::Memory(uint64_t bytes) {
  const bool isBig = bytes >= hugePage;
  const uint64_t unit = isBig ? hugePage : 4096;
  const uint64_t wanted = bytes < 1 ? 1 : bytes;
  if (wanted > (uint64_t{1} << 46)) return;
  // One more unit, so that a huge-page boundary lies inside.
  const uint64_t size = (wanted + unit - 1) / unit * unit + (isBig ? hugePage : 0);
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return;
  auto* begin = static_cast<uint8_t*>(base);
  if (isBig) {
    const uint64_t skip = (hugePage - reinterpret_cast<uintptr_t>(begin) % hugePage) % hugePage;
    if (skip > 0) munmap(begin, skip);
    if (hugePage > skip) munmap(begin + size - (hugePage - skip), hugePage - skip);
    begin += skip;
    madvise(begin, size - hugePage, MADV_HUGEPAGE);
  }
  data_ = begin;
  bytes_ = bytes;
  mapped_ = isBig ? size - hugePage : size;
}

Memory Memory::ofFile(int fd, uint64_t offset, uint64_t bytes) {
  Memory memory;
  void* base = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (base == MAP_FAILED) return memory;
  // Page caches of some file systems have huge pages, too.
  madvise(base, bytes, MADV_HUGEPAGE);
  memory.data_ = static_cast<uint8_t*>(base);
  memory.bytes_ = memory.mapped_ = bytes;
  return memory;
}

Memory::~Memory() {
  if (data_) munmap(data_, mapped_);
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

void Memory::drop() {
  if (data_) madvise(data_, mapped_, MADV_DONTNEED);
}

}  // namespace quetzal
