#include "daemon/session_journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

class SessionJournalTest : public ::testing::Test {
 protected:
  SessionJournalTest() : words_(kJournalBytes / 8) {}
  std::span<std::byte> memory() { return std::as_writable_bytes(std::span(words_)); }
  static void Fill(SessionJournal::SessionEntry* entry, uint64_t id, const std::string& name) {
    ASSERT_TRUE(entry->Update([&](journal::SessionRecord* record) {
      record->set_id(id);
      record->set_name(name);
      record->mutable_spec()->mutable_target()->mutable_all_cpus();
    }));
  }

  std::vector<uint64_t> words_;
};

TEST_F(SessionJournalTest, TheNextEngineFindsWhatWasLeft) {
  SessionJournal first(memory());
  const auto session = first.AddSession();
  Fill(session.get(), 7, "1500/web");
  session->WriteFigures([] { return SessionFigures{.time_ns = 5, .seen = 100, .lost = 3}; });
  const auto stream = first.AddStream();
  StreamPoint point{.session_id = 7, .sequence = 4, .samples = 90, .last_ns = 77};
  std::fill(std::begin(point.name), std::end(point.name), 'a');
  stream->Write(point);

  SessionJournal next(memory());
  const auto sessions = next.LeftSessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].record.name(), "1500/web");
  EXPECT_TRUE(sessions[0].record.spec().target().has_all_cpus());
  EXPECT_EQ(sessions[0].figures.seen, 100u);
  const auto streams = next.LeftStreams();
  ASSERT_EQ(streams.size(), 1u);
  EXPECT_EQ(streams[0].point.samples, 90u);
  // They stay where they are, and others get other places.
  const auto taken = next.TakeSession(sessions[0]);
  const auto other = next.AddSession();
  Fill(other.get(), 8, "other");
  EXPECT_EQ(SessionJournal(memory()).LeftSessions().size(), 2u);
  EXPECT_EQ(taken->id(), 7u);
}

TEST_F(SessionJournalTest, WhatIsGoneIsNotThere) {
  SessionJournal journal(memory());
  auto session = journal.AddSession();
  Fill(session.get(), 7, "web");
  session->Erase();
  EXPECT_TRUE(SessionJournal(memory()).LeftSessions().empty());
  Fill(session.get(), 7, "web");
  EXPECT_TRUE(SessionJournal(memory()).LeftSessions().empty()) << "erased is erased";
  session.reset();
  session = journal.AddSession();
  Fill(session.get(), 8, "web");
  ASSERT_EQ(SessionJournal(memory()).LeftSessions().size(), 1u);
  EXPECT_EQ(SessionJournal(memory()).LeftSessions()[0].figures.seen, 0u);
  session.reset();
  EXPECT_TRUE(SessionJournal(memory()).LeftSessions().empty());
}

TEST_F(SessionJournalTest, IsFullAtSomePoint) {
  SessionJournal journal(memory());
  std::vector<std::shared_ptr<SessionJournal::SessionEntry>> sessions;
  for (size_t i = 0; i < SessionJournal::kSessions; ++i) {
    sessions.push_back(journal.AddSession());
    ASSERT_NE(sessions.back(), nullptr);
    Fill(sessions.back().get(), i + 1, absl::StrCat("session-", i));
  }
  EXPECT_EQ(journal.AddSession(), nullptr);
  std::vector<std::unique_ptr<SessionJournal::StreamEntry>> streams;
  while (auto stream = journal.AddStream()) streams.push_back(std::move(stream));
  EXPECT_EQ(streams.size(), SessionJournal::kStreams);
  EXPECT_EQ(SessionJournal(memory()).LeftSessions().size(), SessionJournal::kSessions);
  sessions[100].reset();
  EXPECT_NE(journal.AddSession(), nullptr);
}

TEST_F(SessionJournalTest, ARecordThatIsTooLongIsNotKept) {
  SessionJournal journal(memory());
  const auto session = journal.AddSession();
  Fill(session.get(), 7, "web");
  const auto grow = [](size_t events, size_t path) {
    return [=](journal::SessionRecord* record) {
      record->clear_events();
      record->add_events()->set_name(std::string(events, 'e'));
      record->mutable_spec()->mutable_target()->mutable_cgroup()->set_path(std::string(path, 'p'));
    };
  };
  EXPECT_TRUE(session->Update(grow(4000, 100))) << "it only describes it";
  auto left = SessionJournal(memory()).LeftSessions();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].record.events_size(), 0);
  EXPECT_FALSE(session->Update(grow(10, 4000)));
  EXPECT_TRUE(SessionJournal(memory()).LeftSessions().empty())
      << "one that is not known whole is not known at all";
}

