#include "simd_avx512.h"
#define QUETZAL_TABLE avx512Table
#define QUETZAL_TABLE_NAME "avx512"
#include "kernels.inc"
