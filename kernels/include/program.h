// The encoding of programs; lib/engine/program.ts says the same in TypeScript.
#pragma once
#include <cstdint>

namespace quetzal {

/// [opcode, dst, a, b, c, w0, w1, i0..i5, f0, f1, f2]
constexpr int opWords = 16;

enum class Opcode : int32_t {
  embed = 1,
  rmsNorm = 2,
  matmul = 3,
  add = 4,
  rope = 5,
  kvWrite = 6,
  attention = 7,
  siluMul = 8,
  gather = 9,
  sample = 10,
};

/// First dimension of an activation.
enum class RowKind : int32_t { rows = 0, outRows = 1 };

}  // namespace quetzal
