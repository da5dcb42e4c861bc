// The history's answers against a naive aggregation of the same samples in memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/history_reader.h"
#include "daemon/history_writer.h"
#include "history_files.h"

namespace lbrd::daemon {
namespace {

// What was stored, one line an entry of a bucket.
struct Stored {
  const HistoryBucket* bucket;
  const HistoryEntry* entry;
};

std::string KeyOf(HistoryKey key, const Stored& of) {
  const ThreadInfo& thread = *of.entry->thread;
  const StackInfo& stack = *of.entry->stack;
  const FrameInfo* leaf = stack.frames.empty() ? nullptr : stack.frames[0].get();
  const BinaryInfo* binary = leaf == nullptr ? nullptr : leaf->binary.get();
  switch (key) {
    case HistoryKey::kSession:
      return of.bucket->session;
    case HistoryKey::kEvent:
      return of.bucket->event;
    case HistoryKey::kTime:
      return absl::StrCat(of.bucket->begin_ns / kSecond);
    case HistoryKey::kPid:
      return absl::StrCat(thread.pid);
    case HistoryKey::kTid:
      return absl::StrCat(thread.tid);
    case HistoryKey::kComm:
      return thread.comm;
    case HistoryKey::kProcess:
      return thread.process_comm;
    case HistoryKey::kCgroup:
      return of.entry->process == nullptr ? "" : of.entry->process->cgroup;
    case HistoryKey::kUid:
      return of.entry->process == nullptr ? "" : absl::StrCat(*of.entry->process->uid);
    case HistoryKey::kExe:
      return of.entry->process == nullptr ? "" : of.entry->process->exe;
    case HistoryKey::kBinary:
      return binary == nullptr ? "" : binary->path;
    case HistoryKey::kBuildId:
      return binary == nullptr ? "" : binary->build_id;
    case HistoryKey::kFunction:
      return leaf == nullptr ? "[no stack]" : leaf->symbol;
    case HistoryKey::kStack: {
      std::string text;
      for (auto frame = stack.frames.rbegin(); frame != stack.frames.rend(); ++frame) {
        absl::StrAppend(&text, text.empty() ? "" : ";", (*frame)->symbol);
      }
      return text;
    }
  }
  return "";
}

bool Matches(const HistoryQuery& query, const Stored& of) {
  const ThreadInfo& thread = *of.entry->thread;
  static const ProcessOrigin kNothing;
  const ProcessOrigin& facts = of.entry->process == nullptr ? kNothing : *of.entry->process;
  bool through = query.build_id.empty();
  for (const auto& frame : of.entry->stack->frames) {
    through = through || (frame->binary != nullptr &&
                          absl::StartsWith(frame->binary->build_id, query.build_id));
  }
  return through && of.bucket->end_ns > query.since_ns && of.bucket->begin_ns < query.until_ns &&
         (query.session.empty() || query.session == of.bucket->session) &&
         (query.event.empty() || query.event == of.bucket->event) &&
         (!query.pid || *query.pid == thread.pid) && (!query.tid || *query.tid == thread.tid) &&
         (query.comm.empty() || query.comm == thread.comm || query.comm == thread.process_comm) &&
         (query.cgroup.empty() || facts.cgroup == query.cgroup ||
          absl::StartsWith(facts.cgroup, query.cgroup + "/")) &&
         (!query.uid || facts.uid == query.uid) &&
         (query.exe.empty() || facts.exe == query.exe ||
          absl::EndsWith(facts.exe, "/" + query.exe)) &&
         (!query.visible_to || facts.owner == query.visible_to);
}

// A small world, so that everything meets everything.
class World {
 public:
  explicit World(uint32_t seed) : random_(seed) {
    const std::shared_ptr<const BinaryInfo> binaries[] = {
        std::make_shared<BinaryInfo>(BinaryInfo{1, "/bin/a", "aa11", ""}),
        std::make_shared<BinaryInfo>(BinaryInfo{2, "/bin/b", "bb22", ""}),
        std::make_shared<BinaryInfo>(BinaryInfo{3, "/bin/a", "aa33", ""})};
    std::vector<std::shared_ptr<const FrameInfo>> frames;
    for (uint32_t i = 0; i < 6; ++i) {
      frames.push_back(MakeFrame(i + 1, absl::StrCat("f", i % 4), binaries[i % 3]));
    }
    frames.push_back(MakeFrame(9, "nowhere", nullptr));
    for (uint32_t i = 0; i < 12; ++i) {
      std::vector<std::shared_ptr<const FrameInfo>> stack;
      for (uint32_t depth = Pick(5); depth > 0; --depth) stack.push_back(frames[Pick(7)]);
      stacks_.push_back(MakeStack(
          i + 1, std::move(stack),
          {static_cast<unwind::StackState>(Pick(3)), static_cast<unwind::StackReason>(Pick(15))}));
    }
    const std::shared_ptr<const ProcessOrigin> facts[] = {MakeFacts(0, "/system", "/usr/bin/x"),
                                                          MakeFacts(7, "/user/seven", "/usr/bin/y"),
                                                          MakeFacts(8, "/user", "/opt/x"), nullptr};
    for (int32_t i = 0; i < 8; ++i) {
      const auto thread = std::make_shared<ThreadInfo>(
          ThreadInfo{static_cast<uint32_t>(i + 1), 10 + i / 2, 10 + i, absl::StrCat("t", i % 3),
                     absl::StrCat("p", i / 2)});
      threads_.emplace_back(thread, facts[i / 2]);
    }
  }

