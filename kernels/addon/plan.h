// A checked program, as phases that threads work through.
//
// Ops that touch only their own row (embed, norm, add, ...) and follow one another
// become one phase: a thread takes some rows through all of them, without waiting
// in between. Matmuls that do not read one another's results share a phase too.
// Activations share one arena; a tensor holds its place from the phase that first
// writes it to the one that last reads it.
#pragma once
#include <cstdint>
#include <vector>

#include "spec.h"

namespace quetzal {

enum class ItemKind {
  embed,
  rmsNorm,
  add,
  siluMul,
  ropeTable,  // cosines and sines of the step's positions, once per step
  rope,
  kvWrite,
  gather,
  quantize,  // activations to int8, shared by the matmuls that follow
  matmul,
  attention,
  sample,
};

struct Item {
  ItemKind kind;
  int32_t dst = -1, a = -1, b = -1, w0 = -1, w1 = -1;
  int32_t ints[6] = {};
  float floats[3] = {};
  int32_t ropeTable = -1;
};

enum class PhaseKind { rowLocal, matmul, attention, sample };

struct Phase {
  PhaseKind kind;
  RowKind rows;
  std::vector<Item> items;
  /// Of a rowLocal phase: values touched per row, to judge how far to split it.
  int64_t rowWork = 0;
};

/// Rope settings that share cosines and sines.
struct RopeSetting {
  int32_t rotated;
  float base, scale;
  int32_t divisors;
  int64_t offset;  // in floats, into the rope arena
};

struct Plan {
  std::vector<Phase> phases;
  std::vector<int64_t> tensorOffset;  // floats into the arena
  int64_t arenaFloats = 0;
  std::vector<RopeSetting> ropes;
  int64_t ropeFloats = 0;
  int64_t quantCols = 0;       // widest quantized activation
  int64_t headsPerKvHead = 0;  // of the attention ops, at most
  int32_t vocabIn = 0;         // token ids must be below; 0: no embed
  int32_t vocabOut = 0;        // columns of the logits; 0: no sample
  int32_t logits = -1;
  int32_t hidden = -1;         // tensor that steps can give out; -1: none
  std::vector<bool> usedAsMatrix, usedAsVector;  // per weight
};

/// Checks the program against weights and shapes and lays it out.
Status makePlan(const ModelSpec& spec, Plan& plan);

/// Places every tensor in the arena.
void placeTensors(const ModelSpec& spec, Plan& plan);

}  // namespace quetzal
