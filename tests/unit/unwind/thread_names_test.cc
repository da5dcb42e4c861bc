#include "unwind/thread_names.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace lbrd::unwind {
namespace {

TEST(ThreadNames, KeepsTheLastNameOfEach) {
  ThreadNames names;
  EXPECT_TRUE(names.empty());
  EXPECT_EQ(names.Find(10), nullptr);
  names.Set(10, "first");
  names.Set(11, "other");
  names.Set(10, "second");
  EXPECT_EQ(*names.Find(10), "second");
  names.Forget(10);
  EXPECT_EQ(names.Find(10), nullptr);
  EXPECT_EQ(*names.Find(11), "other");
  names.Clear();
  EXPECT_TRUE(names.empty());
}

TEST(ThreadNames, EveryChangeHasAGenerationOfItsOwn) {
  ThreadNames a, b;
  EXPECT_EQ(a.generation(), 0u);
  std::set<uint64_t> seen = {0};
  for (ThreadNames* names : {&a, &b}) {
    names->Set(10, "name");
    EXPECT_TRUE(seen.insert(names->generation()).second);
    names->Set(10, "name");
    EXPECT_TRUE(seen.insert(names->generation()).second);
    names->Forget(10);
    EXPECT_TRUE(seen.insert(names->generation()).second);
    names->Clear();
    EXPECT_TRUE(seen.insert(names->generation()).second);
  }
  // What was not there does not change anything.
  const uint64_t before = a.generation();
  a.Forget(10);
  EXPECT_EQ(a.generation(), before);
}

TEST(ThreadNames, IsBounded) {
  ThreadNames names;
  for (size_t tid = 0; tid <= ThreadNames::kMaxThreads; ++tid) {
    names.Set(static_cast<int32_t>(tid), "t");
  }
  EXPECT_NE(names.Find(ThreadNames::kMaxThreads - 1), nullptr);
  EXPECT_EQ(names.Find(ThreadNames::kMaxThreads), nullptr);
  // Those that are known can still be renamed.
  names.Set(7, "renamed");
  EXPECT_EQ(*names.Find(7), "renamed");
}

}  // namespace
}  // namespace lbrd::unwind
