// The AMX kernels on machines without AMX, for tests: see supportedTables().
#define QUETZAL_EMULATE_AMX
#define QUETZAL_AMX_KERNELS amxEmulatedKernels
#define QUETZAL_AMX_NAME "amx-emulated"
#include "amx.inc"
