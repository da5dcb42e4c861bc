// Every record that the kernel writes is read, and every event that it counts is accounted for, to
// the last one. The oracle is a naive walk over the same rings, which are too large to wrap.
//
// The event's own count can be ahead of the samples: the kernel counts some events (a few page
// faults in 100,000 where samples carry stacks, about 3 % of context switches) and writes neither a
// sample nor a loss for them. PERF_SAMPLE_READ shows it: the count in one sample is more than one
// above the count in the sample written before it on that CPU, and the loss count stands still.
// Those gaps are the kernel's; this test tells them from samples that a reader would miss.

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "pmu/event_set.h"
#include "pmu/linux_kernel.h"

extern char** environ;

namespace lbrd::pmu {
namespace {

// Twice what the programs below fill on one CPU.
constexpr uint64_t kRingBytes = uint64_t{64} << 20;
constexpr int kPrograms = 200;

// The real kernel, with a note of where the rings are.
class WatchedKernel : public LinuxKernel {
 public:
  void* MapRing(int fd, uint64_t data_bytes, int* error) override {
    void* memory = LinuxKernel::MapRing(fd, data_bytes, error);
    if (memory != nullptr) rings.push_back(memory);
    return memory;
  }
  std::vector<void*> rings;
};

// Short programs, which fault in all their pages.
void RunPrograms() {
  for (int i = 0; i < kPrograms; ++i) {
    pid_t pid;
    char name[] = "true";
    char* const arguments[] = {name, nullptr};
    if (posix_spawnp(&pid, name, nullptr, nullptr, arguments, environ) != 0) return;
    waitpid(pid, nullptr, 0);
  }
}

struct RingAccount {
  uint64_t samples = 0;
  uint64_t other_records = 0;
  uint64_t uncounted_gaps = 0;  // events counted between two samples, of which there is no record
  uint64_t last_count = 0;
};

// Samples: ip, pid and tid, time, ..., then the values of PERF_SAMPLE_READ at word `read_word`.
RingAccount WalkRing(const void* ring, size_t read_word) {
  RingAccount account;
  const auto* control = static_cast<const perf_event_mmap_page*>(ring);
  const char* data = static_cast<const char*>(ring) + control->data_offset;
  EXPECT_LE(control->data_head, control->data_size) << "the ring wrapped: the walk sees too little";
  for (uint64_t at = 0; at < std::min<uint64_t>(control->data_head, control->data_size);) {
    const auto* header = reinterpret_cast<const perf_event_header*>(data + at);
    if (header->type == PERF_RECORD_SAMPLE) {
      const uint64_t count = reinterpret_cast<const uint64_t*>(header + 1)[read_word];
      ++account.samples;
      account.uncounted_gaps += count - account.last_count - 1;
      account.last_count = count;
    } else {
      ++account.other_records;
    }
    at += header->size;
  }
  return account;
}

class Accounting : public testing::TestWithParam<const char*> {};

TEST_P(Accounting, EveryRecordIsReadAndEveryCountedEventHasAPlace) {
  WatchedKernel kernel;
  const EventRequest request{.event = GetParam(),
                             .period = 1,
                             .best_source = false,
                             .source = StackSource::kDwarf,
                             .stack_copy_bytes = 512};
  absl::StatusOr<ChosenEvent> chosen = ChooseEvent(kernel, request);
  if (absl::IsPermissionDenied(chosen.status())) GTEST_SKIP() << chosen.status().message();
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  chosen->attr.sample_type |= PERF_SAMPLE_READ;
  // IDENTIFIER, IP, TID, TIME and CPU come before READ, and the count is its first word.
  constexpr size_t kReadWord = 5;
  absl::StatusOr<std::unique_ptr<EventSet>> set = EventSet::Open(kernel, *chosen, {}, kRingBytes);
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_TRUE((*set)->StartSideBand().ok());
  ASSERT_TRUE((*set)->StartSampling().ok());

  std::atomic<bool> load_done = false;
  std::thread load([&] {
    RunPrograms();
    load_done = true;
  });
  uint64_t samples = 0;
  uint64_t other_records = 0;
  bool finishing = false;
  while (true) {
    RawRecord record;
    const absl::StatusOr<ReadResult> result = (*set)->Next(&record);
    ASSERT_TRUE(result.ok()) << result.status();
    if (*result == ReadResult::kRecord) {
      ++(record.header->type == PERF_RECORD_SAMPLE ? samples : other_records);
      continue;
    }
    if (*result == ReadResult::kEnd) break;
    if (!finishing && load_done) {
      finishing = true;
      (*set)->Finish();
      continue;
    }
    (*set)->Wait(absl::Milliseconds(20));
  }
  load.join();

  RingAccount walked;
  for (const void* ring : kernel.rings) {
    const RingAccount account = WalkRing(ring, kReadWord);
    walked.samples += account.samples;
    walked.other_records += account.other_records;
    walked.uncounted_gaps += account.uncounted_gaps;
    walked.last_count += account.last_count;
  }
  const SourceStats stats = (*set)->stats();
  EXPECT_GT(samples, 100);
  EXPECT_EQ(samples, walked.samples);
  EXPECT_EQ(other_records, walked.other_records);
  EXPECT_EQ(stats.samples, samples);
  EXPECT_EQ(stats.lost_samples, 0);
  EXPECT_EQ(stats.undecodable, 0);
  // What follows the last sample of a CPU has no sample to show it.
  EXPECT_LE(stats.kernel_count - walked.last_count, 2 * kernel.rings.size());
  EXPECT_EQ(walked.last_count, samples + walked.uncounted_gaps);
  std::cout << stats.kernel_count << " events, " << samples << " samples, " << walked.uncounted_gaps
            << " counted by the kernel without a record\n";
}

INSTANTIATE_TEST_SUITE_P(Events, Accounting, testing::Values("page-faults", "context-switches"),
                         [](const auto& test) { return std::string(test.param).substr(0, 4); });

}  // namespace
}  // namespace lbrd::pmu
