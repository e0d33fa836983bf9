// CUDA's execution model on the host, for the subset that our kernels use.
//
// A block's threads are fibers of one host thread. A fiber runs until it needs others:
// at __syncthreads or at a warp operation. So between two such points every thread
// sees either all or nothing of what another did there, and which of the two depends on
// the order; a launch names an order, and a kernel that lacks a barrier gives other
// results (or reads poison) in one of them.
//
// What is caught and ends the launch with a report: threads that wait at different
// barriers or leave while others wait, warp operations that not all named lanes reach,
// reads and writes outside a global allocation or a shared array (each ends at a guard
// page), copies of cp.async read before they were waited for (they have not happened).
// Shared memory and fresh global memory hold 0xFF bytes, which read as NaN or -1.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace quetzal::emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

enum class Order : int { forward = 0, reverse = 1, shuffled = 2 };

/// Launches nothing wider than CUDA allows; `kernel(args)` is run by every thread.
struct Launch {
  Dim3 grid, block;
  unsigned sharedBytes = 0;
  void (*kernel)(const void* args) = nullptr;
  const void* args = nullptr;
  Order order = Order::forward;
  uint64_t seed = 0;
};

/// Empty when all is well; else what was caught, for the first fault. One launch at a time.
const char* run(const Launch& launch);

/// Memory with guard pages; the end is flush with one, to 16 bytes. Null: none left.
void* guardedAlloc(uint64_t bytes);
/// False when the pointer is none of ours.
bool guardedFree(void* pointer);
/// Whether [pointer, pointer + bytes) lies inside one allocation.
bool isAllocated(const void* pointer, uint64_t bytes);

// --- what kernels see ---

struct Place {
  Dim3 thread, block, threads, blocks;  // the last two: how many there are
};
extern Place place;  // of the fiber that runs

void syncThreads(int line);
/// A shared array of its own, the `index`th of the block.
void* sharedArray(int index, uint64_t bytes);
/// Hands over `bytes` of every lane in `mask`; `all` is [32][64].
const uint8_t* exchange(unsigned mask, const void* own, unsigned bytes, int line);
[[noreturn]] void trap(const char* why);

void asyncCopy(void* dst, const void* src, unsigned bytes);
void asyncCommit();
void asyncWait(int groupsLeft);

static inline unsigned laneOf() { return place.thread.x & 31u; }

template <typename T>
static inline T fromLane(const uint8_t* all, unsigned lane) {
  T value;
  std::memcpy(&value, all + lane * 64, sizeof value);
  return value;
}

template <typename T>
static inline T shuffle(unsigned mask, T value, unsigned lane, int line) {
  const uint8_t* all = exchange(mask, &value, sizeof value, line);
  // A lane outside the mask has no value to give.
  return (mask >> (lane & 31u)) & 1u ? fromLane<T>(all, lane & 31u) : value;
}

static inline unsigned ballot(unsigned mask, int predicate, int line) {
  const int own = predicate != 0;
  const uint8_t* all = exchange(mask, &own, sizeof own, line);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane) & 1u && fromLane<int>(all, lane)) bits |= 1u << lane;
  }
  return bits;
}

template <typename T>
static inline T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}
template <typename T>
static inline T atomicMax(T* address, T value) {
  const T old = *address;
  if (value > old) *address = value;
  return old;
}
template <typename T>
static inline T atomicMin(T* address, T value) {
  const T old = *address;
  if (value < old) *address = value;
  return old;
}

}  // namespace quetzal::emulation

// CUDA's words.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define threadIdx (quetzal::emulation::place.thread)
#define blockIdx (quetzal::emulation::place.block)
#define blockDim (quetzal::emulation::place.threads)
#define gridDim (quetzal::emulation::place.blocks)
#define __syncthreads() quetzal::emulation::syncThreads(__LINE__)
#define __syncwarp() ((void)quetzal::emulation::ballot(0xffffffffu, 0, __LINE__))
#define __shfl_xor_sync(mask, value, offset) \
  quetzal::emulation::shuffle(mask, value, quetzal::emulation::laneOf() ^ (offset), __LINE__)
#define __shfl_sync(mask, value, lane) quetzal::emulation::shuffle(mask, value, lane, __LINE__)
#define __shfl_up_sync(mask, value, delta)                                               \
  quetzal::emulation::shuffle(mask, value,                                               \
                              quetzal::emulation::laneOf() < unsigned(delta)             \
                                  ? quetzal::emulation::laneOf()                         \
                                  : quetzal::emulation::laneOf() - unsigned(delta),      \
                              __LINE__)
#define __ballot_sync(mask, predicate) quetzal::emulation::ballot(mask, predicate, __LINE__)
#define __popc(x) __builtin_popcount(x)
#define __any_sync(mask, predicate) \
  (quetzal::emulation::ballot(mask, predicate, __LINE__) != 0)
#define __all_sync(mask, predicate) \
  (quetzal::emulation::ballot(mask, predicate, __LINE__) == (mask))
using quetzal::emulation::atomicAdd;
using quetzal::emulation::atomicMax;
using quetzal::emulation::atomicMin;
