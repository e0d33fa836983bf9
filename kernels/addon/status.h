// Outcome of an operation: fine, or a message that says action, need and found.
#pragma once
#include <string>

namespace quetzal {

struct [[nodiscard]] Status {
  std::string message;
  bool isOk() const { return message.empty(); }
};

__attribute__((format(printf, 1, 2))) Status failure(const char* format, ...);

#define QUETZAL_TRY(expression)                              \
  do {                                                       \
    if (Status status = (expression); !status.isOk()) return status; \
  } while (false)

}  // namespace quetzal
