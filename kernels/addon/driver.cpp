#include "driver.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <system_error>

namespace quetzal {

Status Driver::start(napi_deferred deferred) {
  napi_value name;
  if (napi_create_string_utf8(env_, "quetzal", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                      onReport, &function_) != napi_ok) {
    return failure("Cannot load model: the runtime refused a threadsafe function");
  }
  napi_unref_threadsafe_function(env_, function_);
  try {
    // Queued before the thread starts: nothing can fail once it runs.
    auto task = std::make_unique<Task>();
    task->kind = Task::Kind::load;
    task->deferred = deferred;
    tasks_.push_back(std::move(task));
    thread_ = std::thread([this] { loop(); });
  } catch (const std::exception& problem) {
    napi_release_threadsafe_function(function_, napi_tsfn_abort);
    return failure("Cannot load model: needs a thread, found: %s", problem.what());
  }
  self_ = shared_from_this();
  pending_ = 1;
  napi_ref_threadsafe_function(env_, function_);
  // Registered after the function, so that it runs before the function's own end.
  napi_add_env_cleanup_hook(env_, onEnvironmentGone, this);
  return {};
}

void Driver::step(std::unique_ptr<Task> task) {
  outRowsBefore_ = model_->cuda() ? task->input.outRows : 0;
  post(std::move(task), true);
}

void Driver::close(napi_deferred deferred) {
  isClosed_ = true;
  auto task = std::make_unique<Task>();
  task->kind = Task::Kind::close;
  task->deferred = deferred;
  post(std::move(task), deferred != nullptr);
}

void Driver::sleep(napi_deferred deferred, bool isWake) {
  auto task = std::make_unique<Task>();
  task->kind = isWake ? Task::Kind::wake : Task::Kind::sleep;
  task->deferred = deferred;
  post(std::move(task), true);
}

void Driver::post(std::unique_ptr<Task> task, bool keepsAlive) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  if (keepsAlive && pending_++ == 0) napi_ref_threadsafe_function(env_, function_);
}

// --- on the driver's thread ---

namespace {

template <typename Body>
Status guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return {"Cannot go on: memory ran out"};
  } catch (const std::exception& problem) {
    return failure("Cannot go on: %s", problem.what());
  }
}

}  // namespace

void Driver::loop() {
  prepareThread("quetzal-step");
  std::unique_ptr<Task> task;
  while (nextTask(task) && (task ? take(std::move(task)) : land())) {
  }
  // The model waits for the device, which may still write to what the flights hold.
  model_.reset();
  flights_.clear();
}

/// Waits for a task, or for the oldest step in flight: then `task` is null. Answers false
/// when the environment is gone.
bool Driver::nextTask(std::unique_ptr<Task>& task) {
  // The device tells of its end only when asked; the answer is that much later at most.
  constexpr std::chrono::microseconds pause(50);
  task.reset();
  std::unique_lock lock(mutex_);
  while (!isGone_ && tasks_.empty()) {
    if (flights_.empty()) changed_.wait(lock);
    else if (!mayWait() || model_->cuda()->isOldestDone()) return true;
    else changed_.wait_for(lock, pause);
  }
  if (isGone_) return false;
  task = std::move(tasks_.front());
  tasks_.pop_front();
  return true;
}

/// Whether another step is likely to be asked for before the oldest one has ended: only
/// steps in which every row chooses a token are followed so.
bool Driver::mayWait() const {
  const StepInput& oldest = flights_.front()->input;
  return flights_.size() < cuda::CudaModel::flightsMax && oldest.outRows == oldest.rows;
}

/// Answers whether the thread goes on.
bool Driver::take(std::unique_ptr<Task> task) {
  if (task->kind == Task::Kind::step && model_->cuda()) return launch(std::move(task));
  if (!landAll()) return false;
  perform(*task);
  const bool isLast = task->kind == Task::Kind::close ||
      (task->kind == Task::Kind::load && !task->status.isOk());
  if (isLast) model_.reset();
  return deliver(std::move(task)) && !isLast;
}

bool Driver::launch(std::unique_ptr<Task> task) {
  if (flights_.size() == cuda::CudaModel::flightsMax && !land()) return false;
  task->status = guarded([&] {
    return model_->beginStep(task->input, task->logits != nullptr, task->result);
  });
  if (!task->status.isOk()) return landAll() && deliver(std::move(task));
  flights_.push_back(std::move(task));
  return true;
}

bool Driver::land() {
  std::unique_ptr<Task> task = std::move(flights_.front());
  flights_.pop_front();
  task->status = guarded([&] { return model_->cuda()->finish(); });
  return deliver(std::move(task));
}

bool Driver::landAll() {
  while (!flights_.empty()) {
    if (!land()) return false;
  }
  return true;
}

bool Driver::deliver(std::unique_ptr<Task> task) {
  const std::lock_guard lock(mutex_);
  if (isGone_ || napi_call_threadsafe_function(function_, task.get(), napi_tsfn_nonblocking) !=
                     napi_ok) {
    return false;
  }
  task.release();
  return true;
}

