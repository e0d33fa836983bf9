// Checks a step's input and works out what the phases need to know about rows.
#pragma once
#include "plan.h"

namespace quetzal {

/// Adjacent rows of one sequence that attention handles together.
struct RowTile {
  int32_t firstRow, rows;
  int64_t kvBefore;
  int64_t tableBegin;  // in StepInput::blockTables
};

struct RowPlaces {
  std::vector<int32_t> block, slot;  // where each row's k and v go
  std::vector<RowTile> tiles;
};

Status checkBatch(const ModelSpec& spec, const Plan& plan, const StepInput& input);

RowPlaces placeRows(const KvShape& kv, const StepInput& input);

}  // namespace quetzal
