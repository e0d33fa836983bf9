#include <cmath>

#include "inputs.h"

namespace quetzal::cuda {
namespace {

struct Shape {
  int32_t type, rows, cols;
  std::vector<int32_t> outputs;  // one entry per segment
  bool hasBias;
};

double runMatmul(Arrays& arrays, Random& random, const Shape& shape) {
  const auto plain = floats(random, int64_t{shape.rows} * shape.cols);
  std::vector<std::vector<uint8_t>> files;
  std::vector<std::vector<float>> biases;
  MatmulArgs args = {};
  args.a = arrays.give(plain);
  args.rows = shape.rows;
  args.cols = shape.cols;
  for (const int32_t outputs : shape.outputs) {
    files.push_back(randomWeight(random, shape.type, outputs, shape.cols));
    biases.push_back(floats(random, outputs));
    MatmulSegment& segment = args.segment[args.segments++];
    segment.weight = giveMatrix(arrays, shape.type, outputs, shape.cols, files.back());
    segment.bias = shape.hasBias ? arrays.give(biases.back()) : nullptr;
    segment.dst = arrays.make<float>(int64_t{shape.rows} * outputs);
  }
  args.x = makePrepared(arrays, shape.rows, shape.cols,
                        preparationOf(args.segment[0].weight, shape.rows));
  prepare(arrays, args.a, args.x, shape.rows, shape.cols);
  const KernelLaunch launch = launchOf(args);
  launchAndWait(arrays.gpu(), launch, args);

  const auto x = valuesOf(arrays, args.x, shape.rows, shape.cols, plain);
  double worst = 0;
  for (int32_t s = 0; s < args.segments; ++s) {
    const int64_t outputs = shape.outputs[s];
    const auto found = arrays.take(args.segment[s].dst, shape.rows * outputs);
    for (int64_t row = 0; row < shape.rows; ++row) {
      for (int64_t n = 0; n < outputs; ++n) {
        const auto twin = ref::storedProduct(shape.type, files[s].data(), shape.cols, n,
                                             &x[row * shape.cols]);
        const double bias = shape.hasBias ? biases[s][n] : 0;
        worst = worse(worst, found[row * outputs + n], twin.value + bias, twin.norm + 1e-30);
      }
    }
  }
  return worst;
}

Case matmulCase(const Shape& shape) {
  std::string outputs;
  for (const int32_t n : shape.outputs) outputs += (outputs.empty() ? "" : "+") + std::to_string(n);
  const bool isTiled = shape.rows > gemvRowsMax && shape.type != typeF32 && shape.cols % 32 == 0;
  const std::string name = std::string(typeName(shape.type)) + " [" + std::to_string(shape.rows) +
      ", " + std::to_string(shape.cols) + "] x [" + outputs + "]" + (shape.hasBias ? " + bias" : "");
  // Sums in f32 of exact products; tiles also round each weight to eleven bits.
  return {isTiled ? "matmul_tile" : "matmul_gemv", name, isTiled ? 3e-4 : 3e-6,
          [shape](Arrays& arrays, Random& random) { return runMatmul(arrays, random, shape); }};
}

}  // namespace

std::vector<Case> matmulCases(bool quick) {
  std::vector<Case> cases;
  for (const int32_t type : {typeQ4_0, typeQ8_0, typeQ4_K, typeQ5_K, typeQ6_K, typeF16, typeBF16,
                             typeF32}) {
    const int32_t unit = static_cast<int32_t>(std::max<int64_t>(blockOf(type).values, 32));
    for (const int32_t rows : {1, 2, 3, 4, 5, 8, 11, 16, 17, 33}) {
      if (quick && rows != 1 && rows != 4 && rows != 5 && rows != 17) continue;
      // More than one turn of the loop over k, an end that is no whole turn, odd outputs.
      const int32_t cols = unit == 256 ? 256 * (rows % 3 + 3) : 32 * (rows % 5 + 13);
      cases.push_back(matmulCase({type, rows, cols, {rows % 2 == 0 ? 21 : 5}, rows % 4 == 1}));
    }
    cases.push_back(matmulCase({type, 1, unit, {1}, false}));
    cases.push_back(matmulCase({type, 6, unit, {1}, false}));
    cases.push_back(matmulCase({type, 2, 8 * unit, {16, 4, 4}, true}));
    cases.push_back(matmulCase({type, 9, 8 * unit, {33, 8, 8}, false}));
    if (!quick) {
      cases.push_back(matmulCase({type, 1, 4608, {9}, false}));
      cases.push_back(matmulCase({type, 7, 4608, {18}, false}));
    }
  }
  // Columns that are no multiple of 8 or of 32.
  for (const int32_t type : {typeF32, typeF16, typeBF16}) {
    cases.push_back(matmulCase({type, 3, 37, {6}, true}));
    cases.push_back(matmulCase({type, 9, 40, {6}, true}));
  }
  return cases;
}

}  // namespace quetzal::cuda