void Driver::perform(Task& task) {
  task.status = guarded([&]() -> Status {
    switch (task.kind) {
      case Task::Kind::load: return model_->load();
      case Task::Kind::step: return model_->step(task.input, task.logits != nullptr, task.result);
      case Task::Kind::sleep: return model_->cuda()->sleep();
      case Task::Kind::wake: return model_->cuda()->wake();
      default: return {};
    }
  });
}

// --- on the JavaScript thread ---

void Driver::onReport(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<Task> task(static_cast<Task*>(data));
  if (!env) return;
  const std::shared_ptr<Driver> driver = static_cast<Driver*>(context)->shared_from_this();
  driver->report(*task);
}

void Driver::report(Task& task) {
  const bool keptAlive = task.deferred != nullptr;
  switch (task.kind) {
    case Task::Kind::load: reportLoad(task); break;
    case Task::Kind::step: reportStep(task); break;
    case Task::Kind::sleep:
    case Task::Kind::wake: {
      napi_value nothing;
      napi_get_undefined(env_, &nothing);
      settle(task, nothing);
      break;
    }
    case Task::Kind::close: {
      finish();
      napi_value nothing;
      napi_get_undefined(env_, &nothing);
      settle(task, nothing);
      return;
    }
  }
  if (keptAlive && --pending_ == 0 && function_) napi_unref_threadsafe_function(env_, function_);
}

void Driver::settle(Task& task, napi_value value) {
  if (!task.deferred) return;
  if (!task.status.isOk() || !value) {
    const std::string message =
        task.status.isOk() ? "Cannot answer: the runtime refused a value" : task.status.message;
    napi_reject_deferred(env_, task.deferred, js::error(env_, message));
  } else {
    napi_resolve_deferred(env_, task.deferred, value);
  }
  task.deferred = nullptr;
}

namespace {

void dropHandle(napi_env, void* data, void*) {
  std::unique_ptr<std::shared_ptr<Driver>> driver(static_cast<std::shared_ptr<Driver>*>(data));
  if (!(*driver)->isClosed()) (*driver)->close(nullptr);
}

void dropKv(napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<void>*>(hint); }

bool setNumber(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  return napi_create_double(env, number, &value) == napi_ok &&
      napi_set_named_property(env, object, name, value) == napi_ok;
}

}  // namespace

void Driver::reportLoad(Task& task) {
  if (!task.status.isOk()) {
    isClosed_ = true;
    finish();
    settle(task, nullptr);
    return;
  }
  napi_value result = nullptr, handle;
  auto driver = std::make_unique<std::shared_ptr<Driver>>(shared_from_this());
  bool isMade = napi_create_object(env_, &result) == napi_ok && makeKv(result) &&
      napi_create_external(env_, driver.get(), dropHandle, nullptr, &handle) == napi_ok;
  if (isMade) driver.release();
  isMade = isMade && napi_set_named_property(env_, result, "handle", handle) == napi_ok &&
      setNumber(env_, result, "kvBlockBytes",
                static_cast<double>(model_->spec().kv.blockBytes())) &&
      setNumber(env_, result, "weightBytes", static_cast<double>(model_->weightBytes()));
  if (!isMade) {
    js::dropException(env_);
    task.status = {"Cannot load model: the JavaScript runtime refused the KV pool's memory"};
    if (!isClosed_) close(nullptr);
  }
  settle(task, result);
}

/// `kv`: the pool as ArrayBuffers of `kvPieceBytes`, the last one shorter: Bun has no
/// ArrayBuffer beyond 4 GiB.
bool Driver::makeKv(napi_value result) {
  constexpr uint64_t pieceBytesMax = uint64_t{1} << 30;
  const auto blockBytes = static_cast<uint64_t>(model_->spec().kv.blockBytes());
  uint8_t* data;
  uint64_t total, pieceBytes;
  std::shared_ptr<void> owner;
  if (model_->cuda()) {
    const std::shared_ptr<cuda::KvPieces>& pieces = model_->cuda()->kv();
    data = pieces->memory.as<uint8_t>();
    total = pieces->bytes;
    pieceBytes = pieces->pieceBytes;
    owner = pieces;
  } else {
    data = model_->kv()->data();
    total = model_->kv()->bytes();
    pieceBytes = std::max(pieceBytesMax / blockBytes, uint64_t{1}) * blockBytes;
    owner = model_->kv();
  }
  napi_value kv;
  if (napi_create_array(env_, &kv) != napi_ok) return false;
  uint32_t index = 0;
  for (uint64_t at = 0; at < total; at += pieceBytes) {
    napi_value piece;
    if (!makePiece(data + at, std::min(pieceBytes, total - at), owner, piece) ||
        napi_set_element(env_, kv, index++, piece) != napi_ok) {
      return false;
    }
  }
  return setNumber(env_, result, "kvPieceBytes", static_cast<double>(pieceBytes)) &&
      napi_set_named_property(env_, result, "kv", kv) == napi_ok;
}

