#include "daemon/stack_intern.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "no_files.h"
#include "tests/unit/unwind/memory_bytes.h"

namespace lbrd::daemon {
namespace {

using unwind::FrameSource;
using unwind::ResolvedStack;
using unwind::StackReason;
using unwind::StackState;

class StackInternTest : public ::testing::Test {
 protected:
  StackInternTest() {
    process_.pid = 10;
    Map(&process_, 0x400000, "/bin/x");
  }
  void Map(unwind::Process* process, uint64_t start, const char* path) {
    process->space.Map({.start = start,
                        .end = start + 0x10000,
                        .file_offset = 0,
                        .binary = binaries_.Get(process->pid, {.path = path})});
  }
  static ResolvedStack User(std::vector<uint64_t> ips,
                            FrameSource source = FrameSource::kFramePointer) {
    ResolvedStack stack;
    for (const uint64_t ip : ips) {
      stack.frames.push_back({.ip = ip, .source = source});
    }
    stack.verdict = {StackState::kComplete, StackReason::kNone};
    stack.has_user = true;
    return stack;
  }

  NoFiles files_;
  unwind::BinaryCache binaries_{&files_};
  unwind::Process process_{.pid = 10, .space = {}, .comms = {}};
  StackIntern intern_{KernelNameSource(KernelNames{.missing = "kptr_restrict hides them"})};
};

TEST_F(StackInternTest, StoresTheSameStackOnce) {
  const auto a = intern_.Intern(User({0x400100, 0x400200}), process_);
  const size_t bytes = intern_.bytes();
  const auto b = intern_.Intern(User({0x400100, 0x400200}), process_);
  EXPECT_EQ(a, b);
  EXPECT_EQ(intern_.bytes(), bytes);
  ASSERT_EQ(a->frames.size(), 2u);
  EXPECT_EQ(a->frames[0]->ip, 0x400100u);
  EXPECT_EQ(a->frames[0]->source, FrameSource::kFramePointer);
  EXPECT_EQ(a->frames[0]->binary->path, "/bin/x");
  EXPECT_EQ(a->frames[0]->binary, a->frames[1]->binary);
  EXPECT_TRUE(a->has_user);
  EXPECT_EQ(a->verdict.state, StackState::kComplete);
}

TEST_F(StackInternTest, TellsStacksApartByAllThatTheySay) {
  std::set<uint64_t> ids;
  std::vector<ResolvedStack> stacks = {User({0x400100, 0x400200}), User({0x400200, 0x400100}),
                                       User({0x400100}), User({}),
                                       User({0x400100, 0x400200}, FrameSource::kLbr)};
  stacks.push_back(stacks[0]);
  stacks.back().verdict = {StackState::kTruncated, StackReason::kLbrFull};
  stacks.push_back(stacks[0]);
  stacks.back().has_user = false;
  for (const ResolvedStack& stack : stacks) ids.insert(intern_.Intern(stack, process_)->id);
  EXPECT_EQ(ids.size(), stacks.size());
  EXPECT_EQ(ids.count(0), 0u);
}

TEST_F(StackInternTest, FindsRecentStacksAtOneLook) {
  const auto first = intern_.Intern(User({0x400100, 0x400200}), process_);
  EXPECT_EQ(intern_.recent().found(), 0u);
  EXPECT_EQ(intern_.Intern(User({0x400100, 0x400200}), process_), first);
  EXPECT_EQ(intern_.recent().found(), 1u);
  // The same addresses are other code once something else is mapped.
  Map(&process_, 0x400000, "/bin/y");
  const auto other = intern_.Intern(User({0x400100, 0x400200}), process_);
  EXPECT_NE(other, first);
  EXPECT_EQ(other->frames[0]->binary->path, "/bin/y");
  EXPECT_EQ(intern_.recent().found(), 1u);
}

TEST_F(StackInternTest, FindsEachOfManyRecentStacks) {
  // More than there are places, so that they displace each other.
  constexpr uint64_t kStacks = 3 * RecentStacks::kPlaces;
  std::vector<std::shared_ptr<const StackInfo>> stacks;
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < kStacks; ++i) {
      const auto stack = intern_.Intern(User({0x400000 + i % 251, 0x401000 + i / 251}), process_);
      ASSERT_EQ(stack->frames[0]->ip, 0x400000 + i % 251);
      ASSERT_EQ(stack->frames[1]->ip, 0x401000 + i / 251);
      if (round == 0) stacks.push_back(stack);
      ASSERT_EQ(stack, stacks[i]);
    }
  }
}

