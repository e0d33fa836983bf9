#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "../../addon/model.h"
#include "inputs.h"

namespace quetzal::cuda {
namespace {

using Clock = std::chrono::steady_clock;

/// Weights are read in turn from so many bytes that none is still in the cache.
constexpr uint64_t coldBytes = uint64_t{320} << 20;

class Bench {
 public:
  Bench(Gpu& gpu, double secondsMax)
      : gpu_(gpu), end_(Clock::now() + std::chrono::milliseconds(int64_t(secondsMax * 1000))) {
    gpu.api().eventCreate(&begin_, 0);
    gpu.api().eventCreate(&stop_, 0);
  }
  ~Bench() {
    gpu_.api().eventDestroy(begin_);
    gpu_.api().eventDestroy(stop_);
  }

  void run() {
    std::printf("{\"device\": \"%s\", \"emulated\": %s", gpu_.facts().name.c_str(),
                gpu_.isEmulated() ? "true" : "false");
    measureCopy();
    measureTensorCores();
    std::printf(",\n\"kernels\": [");
    isFirst_ = true;
    measureProducts();
    measureAttention();
    measureRows();
    measureSampling();
    std::printf("],\n\"models\": [");
    isFirst_ = true;
    measureModels();
    std::printf("]}\n");
  }

 private:
  bool isOver() const { return Clock::now() > end_; }
  /// The emulation is only to run the code: its shapes are tiny.
  int64_t scaled(int64_t value, int64_t tiny) const { return gpu_.isEmulated() ? tiny : value; }

  void must(Result result) {
    if (result != resultOk) throw std::runtime_error(gpu_.takeFault(result));
  }

  /// Median microseconds of a `launch(i)`, for i in turn. They are replayed as a graph, as in
  /// a step: launched one by one, most kernels are shorter than what the host needs.
  template <typename Launch>
  double medianUs(int perTurn, Launch launch) {
    constexpr int launchesMin = 40, samples = 9, threadLocal = 1;
    const int turns = (launchesMin + perTurn - 1) / perTurn;
    const int count = gpu_.isEmulated() ? 1 : perTurn * turns;
    const Api& api = gpu_.api();
    Handle captured = nullptr, graph = nullptr;
    must(api.captureBegin(gpu_.stream(), threadLocal));
    isFirstLaunch_ = true;
    for (int i = 0; i < count; ++i) launch(i % perTurn);
    must(api.captureEnd(gpu_.stream(), &captured));
    must(api.graphInstantiate(&graph, captured, 0));
    must(api.graphDestroy(captured));
    must(api.graphLaunch(graph, gpu_.stream()));
    must(gpu_.finish());
    std::vector<double> us;
    for (int sample = 0; sample < (gpu_.isEmulated() ? 1 : samples); ++sample) {
      must(api.eventRecord(begin_, gpu_.stream()));
      must(api.graphLaunch(graph, gpu_.stream()));
      must(api.eventRecord(stop_, gpu_.stream()));
      must(gpu_.finish());
      float ms = 0;
      must(api.eventElapsed(&ms, begin_, stop_));
      us.push_back(double{ms} * 1000 / count);
    }
    must(api.graphExecDestroy(graph));
    std::sort(us.begin(), us.end());
    return std::max(us[us.size() / 2], 1e-3);
  }

  template <typename Args>
  void start(const KernelLaunch& shape, const Args& args) {
    const Handle function = gpu_.function(kernelNames[static_cast<int>(shape.kernel)]);
    must(gpu_.launch(function, shape, &args, !isFirstLaunch_));
    isFirstLaunch_ = false;
  }

  void measureCopy() {
    Arrays arrays(gpu_);
    const int64_t bytes = scaled(int64_t{1} << 30, 1 << 14);
    const CopyArgs args = {arrays.make<uint8_t>(bytes), arrays.make<uint8_t>(bytes), bytes};
    const auto blocks = static_cast<unsigned>(gpu_.facts().multiprocessors * 16);
    const KernelLaunch shape = {KernelId::copyBytes, blocks, 1, 1, 256, 0};
    const double us = medianUs(4, [&](int) { start(shape, args); });
    copyBytesPerUs_ = 2.0 * static_cast<double>(bytes) / us;
    std::printf(",\n\"copy_tb_s\": %.3f", copyBytesPerUs_ / 1e6);
  }

