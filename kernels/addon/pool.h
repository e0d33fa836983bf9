// The threads of a model.
//
// A step is a list of phases, a phase a number of chunks. Threads take chunks
// one by one; whoever finishes the last chunk of a phase opens the next. Nobody
// is waited for unless they hold a chunk: a thread whose core was taken away
// between chunks holds up nothing, the others just take its share.
//
// Phase, chunk count and next chunk share one 64-bit word, so that taking a chunk
// is one compare-and-swap, valid whenever it succeeds. A thread that finds
// nothing to take spins for `spinNs` and then sleeps on a futex.
//
// A thread that lost its core in the middle of a chunk holds up all. Linux leaves it in
// that core's queue for half a millisecond, even when another core has nothing to do
// (task_hot in its scheduler). So who waits looks whether the others get on, and changes
// places with one that does not.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace quetzal {

/// Work in phases. `chunks` must be below 2^20 and stay the same during a run.
class PhasedJob {
 public:
  virtual ~PhasedJob() = default;
  virtual int phases() const = 0;
  virtual int chunks(int phase) const = 0;
  virtual void run(int phase, int chunk, int worker) noexcept = 0;
};

class Pool {
 public:
  /// Starts `threads` - 1 helpers; throws std::system_error when it cannot.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(helpers_.size()) + 1; }
  /// Runs the job on the calling thread (worker 0) and the helpers.
  void run(PhasedJob& job);

 private:
  void help(int worker);
  bool takeChunk(int worker);
  void openPhase(int phase);
  /// Until there may be a chunk, or the epoch is another.
  void waitForChange(uint32_t epoch, int worker);
  void helpStalled(int worker);
  void wakeAll();
  void stop();

  /// What a worker's own thread writes and others read.
  struct alignas(64) Worker {
    std::atomic<pid_t> thread{0};
    /// The core on which it took the chunk that it works on; -1: none.
    std::atomic<int> core{-1};
    /// Its own notes: the processor time of each other worker at the last look, or -1.
    std::vector<int64_t> seenNs;
  };

  std::unique_ptr<Worker[]> workers_;
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<PhasedJob*> job_{nullptr};
  std::atomic<bool> done_{true};
  std::atomic<bool> stopping_{false};
  /// Held by who moves threads: a second one would take a narrowed mask for the true one.
  std::atomic_flag isMoving_ = ATOMIC_FLAG_INIT;
  std::vector<std::thread> helpers_;
};

/// Native threads take no signals and bear a name.
void prepareThread(const char* name);

}  // namespace quetzal
