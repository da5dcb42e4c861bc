#include "daemon/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "no_files.h"
#include "scripted_source.h"

namespace lbrd::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SessionTableTest : public ::testing::Test {
 protected:
  // A session without a sample; it runs until it is stopped, or ends at once.
  std::shared_ptr<Session> Make(
      const std::string& name, bool runs_on = true, std::function<void()> on_change = [] {}) {
    auto records = std::make_unique<ScriptedSource>(/*patient=*/false);
    if (runs_on) records->RunOn();
    SessionSource source;
    source.records = std::move(records);
    source.events = {{.format = pmu::WireSampleFormat()}};
    source.cpus = 1;
    source.begin = [](pmu::RecordWriter*) { return absl::OkStatus(); };
    auto session =
        std::make_shared<Session>(name, v1::SessionSpec(), std::move(source), &binaries_);
    session->set_on_change(std::move(on_change));
    EXPECT_TRUE(session->Start().ok());
    return session;
  }
  std::shared_ptr<Session> ReserveAndAdd(const std::string& wanted) {
    const auto name = table_.Reserve(wanted);
    EXPECT_TRUE(name.ok()) << name.status();
    const auto session = Make(*name);
    table_.Add(session);
    return session;
  }
  std::vector<std::string> Names(const std::string& after = "") const {
    std::vector<std::string> names;
    for (const auto& session : table_.List(after)) names.push_back(session->name());
    return names;
  }

  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
  SessionTable table_;
};

TEST_F(SessionTableTest, TakesWellFormedNames) {
  for (const std::string& name :
       {std::string("a"), std::string("9"), std::string("web-1.b_2"), std::string(63, 'x')}) {
    EXPECT_EQ(*table_.Reserve(name), name);
  }
}

