#include "unwind/binary.h"

#include <array>
#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/live_process.h"
#include "tests/unit/unwind/tiny_elf.h"

namespace lbrd::unwind {
namespace {

// Files by path, counting who asks.
class CountingFiles : public FileSource {
 public:
  absl::StatusOr<std::shared_ptr<const ByteSource>> Open(int32_t pid,
                                                         const FileIdentity& file) override {
    ++opened_;
    if (gone_.count(pid) != 0) return absl::UnavailableError(absl::StrCat(pid, " is gone"));
    const auto found = files_.find(file.path);
    if (found == files_.end()) return absl::NotFoundError(absl::StrCat("no ", file.path));
    return found->second;
  }
  absl::StatusOr<std::shared_ptr<const ByteSource>> OpenDebug(
      int32_t, const std::string& build_id) override {
    ++debug_opened_;
    debug_asked_ = build_id;
    return absl::NotFoundError("no debug file");
  }

  absl::StatusOr<std::shared_ptr<const ByteSource>> Fetch(const FileIdentity& file) override {
    ++fetched_;
    const auto found = far_.find(file.path);
    if (found == far_.end()) return absl::NotFoundError("the server had none");
    return found->second;
  }

  std::set<int32_t> gone_;
  std::map<std::string, std::shared_ptr<const ByteSource>> far_;
  std::map<std::string, std::shared_ptr<const ByteSource>> files_ = {
      {"/a", TinyElf(0xaa)},
      {"/b", TinyElf(0xbb)},
      {"/text", std::make_shared<MemoryBytes>("#!/bin/sh", 9)}};
  std::atomic<int> opened_ = 0;
  std::atomic<int> fetched_ = 0;
  int debug_opened_ = 0;
  std::string debug_asked_;
};

class BinaryTest : public testing::Test {
 protected:
  CountingFiles files_;
  BinaryCache cache_{&files_};
};

FileIdentity ByInode(const std::string& path, uint64_t inode) {
  return {.path = path, .build_id = {}, .major = 8, .minor = 1, .inode = inode};
}

TEST_F(BinaryTest, LoadsEachFileOnce) {
  const auto first = cache_.Get(1, ByInode("/a", 7));
  const auto again = cache_.Get(2, ByInode("/a", 7));
  EXPECT_EQ(first, again);
  EXPECT_EQ(files_.opened_, 1);
  EXPECT_TRUE(first->readable());
  EXPECT_EQ(first->problem(), "");
  EXPECT_EQ(first->path(), "/a");
  EXPECT_EQ(first->build_id(), TinyBuildId(0xaa));
  EXPECT_EQ(first->machine(), EM_X86_64);
  EXPECT_NE(cache_.Get(1, ByInode("/b", 8)), first);
  EXPECT_EQ(files_.opened_, 2);
}

TEST_F(BinaryTest, WhatWentWithItsProcessIsHadThroughItsElders) {
  files_.gone_ = {30, 20};
  const std::array<int32_t, 3> elders = {20, 10, 1};
  EXPECT_TRUE(cache_.Get(30, ByInode("/a", 7), elders)->readable());
  EXPECT_EQ(files_.opened_, 3);  // 1 was not asked
  // A process that lives knows best.
  EXPECT_FALSE(cache_.Get(40, ByInode("/none", 8), elders)->readable());
  EXPECT_EQ(files_.opened_, 4);
  const std::array<int32_t, 3> unknown = {-1, -1, -1};
  EXPECT_FALSE(cache_.Get(30, ByInode("/b", 9), unknown)->readable());
  EXPECT_EQ(files_.opened_, 5);
}

TEST_F(BinaryTest, WhatWentWithItsProcessIsLookedForAgain) {
  files_.gone_ = {2, 3};
  const auto lost = cache_.Get(2, ByInode("/a", 7));
  EXPECT_FALSE(lost->readable());
  EXPECT_FALSE(cache_.Get(3, ByInode("/a", 7))->readable());
  const auto found = cache_.Get(4, ByInode("/a", 7));
  EXPECT_TRUE(found->readable());
  EXPECT_EQ(cache_.Get(2, ByInode("/a", 7)), found);
  EXPECT_EQ(files_.opened_, 3);
}

TEST_F(BinaryTest, WhatIsNeverFoundIsNotLookedForForEver) {
  files_.gone_ = {2};
  for (int i = 0; i < 3 * BinaryCache::kTries; ++i) cache_.Get(2, ByInode("/a", 7));
  EXPECT_EQ(files_.opened_, 1 + BinaryCache::kTries);
  // Of what is not there nothing says that it ever will be.
  files_.opened_ = 0;
  for (int i = 0; i < 3; ++i) cache_.Get(4, ByInode("/none", 7));
  EXPECT_EQ(files_.opened_, 1);
}

TEST_F(BinaryTest, InodeAndBuildIdMeet) {
  const auto by_inode = cache_.Get(1, ByInode("/a", 7));
  const auto by_build_id = cache_.Get(1, {.path = "/a", .build_id = TinyBuildId(0xaa)});
  EXPECT_EQ(by_inode, by_build_id);
  // A file replaced under its name is another one.
  files_.files_["/a"] = TinyElf(0xcc);
  EXPECT_NE(cache_.Get(1, ByInode("/a", 8)), by_inode);
  // As is a copy under another name.
  files_.files_["/copy"] = TinyElf(0xaa);
  EXPECT_NE(cache_.Get(1, ByInode("/copy", 9)), by_inode);
}

TEST_F(BinaryTest, WhatCannotBeReadHasAProblem) {
  const auto missing = cache_.Get(1, {.path = "/gone", .build_id = "abcd"});
  ASSERT_NE(missing, nullptr);
  EXPECT_FALSE(missing->readable());
  EXPECT_EQ(missing->problem(), "no /gone; the server had none");
  EXPECT_EQ(missing->symbols_problem(), "no /gone; the server had none");
  EXPECT_EQ(missing->build_id(), "abcd");  // as recorded
  EXPECT_EQ(missing->FindSymbol(0x400000), std::nullopt);
  EXPECT_EQ(missing->unwind_info(), nullptr);
  EXPECT_EQ(missing->AddressOfOffset(0), std::nullopt);
  std::byte out[1];
  EXPECT_FALSE(missing->ReadMemory(0x400000, out));
  EXPECT_EQ(missing->machine(), 0);
  // Nor is it looked for again and again.
  cache_.Get(1, {.path = "/gone", .build_id = "abcd"});
  EXPECT_EQ(files_.opened_, 1);

  const auto text = cache_.Get(1, {.path = "/text"});
  EXPECT_FALSE(text->readable());
  EXPECT_NE(text->problem(), "");
}

TEST_F(BinaryTest, WhatIsNoFileIsNotLookedFor) {
  for (const char* path : {"", "//anon", "[heap]", "[stack]", "[vsyscall]", "/memfd:jit (deleted)",
                           "/dev/zero (deleted)", "[anon:code]", "/SYSV00000000 (deleted)"}) {
    const auto binary = cache_.Get(1, {.path = path});
    EXPECT_FALSE(binary->readable()) << path;
    EXPECT_NE(binary->problem(), "") << path;
  }
  EXPECT_EQ(files_.opened_, 0);
}

TEST_F(BinaryTest, IsFetchedOnceWhenAFrameNeedsIt) {
  files_.far_["/far"] = TinyElf(0xdd);
  const auto far = cache_.Get(1, {.path = "/far"});
  EXPECT_EQ(cache_.Get(2, {.path = "/far"}), far);
  EXPECT_FALSE(far->opened());
  EXPECT_EQ(far->path(), "/far");
  EXPECT_TRUE(far->has_file());
  EXPECT_EQ(files_.fetched_, 0) << "most of what is mapped is in no stack";
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(far->AddressOfOffset(0x123), kTinyAddress + 0x123); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(files_.fetched_, 1);
  EXPECT_TRUE(far->readable());
  EXPECT_EQ(far->problem(), "");
  EXPECT_EQ(far->build_id(), TinyBuildId(0xdd));
  EXPECT_EQ(far->machine(), EM_X86_64);
  std::byte magic[4];
  EXPECT_TRUE(far->ReadMemory(kTinyAddress, magic));

  files_.far_["/nonsense"] = files_.files_["/text"];
  const auto nonsense = cache_.Get(1, {.path = "/nonsense"});
  EXPECT_FALSE(nonsense->readable());
  EXPECT_NE(nonsense->problem(), "");
}

TEST_F(BinaryTest, EvictsTheLongestUnused) {
  BinaryCache cache(&files_, 2);
  const auto a = cache.Get(1, ByInode("/a", 1));
  cache.Get(1, ByInode("/b", 2));
  cache.Get(1, ByInode("/a", 1));  // now /b is the oldest
  EXPECT_EQ(files_.opened_, 2);
  cache.Get(1, ByInode("/text", 3));
  EXPECT_EQ(files_.opened_, 3);
  cache.Get(1, ByInode("/a", 1));
  EXPECT_EQ(files_.opened_, 3);  // kept
  cache.Get(1, ByInode("/b", 2));
  EXPECT_EQ(files_.opened_, 4);  // gone
  // What is still mapped outlives its entry, and is found again by its content.
  cache.Get(1, ByInode("/text", 3));
  cache.Get(1, ByInode("/b", 2));
  EXPECT_EQ(cache.Get(1, ByInode("/a", 1)), a);
  EXPECT_TRUE(a->readable());
}

TEST_F(BinaryTest, ReadsSymbolsWhenAsked) {
  const auto binary = cache_.Get(1, ByInode("/a", 1));
  EXPECT_EQ(files_.debug_opened_, 0);
  EXPECT_EQ(binary->FindSymbol(kTinyAddress), std::nullopt);
  EXPECT_EQ(files_.debug_asked_, TinyBuildId(0xaa));
  EXPECT_NE(binary->symbols_problem(), "");
  binary->FindSymbol(kTinyAddress);
  EXPECT_EQ(files_.debug_opened_, 1);
}

TEST_F(BinaryTest, ReadsMemoryWhereTheFilePutsIt) {
  const auto binary = cache_.Get(1, ByInode("/a", 1));
  std::byte magic[4];
  ASSERT_TRUE(binary->ReadMemory(kTinyAddress, magic));
  EXPECT_EQ(std::memcmp(magic, ELFMAG, 4), 0);
  EXPECT_FALSE(binary->ReadMemory(kTinyAddress - 1, magic));
  EXPECT_FALSE(binary->ReadMemory(kTinyAddress + kTinyBytes - 3, magic));
  EXPECT_TRUE(binary->ReadMemory(kTinyAddress + kTinyBytes - 4, magic));
  EXPECT_EQ(binary->AddressOfOffset(0x123), kTinyAddress + 0x123);
  EXPECT_EQ(binary->AddressOfOffset(kTinyBytes), std::nullopt);
}

TEST_F(BinaryTest, ReadsUnwindInfoOfARealProgram) {
  LiveFiles live;
  BinaryCache cache(&live);
  const auto self = cache.Get(1, {.path = "/proc/self/exe"});
  ASSERT_TRUE(self->readable()) << self->problem();
  const Binary::UnwindInfo* info = self->unwind_info();
  ASSERT_NE(info, nullptr);
  EXPECT_FALSE(info->frames.empty());
  std::byte version;
  ASSERT_TRUE(self->ReadMemory(info->header_address, std::span(&version, 1)));
  EXPECT_EQ(version, std::byte{1});
  EXPECT_EQ(self->symbols_problem(), "");
}

TEST_F(BinaryTest, AllThreadsGetTheSame) {
  std::vector<std::shared_ptr<const Binary>> got(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < got.size(); ++i) {
    threads.emplace_back([&, i] {
      got[i] = cache_.Get(1, ByInode("/a", 1));
      got[i]->FindSymbol(kTinyAddress);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& binary : got) EXPECT_EQ(binary, got[0]);
  EXPECT_EQ(files_.debug_opened_, 1);
}

}  // namespace
}  // namespace lbrd::unwind
