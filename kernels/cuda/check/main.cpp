// check: runs every CUDA kernel on a GPU or the emulation and compares it with its twin.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../addon/cuda_model.h"
#include "bench.h"
#include "check.h"

namespace quetzal::cuda {
namespace {

struct Flags {
  std::string library = "libcuda.so.1", fatbin = "build/quetzal.fatbin", only;
  uint64_t seed = 1;
  bool quick = false, json = false, bench = false;
  double benchSeconds = 120;
};

const char* help =
    "Compares every CUDA kernel with its plain twin on random inputs.\n"
    "  --library PATH  the driver (default libcuda.so.1), or the emulated one\n"
    "  --fatbin PATH   the kernels (default build/quetzal.fatbin)\n"
    "  --seed N        of the inputs (default 1)\n"
    "  --only TEXT     cases whose kernel or name contains it\n"
    "  --quick         fewer shapes\n"
    "  --bench [S]     measure instead, for at most S seconds (default 120)\n"
    "  --json          results as JSON\n";

bool readFlags(int count, char** values, Flags& flags) {
  for (int i = 1; i < count; ++i) {
    const std::string flag = values[i];
    const bool hasNext = i + 1 < count;
    if (flag == "--quick") flags.quick = true;
    else if (flag == "--json") flags.json = true;
    else if (flag == "--bench") {
      flags.bench = true;
      if (hasNext && values[i + 1][0] != '-') flags.benchSeconds = std::atof(values[++i]);
    } else if (flag == "--library" && hasNext) flags.library = values[++i];
    else if (flag == "--fatbin" && hasNext) flags.fatbin = values[++i];
    else if (flag == "--only" && hasNext) flags.only = values[++i];
    else if (flag == "--seed" && hasNext) flags.seed = std::strtoull(values[++i], nullptr, 10);
    else {
      std::fputs(help, flag == "--help" ? stdout : stderr);
      return false;
    }
  }
  return true;
}

/// All orders of threads must give the same bits, so the worst error is that of each.
Outcome runCase(Gpu& gpu, const Case& one, uint64_t seed) {
  Outcome outcome = {one.kernel, one.name, 0, one.tolerance, ""};
  const int orders = gpu.isEmulated() ? 3 : 1;
  for (int order = 0; order < orders && outcome.fault.empty(); ++order) {
    gpu.setOrder(order, seed);
    Random random(seed);
    try {
      Arrays arrays(gpu);
      const double error = one.run(arrays, random);
      if (order > 0 && error != outcome.error) {
        outcome.fault = "the order of threads changes the result";
      }
      outcome.error = std::fmax(outcome.error, error);
    } catch (const std::exception& problem) {
      outcome.fault = problem.what();
    }
  }
  return outcome;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

void print(const Outcome& outcome, bool json, bool isFirst) {
  if (!json) {
    std::printf("%s %-26s %-60s %.2e of %.0e %s\n", outcome.isOk() ? "ok  " : "FAIL",
                outcome.kernel.c_str(), outcome.name.c_str(), outcome.error, outcome.tolerance,
                outcome.fault.c_str());
    return;
  }
  char error[40];
  std::snprintf(error, sizeof error, "%.6g", outcome.error);
  std::printf("%s\n{\"kernel\": \"%s\", \"case\": \"%s\", \"error\": %s, \"tolerance\": %g, "
              "\"ok\": %s, \"fault\": \"%s\"}", isFirst ? "" : ",", escaped(outcome.kernel).c_str(),
              escaped(outcome.name).c_str(), std::isfinite(outcome.error) ? error : "null",
              outcome.tolerance, outcome.isOk() ? "true" : "false", escaped(outcome.fault).c_str());
  std::fflush(stdout);
}

bool matches(const Flags& flags, const std::string& kernel, const std::string& name) {
  return flags.only.empty() || kernel.find(flags.only) != std::string::npos ||
      name.find(flags.only) != std::string::npos;
}

int runChecks(Gpu& gpu, const Flags& flags) {
  std::vector<Outcome> outcomes;
  if (flags.json) std::printf("{\"device\": \"%s\", \"cases\": [", escaped(gpu.facts().name).c_str());
  const auto tell = [&](const Outcome& outcome) {
    print(outcome, flags.json, outcomes.empty());
    outcomes.push_back(outcome);
  };
  if (gpu.isEmulated()) {
    for (const Outcome& outcome : emulationOutcomes(gpu)) {
      if (matches(flags, outcome.kernel, outcome.name)) tell(outcome);
    }
  }
  uint64_t seed = flags.seed;
  for (const auto& make : {rowCases, matmulCases, attentionCases, samplingCases}) {
    for (const Case& one : make(flags.quick)) {
      ++seed;
      if (matches(flags, one.kernel, one.name)) tell(runCase(gpu, one, seed));
    }
  }
  int faults = 0;
  for (const Outcome& outcome : outcomes) faults += !outcome.isOk();
  if (flags.json) std::printf("\n]}\n");
  else std::printf("%zu cases on %s, %d failed\n", outcomes.size(), gpu.facts().name.c_str(), faults);
  return faults > 0 || outcomes.empty() ? 1 : 0;
}

}  // namespace
}  // namespace quetzal::cuda

int main(int count, char** values) {
  using namespace quetzal::cuda;
  Flags flags;
  if (!readFlags(count, values, flags)) {
    return count > 1 && std::strcmp(values[1], "--help") == 0 ? 0 : 2;
  }
  cudaSetup().library = flags.library;
  cudaSetup().fatbin = flags.fatbin;
  try {
    Gpu gpu(flags.library, flags.fatbin);
    return flags.bench ? runBench(gpu, flags.benchSeconds) : runChecks(gpu, flags);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 3;
  }
}
