#include "daemon/debuginfod.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/recording_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/tiny_elf.h"

namespace lbrd::daemon {
namespace {

using Kind = Debuginfod::Kind;
using testing::ElementsAre;
using testing::HasSubstr;

std::optional<Debuginfod::Options> OptionsOf(const std::map<std::string, std::string>& variables) {
  return Debuginfod::OptionsOf([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(DebuginfodOptionsTest, WithoutServersThereIsNone) {
  EXPECT_FALSE(OptionsOf({{"HOME", "/home/a"}}).has_value());
  EXPECT_FALSE(OptionsOf({{"DEBUGINFOD_URLS", ""}}).has_value());
  EXPECT_FALSE(OptionsOf({{"DEBUGINFOD_URLS", " "}}).has_value());
  EXPECT_TRUE(OptionsOf({{"DEBUGINFOD_URLS", "http://x"}}).has_value());
}

TEST(DebuginfodOptionsTest, TheCacheIsThatOfDebuginfodsClient) {
  std::map<std::string, std::string> variables = {{"DEBUGINFOD_URLS", "http://x"}};
  EXPECT_EQ(OptionsOf(variables)->cache, "");
  variables["HOME"] = "/home/a";
  EXPECT_EQ(OptionsOf(variables)->cache, "/home/a/.cache/debuginfod_client");
  variables["XDG_CACHE_HOME"] = "/var/cache/a";
  EXPECT_EQ(OptionsOf(variables)->cache, "/var/cache/a/debuginfod_client");
  variables["DEBUGINFOD_CACHE_PATH"] = "/srv/debug";
  EXPECT_EQ(OptionsOf(variables)->cache, "/srv/debug");
  variables["DEBUGINFOD_CACHE_PATH"] = "here";
  EXPECT_EQ(OptionsOf(variables)->cache, std::filesystem::absolute("here").string());
}

TEST(BuildIdTest, KnowsWhatIsOne) {
  EXPECT_TRUE(Debuginfod::IsBuildId("0123456789abcdef0123456789abcdef01234567"));
  EXPECT_TRUE(Debuginfod::IsBuildId("abcd"));
  for (const char* none : {"", "ab", "abc", "ABCD", "../../../etc/passwd1", "abc/", "-abc",
                           "--help", "abcd efgh", "abc\n", "0x1234"}) {
    EXPECT_FALSE(Debuginfod::IsBuildId(none)) << none;
  }
  EXPECT_TRUE(Debuginfod::IsBuildId(std::string(128, 'a')));
  EXPECT_FALSE(Debuginfod::IsBuildId(std::string(130, 'a')));
}

// A program in place of debuginfod-find, and a folder to keep things in.
class DebuginfodTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/debuginfodXXXXXX");
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    options_ = {.cache = folder_ + "/cache",
                .program = folder_ + "/debuginfod-find",
                .time_limit = absl::Seconds(60),
                .tell = [this](absl::string_view line, bool wrong) {
                  absl::MutexLock lock(&mutex_);
                  (wrong ? wrong_ : told_).emplace_back(line);
                }};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void WriteTiny(const std::string& path, uint8_t id) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    const auto elf = unwind::TinyElf(id);
    std::string bytes(elf->size(), '\0');
    ASSERT_TRUE(elf->ReadAt(0, std::as_writable_bytes(std::span(bytes))).ok());
    std::ofstream(path, std::ios::binary) << bytes;
  }
  // Writes down how it is called.
  void Finder(const std::string& script) {
    std::ofstream(options_.program) << "#!/bin/sh\necho \"$@\" >>" << folder_ << "/asked\n"
                                    << "cd " << folder_ << "\n"
                                    << script << "\n";
    ASSERT_EQ(chmod(options_.program.c_str(), 0700), 0);
  }
  std::vector<std::string> Asked() {
    std::ifstream file(folder_ + "/asked");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  absl::Status Get(Debuginfod& debuginfod, uint8_t id, Kind kind = Kind::kDebugInfo) {
    const auto bytes = debuginfod.Get(kind, unwind::TinyBuildId(id), "/opt/app/prog");
    if (bytes.ok()) {
      EXPECT_EQ((*bytes)->size(), unwind::kTinyBytes);
    }
    return bytes.status();
  }

  std::string folder_;
  Debuginfod::Options options_;
  absl::Mutex mutex_;
  std::vector<std::string> told_;
  std::vector<std::string> wrong_;
};

TEST_F(DebuginfodTest, WhatIsInTheCacheIsNotFetched) {
  Finder("exit 1");
  WriteTiny(absl::StrCat(options_.cache, "/", unwind::TinyBuildId(1), "/debuginfo"), 1);
  WriteTiny(absl::StrCat(options_.cache, "/", unwind::TinyBuildId(2), "/executable"), 2);
  Debuginfod debuginfod(options_);
  EXPECT_TRUE(Get(debuginfod, 1).ok());
  EXPECT_TRUE(Get(debuginfod, 2, Kind::kExecutable).ok());
  EXPECT_THAT(Asked(), ElementsAre());
  EXPECT_THAT(told_, ElementsAre());
  // Each is what it is called.
  EXPECT_FALSE(Get(debuginfod, 2).ok());
  EXPECT_THAT(Asked(), ElementsAre("debuginfo " + unwind::TinyBuildId(2)));
}

TEST_F(DebuginfodTest, IsFetchedOnceHoweverManyAsk) {
  WriteTiny(folder_ + "/file", 7);
  Finder("sleep 0.2; echo " + folder_ + "/file");
  Debuginfod debuginfod(options_);
  std::vector<std::thread> threads;
  std::atomic<int> got = 0;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { got += Get(debuginfod, 7).ok(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(got, 4);
  EXPECT_TRUE(Get(debuginfod, 7).ok());
  EXPECT_THAT(Asked(), ElementsAre("debuginfo " + unwind::TinyBuildId(7)));
  EXPECT_THAT(told_, ElementsAre("fetching debug information of /opt/app/prog from debuginfod"));
  EXPECT_THAT(wrong_, ElementsAre());
}

TEST_F(DebuginfodTest, OneThatIsFetchedDoesNotKeepOthers) {
  WriteTiny(folder_ + "/file1", 1);
  WriteTiny(folder_ + "/file2", 2);
  // The first waits for the second.
  Finder(absl::StrCat("case $2 in 01*) until test -e second; do sleep 0.05; done; echo ", folder_,
                      "/file1;; *) touch second; echo ", folder_, "/file2;; esac"));
  Debuginfod debuginfod(options_);
  std::thread first([&] { EXPECT_TRUE(Get(debuginfod, 1).ok()); });
  while (Asked().empty()) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_TRUE(Get(debuginfod, 2).ok());
  first.join();
}

TEST_F(DebuginfodTest, ThatThereIsNoneIsRemembered) {
  Finder("echo 'Server query failed: No such file or directory' >&2; exit 1");
  Debuginfod debuginfod(options_);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Get(debuginfod, 7), absl::NotFoundError("debuginfod had none"));
  }
  EXPECT_EQ(Asked().size(), 1u);
  EXPECT_FALSE(Get(debuginfod, 7, Kind::kExecutable).ok());
  EXPECT_EQ(Asked().back(), "executable " + unwind::TinyBuildId(7));
  // Nothing went wrong.
  EXPECT_THAT(wrong_, ElementsAre());
}

TEST_F(DebuginfodTest, WhatOneRecordingAskedForAnotherDoesNot) {
  Finder("echo 'Server query failed: No such file or directory' >&2; exit 1");
  Debuginfod debuginfod(options_);
  const unwind::FileIdentity file{.path = "/opt/app/prog", .build_id = unwind::TinyBuildId(7)};
  for (int i = 0; i < 2; ++i) {
    RecordingFiles files("", {}, &debuginfod);
    EXPECT_TRUE(absl::IsNotFound(files.FetchDebug(file).status()));
    EXPECT_TRUE(absl::IsNotFound(files.Fetch(file).status()));
  }
  EXPECT_EQ(Asked().size(), 2u);  // for its debug information and for itself
}

TEST(DebuginfodDeathTest, AProcessHasOne) {
  // Another process: its environment is its own, and it has not looked there before.
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto end = [] {
    setenv("DEBUGINFOD_URLS", "http://localhost", 1);
    const Debuginfod* const one = Debuginfod::OfProcess();
    _exit(one != nullptr && one == Debuginfod::OfProcess() ? 0 : 1);
  };
  EXPECT_EXIT(end(), testing::ExitedWithCode(0), "");
}

TEST_F(DebuginfodTest, SaysWhyItCannotAsk) {
  Finder("echo 'Server query failed: Connection refused' >&2; exit 1");
  Debuginfod debuginfod(options_);
  for (const uint8_t id : {1, 2}) {
    EXPECT_EQ(Get(debuginfod, id),
              absl::UnavailableError("debuginfod could not be asked: Connection refused"));
  }
  // Once for all of that kind.
  EXPECT_THAT(wrong_, ElementsAre("debuginfod could not be asked: Connection refused"));
  EXPECT_EQ(debuginfod.Get(Kind::kDebugInfo, "../../etc", "/x").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Asked().size(), 2u);
}

TEST_F(DebuginfodTest, MayNotBeInstalled) {
  options_.program = "";
  WriteTiny(absl::StrCat(options_.cache, "/", unwind::TinyBuildId(1), "/debuginfo"), 1);
  Debuginfod debuginfod(options_);
  for (const uint8_t id : {7, 8}) {
    EXPECT_EQ(Get(debuginfod, id), absl::UnavailableError("debuginfod-find is not installed"));
  }
  EXPECT_THAT(wrong_, ElementsAre("debuginfod-find is not installed"));
  EXPECT_THAT(told_, ElementsAre());
  EXPECT_TRUE(Get(debuginfod, 1).ok());
}

TEST_F(DebuginfodTest, AnotherFileIsNotTaken) {
  WriteTiny(folder_ + "/file", 8);
  Finder("echo " + folder_ + "/file");
  // Nor from the cache.
  WriteTiny(absl::StrCat(options_.cache, "/", unwind::TinyBuildId(7), "/debuginfo"), 8);
  Debuginfod debuginfod(options_);
  EXPECT_THAT(std::string(Get(debuginfod, 7).message()), HasSubstr("another file"));
  EXPECT_EQ(Asked().size(), 1u);
  // No file at all, and no path.
  Finder("echo " + folder_ + "/missing");
  EXPECT_FALSE(Get(debuginfod, 9).ok());
  Finder("head -c 100000 /dev/zero");
  EXPECT_FALSE(Get(debuginfod, 10).ok());
}

TEST_F(DebuginfodTest, OneThatHangsIsGivenUp) {
  Finder("case $2 in 01*) sleep 100;; esac; echo " + folder_ + "/file");
  WriteTiny(folder_ + "/file", 2);
  WriteTiny(absl::StrCat(options_.cache, "/", unwind::TinyBuildId(3), "/debuginfo"), 3);
  options_.time_limit = absl::Seconds(2);
  Debuginfod debuginfod(options_);
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Get(debuginfod, 1), absl::UnavailableError("debuginfod took longer than 2s"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(50));
  // It would do so for the next one.
  EXPECT_THAT(std::string(Get(debuginfod, 2).message()), HasSubstr("was not asked"));
  EXPECT_EQ(Asked().size(), 1u);
  EXPECT_TRUE(Get(debuginfod, 3).ok()) << "it is here";
}

}  // namespace
}  // namespace lbrd::daemon
