#include <cmath>

#include "../../ref/twins.h"
#include "inputs.h"

namespace quetzal::cuda {
namespace {

struct Shape {
  int32_t heads, kvHeads, headDim, blockTokens;
  std::vector<int32_t> lengths;  // one entry per row; 0 is padding
  int32_t mode;
};

double runAttention(Arrays& arrays, Random& random, const Shape& s) {
  const auto rows = static_cast<int32_t>(s.lengths.size());
  const int32_t layers = 2, layer = 1;
  // Every row has blocks of its own, scattered, with holes of blocks that nobody owns.
  std::vector<int32_t> begins, tables;
  int32_t needed = 0, splits = 1;
  for (const int32_t length : s.lengths) {
    begins.push_back(needed);
    needed += (length + s.blockTokens - 1) / s.blockTokens;
    if (length > 0) {
      const int32_t per = splitTokensOf(length);
      splits = std::max(splits, (length + per - 1) / per);
    }
  }
  const int32_t blocks = 2 * needed + 3;
  std::vector<int32_t> shuffled(blocks);
  for (int32_t i = 0; i < blocks; ++i) shuffled[i] = i;
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  tables.assign(shuffled.begin(), shuffled.begin() + needed);
  tables.push_back(-1);
  const int64_t layerHalves = int64_t{2} * s.kvHeads * s.blockTokens * s.headDim;
  // NaN wherever no token lives: reading it would show.
  std::vector<uint16_t> pool(blocks * layers * layerHalves, 0xffff);
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t t = 0; t < s.lengths[row]; ++t) {
      const int64_t block = tables[begins[row] + t / s.blockTokens];
      for (int64_t part = 0; part < 2 * s.kvHeads; ++part) {
        uint16_t* at = &pool[block * layers * layerHalves + layer * layerHalves +
                             (part * s.blockTokens + t % s.blockTokens) * s.headDim];
        for (int32_t i = 0; i < s.headDim; ++i) at[i] = f32ToF16(static_cast<float>(normal(random)));
      }
    }
  }
  const int32_t cols = s.heads * s.headDim;
  const auto q = floats(random, int64_t{rows} * cols, 1.5);
  AttentionArgs args = {};
  args.kv = {arrays.give(pool), layers * layerHalves, layerHalves, s.kvHeads, s.headDim, s.blockTokens};
  args.q = arrays.give(q);
  args.dst = arrays.make<float>(int64_t{rows} * cols);
  args.lengths = arrays.give(s.lengths);
  args.tableBegin = arrays.give(begins);
  args.tables = arrays.give(tables);
  args.partial = arrays.make<float>(int64_t{rows} * s.heads * splits * s.headDim);
  args.partialState = arrays.make<float>(int64_t{rows} * s.heads * splits * 2);
  args.x = makePrepared(arrays, rows, cols, s.mode);
  args.rows = rows;
  args.heads = s.heads;
  args.layer = layer;
  args.splits = splits;
  args.scale = 1 / std::sqrt(static_cast<float>(s.headDim));
  launchAndWait(arrays.gpu(), launchOf(args), args);
  launchAndWait(arrays.gpu(), launchOfFinish(args), args);

  const auto found = arrays.take(args.dst, int64_t{rows} * cols);
  double worst = 0;
  for (int32_t row = 0; row < rows; ++row) {
    std::vector<float> wanted(cols, 0.0f);
    for (int32_t kvHead = 0; s.lengths[row] > 0 && kvHead < s.kvHeads; ++kvHead) {
      const int32_t group = s.heads / s.kvHeads;
      const quetzal::AttentionArgs twin = {
          {reinterpret_cast<uint8_t*>(pool.data()), KvType::f16, layers, s.kvHeads, s.headDim,
           s.blockTokens, blocks},
          layer, kvHead, s.heads,
          kvHead * group, (kvHead + 1) * group, &q[int64_t{row} * cols], wanted.data(), 1,
          s.lengths[row] - 1, &tables[begins[row]], args.scale, nullptr};
      ref::attention(&twin);
    }
    for (int32_t i = 0; i < cols; ++i) worst = worse(worst, found[int64_t{row} * cols + i], wanted[i], 1);
  }
  if (s.mode & preparesQuants) {
    const auto values = valuesOf(arrays, args.x, rows, cols, found);
    for (size_t i = 0; i < values.size(); ++i) worst = worse(worst, values[i], found[i], 1e4);
  }
  return worst;
}

std::string nameOf(const Shape& s) {
  std::string lengths;
  for (const int32_t length : s.lengths) lengths += (lengths.empty() ? "" : ", ") + std::to_string(length);
  return std::to_string(s.heads) + "/" + std::to_string(s.kvHeads) + " heads of " +
      std::to_string(s.headDim) + ", blocks of " + std::to_string(s.blockTokens) + ", lengths " + lengths;
}

}  // namespace

std::vector<Case> attentionCases(bool quick) {
  std::vector<Shape> shapes = {
      {1, 1, 32, 16, {1}, 0},
      {4, 4, 64, 16, {1, 17, 0, 40}, preparesQuants},
      {4, 2, 16, 16, {33}, 0},
      {8, 2, 128, 16, {257, 16}, preparesQuants},
      {6, 2, 40, 16, {15, 64}, 0},
      {7, 1, 64, 16, {70}, preparesQuants},
      {16, 2, 64, 16, {100}, preparesHalves},
      {4, 2, 256, 16, {20}, 0},
      {2, 1, 8, 4, {9, 3}, 0},
      {4, 1, 64, 16, {600, 1, 300}, preparesQuants},
      // A prompt's rows: each sees one token more.
      {4, 2, 32, 16, {30, 31, 32, 33, 34, 35}, 0},
  };
  if (!quick) shapes.push_back({4, 1, 64, 16, {8200, 9000}, 0});
  std::vector<Case> cases;
  for (const Shape& shape : shapes) {
    cases.push_back({"attention, attention_finish", nameOf(shape), 2e-5,
                     [shape](Arrays& a, Random& r) { return runAttention(a, r, shape); }});
  }
  return cases;
}

}  // namespace quetzal::cuda
