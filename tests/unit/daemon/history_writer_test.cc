#include "daemon/history_writer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "daemon/history_reader.h"
#include "history_files.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;

uint64_t BytesOnDisk(const HistoryFolder& folder) {
  uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    bytes += file.file_size();
  }
  return bytes;
}

HistoryWriter OpenWriter(const HistoryFolder& folder, uint64_t bytes = uint64_t{64} << 20) {
  absl::StatusOr<HistoryWriter> writer = HistoryWriter::Open(folder.file(), bytes, kSecond);
  EXPECT_TRUE(writer.ok()) << writer.status();
  return *std::move(writer);
}

HistoryAnswer Ask(const HistoryFolder& folder, HistoryQuery query = {}) {
  absl::StatusOr<HistoryAnswer> answer = QueryHistory(folder.file(), query);
  EXPECT_TRUE(answer.ok()) << answer.status();
  return answer.ok() ? *std::move(answer) : HistoryAnswer();
}

int64_t Count(const HistoryFolder& folder, const std::string& query) {
  absl::StatusOr<Database> database = Database::Open(folder.file(), SQLITE_OPEN_READONLY);
  EXPECT_TRUE(database.ok());
  return *database->Value(query);
}

HistoryEntry Entry(std::shared_ptr<const StackInfo> stack, uint64_t samples = 1, uint32_t tid = 1) {
  return {.stack = std::move(stack),
          .thread = MakeThread(tid),
          .process = MakeFacts(0),
          .samples = samples,
          .weight = 10 * samples};
}

TEST(HistoryWriter, WhatIsStoredIsThereWithAllThatItRefersTo) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder);
  const auto stack =
      MakeStack(5, {MakeFrame(1, "leaf", MakeBinary(1, "/bin/a")), MakeFrame(2, "", nullptr)},
                {unwind::StackState::kTruncated, unwind::StackReason::kTooDeep});
  ASSERT_TRUE(writer.Store(MakeBucket(100, {Entry(stack, 3, 11)})).ok());
  const HistoryAnswer answer = Ask(folder);
  ASSERT_EQ(answer.entries.size(), 1u);
  const HistoryAnswer::Entry& entry = answer.entries[0];
  EXPECT_EQ(entry.samples, 3u);
  EXPECT_EQ(entry.weight, 30u);
  EXPECT_EQ(entry.thread->tid, 11);
  EXPECT_EQ(entry.thread->process_comm, "process");
  ASSERT_EQ(entry.stack->frames.size(), 2u);
  EXPECT_EQ(entry.stack->frames[0]->symbol, "leaf");
  EXPECT_EQ(entry.stack->frames[0]->binary->path, "/bin/a");
  EXPECT_EQ(entry.stack->frames[0]->source, unwind::FrameSource::kLbr);
  EXPECT_EQ(entry.stack->frames[1]->binary, nullptr);
  EXPECT_EQ(entry.stack->verdict, stack->verdict);
  EXPECT_EQ(answer.events.at(0).unit, "cycles");
}

TEST(HistoryWriter, TheSameContentHasTheSameIdsAfterARestart) {
  HistoryFolder folder;
  for (int run = 0; run < 3; ++run) {
    HistoryWriter writer = OpenWriter(folder);
    ASSERT_TRUE(writer.Store(MakeBucket(100 + run * 10, {Entry(NumberedStack(1))})).ok());
  }
  EXPECT_EQ(Count(folder, "SELECT count(*) FROM buckets"), 3);
  EXPECT_EQ(Count(folder, "SELECT count(*) FROM stacks"), 2)
      << "9 frames and the verdict are 10 words";
  EXPECT_EQ(Count(folder, "SELECT count(*) FROM frames"), 9);
  EXPECT_EQ(Count(folder, "SELECT count(*) FROM binaries"), 1);
  EXPECT_EQ(Count(folder, "SELECT count(*) FROM threads"), 1);
  EXPECT_EQ(Ask(folder).entries.at(0).samples, 3u);
}

