// Which tokens of a row may be drawn: top_k and top_p without sorting, by one block.
//
// Both look for the last kept logit: the largest key such that keys from it upwards weigh a
// target, in tokens or in probability. The first histogram has bins of equal distance from the
// largest logit, since the bits of logits are nearly all alike; what is left out of it, the far
// tail, is rarely asked for. Then the bin's keys are halved eight times a pass. All tokens that
// can still be kept are put on a list after the first histogram, when they are few, so that
// later passes are short.
#pragma once
#include "device.h"

namespace quetzal::cuda {

using Mass = unsigned long long;

constexpr int sampleWarps = sampleThreads / 32;

/// Larger floats have larger keys.
static __device__ __forceinline__ uint32_t keyOf(float x) {
  const uint32_t bits = floatToBits(x == 0 ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ Mass rankOf(float x, int32_t id) {
  return static_cast<Mass>(keyOf(x)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

static __device__ __forceinline__ int32_t idOf(Mass rank) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(rank));
}

static __device__ __forceinline__ Mass largerOf(Mass a, Mass b) { return a > b ? a : b; }
static __device__ __forceinline__ double sumOf(double a, double b) { return a + b; }

struct SampleShared {
  float* floats;   // [warps]
  double* doubles; // [warps]
  Mass* masses;    // [warps]
  Mass* bins;      // [copies, 256]
  Mass* found;     // [2]
  int32_t* ids;    // [sampleListMax]
};

static __device__ __forceinline__ Mass maxRank(Mass own, const SampleShared& shared) {
  return blockReduce(own, shared.masses, largerOf);
}

/// What is kept: rank by key, with the last id of those whose key is the threshold.
struct Kept {
  const float* x;
  float max, temperature, floor;
  uint32_t threshold;
  int32_t lastTie;

  __device__ __forceinline__ bool isAllowed(int32_t id) const {
    return (x[id] - max) / temperature >= floor;
  }
  __device__ __forceinline__ bool isKept(int32_t id) const {
    const uint32_t key = keyOf(x[id]);
    return isAllowed(id) && (key > threshold || (key == threshold && id <= lastTie));
  }
  __device__ __forceinline__ Mass massOf(int32_t id) const { return massOfLogit(x[id]); }
  __device__ __forceinline__ Mass massOfLogit(float logit) const {
    return static_cast<Mass>(expf((logit - max) / temperature) * 1099511627776.0f);  // 2^40
  }
  /// 255 next to the largest logit, 0 where a token weighs less than 2^-40.
  __device__ __forceinline__ int32_t nearness(int32_t id) const {
    const float distance = (max - x[id]) / temperature * 9.0f;
    return distance < 255.0f ? 255 - static_cast<int32_t>(distance) : 0;
  }
};

/// Tokens that are still in question, by ascending id.
struct Candidates {
  const int32_t* ids;  // null: all ids below count
  int32_t count;
  __device__ __forceinline__ int32_t at(int32_t i) const { return ids ? ids[i] : i; }
};

/// The part of `count` entries that a warp walks through.
struct WarpShare {
  int32_t begin, end;
};
static __device__ __forceinline__ WarpShare ownShare(int32_t count) {
  const int32_t share = (count + sampleWarps * 32 - 1) / (sampleWarps * 32) * 32;
  const int32_t begin = static_cast<int32_t>(threadIdx.x / 32) * share;
  return {begin, begin + share < count ? begin + share : count};
}

template <typename Weight>
static __device__ __forceinline__ Mass totalOf(const Candidates& who, const SampleShared& shared,
                                               Weight weight) {
  Mass own = 0;
  for (int32_t i = threadIdx.x; i < who.count; i += sampleThreads) own += weight(who.at(i));
  return blockReduce(own, shared.masses, [](Mass a, Mass b) { return a + b; });
}

/// Puts those that are wanted on the list, unless they are too many.
template <typename IsWanted>
static __device__ __forceinline__ void listWanted(Candidates& who, const SampleShared& shared,
                                                  IsWanted isWanted) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WarpShare share = ownShare(who.count);
  int32_t own = 0;
  for (int32_t base = share.begin; base < share.end; base += 32) {
    const int32_t i = base + lane;
    own += __popc(__ballot_sync(allLanes, i < share.end && isWanted(who.at(i))));
  }
  __syncthreads();
  if (lane == 0) shared.masses[warp] = static_cast<Mass>(own);
  __syncthreads();
  int32_t before = 0, total = 0;
  for (int i = 0; i < sampleWarps; ++i) {
    if (i < warp) before += static_cast<int32_t>(shared.masses[i]);
    total += static_cast<int32_t>(shared.masses[i]);
  }
  if (total > sampleListMax) return;
  for (int32_t base = share.begin; base < share.end; base += 32) {
    const int32_t i = base + lane;
    const bool isOn = i < share.end && isWanted(who.at(i));
    const uint32_t all = __ballot_sync(allLanes, isOn);
    if (isOn) shared.ids[before + __popc(all & ((1u << lane) - 1))] = who.at(i);
    before += __popc(all);
  }
  __syncthreads();
  who = {shared.ids, total};
}

/// Weights by bin; `binOf` answers below 0 for what is in none.
template <typename BinOf, typename Weight>
static __device__ __forceinline__ void fillBins(const Candidates& who, const SampleShared& shared,
                                                BinOf binOf, Weight weight) {
  for (int i = threadIdx.x; i < 256 * sampleBinCopies; i += sampleThreads) shared.bins[i] = 0;
  __syncthreads();
  // Neighbours have bins of their own: atomics on one word wait for one another.
  Mass* bins = shared.bins + 256 * (threadIdx.x % sampleBinCopies);
  for (int32_t i = threadIdx.x; i < who.count; i += sampleThreads) {
    const int32_t id = who.at(i), bin = binOf(id);
    const Mass own = bin < 0 ? 0 : weight(id);
    if (own > 0) atomicAdd(&bins[bin], own);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += sampleThreads) {
    for (int copy = 1; copy < sampleBinCopies; ++copy) shared.bins[i] += shared.bins[256 * copy + i];
  }
  __syncthreads();
}

struct FoundBin {
  int32_t bin;
  Mass above;  // weight above it
};

/// The highest bin at which the weight from `above` on reaches `target`; 0 when none does.
static __device__ __forceinline__ FoundBin findBin(Mass above, Mass target,
                                                   const SampleShared& shared) {
  constexpr int perLane = 256 / 32;
  if (threadIdx.x < 32) {
    const int lane = threadIdx.x, first = 255 - perLane * lane;
    Mass own = 0;
    for (int i = 0; i < perLane; ++i) own += shared.bins[first - i];
    Mass sum = own;
    for (int offset = 1; offset < 32; offset <<= 1) {
      const Mass higher = __shfl_up_sync(allLanes, sum, offset);
      if (lane >= offset) sum += higher;
    }
    const uint32_t reached = __ballot_sync(allLanes, above + sum >= target);
    const bool isFirst = (reached & ((2u << lane) - 1)) == 1u << lane;
    if (isFirst || (reached == 0 && lane == 31)) {
      Mass before = above + sum - own;
      int bin = first;
      while (bin > first - perLane + 1 && before + shared.bins[bin] < target) {
        before += shared.bins[bin--];
      }
      shared.found[0] = before;
      shared.found[1] = static_cast<Mass>(bin);
    }
  }
  __syncthreads();
  const FoundBin found = {static_cast<int32_t>(shared.found[1]), shared.found[0]};
  __syncthreads();
  return found;
}

struct Selected {
  uint32_t key;
  Mass above;  // weight of the keys above it
};

/// The largest key such that keys from it upwards weigh at least `target`. Takes off `who`
/// what lies below it, when few are left.
template <typename Weight>
static __device__ __forceinline__ Selected selectKey(const Kept& kept, Candidates& who, Mass target,
                                                     const SampleShared& shared, Weight weight) {
  fillBins(who, shared, [&](int32_t id) { return kept.nearness(id) > 0 ? kept.nearness(id) : -1; },
           weight);
  FoundBin found = findBin(0, target, shared);
  const int32_t nearest = found.bin;
  if (!who.ids) {
    listWanted(who, shared, [&](int32_t id) { return kept.nearness(id) >= nearest && weight(id) > 0; });
  }
  uint32_t low = 0xffffffffu, high = 0;
  for (int32_t i = threadIdx.x; i < who.count; i += sampleThreads) {
    const int32_t id = who.at(i);
    if (kept.nearness(id) != nearest || weight(id) == 0) continue;
    const uint32_t key = keyOf(kept.x[id]);
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  // The inverse of the lowest key is the largest of the inverses.
  low = ~static_cast<uint32_t>(maxRank(static_cast<Mass>(~low), shared));
  high = static_cast<uint32_t>(maxRank(high, shared));
  for (int shift = 32; shift > 0;) {
    shift = 0;
    while ((high - low) >> shift > 255) ++shift;
    fillBins(who, shared, [&](int32_t id) {
      const uint32_t key = keyOf(kept.x[id]);
      return key < low || key > high ? -1 : static_cast<int32_t>((key - low) >> shift);
    }, weight);
    found = findBin(found.above, target, shared);
    low += static_cast<uint32_t>(found.bin) << shift;
    const uint32_t width = (1u << shift) - 1;
    high = high - low > width ? low + width : high;
  }
  return {low, found.above};
}

/// The lowest id whose weight, with that of all lower ids, exceeds `target`; the last id
/// that weighs anything when none does.
template <typename Weight>
static __device__ __forceinline__ int32_t crossingId(const Candidates& who, Mass target,
                                                     const SampleShared& shared, Weight weight) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WarpShare share = ownShare(who.count);
  Mass own = 0;
  for (int32_t i = share.begin + lane; i < share.end; i += 32) own += weight(who.at(i));
  for (int offset = 16; offset > 0; offset >>= 1) own += __shfl_xor_sync(allLanes, own, offset);
  __syncthreads();
  if (lane == 0) shared.masses[warp] = own;
  if (threadIdx.x == 0) shared.found[0] = shared.found[1] = 0;
  __syncthreads();
  Mass before = 0;
  for (int i = 0; i < warp; ++i) before += shared.masses[i];
  if (before <= target && before + own > target) {
    for (int32_t base = share.begin; base < share.end; base += 32) {
      const int32_t i = base + lane;
      Mass sum = i < share.end ? weight(who.at(i)) : 0;
      for (int offset = 1; offset < 32; offset <<= 1) {
        const Mass below = __shfl_up_sync(allLanes, sum, offset);
        if (lane >= offset) sum += below;
      }
      const uint32_t crossed = __ballot_sync(allLanes, before + sum > target);
      if (crossed != 0) {
        // The lowest lane that crossed speaks.
        if (lane == 0 || !(crossed >> (lane - 1) & 1u)) {
          if (crossed >> lane & 1u) shared.found[0] = static_cast<Mass>(who.at(i)) + 1;
        }
        break;
      }
      before += __shfl_sync(allLanes, sum, 31);
    }
  }
  __syncthreads();
  const Mass found = shared.found[0];
  __syncthreads();
  if (found > 0) return static_cast<int32_t>(found - 1);
  Mass last = 0;
  for (int32_t i = threadIdx.x; i < who.count; i += sampleThreads) {
    if (weight(who.at(i)) > 0) last = static_cast<Mass>(who.at(i)) + 1;
  }
  return static_cast<int32_t>(maxRank(last, shared)) - 1;
}

static __device__ __forceinline__ int32_t lastTieOf(const Kept& kept, const Candidates& who, Mass ties,
                                                    const SampleShared& shared) {
  return crossingId(who, ties - 1, shared, [&](int32_t id) -> Mass {
    return keyOf(kept.x[id]) == kept.threshold && kept.isAllowed(id) && id <= kept.lastTie ? 1 : 0;
  });
}

}  // namespace quetzal::cuda
