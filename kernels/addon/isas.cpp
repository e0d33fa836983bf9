#include "model.h"

namespace quetzal {

std::vector<NamedTable> supportedTables() {
  std::vector<NamedTable> tables = {{"ref", &refTable}};
  __builtin_cpu_init();
  const bool hasAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c");
  if (hasAvx2) tables.push_back({"avx2", &avx2Table});
#ifdef QUETZAL_EMULATE
  tables.push_back({"avx512", &avx512Table});
#else
  const bool hasAvx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni");
  if (hasAvx2 && hasAvx512) tables.push_back({"avx512", &avx512Table});
#endif
  return tables;
}

}  // namespace quetzal
