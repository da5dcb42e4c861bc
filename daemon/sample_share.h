// Samples that several sessions take of one flow: who gets which, decided by the reader, in time
// order, before anything is spent on a sample.
//
//   source -> gate: for whom? -> worker: resolve once -> each subscriber, with its own weight
//
// A sample that nobody wants goes no further. Who wants it travels with it across the queue, so
// workers look nothing up and take no lock.
//
// Thread rules: a gate belongs to the reader; subscribers are told by the reader and by all
// workers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/sample.h"
#include "pmu/record_source.h"

namespace lbrd::daemon {

// How soon samples are wanted. What may come later comes in larger pieces, which costs less: each
// time that a thread wakes it finds its caches taken by others.
enum class Haste : uint8_t {
  kNone,       // read every kLongRound, and handed on at most kLongestHold later
  kOnceRead,   // read every kLongRound, then handed on at once: what was not is lost with an engine
  kWaitedFor,  // read every kShortRound, and handed on at once
};

// A quiet ring never reaches its watermark: this is how late its samples are read at most.
inline constexpr absl::Duration kShortRound = absl::Milliseconds(100);
inline constexpr absl::Duration kLongRound = absl::Milliseconds(500);
// Shorter than a long round: of a quiet flow nothing is held, so that nothing else need wake.
inline constexpr absl::Duration kLongestHold = absl::Milliseconds(200);

// Where finished samples go. Called from all workers' threads.
class SampleSink {
 public:
  SampleSink() = default;
  SampleSink(const SampleSink&) = delete;
  SampleSink& operator=(const SampleSink&) = delete;
  virtual ~SampleSink() = default;
  virtual void Deliver(std::span<const Sample> samples) = 0;
  // Some of `samples`. The same as Deliver() of copies with these weights, which is what it does if
  // it is not overridden; who only counts them need not copy.
  virtual void DeliverPicked(std::span<const Sample> samples, std::span<const PickedSample> picked);
  virtual Haste haste() const { return Haste::kWaitedFor; }
};

// Who has a share in a flow. Outlives every sample that it has a share in: see Departure.
class Subscriber : public SampleSink {
 public:
  // What a worker can tell and the reader cannot: whether threads of that name are wanted. Not
  // wanted: counted.
  virtual bool WantsComm(absl::string_view comm) = 0;
  enum class Drop { kQueueFull, kUndecodable };
  virtual void Dropped(Drop why) = 0;
};

// One subscriber's share in one sample.
struct SampleShare {
  Subscriber* subscriber = nullptr;
  // How many units of the event the sample stands for, for this subscriber: so many, or where this
  // is 0, `scale` times what the sample itself says.
  uint64_t weight = 0;
  double scale = 1;
  // Only if WantsComm(). A subscriber is written to by the reader all the time, so that a look at
  // it costs a worker a cache miss: not where nothing is asked for.
  bool asks_comm = false;
};

// A subscriber leaves: handed to each worker behind the last sample it has a share in. When the
// last worker has delivered what it had, `gone` is called, from that worker's thread; nothing
// refers to the subscriber any more.
class Departure {
 public:
  Departure(Subscriber* subscriber, size_t workers, std::function<void()> gone)
      : subscriber_(subscriber), workers_(workers), gone_(std::move(gone)) {}
  Subscriber* subscriber() const { return subscriber_; }
  void WorkerIsDone() {
    if (workers_.fetch_sub(1, std::memory_order_acq_rel) == 1) gone_();
  }

 private:
  Subscriber* const subscriber_;
  std::atomic<size_t> workers_;
  const std::function<void()> gone_;
};

class SampleGate {
 public:
  virtual ~SampleGate() = default;
  // Sees every record, in time order. Of a sample: appends who has a share in it.
  virtual void See(const pmu::RawRecord& record, std::vector<SampleShare>* shares) = 0;
  // Between two records, often.
  virtual void Attend() = 0;
  // How long the reader may sleep when there is nothing to read, at most.
  virtual absl::Duration MaxWait() const = 0;
  // The flow is to end.
  virtual bool over() const = 0;
};

}  // namespace lbrd::daemon
