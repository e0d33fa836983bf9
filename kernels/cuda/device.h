// What kernels use beyond plain C++: on a GPU by intrinsics and PTX, on the host by the
// emulation. Halves travel as raw bits, so that both sides have the same types.
#pragma once
#include <cstdint>

#ifdef QUETZAL_EMULATION
#include "../include/half.h"
#include "emulation/emulation.h"
#else
#include <cuda_fp16.h>
#endif

#include "kernel_args.h"

namespace quetzal::cuda {

constexpr unsigned allLanes = 0xffffffffu;

struct alignas(16) Words4 {
  uint32_t word[4];
};

// --- halves ---

static __device__ __forceinline__ float halfToFloat(uint16_t half) {
#ifdef QUETZAL_EMULATION
  return f16ToF32(half);
#else
  return __half2float(__ushort_as_half(half));
#endif
}

static __device__ __forceinline__ uint16_t floatToHalf(float value) {
#ifdef QUETZAL_EMULATION
  return f32ToF16(value);
#else
  return __half_as_ushort(__float2half_rn(value));
#endif
}

static __device__ __forceinline__ uint32_t packHalves(float low, float high) {
  return floatToHalf(low) | static_cast<uint32_t>(floatToHalf(high)) << 16;
}

static __device__ __forceinline__ float bitsToFloat(uint32_t bits) {
#ifdef QUETZAL_EMULATION
  return floatOfBits(bits);
#else
  return __uint_as_float(bits);
#endif
}

static __device__ __forceinline__ uint32_t floatToBits(float value) {
#ifdef QUETZAL_EMULATION
  return bitsOfFloat(value);
#else
  return __float_as_uint(value);
#endif
}

/// a * b + c on two halves, rounded once.
static __device__ __forceinline__ uint32_t fmaHalves(uint32_t a, uint32_t b, uint32_t c) {
#ifdef QUETZAL_EMULATION
  const auto one = [](uint32_t x, uint32_t y, uint32_t z) {
    return f32ToF16(static_cast<float>(double{f16ToF32(static_cast<uint16_t>(x))} *
                                           f16ToF32(static_cast<uint16_t>(y)) +
                                       f16ToF32(static_cast<uint16_t>(z))));
  };
  return one(a & 0xffff, b & 0xffff, c & 0xffff) |
      static_cast<uint32_t>(one(a >> 16, b >> 16, c >> 16)) << 16;
#else
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
#endif
}

static __device__ __forceinline__ uint32_t addHalves(uint32_t a, uint32_t b) {
#ifdef QUETZAL_EMULATION
  return fmaHalves(a, 0x3c003c00u, b);
#else
  uint32_t d;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
#endif
}

/// Bytes of (a, b) picked by the four nibbles of `selector`.
static __device__ __forceinline__ uint32_t pickBytes(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef QUETZAL_EMULATION
  const uint64_t both = static_cast<uint64_t>(b) << 32 | a;
  uint32_t picked = 0;
  for (int i = 0; i < 4; ++i) {
    picked |= static_cast<uint32_t>((both >> (8 * ((selector >> (4 * i)) & 7))) & 0xff) << (8 * i);
  }
  return picked;
#else
  return __byte_perm(a, b, selector);
#endif
}

/// Sum of four signed byte products, plus c.
static __device__ __forceinline__ int dotBytes(uint32_t a, uint32_t b, int c) {
#ifdef QUETZAL_EMULATION
  for (int i = 0; i < 4; ++i) {
    c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
  }
  return c;
#else
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#endif
}

// --- memory ---

/// Weights pass through once: kept out of L1.
static __device__ __forceinline__ Words4 loadOnce(const void* from) {
#ifdef QUETZAL_EMULATION
  return *static_cast<const Words4*>(from);
#else
  Words4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(from));
  return v;
#endif
}

static __device__ __forceinline__ Words4 load16(const void* from) {
  return *static_cast<const Words4*>(from);
}

/// The block's shared memory, array by array, in the same order by every thread.
class Shared {
 public:
  template <typename T>
  __device__ __forceinline__ T* take(int count) {
#ifdef QUETZAL_EMULATION
    return static_cast<T*>(
        emulation::sharedArray(taken_++, static_cast<uint64_t>(count) * sizeof(T)));
#else
    extern __shared__ __align__(16) unsigned char quetzalShared[];
    unsigned char* begin = quetzalShared + taken_;
    taken_ += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(begin);
#endif
  }

