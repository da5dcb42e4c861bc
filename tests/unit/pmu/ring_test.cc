#include "pmu/ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "wire_records.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kPage = 4096;

// A ring's memory, written as the kernel does.
class Memory {
 public:
  explicit Memory(uint64_t data_bytes, uint64_t begin = 0)
      : data_bytes_(data_bytes), words_((kPage + data_bytes) / 8) {
    control()->data_head = control()->data_tail = begin;
  }
  perf_event_mmap_page* control() { return reinterpret_cast<perf_event_mmap_page*>(words_.data()); }
  Ring MakeRing() { return Ring(words_.data(), kPage, data_bytes_); }

  void Write(const Words& record) {
    for (const uint64_t word : record) {
      words_[(kPage + (control()->data_head & (data_bytes_ - 1))) / 8] = word;
      control()->data_head += 8;
    }
  }

 private:
  const uint64_t data_bytes_;
  std::vector<uint64_t> words_;
};

// `words` words, numbered from `first` so that each one is told from every other.
Words Record(size_t words, uint64_t first) {
  Words record(words);
  std::iota(record.begin(), record.end(), first);
  record[0] = HeaderWord(PERF_RECORD_SAMPLE, 0, words * 8);
  return record;
}

Words Copy(const perf_event_header* header) {
  Words words(header->size / 8);
  std::memcpy(words.data(), header, header->size);
  return words;
}

TEST(Ring, HandsOutRecordsInTheOrderWritten) {
  Memory memory(kPage);
  Ring ring = memory.MakeRing();
  memory.Write(Record(2, 100));
  memory.Write(Record(5, 200));
  ring.Refresh();
  ASSERT_NE(ring.Peek(), nullptr);
  EXPECT_EQ(Copy(ring.Peek()), Record(2, 100));
  ring.Advance();
  ASSERT_NE(ring.Peek(), nullptr);
  EXPECT_EQ(Copy(ring.Peek()), Record(5, 200));
  ring.Advance();
  EXPECT_EQ(ring.Peek(), nullptr);
}

TEST(Ring, SeesWhatIsWrittenOnlyByRefresh) {
  Memory memory(kPage);
  Ring ring = memory.MakeRing();
  memory.Write(Record(2, 100));
  EXPECT_EQ(ring.Peek(), nullptr);
  ring.Refresh();
  EXPECT_NE(ring.Peek(), nullptr);
}

TEST(Ring, GivesSpaceBackOnlyByRelease) {
  Memory memory(kPage);
  Ring ring = memory.MakeRing();
  memory.Write(Record(2, 100));
  memory.Write(Record(3, 200));
  ring.Refresh();
  ASSERT_NE(ring.Peek(), nullptr);
  ring.Advance();
  EXPECT_EQ(memory.control()->data_tail, 0u);
  EXPECT_EQ(ring.held_bytes(), 16u);
  ring.Release();
  EXPECT_EQ(memory.control()->data_tail, 16u);
  EXPECT_EQ(ring.held_bytes(), 0u);
}

TEST(Ring, GoesOnWhereTheTailStands) {
  Memory memory(kPage, /*begin=*/7 * kPage + 800);
  Ring ring = memory.MakeRing();
  memory.Write(Record(4, 300));
  ring.Refresh();
  ASSERT_NE(ring.Peek(), nullptr);
  EXPECT_EQ(Copy(ring.Peek()), Record(4, 300));
}

TEST(Ring, PutsWrappedRecordsTogetherAtEveryCut) {
  for (uint64_t before_end = 8; before_end <= 80; before_end += 8) {
    Memory memory(kPage, /*begin=*/kPage - before_end);
    Ring ring = memory.MakeRing();
    memory.Write(Record(10, 500));
    memory.Write(Record(3, 900));
    ring.Refresh();
    ASSERT_NE(ring.Peek(), nullptr) << before_end;
    EXPECT_EQ(Copy(ring.Peek()), Record(10, 500)) << before_end;
    ring.Advance();
    ASSERT_NE(ring.Peek(), nullptr) << before_end;
    EXPECT_EQ(Copy(ring.Peek()), Record(3, 900)) << before_end;
    ring.Advance();
    EXPECT_EQ(ring.Peek(), nullptr);
    EXPECT_EQ(ring.corruptions(), 0u);
  }
}

TEST(Ring, PutsTheLargestRecordTogether) {
  Memory memory(kMaxRecordBytes * 2, /*begin=*/kMaxRecordBytes * 2 - 8);
  Ring ring = memory.MakeRing();
  const Words largest = Record(kMaxRecordBytes / 8 - 1, 1);
  memory.Write(largest);
  ring.Refresh();
  ASSERT_NE(ring.Peek(), nullptr);
  EXPECT_EQ(Copy(ring.Peek()), largest);
}

TEST(Ring, OutlivesItsCountersOverflow) {
  Memory memory(kPage, /*begin=*/uint64_t{0} - 24);
  Ring ring = memory.MakeRing();
  memory.Write(Record(2, 100));
  memory.Write(Record(5, 200));  // over 2^64, which is also the end of the buffer
  ring.Refresh();
  ASSERT_NE(ring.Peek(), nullptr);
  ring.Advance();
  ASSERT_NE(ring.Peek(), nullptr);
  EXPECT_EQ(Copy(ring.Peek()), Record(5, 200));
}

TEST(Ring, SkipsAndCountsWhatIsNoRecord) {
  // No header, less than a header, not a multiple of 8, more than was written.
  for (const size_t size : {0, 4, 20, 48}) {
    Memory memory(kPage);
    Ring ring = memory.MakeRing();
    Words bad = Record(3, 100);
    bad[0] = HeaderWord(PERF_RECORD_SAMPLE, 0, size);
    memory.Write(bad);
    ring.Refresh();
    EXPECT_EQ(ring.Peek(), nullptr) << size;
    EXPECT_EQ(ring.corruptions(), 1u) << size;
    memory.Write(Record(2, 700));
    ring.Refresh();
    ASSERT_NE(ring.Peek(), nullptr) << size;
    EXPECT_EQ(Copy(ring.Peek()), Record(2, 700)) << size;
  }
}

TEST(Ring, TakesNoHeadThatCannotBe) {
  const struct {
    uint64_t head;
    size_t records;
  } cases[] = {
      {2 * kPage, 0},        // further ahead than the buffer is long
      {uint64_t{0} - 8, 0},  // behind the cursor
      {21, 1},               // in the middle of a word
  };
  for (const auto& [head, records] : cases) {
    Memory memory(kPage);
    Ring ring = memory.MakeRing();
    for (uint64_t i = 0; i < kPage / 16; ++i) memory.Write(Record(2, 100));
    memory.control()->data_head = head;
    ring.Refresh();
    size_t read = 0;
    while (ring.Peek() != nullptr) {
      ring.Advance();
      ASSERT_LE(++read, records) << head;
    }
    EXPECT_EQ(read, records) << head;
    EXPECT_GT(ring.corruptions(), 0u) << head;
    ring.Release();
    EXPECT_EQ(memory.control()->data_tail % 8, 0u);
  }
}

}  // namespace
}  // namespace lbrd::pmu
