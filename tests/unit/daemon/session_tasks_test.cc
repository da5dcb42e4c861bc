#include "daemon/session_tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/session.h"
#include "no_files.h"
#include "scripted_source.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;
using Scope = SessionTasks::Scope;

constexpr uint64_t kSecond = 1'000'000'000;

RunningTask Running(int32_t pid, int32_t tid, uint64_t start_ns = kSecond) {
  return {.identity = {.tid = tid, .tgid = pid, .start_ns = start_ns}, .comm = "runs"};
}

pmu::Words WireExit(int32_t pid, int32_t tid, uint64_t time) {
  pmu::Words words = pmu::WireFork(pid, tid, pid, tid, time);
  words[0] = pmu::HeaderWord(PERF_RECORD_EXIT, 0, words.size() * 8);
  return words;
}

pmu::TaskRecord Fork(int32_t pid, int32_t tid, uint64_t time) {
  return {.pid = pid, .ppid = pid, .tid = tid, .ptid = pid, .time = time};
}
pmu::TaskRecord Exit(int32_t pid, int32_t tid, uint64_t time) {
  return {.exit = true, .pid = pid, .ppid = pid, .tid = tid, .ptid = pid, .time = time};
}

class SessionTasksTest : public ::testing::Test {
 protected:
  // A session that plays the script, with what runs when it begins.
  std::unique_ptr<Session> Make(Scope scope, std::unique_ptr<ScriptedSource> records,
                                std::vector<RunningTask> running) {
    SessionSource source;
    source.records = std::move(records);
    source.events = {{.format = pmu::WireSampleFormat()}};
    source.cpus = 1;
    source.tasks = std::make_unique<SessionTasks>(&table_, scope);
    source.begin = [tasks = source.tasks.get(), running = std::move(running)](pmu::RecordWriter*) {
      return tasks->Begin(running);
    };
    return std::make_unique<Session>("s", v1::SessionSpec(), std::move(source), &binaries_);
  }
  // Stops at the script's end.
  static std::unique_ptr<ScriptedSource> Script(std::vector<pmu::Words> records) {
    auto source = std::make_unique<ScriptedSource>(/*patient=*/true);
    for (pmu::Words& record : records) source->Add(std::move(record));
    source->RunOn();
    return source;
  }
  static void AwaitSamples(const Session& session, uint64_t samples) {
    v1::Session described;
    do {
      std::this_thread::yield();
      session.Describe(&described);
    } while (described.stats().samples_delivered() < samples);
  }
  // Nobody uses the table any more: nothing is left.
  void ExpectNothingLeft() {
    EXPECT_EQ(table_.stats().contexts, 0u);
    EXPECT_EQ(table_.stats().tasks, 0u);
    EXPECT_EQ(table_.stats().global_users, 0u);
  }
  std::string CommOf(int32_t tid, uint64_t time_ns = UINT64_MAX) {
    RcuReadLock rcu;
    const TaskContext* context = table_.Find(rcu, tid, time_ns);
    return context == nullptr ? "(none)" : context->comm();
  }
  bool HasHistory(int32_t tid) {
    RcuReadLock rcu;
    const TaskContext* context = table_.Find(rcu, tid, UINT64_MAX);
    unwind::CallHistory loaded;
    return context != nullptr && context->LoadHistory(&loaded);
  }

  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
  TaskTable table_{8};
};

