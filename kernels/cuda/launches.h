// How each kernel is launched: the shapes that the host derives from the arguments.
#pragma once
#include <algorithm>
#include <array>

#include "kernel_args.h"

namespace quetzal::cuda {

enum class KernelId : int {
  matmulGemv1, matmulGemv2, matmulGemv4, matmulTile8, matmulTile16, matmulTile32,
  normRows, normGroups, siluMul, addRows, gatherRows, embedRows, ropeTable, ropeKv,
  attention1, attention2, attention4, attentionFinish, sampleScan, sampleRows,
  verifyDrafts,
  copyBytes, fillRandom, tensorPeak,
};

/// In the order of KernelId: names in the fat binary.
constexpr std::array<const char*, 24> kernelNames = {
    "matmul_gemv_1", "matmul_gemv_2", "matmul_gemv_4", "matmul_tile_8", "matmul_tile_16",
    "matmul_tile_32", "norm_rows", "norm_groups", "silu_mul", "add_rows", "gather_rows",
    "embed_rows", "rope_table", "rope_kv", "attention_1", "attention_2", "attention_4",
    "attention_finish", "sample_scan", "sample_rows", "verify_drafts", "copy_bytes",
    "fill_random", "tensor_peak"};

struct KernelLaunch {
  KernelId kernel;
  unsigned gridX, gridY, gridZ, threads, sharedBytes;
};

static inline unsigned roundUp16(uint64_t bytes) {
  return static_cast<unsigned>((bytes + 15) / 16 * 16);
}

/// One block for each row.
static inline KernelLaunch perRow(KernelId kernel, int32_t rows) {
  return {kernel, static_cast<unsigned>(rows), 1, 1, static_cast<unsigned>(rowThreads), 0};
}

constexpr unsigned wholeRowSharedBytes = wholeRowThreadsMax / 32 * 4;

/// One block for each row, of as many threads as the row has columns, as far as that goes:
/// a power of two, which sums over the block need.
static inline KernelLaunch wholeRows(KernelId kernel, int32_t rows, int32_t cols) {
  int32_t threads = 32;
  while (threads < cols && threads < wholeRowThreadsMax) threads *= 2;
  return {kernel, 1, static_cast<unsigned>(rows), 1, static_cast<unsigned>(threads),
          wholeRowSharedBytes};
}

/// Columns spread over many blocks, so that one row alone uses many multiprocessors. Not
/// when halves are made: they need the largest value of the row.
static inline KernelLaunch spreadRows(KernelId kernel, int32_t rows, int32_t cols, int32_t mode) {
  if ((mode & preparesHalves) || cols <= spreadThreads) return wholeRows(kernel, rows, cols);
  return {kernel, static_cast<unsigned>((cols + spreadThreads - 1) / spreadThreads),
          static_cast<unsigned>(rows), 1, static_cast<unsigned>(spreadThreads),
          wholeRowSharedBytes};
}

static inline bool isPlainType(int32_t type) {
  return type == typeF32 || type == typeF16 || type == typeBF16;
}

/// Whether tensor cores can take the weight: halves in whole chunks of 32.
static inline bool fitsTiles(const DeviceMatrix& weight) {
  return weight.type != typeF32 && weight.cols % 32 == 0;
}

/// What a matmul of `rows` activations with this weight wants prepared.
static inline int32_t preparationOf(const DeviceMatrix& weight, int32_t rows) {
  if (rows > gemvRowsMax && fitsTiles(weight)) return preparesHalves;
  return isPlainType(weight.type) ? 0 : preparesQuants;
}

/// Chooses the kernel by the rows and hands each segment its blocks. All segments must
/// want the same preparation.
static inline KernelLaunch launchOf(MatmulArgs& args) {
  const bool isTiled = preparationOf(args.segment[0].weight, args.rows) == preparesHalves;
  int32_t blocks = 0;
  for (int32_t i = 0; i < args.segments; ++i) {
    args.segment[i].firstBlock = blocks;
    const int32_t per = isTiled ? tileBlockRows : gemvBlockRows;
    blocks += (args.segment[i].weight.rows + per - 1) / per;
  }
  const int32_t r = args.rows;
  const int32_t together = isTiled ? (r <= 8 ? 8 : r <= 16 ? 16 : 32) : (r <= 1 ? 1 : r <= 2 ? 2 : 4);
  const KernelId kernel = isTiled
      ? (together == 8 ? KernelId::matmulTile8
                       : together == 16 ? KernelId::matmulTile16 : KernelId::matmulTile32)
      : (together == 1 ? KernelId::matmulGemv1
                       : together == 2 ? KernelId::matmulGemv2 : KernelId::matmulGemv4);
  const unsigned shared = isTiled ? tileThreads / 32 * together * tileBlockRows * 4 : 0;
  return {kernel, static_cast<unsigned>(blocks), static_cast<unsigned>((r + together - 1) / together),
          1, isTiled ? static_cast<unsigned>(tileThreads) : static_cast<unsigned>(gemvThreads),
          shared};
}

static inline KernelLaunch launchOf(const GroupNormArgs& args) {
  const int64_t groups = static_cast<int64_t>(args.rows) * args.groups;
  constexpr int32_t perBlock = rowThreads / 32;
  return {KernelId::normGroups, static_cast<unsigned>((groups + perBlock - 1) / perBlock), 1, 1,
          static_cast<unsigned>(rowThreads), 0};
}

static inline KernelLaunch launchOf(const NormArgs& args) {
  return wholeRows(KernelId::normRows, args.rows, args.cols);
}

/// silu_mul, which also prepares alone.
static inline KernelLaunch launchOf(const ElementwiseArgs& args) {
  return spreadRows(KernelId::siluMul, args.rows, args.cols, args.x.mode);
}

static inline KernelLaunch launchOf(const RopeKvArgs& args) {
  const int32_t heads = (args.q ? args.heads : 0) + (args.k ? args.kHeads : 0);
  return {KernelId::ropeKv, static_cast<unsigned>(heads), static_cast<unsigned>(args.rows), 1,
          static_cast<unsigned>(ropeThreads), 0};
}

/// attention_finish, behind the splits.
static inline KernelLaunch launchOfFinish(const AttentionArgs& args) {
  return spreadRows(KernelId::attentionFinish, args.rows, args.heads * args.kv.headDim, args.x.mode);
}

static inline KernelLaunch launchOf(const AttentionArgs& args) {
  const int32_t perKv = args.heads / args.kv.kvHeads;
  const int32_t queries = perKv == 1 ? 1 : perKv == 2 ? 2 : 4;
  int32_t lanes = 1;
  while (lanes * 8 < args.kv.headDim) lanes *= 2;
  const int32_t groups = attentionThreads / lanes;
  const KernelId kernel = queries == 1 ? KernelId::attention1
      : queries == 2                   ? KernelId::attention2
                                       : KernelId::attention4;
  return {kernel, static_cast<unsigned>(args.kv.kvHeads * ((perKv + queries - 1) / queries)),
          static_cast<unsigned>(args.rows), static_cast<unsigned>(args.splits),
          static_cast<unsigned>(attentionThreads),
          roundUp16(uint64_t{4} * groups * queries * args.kv.headDim) +
              roundUp16(uint64_t{8} * groups * queries)};
}

/// sample_scan, before sample_rows.
static inline KernelLaunch launchOfScan(const SampleArgs& args) {
  constexpr unsigned warps = scanThreads / 32;
  return {KernelId::sampleScan, static_cast<unsigned>(scanPartsOf(args.vocab)),
          static_cast<unsigned>(args.rows), 1, static_cast<unsigned>(scanThreads),
          roundUp16(warps * 4) + 2 * roundUp16(warps * 8)};
}

static inline KernelLaunch launchOf(const SampleArgs& args) {
  constexpr unsigned warps = sampleThreads / 32;
  return {KernelId::sampleRows, static_cast<unsigned>(args.rows), 1, 1,
          static_cast<unsigned>(sampleThreads),
          roundUp16(warps * 4) + 2 * roundUp16(warps * 8) + sampleBinCopies * 256 * 8 + 16 +
              sampleListMax * 4};
}

static inline KernelLaunch launchOf(const VerifyArgs& args) {
  return {KernelId::verifyDrafts, static_cast<unsigned>(args.sequences), 1, 1, 32, 0};
}

}  // namespace quetzal::cuda
