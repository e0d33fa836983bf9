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
#pragma once
#include <atomic>
#include <cstdint>
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
  void waitForChange(uint32_t epoch);
  void wakeAll();
  void stop();

  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<PhasedJob*> job_{nullptr};
  std::atomic<bool> done_{true};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> helpers_;
};

/// Native threads take no signals and bear a name.
void prepareThread(const char* name);

}  // namespace quetzal