TEST_F(SessionTasksTest, ASessionOfTheMachineHasAContextOfEachThread) {
  auto session = Make(
      Scope::kEveryTask,
      Script({pmu::WireFork(10, 12, 10, 10, 2 * kSecond),
              pmu::WireFork(20, 20, 10, 10, 2 * kSecond),
              pmu::WireComm(20, 20, "child", 2 * kSecond + 1), WireExit(10, 11, 2 * kSecond + 2),
              pmu::Wire({.pid = 20, .tid = 20, .time = 3 * kSecond}),
              // Never heard of; and the idle task, which has no history.
              pmu::Wire({.pid = 30, .tid = 30, .time = 3 * kSecond}),
              pmu::Wire({.pid = 0, .tid = 0, .time = 3 * kSecond})}),
      {Running(10, 10), Running(10, 11)});
  ASSERT_TRUE(session->Start().ok());
  AwaitSamples(*session, 3);
  EXPECT_EQ(table_.stats().contexts, 3u);  // 10, 12, 20
  EXPECT_EQ(table_.stats().global_users, 1u);
  EXPECT_EQ(CommOf(10), "runs");
  EXPECT_EQ(CommOf(20), "child");
  EXPECT_EQ(CommOf(11), "(none)");
  session->Stop();
  EXPECT_EQ(table_.stats().unknown, 1u);
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, ASessionOfAProcessFollowsItsThreadsAndChildren) {
  SessionTasks tasks(&table_, Scope::kProcess);
  ASSERT_TRUE(tasks.Begin(std::vector{Running(10, 10), Running(10, 11)}).ok());
  EXPECT_EQ(table_.stats().contexts, 2u);
  EXPECT_EQ(CommOf(11), "runs");
  tasks.Apply(Fork(20, 20, 2 * kSecond));
  tasks.Apply(Fork(20, 20, 2 * kSecond));  // as several rings may tell
  EXPECT_EQ(table_.stats().contexts, 3u);
  tasks.Apply(Exit(10, 11, 3 * kSecond));
  tasks.Apply(Exit(10, 11, 3 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 2u);
  EXPECT_EQ(table_.stats().global_users, 0u);
  tasks.End();
  tasks.End();
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, AThreadsSessionFollowsNothingThatItStarts) {
  SessionTasks tasks(&table_, Scope::kThread);
  ASSERT_TRUE(tasks.Begin(std::vector{Running(10, 11)}).ok());
  tasks.Apply(Fork(10, 12, 2 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 1u);
  tasks.End();
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, TwoSessionsAreToldTheSameEachAtItsOwnPace) {
  SessionTasks first(&table_, Scope::kEveryTask);
  SessionTasks second(&table_, Scope::kEveryTask);
  SessionTasks process(&table_, Scope::kProcess);
  ASSERT_TRUE(first.Begin(std::vector{Running(10, 10)}).ok());
  // /proc counts ticks: the same task, though its start is told otherwise.
  ASSERT_TRUE(second.Begin(std::vector{Running(10, 10, kSecond + 5'000'000)}).ok());
  ASSERT_TRUE(process.Begin(std::vector{Running(10, 10)}).ok());
  EXPECT_EQ(table_.stats().contexts, 1u);
  EXPECT_EQ(table_.stats().global_users, 2u);

  first.Apply(Fork(20, 20, 2 * kSecond));
  first.Apply(Exit(20, 20, 3 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 1u);
  // The others lag: what they add they take back.
  process.Apply(Fork(20, 20, 2 * kSecond));
  second.Apply(Fork(20, 20, 2 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 2u);
  second.Apply(Exit(20, 20, 3 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 1u);
  // The tid is another task's by now, which the old exit must not end.
  first.Apply(Fork(30, 20, 4 * kSecond));
  process.Apply(Fork(30, 20, 4 * kSecond));
  process.Apply(Exit(20, 20, 3 * kSecond));
  EXPECT_EQ(table_.stats().contexts, 2u);

  first.End();
  EXPECT_EQ(table_.stats().contexts, 2u);
  second.End();
  EXPECT_EQ(table_.stats().global_users, 0u);
  EXPECT_EQ(table_.stats().contexts, 2u) << "the process session's own";
  process.End();
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, WithoutRoomASessionDoesNotStartAndLeavesNoTrace) {
  std::vector<RunningTask> running;
  for (int32_t tid = 10; tid < 19; ++tid) running.push_back(Running(10, tid));  // 9, for 8
  for (const Scope scope : {Scope::kEveryTask, Scope::kProcess}) {
    auto session = Make(scope, Script({}), running);
    const absl::Status started = session->Start();
    EXPECT_TRUE(absl::IsResourceExhausted(started)) << started;
    EXPECT_THAT(std::string(started.message()), HasSubstr("stop a session"));
    EXPECT_EQ(session->state(), v1::SESSION_STATE_FAILED);
    ExpectNothingLeft();
  }
  RcuBarrier();  // what was given back counts as allocated until it is freed
  // One less is as many as there is room for.
  running.pop_back();
  auto session = Make(Scope::kEveryTask, Script({}), running);
  ASSERT_TRUE(session->Start().ok());
  EXPECT_EQ(table_.stats().contexts, 8u);
  // What is forked now has no history; the session goes on.
  SessionTasks other(&table_, Scope::kEveryTask);
  ASSERT_TRUE(other.Begin({}).ok());
  const uint64_t refused = table_.stats().refused;
  other.Apply(Fork(50, 50, 5 * kSecond));
  EXPECT_GT(table_.stats().refused, refused);
  EXPECT_EQ(CommOf(50), "(none)");
  other.End();
  EXPECT_EQ(table_.stats().contexts, 8u);
  session.reset();  // destroyed while it runs
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, AFailureOfTheSourceGivesEverythingBack) {
  auto records = std::make_unique<ScriptedSource>(/*patient=*/false);
  records->Add(pmu::WireFork(20, 20, 10, 10, 2 * kSecond));
  records->AddError(absl::InternalError("the ring is gone"));
  auto session = Make(Scope::kEveryTask, std::move(records), {Running(10, 10)});
  ASSERT_TRUE(session->Start().ok());
  session->Stop();
  EXPECT_EQ(session->state(), v1::SESSION_STATE_FAILED);
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, AMachineWithoutATableIsSampledAllTheSame) {
  SessionTasks tasks(nullptr, Scope::kEveryTask);
  ASSERT_TRUE(tasks.Begin(std::vector{Running(10, 10)}).ok());
  tasks.Apply(Fork(20, 20, 1));
  tasks.Apply(pmu::CommRecord{.pid = 20, .tid = 20, .comm = "x"});
  pmu::SampleRecord unknown_task;
  unknown_task.who = {.time = 2, .tid = 20};
  tasks.Apply(unknown_task);
  tasks.End();
}

TEST_F(SessionTasksTest, WindowsAreKeptUntilTheProgramIsReplaced) {
  SessionTasks tasks(&table_, Scope::kProcess);
  ASSERT_TRUE(tasks.Begin(std::vector{Running(10, 10)}).ok());
  pmu::SampleRecord sample;
  sample.who = {.time = 2 * kSecond, .pid = 10, .tid = 10};
  tasks.Apply(sample);
  EXPECT_FALSE(HasHistory(10));
  unwind::CallHistory history{.calls = {{0x401000, 0x402000}}, .reaches_start = true};
  history.time_ns = sample.who.time;
  tasks.StoreHistory(sample.who, history);
  unwind::CallHistory loaded;
  ASSERT_TRUE(tasks.LoadHistory(sample.who, &loaded));
  EXPECT_EQ(loaded.calls, history.calls);
  EXPECT_TRUE(loaded.reaches_start);
  // A thread that nobody knows has none.
  EXPECT_FALSE(tasks.LoadHistory({.time = 2 * kSecond, .pid = 10, .tid = 77}, &loaded));
  EXPECT_TRUE(loaded.calls.empty());
  tasks.Apply(pmu::CommRecord{
      .who = {.time = 3 * kSecond}, .pid = 10, .tid = 10, .exec = true, .comm = "new"});
  EXPECT_FALSE(HasHistory(10));
  EXPECT_EQ(CommOf(10), "new");
  // A later task of the tid does not get it, nor the sample of an earlier one this one's.
  sample.who.time = history.time_ns = 4 * kSecond;
  tasks.StoreHistory(sample.who, history);
  tasks.Apply(Exit(10, 10, 5 * kSecond));
  tasks.Apply(Fork(10, 10, 6 * kSecond));
  EXPECT_FALSE(HasHistory(10));
  const uint64_t unknown = table_.stats().unknown;
  tasks.Apply(sample);
  tasks.StoreHistory(sample.who, history);
  EXPECT_FALSE(HasHistory(10));
  EXPECT_EQ(table_.stats().unknown, unknown + 1);
}

TEST_F(SessionTasksTest, AThreadThatExecutesAProgramTakesItsLeadersPlace) {
  SessionTasks tasks(&table_, Scope::kProcess);
  ASSERT_TRUE(tasks.Begin(std::vector{Running(10, 10), Running(10, 11)}).ok());
  tasks.Apply(Exit(10, 10, 2 * kSecond));
  tasks.Apply(pmu::CommRecord{
      .who = {.time = 3 * kSecond}, .pid = 10, .tid = 10, .exec = true, .comm = "new"});
  EXPECT_EQ(CommOf(10), "new");
}

TEST_F(SessionTasksTest, WhatARecordingTellsWithoutATimeRanBeforeIt) {
  SessionTasks tasks(&table_, Scope::kRecording);
  ASSERT_TRUE(tasks.Begin({}).ok());
  tasks.Apply(pmu::CommRecord{.pid = 10, .tid = 10, .comm = "old"});
  EXPECT_EQ(CommOf(10, /*time_ns=*/1), "old");
  tasks.End();
  ExpectNothingLeft();
}

TEST_F(SessionTasksTest, ContextsCountTheSamplesThatWait) {
  SessionTasks tasks(&table_, Scope::kProcess);
  const std::vector<RunningTask> running = {Running(10, 10)};
  ASSERT_TRUE(tasks.Begin(running).ok());
  const auto pending = [this] {
    RcuReadLock rcu;
    return table_.Find(rcu, 10, UINT64_MAX)->pending_deferred.load();
  };
  const uint64_t context = tasks.BeginDeferred(10, 2 * kSecond);
  EXPECT_NE(context, 0u);
  EXPECT_EQ(tasks.BeginDeferred(10, 3 * kSecond), context);
  EXPECT_EQ(pending(), 2u);
  tasks.EndDeferred(10, 2 * kSecond, context);
  EXPECT_EQ(pending(), 1u);
  // The tid is another thread's now: what still waited was not counted there.
  tasks.Apply(Exit(10, 10, 4 * kSecond));
  tasks.Apply(Fork(10, 10, 5 * kSecond));
  const uint64_t next = tasks.BeginDeferred(10, 6 * kSecond);
  EXPECT_NE(next, context);
  tasks.EndDeferred(10, 6 * kSecond, context);
  EXPECT_EQ(pending(), 1u);
  // A thread that nobody has a context of.
  EXPECT_EQ(tasks.BeginDeferred(11, 6 * kSecond), 0u);
  tasks.EndDeferred(11, 6 * kSecond, 0);
  tasks.End();
  ExpectNothingLeft();
}

}  // namespace
}  // namespace lbrd::daemon