TEST_F(StackInternTest, DoesNotTakeAFrameInNoMappingForOneOfAJit) {
  // Nobody knows this code; in a process with a JIT compiler, somebody may.
  const auto unknown = intern_.Intern(User({0x900000}), process_);
  EXPECT_EQ(intern_.Intern(User({0x900000}), process_), unknown);
  EXPECT_EQ(intern_.recent().found(), 1u);
  process_.jit = binaries_.NewJitCode(process_.pid, nullptr);
  intern_.Intern(User({0x900000}), process_);
  intern_.Intern(User({0x900000}), process_);
  EXPECT_EQ(intern_.recent().found(), 1u);
  // What stands in a file is the same for both.
  intern_.Intern(User({0x400100}), process_);
  intern_.Intern(User({0x400100}), process_);
  EXPECT_EQ(intern_.recent().found(), 2u);
}

TEST_F(StackInternTest, SharesFramesBetweenStacks) {
  const auto a = intern_.Intern(User({0x400100, 0x400300}), process_);
  const auto b = intern_.Intern(User({0x400200, 0x400300}), process_);
  EXPECT_EQ(a->frames[1], b->frames[1]);
  EXPECT_NE(a->frames[0]->id, b->frames[0]->id);
}

TEST_F(StackInternTest, SharesAStackBetweenProcessesOfOneBinaryOnly) {
  unwind::Process same;
  same.pid = 11;
  Map(&same, 0x400000, "/bin/x");
  unwind::Process other;
  other.pid = 12;
  Map(&other, 0x400000, "/bin/other");
  unwind::Process elsewhere;  // the same address is another place of the file
  elsewhere.pid = 13;
  elsewhere.space.Map({.start = 0x400000,
                       .end = 0x410000,
                       .file_offset = 0x1000,
                       .binary = binaries_.Get(13, {.path = "/bin/x"})});
  const auto id = intern_.Intern(User({0x400100}), process_)->id;
  EXPECT_EQ(intern_.Intern(User({0x400100}), same)->id, id);
  EXPECT_NE(intern_.Intern(User({0x400100}), other)->id, id);
  EXPECT_NE(intern_.Intern(User({0x400100}), elsewhere)->id, id);
}

TEST_F(StackInternTest, AFrameInNoMappingHasNoBinary) {
  const auto stack = intern_.Intern(User({0xdead0000}), process_);
  EXPECT_EQ(stack->frames[0]->binary, nullptr);
  EXPECT_TRUE(stack->frames[0]->symbol.empty());
}

TEST_F(StackInternTest, SaysWhyKernelFramesHaveNoNames) {
  ResolvedStack stack;
  stack.frames.push_back({.ip = 0xffffffff81000000, .source = FrameSource::kKernel});
  const auto interned = intern_.Intern(stack, process_);
  ASSERT_NE(interned->frames[0]->binary, nullptr);
  EXPECT_EQ(interned->frames[0]->binary->path, "[kernel.kallsyms]");
  EXPECT_EQ(interned->frames[0]->binary->symbols_missing, "kptr_restrict hides them");
  unwind::Process other;  // one kernel for all
  other.pid = 11;
  EXPECT_EQ(intern_.Intern(stack, other), interned);
}

TEST_F(StackInternTest, StartsAnewOverBudgetAndKeepsWhatIsHeld) {
  StackIntern small(KernelNameSource(), /*budget_bytes=*/4096);
  const auto first = small.Intern(User({0x400100}), process_);
  uint64_t address = 0x401000;
  while (small.resets() == 0) {
    ASSERT_LT(address, 0x410000u);
    small.Intern(User({address += 16}), process_);
    ASSERT_LT(small.bytes(), 8192u);
  }
  EXPECT_EQ(first->frames[0]->ip, 0x400100u);
  const auto again = small.Intern(User({0x400100}), process_);
  EXPECT_NE(again->id, first->id);
  EXPECT_NE(again->frames[0]->id, first->frames[0]->id);
}

TEST_F(StackInternTest, GivesIdsThatAreUniqueAcrossInterners) {
  StackIntern other{KernelNameSource()};
  std::set<uint64_t> stacks;
  std::set<uint32_t> frames;
  for (uint64_t i = 0; i < 50; ++i) {
    for (StackIntern* intern : {&intern_, &other}) {
      const auto stack = intern->Intern(User({0x400000 + i}), process_);
      EXPECT_TRUE(stacks.insert(stack->id).second);
      EXPECT_TRUE(frames.insert(stack->frames[0]->id).second);
    }
  }
}

TEST_F(StackInternTest, AThreadIsTheSameUntilItsNameChanges) {
  process_.comms.Set(10, "server");
  process_.comms.Set(11, "worker");
  const auto a = intern_.InternThread(11, process_);
  EXPECT_EQ(a->pid, 10);
  EXPECT_EQ(a->tid, 11);
  EXPECT_EQ(a->comm, "worker");
  EXPECT_EQ(a->process_comm, "server");
  EXPECT_EQ(intern_.InternThread(11, process_), a);
  process_.comms.Set(11, "renamed");
  const auto b = intern_.InternThread(11, process_);
  EXPECT_NE(b->id, a->id);
  EXPECT_EQ(b->comm, "renamed");
  EXPECT_EQ(a->comm, "worker");  // samples of before keep the old name
}