  void measureTensorCores() {
    Arrays arrays(gpu_);
    const auto blocks = static_cast<unsigned>(scaled(gpu_.facts().multiprocessors * 4, 1));
    const PeakArgs args = {arrays.make<float>(uint64_t{blocks} * 256),
                           static_cast<int32_t>(scaled(4096, 1))};
    const KernelLaunch shape = {KernelId::tensorPeak, blocks, 1, 1, 256, 0};
    const double us = medianUs(3, [&](int) { start(shape, args); });
    const double operations = 2.0 * 16 * 8 * 16 * peakTilesPerRound * args.rounds * 8.0 * blocks;
    std::printf(",\n\"f16_mma_sync_tflops\": %.1f", operations / us / 1e6);
  }

  void tell(const std::string& kernel, const std::string& shape, double bytes, double us) {
    std::printf("%s\n{\"kernel\": \"%s\", \"shape\": \"%s\", \"us\": %.2f, \"gb_s\": %.1f, "
                "\"of_copy\": %.3f}", isFirst_ ? "" : ",", kernel.c_str(), shape.c_str(), us,
                bytes / us / 1e3, bytes / us / copyBytesPerUs_);
    std::fflush(stdout);
    isFirst_ = false;
  }

  void fillRandom(uint8_t* dst, int64_t words, int64_t stride, uint32_t andMask, uint32_t orMask) {
    if (words == 0) return;
    const FillArgs args = {dst, words, stride, ++seed_, andMask, orMask};
    const auto blocks = static_cast<unsigned>(std::clamp<int64_t>(words / 256, 1, 4096));
    isFirstLaunch_ = true;
    start({KernelId::fillRandom, blocks, 1, 1, 256, 0}, args);
  }

  /// Any quants, scales of about a thousandth.
  void fillMatrix(const DeviceMatrix& m, const DeviceBytes& bytes) {
    auto* quants = const_cast<uint8_t*>(m.quants);
    const auto words = static_cast<int64_t>(bytes.quants / 4);
    const int64_t blocks = int64_t{m.rows} * (m.cols / blockOf(m.type).values);
    switch (m.type) {
      case typeBF16: fillRandom(quants, words, 1, 0x807f807fu, 0x3c803c80u); break;
      case typeF16: fillRandom(quants, words, 1, 0x83ff83ffu, 0x24002400u); break;
      default: fillRandom(quants, words, 1, ~0u, 0);
    }
    if (m.type == typeQ4_K) fillRandom(quants, blocks, 36, 0x83ff83ffu, 0x0c000c00u);
    if (m.type == typeQ5_K) fillRandom(quants, blocks, 44, 0x83ff83ffu, 0x0c000c00u);
    if (m.scales) {
      fillRandom(const_cast<uint8_t*>(m.scales), static_cast<int64_t>(bytes.scales / 4), 1,
                 0x83ff83ffu, 0x14001400u);
    }
  }

  DeviceMatrix randomMatrix(Arrays& arrays, int32_t type, int32_t rows, int32_t cols) {
    const DeviceBytes bytes = deviceBytes(type, rows, cols);
    const DeviceMatrix m = {arrays.make<uint8_t>(bytes.quants),
                            bytes.scales > 0 ? arrays.make<uint8_t>(bytes.scales) : nullptr, type,
                            rows, cols};
    fillMatrix(m, bytes);
    return m;
  }

  void measureProduct(int32_t type, int32_t batch, int32_t rows, int32_t cols) {
    Arrays arrays(gpu_);
    const DeviceBytes bytes = deviceBytes(type, rows, cols);
    const uint64_t each = bytes.quants + bytes.scales;
    const auto copies = static_cast<int>(scaled(static_cast<int64_t>(coldBytes / each) + 2, 1));
    std::vector<MatmulArgs> args(copies);
    KernelLaunch shape = {};
    const std::vector<float> ones(int64_t{batch} * cols, 0.5f);
    const float* a = arrays.give(ones);
    float* dst = arrays.make<float>(int64_t{batch} * rows);
    Prepared x = {};
    for (int i = 0; i < copies; ++i) {
      args[i] = {};
      args[i].a = a;
      args[i].rows = batch;
      args[i].cols = cols;
      args[i].segments = 1;
      args[i].segment[0] = {randomMatrix(arrays, type, rows, cols), nullptr, dst, 0};
      if (i == 0) {
        x = makePrepared(arrays, batch, cols, preparationOf(args[0].segment[0].weight, batch));
        prepare(arrays, a, x, batch, cols);
      }
      args[i].x = x;
      shape = launchOf(args[i]);
    }
    const double us = medianUs(copies, [&](int i) { start(shape, args[i]); });
    tell(std::string(kernelNames[static_cast<int>(shape.kernel)]) + " " + typeName(type),
         "[" + std::to_string(batch) + ", " + std::to_string(cols) + "] x " + std::to_string(rows),
         static_cast<double>(each), us);
  }

