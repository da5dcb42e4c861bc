#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lbrd::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kFile[] = "lbrd.toml";

TEST(ConfigTest, AnEmptyFileIsTheDefaults) {
  const auto config = ParseConfig("# nothing\n\n", kFile);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config, Config());
}

TEST(ConfigTest, EverySettingCanBeSet) {
  const auto config = ParseConfig(
      "socket = \"/tmp/s\"\nlog-level = \"debug\"\nexit-idle = \"1h30m\"\n"
      "max-sessions = 7\nmax-contexts = 2048\nmetrics = \"127.0.0.1:9477\"\n"
      "history = \"/tmp/h.db\"\nhistory-bytes = \"2G\"\nhistory-age = \"30d\"\n"
      "max-cpu = \"1.5%\"\n"
      "history-bucket = \"1m\"\ncontinuous = false\n",
      kFile);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->socket, "/tmp/s");
  EXPECT_EQ(config->log_level, LogLevel::kDebug);
  EXPECT_EQ(config->exit_idle, absl::Minutes(90));
  EXPECT_EQ(config->max_sessions, 7);
  EXPECT_EQ(config->max_contexts, 2048);
  EXPECT_EQ(config->metrics, "127.0.0.1:9477");
  EXPECT_EQ(config->max_cpu, 1.5);
  EXPECT_EQ(config->history, "/tmp/h.db");
  EXPECT_EQ(config->history_bytes, uint64_t{2} << 30);
  EXPECT_EQ(config->history_age, absl::Hours(720));
  EXPECT_EQ(config->history_bucket, absl::Minutes(1));
  EXPECT_FALSE(config->continuous);
}

struct Bad {
  const char* text;
  const char* where;  // the error begins so
  const char* what;   // and has this in it
};

class BadConfigTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadConfigTest, IsRefusedWithItsLine) {
  const auto config = ParseConfig(GetParam().text, kFile);
  ASSERT_FALSE(config.ok()) << GetParam().text;
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), StartsWith(GetParam().where));
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().what));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    ::testing::Values(
        // No setting.
        Bad{"\n\nsokcet = \"/x\"\n", "lbrd.toml:3: sokcet: ", "the settings are socket, log-level"},
        Bad{"[limits]\nmax-sessions = 3\n", "lbrd.toml:1: limits: ", "is not a setting"},
        Bad{"max-sessions.x = 3\n", "lbrd.toml:1: max-sessions: ", "whole number"},
        // Another type.
        Bad{"# one\nmax-sessions = \"7\"\n", "lbrd.toml:2: max-sessions: ", "whole number"},
        Bad{"max-sessions = 7.0\n", "lbrd.toml:1: ", "from 1 to 4096"},
        Bad{"max-sessions = true\n", "lbrd.toml:1: ", "whole number"},
        Bad{"max-sessions = [7]\n", "lbrd.toml:1: ", "whole number"},
        Bad{"log-level = 3\n", "lbrd.toml:1: log-level: ", "in \"quotes\""},
        Bad{"exit-idle = 10\n", "lbrd.toml:1: exit-idle: ", "in \"quotes\""},
        Bad{"socket = {path = \"/x\"}\n", "lbrd.toml:1: socket: ", "in \"quotes\""},
        Bad{"exit-idle = 07:32:00\n", "lbrd.toml:1: exit-idle: ", "in \"quotes\""},
        // Out of range.
        Bad{"max-sessions = 0\n", "lbrd.toml:1: ", "from 1 to 4096"},
        Bad{"max-sessions = -1\n", "lbrd.toml:1: ", "from 1 to 4096"},
        Bad{"max-sessions = 4097\n", "lbrd.toml:1: ", "from 1 to 4096"},
        Bad{"max-contexts = 9223372036854775807\n", "lbrd.toml:1: ", "from 1024 to 1048576"},
        Bad{"exit-idle = \"1ms\"\n", "lbrd.toml:1: ", "from 1s to 168h"},
        Bad{"history-age = \"0\"\n", "lbrd.toml:1: ", "from 1m to 87600h"},
        Bad{"history-bytes = \"1M\"\n", "lbrd.toml:1: ", "from 16M to 16384G"},
        Bad{"history-bytes = \"99999999999999999999G\"\n", "lbrd.toml:1: ", "from 16M"},
        Bad{"history-bytes = 512\n", "lbrd.toml:1: ", "in \"quotes\""},
        Bad{"history = \"a\\u0000b\"\n", "lbrd.toml:1: ", "a file's path"},
        Bad{"max-cpu = \"1\"\n", "lbrd.toml:1: ", "from 0.01% to 100%"},
        Bad{"max-cpu = \"nan%\"\n", "lbrd.toml:1: ", "from 0.01%"},
        Bad{"max-cpu = \"101%\"\n", "lbrd.toml:1: ", "from 0.01%"},
        Bad{"max-cpu = 1\n", "lbrd.toml:1: ", "in \"quotes\""},
        Bad{"continuous = \"true\"\n", "lbrd.toml:1: ", "true or false"},
        Bad{"exit-idle = \"-5s\"\n", "lbrd.toml:1: ", "like 90s"},
        Bad{"exit-idle = \"inf\"\n", "lbrd.toml:1: ", "like 90s"},
        Bad{"exit-idle = \"soon\"\n", "lbrd.toml:1: ", "like 90s"},
        Bad{"log-level = \"loud\"\n", "lbrd.toml:1: ", "error, warning, info or debug"},
        Bad{"socket = \"\"\n", "lbrd.toml:1: ", "path of 1 to"},
        Bad{"socket = \"a\\u0000b\"\n", "lbrd.toml:1: ", "path of 1 to"},
        Bad{"tls-listen = \"localhost:7431\"\n", "lbrd.toml:1: tls-listen: ", "numeric"},
        Bad{"tls-key = \"key.pem\"\n", "lbrd.toml:1: tls-key: ", "absolute path"},
        Bad{"tls-admins = \"a, a\"\n", "lbrd.toml:1: tls-admins: ", "named twice"},
        Bad{"tls-users = \"alice\"\n", "lbrd.toml:1: tls-users: ", "alice.example.com=1500"},
        Bad{"tls-users = \"alice=0\"\n", "lbrd.toml:1: tls-users: ", "tls-admins"},
        Bad{"metrics = \"0.0.0.0:9477\"\n", "lbrd.toml:1: metrics: ", "other machines"},
        Bad{"metrics = \"[::]:9477\"\n", "lbrd.toml:1: metrics: ", "other machines"},
        Bad{"metrics = \"9477\"\n", "lbrd.toml:1: metrics: ", "127.0.0.1:PORT"},
        Bad{"metrics = \"localhost:9477\"\n", "lbrd.toml:1: metrics: ", "127.0.0.1:PORT"},
        Bad{"metrics = \"127.0.0.1:65536\"\n", "lbrd.toml:1: metrics: ", "127.0.0.1:PORT"},
        Bad{"metrics = \"127.0.0.1:\"\n", "lbrd.toml:1: metrics: ", "127.0.0.1:PORT"},
        // No TOML.
        Bad{"max-sessions = 7\nmax-sessions = 8\n", "lbrd.toml:2: ", ""},
        Bad{"socket = \"/x\n", "lbrd.toml:1: ", ""}, Bad{"\n\nsocket\n", "lbrd.toml:3: ", ""},
        Bad{"\nsocket = '\xff\xfe'\n", "lbrd.toml:2: ", ""},
        Bad{"max-sessions = 99999999999999999999\n", "lbrd.toml:1: ", ""}));

TEST(ConfigTest, AllThatIsWrongIsToldInTheOrderOfLines) {
  const auto config =
      ParseConfig("zebra = 1\nmax-sessions = 0\nlog-level = \"info\"\napple = 2\n", kFile);
  const std::vector<std::string> lines =
      absl::StrSplit(std::string(config.status().message()), '\n');
  EXPECT_THAT(lines, ElementsAre(StartsWith("lbrd.toml:1: zebra: "),
                                 StartsWith("lbrd.toml:2: max-sessions: "),
                                 StartsWith("lbrd.toml:4: apple: ")));
}