TEST_F(SessionJournalTest, FiguresAddUpWhateverTheMomentsTheyAreOf) {
  SessionFigures figures{
      .seen = 100, .queue_full = 10, .other_users = 5, .flow_samples = 1000, .thinned = 700};
  figures.EndWithEngine();
  EXPECT_EQ(figures.engine_died, 85u);
  EXPECT_EQ(figures.flow_samples, 800u);
  // Dropped after it was asked how many were seen.
  SessionFigures odd{.seen = 3, .queue_full = 5};
  odd.EndWithEngine();
  EXPECT_EQ(odd.seen, 5u);
  EXPECT_EQ(odd.engine_died, 0u);
  // Another death: what was counted as lost with the first engine stays so.
  figures += SessionFigures{.seen = 20, .undecodable = 1, .flow_samples = 30, .thinned = 10};
  figures.EndWithEngine();
  EXPECT_EQ(figures.seen, 120u);
  EXPECT_EQ(figures.engine_died, 104u);
  EXPECT_EQ(figures.flow_samples, 830u);
}

TEST_F(SessionJournalTest, CountsCrashesInARow) {
  constexpr uint64_t kSecond = 1'000'000'000;
  SessionJournal journal(memory());
  EXPECT_EQ(journal.BeginLife(100 * kSecond, false), 0u);
  EXPECT_EQ(journal.BeginLife(101 * kSecond, true), 1u);
  EXPECT_EQ(SessionJournal(memory()).BeginLife(102 * kSecond, true), 2u);
  EXPECT_EQ(journal.BeginLife(103 * kSecond, true), 3u);
  EXPECT_EQ(journal.BeginLife(104 * kSecond, false), 0u) << "somebody killed it";
  EXPECT_EQ(journal.BeginLife(105 * kSecond, true), 1u);
  EXPECT_EQ(journal.BeginLife(150 * kSecond, true), 0u) << "it had lived long enough";
}

TEST_F(SessionJournalTest, TakesAnything) {
  std::mt19937_64 random(3);
  {
    SessionJournal journal(memory());
    std::vector<std::shared_ptr<SessionJournal::SessionEntry>> sessions;
    for (uint64_t i = 1; i < 50; ++i) {
      sessions.push_back(journal.AddSession());
      Fill(sessions.back().get(), i, absl::StrCat("session-", i));
    }
    const std::vector<uint64_t> good = words_;
    for (int round = 0; round < 20; ++round) {
      words_ = good;
      for (int i = 0; i < 2000; ++i) words_[random() % (words_.size() / 4)] = random();
      SessionJournal next(memory());
      for (const auto& left : next.LeftSessions()) {
        EXPECT_LT(left.place, SessionJournal::kSessions);
        EXPECT_NE(left.record.id(), 0u);
        next.TakeSession(left);
      }
      EXPECT_TRUE(next.LeftStreams().empty());
      EXPECT_TRUE(SessionJournal(memory()).LeftSessions().empty());
    }
  }
  for (uint64_t& word : words_) word = random();
  SessionJournal journal(memory());
  EXPECT_TRUE(journal.LeftSessions().empty());
  EXPECT_TRUE(journal.LeftStreams().empty());
  EXPECT_EQ(journal.BeginLife(1, true), 1u);
}

TEST(JournalMemory, CannotBeMadeShorterOrLonger) {
  const absl::StatusOr<int> fd = MakeJournalMemory();
  ASSERT_TRUE(fd.ok()) << fd.status();
  EXPECT_NE(ftruncate(*fd, 0), 0);
  EXPECT_NE(ftruncate(*fd, kJournalBytes * 2), 0);
  const absl::StatusOr<std::span<std::byte>> one = MapJournalMemory(*fd);
  const absl::StatusOr<std::span<std::byte>> two = MapJournalMemory(*fd);
  ASSERT_TRUE(one.ok() && two.ok());
  (*one)[kJournalBytes - 1] = std::byte{42};
  EXPECT_EQ((*two)[kJournalBytes - 1], std::byte{42});
  munmap(one->data(), kJournalBytes);
  munmap(two->data(), kJournalBytes);
  close(*fd);
}

TEST(JournalMemory, IsNothingElse) {
  const int plain = memfd_create("plain", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(plain, kJournalBytes), 0);
  EXPECT_FALSE(MapJournalMemory(plain).ok()) << "it could be made shorter";
  close(plain);
  EXPECT_FALSE(MapJournalMemory(-1).ok());
}

}  // namespace
}  // namespace lbrd::daemon