  void measureProducts() {
    const auto unit = static_cast<int32_t>(scaled(4096, 512));
    for (const int32_t type : {typeQ4_K, typeQ6_K, typeQ5_K, typeQ4_0, typeQ8_0, typeBF16, typeF16}) {
      for (const int32_t batch : {1, 4, 8, 16, 32}) {
        if (isOver()) return;
        measureProduct(type, batch, static_cast<int32_t>(scaled(14336, 32)), unit);
      }
      if (isOver()) return;
      measureProduct(type, 1, unit, static_cast<int32_t>(scaled(14336, 512)));
      measureProduct(type, 1, static_cast<int32_t>(scaled(1024, 16)), unit);
    }
  }

  void measureAttention() {
    for (const int32_t batch : {1, 8, 32}) {
      for (const int32_t length : {1024, 8192}) {
        if (isOver()) return;
        measureAttention(batch, static_cast<int32_t>(scaled(length, length / 128)));
      }
    }
  }

  void measureAttention(int32_t batch, int32_t length) {
    Arrays arrays(gpu_);
    const int32_t heads = 32, kvHeads = 8, headDim = 128, blockTokens = 16;
    const int32_t perRow = (length + blockTokens - 1) / blockTokens;
    const int64_t layerHalves = int64_t{2} * kvHeads * blockTokens * headDim;
    // One layer after another, as a model reads them.
    const uint64_t layerBytes = static_cast<uint64_t>(batch) * perRow * layerHalves * 2;
    const auto layers = static_cast<int32_t>(scaled(static_cast<int64_t>(coldBytes / layerBytes) + 2, 1));
    AttentionArgs args = {};
    args.kv = {arrays.make<uint16_t>(layers * layerBytes / 2), layers * layerHalves, layerHalves,
               kvHeads, headDim, blockTokens};
    fillRandom(reinterpret_cast<uint8_t*>(args.kv.pool), static_cast<int64_t>(layers * layerBytes / 4),
               1, 0x83ff83ffu, 0x34003400u);
    std::vector<int32_t> lengths(batch, length), begins, tables(int64_t{batch} * perRow);
    for (int32_t i = 0; i < batch; ++i) begins.push_back(i * perRow);
    for (size_t i = 0; i < tables.size(); ++i) tables[i] = static_cast<int32_t>(i);
    const int32_t per = splitTokensOf(length);
    args.splits = (length + per - 1) / per;
    const int64_t cols = int64_t{heads} * headDim;
    args.q = arrays.give(std::vector<float>(batch * cols, 0.1f));
    args.dst = arrays.make<float>(batch * cols);
    args.lengths = arrays.give(lengths);
    args.tableBegin = arrays.give(begins);
    args.tables = arrays.give(tables);
    args.partial = arrays.make<float>(batch * cols * args.splits);
    args.partialState = arrays.make<float>(int64_t{batch} * heads * args.splits * 2);
    args.rows = batch;
    args.heads = heads;
    args.scale = 0.09f;
    const double us = medianUs(layers, [&](int i) {
      args.layer = i;
      start(launchOf(args), args);
      start(launchOfFinish(args), args);
    });
    tell("attention + attention_finish", "batch " + std::to_string(batch) + ", context " +
         std::to_string(length) + ", 32/8 heads of 128", static_cast<double>(layerBytes), us);
  }

  // --- kernels that move little: of these the time counts ---