TEST(HistoryWriter, StaysWithinItsBoundAndLosesTheOldestOnly) {
  HistoryFolder folder;
  const uint64_t bound = HistoryWriter::kLeastBytes;
  HistoryWriter writer = OpenWriter(folder, bound);
  uint64_t most = 0;
  uint32_t stack = 0;
  int64_t second = 0;
  while (writer.stats().buckets_evicted < 50) {
    std::vector<HistoryEntry> entries;
    for (int i = 0; i < 400; ++i) entries.push_back(Entry(NumberedStack(++stack)));
    ASSERT_TRUE(writer.Store(MakeBucket(second, std::move(entries))).ok());
    ASSERT_TRUE(writer.Tidy(0).ok());
    most = std::max(most, BytesOnDisk(folder));
    second += 10;
  }
  EXPECT_LE(most, bound);
  EXPECT_GT(most, bound / 2) << "and makes use of it";
  // What is left is the youngest, without holes, and whole.
  const HistoryAnswer answer = Ask(folder);
  EXPECT_EQ(answer.end_ns, second * kSecond);
  EXPECT_EQ(answer.samples * 10,
            static_cast<uint64_t>((answer.end_ns - answer.begin_ns) / kSecond) * 400);
  EXPECT_TRUE(answer.notes.empty()) << answer.notes[0];
  // Definitions that no bucket uses go as well, if not at once.
  EXPECT_LT(Count(folder, "SELECT count(*) FROM frames"), int64_t{stack} * 8 * 3 / 4);
}

TEST(HistoryWriter, ABucketLargerThanTheBoundIsRefusedAndHarmsNothing) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder, HistoryWriter::kLeastBytes);
  std::vector<HistoryEntry> entries;
  for (uint32_t i = 0; i < 5000; ++i) entries.push_back(Entry(NumberedStack(i, 60)));
  const absl::Status refused = writer.Store(MakeBucket(0, std::move(entries)));
  EXPECT_TRUE(absl::IsOutOfRange(refused)) << refused;
  EXPECT_LE(BytesOnDisk(folder), HistoryWriter::kLeastBytes);
  ASSERT_TRUE(writer.Store(MakeBucket(10, {Entry(NumberedStack(1))})).ok());
  EXPECT_EQ(Ask(folder).samples, 1u);
}

TEST(HistoryWriter, AgeEvictsWhatEndedBefore) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder);
  for (int64_t second : {0, 10, 20, 30}) {
    ASSERT_TRUE(writer.Store(MakeBucket(second, {Entry(NumberedStack(1))})).ok());
  }
  ASSERT_TRUE(writer.Tidy(25 * kSecond).ok());
  EXPECT_EQ(Ask(folder).begin_ns, 20 * kSecond);
  EXPECT_EQ(writer.stats().buckets_evicted, 2u);
}

TEST(HistoryWriter, ALoweredBoundHoldsAfterAWhile) {
  HistoryFolder folder;
  {
    HistoryWriter writer = OpenWriter(folder);
    for (uint32_t i = 0; i < 90; ++i) {
      std::vector<HistoryEntry> entries;
      for (uint32_t k = 0; k < 400; ++k) entries.push_back(Entry(NumberedStack(i * 400 + k)));
      ASSERT_TRUE(writer.Store(MakeBucket(i * 10, std::move(entries))).ok());
    }
  }
  ASSERT_GT(BytesOnDisk(folder), HistoryWriter::kLeastBytes);
  HistoryWriter writer = OpenWriter(folder, HistoryWriter::kLeastBytes);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(writer.Tidy(0).ok());
  EXPECT_LE(BytesOnDisk(folder), HistoryWriter::kLeastBytes);
  EXPECT_EQ(Ask(folder).end_ns, 900 * kSecond);
}

