// The emulation itself: what is wrong must be caught, what is right must pass.
#include "check.h"

namespace quetzal::cuda {
namespace {

struct FaultyArgs {
  float* data;
  int32_t count;
};

struct Wrong {
  const char* kernel;
  const char* why;    // what the report has to say; null: the values differ from the right ones
  unsigned shared;
  float wanted;       // of element 0, when it runs
};

Outcome outcomeOf(Gpu& gpu, const Wrong& wrong, bool isCaught, const std::string& found) {
  const bool shouldPass = std::string(wrong.kernel).starts_with("correct");
  if (isCaught != shouldPass) return {"emulation", wrong.kernel, 0, 0, ""};
  (void)gpu;
  return {"emulation", wrong.kernel, 0, 0, (shouldPass ? "caught: " : "not caught: ") + found};
}

Outcome runWrong(Gpu& gpu, const Wrong& wrong) {
  constexpr int32_t threads = 64;
  bool isCaught = false;
  std::string found;
  for (int order = 0; order < 3; ++order) {
    gpu.setOrder(order, 7);
    Arrays arrays(gpu);
    std::vector<float> data(4 * threads);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
    float* memory = arrays.give(data);
    const FaultyArgs args = {memory, wrong.why && std::string(wrong.kernel) == "faulty_global"
                                         ? 4 * threads
                                         : threads};
    const KernelLaunch shape = {KernelId::addRows, 1, 1, 1, threads, wrong.shared};
    const Result result = gpu.launch(gpu.function(wrong.kernel), shape, &args);
    const std::string fault = result == resultOk ? "" : gpu.takeFault(result);
    found += "[" + fault + "] ";
    if (wrong.why) {
      isCaught = isCaught || fault.find(wrong.why) != std::string::npos;
    } else if (fault.empty()) {
      const auto values = arrays.take(memory, threads);
      const bool isAsync = std::string(wrong.kernel).find("async") != std::string::npos;
      for (int32_t i = 0; i < threads; ++i) {
        const bool isUninitialized = std::string(wrong.kernel) == "faulty_uninitialized";
        const auto wanted = static_cast<float>(
            isUninitialized ? 1 : isAsync ? (i % 4 == 0 ? i + 1 : i) : (i + 1) % threads);
        if (!(values[i] == wanted)) isCaught = true;
      }
    } else {
      isCaught = true;
    }
  }
  return outcomeOf(gpu, wrong, isCaught, found);
}

}  // namespace

std::vector<Outcome> emulationOutcomes(Gpu& gpu) {
  const Wrong all[] = {
      {"correct_barrier", nullptr, 256, 0},
      {"faulty_barrier", nullptr, 256, 0},
      {"correct_async", nullptr, 1024, 0},
      {"faulty_async", nullptr, 1024, 0},
      {"faulty_uninitialized", nullptr, 256, 0},
      {"faulty_global", "illegal address", 0, 0},
      {"faulty_global_before", "illegal address", 0, 0},
      {"faulty_shared", "shared array 0", 512, 0},
      {"faulty_divergence", "different barriers", 0, 0},
      {"faulty_exit", "the others have ended", 0, 0},
      {"faulty_warp", "waits for lanes", 0, 0},
      {"faulty_barrier", "the launch gives 128", 128, 0},
  };
  std::vector<Outcome> outcomes;
  for (const Wrong& wrong : all) outcomes.push_back(runWrong(gpu, wrong));
  return outcomes;
}

}  // namespace quetzal::cuda
