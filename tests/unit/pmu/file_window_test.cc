#include "pmu/file_window.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace lbrd::pmu {
namespace {

const auto kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// A file that has no name any more, of so many pages of 'x'.
class NamelessFile {
 public:
  explicit NamelessFile(size_t pages) {
    std::string path = testing::TempDir() + "/lbrd-file-window-XXXXXX";
    fd_ = mkstemp(path.data());
    unlink(path.c_str());
    const std::string bytes(pages * kPage, 'x');
    EXPECT_EQ(write(fd_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  ~NamelessFile() { close(fd_); }
  int fd() const { return fd_; }
  void Shorten(size_t pages) { ASSERT_EQ(ftruncate(fd_, static_cast<off_t>(pages * kPage)), 0); }

 private:
  int fd_;
};

size_t CountX(const FileWindow& window) {
  return static_cast<size_t>(
      std::count(window.bytes().begin(), window.bytes().end(), std::byte{'x'}));
}

TEST(FileWindow, ShowsTheBytesFromTheOffsetOn) {
  const NamelessFile file(3);
  ASSERT_EQ(pwrite(file.fd(), "y", 1, static_cast<off_t>(kPage)), 1);
  std::atomic<bool> lost = false;
  absl::StatusOr<FileWindow> window = FileWindow::Map(file.fd(), kPage, kPage + 7, &lost);
  ASSERT_TRUE(window.ok()) << window.status();
  EXPECT_EQ(window->bytes().size(), kPage + 7);
  EXPECT_EQ(window->bytes()[0], std::byte{'y'});
  EXPECT_EQ(CountX(*window), kPage + 6);
  const FileWindow moved = *std::move(window);
  EXPECT_EQ(CountX(moved), kPage + 6);
  EXPECT_FALSE(lost);
}

TEST(FileWindow, ZerosStandWhereTheFileBecameShorter) {
  NamelessFile file(4);
  std::atomic<bool> lost = false;
  std::atomic<bool> other_lost = false;
  const NamelessFile other(4);
  const absl::StatusOr<FileWindow> beside = FileWindow::Map(other.fd(), 0, 4 * kPage, &other_lost);
  const absl::StatusOr<FileWindow> window = FileWindow::Map(file.fd(), 0, 4 * kPage, &lost);
  ASSERT_TRUE(window.ok() && beside.ok());
  EXPECT_EQ(CountX(*window), 4 * kPage);
  EXPECT_FALSE(lost);
  file.Shorten(1);
  EXPECT_EQ(CountX(*window), kPage);
  EXPECT_TRUE(lost);
  EXPECT_EQ(CountX(*beside), 4 * kPage);
  EXPECT_FALSE(other_lost);
}

TEST(FileWindow, ThereAreSoManyAndEachCanBeHadAgain) {
  const NamelessFile file(1);
  std::atomic<bool> lost = false;
  std::vector<FileWindow> windows;
  for (size_t i = 0; i < FileWindow::kMost; ++i) {
    absl::StatusOr<FileWindow> window = FileWindow::Map(file.fd(), 0, kPage, &lost);
    ASSERT_TRUE(window.ok()) << i << window.status();
    windows.push_back(*std::move(window));
  }
  const auto refused = FileWindow::Map(file.fd(), 0, kPage, &lost);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  windows.pop_back();
  EXPECT_TRUE(FileWindow::Map(file.fd(), 0, kPage, &lost).ok());
}

TEST(FileWindow, WhatCannotBeMappedIsAnErrorAndKeepsNoPlace) {
  std::atomic<bool> lost = false;
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  for (size_t i = 0; i < 2 * FileWindow::kMost; ++i) {
    const absl::Status status = FileWindow::Map(pipes[0], 0, kPage, &lost).status();
    ASSERT_FALSE(status.ok());
    ASSERT_NE(status.code(), absl::StatusCode::kResourceExhausted) << i;
  }
  close(pipes[0]);
  close(pipes[1]);
}

TEST(FileWindowDeathTest, BusErrorsOfOthersStillKill) {
  NamelessFile file(2);
  std::atomic<bool> lost = false;
  const absl::StatusOr<FileWindow> window = FileWindow::Map(file.fd(), 0, kPage, &lost);
  ASSERT_TRUE(window.ok());
  auto* const mapped =
      static_cast<volatile char*>(mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE, file.fd(), 0));
  ASSERT_NE(mapped, MAP_FAILED);
  file.Shorten(1);
  EXPECT_DEATH(static_cast<void>(mapped[kPage]), "");
  munmap(const_cast<char*>(mapped), 2 * kPage);
}

}  // namespace
}  // namespace lbrd::pmu
