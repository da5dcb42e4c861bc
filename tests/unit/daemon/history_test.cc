#include "daemon/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "absl/time/clock.h"
#include "history_files.h"
#include "pmu/linux_kernel.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;

class HistoryTest : public ::testing::Test {
 protected:
  std::unique_ptr<History> Open() {
    absl::StatusOr<std::unique_ptr<History>> history =
        History::Open(&kernel_, {.path = folder_.file(), .bucket = absl::Seconds(1)});
    EXPECT_TRUE(history.ok()) << history.status();
    return history.ok() ? *std::move(history) : nullptr;
  }
  // A sample of this process, now.
  Sample Now() {
    const auto thread =
        std::make_shared<ThreadInfo>(ThreadInfo{1, getpid(), getpid(), "thread", "process"});
    return MakeSample(kernel_.Now(), NumberedStack(1), thread);
  }
  std::shared_ptr<HistoryRecorder> Record(History& history) {
    auto recorder = history.Record("s", 0, {{"cycles", "cycles"}});
    recorder->Begin([] { return 0; });
    return recorder;
  }

  pmu::LinuxKernel kernel_;
  HistoryFolder folder_;
};

TEST_F(HistoryTest, AQuestionFindsWhatCameJustNowWithItsProcess) {
  const std::unique_ptr<History> history = Open();
  const auto recorder = Record(*history);
  const Sample sample = Now();
  recorder->Deliver({&sample, 1});
  HistoryQuery query;
  query.by = {HistoryKey::kComm, HistoryKey::kUid, HistoryKey::kExe};
  const absl::StatusOr<HistoryAnswer> answer = history->Query(query);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->rows.size(), 1u);
  EXPECT_THAT(answer->rows[0].keys,
              ::testing::ElementsAre("thread", std::to_string(geteuid()),
                                     std::filesystem::read_symlink("/proc/self/exe").string()));
  EXPECT_GT(history->stats().buckets_stored, 0u);
  recorder->End();
}

TEST_F(HistoryTest, WhatWasSampledIsStoredWhenItEnds) {
  {
    const std::unique_ptr<History> history = Open();
    const auto recorder = Record(*history);
    const Sample sample = Now();
    recorder->Deliver({&sample, 1});
  }
  EXPECT_EQ(Open()->Query({})->samples, 1u);
}

TEST_F(HistoryTest, ASecondDaemonIsKeptAway) {
  const std::unique_ptr<History> history = Open();
  const absl::Status second = History::Open(&kernel_, {.path = folder_.file()}).status();
  EXPECT_TRUE(absl::IsAlreadyExists(second));
  EXPECT_THAT(second.message(), HasSubstr("--history"));
}

TEST_F(HistoryTest, ADamagedFileIsSetAsideAndANewOneBegun) {
  for (int round = 0; round < 2; ++round) {  // the second takes the first one's place
    std::ofstream(folder_.file()) << std::string(10'000, 'x');
    const std::unique_ptr<History> history = Open();
    ASSERT_NE(history, nullptr);
    EXPECT_THAT(history->stats().notice, HasSubstr("history.db.damaged"));
    EXPECT_EQ(std::filesystem::file_size(folder_.file() + ".damaged"), 10'000u);
    const auto recorder = Record(*history);
    const Sample sample = Now();
    recorder->Deliver({&sample, 1});
    const absl::StatusOr<HistoryAnswer> answer = history->Query({});
    EXPECT_EQ(answer->samples, 1u);
    EXPECT_THAT(answer->notes, ::testing::Contains(HasSubstr("damaged")));
  }
}

TEST_F(HistoryTest, AFullDiskIsToldAndWhatWaitsIsStoredLater) {
  signal(SIGXFSZ, SIG_IGN);
  const std::unique_ptr<History> history = Open();
  const auto recorder = Record(*history);
  rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none{1, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &none);
  const Sample sample = Now();
  recorder->Deliver({&sample, 1});
  absl::StatusOr<HistoryAnswer> answer = history->Query({});
  setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->samples, 0u);
  EXPECT_THAT(answer->notes, ::testing::Contains(HasSubstr("cannot be written")));
  const HistoryStats stats = history->stats();
  EXPECT_NE(stats.error, "");
  EXPECT_GT(stats.failures, 0u);
  EXPECT_GT(stats.queue_bytes, 0u);
  while (!history->stats().error.empty()) absl::SleepFor(absl::Milliseconds(50));
  answer = history->Query({});
  EXPECT_EQ(answer->samples, 1u);
  EXPECT_TRUE(answer->notes.empty()) << answer->notes[0];
}

TEST_F(HistoryTest, ManyAskWhileSamplesCome) {
  const std::unique_ptr<History> history = Open();
  const auto recorder = Record(*history);
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> delivered = 0;
  std::thread deliverer([&] {
    while (!stop) {
      const Sample sample = Now();
      recorder->Deliver({&sample, 1});
      ++delivered;
      absl::SleepFor(absl::Milliseconds(1));
    }
  });
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      uint64_t seen = 0;
      for (int round = 0; round < 20; ++round) {
        const absl::StatusOr<HistoryAnswer> answer = history->Query({});
        ASSERT_TRUE(answer.ok()) << answer.status();
        EXPECT_GE(answer->samples, seen) << "what was there stays";
        seen = answer->samples;
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  stop = true;
  deliverer.join();
  recorder->End();
  while (history->Query({})->samples != delivered) absl::SleepFor(absl::Milliseconds(50));
}

}  // namespace
}  // namespace lbrd::daemon