  uint32_t Pick(uint32_t below) { return static_cast<uint32_t>(random_() % below); }

  HistoryBucket Bucket(int64_t second) {
    HistoryBucket bucket = MakeBucket(second, {}, Pick(2) == 0 ? "one" : "two");
    if (Pick(3) == 0) bucket.event = "clock";
    for (uint32_t n = Pick(12); n > 0; --n) {
      const auto& [thread, facts] = threads_[Pick(8)];
      bucket.entries.push_back({stacks_[Pick(12)], thread, facts, 1 + Pick(5), 100 + Pick(1000)});
    }
    return bucket;
  }

  HistoryQuery Query() {
    HistoryQuery query;
    query.since_ns = Pick(300) * kSecond;
    query.until_ns = query.since_ns + (1 + Pick(300)) * kSecond;
    if (Pick(4) == 0) query.session = "one";
    if (Pick(4) == 0) query.event = "clock";
    if (Pick(4) == 0) query.pid = 10 + static_cast<int32_t>(Pick(4));
    if (Pick(6) == 0) query.tid = 10 + static_cast<int32_t>(Pick(8));
    if (Pick(4) == 0) query.comm = Pick(2) == 0 ? "t1" : "p2";
    if (Pick(4) == 0) query.cgroup = "/user";
    if (Pick(4) == 0) query.uid = 7;
    if (Pick(4) == 0) query.exe = Pick(2) == 0 ? "x" : "/usr/bin/x";
    if (Pick(4) == 0) query.build_id = Pick(2) == 0 ? "aa" : "bb22";
    if (Pick(4) == 0) query.visible_to = 7 + Pick(2);
    // Whose sessions these are is not what this test is about.
    if (query.visible_to.has_value()) query.session.clear();
    for (uint32_t n = Pick(4); n > 0; --n) {
      query.by.push_back(static_cast<HistoryKey>(Pick(14)));
      if (query.visible_to.has_value() && query.by.back() == HistoryKey::kSession) {
        query.by.pop_back();
      }
    }
    return query;
  }

