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

/// `outRowsBefore`: out rows of the step before that token ids may name (id -1 - i); 0: none.
Status checkBatch(const ModelSpec& spec, const Plan& plan, const StepInput& input,
                  int64_t outRowsBefore = 0);

RowPlaces placeRows(const KvShape& kv, const StepInput& input);

}  // namespace quetzal
