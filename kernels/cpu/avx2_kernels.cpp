#include "simd_avx2.h"
#define QUETZAL_TABLE avx2Table
#define QUETZAL_TABLE_NAME "avx2"
#include "kernels.inc"