  void measureRows() {
    for (const int32_t rows : {1, 16}) {
      if (isOver()) return;
      Arrays arrays(gpu_);
      const auto cols = static_cast<int32_t>(scaled(4096, 256));
      const auto wide = static_cast<int32_t>(scaled(14336, 512));
      const int32_t mode = rows > gemvRowsMax ? preparesHalves : preparesQuants;
      const auto values = [&](int32_t width) {
        return arrays.give(std::vector<float>(int64_t{rows} * width, 0.5f));
      };
      const auto tellRows = [&](const char* kernel, int32_t width, double bytesPerValue, double us) {
        tell(kernel, "[" + std::to_string(rows) + ", " + std::to_string(width) + "]",
             bytesPerValue * rows * width, us);
      };
      const double prepared = rows > gemvRowsMax ? 2 : 1;

      const NormArgs norm = {values(cols), values(cols), arrays.make<float>(int64_t{rows} * cols),
                             values(cols), arrays.make<float>(int64_t{rows} * cols),
                             makePrepared(arrays, rows, cols, mode), rows, cols, 1e-5f};
      tellRows("norm_rows", cols, 16 + prepared,
               medianUs(1, [&](int) { start(launchOf(norm), norm); }));

      const ElementwiseArgs silu = {values(wide), values(wide),
                                    arrays.make<float>(int64_t{rows} * wide),
                                    makePrepared(arrays, rows, wide, mode), rows, wide};
      tellRows("silu_mul", wide, 12 + prepared,
               medianUs(1, [&](int) { start(launchOf(silu), silu); }));

      const auto vocab = static_cast<int32_t>(scaled(128256, 32));
      const EmbedArgs embed = {randomMatrix(arrays, typeQ4_K, vocab, cols),
                               arrays.give(std::vector<int32_t>(rows, 7)), nullptr,
                               arrays.make<float>(int64_t{rows} * cols), rows};
      tellRows("embed_rows Q4_K", cols, 4.5625,
               medianUs(1, [&](int) { start(perRow(KernelId::embedRows, rows), embed); }));
      measureRope(arrays, rows);
    }
  }

  void measureRope(Arrays& arrays, int32_t rows) {
    const int32_t heads = 32, kvHeads = 8, headDim = static_cast<int32_t>(scaled(128, 32)),
                  blockTokens = 16, cols = (heads + 2 * kvHeads) * headDim;
    const int64_t layerHalves = int64_t{2} * kvHeads * blockTokens * headDim;
    const auto zeros = [&](int64_t count) { return arrays.give(std::vector<float>(count, 0.0f)); };
    RopeKvArgs args = {};
    args.q = zeros(int64_t{rows} * heads * headDim);
    args.k = zeros(int64_t{rows} * kvHeads * headDim);
    args.v = zeros(int64_t{rows} * kvHeads * headDim);
    args.cosines = zeros(int64_t{rows} * headDim / 2);
    args.sines = zeros(int64_t{rows} * headDim / 2);
    args.block = arrays.give(std::vector<int32_t>(rows, 0));
    std::vector<int32_t> slots(rows);
    for (int32_t i = 0; i < rows; ++i) slots[i] = i % blockTokens;
    args.slot = arrays.give(slots);
    args.kv = {arrays.make<uint16_t>(layerHalves), layerHalves, layerHalves, kvHeads, headDim,
               blockTokens};
    args.rows = rows;
    args.heads = heads;
    args.kHeads = kvHeads;
    args.headDim = args.rotated = headDim;
    args.writesKv = 1;
    const double us = medianUs(1, [&](int) { start(launchOf(args), args); });
    tell("rope_kv", "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]",
         8.0 * rows * cols, us);
  }

