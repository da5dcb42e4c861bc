#include "daemon/journal_slot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

class JournalSlotTest : public ::testing::Test {
 protected:
  std::span<std::byte> memory() { return std::as_writable_bytes(std::span(words_)); }
  std::string ReadAnew() { return JournalSlot(memory()).Read(); }

  std::vector<uint64_t> words_ = std::vector<uint64_t>(32);
};

TEST_F(JournalSlotTest, IsEmptyAtFirst) {
  EXPECT_EQ(ReadAnew(), "");
  EXPECT_EQ(JournalSlot(memory()).capacity(), 128 - JournalSlot::kHeaderBytes);
}

TEST_F(JournalSlotTest, AnotherOneGoesOnWithIt) {
  for (int i = 0; i < 10; ++i) {
    JournalSlot slot(memory());
    ASSERT_TRUE(slot.Write(absl::StrCat("record ", i)));
    EXPECT_EQ(ReadAnew(), absl::StrCat("record ", i));
    ASSERT_TRUE(slot.Write(absl::StrCat("again ", i)));
    EXPECT_EQ(ReadAnew(), absl::StrCat("again ", i));
  }
}

TEST_F(JournalSlotTest, NothingIsARecordToo) {
  JournalSlot slot(memory());
  slot.Write("one");
  slot.Write("");
  EXPECT_EQ(ReadAnew(), "") << "not the one before";
}

TEST_F(JournalSlotTest, KeepsWhatThereWasIfTheNextDoesNotFit) {
  JournalSlot slot(memory());
  EXPECT_TRUE(slot.Write(std::string(slot.capacity(), 'x')));
  EXPECT_FALSE(slot.Write(std::string(slot.capacity() + 1, 'y')));
  EXPECT_EQ(ReadAnew(), std::string(slot.capacity(), 'x'));
}

// The writer is killed when so many bytes of what it changes are changed, in any order.
TEST_F(JournalSlotTest, AWriteThatIsCutShortAnywhereLeavesTheOldOrTheNew) {
  std::mt19937 random(1);
  JournalSlot slot(memory());
  slot.Write("the one before the old");
  slot.Write("the old record");
  const std::vector<uint64_t> before = words_;
  slot.Write("the new record, which is longer than the old one");
  const std::vector<uint64_t> after = words_;
  std::vector<size_t> changed;
  const auto bytes = [](const std::vector<uint64_t>& words) {
    return std::as_bytes(std::span(words));
  };
  for (size_t i = 0; i < memory().size(); ++i) {
    if (bytes(before)[i] != bytes(after)[i]) changed.push_back(i);
  }
  ASSERT_GT(changed.size(), 40u);
  std::set<std::string> seen;
  for (int order = 0; order < 50; ++order) {
    for (size_t stored = 0; stored <= changed.size(); ++stored) {
      words_ = before;
      for (size_t i = 0; i < stored; ++i) memory()[changed[i]] = bytes(after)[changed[i]];
      seen.insert(ReadAnew());
      // Whoever comes next can write, wherever that one stopped.
      JournalSlot next(memory());
      next.Write("next");
      ASSERT_EQ(ReadAnew(), "next");
    }
    std::shuffle(changed.begin(), changed.end(), random);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"the old record",
                                         "the new record, which is longer than the old one"}));
}

TEST_F(JournalSlotTest, TakesAnything) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20'000; ++i) {
    for (uint64_t& word : words_) word = random() >> (random() % 64);
    JournalSlot slot(memory());
    EXPECT_LE(slot.Read().size(), slot.capacity());
    ASSERT_TRUE(slot.Write("next"));
    ASSERT_EQ(ReadAnew(), "next");
  }
}

TEST_F(JournalSlotTest, ALastSerialNumberIsNoEnd) {
  JournalSlot slot(memory());
  slot.Write("one");
  // The other copy is written as if it were the last that can be: its checksum is wrong, so that it
  // does not count; and one that is right cannot be made without the code's own key.
  words_[16] = UINT64_MAX;
  EXPECT_EQ(ReadAnew(), "one");
}

}  // namespace
}  // namespace lbrd::daemon
