#include "pmu/ring_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "wire_records.h"

namespace lbrd::pmu {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kMalformed = 99;  // a record type

// A record of these tests: a header, its time and its number.
bool PeekTime(const perf_event_header* header, SampleId* who, uint32_t* event) {
  if (header->type == kMalformed) return false;
  std::memcpy(&who->time, header + 1, sizeof(who->time));
  *event = header->misc;
  return true;
}

class TestRing {
 public:
  explicit TestRing(uint64_t data_bytes = kPage)
      : data_bytes_(data_bytes),
        words_((kPage + data_bytes) / 8),
        ring_(words_.data(), kPage, data_bytes) {}
  Ring* ring() { return &ring_; }
  perf_event_mmap_page* control() { return reinterpret_cast<perf_event_mmap_page*>(words_.data()); }
  bool HasRoom() { return data_bytes_ - (control()->data_head - control()->data_tail) >= 24; }
  void Write(uint64_t time, uint64_t number = 0, uint32_t type = PERF_RECORD_SAMPLE) {
    for (const uint64_t word : {HeaderWord(type, 0, 24), time, number}) {
      words_[(kPage + (control()->data_head & (data_bytes_ - 1))) / 8] = word;
      control()->data_head += 8;
    }
  }

 private:
  const uint64_t data_bytes_;
  std::vector<uint64_t> words_;
  Ring ring_;
};

std::vector<uint64_t> PopAll(RingOrder* order) {
  std::vector<uint64_t> times;
  while (const RingOrder::Next* next = order->Pop()) times.push_back(next->who.time);
  return times;
}

using Times = std::vector<uint64_t>;

TEST(RingOrder, MergesRingsByTime) {
  TestRing a, b, c;
  RingOrder order(PeekTime);
  for (TestRing* ring : {&a, &b, &c}) order.Add(ring->ring());
  for (const uint64_t time : {1, 6, 9}) a.Write(time);
  for (const uint64_t time : {2, 3, 8}) b.Write(time);
  order.BeginRound(100);
  order.BeginRound(200);
  EXPECT_EQ(PopAll(&order), (Times{1, 2, 3, 6, 8, 9}));
  EXPECT_EQ(order.late(), 0u);
}

TEST(RingOrder, HandsOutOnlyWhatIsOlderThanTheRoundBefore) {
  TestRing a, b;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  order.Add(b.ring());
  a.Write(5);
  a.Write(15);
  order.BeginRound(10);
  EXPECT_EQ(PopAll(&order), Times{});  // b may still be writing what is older than 5
  b.Write(3);
  order.BeginRound(20);
  EXPECT_EQ(PopAll(&order), (Times{3, 5}));
  order.BeginRound(30);
  EXPECT_EQ(PopAll(&order), Times{15});
  EXPECT_EQ(order.late(), 0u);
}

TEST(RingOrder, TheRoundsBeginItselfWaits) {
  TestRing a;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  a.Write(10);
  order.BeginRound(10);
  order.BeginRound(20);
  EXPECT_EQ(PopAll(&order), Times{});
  order.BeginRound(21);
  EXPECT_EQ(PopAll(&order), Times{10});
}

TEST(RingOrder, HandsOutAndCountsWhatComesLate) {
  TestRing a, b;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  order.Add(b.ring());
  a.Write(50);
  order.BeginRound(60);
  order.BeginRound(70);
  EXPECT_EQ(PopAll(&order), Times{50});
  b.Write(40);
  b.Write(45);
  b.Write(65);
  order.BeginRound(80);
  EXPECT_EQ(PopAll(&order), (Times{40, 45, 65}));
  EXPECT_EQ(order.late(), 2u);
}

TEST(RingOrder, ARoundMayBringALateRecordWhileOneIsHeld) {
  // The record in hand may be its ring's last, or not.
  for (const bool last : {true, false}) {
    TestRing a, b, c, d, e;
    RingOrder order(PeekTime);
    for (TestRing* ring : {&a, &b, &c, &d, &e}) order.Add(ring->ring());
    a.Write(50);
    if (!last) a.Write(55);
    b.Write(52);
    c.Write(53);
    d.Write(54);
    order.BeginRound(60);
    order.BeginRound(70);
    ASSERT_EQ(order.Pop()->who.time, 50u);
    e.Write(40);
    e.Write(58);
    order.BeginRound(80);
    EXPECT_EQ(PopAll(&order), last ? (Times{40, 52, 53, 54, 58}) : (Times{40, 52, 53, 54, 55, 58}));
    EXPECT_EQ(order.late(), 1u);
  }
}

TEST(RingOrder, DrainHandsOutEverything) {
  TestRing a, b;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  order.Add(b.ring());
  a.Write(5);
  order.BeginRound(1);
  b.Write(4);
  a.Write(1000);
  order.Drain();
  EXPECT_EQ(PopAll(&order), (Times{4, 5, 1000}));
}

TEST(RingOrder, SkipsAndCountsMalformedRecords) {
  TestRing a;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  a.Write(1, 0, kMalformed);
  a.Write(2);
  a.Write(3, 0, kMalformed);
  a.Write(4);
  order.Drain();
  EXPECT_EQ(PopAll(&order), (Times{2, 4}));
  EXPECT_EQ(order.malformed(), 2u);
}

TEST(RingOrder, KeepsTheSpaceOfARecordInUse) {
  TestRing a;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  a.Write(1);
  a.Write(2);
  order.Drain();
  ASSERT_NE(order.Pop(), nullptr);
  order.ReleaseAll();
  EXPECT_EQ(a.control()->data_tail, 0u);
  ASSERT_NE(order.Pop(), nullptr);
  ASSERT_EQ(order.Pop(), nullptr);
  order.ReleaseAll();
  EXPECT_EQ(a.control()->data_tail, 48u);
}

TEST(RingOrder, GivesSpaceBackWhileItHandsOut) {
  TestRing a;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  while (a.HasRoom()) a.Write(1);
  order.Drain();
  for (size_t i = 0; i < kPage / 24 / 2; ++i) ASSERT_NE(order.Pop(), nullptr);
  EXPECT_GT(a.control()->data_tail, kPage / 4);
}

TEST(RingOrder, HandsOutTheRestOfARetiredRingAndThenGivesItBack) {
  TestRing a, b;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  order.Add(b.ring());
  a.Write(1);
  a.Write(3);
  b.Write(2);
  order.BeginRound(10);
  a.Write(4);  // after the round began, before it was retired
  order.Retire(a.ring());
  EXPECT_TRUE(order.TakeDrained().empty());
  order.BeginRound(20);
  ASSERT_NE(order.Pop(), nullptr);
  ASSERT_NE(order.Pop(), nullptr);
  ASSERT_NE(order.Pop(), nullptr);
  EXPECT_TRUE(order.TakeDrained().empty());
  EXPECT_EQ(PopAll(&order), Times{4});
  EXPECT_EQ(order.TakeDrained(), std::vector<Ring*>{a.ring()});
  // It is gone: nothing of it is looked at any more.
  a.Write(5);
  b.Write(25);
  order.Drain();
  EXPECT_EQ(PopAll(&order), Times{25});
  EXPECT_TRUE(order.TakeDrained().empty());
}

TEST(RingOrder, GivesAnEmptyRingBackAtOnceAndTakesNewOnesWhileItReads) {
  TestRing a, b;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  order.Retire(a.ring());
  EXPECT_EQ(order.TakeDrained(), std::vector<Ring*>{a.ring()});
  b.Write(7);
  order.Add(b.ring());
  order.Drain();
  EXPECT_EQ(PopAll(&order), Times{7});
}

TEST(RingOrder, KeepsTheCorruptionsOfARetiredRing) {
  TestRing a;
  RingOrder order(PeekTime);
  order.Add(a.ring());
  a.control()->data_head = 8;  // a record of size 0
  order.Retire(a.ring());
  EXPECT_EQ(order.TakeDrained().size(), 1u);
  EXPECT_EQ(order.malformed(), 1u);
}

// A machine of several rings whose records are stamped, then committed some time later.
struct Commit {
  uint64_t stamped;
  uint64_t committed;
  uint64_t number;
};

class RandomRun {
 public:
  RandomRun(uint32_t seed, uint64_t longest_delay, uint64_t shortest_round)
      : random_(seed), longest_delay_(longest_delay), shortest_round_(shortest_round) {
    const size_t rings = Up(1, 6);
    for (size_t i = 0; i < rings; ++i) {
      rings_.push_back(std::make_unique<TestRing>(uint64_t{1} << 16));
      order_.Add(rings_.back()->ring());
      uint64_t stamped = 0;
      uint64_t committed = 0;
      std::deque<Commit>& commits = commits_.emplace_back();
      const size_t count = Up(0, 300);
      for (size_t k = 0; k < count; ++k) {
        stamped += Up(0, 20);
        committed = std::max(committed, stamped + Up(0, longest_delay_));
        commits.push_back({stamped, committed, written_++});
      }
    }
  }

