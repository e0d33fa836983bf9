#include "twins.h"

namespace quetzal {

const KernelTable refTable = {
    "ref",          "rows",    1,         ref::packedBytes, ref::pack, ref::embed,
    ref::rmsNorm,   ref::quantizeRows, ref::matmulScratchBytes, ref::matmul, ref::add, ref::siluMul,
    ref::rope,      ref::kvWrite, ref::attention, ref::sample,
};

}  // namespace quetzal