TEST_F(SessionTableTest, TakesNoOtherNames) {
  for (const std::string& name :
       {std::string(64, 'x'), std::string("Web"), std::string("-a"), std::string(".a"),
        std::string("_a"), std::string("a b"), std::string("a/b"), std::string("\xc3\xbc"),
        std::string("a\n"), std::string("a\0b", 3)}) {
    EXPECT_EQ(table_.Reserve(name).status().code(), absl::StatusCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(table_.Find("a b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SessionTableTest, MakesUpNamesThatAreFree) {
  ASSERT_TRUE(table_.Reserve("session-2").ok());
  EXPECT_EQ(*table_.Reserve(""), "session-1");
  EXPECT_EQ(*table_.Reserve(""), "session-3");
}

TEST_F(SessionTableTest, ForgetsOneThatIsStillTellingOfItsEnd) {
  table_.SetMaxSessions(1);
  const auto name = table_.Reserve("first");
  ASSERT_TRUE(name.ok());
  table_.Add(Make(*name, /*runs_on=*/false, [this] {
    absl::SleepFor(absl::Milliseconds(50));  // meanwhile somebody needs its place
    table_.Changed();
  }));
  while (!(*table_.Find("first"))->ended()) std::this_thread::yield();
  EXPECT_TRUE(table_.Reserve("second").ok());
}

TEST_F(SessionTableTest, GivesANameOnce) {
  ASSERT_TRUE(table_.Reserve("web").ok());
  // From now on, though it is not yet to be found.
  EXPECT_EQ(table_.Reserve("web").status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(table_.Find("web").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Names(), ElementsAre());
  table_.Abandon("web");
  EXPECT_TRUE(table_.Reserve("web").ok());
  table_.Add(Make("web"));
  const absl::Status again = table_.Reserve("web").status();
  EXPECT_EQ(again.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(again.message()), HasSubstr("lbrctl stop web"));
}

TEST_F(SessionTableTest, FindsAndForgets) {
  const auto session = ReserveAndAdd("web");
  EXPECT_EQ(*table_.Find("web"), session);
  EXPECT_EQ(*table_.Remove("web"), session);
  EXPECT_EQ(table_.Find("web").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(table_.Remove("web").status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(session->ended());  // who took it, has it
}

TEST_F(SessionTableTest, ListsByNameAfterAName) {
  for (const char* name : {"b", "d", "a", "c"}) ReserveAndAdd(name);
  EXPECT_THAT(Names(), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(Names("b"), ElementsAre("c", "d"));
  EXPECT_THAT(Names("bb"), ElementsAre("c", "d"));
  EXPECT_THAT(Names("d"), ElementsAre());
}

TEST_F(SessionTableTest, StopsAll) {
  const auto a = ReserveAndAdd("a");
  const auto b = ReserveAndAdd("b");
  EXPECT_FALSE(a->ended());
  table_.StopAll();
  EXPECT_TRUE(a->ended());
  EXPECT_TRUE(b->ended());
}

TEST_F(SessionTableTest, MakesRoomByTheOldestThatHasEndedOnly) {
  for (size_t i = 0; i < SessionTable::kMaxSessions; ++i) {
    ReserveAndAdd(absl::StrCat("s", i));
  }
  const absl::Status full = table_.Reserve("more").status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  (*table_.Find("s40"))->Stop();
  (*table_.Find("s30"))->Stop();
  ASSERT_TRUE(table_.Reserve("more").ok());
  EXPECT_FALSE(table_.Find("s30").ok());
  EXPECT_TRUE(table_.Find("s40").ok());
  EXPECT_TRUE(table_.Find("s0").ok());
  ASSERT_TRUE(table_.Reserve("").ok());
  EXPECT_FALSE(table_.Find("s40").ok());
  EXPECT_EQ(table_.Reserve("yet-more").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(SessionTableTest, TakesNoRoomForANameItRefuses) {
  for (size_t i = 0; i < SessionTable::kMaxSessions; ++i) ReserveAndAdd(absl::StrCat("s", i));
  (*table_.Find("s1"))->Stop();
  EXPECT_FALSE(table_.Reserve("Bad Name").ok());
  EXPECT_FALSE(table_.Reserve("s2").ok());
  EXPECT_TRUE(table_.Find("s1").ok());
}

TEST_F(SessionTableTest, EachScopeHasNamesOfItsOwn) {
  const SessionScope ann{.prefix = "1500/"};
  const SessionScope bob{.prefix = "15000/"};
  EXPECT_EQ(*table_.Reserve("web"), "web");
  EXPECT_EQ(*table_.Reserve("web", ann), "1500/web");
  EXPECT_EQ(*table_.Reserve("web", bob), "15000/web");
  EXPECT_EQ(table_.Reserve("web", ann).status().code(), absl::StatusCode::kAlreadyExists);
  // The numbers do not tell how many others have.
  EXPECT_EQ(*table_.Reserve(""), "session-1");
  EXPECT_EQ(*table_.Reserve("", ann), "1500/session-1");
  EXPECT_EQ(*table_.Reserve("", ann), "1500/session-2");
  EXPECT_EQ(*table_.Reserve("", bob), "15000/session-1");
}

TEST_F(SessionTableTest, ListsAScopeAndNoOther) {
  for (const char* full : {"a", "1500/a", "1500/b", "15000/a", "150/a", "1500-x"}) {
    table_.Add(Make(full));
  }
  const auto names = [this](const std::string& after, const std::string& scope) {
    std::vector<std::string> out;
    for (const auto& session : table_.List(after, scope)) out.push_back(session->name());
    return out;
  };
  EXPECT_THAT(names("", "1500/"), ElementsAre("1500/a", "1500/b"));
  EXPECT_THAT(names("a", "1500/"), ElementsAre("1500/b"));
  EXPECT_THAT(names("zz", "1500/"), ElementsAre());
  EXPECT_EQ(names("", "").size(), 6u);
}

TEST_F(SessionTableTest, AUserMakesRoomByOwnSessionsOnly) {
  const SessionScope ann{.prefix = "1500/", .most = 2};
  const auto theirs = ReserveAndAdd("theirs");
  theirs->Stop();
  const auto first = Make(*table_.Reserve("first", ann));
  table_.Add(first);
  table_.Add(Make(*table_.Reserve("second", ann)));
  EXPECT_EQ(table_.Reserve("third", ann).status().code(), absl::StatusCode::kResourceExhausted);
  first->Stop();
  EXPECT_TRUE(table_.Reserve("third", ann).ok());
  EXPECT_THAT(Names(), ElementsAre("1500/second", "theirs"));
  // Some room is the admins'.
  for (size_t i = 3;
       i < SessionTable::kMaxSessions - SessionTable::ReservedOf(SessionTable::kMaxSessions); ++i) {
    table_.Add(Make(*table_.Reserve("", {.prefix = absl::StrCat(2000 + i, "/")})));
  }
  EXPECT_EQ(table_.Reserve("", {.prefix = "9/"}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(table_.Reserve("").ok());
}

}  // namespace
}  // namespace lbrd::daemon
