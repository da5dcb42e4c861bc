#include "daemon/session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "no_files.h"
#include "scripted_source.h"

namespace lbrd::daemon {
namespace {

class SessionTest : public ::testing::Test {
 protected:
  SessionSource Source(std::unique_ptr<ScriptedSource> records) {
    SessionSource source;
    source.records = std::move(records);
    source.events = {{.format = pmu::WireSampleFormat()}};
    source.cpus = 1;
    source.begin = [](pmu::RecordWriter*) { return absl::OkStatus(); };
    return source;
  }
  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
};

// More samples than a stream holds.
std::unique_ptr<ScriptedSource> Flood(bool patient) {
  auto records = std::make_unique<ScriptedSource>(patient);
  for (uint64_t i = 0; i < SampleStream::kMaxSamples + 10'000; ++i) {
    records->Add(pmu::Wire(pmu::WireSample{.time = i + 1}));
  }
  records->RunOn();
  return records;
}

TEST_F(SessionTest, StoppingARecordingDoesNotWaitForAReaderWhoNeverComes) {
  Session session("s", v1::SessionSpec(), Source(Flood(/*patient=*/true)), &binaries_);
  const auto stream = session.AddStream();
  ASSERT_TRUE(stream.ok());
  // Its worker fills the stream, and waits.
  v1::Session described;
  while (described.stats().samples_delivered() < SampleStream::kMaxSamples) {
    std::this_thread::yield();
    session.Describe(&described);
  }
  session.Stop();
  EXPECT_TRUE(session.ended());
  std::vector<Sample> samples;
  EXPECT_FALSE((*stream)->Pop(absl::ZeroDuration(), &samples)) << "the stream was cancelled";
}

// Who reads that it runs may set off what is to be seen.
TEST_F(SessionTest, IsSaidToRunOnceItsEventsCount) {
  Session* session = nullptr;
  std::vector<v1::SessionState> states;
  const auto look = [&] {
    v1::Session described;
    session->Describe(&described);
    states = {session->state(), described.state()};
  };
  SessionSource source = Source(Flood(/*patient=*/false));
  source.begin = [&](pmu::RecordWriter*) {
    look();
    return absl::OkStatus();
  };
  Session made("s", v1::SessionSpec(), std::move(source), &binaries_);
  session = &made;
  ASSERT_TRUE(made.Start().ok());
  EXPECT_EQ(states, std::vector(2, v1::SESSION_STATE_WAITING));
  look();
  EXPECT_EQ(states, std::vector(2, v1::SESSION_STATE_RUNNING));
  made.Stop();
  EXPECT_EQ(made.state(), v1::SESSION_STATE_STOPPED);
}

TEST_F(SessionTest, AReaderWhoNeverComesLosesALiveSessionNothingButItsOwn) {
  Session session("s", v1::SessionSpec(), Source(Flood(/*patient=*/false)), &binaries_);
  const auto stream = session.AddStream();
  ASSERT_TRUE(stream.ok());
  v1::Session described;
  const auto accounted = [&] {
    session.Describe(&described);
    uint64_t dropped = 0;
    for (const v1::Count& count : described.stats().samples_dropped()) dropped += count.value();
    return described.stats().samples_delivered() + dropped;
  };
  while (accounted() < SampleStream::kMaxSamples + 10'000) std::this_thread::yield();
  session.Stop();
  accounted();
  EXPECT_EQ((*stream)->dropped(),
            described.stats().samples_delivered() - SampleStream::kMaxSamples);
}

TEST_F(SessionTest, WhoHasStoppedItIsNotCalledBackAfterwards) {
  Session session("s", v1::SessionSpec(), Source(Flood(/*patient=*/false)), &binaries_);
  absl::Notification ended;
  std::atomic<bool> told = false;
  // What a daemon that ends does: whoever was to be told is gone when Stop() has returned.
  session.set_on_ended([&](const absl::Status&) {
    ended.Notify();
    absl::SleepFor(absl::Milliseconds(50));
    told = true;
  });
  ASSERT_TRUE(session.Start().ok());
  std::thread other([&] {
    ended.WaitForNotification();
    session.Stop();
    EXPECT_TRUE(told);
  });
  session.Stop();
  EXPECT_TRUE(told);
  other.join();
}

class SessionInTheNextEngineTest : public SessionTest {
 protected:
  std::unique_ptr<ScriptedSource> Few(uint64_t samples) {
    auto records = std::make_unique<ScriptedSource>(/*patient=*/false);
    for (uint64_t i = 0; i < samples; ++i) {
      records->Add(pmu::Wire(pmu::WireSample{.time = i + 1}));
    }
    records->RunOn();
    return records;
  }
  std::shared_ptr<SessionJournal::SessionEntry> Entry() {
    auto entry = journal_.AddSession();
    entry->Update([](journal::SessionRecord* record) {
      record->set_id(7);
      record->set_name("s");
      record->set_create_unix_ns(123'000'000'000);
    });
    return entry;
  }
  EarlierLife Left() {
    const auto left = SessionJournal(std::as_writable_bytes(std::span(words_))).LeftSessions();
    EXPECT_EQ(left.size(), 1u);
    return {.record = left[0].record, .figures = left[0].figures, .why = "it died"};
  }
  static v1::Session Described(const Session& session) {
    v1::Session described;
    session.Describe(&described);
    return described;
  }
  static void AwaitDelivered(const Session& session, uint64_t samples) {
    while (session.samples() < samples) std::this_thread::yield();
  }

  std::vector<uint64_t> words_ = std::vector<uint64_t>(kJournalBytes / 8);
  SessionJournal journal_{std::as_writable_bytes(std::span(words_))};
};

TEST_F(SessionInTheNextEngineTest, GoesOnWithWhatItHadCounted) {
  Session first("s", v1::SessionSpec(), Source(Few(40)), &binaries_);
  first.KeepIn(Entry());
  ASSERT_TRUE(first.Start().ok());
  AwaitDelivered(first, 40);
  first.KeepFigures();
  const EarlierLife left = Left();  // it is killed here
  EXPECT_EQ(left.record.state(), v1::SESSION_STATE_RUNNING);
  EXPECT_EQ(left.figures.seen, 40u);

  Session second("s", v1::SessionSpec(), Source(Few(5)), &binaries_);
  second.KeepIn(Entry());
  second.GoOn(left);
  EXPECT_EQ(second.state(), v1::SESSION_STATE_WAITING);
  ASSERT_TRUE(second.Start().ok());
  AwaitDelivered(second, 5);
  second.Stop();
  const v1::Session described = Described(second);
  const v1::SessionStats& stats = described.stats();
  EXPECT_EQ(stats.samples_seen(), 45u);
  EXPECT_EQ(stats.samples_delivered(), 5u);
  ASSERT_EQ(stats.samples_dropped_size(), 1);
  EXPECT_EQ(stats.samples_dropped(0).name(), "engine_died");
  EXPECT_EQ(stats.samples_dropped(0).value(), 40u);
  EXPECT_EQ(stats.engine_deaths(), 1u);
  ASSERT_EQ(stats.gaps_size(), 1);
  EXPECT_EQ(stats.gaps(0).why(), "it died");
  EXPECT_EQ(stats.gaps(0).from_ns(), left.figures.time_ns);
  EXPECT_GE(stats.gaps(0).to_ns(), stats.gaps(0).from_ns());
  EXPECT_EQ(stats.gap_ns(), stats.gaps(0).to_ns() - stats.gaps(0).from_ns());
  EXPECT_EQ(described.create_time().seconds(), 123);
}

TEST_F(SessionInTheNextEngineTest, AnEngineThatDiesBeforeItSamplesChangesNothing) {
  Session first("s", v1::SessionSpec(), Source(Few(40)), &binaries_);
  first.KeepIn(Entry());
  ASSERT_TRUE(first.Start().ok());
  AwaitDelivered(first, 40);
  first.KeepFigures();
  first.Stop();
  first.Forget();
  const auto entry = Entry();
  entry->Update([](journal::SessionRecord* record) {
    record->set_state(v1::SESSION_STATE_RUNNING);
    record->set_begin_unix_ns(1);
  });
  entry->WriteFigures([] { return SessionFigures{.time_ns = 5, .seen = 40}; });
  Session second("s", v1::SessionSpec(), Source(Few(0)), &binaries_);
  second.KeepIn(entry);
  second.GoOn(Left());
  EXPECT_EQ(Left().record.state(), v1::SESSION_STATE_RUNNING);
  EXPECT_EQ(Left().figures.time_ns, 5u) << "the gap is still to begin there";
  EXPECT_EQ(Left().record.gaps_size(), 0);
}

TEST_F(SessionInTheNextEngineTest, WhatLiesUnreadInTheRingsBelongsToTheGap) {
  const auto now_ns = [] {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  };
  const uint64_t before_ns = now_ns();
  Session session("s", v1::SessionSpec(), Source(Few(40)), &binaries_);
  session.KeepIn(Entry());
  ASSERT_TRUE(session.Start().ok());
  AwaitDelivered(session, 40);
  session.KeepFigures();
  // The two clocks may be read some way apart.
  EXPECT_GE(Left().figures.time_ns + 50'000'000, before_ns) << "not before its begin";
  absl::SleepFor(kLongRound);
  session.KeepFigures();
  EXPECT_LE(Left().figures.time_ns + static_cast<uint64_t>(absl::ToInt64Nanoseconds(kLongRound)),
            now_ns());
  EXPECT_GE(Left().figures.time_ns + 50'000'000, before_ns);
  session.Stop();
}

TEST_F(SessionInTheNextEngineTest, OneThatHasEndedStaysSo) {
  const auto entry = Entry();
  entry->Update([](journal::SessionRecord* record) {
    record->set_state(v1::SESSION_STATE_FAILED);
    record->set_error("no such luck");
    record->set_begin_unix_ns(1'000'000'000);
    record->set_end_unix_ns(3'000'000'000);
  });
  entry->WriteFigures([] { return SessionFigures{.time_ns = 5, .seen = 40}; });
  Session session("s", v1::SessionSpec(), Source(Few(5)), &binaries_);
  EarlierLife left = Left();
  left.had_ended = true;
  session.KeepIn(entry);
  session.GoOn(left);
  const v1::Session described = Described(session);
  EXPECT_EQ(described.state(), v1::SESSION_STATE_FAILED);
  EXPECT_EQ(described.error(), "no such luck");
  EXPECT_EQ(described.running_time().seconds(), 2);
  EXPECT_EQ(described.stats().samples_seen(), 40u);
  EXPECT_EQ(described.stats().gaps_size(), 0);
  EXPECT_EQ(described.stats().engine_deaths(), 0u) << "not during the session";
  EXPECT_EQ(described.stats().samples_dropped(0).value(), 40u)
      << "its profile is gone all the same";
}

TEST_F(SessionInTheNextEngineTest, TakesAnyFiguresAndTimes) {
  EarlierLife left;
  left.record.set_state(v1::SESSION_STATE_RUNNING);
  left.record.set_create_unix_ns(INT64_MAX);
  left.record.set_begin_unix_ns(INT64_MIN);
  left.figures = {.time_ns = UINT64_MAX, .seen = UINT64_MAX, .queue_full = UINT64_MAX};
  for (int i = 0; i < 100; ++i) {
    v1::Gap* gap = left.record.add_gaps();
    gap->set_from_ns(UINT64_MAX);
    gap->set_to_ns(static_cast<uint64_t>(i) << 57);
  }
  Session session("s", v1::SessionSpec(), Source(Few(5)), &binaries_);
  session.KeepIn(Entry());
  session.GoOn(left);
  ASSERT_TRUE(session.Start().ok());
  AwaitDelivered(session, 5);
  session.Stop();
  const v1::Session described = Described(session);
  EXPECT_LE(described.stats().gaps_size(), 64);
  EXPECT_LE(described.stats().gaps().rbegin()->from_ns(),
            described.stats().gaps().rbegin()->to_ns());
}

}  // namespace
}  // namespace lbrd::daemon