// A file that may not grow is what a full disk looks like to SQLite.
class FullDisk {
 public:
  explicit FullDisk(uint64_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(HistoryWriter, AFullDiskIsAnErrorAndTheBucketCanBeStoredLater) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder);
  ASSERT_TRUE(writer.Store(MakeBucket(0, {Entry(NumberedStack(1))})).ok());
  std::vector<HistoryEntry> entries;
  for (uint32_t i = 0; i < 2000; ++i) entries.push_back(Entry(NumberedStack(i)));
  const HistoryBucket bucket = MakeBucket(10, std::move(entries));
  {
    FullDisk full(300'000);
    const absl::Status stored = writer.Store(bucket);
    EXPECT_TRUE(absl::IsResourceExhausted(stored)) << stored;
    EXPECT_EQ(Ask(folder).samples, 1u) << "none of it, and what was there is";
  }
  ASSERT_TRUE(writer.Store(bucket).ok());
  const HistoryAnswer answer = Ask(folder);
  EXPECT_EQ(answer.samples, 2001u);
  EXPECT_TRUE(answer.notes.empty()) << answer.notes[0];
}

TEST(HistoryWriter, KnowsDamageAndOtherFiles) {
  HistoryFolder folder;
  std::ofstream(folder.file()) << std::string(8192, 'x');
  EXPECT_TRUE(absl::IsDataLoss(HistoryWriter::Open(folder.file(), 0, 0).status()));
  std::filesystem::remove(folder.file());
  absl::StatusOr<Database> other =
      Database::Open(folder.file(), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  ASSERT_TRUE(other->Exec("CREATE TABLE t (a)").ok());
  EXPECT_TRUE(absl::IsDataLoss(HistoryWriter::Open(folder.file(), 0, 0).status()));
  std::filesystem::remove(folder.file());
  { HistoryWriter writer = OpenWriter(folder); }
  ASSERT_TRUE(
      Database::Open(folder.file(), SQLITE_OPEN_READWRITE)->Exec("PRAGMA user_version=9").ok());
  const absl::Status newer = HistoryWriter::Open(folder.file(), 0, 0).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(newer));
  EXPECT_THAT(newer.message(), HasSubstr("--history"));
}

TEST(HistoryWriter, OnlyItsOwnerMayReadTheFiles) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder);
  ASSERT_TRUE(writer.Store(MakeBucket(0, {Entry(NumberedStack(1))})).ok());
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(file.status().permissions() & std::filesystem::perms(0077),
              std::filesystem::perms::none)
        << file.path();
  }
}

TEST(HistoryWriter, ALongReaderSeesWhatItBeganWithAndTheBoundHoldsMeanwhile) {
  HistoryFolder folder;
  HistoryWriter writer = OpenWriter(folder, HistoryWriter::kLeastBytes);
  ASSERT_TRUE(writer.Store(MakeBucket(0, {Entry(NumberedStack(1))})).ok());
  absl::StatusOr<Database> reader = Database::Open(folder.file(), SQLITE_OPEN_READONLY);
  ASSERT_TRUE(reader->Exec("BEGIN").ok());
  ASSERT_EQ(*reader->Value("SELECT count(*) FROM buckets"), 1);
  absl::Status stored;
  uint32_t stack = 0;
  int64_t second = 0;
  while (stored.ok()) {
    std::vector<HistoryEntry> entries;
    for (int i = 0; i < 400; ++i) entries.push_back(Entry(NumberedStack(++stack)));
    stored = writer.Store(MakeBucket(second += 10, std::move(entries)));
    ASSERT_LE(BytesOnDisk(folder), HistoryWriter::kLeastBytes);
  }
  EXPECT_TRUE(absl::IsUnavailable(stored)) << stored;
  EXPECT_EQ(*reader->Value("SELECT count(*) FROM buckets"), 1);
  ASSERT_TRUE(reader->Exec("COMMIT").ok());
  EXPECT_TRUE(writer.Store(MakeBucket(second + 10, {Entry(NumberedStack(1))})).ok());
}

}  // namespace
}  // namespace lbrd::daemon
