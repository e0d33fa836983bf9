#include "bench.h"
namespace quetzal::cuda { int runBench(Gpu&, double) { return 0; } }
