// The thread that owns a model: it loads it, runs its steps one after another, and
// tells JavaScript through a threadsafe function.
//
// Life: start() -> loaded -> steps -> close. The thread is joined when the close has
// been reported, or when the environment goes away, whichever is first.
//
// On a GPU a step that is asked for while another computes is queued behind it on the
// device at once; answers keep the order of the questions.
#pragma once
#include "js.h"

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "model.h"

namespace quetzal {

struct Task {
  enum class Kind { load, step, close, sleep, wake };
  Kind kind;
  napi_deferred deferred = nullptr;  // null: nobody waits
  napi_ref logits = nullptr;         // Float32Array to fill
  StepInput input = {};
  StepResult result = {};
  Status status = {};
};

class Driver : public std::enable_shared_from_this<Driver> {
 public:
  Driver(napi_env env, ModelSpec spec) : env_(env), model_(new Model(std::move(spec))) {}

  /// All of these on the JavaScript thread.
  Status start(napi_deferred deferred);
  void step(std::unique_ptr<Task> task);
  void close(napi_deferred deferred);
  /// Of a model on a GPU: its weights go to host memory, or come back.
  void sleep(napi_deferred deferred, bool isWake);
  bool isClosed() const { return isClosed_; }
  /// Only of a loaded model that is not closed.
  const Model& model() const { return *model_; }
  /// Out rows of the last step asked for, if the next one may name them as its tokens.
  int64_t outRowsBefore() const { return outRowsBefore_; }

 private:
  static void onReport(napi_env env, napi_value, void* context, void* data);
  static void onEnvironmentGone(void* driver);

  void loop();
  bool take(std::unique_ptr<Task> task);
  void perform(Task& task);
  bool launch(std::unique_ptr<Task> task);
  bool land();
  bool landAll();
  bool deliver(std::unique_ptr<Task> task);
  bool nextTask(std::unique_ptr<Task>& task);
  bool mayWait() const;
  void post(std::unique_ptr<Task> task, bool keepsAlive);
  void report(Task& task);
  void reportLoad(Task& task);
  void reportStep(Task& task);
  bool makeKv(napi_value result);
  bool makePiece(void* data, size_t bytes, std::shared_ptr<void> owner, napi_value& piece);
  napi_value stepOutput(const StepResult& result);
  bool setHidden(napi_value output, const std::vector<float>& hidden);
  Status fillLogits(Task& task);
  void finish();
  void settle(Task& task, napi_value value);

  napi_env env_;
  napi_threadsafe_function function_ = nullptr;
  std::vector<napi_ref> kvBuffers_;
  bool isClosed_ = false;
  int64_t outRowsBefore_ = 0;
  int pending_ = 0;                // tasks that keep the process alive
  std::shared_ptr<Driver> self_;   // while the thread lives
  std::unique_ptr<Model> model_;   // of the thread, once it runs
  std::deque<std::unique_ptr<Task>> flights_;  // of the thread: steps on the device, oldest first
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Task>> tasks_;
  bool isGone_ = false;            // the environment is
};

}  // namespace quetzal