bool Driver::makePiece(void* data, size_t bytes, std::shared_ptr<void> owner, napi_value& piece) {
  auto hint = std::make_unique<std::shared_ptr<void>>(std::move(owner));
  if (napi_create_external_arraybuffer(env_, data, bytes, dropKv, hint.get(), &piece) != napi_ok) {
    return false;
  }
  hint.release();
  kvBuffers_.push_back(nullptr);
  return napi_create_reference(env_, piece, 1, &kvBuffers_.back()) == napi_ok;
}

void Driver::reportStep(Task& task) {
  if (task.status.isOk() && task.logits) task.status = fillLogits(task);
  if (task.logits) napi_delete_reference(env_, task.logits);
  settle(task, task.status.isOk() ? stepOutput(task.result) : nullptr);
}

Status Driver::fillLogits(Task& task) {
  napi_value array;
  float* data = nullptr;
  size_t length = 0;
  if (napi_get_reference_value(env_, task.logits, &array) != napi_ok) {
    return failure("Cannot step: logits are gone");
  }
  QUETZAL_TRY(js::floatView(env_, array, "logits", data, length));
  const std::vector<float>& logits = task.result.logits;
  if (length < logits.size()) {
    return failure("Cannot step: logits need %zu entries after the step, found %zu", logits.size(),
                   length);
  }
  if (!logits.empty()) std::memcpy(data, logits.data(), logits.size() * 4);
  return {};
}

/// One buffer, four views.
napi_value Driver::stepOutput(const StepResult& result) {
  napi_value output, buffer, view;
  void* data = nullptr;
  const size_t rows = result.tokens.size(), top = result.topIds.size();
  if (napi_create_arraybuffer(env_, (2 * rows + 2 * top) * 4, &data, &buffer) != napi_ok ||
      napi_create_object(env_, &output) != napi_ok) {
    return nullptr;
  }
  const struct {
    const char* name;
    napi_typedarray_type type;
    const void* source;
    size_t length;
  } parts[] = {{"tokens", napi_int32_array, result.tokens.data(), rows},
               {"logprobs", napi_float32_array, result.logprobs.data(), rows},
               {"topIds", napi_int32_array, result.topIds.data(), top},
               {"topLogprobs", napi_float32_array, result.topLogprobs.data(), top}};
  size_t offset = 0;
  for (const auto& part : parts) {
    if (part.length > 0) {
      std::memcpy(static_cast<uint8_t*>(data) + offset, part.source, part.length * 4);
    }
    if (napi_create_typedarray(env_, part.type, part.length, buffer, offset, &view) != napi_ok ||
        napi_set_named_property(env_, output, part.name, view) != napi_ok) {
      return nullptr;
    }
    offset += part.length * 4;
  }
  if (result.deviceUs > 0 && !(setNumber(env_, output, "deviceUs", result.deviceUs) &&
                               setNumber(env_, output, "bytesRead", result.bytesRead))) {
    return nullptr;
  }
  if (!result.hidden.empty() && !setHidden(output, result.hidden)) return nullptr;
  return setNumber(env_, output, "stepUs", result.stepUs) ? output : nullptr;
}

/// In a buffer of its own, which lives as long as somebody keeps the states.
bool Driver::setHidden(napi_value output, const std::vector<float>& hidden) {
  napi_value buffer, view;
  void* data = nullptr;
  if (napi_create_arraybuffer(env_, hidden.size() * 4, &data, &buffer) != napi_ok) return false;
  std::memcpy(data, hidden.data(), hidden.size() * 4);
  return napi_create_typedarray(env_, napi_float32_array, hidden.size(), buffer, 0, &view) ==
             napi_ok &&
      napi_set_named_property(env_, output, "hidden", view) == napi_ok;
}

/// The thread has said its last word: joins it and lets go of everything. The pool's
/// pages go back now; its addresses stay until the ArrayBuffer is collected, so that
/// nothing can be read or written after free.
void Driver::finish() {
  thread_.join();
  for (const napi_ref reference : kvBuffers_) {
    if (!reference) continue;
    napi_value kv;
    if (napi_get_reference_value(env_, reference, &kv) == napi_ok && kv) {
      napi_detach_arraybuffer(env_, kv);
    }
    napi_delete_reference(env_, reference);
  }
  kvBuffers_.clear();
  napi_remove_env_cleanup_hook(env_, onEnvironmentGone, this);
  napi_release_threadsafe_function(function_, napi_tsfn_release);
  function_ = nullptr;
  self_.reset();
}

void Driver::onEnvironmentGone(void* data) {
  auto* driver = static_cast<Driver*>(data);
  {
    const std::lock_guard lock(driver->mutex_);
    driver->isGone_ = true;
  }
  driver->changed_.notify_one();
  driver->thread_.join();
  driver->tasks_.clear();
  driver->isClosed_ = true;
  driver->self_.reset();
}

}  // namespace quetzal