  void Run() {
    uint64_t now = 0;
    while (std::any_of(commits_.begin(), commits_.end(), [](auto& c) { return !c.empty(); })) {
      now += shortest_round_ + Up(0, 40);
      // Ring after ring, as the clock goes on: a round sees each one at another time.
      for (size_t i = 0; i < rings_.size(); ++i) {
        while (!commits_[i].empty() && commits_[i].front().committed <= now) {
          rings_[i]->Write(commits_[i].front().stamped, commits_[i].front().number);
          commits_[i].pop_front();
        }
      }
      order_.BeginRound(now);
      Take();
    }
    order_.Drain();
    Take();
  }

  void Check() {
    ASSERT_EQ(numbers_.size(), written_);
    std::sort(numbers_.begin(), numbers_.end());
    for (uint64_t i = 0; i < written_; ++i) ASSERT_EQ(numbers_[i], i);
    uint64_t newest = 0;
    uint64_t out_of_order = 0;
    for (const uint64_t time : times_) {
      if (time < newest) ++out_of_order;
      newest = std::max(newest, time);
    }
    ASSERT_EQ(out_of_order, order_.late());
  }
  uint64_t late() const { return order_.late(); }

 private:
  uint64_t Up(uint64_t least, uint64_t most) {
    return std::uniform_int_distribution<uint64_t>(least, most)(random_);
  }
  void Take() {
    while (const RingOrder::Next* next = order_.Pop()) {
      times_.push_back(next->who.time);
      uint64_t number;
      std::memcpy(&number, next->header + 2, sizeof(number));
      numbers_.push_back(number);
    }
    order_.ReleaseAll();
  }

  std::mt19937 random_;
  const uint64_t longest_delay_;
  const uint64_t shortest_round_;
  std::vector<std::unique_ptr<TestRing>> rings_;
  std::vector<std::deque<Commit>> commits_;
  RingOrder order_{PeekTime};
  uint64_t written_ = 0;
  std::vector<uint64_t> times_;
  std::vector<uint64_t> numbers_;
};

TEST(RingOrder, IsSortedWhateverTheInterleavingIfCommitsTakeLessThanARound) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomRun run(seed, /*longest_delay=*/30, /*shortest_round=*/30);
    run.Run();
    ASSERT_NO_FATAL_FAILURE(run.Check());
    ASSERT_EQ(run.late(), 0u);
  }
}

TEST(RingOrder, LosesNothingAndCountsWhatIsLateIfCommitsTakeLonger) {
  uint64_t late = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    RandomRun run(seed, /*longest_delay=*/200, /*shortest_round=*/1);
    run.Run();
    ASSERT_NO_FATAL_FAILURE(run.Check());
    late += run.late();
  }
  EXPECT_GT(late, 0u);  // or the property was tested on nothing
}

}  // namespace
}  // namespace lbrd::pmu
