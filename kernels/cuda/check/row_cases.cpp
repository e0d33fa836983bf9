#include <cmath>

#include "../../ref/twins.h"
#include "inputs.h"

namespace quetzal::cuda {
namespace {

/// Prepared forms against the reference quantizer, and halves against rounding.
double checkPrepared(Arrays& arrays, const Prepared& x, const std::vector<float>& row, int64_t rows,
                     int64_t cols) {
  double worst = 0;
  if (x.mode & preparesQuants) {
    std::vector<int8_t> quants(rows * cols);
    std::vector<float> scales(rows * cols / 32);
    std::vector<int32_t> sums(rows * cols / 16);
    const QuantizeArgs quantize = {row.data(), rows, cols,
                                   {quants.data(), scales.data(), sums.data()}};
    ref::quantizeRows(&quantize, 0, rows);
    const auto foundQuants = arrays.take(x.quants, rows * cols);
    const auto foundScales = arrays.take(x.scales, rows * cols / 32);
    const auto foundSums = arrays.take(x.sums, rows * cols / 16);
    for (int64_t i = 0; i < rows * cols; ++i) {
      worst = worse(worst, foundQuants[i], quants[i], 1);
    }
    for (int64_t i = 0; i < rows * cols / 32; ++i) {
      if (std::isnan(scales[i]) && std::isnan(foundScales[i])) continue;
      worst = worse(worst, foundScales[i], scales[i], 1);
    }
    for (int64_t i = 0; i < rows * cols / 16; ++i) {
      worst = worse(worst, foundSums[i], sums[i], 1);
    }
  }
  if (x.mode & preparesHalves) {
    const auto halves = arrays.take(x.halves, rows * cols);
    const auto scales = arrays.take(x.rowScales, rows);
    for (int64_t i = 0; i < rows; ++i) {
      double largest = 0;
      for (int64_t k = 0; k < cols; ++k) {
        largest = std::fmax(largest, std::fabs(double{row[i * cols + k]}));
      }
      for (int64_t k = 0; k < cols; ++k) {
        const double found = double{scales[i]} * f16ToF32(halves[i * cols + k]);
        // Eleven bits of each value, down to a floor far below the row's largest.
        const double usual = std::fabs(row[i * cols + k]) / 2048 + largest * 1e-7 + 1e-37;
        worst = worse(worst, found, row[i * cols + k], usual * 1e6);
      }
    }
  }
  return worst;
}

double runNorm(Arrays& arrays, Random& random, int32_t rows, int32_t cols, bool hasResidual,
               bool hasWeight, int32_t mode) {
  const auto a = floats(random, int64_t{rows} * cols, 3), b = floats(random, int64_t{rows} * cols);
  const auto weight = floats(random, cols);
  NormArgs args = {};
  args.a = arrays.give(a);
  args.b = hasResidual ? arrays.give(b) : nullptr;
  args.sum = hasResidual ? arrays.make<float>(a.size()) : nullptr;
  args.weight = hasWeight ? arrays.give(weight) : nullptr;
  args.dst = hasWeight ? arrays.make<float>(a.size()) : nullptr;
  args.x = makePrepared(arrays, rows, cols, mode);
  args.rows = rows;
  args.cols = cols;
  args.epsilon = 1e-5f;
  launchAndWait(arrays.gpu(), launchOf(args), args);

  std::vector<float> sum(a), wanted(a.size());
  if (hasResidual) ref::add(a.data(), b.data(), sum.data(), static_cast<int64_t>(a.size()));
  double worst = 0;
  if (hasResidual) {
    const auto found = arrays.take(args.sum, a.size());
    for (size_t i = 0; i < a.size(); ++i) worst = worse(worst, found[i], sum[i], 1);
  }
  if (!hasWeight) return worse(worst, checkPrepared(arrays, args.x, sum, rows, cols), 0, 1);
  ref::rmsNorm(sum.data(), weight.data(), wanted.data(), rows, cols, 1, 1e-5f);
  const auto found = arrays.take(args.dst, a.size());
  for (size_t i = 0; i < a.size(); ++i) worst = worse(worst, found[i], wanted[i], 1);
  return worse(worst, checkPrepared(arrays, args.x, found, rows, cols), 0, 1);
}

double runGroupNorm(Arrays& arrays, Random& random, int32_t rows, int32_t groups, int32_t width) {
  const auto a = floats(random, int64_t{rows} * groups * width), weight = floats(random, width);
  GroupNormArgs args = {arrays.give(a), arrays.give(weight), arrays.make<float>(a.size()), rows,
                        groups * width, groups, 1e-6f};
  launchAndWait(arrays.gpu(), launchOf(args), args);
  std::vector<float> wanted(a.size());
  ref::rmsNorm(a.data(), weight.data(), wanted.data(), rows, int64_t{groups} * width, groups, 1e-6f);
  const auto found = arrays.take(args.dst, a.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = worse(worst, found[i], wanted[i], 1);
  return worst;
}

double runSilu(Arrays& arrays, Random& random, int32_t rows, int32_t cols, int32_t mode) {
  const auto a = floats(random, int64_t{rows} * cols, 4), b = floats(random, int64_t{rows} * cols);
  ElementwiseArgs args = {arrays.give(a), arrays.give(b), arrays.make<float>(a.size()),
                          makePrepared(arrays, rows, cols, mode), rows, cols};
  launchAndWait(arrays.gpu(), launchOf(args), args);
  std::vector<float> wanted(a.size());
  ref::siluMul(a.data(), b.data(), wanted.data(), static_cast<int64_t>(a.size()));
  const auto found = arrays.take(args.dst, a.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = worse(worst, found[i], wanted[i], 1 + std::fabs(wanted[i]));
  return worse(worst, checkPrepared(arrays, args.x, found, rows, cols), 0, 1);
}

double runPrepareOdd(Arrays& arrays, Random& random, int32_t cols) {
  // Zeros, tiny, huge, and rows with something that is no number.
  const int32_t rows = 5;
  auto a = floats(random, rows * cols);
  for (int i = 0; i < cols; ++i) a[i] = 0;
  for (int i = 0; i < cols; ++i) a[cols + i] *= 1e-33f;
  for (int i = 0; i < cols; ++i) a[2 * cols + i] *= 1e30f;
  a[3 * cols + 40] = NAN;
  a[4 * cols + 90] = INFINITY;
  const Prepared x = makePrepared(arrays, rows, cols, preparesQuants | preparesHalves);
  prepare(arrays, arrays.give(a), x, rows, cols);
  const auto scales = arrays.take(x.rowScales, rows);
  if (!std::isnan(scales[3]) || !std::isnan(scales[4])) return INFINITY;
  const Prepared quants = {x.quants, x.scales, x.sums, nullptr, nullptr, preparesQuants};
  const Prepared halves = {nullptr, nullptr, nullptr, x.halves, x.rowScales, preparesHalves};
  // Quants alone are made by blocks that share rows.
  const Prepared alone = makePrepared(arrays, rows, cols, preparesQuants);
  prepare(arrays, arrays.give(a), alone, rows, cols);
  return std::fmax(std::fmax(checkPrepared(arrays, quants, a, rows, cols),
                             checkPrepared(arrays, alone, a, rows, cols)),
                   checkPrepared(arrays, halves, a, 3, cols));
}

double runAddGather(Arrays& arrays, Random& random, int32_t rows, int32_t cols) {
  const auto a = floats(random, int64_t{rows} * cols), b = floats(random, int64_t{rows} * cols);
  const ElementwiseArgs add = {arrays.give(a), arrays.give(b), arrays.make<float>(a.size()), {},
                               rows, cols};
  launchAndWait(arrays.gpu(), perRow(KernelId::addRows, rows), add);
  std::vector<int32_t> index = {rows - 1, -1, 0};
  const GatherArgs gather = {add.dst, arrays.give(index), arrays.make<float>(3 * cols), 3, cols};
  launchAndWait(arrays.gpu(), perRow(KernelId::gatherRows, 3), gather);
  const auto found = arrays.take(gather.dst, 3 * cols);
  double worst = 0;
  for (int32_t i = 0; i < 3; ++i) {
    for (int32_t k = 0; k < cols; ++k) {
      const int64_t from = int64_t{index[i]} * cols + k;
      const float wanted = index[i] < 0 ? 0.0f : a[from] + b[from];
      worst = worse(worst, found[i * cols + k], wanted, 1);
    }
  }
  return worst;
}

double runEmbed(Arrays& arrays, Random& random, int32_t type, int32_t cols) {
  const int32_t vocab = 23;
  const auto file = randomWeight(random, type, vocab, cols);
  std::vector<int32_t> ids = {22, 0, 7, -3, 13, -1, -2};
  const std::vector<int32_t> chosen = {9, -1, 7};
  const auto rows = static_cast<int32_t>(ids.size());
  const EmbedArgs args = {giveMatrix(arrays, type, vocab, cols, file), arrays.give(ids),
                          arrays.give(chosen), arrays.make<float>(int64_t{rows} * cols), rows};
  launchAndWait(arrays.gpu(), perRow(KernelId::embedRows, rows), args);
  ids = {22, 0, 7, 7, 13, 9, 0};
  const auto found = arrays.take(args.dst, int64_t{rows} * cols);
  double worst = 0;
  for (int32_t row = 0; row < rows; ++row) {
    const uint8_t* stored = file.data() + ids[row] * ref::storedRowBytes(type, cols);
    for (int32_t k = 0; k < cols; ++k) {
      worst = worse(worst, found[row * cols + k], ref::storedValue(type, stored, k), 1);
    }
  }
  return worst;
}

struct RopeShape {
  int32_t rows, heads, kvHeads, headDim, rotated, neox;
};

double runRope(Arrays& arrays, Random& random, const RopeShape& s) {
  const int32_t half = s.rotated / 2, layers = 3, layer = 1, blockTokens = 16, blocks = 7;
  std::vector<double> frequencies;
  for (int32_t i = 0; i < half; ++i) frequencies.push_back(std::pow(10000.0, -2.0 * i / s.rotated));
  std::vector<int32_t> positions, block, slot;
  for (int32_t row = 0; row < s.rows; ++row) {
    positions.push_back(row == 0 ? 0 : static_cast<int32_t>(random() % 1000000));
    // The last row is padding unless it is the only one.
    block.push_back(row > 0 && row + 1 == s.rows ? -1 : (row * 3 + 2) % blocks);
    slot.push_back((row * 5 + 1) % blockTokens);
  }
  const RopeTableArgs table = {arrays.give(frequencies), arrays.give(positions),
                               arrays.make<float>(s.rows * half), arrays.make<float>(s.rows * half),
                               s.rows, half};
  launchAndWait(arrays.gpu(), perRow(KernelId::ropeTable, s.rows), table);
  const auto cosines = arrays.take(table.cosines, s.rows * half);
  const auto sines = arrays.take(table.sines, s.rows * half);
  double worst = 0;
  for (int32_t row = 0; row < s.rows; ++row) {
    for (int32_t i = 0; i < half; ++i) {
      const double angle = positions[row] * frequencies[i];
      worst = worse(worst, cosines[row * half + i], std::cos(angle), 1);
      worst = worse(worst, sines[row * half + i], std::sin(angle), 1);
    }
  }

  auto q = floats(random, int64_t{s.rows} * s.heads * s.headDim);
  auto k = floats(random, int64_t{s.rows} * s.kvHeads * s.headDim);
  const auto v = floats(random, int64_t{s.rows} * s.kvHeads * s.headDim);
  const int64_t layerHalves = int64_t{2} * s.kvHeads * blockTokens * s.headDim;
  std::vector<uint16_t> pool(blocks * layers * layerHalves, 0xffff);
  RopeKvArgs args = {};
  args.q = arrays.give(q);
  args.k = arrays.give(k);
  args.v = arrays.give(v);
  args.cosines = table.cosines;
  args.sines = table.sines;
  args.block = arrays.give(block);
  args.slot = arrays.give(slot);
  args.kv = {arrays.give(pool), layers * layerHalves, layerHalves, s.kvHeads, s.headDim, blockTokens};
  args.rows = s.rows;
  args.heads = s.heads;
  args.kHeads = s.kvHeads;
  args.headDim = s.headDim;
  args.rotated = s.rotated;
  args.neox = s.neox;
  args.layer = layer;
  args.writesKv = 1;
  launchAndWait(arrays.gpu(), launchOf(args), args);

  const quetzal::RopeArgs turnQ = {q.data(), cosines.data(), sines.data(), s.rows, s.heads, s.headDim,
                                   s.rotated, s.neox != 0};
  const quetzal::RopeArgs turnK = {k.data(), cosines.data(), sines.data(), s.rows, s.kvHeads,
                                   s.headDim, s.rotated, s.neox != 0};
  ref::rope(&turnQ);
  ref::rope(&turnK);
  const auto foundQ = arrays.take(args.q, q.size());
  for (size_t i = 0; i < q.size(); ++i) worst = worse(worst, foundQ[i], q[i], 1);
  const KvPool twin = {reinterpret_cast<uint8_t*>(pool.data()), KvType::f16, layers, s.kvHeads,
                       s.headDim, blockTokens, blocks};
  const KvWriteArgs write = {twin, layer, k.data(), v.data(), block.data(), slot.data()};
  for (int32_t row = 0; row < s.rows; ++row) {
    if (block[row] >= 0) ref::kvWrite(&write, row, row + 1);
  }
  const auto foundPool = arrays.take(args.kv.pool, pool.size());
  for (size_t i = 0; i < pool.size(); ++i) {
    if (pool[i] == foundPool[i]) continue;
    // What nobody wrote must be untouched; k may differ by a rounding of the turn.
    if (pool[i] == 0xffff || foundPool[i] == 0xffff) return INFINITY;
    worst = worse(worst, f16ToF32(foundPool[i]), f16ToF32(pool[i]), 1000);
  }
  return worst;
}

}  // namespace

std::vector<Case> rowCases(bool quick) {
  std::vector<Case> cases;
  const auto add = [&](const char* kernel, const std::string& name, double tolerance, auto run) {
    cases.push_back({kernel, name, tolerance, run});
  };
  for (const int32_t cols : {32, 64, 288, 2048}) {
    if (quick && cols == 2048) continue;
    for (const int32_t mode : {0, preparesQuants, preparesHalves}) {
      for (const bool residual : {false, true}) {
        add("norm_rows",
            "[3, " + std::to_string(cols) + "]" + (residual ? " + residual" : "") + " mode " +
                std::to_string(mode),
            2e-5, [=](Arrays& a, Random& r) { return runNorm(a, r, 3, cols, residual, true, mode); });
      }
      add("silu_mul", "[2, " + std::to_string(cols) + "] mode " + std::to_string(mode), 1e-6,
          [=](Arrays& a, Random& r) { return runSilu(a, r, 2, cols, mode); });
    }
  }
  add("norm_rows", "[2, 37] without prepared forms", 2e-5,
      [](Arrays& a, Random& r) { return runNorm(a, r, 2, 37, true, true, 0); });
  add("norm_rows", "[4, 64] residual only", 2e-5,
      [](Arrays& a, Random& r) { return runNorm(a, r, 4, 64, true, false, preparesHalves); });
  for (const int32_t cols : {96, 416}) {
    add("prepare", "zeros, tiny, huge, NaN, infinite, [5, " + std::to_string(cols) + "]", 1e-6,
        [=](Arrays& a, Random& r) { return runPrepareOdd(a, r, cols); });
  }
  // Wider than what threads keep in registers.
  if (!quick) {
    constexpr int32_t wide = (rowHeldMax + 1) * wholeRowThreadsMax + 96;
    constexpr int32_t both = preparesQuants | preparesHalves;
    add("norm_rows", "[1, " + std::to_string(wide) + "] + residual", 2e-5,
        [](Arrays& a, Random& r) { return runNorm(a, r, 1, wide, true, true, both); });
    add("silu_mul", "[1, " + std::to_string(wide) + "]", 1e-6,
        [](Arrays& a, Random& r) { return runSilu(a, r, 1, wide, both); });
  }
  for (const int32_t width : {8, 33, 128}) {
    add("norm_groups", "3 rows of 5 groups of " + std::to_string(width), 1e-5,
        [=](Arrays& a, Random& r) { return runGroupNorm(a, r, 3, 5, width); });
  }
  for (const int32_t cols : {5, 64, 300}) {
    add("add_rows, gather_rows", "[4, " + std::to_string(cols) + "]", 0,
        [=](Arrays& a, Random& r) { return runAddGather(a, r, 4, cols); });
  }
  for (const int32_t type : {typeF32, typeF16, typeBF16, typeQ4_0, typeQ8_0, typeQ4_K, typeQ5_K,
                             typeQ6_K}) {
    const int32_t cols = blockOf(type).values == 256 ? 768 : 96;
    add("embed_rows", typeName(type), 1e-7,
        [=](Arrays& a, Random& r) { return runEmbed(a, r, type, cols); });
  }
  for (const RopeShape shape : {RopeShape{1, 1, 1, 32, 32, 0}, RopeShape{3, 4, 2, 64, 64, 1},
                                RopeShape{4, 8, 1, 40, 24, 1}, RopeShape{2, 6, 3, 128, 128, 0}}) {
    add("rope_table, rope_kv",
        std::to_string(shape.rows) + " rows, " + std::to_string(shape.heads) + "/" +
            std::to_string(shape.kvHeads) + " heads of " + std::to_string(shape.headDim) +
            (shape.neox ? " neox" : " norm"),
        // A GPU turns with fused products, which can move k to the next half. That is 2^-8
        // for values between 4 and 8, the largest of a normal distribution, and counts as a
        // thousandth.
        4e-6, [=](Arrays& a, Random& r) { return runRope(a, r, shape); });
  }
  return cases;
}

}  // namespace quetzal::cuda
