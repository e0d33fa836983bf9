#include <cpuid.h>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

#include "model.h"

namespace quetzal {
namespace {

bool hasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c");
}

bool hasAvx512() {
#ifdef QUETZAL_EMULATE
  return true;
#else
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni");
#endif
}

/// Tiles need the processor and the kernel's leave, which holds for all threads that
/// start afterwards (ARCH_REQ_XCOMP_PERM, Linux 5.16).
bool hasAmx() {
  unsigned a, b, c, d;
  constexpr unsigned tileAndInt8 = 3u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tileAndInt8) != tileAndInt8) return false;
  constexpr long requestPermission = 0x1023, tileData = 18;
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}

KernelTable withAmx(const AmxKernels& amx) {
  KernelTable table = avx512Table;
  table.name = amx.name;
  table.quantizeRows = amx.quantizeRows;
  table.matmulScratchBytes = amx.matmulScratchBytes;
  table.matmul = amx.matmul;
  return table;
}

}  // namespace

std::vector<NamedTable> supportedTables() {
  std::vector<NamedTable> tables = {{"ref", &refTable}};
  __builtin_cpu_init();
  if (!hasAvx2()) return tables;
  // Only for tests, so never the fastest.
  if (hasAvx512() && std::getenv("QUETZAL_EMULATED_ISAS")) {
    static const KernelTable table = withAmx(amxEmulatedKernels);
    tables.push_back({table.name, &table});
  }
  tables.push_back({"avx2", &avx2Table});
  if (hasAvx512()) tables.push_back({"avx512", &avx512Table});
#ifndef QUETZAL_EMULATE
  if (hasAvx512() && hasAmx()) {
    static const KernelTable table = withAmx(amxKernels);
    tables.push_back({table.name, &table});
  }
#endif
  return tables;
}

}  // namespace quetzal
