// Time for measuring how long steps take.
#pragma once

#include <chrono>

namespace quetzal {

/// Microseconds of a clock that only goes forward.
inline double nowUs() {
  using Us = std::chrono::duration<double, std::micro>;
  return Us(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace quetzal
