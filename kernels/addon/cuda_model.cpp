#include "cuda_model.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>

#include "clock.h"
#include "model.h"

namespace quetzal::cuda {
namespace {

constexpr int32_t attentionRowsMax = 256;  // rows whose splits lie in memory at once
/// JavaScript engines take ArrayBuffers of at least this size.
constexpr uint64_t pieceBytesMax = uint64_t{1} << 30;

uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

const char* describe(SampleStatus status) {
  switch (status) {
    case SampleStatus::logitsNotFinite: return "logits are not finite";
    case SampleStatus::adjustedNotFinite: return "logits are not finite after bias and penalties";
    case SampleStatus::allForbidden: return "all tokens are forbidden";
    default: return "an unknown fault";
  }
}

/// Few enough sizes that each is captured once, dense enough to waste little.
int32_t bucketRows(int64_t rows, int64_t most) {
  int64_t bucket = 1;
  while (bucket < rows && bucket < 32) bucket *= 2;
  if (bucket < rows) bucket = (rows + 31) / 32 * 32;
  return static_cast<int32_t>(std::min(bucket, most));
}

}  // namespace

CudaSetup& cudaSetup() {
  static CudaSetup setup;
  return setup;
}

Status probeDevice(DeviceFacts& facts, uint64_t& freeBytes) {
  const Api* api = nullptr;
  Device device = 0;
  Handle context = nullptr;
  QUETZAL_TRY(openApi(cudaSetup().library, api));
  QUETZAL_TRY(findDevice(*api, 0, device, facts));
  // The fake driver needs no kernels; a real one cannot do without.
  if (!std::ifstream(cudaSetup().fatbin).good()) {
    return failure("Cannot use CUDA: needs the kernels in %.300s, found nothing there. Run: deno "
                   "task kernels --cuda", cudaSetup().fatbin.c_str());
  }
  QUETZAL_CUDA_TRY(*api, contextRetain(&context, device), "open the CUDA device");
  Status status = check(*api, api->contextSet(context), "use the CUDA device");
  size_t free = 0, total = 0;
  if (status.isOk()) status = check(*api, api->memoryInfo(&free, &total), "ask for free memory");
  api->contextRelease(device);
  freeBytes = free;
  return status;
}

CudaModel::~CudaModel() {
  if (!api_ || !context_) return;
  api_->contextSet(context_);
  if (stream_.handle()) api_->streamSynchronize(stream_.handle());
  dropGraphs();
  for (const Flight& flight : flights_) {
    for (const Handle event : {flight.begin, flight.end, flight.read}) {
      if (event) api_->eventDestroy(event);
    }
  }
  if (lastEnd_) api_->eventDestroy(lastEnd_);
  if (module_) api_->moduleUnload(module_);
}

Status CudaModel::load() { return loadWith(nullptr); }

Status CudaModel::loadWith(const DeviceWeights::Fill* fill) {
  QUETZAL_TRY(makeDevicePlan(spec_, device_));
  QUETZAL_TRY(openDevice(fill == nullptr));
  QUETZAL_TRY(loadKernels());
  weights_ = std::make_unique<DeviceWeights>(*api_, context_, spec_, plan_);
  QUETZAL_TRY(fill ? weights_->makeRandom(*fill) : weights_->load());
  weightBytesRead_ = productWeightBytes();
  // Only a model that serves lends its KV to the host.
  return allocate(fill ? MemoryKind::plain : MemoryKind::managed);
}

Status CudaModel::openDevice(bool needsManagedMemory) {
  QUETZAL_TRY(openApi(cudaSetup().library, api_));
  QUETZAL_TRY(findDevice(*api_, 0, deviceId_, facts_));
  if (needsManagedMemory && !facts_.hasManagedMemory) {
    return failure("Cannot load model: needs a device whose managed memory the host can reach while "
                   "kernels run, %.100s has none", facts_.name.c_str());
  }
  // Kept until the process ends: KV pieces may outlive the model.
  QUETZAL_CUDA_TRY(*api_, contextRetain(&context_, deviceId_), "open the CUDA device");
  QUETZAL_CUDA_TRY(*api_, contextSet(context_), "use the CUDA device");
  QUETZAL_TRY(stream_.open(*api_));
  for (Flight& flight : flights_) {
    for (Handle* event : {&flight.begin, &flight.end, &flight.read}) {
      QUETZAL_CUDA_TRY(*api_, eventCreate(event, 0), "make an event");
    }
  }
  QUETZAL_CUDA_TRY(*api_, eventCreate(&lastEnd_, 0), "make an event");
  return {};
}

Status CudaModel::loadKernels() {
  std::ifstream file(cudaSetup().fatbin, std::ios::binary);
  image_.assign(std::istreambuf_iterator<char>(file), {});
  if (image_.empty()) {
    return failure("Cannot load model: needs the CUDA kernels in %.300s, found nothing there. Run: "
                   "deno task kernels --cuda", cudaSetup().fatbin.c_str());
  }
  image_.push_back(0);
  QUETZAL_CUDA_TRY(*api_, moduleLoad(&module_, image_.data()), "load the CUDA kernels");
  for (size_t i = 0; i < kernelNames.size(); ++i) {
    const Status status = check(*api_, api_->moduleFunction(&functions_[i], module_, kernelNames[i]),
                                "find a CUDA kernel");
    if (!status.isOk()) return {status.message + ": " + kernelNames[i]};
  }
  return canOverlap(*api_, functions_[0], canOverlap_);
}

void CudaModel::layOut() {
  const uint64_t rows = spec_.rowsMax, outRows = spec_.outRowsMax;
  uint64_t at = 0;
  const auto place = [&](uint64_t bytes) {
    const uint64_t begin = at;
    at += aligned(bytes);
    return begin;
  };
  at_.tokenIds = place(rows * 4);
  at_.positions = place(rows * 4);
  at_.block = place(rows * 4);
  at_.slot = place(rows * 4);
  at_.lengths = place(rows * 4);
  at_.tableBegin = place(rows * 4);
  at_.outRowIndex = place(outRows * 4);
  at_.ints = place(outRows * sampleIntWords * 4);
  at_.floats = place(outRows * sampleFloatWords * 4);
  at_.tables = at;
  resultAt_.logprobs = aligned(outRows * 4);
  resultAt_.topIds = resultAt_.logprobs + aligned(outRows * 4);
  resultAt_.topLogprobs = resultAt_.topIds + aligned(outRows * sampleTopMax * 4);
  resultAt_.statuses = resultAt_.topLogprobs + aligned(outRows * sampleTopMax * 4);
  resultAt_.bytes = resultAt_.statuses + aligned(outRows * 4);
}

Status CudaModel::allocate(MemoryKind kvKind) {
  layOut();
  uint64_t floats = 0;
  for (const TensorSpec& tensor : spec_.tensors) {
    tensorAt_.push_back(floats);
    const uint64_t rows = tensor.rowKind == 0 ? spec_.rowsMax : spec_.outRowsMax;
    floats += (rows * tensor.cols + 63) / 64 * 64;
  }
  QUETZAL_TRY(activations_.allocate(*api_, floats * 4, "activations"));

  const uint64_t values = static_cast<uint64_t>(spec_.rowsMax) * (device_.preparedCols + 32);
  preparedScales_ = aligned(values);
  preparedSums_ = preparedScales_ + aligned(values / 8);
  preparedHalves_ = preparedSums_ + aligned(values / 4);
  preparedRowScales_ = preparedHalves_ + aligned(values * 2);
  QUETZAL_TRY(prepared_.allocate(*api_, preparedRowScales_ + spec_.rowsMax * 4, "prepared inputs"));

  uint64_t ropeBytes = 0;
  for (const RopeFrequencies& rope : device_.ropes) {
    ropeAt_.push_back(ropeBytes);
    ropeBytes += aligned(rope.rotated / 2 * 8) + 2 * aligned(spec_.rowsMax * (rope.rotated / 2) * 4);
  }
  QUETZAL_TRY(ropes_.allocate(*api_, ropeBytes, "rotations"));
  for (size_t i = 0; i < device_.ropes.size(); ++i) {
    const RopeFrequencies& rope = device_.ropes[i];
    std::vector<double> frequencies;
    for (int32_t k = 0; k < rope.rotated / 2; ++k) {
      const double divisor = rope.divisors < 0 ? 1.0 : weights_->hostVector(rope.divisors)[k];
      frequencies.push_back(std::pow(double{rope.base}, -2.0 * k / rope.rotated) * rope.scale / divisor);
    }
    QUETZAL_CUDA_TRY(*api_, copyIn(ropes_.pointer() + ropeAt_[i], frequencies.data(),
                                   frequencies.size() * 8, stream_.handle()), "copy frequencies");
    QUETZAL_CUDA_TRY(*api_, streamSynchronize(stream_.handle()), "copy frequencies");
  }

  const int64_t tokensMax = spec_.kv.blocks * spec_.kv.blockTokens;
  uint64_t splits = 1;
  while (splits < splitsMax && static_cast<int64_t>(splits) * splitTokensMin < tokensMax) splits *= 2;
  const uint64_t parts =
      std::min<uint64_t>(spec_.rowsMax, attentionRowsMax) * device_.headsMax * splits;
  partialState_ = aligned(parts * spec_.kv.headDim * 4);
  QUETZAL_TRY(attention_.allocate(*api_, partialState_ + parts * 8, "splits of attention"));
  adjustedLogits_ =
      aligned(uint64_t{sizeof(SamplePart)} * spec_.outRowsMax * scanPartsOf(plan_.vocabOut));
  QUETZAL_TRY(sampling_.allocate(
      *api_, adjustedLogits_ + static_cast<uint64_t>(spec_.outRowsMax) * plan_.vocabOut * 4,
      "sampling"));
  QUETZAL_TRY(results_.allocate(*api_, resultAt_.bytes, "results"));
  for (Flight& flight : flights_) {
    QUETZAL_TRY(flight.found.allocate(*api_, resultAt_.bytes));
  }
  QUETZAL_TRY(growTables(static_cast<uint64_t>(spec_.rowsMax) * 64));

  kv_ = std::make_shared<KvPieces>(*api_, context_);
  const uint64_t blockBytes = static_cast<uint64_t>(spec_.kv.blockBytes());
  kv_->bytes = blockBytes * spec_.kv.blocks;
  kv_->pieceBytes = std::max<uint64_t>(pieceBytesMax / blockBytes, 1) * blockBytes;
  QUETZAL_TRY(kv_->memory.allocate(*api_, kv_->bytes, "the KV pool", kvKind));
  // Written by the device first, so that its pages are there and not on the host.
  QUETZAL_CUDA_TRY(*api_, fill(kv_->memory.pointer(), 0, kv_->bytes, stream_.handle()),
                   "clear the KV pool");
  QUETZAL_CUDA_TRY(*api_, streamSynchronize(stream_.handle()), "clear the KV pool");
  return {};
}

/// Block tables, histories and biases lie behind the fixed part; graphs know the address.
/// A step in flight has its graph, so that dropping graphs waits for it.
Status CudaModel::growTables(uint64_t words) {
  if (words <= tableWords_) return {};
  dropGraphs();
  const uint64_t wanted = std::max(words, 2 * tableWords_), bytes = at_.tables + wanted * 4;
  tableWords_ = 0;  // until all of it is there
  QUETZAL_TRY(step_.allocate(*api_, bytes, "the step's input"));
  for (Flight& flight : flights_) QUETZAL_TRY(flight.staging.allocate(*api_, bytes));
  tableWords_ = wanted;
  return {};
}

Status CudaModel::sleep() {
  if (!lost_.empty()) return {lost_};
  Status status = check(*api_, api_->contextSet(context_), "use the CUDA device");
  if (status.isOk()) {
    dropGraphs();
    status = weights_->sleep();
  }
  return outcome(status);
}

Status CudaModel::wake() {
  if (!lost_.empty()) return {lost_};
  Status status = check(*api_, api_->contextSet(context_), "use the CUDA device");
  if (status.isOk()) status = weights_->wake();
  return outcome(status);
}

CudaModel::Bucket CudaModel::bucketOf(const StepInput& in) const {
  int32_t splits = 1;
  for (int64_t i = 0; i < in.sequences; ++i) {
    const int32_t* entry = &in.sequenceTable[4 * i];
    const int32_t length = entry[2] + entry[1];
    const int32_t per = splitTokensOf(length);
    while (splits < (length + per - 1) / per) splits *= 2;
  }
  const int32_t outRows = in.outRows == 0 ? 0 : bucketRows(in.outRows, spec_.outRowsMax);
  return {bucketRows(in.rows, spec_.rowsMax), outRows, splits};
}

Status CudaModel::fill(Flight& flight, const Bucket& bucket) {
  const StepInput& in = *flight.input;
  const uint64_t words = in.blockTables.size() + in.history.size() + 2 * in.biasIds.size() + 1;
  QUETZAL_TRY(growTables(words));
  const PinnedMemory& staging = flight.staging;
  const RowPlaces places = placeRows(spec_.kv, in);
  const auto put = [&](uint64_t offset, int64_t count, int64_t padded, const int32_t* from,
                       int32_t padding) {
    auto* to = staging.as<int32_t>(offset);
    std::copy(from, from + count, to);
    std::fill(to + count, to + padded, padding);
  };
  put(at_.tokenIds, in.rows, bucket.rows, in.tokenIds.data(), 0);
  put(at_.positions, in.rows, bucket.rows, in.positions.data(), 0);
  put(at_.block, in.rows, bucket.rows, places.block.data(), -1);
  put(at_.slot, in.rows, bucket.rows, places.slot.data(), 0);
  put(at_.outRowIndex, in.outRows, bucket.outRows, in.outRowIndex.data(), -1);
  auto* lengths = staging.as<int32_t>(at_.lengths);
  auto* begins = staging.as<int32_t>(at_.tableBegin);
  std::fill(lengths, lengths + bucket.rows, 0);
  std::fill(begins, begins + bucket.rows, 0);
  for (int64_t i = 0; i < in.sequences; ++i) {
    const int32_t* entry = &in.sequenceTable[4 * i];
    for (int32_t row = 0; row < entry[1]; ++row) {
      lengths[entry[0] + row] = entry[2] + row + 1;
      begins[entry[0] + row] = entry[3];
    }
  }
  // Tables: block ids, then histories, bias ids and bias values.
  auto* tables = staging.as<int32_t>(at_.tables);
  const auto historyAt = static_cast<int32_t>(in.blockTables.size());
  const auto biasAt = historyAt + static_cast<int32_t>(in.history.size());
  const auto valueAt = biasAt + static_cast<int32_t>(in.biasIds.size());
  std::copy(in.blockTables.begin(), in.blockTables.end(), tables);
  std::copy(in.history.begin(), in.history.end(), tables + historyAt);
  std::copy(in.biasIds.begin(), in.biasIds.end(), tables + biasAt);
  std::memcpy(tables + valueAt, in.biasValues.data(),
              std::min(in.biasValues.size(), in.biasIds.size()) * 4);
  for (int32_t row = 0; row < bucket.outRows; ++row) {
    auto* ints = staging.as<int32_t>(at_.ints) + row * sampleIntWords;
    auto* floats = staging.as<float>(at_.floats) + row * sampleFloatWords;
    if (row >= in.outRows) {
      const int32_t greedy[sampleIntWords] = {0, -1};
      const float plain[sampleFloatWords] = {0, 1, 0, 0, 0, 1, -INFINITY};
      std::memcpy(ints, greedy, sizeof greedy);
      std::memcpy(floats, plain, sizeof plain);
      continue;
    }
    std::memcpy(ints, &in.samplingInts[row * samplingIntWords], samplingIntWords * 4);
    std::memcpy(floats, &in.samplingFloats[row * samplingFloatWords], samplingFloatWords * 4);
    // Spans count entries: a history entry has two words.
    ints[9] = valueAt + ints[7];
    ints[5] = historyAt + 2 * ints[5];
    ints[7] = biasAt + ints[7];
    floats[6] = floats[2] > 0 ? std::log(floats[2]) : -INFINITY;
  }
  usedBytes_ = at_.tables + words * 4;
  return {};
}

void CudaModel::dropGraphs() {
  // A step in flight may run one of them.
  if (flightCount_ > 0) api_->streamSynchronize(stream_.handle());
  for (const auto& [bucket, entry] : graphs_) api_->graphExecDestroy(entry.graph);
  graphs_.clear();
}

/// Makes room for one more graph: the one that was not launched for longest goes.
void CudaModel::dropOldGraph() {
  if (graphs_.size() < cudaSetup().graphsMax) return;
  const auto oldest = std::min_element(graphs_.begin(), graphs_.end(), [](auto& a, auto& b) {
    return a.second.lastUsed < b.second.lastUsed;
  });
  // A step in flight may run it.
  if (flightCount_ > 0) api_->streamSynchronize(stream_.handle());
  api_->graphExecDestroy(oldest->second.graph);
  graphs_.erase(oldest);
}

Status CudaModel::graphOf(const Bucket& bucket, Handle& graph) {
  if (const auto found = graphs_.find(bucket); found != graphs_.end()) {
    found->second.lastUsed = ++graphUses_;
    graph = found->second.graph;
    return {};
  }
  dropOldGraph();
  constexpr int threadLocal = 1;
  Handle captured = nullptr;
  QUETZAL_CUDA_TRY(*api_, captureBegin(stream_.handle(), threadLocal), "capture a step");
  const Status launched = launchAll(bucket);
  const Status ended = check(*api_, api_->captureEnd(stream_.handle(), &captured), "capture a step");
  Status status = launched.isOk() ? ended : launched;
  if (status.isOk()) {
    status = check(*api_, api_->graphInstantiate(&graph, captured, 0), "make a graph of a step");
  }
  if (captured) api_->graphDestroy(captured);
  if (status.isOk()) graphs_[bucket] = {graph, ++graphUses_};
  return status;
}

Status CudaModel::begin(const StepInput& input, bool wantsLogits, StepResult& result) {
  if (!lost_.empty()) return {lost_};
  if (weights_->isAsleep()) return failure("Cannot step: the model is asleep");
  if (flightCount_ == flightsMax) return failure("Cannot step: two steps are in flight");
  Flight& flight = flights_[(oldest_ + flightCount_) % flightsMax];
  flight.input = &input;
  flight.result = &result;
  flight.begunUs = nowUs();
  Status status = check(*api_, api_->contextSet(context_), "use the CUDA device");
  if (status.isOk()) status = run(flight, wantsLogits);
  if (status.isOk()) {
    ++flightCount_;
    return status;
  }
  // What was queued may still write to the flight's memory.
  api_->streamSynchronize(stream_.handle());
  return outcome(status);
}

bool CudaModel::isOldestDone() const {
  return flightCount_ > 0 && api_->eventQuery(flights_[oldest_].read) != resultNotReady;
}

Status CudaModel::finish() {
  if (flightCount_ == 0) return failure("Cannot finish a step: none is in flight");
  Flight& flight = flights_[oldest_];
  const Status status = readResults(flight);
  oldest_ = (oldest_ + 1) % flightsMax;
  --flightCount_;
  const double now = nowUs();
  flight.result->stepUs = now - std::max(flight.begunUs, finishedUs_);
  finishedUs_ = now;
  return outcome(status);
}

/// A batch that cannot be sampled and a want of memory leave the device well; anything
/// else does not.
Status CudaModel::outcome(const Status& status) {
  const std::string& text = status.message;
  const bool isWell = status.isOk() || text.starts_with("Cannot sample") ||
      text.starts_with("Cannot put the model to sleep: needs") ||
      text.starts_with("Cannot go on: needs");
  if (isWell) return status;
  if (lost_.empty()) {
    lost_ = "Cannot step: the CUDA device " + facts_.name + " is lost (" + text +
        "); the worker needs a new process";
  }
  return {lost_};
}

Status CudaModel::run(Flight& flight, bool wantsLogits) {
  const Bucket bucket = bucketOf(*flight.input);
  Handle graph = nullptr;
  QUETZAL_TRY(fill(flight, bucket));
  QUETZAL_TRY(graphOf(bucket, graph));
  const Handle stream = stream_.handle();
  QUETZAL_CUDA_TRY(*api_, copyIn(step_.pointer(), flight.staging.as<void>(), usedBytes_, stream),
                   "copy the step's input");
  QUETZAL_CUDA_TRY(*api_, eventRecord(flight.begin, stream), "time a step");
  QUETZAL_CUDA_TRY(*api_, graphLaunch(graph, stream), "run a step");
  QUETZAL_CUDA_TRY(*api_, eventRecord(flight.end, stream), "time a step");
  return queueReading(flight, wantsLogits);
}

/// Behind the step and before the next one, which writes the same results anew.
Status CudaModel::queueReading(Flight& flight, bool wantsLogits) {
  const Handle stream = stream_.handle();
  QUETZAL_CUDA_TRY(*api_, copyOut(flight.found.as<void>(), results_.pointer(), resultAt_.bytes,
                                  stream), "read the step's tokens");
  if (wantsLogits && plan_.logits >= 0) {
    std::vector<float>& logits = flight.result->logits;
    logits.resize(flight.input->outRows * plan_.vocabOut);
    if (!logits.empty()) {
      QUETZAL_CUDA_TRY(*api_, copyOut(logits.data(),
                                      reinterpret_cast<DevicePointer>(tensor(plan_.logits)),
                                      logits.size() * 4, stream), "read logits");
    }
  }
  QUETZAL_TRY(queueHidden(flight));
  return check(*api_, api_->eventRecord(flight.read, stream), "read the step's tokens");
}

/// Hidden states of the out rows that want theirs.
Status CudaModel::queueHidden(Flight& flight) {
  const StepInput& in = *flight.input;
  std::vector<int64_t> rows;
  for (int64_t row = 0; plan_.hidden >= 0 && row < in.outRows; ++row) {
    if (wantsHidden(in, row)) rows.push_back(row);
  }
  if (rows.empty()) return {};
  const int64_t cols = colsOf(plan_.hidden);
  flight.result->hidden.resize(rows.size() * static_cast<size_t>(cols));
  float* to = flight.result->hidden.data();
  for (const int64_t row : rows) {
    const auto from = reinterpret_cast<DevicePointer>(tensor(plan_.hidden) + row * cols);
    QUETZAL_CUDA_TRY(*api_, copyOut(to, from, static_cast<size_t>(cols) * 4, stream_.handle()),
                     "read hidden states");
    to += cols;
  }
  return {};
}

Status CudaModel::readResults(Flight& flight) {
  const StepInput& in = *flight.input;
  StepResult& result = *flight.result;
  const PinnedMemory& found = flight.found;
  QUETZAL_CUDA_TRY(*api_, eventSynchronize(flight.read), "finish a step");
  float ms = 0;
  QUETZAL_CUDA_TRY(*api_, eventElapsed(&ms, flight.begin, flight.end), "time a step");
  result.deviceUs = double{ms} * 1000;
  if (hasLastEnd_) {
    QUETZAL_CUDA_TRY(*api_, eventElapsed(&ms, lastEnd_, flight.end), "time a step");
    result.periodUs = double{ms} * 1000;
  }
  std::swap(lastEnd_, flight.end);
  hasLastEnd_ = true;
  result.bytesRead = bytesRead(in);
  std::memcpy(result.tokens.data(), found.as<void>(), in.outRows * 4);
  std::memcpy(result.logprobs.data(), found.as<void>(resultAt_.logprobs), in.outRows * 4);
  std::memcpy(result.topIds.data(), found.as<void>(resultAt_.topIds),
              in.outRows * sampleTopMax * 4);
  std::memcpy(result.topLogprobs.data(), found.as<void>(resultAt_.topLogprobs),
              in.outRows * sampleTopMax * 4);
  const auto* statuses = found.as<int32_t>(resultAt_.statuses);
  for (int64_t row = 0; row < in.outRows && plan_.logits >= 0; ++row) {
    if (statuses[row] == 0) continue;
    return failure("Cannot sample out row %lld (row %d): needs finite logits and an allowed token, "
                   "%s", static_cast<long long>(row), in.outRowIndex[row],
                   describe(static_cast<SampleStatus>(statuses[row])));
  }
  return {};
}

/// Without tables of which a step only looks up rows.
uint64_t CudaModel::productWeightBytes() const {
  std::set<int32_t> tables, products;
  for (const DeviceOp& op : device_.ops) {
    if (op.kind == DeviceOp::Kind::embed) tables.insert(op.weight);
    products.insert(op.weights.begin(), op.weights.end());
  }
  uint64_t bytes = weights_->bytes();
  for (const int32_t table : tables) {
    if (!products.contains(table)) bytes -= weights_->matrixBytes(table);
  }
  return bytes;
}

/// Weights once, and the KV that each row sees.
double CudaModel::bytesRead(const StepInput& in) const {
  double tokens = 0;
  for (int64_t i = 0; i < in.sequences; ++i) {
    const int32_t* entry = &in.sequenceTable[4 * i];
    tokens += (entry[2] + (entry[1] + 1) / 2.0) * entry[1];
  }
  return static_cast<double>(weightBytesRead_) +
      tokens * static_cast<double>(spec_.kv.layers * 4 * spec_.kv.kvHeads * spec_.kv.headDim);
}

}  // namespace quetzal::cuda