  void measureSampling() {
    const auto vocab = static_cast<int32_t>(scaled(128256, 2100));
    for (const int32_t rows : {1, 32}) {
      if (gpu_.isEmulated() && rows > 1) return;
      for (const bool isGreedy : {true, false}) {
        if (isOver()) return;
        Arrays arrays(gpu_);
        Random random(7);
        SampleArgs args = {};
        args.logits = arrays.give(floats(random, int64_t{rows} * vocab, 3));
        std::vector<int32_t> ints;
        std::vector<float> numbers;
        for (int32_t i = 0; i < rows; ++i) {
          ints.insert(ints.end(), {isGreedy ? 0 : 40, -1, i, 0, 0, 0, 0, 0, 0, 0});
          numbers.insert(numbers.end(), {isGreedy ? 0.0f : 0.8f, isGreedy ? 1.0f : 0.9f, 0, 0, 0, 1,
                                         -INFINITY});
        }
        args.ints = arrays.give(ints);
        args.floats = arrays.give(numbers);
        args.tables = arrays.give(std::vector<int32_t>(1, 0));
        args.parts = arrays.make<SamplePart>(int64_t{rows} * scanPartsOf(vocab));
        args.adjusted = arrays.make<float>(int64_t{rows} * vocab);
        args.tokens = arrays.make<int32_t>(rows);
        args.logprobs = arrays.make<float>(rows);
        args.topIds = arrays.make<int32_t>(int64_t{rows} * sampleTopMax);
        args.topLogprobs = arrays.make<float>(int64_t{rows} * sampleTopMax);
        args.statuses = arrays.make<int32_t>(rows);
        args.rows = rows;
        args.vocab = vocab;
        const double us = medianUs(1, [&](int) {
          start(launchOfScan(args), args);
          start(launchOf(args), args);
        });
        tell(isGreedy ? "sample_scan + sample_rows, greedy" : "sample_scan + sample_rows, top-k 40, top-p 0.9",
             "[" + std::to_string(rows) + ", " + std::to_string(vocab) + "]", 4.0 * rows * vocab, us);
      }
    }
  }

  // --- whole models ---

  struct Llama {
    const char* name;
    int32_t width, layers, feedForward, heads, kvHeads, headDim, vocab;
    int32_t type, outputType;  // ggml ids
    const char* typeName;
  };

  static void push(ModelSpec& spec, Opcode code, std::vector<int32_t> ids, std::vector<int32_t> ints = {},
                   std::vector<float> floats = {}) {
    std::vector<int32_t> words(opWords, -1);
    words[0] = static_cast<int32_t>(code);
    const int places[] = {1, 2, 3, 5, 6};  // dst, a, b, w0, w1
    for (size_t i = 0; i < ids.size(); ++i) words[places[i]] = ids[i];
    for (size_t i = 0; i < ints.size(); ++i) words[7 + i] = ints[i];
    for (size_t i = 0; i < floats.size(); ++i) std::memcpy(&words[13 + i], &floats[i], 4);
    spec.ops.insert(spec.ops.end(), words.begin(), words.end());
  }

  static int32_t weight(ModelSpec& spec, int32_t type, int64_t rows, int64_t cols) {
    spec.weights.push_back({"w" + std::to_string(spec.weights.size()), type, cols, rows, 0,
                            rows * ref::storedRowBytes(type, cols)});
    return static_cast<int32_t>(spec.weights.size()) - 1;
  }

  static int32_t tensor(ModelSpec& spec, int32_t kind, int32_t cols) {
    spec.tensors.push_back({kind, cols});
    return static_cast<int32_t>(spec.tensors.size()) - 1;
  }

  static ModelSpec llamaSpec(const Llama& s, int32_t batch, int64_t blocks) {
    ModelSpec spec = {};
    spec.isa = "cuda";
    spec.threads = 4;
    spec.rowsMax = batch;
    spec.outRowsMax = batch;
    spec.kv = {s.layers, s.kvHeads, s.headDim, 16, blocks};
    const auto t = [&](int32_t cols) { return tensor(spec, 0, cols); };
    const auto norm = [&] { return weight(spec, typeF32, 1, s.width); };
    const int32_t qCols = s.heads * s.headDim, kCols = s.kvHeads * s.headDim;
    const int32_t x = t(s.width), normed = t(s.width), q = t(qCols), k = t(kCols), v = t(kCols),
                  mixed = t(qCols), delta = t(s.width), gate = t(s.feedForward), up = t(s.feedForward);
    const auto product = [&](int32_t dst, int32_t a, int32_t rows, int32_t cols) {
      push(spec, Opcode::matmul, {dst, a, -1, weight(spec, s.type, rows, cols)});
    };
    push(spec, Opcode::embed, {x, -1, -1, weight(spec, s.type, s.vocab, s.width)});
    for (int32_t layer = 0; layer < s.layers; ++layer) {
      push(spec, Opcode::rmsNorm, {normed, x, -1, norm()}, {1}, {1e-5f});
      product(q, normed, qCols, s.width);
      product(k, normed, kCols, s.width);
      product(v, normed, kCols, s.width);
      push(spec, Opcode::rope, {q}, {s.heads, s.headDim, s.headDim, 0}, {500000.0f, 1.0f});
      push(spec, Opcode::rope, {k}, {s.kvHeads, s.headDim, s.headDim, 0}, {500000.0f, 1.0f});
      push(spec, Opcode::kvWrite, {-1, k, v}, {layer});
      push(spec, Opcode::attention, {mixed, q}, {layer, s.heads},
           {1 / std::sqrt(static_cast<float>(s.headDim))});
      product(delta, mixed, s.width, qCols);
      push(spec, Opcode::add, {x, x, delta});
      push(spec, Opcode::rmsNorm, {normed, x, -1, norm()}, {1}, {1e-5f});
      product(gate, normed, s.feedForward, s.width);
      product(up, normed, s.feedForward, s.width);
      push(spec, Opcode::siluMul, {gate, gate, up});
      product(delta, gate, s.width, s.feedForward);
      push(spec, Opcode::add, {x, x, delta});
    }
    const int32_t last = tensor(spec, 1, s.width), logits = tensor(spec, 1, s.vocab);
    push(spec, Opcode::gather, {last, x});
    push(spec, Opcode::rmsNorm, {last, last, -1, norm()}, {1}, {1e-5f});
    push(spec, Opcode::matmul, {logits, last, -1, weight(spec, s.outputType, s.vocab, s.width)});
    push(spec, Opcode::sample, {-1, logits});
    return spec;
  }