TEST(ConfigTest, TooLargeAndTooDeepFilesAreRefused) {
  EXPECT_THAT(
      std::string(ParseConfig(std::string(kMaxConfigBytes + 1, '\n'), kFile).status().message()),
      HasSubstr("larger than"));
  EXPECT_FALSE(ParseConfig("a = " + std::string(kMaxConfigBytes / 2, '['), kFile).ok());
  // One that never ends is not read to its end.
  EXPECT_THAT(std::string(ReadConfig("/dev/zero").status().message()), HasSubstr("/dev/zero"));
  EXPECT_TRUE(absl::IsNotFound(ReadConfig("/nonexistent/lbrd.toml").status()));
  EXPECT_FALSE(ReadConfig("/").ok());
}

TEST(ConfigTest, MangledFilesAreRefusedOrAreWithinTheirRanges) {
  const std::string good =
      "socket = \"/tmp/s\" # one\nexit-idle = \"10m\"\nmax-sessions = 7\nmetrics = \"[::1]:1\"\n";
  ASSERT_TRUE(ParseConfig(good, kFile).ok());
  std::mt19937 random(6);
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (int edits = 1 + static_cast<int>(random() % 4); edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 5);
          break;
        case 2:
          text.insert(at, text.substr(random() % text.size(), random() % 8));
          break;
        default:
          text.insert(at, 1, "\"[]{}=.,'\n\\#-0"[random() % 14]);
      }
      if (text.empty()) text = "\n";
    }
    const auto config = ParseConfig(text, kFile);
    if (!config.ok()) {
      for (const absl::string_view line : absl::StrSplit(config.status().message(), '\n')) {
        EXPECT_THAT(std::string(line), StartsWith("lbrd.toml:")) << text;
      }
      continue;
    }
    EXPECT_GE(config->max_sessions, 1) << text;
    EXPECT_LE(config->max_sessions, 4096) << text;
    EXPECT_FALSE(config->socket.empty()) << text;
    EXPECT_LE(config->exit_idle, absl::Hours(24 * 7)) << text;
    EXPECT_GE(config->exit_idle, absl::ZeroDuration()) << text;
  }
}

TEST(ConfigTest, WhatGetWritesSetReads) {
  const auto config =
      ParseConfig("log-level = \"warning\"\nexit-idle = \"90s\"\nmax-sessions = 9", kFile);
  ASSERT_TRUE(config.ok());
  Config copy;
  for (const Setting& setting : Settings()) {
    const absl::Status set = setting.Set(setting.Get(*config), &copy);
    EXPECT_TRUE(set.ok()) << setting.name << ": " << set;
  }
  EXPECT_EQ(copy, *config);
}

TEST(ConfigTest, FlagsWinOverTheFile) {
  auto config = ParseConfig("max-sessions = 9\nlog-level = \"error\"", kFile);
  ASSERT_TRUE(config.ok());
  ASSERT_TRUE(ApplyFlags({{"max-sessions", "12"}}, &*config).ok());
  EXPECT_EQ(config->max_sessions, 12);
  EXPECT_EQ(config->log_level, LogLevel::kError);
  EXPECT_THAT(std::string(ApplyFlags({{"max-sessions", "x"}}, &*config).message()),
              StartsWith("--max-sessions: "));
}

TEST(ConfigTest, AReloadChangesWhatItCanAndTellsTheRest) {
  Config wanted;
  wanted.log_level = LogLevel::kDebug;
  wanted.socket = "/elsewhere";
  std::vector<std::string> told;
  const Config now = Reloaded(Config(), wanted, &told);
  EXPECT_EQ(now.log_level, LogLevel::kDebug);
  EXPECT_EQ(now.socket, Config().socket);
  EXPECT_THAT(told, ElementsAre(HasSubstr("needs a restart"), "log-level: from 'info' to 'debug'"));
  told.clear();
  EXPECT_EQ(Reloaded(now, now, &told), now);
  EXPECT_THAT(told, IsEmpty());
}

}  // namespace
}  // namespace lbrd::daemon
