#include "daemon/record_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "../pmu/wire_records.h"
#include "absl/time/clock.h"

namespace lbrd::daemon {
namespace {

RecordBatch BatchOf(uint64_t time, size_t samples = 1) {
  RecordBatch batch;
  for (size_t i = 0; i < samples; ++i) {
    const pmu::Words record = pmu::Wire({.time = time + i});
    batch.Append(pmu::HeaderOf(record), 3);
  }
  return batch;
}

uint64_t FirstTime(const RecordBatch& batch) {
  return pmu::PeekRecord(batch.record(batch.items()[0]), pmu::WireSampleFormat())->time;
}

// A sample whose stack stands apart.
struct SampleApart {
  explicit SampleApart(uint32_t stack_bytes) : stack(stack_bytes, std::byte{0x5a}) {
    format.sample_type |= PERF_SAMPLE_STACK_USER;
    words.push_back(0);  // of the stack, in the record
    words[0] = pmu::HeaderWord(PERF_RECORD_SAMPLE, 0, words.size() * 8);
    record = {.header = pmu::HeaderOf(words),
              .event = 2,
              .stack = {.begin = stack.data(), .bytes = stack_bytes, .asked = 8192}};
  }
  const std::vector<std::byte> stack;
  pmu::RecordFormat format = pmu::WireSampleFormat();
  pmu::Words words = pmu::Wire({.time = 1});
  pmu::RawRecord record;
};

TEST(RecordBatch, KeepsRecordsByteForByte) {
  RecordBatch batch;
  EXPECT_TRUE(batch.empty());
  const pmu::Words records[] = {pmu::Wire({.time = 1, .chain = {7, 8, 9}}),
                                pmu::WireComm(1, 1, "name", 2), pmu::Wire({.time = 3})};
  for (uint32_t i = 0; i < 3; ++i) batch.Append(pmu::HeaderOf(records[i]), i);
  ASSERT_EQ(batch.items().size(), 3u);
  size_t bytes = 0;
  for (uint32_t i = 0; i < 3; ++i) {
    const RecordBatch::Item& item = batch.items()[i];
    EXPECT_EQ(item.event, i);
    ASSERT_EQ(batch.record(item)->size, records[i].size() * 8);
    EXPECT_EQ(std::memcmp(batch.record(item), records[i].data(), records[i].size() * 8), 0);
    bytes += records[i].size() * 8;
  }
  EXPECT_GE(batch.bytes(), bytes);
}

TEST(RecordBatch, KeepsRecordsAlignedWhateverTheirSize) {
  RecordBatch batch;
  pmu::Words odd = {pmu::HeaderWord(PERF_RECORD_SAMPLE, 0, 13), 5};
  batch.Append(pmu::HeaderOf(odd), 0);
  batch.Append(pmu::HeaderOf(odd), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(batch.record(batch.items()[1])) % 8, 0u);
  for (const RecordBatch::Item& item : batch.items()) {
    EXPECT_EQ(std::memcmp(batch.record(item), odd.data(), 13), 0);
  }
}

TEST(RecordBatch, SaysWhereKeptRecordsAre) {
  RecordBatch batch;
  const pmu::Words kept = pmu::Wire({.time = 1, .chain = std::vector<uint64_t>(600, 7)});
  const pmu::Words copied = pmu::Wire({.time = 2});
  batch.AppendKept(pmu::HeaderOf(kept), 4, {.place = 5}, {});
  batch.Append(pmu::HeaderOf(copied), 3);
  ASSERT_EQ(batch.items().size(), 2u);
  EXPECT_EQ(batch.items()[0].event, 4u);
  EXPECT_EQ(batch.record(batch.items()[0]), pmu::HeaderOf(kept));
  EXPECT_NE(batch.record(batch.items()[1]), pmu::HeaderOf(copied));
  EXPECT_EQ(std::memcmp(batch.record(batch.items()[1]), copied.data(), copied.size() * 8), 0);
  EXPECT_GE(batch.bytes(), kept.size() * 8) << "what is kept counts like a copy";
  ASSERT_EQ(batch.kept().size(), 1u);
  EXPECT_EQ(batch.kept()[0].place, 5u);
}

TEST(RecordBatch, JoinsSplitSamplesWithTheirStacks) {
  const SampleApart split(4093);
  const SampleShare share{};
  RecordBatch batch;
  batch.AppendSplit(split.record, pmu::KeptRecord{.place = 9}, {});
  for (int i = 0; i < 100; ++i) batch.AppendSplit(split.record, std::nullopt, {&share, 1});
  EXPECT_GE(batch.bytes(), 101 * split.stack.size());
  ASSERT_EQ(batch.items().size(), 101u);
  ASSERT_EQ(batch.kept().size(), 1u);
  for (const RecordBatch::Item& item : batch.items()) {
    const auto record = batch.Decode(item, split.format);
    ASSERT_TRUE(record.ok()) << record.status();
    const auto& sample = std::get<pmu::SampleRecord>(*record);
    EXPECT_EQ(item.event, 2u);
    EXPECT_EQ(sample.who.time, 1u);
    EXPECT_EQ(sample.user_stack_asked, 8192u);
    ASSERT_EQ(sample.user_stack.size(), split.stack.size());
    const bool first = &item == batch.items().data();
    EXPECT_EQ(sample.user_stack.data() == split.stack.data(), first) << "only the kept one stays";
    EXPECT_EQ(std::memcmp(sample.user_stack.data(), split.stack.data(), split.stack.size()), 0);
    EXPECT_EQ(batch.shares(item).size(), first ? 0u : 1u);
  }
}

TEST(RecordBatch, WhatIsResolvedNeedsItsStackNoMore) {
  const SampleApart split(4096);
  RecordBatch batch;
  for (uint32_t i = 0; i < 3; ++i) batch.AppendSplit(split.record, pmu::KeptRecord{.place = i}, {});
  batch.AppendSplit(split.record, std::nullopt, {});
  for (const size_t item : {0, 3, 2}) {
    batch.Resolve(item)->frames.resize(10);
    EXPECT_TRUE(batch.TakeKept().empty()) << "the second one is still looked at";
  }
  batch.Resolve(1)->frames.resize(10);
  EXPECT_GE(batch.bytes(), 3 * split.stack.size() + 4 * 10 * sizeof(unwind::ResolvedFrame));
  EXPECT_EQ(batch.TakeKept().size(), 3u);
  EXPECT_LT(batch.bytes(), 2 * split.stack.size()) << "one is copied";
  EXPECT_EQ(batch.resolved().size(), 4u);
  for (const RecordBatch::Item& item : batch.items()) {
    const auto record = batch.Decode(item, split.format);
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(std::get<pmu::SampleRecord>(*record).who.time, 1u);
    EXPECT_TRUE(std::get<pmu::SampleRecord>(*record).user_stack.empty()) << "nobody may look";
    EXPECT_NE(item.resolved, 0u);
  }
  EXPECT_TRUE(batch.Clear());
  EXPECT_TRUE(batch.resolved().empty());
}

TEST(RecordBatch, WhatStandsInTheSourceAsAWholeIsNeededUntilTheEnd) {
  const pmu::Words kept = pmu::Wire({.time = 1});
  RecordBatch batch;
  batch.AppendKept(pmu::HeaderOf(kept), 0, {.place = 7}, {});
  batch.Resolve(0);
  EXPECT_TRUE(batch.TakeKept().empty());
  RecordQueue queue;
  queue.GiveBack(std::move(batch));
  ASSERT_EQ(queue.TakeBack().size(), 1u);
}

TEST(RecordQueue, ThePusherGetsBackWhatIsGivenBack) {
  RecordQueue queue;
  const pmu::Words kept = pmu::Wire({.time = 1});
  for (uint32_t i = 0; i < 20; ++i) {
    RecordBatch batch;
    batch.AppendKept(pmu::HeaderOf(kept), 0, {.place = i}, {});
    queue.Push(std::move(batch));
  }
  EXPECT_TRUE(queue.TakeBack().empty());
  for (int i = 0; i < 20; ++i) queue.GiveBack(*queue.Pop());
  uint32_t seen = 0;
  for (const pmu::KeptRecord& kept_record : queue.TakeBack()) EXPECT_EQ(kept_record.place, seen++);
  EXPECT_EQ(seen, 20u);
  EXPECT_TRUE(queue.TakeBack().empty());
}

TEST(RecordQueue, WhatIsDoneWithIsFilledAgain) {
  RecordQueue queue;
  EXPECT_TRUE(queue.TakeSpare().empty());
  for (size_t i = 0; i < RecordQueue::kSpareBatches + 3; ++i) queue.Push(BatchOf(i));
  const perf_event_header* memory = nullptr;
  for (size_t i = 0; i < RecordQueue::kSpareBatches + 3; ++i) {
    RecordBatch batch = *queue.Pop();
    if (i + 1 == RecordQueue::kSpareBatches) memory = batch.record(batch.items()[0]);
    queue.GiveBack(std::move(batch));
  }
  RecordBatch again = queue.TakeSpare();
  EXPECT_TRUE(again.empty());
  EXPECT_EQ(again.bytes(), 0u);
  const pmu::Words record = pmu::Wire({.time = 77});
  again.Append(pmu::HeaderOf(record), 3);
  EXPECT_EQ(FirstTime(again), 77u);
  EXPECT_EQ(again.record(again.items()[0]), memory) << "the same memory, the latest first";
  const size_t one = again.bytes();
  EXPECT_EQ(BatchOf(1).bytes(), one) << "nothing is left of what it held";
  size_t spare = 0;
  const auto has_memory = [](RecordBatch batch) { return batch.Clear(); };
  while (has_memory(queue.TakeSpare())) ++spare;
  EXPECT_EQ(spare, RecordQueue::kSpareBatches - 1) << "more go back to the heap";
}

TEST(RecordQueue, AHugeBatchIsNotKept) {
  RecordBatch batch = BatchOf(1, 100'000);
  EXPECT_FALSE(batch.Clear());
  EXPECT_TRUE(batch.empty());
}

TEST(RecordQueue, GivesAnEmptyBatchAtTheDeadline) {
  RecordQueue queue;
  const std::optional<RecordBatch> none = queue.Pop(absl::Now());
  ASSERT_TRUE(none.has_value());
  EXPECT_TRUE(none->empty());
  queue.Push(BatchOf(1));
  EXPECT_EQ(FirstTime(*queue.Pop(absl::Now())), 1u);
}

TEST(RecordQueue, GivesBatchesInOrderAndCountsBytes) {
  RecordQueue queue;
  RecordBatch first = BatchOf(1);
  const size_t bytes = first.bytes();
  queue.Push(std::move(first));
  queue.Push(BatchOf(2, 2));
  EXPECT_GT(queue.bytes(), 2 * bytes);
  EXPECT_EQ(FirstTime(*queue.Pop()), 1u);
  EXPECT_EQ(FirstTime(*queue.Pop()), 2u);
  EXPECT_EQ(queue.bytes(), 0u);
}

TEST(RecordQueue, GivesWhatIsLeftAfterItIsClosed) {
  RecordQueue queue;
  queue.Push(BatchOf(1));
  queue.Close();
  ASSERT_TRUE(queue.Pop().has_value());
  EXPECT_FALSE(queue.Pop().has_value());
  EXPECT_FALSE(queue.Pop().has_value());
}

TEST(RecordQueue, WakesThePopper) {
  RecordQueue queue;
  std::atomic<int> popped = 0;
  std::thread popper([&] {
    while (queue.Pop().has_value()) ++popped;
  });
  for (uint64_t i = 0; i < 100; ++i) queue.Push(BatchOf(i));
  queue.Close();
  popper.join();
  EXPECT_EQ(popped, 100);
}

TEST(RecordQueue, MakesThePusherWaitForRoom) {
  RecordQueue queue;
  queue.Push(BatchOf(1));
  queue.Push(BatchOf(2));
  const size_t one = queue.bytes() / 2;
  std::atomic<bool> has_room = false;
  std::thread pusher([&] {
    queue.WaitForRoom(one);
    has_room = true;
  });
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_FALSE(has_room);
  queue.Pop();
  pusher.join();
  EXPECT_TRUE(has_room);
  queue.WaitForRoom(one);  // at the bound there is room
}

TEST(RecordQueue, ClosingEndsTheWaitForRoom) {
  RecordQueue queue;
  queue.Push(BatchOf(1));
  std::thread pusher([&] { queue.WaitForRoom(0); });
  queue.Close();
  pusher.join();
  EXPECT_GT(queue.bytes(), 0u);
}

}  // namespace
}  // namespace lbrd::daemon