 private:
  std::mt19937 random_;
  std::vector<std::shared_ptr<const StackInfo>> stacks_;
  std::vector<std::pair<std::shared_ptr<const ThreadInfo>, std::shared_ptr<const ProcessOrigin>>>
      threads_;
};

using Sums = std::map<std::vector<std::string>, std::pair<uint64_t, uint64_t>>;

// Rows by event and keys; entries by event, thread, stack and verdict.
Sums Flatten(const HistoryAnswer& answer) {
  Sums sums;
  for (const HistoryAnswer::Row& row : answer.rows) {
    std::vector<std::string> key = {answer.events[row.event].name};
    key.insert(key.end(), row.keys.begin(), row.keys.end());
    EXPECT_TRUE(sums.try_emplace(key, row.samples, row.weight).second) << "a row comes twice";
  }
  for (const HistoryAnswer::Entry& entry : answer.entries) {
    const HistoryEntry as{entry.stack, entry.thread, nullptr, 0, 0};
    const Stored of{nullptr, &as};
    auto& [samples, weight] =
        sums[{answer.events[entry.event].name, KeyOf(HistoryKey::kTid, of),
              KeyOf(HistoryKey::kComm, of), KeyOf(HistoryKey::kStack, of),
              std::string(unwind::StackReasonName(entry.stack->verdict.reason))}];
    samples += entry.samples;
    weight += entry.weight;
  }
  return sums;
}

TEST(HistoryQuery, AnswersAsANaiveAggregationDoes) {
  for (uint32_t seed = 0; seed < 4; ++seed) {
    World world(seed);
    HistoryFolder folder;
    std::vector<HistoryBucket> buckets;
    for (int64_t i = 0; i < 40; ++i) {
      // Several restarts.
      absl::StatusOr<HistoryWriter> writer =
          HistoryWriter::Open(folder.file(), uint64_t{64} << 20, i * 10 * kSecond);
      ASSERT_TRUE(writer.ok()) << writer.status();
      buckets.push_back(world.Bucket(i * 10));
      ASSERT_TRUE(writer->Store(buckets.back()).ok());
      if (world.Pick(2) == 0) continue;
      buckets.push_back(world.Bucket(i * 10));
      ASSERT_TRUE(writer->Store(buckets.back()).ok());
    }
    for (int round = 0; round < 100; ++round) {
      const HistoryQuery query = world.Query();
      Sums expected;
      uint64_t samples = 0;
      for (const HistoryBucket& bucket : buckets) {
        for (const HistoryEntry& entry : bucket.entries) {
          const Stored of{&bucket, &entry};
          if (!Matches(query, of)) continue;
          std::vector<std::string> keys = {bucket.event};
          for (const HistoryKey key : query.by) keys.push_back(KeyOf(key, of));
          if (query.by.empty()) {
            keys = {bucket.event, KeyOf(HistoryKey::kTid, of), KeyOf(HistoryKey::kComm, of),
                    KeyOf(HistoryKey::kStack, of),
                    std::string(unwind::StackReasonName(entry.stack->verdict.reason))};
          }
          expected[keys].first += entry.samples;
          expected[keys].second += entry.weight;
          samples += entry.samples;
        }
      }
      const absl::StatusOr<HistoryAnswer> answer = QueryHistory(folder.file(), query);
      ASSERT_TRUE(answer.ok()) << answer.status();
      ASSERT_EQ(Flatten(*answer), expected) << "seed " << seed << " round " << round;
      ASSERT_EQ(answer->samples, samples);
    }
  }
}

TEST(HistoryQuery, AUserSeesOwnProcessesAndNobodysSessions) {
  HistoryFolder folder;
  absl::StatusOr<HistoryWriter> writer = HistoryWriter::Open(folder.file(), 0, kSecond);
  ASSERT_TRUE(writer.ok());
  const auto kernel = std::make_shared<FrameInfo>(
      FrameInfo{.id = 1, .source = unwind::FrameSource::kKernel, .offset = 0xffffffff81000000});
  const auto stack = MakeStack(1, {kernel});
  const auto setuid = std::make_shared<ProcessOrigin>(ProcessOrigin{.uid = 7});
  HistoryBucket bucket = MakeBucket(10,
                                    {{stack, MakeThread(1, "mine"), MakeFacts(7), 1, 1},
                                     {stack, MakeThread(2, "other"), MakeFacts(8), 1, 1},
                                     {stack, MakeThread(3, "setuid"), setuid, 1, 1},
                                     {stack, MakeThread(4, "unknown"), nullptr, 1, 1}},
                                    "secret");
  bucket.dropped = 5;
  ASSERT_TRUE(writer->Store(bucket).ok());
  HistoryQuery query;
  query.visible_to = 7;
  query.by = {HistoryKey::kComm, HistoryKey::kSession};
  absl::StatusOr<HistoryAnswer> answer = QueryHistory(folder.file(), query);
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->rows.size(), 1u);
  EXPECT_THAT(answer->rows[0].keys, ::testing::ElementsAre("mine", "(another user's)"));
  EXPECT_EQ(answer->samples_dropped, 0u);
  query.by.clear();
  answer = QueryHistory(folder.file(), query);
  EXPECT_EQ(answer->entries.at(0).stack->frames[0]->offset, 0u) << "no address of the kernel";
  query.session = "secret";
  EXPECT_EQ(QueryHistory(folder.file(), query)->samples, 0u) << "nor is it to be guessed";
  EXPECT_EQ(QueryHistory(folder.file(), query)->begin_ns, 0);
}

TEST(HistoryQuery, LimitsRowsAndSaysWhatIsLeftOut) {
  HistoryFolder folder;
  absl::StatusOr<HistoryWriter> writer = HistoryWriter::Open(folder.file(), 0, kSecond);
  std::vector<HistoryEntry> entries;
  for (uint32_t i = 1; i <= 5; ++i) {
    entries.push_back({NumberedStack(1), MakeThread(i), nullptr, i, i});
  }
  ASSERT_TRUE(writer->Store(MakeBucket(10, std::move(entries))).ok());
  HistoryQuery query;
  query.by = {HistoryKey::kTid};
  query.limit = 2;
  const absl::StatusOr<HistoryAnswer> answer = QueryHistory(folder.file(), query);
  ASSERT_EQ(answer->rows.size(), 2u);
  EXPECT_EQ(answer->rows[0].keys[0], "5");
  EXPECT_EQ(answer->rows[1].keys[0], "4");
  EXPECT_EQ(answer->rows_not_shown, 3u);
  EXPECT_EQ(answer->samples_not_shown, 6u);
}

}  // namespace
}  // namespace lbrd::daemon