  static StepInput decodeInput(int32_t batch, int32_t context) {
    StepInput in = {};
    in.rows = in.sequences = in.outRows = batch;
    const int32_t perRow = context / 16;
    for (int32_t i = 0; i < batch; ++i) {
      in.tokenIds.push_back(i + 1);
      in.positions.push_back(context - 1);
      in.sequenceTable.insert(in.sequenceTable.end(), {i, 1, context - 1, i * perRow});
      in.outRowIndex.push_back(i);
      in.samplingInts.insert(in.samplingInts.end(), {0, -1, 0, 0, 0, 0, 0, 0, 0, 0});
      in.samplingFloats.insert(in.samplingFloats.end(), {0, 1, 0, 0, 0, 1});
      for (int32_t b = 0; b < perRow; ++b) in.blockTables.push_back(i * perRow + b);
    }
    return in;
  }

  void measureModels() {
    std::vector<Llama> models = {
        {"8B", 4096, 32, 14336, 32, 8, 128, 128256, typeQ4_K, typeQ6_K, "Q4_K, output Q6_K"},
        {"8B", 4096, 32, 14336, 32, 8, 128, 128256, typeBF16, typeBF16, "BF16"},
        {"1B", 2048, 16, 8192, 32, 8, 64, 128256, typeQ4_K, typeQ6_K, "Q4_K, output Q6_K"},
        {"1B", 2048, 16, 8192, 32, 8, 64, 128256, typeBF16, typeBF16, "BF16"},
    };
    if (gpu_.isEmulated()) {
      models = {{"tiny", 256, 2, 512, 4, 2, 64, 300, typeQ4_K, typeQ6_K, "Q4_K, output Q6_K"}};
    }
    // The figures that count come first, in case time runs out.
    struct Load {
      int32_t context;
      std::vector<int32_t> batches;
    };
    for (const Load& load : {Load{1024, {1, 16}}, Load{8192, {1, 16}}, Load{1024, {8, 32, 128}},
                             Load{8192, {8, 32, 128}}}) {
      for (const Llama& model : models) {
        for (const int32_t batch : load.batches) {
          if (isOver()) return;
          if (gpu_.isEmulated() && batch > 8) continue;
          measureModel(model, batch, static_cast<int32_t>(scaled(load.context, 32)));
        }
      }
    }
  }

  /// A device that is nearly full measures something else.
  Status checkRoom(const ModelSpec& spec) {
    size_t free = 0, total = 0;
    must(gpu_.api().memoryInfo(&free, &total));
    uint64_t wanted = static_cast<uint64_t>(spec.kv.blockBytes()) * spec.kv.blocks;
    for (const WeightSpec& weight : spec.weights) {
      const DeviceBytes bytes = deviceBytes(weight.type, weight.rows, weight.cols);
      wanted += bytes.quants + bytes.scales;
    }
    const uint64_t most = free / 5 * 4;
    if (wanted <= most) return {};
    return failure("needs %llu bytes for weights and KV, found %llu: 80%% of what is free",
                   static_cast<unsigned long long>(wanted), static_cast<unsigned long long>(most));
  }

