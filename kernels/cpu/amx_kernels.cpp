#define QUETZAL_AMX_KERNELS amxKernels
#define QUETZAL_AMX_NAME "amx"
#include "amx.inc"
