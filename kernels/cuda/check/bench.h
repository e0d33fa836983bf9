// Measures kernels and whole decode steps; random weights are made on the device.
#pragma once
#include "check.h"

namespace quetzal::cuda {

/// Prints one JSON object; 0 when all could be measured.
int runBench(Gpu& gpu, double secondsMax);

}  // namespace quetzal::cuda
