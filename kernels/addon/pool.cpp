#include "pool.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>

namespace quetzal {
namespace {

/// About two phases of a small model: shorter gaps are spun through.
constexpr int64_t spinNs = 20'000;

// state: phase in bits 40.., chunk count in bits 20..39, next chunk below.
uint64_t stateOf(int phase, int count) {
  return static_cast<uint64_t>(phase) << 40 | static_cast<uint64_t>(count) << 20;
}
int phaseOf(uint64_t state) { return static_cast<int>(state >> 40); }
int countOf(uint64_t state) { return static_cast<int>(state >> 20 & 0xfffff); }
int nextOf(uint64_t state) { return static_cast<int>(state & 0xfffff); }

int64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

void futexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr,
          nullptr, 0);
}

void futexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr,
          nullptr, 0);
}

}  // namespace

namespace {

/// Linux's `struct sched_attr`, first version; the C library does not declare it.
struct SchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtimeNs, deadlineNs, periodNs;
};

constexpr uint64_t sliceNs = 20'000'000;

/// Asks the scheduler for long slices. The share of the core stays the same, but a
/// thread that wakes up with the usual slice (about 3 ms) goes first: the event
/// loops of this and other services answer at once on cores that compute steps.
/// Kernels before 6.12 ignore the wish, and nothing depends on it.
void askForLongSlices() {
  SchedAttr attr{};
  attr.size = sizeof attr;
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0) return;
  if (attr.policy != SCHED_OTHER) return;
  attr.runtimeNs = sliceNs;
  syscall(SYS_sched_setattr, 0, &attr, 0);
}

}  // namespace

void prepareThread(const char* name) {
  askForLongSlices();
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
}

Pool::Pool(int threads) {
  try {
    helpers_.reserve(threads - 1);
    for (int worker = 1; worker < threads; ++worker) {
      helpers_.emplace_back([this, worker] { help(worker); });
    }
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  stopping_.store(true);
  wakeAll();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void Pool::run(PhasedJob& job) {
  job_.store(&job, std::memory_order_relaxed);
  done_.store(false, std::memory_order_relaxed);
  openPhase(0);
  while (true) {
    // Read before `done_`, so that its change cannot slip in between.
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (done_.load(std::memory_order_seq_cst)) return;
    if (!takeChunk(0)) waitForChange(epoch);
  }
}

void Pool::help(int worker) {
  prepareThread("quetzal-help");
  while (!stopping_.load(std::memory_order_acquire)) {
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (!takeChunk(worker)) waitForChange(epoch);
  }
}

bool Pool::takeChunk(int worker) {
  uint64_t state = state_.load(std::memory_order_acquire);
  while (nextOf(state) < countOf(state)) {
    if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    const int phase = phaseOf(state);
    job_.load(std::memory_order_relaxed)->run(phase, nextOf(state), worker);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) openPhase(phase + 1);
    return true;
  }
  return false;
}

void Pool::openPhase(int phase) {
  PhasedJob& job = *job_.load(std::memory_order_relaxed);
  const int phases = job.phases();
  int count = 0;
  while (phase < phases && (count = job.chunks(phase)) == 0) ++phase;
  const bool isLast = phase >= phases;
  if (isLast) {
    state_.store(stateOf(0, 0), std::memory_order_seq_cst);
    done_.store(true, std::memory_order_seq_cst);
  } else {
    unfinished_.store(count, std::memory_order_relaxed);
    state_.store(stateOf(phase, count), std::memory_order_seq_cst);
  }
  // A single chunk is taken by the opener itself.
  if (isLast || count > 1) {
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) futexWakeAll(epoch_);
  }
}

void Pool::wakeAll() {
  epoch_.fetch_add(1);
  futexWakeAll(epoch_);
}

void Pool::waitForChange(uint32_t epoch) {
  const auto isWaiting = [&] {
    const uint64_t state = state_.load(std::memory_order_seq_cst);
    return nextOf(state) >= countOf(state) && epoch_.load(std::memory_order_relaxed) == epoch &&
        !stopping_.load(std::memory_order_relaxed);
  };
  const int64_t until = nowNs() + spinNs;
  do {
    for (int i = 0; i < 32; ++i) {
      if (!isWaiting()) return;
      _mm_pause();
    }
  } while (nowNs() < until);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  if (isWaiting()) futexWait(epoch_, epoch);
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

}  // namespace quetzal
