// How often a flow's reader looks at rings that never reach their watermark: as often as those who
// have a share in it need, and no more.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "daemon/flow_table.h"
#include "pmu/admission_limits.h"
#include "tests/sim/program_elf.h"
#include "tests/sim/set_reader.h"

namespace lbrd::sim {
namespace {

using daemon::Haste;

// Remembers the longest time that anybody was ready to sleep.
class WatchedKernel : public SimKernel {
 public:
  explicit WatchedKernel(const SimOptions& options) : SimKernel(options) {}
  int Poll(std::span<pollfd> fds, int timeout_ms) override {
    int longest = longest_ms_;
    while (longest < timeout_ms && !longest_ms_.compare_exchange_weak(longest, timeout_ms)) {
    }
    return SimKernel::Poll(fds, timeout_ms);
  }
  int TakeLongest() { return longest_ms_.exchange(0); }

 private:
  std::atomic<int> longest_ms_ = 0;
};

class SinkInNoHurry : public daemon::SampleSink {
 public:
  explicit SinkInNoHurry(Haste haste) : haste_(haste) {}
  void Deliver(std::span<const daemon::Sample>) override {}
  Haste haste() const override { return haste_; }
  void set_haste(Haste haste) { haste_ = haste; }

 private:
  std::atomic<Haste> haste_;
};

class FlowRoundsOnSim : public ::testing::Test {
 protected:
  FlowRoundsOnSim() {
    kernel_.With([this](Machine& machine) {
      SpawnOptions spawn;
      spawn.behaviour = machine.AddBehaviour({});
      const auto made = machine.AddProgram({});
      files_.Add(*made);
      ASSERT_NE(machine.Spawn(made, spawn), nullptr);
    });
  }

  static v1::SessionSpec Spec() {
    v1::SessionSpec spec;
    spec.mutable_target()->mutable_all_cpus();
    spec.set_event("cpu-clock");
    spec.set_frequency_hz(19);
    return *daemon::CheckSpec(spec, /*replay=*/false);
  }

  // The longest sleep in a second or more, from now on.
  int LongestSleep() {
    const auto pass = [this](uint64_t ns) {
      const uint64_t end = kernel_.Now() + ns;
      while (kernel_.Now() < end) absl::SleepFor(absl::Milliseconds(1));
    };
    pass(500'000'000);
    kernel_.TakeLongest();
    pass(1'000'000'000);
    return kernel_.TakeLongest();
  }

  WatchedKernel kernel_{SimOptions()};
  pmu::Admission admission_{pmu::DetectAdmissionLimits(kernel_)};
  ProgramFiles files_;
  unwind::BinaryCache binaries_{&files_};
  daemon::FlowTable flows_{&kernel_, &admission_, &binaries_, /*tasks=*/nullptr,
                           absl::ZeroDuration()};
};

// A share that has begun, until it goes.
class Running {
 public:
  Running(daemon::FlowTable* flows, const v1::SessionSpec& spec, Haste haste) : sink(haste) {
    auto joined = flows->Join("session", spec);
    EXPECT_TRUE(joined.ok()) << joined.status();
    feed_ = *std::move(joined);
    const absl::Status begun = feed_->Begin(absl::InfiniteDuration(), &sink,
                                            [this](const absl::Status&) { done_.Notify(); });
    // Simulated time would stand still.
    if (!begun.ok()) throw std::runtime_error(begun.ToString());
  }
  ~Running() {
    feed_->RequestStop();
    done_.WaitForNotification();
  }
  SinkInNoHurry sink;

 private:
  std::unique_ptr<daemon::SessionFeed> feed_;
  absl::Notification done_;
};

const int kShort = static_cast<int>(absl::ToInt64Milliseconds(daemon::kShortRound));
const int kLong = static_cast<int>(absl::ToInt64Milliseconds(daemon::kLongRound));

TEST_F(FlowRoundsOnSim, WhatNobodyWaitsForIsReadLessOften) {
  ASSERT_LT(kShort, kLong);
  Running session(&flows_, Spec(), Haste::kNone);
  EXPECT_EQ(LongestSleep(), kLong);
  session.sink.set_haste(Haste::kOnceRead);
  EXPECT_EQ(LongestSleep(), kLong);
}

TEST_F(FlowRoundsOnSim, OneWhoWaitsIsEnoughAndAsLongAsThereIsOne) {
  Running session(&flows_, Spec(), Haste::kNone);
  {
    Running streamed(&flows_, Spec(), Haste::kWaitedFor);
    EXPECT_EQ(LongestSleep(), kShort);
    streamed.sink.set_haste(Haste::kNone);
    EXPECT_EQ(LongestSleep(), kLong);
    streamed.sink.set_haste(Haste::kWaitedFor);
    EXPECT_EQ(LongestSleep(), kShort);
  }
  EXPECT_EQ(LongestSleep(), kLong);
}

// Whose a process is can be read only while it lives.
TEST_F(FlowRoundsOnSim, WhoAsksForAUserIsReadOften) {
  v1::SessionSpec spec = Spec();
  spec.mutable_target()->mutable_user()->set_uid(1000);
  Running session(&flows_, spec, Haste::kNone);
  EXPECT_EQ(LongestSleep(), kShort);
}

}  // namespace
}  // namespace lbrd::sim