  void measureModel(const Llama& shape, int32_t batch, int32_t context) {
    const ModelSpec spec = llamaSpec(shape, batch, int64_t{batch} * (context / 16));
    const StepInput input = decodeInput(batch, context);
    Plan plan;
    Status status = makePlan(spec, plan);
    CudaModel model(spec, plan);
    if (status.isOk()) status = checkBatch(spec, plan, input);
    if (status.isOk()) status = checkRoom(spec);
    if (status.isOk()) {
      status = model.loadRandom([&](const DeviceMatrix& matrix, const DeviceBytes& bytes) -> Status {
        fillMatrix(matrix, bytes);
        must(gpu_.finish());
        return {};
      });
    }
    std::vector<double> wallUs, deviceUs, periodUs;
    double bytes = 0;
    for (int i = 0; status.isOk() && i < (gpu_.isEmulated() ? 1 : 24); ++i) {
      StepResult result = resultFor(batch);
      const auto begin = Clock::now();
      status = model.step(input, false, result);
      const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
      if (i < 4 && !gpu_.isEmulated()) continue;  // the capture, and clocks that still rise
      wallUs.push_back(took.count());
      deviceUs.push_back(std::max(result.deviceUs, 1e-3));
      bytes = result.bytesRead;
    }
    if (status.isOk()) status = measurePeriods(model, input, periodUs);
    std::printf("%s\n{\"model\": \"%s\", \"weights\": \"%s\", \"batch\": %d, \"context\": %d, ",
                isFirst_ ? "" : ",", shape.name, shape.typeName, batch, context);
    isFirst_ = false;
    if (!status.isOk()) {
      std::string text = status.message;
      std::replace(text.begin(), text.end(), '"', '\'');
      std::printf("\"skipped\": \"%s\"}", text.c_str());
      return;
    }
    std::sort(wallUs.begin(), wallUs.end());
    std::sort(deviceUs.begin(), deviceUs.end());
    std::sort(periodUs.begin(), periodUs.end());
    const double wall = wallUs[wallUs.size() / 2], device = deviceUs[deviceUs.size() / 2],
                 period = periodUs[periodUs.size() / 2];
    std::printf("\"step_us\": %.1f, \"device_us\": %.1f, \"period_us\": %.1f, "
                "\"period_of_device\": %.3f, \"tokens_per_s\": %.1f, \"gb_s\": %.1f, "
                "\"of_copy\": %.3f}", wall, device, period, period / device, batch / period * 1e6,
                bytes / device / 1e3, bytes / device / copyBytesPerUs_);
    std::fflush(stdout);
  }

  static StepResult resultFor(int32_t batch) {
    StepResult result;
    result.tokens.assign(batch, -1);
    result.logprobs.assign(batch, 0);
    result.topIds.assign(batch * topLogprobsMax, -1);
    result.topLogprobs.assign(batch * topLogprobsMax, 0);
    return result;
  }

  /// From the end of a step to the end of the next, with two in flight: as the engine runs
  /// them. What is more than a step's kernels take is the gap between steps.
  Status measurePeriods(CudaModel& model, const StepInput& input, std::vector<double>& us) {
    const int steps = gpu_.isEmulated() ? 2 : 24;
    StepResult results[CudaModel::flightsMax] = {resultFor(input.outRows), resultFor(input.outRows)};
    QUETZAL_TRY(model.begin(input, false, results[0]));
    for (int i = 0; i < steps; ++i) {
      QUETZAL_TRY(model.begin(input, false, results[(i + 1) % CudaModel::flightsMax]));
      QUETZAL_TRY(model.finish());
      if (i > 0) us.push_back(results[i % CudaModel::flightsMax].periodUs);
    }
    return model.finish();
  }

  Gpu& gpu_;
  const Clock::time_point end_;
  Handle begin_ = nullptr, stop_ = nullptr;
  double copyBytesPerUs_ = 1;
  uint32_t seed_ = 0;
  bool isFirst_ = true, isFirstLaunch_ = true;
};

}  // namespace

int runBench(Gpu& gpu, double secondsMax) {
  Bench(gpu, secondsMax).run();
  return 0;
}

}  // namespace quetzal::cuda
