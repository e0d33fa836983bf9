// All kernels as one unit: nvcc makes build/quetzal.fatbin of it, and g++ the emulated
// library (emulation/fake_cuda.cpp).
#include "attention.cu"
#include "matmul.cu"
#include "measure.cu"
#include "rows.cu"
#include "sampling.cu"