 private:
  int taken_ = 0;
};

/// Starts a copy of 16 bytes to shared memory; readable after `asyncCopiesLeft` and a barrier.
static __device__ __forceinline__ void copyAsync16(void* shared, const void* global) {
#ifdef QUETZAL_EMULATION
  emulation::asyncCopy(shared, global, 16);
#else
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#endif
}

static __device__ __forceinline__ void commitCopies() {
#ifdef QUETZAL_EMULATION
  emulation::asyncCommit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `groups` of this thread's groups are under way.
template <int groups>
static __device__ __forceinline__ void asyncCopiesLeft() {
#ifdef QUETZAL_EMULATION
  emulation::asyncWait(groups);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

// --- order of kernels ---

/// Everything before this may run while the kernel before still does, so it must read
/// weights only.
static __device__ __forceinline__ void waitForKernelBefore() {
#if !defined(QUETZAL_EMULATION) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel's blocks come as soon as there is room for them.
static __device__ __forceinline__ void letNextKernelStart() {
#if !defined(QUETZAL_EMULATION) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// --- tensor cores ---

/// d[16, 8] += a[16, 16] b[16, 8], f16 in, f32 sums. With lane = 4 g + t:
/// a holds rows g and g + 8 at k = 2t, 2t + 1, then the same at k + 8;
/// b holds column g at k = 2t, 2t + 1, then k + 8; d holds (g, 2t), (g, 2t + 1), then g + 8.
static __device__ __forceinline__ void multiplyTile(float (&d)[4], const uint32_t (&a)[4],
                                                    const uint32_t (&b)[2]) {
#ifdef QUETZAL_EMULATION
  struct Fragment {
    float a[8], b[4];
  } own;
  for (int i = 0; i < 8; ++i) own.a[i] = f16ToF32(static_cast<uint16_t>(a[i / 2] >> (i % 2 * 16)));
  for (int i = 0; i < 4; ++i) own.b[i] = f16ToF32(static_cast<uint16_t>(b[i / 2] >> (i % 2 * 16)));
  const uint8_t* all = emulation::exchange(allLanes, &own, sizeof own, __LINE__);
  const unsigned lane = emulation::laneOf(), g = lane / 4, t = lane % 4;
  const auto at = [&](unsigned from) { return reinterpret_cast<const Fragment*>(all + 64 * from); };
  for (unsigned from = 0; from < 4; ++from) {
    const Fragment* row = at(4 * g + from);
    for (unsigned j = 0; j < 2; ++j) {
      const Fragment* column = at(4 * (2 * t + j) + from);
      for (unsigned i = 0; i < 4; ++i) {
        // Element i of b is at k = 2 from + i % 2 + 8 (i / 2); of a, rows take turns by pairs.
        d[j] += row->a[i / 2 * 4 + i % 2] * column->b[i];
        d[2 + j] += row->a[i / 2 * 4 + 2 + i % 2] * column->b[i];
      }
    }
  }
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// --- reductions ---

static __device__ __forceinline__ float warpSum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(allLanes, x, offset);
  return x;
}

/// Over all threads of a one-dimensional block of 1, 2, 4, .. 32 warps; `perWarp` is shared,
/// one entry a warp. Pairs are combined alike in every lane, so all get the same bits.
template <typename T, typename Combine>
static __device__ __forceinline__ T blockReduce(T x, T* perWarp, Combine combine) {
  for (int offset = 16; offset > 0; offset >>= 1) {
    x = combine(x, __shfl_xor_sync(allLanes, x, offset));
  }
  __syncthreads();  // others may still read the last result
  if (threadIdx.x % 32 == 0) perWarp[threadIdx.x / 32] = x;
  __syncthreads();
  const unsigned warps = blockDim.x / 32;
  T total = perWarp[threadIdx.x % warps];
  for (unsigned offset = warps / 2; offset > 0; offset >>= 1) {
    total = combine(total, __shfl_xor_sync(allLanes, total, offset));
  }
  return total;
}

static __device__ __forceinline__ float blockSum(float x, float* perWarp) {
  return blockReduce(x, perWarp, [](float a, float b) { return a + b; });
}

static __device__ __forceinline__ float blockMax(float x, float* perWarp) {
  return blockReduce(x, perWarp, [](float a, float b) { return a > b ? a : b; });
}

}  // namespace quetzal::cuda