TEST_F(StackInternTest, AReusedThreadIdIsAnotherThread) {
  const auto a = intern_.InternThread(11, process_);
  unwind::Process other;
  other.pid = 11;
  EXPECT_NE(intern_.InternThread(11, other)->id, a->id);
}

TEST_F(StackInternTest, NamesKernelCodeAsItWasAtTheTime) {
  constexpr uint64_t kAddress = 0xffffffffc0001000;
  ResolvedStack stack;
  stack.frames.push_back({.ip = kAddress + 8, .source = FrameSource::kKernel});
  const auto symbol_at = [&](uint64_t time_ns) {
    const auto frame = intern_.Intern(stack, process_, time_ns)->frames[0];
    return frame->binary->path + " " + frame->symbol;
  };
  const auto tell = [&](uint64_t time_ns, absl::string_view name, bool unregister) {
    pmu::KsymbolRecord record{
        .address = kAddress, .length = 64, .unregister = unregister, .name = name};
    record.who.time = time_ns;
    intern_.Apply(record);
  };
  EXPECT_EQ(symbol_at(100), "[kernel.kallsyms] ");
  tell(200, "bpf_prog_1_first", false);
  tell(300, "bpf_prog_1_first", true);
  tell(400, "bpf_prog_2_second", false);
  EXPECT_EQ(symbol_at(199), "[kernel.kallsyms] ");
  EXPECT_EQ(symbol_at(200), "[bpf] bpf_prog_1_first");
  EXPECT_EQ(symbol_at(300), "[kernel.kallsyms] ");
  EXPECT_EQ(symbol_at(400), "[bpf] bpf_prog_2_second");
  EXPECT_EQ(intern_.Intern(stack, process_, 400)->frames[0]->offset, 8u);
}

// Every process has the same perf map, of its own name.
class MapFiles : public NoFiles {
 public:
  absl::StatusOr<std::shared_ptr<const unwind::ByteSource>> OpenPerfMap(
      int32_t pid, std::string* path) override {
    *path = absl::StrCat("/tmp/perf-", pid, ".map");
    const std::string text = absl::StrCat("7f0000000000 100 made by ", pid, "\n");
    return std::make_shared<unwind::MemoryBytes>(text.data(), text.size());
  }
};

TEST(StackInternJitTest, NamesCodeMadeAtRunTimeInEachProcess) {
  MapFiles files;
  unwind::BinaryCache binaries(&files);
  unwind::ProcessTable processes(&binaries);
  for (const int32_t pid : {10, 20}) {
    processes.Apply(pmu::MmapRecord{.pid = pid,
                                    .tid = pid,
                                    .start = 0x7f0000000000,
                                    .length = 0x1000,
                                    .executable = true,
                                    .path = "//anon"});
  }
  StackIntern intern{KernelNameSource()};
  ResolvedStack stack;
  for (const uint64_t ip : {0x7f0000000010, 0x7f0000000200}) {
    stack.frames.push_back({.ip = ip, .source = FrameSource::kGuess});
  }
  const auto first = intern.Intern(stack, processes.Get(10), 1000);
  const auto second = intern.Intern(stack, processes.Get(20), 1000);
  EXPECT_EQ(first->frames[0]->symbol, "made by 10");
  EXPECT_EQ(first->frames[0]->offset, 0x10u);
  EXPECT_EQ(first->frames[0]->binary->path, "/tmp/perf-10.map");
  EXPECT_EQ(second->frames[0]->symbol, "made by 20");
  EXPECT_NE(first->id, second->id);
  // What the map does not name keeps the mapping's name and reason.
  EXPECT_EQ(first->frames[1]->symbol, "");
  EXPECT_EQ(first->frames[1]->binary->path, "//anon");
  EXPECT_NE(first->frames[1]->binary->symbols_missing, "");
}

TEST_F(StackInternTest, NamesBranchesByWhereTheyBeginAndEnd) {
  const pmu::Branch branches[] = {
      {0x400100, 0x400200, 1}, {0, 0, 0}, {0x400200, 0xffffffff81000000, 0x52}};
  const auto named = intern_.InternBranches(branches, process_, 0, true);
  ASSERT_NE(named, nullptr);
  ASSERT_EQ(named->size(), 2u);
  EXPECT_EQ((*named)[0].from->ip, 0x400100u);
  EXPECT_EQ((*named)[0].from->binary->path, "/bin/x");
  EXPECT_EQ((*named)[0].to, (*named)[1].from);
  EXPECT_EQ((*named)[1].to->source, FrameSource::kKernel);
  EXPECT_EQ((*named)[1].flags, 0x52u);
  EXPECT_EQ(intern_.InternBranches({}, process_, 0, true), nullptr);
  const std::vector<pmu::Branch> many(1000, branches[0]);
  EXPECT_EQ(intern_.InternBranches(many, process_, 0, true)->size(), StackIntern::kMaxBranches);
}

}  // namespace
}  // namespace lbrd::daemon
