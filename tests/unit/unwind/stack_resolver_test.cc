#include "unwind/stack_resolver.h"

#include <asm/perf_regs.h>
#include <elf.h>
#include <linux/perf_event.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/live_process.h"

namespace lbrd::unwind {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kKernelMarker = static_cast<uint64_t>(PERF_CONTEXT_KERNEL);
constexpr uint64_t kUserMarker = static_cast<uint64_t>(PERF_CONTEXT_USER);
constexpr uint64_t kHypervisorMarker = static_cast<uint64_t>(PERF_CONTEXT_HV);
constexpr uint64_t kGuestMarker = static_cast<uint64_t>(PERF_CONTEXT_GUEST);
constexpr uint64_t kGuestUserMarker = static_cast<uint64_t>(PERF_CONTEXT_GUEST_USER);

constexpr Verdict kComplete{StackState::kComplete, StackReason::kNone};
constexpr Verdict Unknown(StackReason reason) { return {StackState::kUnknown, reason}; }
constexpr Verdict Truncated(StackReason reason) { return {StackState::kTruncated, reason}; }

constexpr ResolveOptions kLbr{.lbr_call_stack = true, .lbr_depth = 32};
constexpr ResolveOptions kPlain{};

MATCHER_P3(Is, ip, look_up, source, "") {
  *result_listener << std::hex << "ip " << arg.ip << " look_up " << arg.look_up() << " source "
                   << FrameSourceName(arg.source);
  return arg.ip == static_cast<uint64_t>(ip) && arg.look_up() == static_cast<uint64_t>(look_up) &&
         arg.source == source;
}
auto Exact(uint64_t ip, FrameSource source) { return Is(ip, ip, source); }
auto Return(uint64_t ip, FrameSource source) { return Is(ip, ip - 1, source); }

class StackResolverTest : public testing::Test {
 protected:
  const ResolvedStack& Resolve(const pmu::SampleRecord& sample, const ResolveOptions& options) {
    resolver_.Resolve(sample, options, process_, &stack_);
    return stack_;
  }

  // A sample in user mode at 0x100 or in the kernel at 0xf000.
  static pmu::SampleRecord Sample(uint16_t cpumode) {
    pmu::SampleRecord sample;
    sample.cpumode = cpumode;
    sample.has_ip = true;
    sample.ip = cpumode == PERF_RECORD_MISC_USER ? 0x100 : 0xf000;
    return sample;
  }
  void SetChain(std::vector<uint64_t> chain, pmu::SampleRecord* sample) {
    chain_ = std::move(chain);
    sample->has_callchain = true;
    sample->callchain = chain_;
  }
  void SetBranches(std::vector<uint64_t> froms, pmu::SampleRecord* sample) {
    branches_.clear();
    for (const uint64_t from : froms) branches_.push_back({.from = from, .to = 0x1, .flags = 0});
    sample->has_branch_stack = true;
    sample->branch_stack.branches = branches_;
  }
  void SetUserIp(uint64_t ip, pmu::SampleRecord* sample) {
    registers_ = {0x7000, ip};
    sample->user_regs = {.abi = PERF_SAMPLE_REGS_ABI_64,
                         .mask = (1u << PERF_REG_X86_SP) | (1u << PERF_REG_X86_IP),
                         .values = registers_};
  }
  void UseLiveSpace() { process_.space = LiveSpace(&binaries_); }

  LiveFiles files_;
  BinaryCache binaries_{&files_};
  Process process_{.pid = 42, .space = {}, .comms = {}};
  StackResolver resolver_;
  ResolvedStack stack_;
  std::vector<uint64_t> chain_;
  std::vector<uint64_t> registers_;
  std::vector<pmu::Branch> branches_;
};

TEST_F(StackResolverTest, LbrInUserModeIsTheIpAndEveryCallSite) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetBranches({0x201, 0x301, 0x401}, &sample);
  SetChain({kUserMarker, 0x100, 0x999}, &sample);  // frame pointers, not to be mixed in
  const ResolvedStack& stack = Resolve(sample, kLbr);
  EXPECT_THAT(stack.frames,
              ElementsAre(Exact(0x100, FrameSource::kSampledIp), Exact(0x201, FrameSource::kLbr),
                          Exact(0x301, FrameSource::kLbr), Exact(0x401, FrameSource::kLbr)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kLbrBaseUnknown));
  EXPECT_TRUE(stack.has_user);
  EXPECT_FALSE(stack.deferred);
}

TEST_F(StackResolverTest, LbrInTheKernelTakesTheUserIpFromTheChain) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetBranches({0x201}, &sample);
  SetChain({kKernelMarker, 0xf000, 0xf100, kUserMarker, 0x150, 0x250}, &sample);
  SetUserIp(0x666, &sample);  // second choice
  EXPECT_THAT(Resolve(sample, kLbr).frames,
              ElementsAre(Exact(0xf000, FrameSource::kKernel), Return(0xf100, FrameSource::kKernel),
                          Exact(0x150, FrameSource::kSampledIp), Exact(0x201, FrameSource::kLbr)));
}

TEST_F(StackResolverTest, LbrInTheKernelElseTakesItFromTheRegisters) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetBranches({0x201}, &sample);
  SetChain({kKernelMarker, 0xf000}, &sample);
  SetUserIp(0x160, &sample);
  EXPECT_THAT(Resolve(sample, kLbr).frames,
              ElementsAre(Exact(0xf000, FrameSource::kKernel),
                          Exact(0x160, FrameSource::kSampledIp), Exact(0x201, FrameSource::kLbr)));
  // Another machine's registers have other numbers.
  ResolveOptions arm = kLbr;
  arm.machine = EM_AARCH64;
  EXPECT_THAT(Resolve(sample, arm).frames,
              ElementsAre(Exact(0xf000, FrameSource::kKernel), Exact(0x201, FrameSource::kLbr)));
}

TEST_F(StackResolverTest, LbrWithoutChainStillHasTheKernelsIp) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetBranches({0x201}, &sample);
  EXPECT_THAT(Resolve(sample, kLbr).frames,
              ElementsAre(Exact(0xf000, FrameSource::kKernel), Exact(0x201, FrameSource::kLbr)));
}

TEST_F(StackResolverTest, AnEmptyLbrWindowSaysSo) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetBranches({}, &sample);
  const ResolvedStack& stack = Resolve(sample, kLbr);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kLbrEmpty));
}

TEST_F(StackResolverTest, LbrDepthReachesTheVerdict) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetBranches(std::vector<uint64_t>(8, 0x201), &sample);
  EXPECT_EQ(Resolve(sample, kLbr).verdict, Unknown(StackReason::kLbrBaseUnknown));
  EXPECT_EQ(Resolve(sample, {.lbr_call_stack = true, .lbr_depth = 8}).verdict,
            Truncated(StackReason::kLbrFull));
}

TEST_F(StackResolverTest, LbrIsCutWhereItIsNotTheProcesss) {
  UseLiveSpace();
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetBranches({0x201, ProgramEntry()}, &sample);  // in no mapping
  EXPECT_THAT(Resolve(sample, kLbr).frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack_.verdict, Truncated(StackReason::kLbrForeign));
  EXPECT_EQ(resolver_.lbr_counts().windows[static_cast<size_t>(WindowFinding::kForeign)], 1u);
  // Where code is, but no call.
  branches_ = {{.from = ProgramEntry(), .to = ProgramEntry(), .flags = 0}};
  sample.branch_stack.branches = branches_;
  EXPECT_EQ(Resolve(sample, kLbr).verdict, Truncated(StackReason::kLbrForeign));
  EXPECT_EQ(resolver_.lbr_counts().windows[static_cast<size_t>(WindowFinding::kNotACall)], 1u);
}

TEST_F(StackResolverTest, ABranchHistoryIsNoStack) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetBranches({0x201, 0x301}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kNoUserStack));
}

TEST_F(StackResolverTest, AKernelThreadsLbrStackIsItsChain) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetBranches({}, &sample);
  SetChain({kKernelMarker, 0xf000, 0xf100}, &sample);
  // Asked for, and none there.
  sample.user_regs = {
      .abi = PERF_SAMPLE_REGS_ABI_NONE, .mask = 1u << PERF_REG_X86_IP, .values = {}};
  const ResolvedStack& stack = Resolve(sample, kLbr);
  EXPECT_EQ(stack.frames.size(), 2u);
  EXPECT_EQ(stack.verdict, kComplete);
  EXPECT_FALSE(stack.has_user);
  // There are user registers, only not the one that matters.
  registers_ = {0x7000};
  sample.user_regs = {
      .abi = PERF_SAMPLE_REGS_ABI_64, .mask = 1u << PERF_REG_X86_SP, .values = registers_};
  EXPECT_EQ(Resolve(sample, kLbr).verdict, Unknown(StackReason::kLbrEmpty));
  EXPECT_TRUE(stack_.has_user);
}

// The same, as decoded from what the kernel writes.
TEST_F(StackResolverTest, AKernelThreadsRecordIsRecognized) {
  struct alignas(8) {
    perf_event_header header{
        .type = PERF_RECORD_SAMPLE, .misc = PERF_RECORD_MISC_KERNEL, .size = 8 + 7 * 8};
    uint64_t words[7] = {0xf000,         /*chain*/ 2,
                         kKernelMarker,  0xf000,
                         /*branches*/ 0,
                         /*hw_index*/ 0, PERF_SAMPLE_REGS_ABI_NONE};
  } bytes;
  pmu::RecordFormat format;
  format.sample_type =
      PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_BRANCH_STACK | PERF_SAMPLE_REGS_USER;
  format.branch_sample_type = PERF_SAMPLE_BRANCH_HW_INDEX;
  format.sample_regs_user = 1u << PERF_REG_X86_IP;
  const auto record = pmu::DecodeRecord(&bytes.header, format);
  ASSERT_TRUE(record.ok()) << record.status();
  const ResolvedStack& stack = Resolve(std::get<pmu::SampleRecord>(*record), kLbr);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0xf000, FrameSource::kKernel)));
  EXPECT_EQ(stack.verdict, kComplete);
  EXPECT_FALSE(stack.has_user);
}

TEST_F(StackResolverTest, FramePointersAreReturnAddressesBelowTheLeaf) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({kKernelMarker, 0xf000, 0xf100, 0xf200, kUserMarker, 0x100, 0x200, 0x300}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_THAT(
      stack.frames,
      ElementsAre(Exact(0xf000, FrameSource::kKernel), Return(0xf100, FrameSource::kKernel),
                  Return(0xf200, FrameSource::kKernel), Exact(0x100, FrameSource::kSampledIp),
                  Return(0x200, FrameSource::kFramePointer),
                  Return(0x300, FrameSource::kFramePointer)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kFramePointersOnly));
  EXPECT_TRUE(stack.has_user);
}

TEST_F(StackResolverTest, FramePointersAreCompleteAtTheProgramsEntry) {
  UseLiveSpace();
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetChain({kUserMarker, 0x100, ProgramEntry() + 1}, &sample);
  EXPECT_EQ(Resolve(sample, kPlain).verdict, kComplete);
  SetChain({kUserMarker, 0x100, ProgramEntry() + 1, ProgramEntry() + 64}, &sample);
  EXPECT_EQ(Resolve(sample, kPlain).verdict, Unknown(StackReason::kFramePointersOnly));
}

TEST_F(StackResolverTest, FramePointersThatLeadOutOfCodeAreFollowedNoFurther) {
  UseLiveSpace();
  constexpr uint64_t kNoAddress = 0x6f6c6c6548;  // "Hello"
  const uint64_t code = ProgramEntry() + 64;
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetChain({kUserMarker, 0x100, code, kNoAddress, code}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp),
                                        Return(code, FrameSource::kFramePointer)));
  EXPECT_EQ(stack.verdict, Truncated(StackReason::kBadAddress));
  // Beyond the thread's start there is nothing to be found.
  SetChain({kUserMarker, 0x100, ProgramEntry() + 1, kNoAddress}, &sample);
  EXPECT_EQ(Resolve(sample, kPlain).verdict, kComplete);
}

TEST_F(StackResolverTest, AChainWithoutFirstMarkerIsOfTheSamplesMode) {
  pmu::SampleRecord user = Sample(PERF_RECORD_MISC_USER);
  SetChain({0x100, 0x200}, &user);
  EXPECT_THAT(Resolve(user, kPlain).frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp),
                                                        Return(0x200, FrameSource::kFramePointer)));
  pmu::SampleRecord kernel = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({0xf000, kUserMarker, 0x100}, &kernel);
  EXPECT_THAT(Resolve(kernel, kPlain).frames, ElementsAre(Exact(0xf000, FrameSource::kKernel),
                                                          Exact(0x100, FrameSource::kSampledIp)));
  pmu::SampleRecord guest = Sample(PERF_RECORD_MISC_GUEST_USER);
  SetChain({0x100, 0x200}, &guest);
  EXPECT_THAT(Resolve(guest, kPlain).frames, IsEmpty());
}

TEST_F(StackResolverTest, SkipsHypervisorAndGuest) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({kHypervisorMarker, 0x1, kKernelMarker, 0xf000, kGuestMarker, 0x2, 0x3, kGuestUserMarker,
            0x4, kUserMarker, 0x100, 0x200, kGuestUserMarker, 0x5},
           &sample);
  EXPECT_THAT(
      Resolve(sample, kPlain).frames,
      ElementsAre(Exact(0xf000, FrameSource::kKernel), Exact(0x100, FrameSource::kSampledIp),
                  Return(0x200, FrameSource::kFramePointer)));
}

TEST_F(StackResolverTest, AKernelThreadsChainIsComplete) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({kKernelMarker, 0xf000, 0xf100}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_EQ(stack.frames.size(), 2u);
  EXPECT_EQ(stack.verdict, kComplete);
  EXPECT_FALSE(stack.has_user);

  EXPECT_EQ(Resolve(Sample(PERF_RECORD_MISC_KERNEL), kPlain).verdict,
            Unknown(StackReason::kNoUserStack));
}

TEST_F(StackResolverTest, ADeferredPartIsCompletedByItsAnswer) {
  UseLiveSpace();
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({kKernelMarker, 0xf000, pmu::kContextUserDeferred, 0xc00c1e}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_TRUE(stack.deferred);
  EXPECT_TRUE(stack.has_user);
  EXPECT_EQ(stack.cookie, 0xc00c1eu);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0xf000, FrameSource::kKernel)));

  const uint64_t code = ProgramEntry() + 64;
  const std::vector<uint64_t> answer = {0x100, code, ProgramEntry() + 1};
  resolver_.CompleteDeferred(answer, process_, &stack_);
  EXPECT_FALSE(stack.deferred);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0xf000, FrameSource::kKernel),
                                        Exact(0x100, FrameSource::kSampledIp),
                                        Return(code, FrameSource::kKernelDeferred),
                                        Return(ProgramEntry() + 1, FrameSource::kKernelDeferred)));
  EXPECT_EQ(stack.verdict, kComplete);
}

TEST_F(StackResolverTest, ADeferredPartThatNeverComesLeavesTheSampledIp) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetChain({pmu::kContextUserDeferred, 0xc00c1e}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  ASSERT_TRUE(stack.deferred);
  StackResolver::DeferredMissing(&stack_);
  EXPECT_FALSE(stack.deferred);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kDeferredMissing));
  // An empty answer is none.
  Resolve(sample, kPlain);
  resolver_.CompleteDeferred({}, process_, &stack_);
  EXPECT_FALSE(stack.deferred);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack.verdict, Unknown(StackReason::kDeferredMissing));
  // An answer brings the leaf itself: it is there once.
  Resolve(sample, kPlain);
  const std::vector<uint64_t> answer = {0x100, 0x200};
  resolver_.CompleteDeferred(answer, process_, &stack_);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp),
                                        Return(0x200, FrameSource::kKernelDeferred)));
}

TEST_F(StackResolverTest, ADeferredPartMayJoinAnLbrWindowOfAnUnknownPlace) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  sample.has_ip = false;
  SetBranches({0x201, 0x301}, &sample);
  SetChain({pmu::kContextUserDeferred, 0xc00c1e}, &sample);
  const ResolvedStack& stack = Resolve(sample, kLbr);
  ASSERT_TRUE(stack.deferred);
  const std::vector<uint64_t> answer = {0x100, 0x206, 0x306, 0x406};
  resolver_.CompleteDeferred(answer, process_, &stack_);
  EXPECT_FALSE(stack.deferred);
  EXPECT_THAT(stack.frames,
              ElementsAre(Exact(0x201, FrameSource::kLbr), Exact(0x301, FrameSource::kLbr)));
}

TEST_F(StackResolverTest, NothingFollowsACookieWhichMayLookLikeAMarker) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_KERNEL);
  SetChain({kKernelMarker, 0xf000, pmu::kContextUserDeferred, kUserMarker, 0x300}, &sample);
  const ResolvedStack& stack = Resolve(sample, kPlain);
  EXPECT_TRUE(stack.deferred);
  EXPECT_EQ(stack.cookie, kUserMarker);
  EXPECT_THAT(stack.frames, ElementsAre(Exact(0xf000, FrameSource::kKernel)));
}

TEST_F(StackResolverTest, AStackCopyOfAnUnknownMachineIsCutAtTheLeaf) {
  pmu::SampleRecord sample = Sample(PERF_RECORD_MISC_USER);
  SetUserIp(0x100, &sample);
  const std::vector<std::byte> copy(64);
  sample.user_stack = copy;
  ResolveOptions arm = kPlain;
  arm.machine = EM_AARCH64;
  EXPECT_THAT(Resolve(sample, arm).frames, ElementsAre(Exact(0x100, FrameSource::kSampledIp)));
  EXPECT_EQ(stack_.verdict, Truncated(StackReason::kUnsupportedArch));
  sample.user_regs.abi = PERF_SAMPLE_REGS_ABI_32;
  EXPECT_EQ(Resolve(sample, kPlain).verdict, Truncated(StackReason::kUnsupportedArch));
  sample.user_regs.abi = PERF_SAMPLE_REGS_ABI_64;
  EXPECT_EQ(Resolve(sample, kPlain).verdict, Truncated(StackReason::kBadAddress));
}

TEST_F(StackResolverTest, MalformedChainsAreRead) {
  const std::vector<std::vector<uint64_t>> chains = {
      {},
      {kUserMarker},
      {kKernelMarker},
      {kKernelMarker, 0xf000, kUserMarker},
      {kUserMarker, kUserMarker, kKernelMarker, kKernelMarker},
      {pmu::kContextUserDeferred},
      {kKernelMarker, 0xf000, pmu::kContextUserDeferred},
      {kUserMarker, 0},
      {kKernelMarker, 0, 0, kUserMarker, 0, 0},
      {~uint64_t{0}, ~uint64_t{0}, 0x100},
      {pmu::kContextMarkers, 0x100},
      {pmu::kContextMarkers - 1},
      {kUserMarker, 0x100, kKernelMarker, 0xf000, kUserMarker, 0x200},
  };
  for (const uint16_t mode : {PERF_RECORD_MISC_USER, PERF_RECORD_MISC_KERNEL,
                              PERF_RECORD_MISC_HYPERVISOR, PERF_RECORD_MISC_CPUMODE_UNKNOWN}) {
    for (const auto& chain : chains) {
      for (const ResolveOptions& options : {kPlain, kLbr}) {
        pmu::SampleRecord sample = Sample(mode);
        SetChain(chain, &sample);
        SetBranches({0x201}, &sample);
        const ResolvedStack& stack = Resolve(sample, options);
        EXPECT_LE(stack.frames.size(), chain.size() + 2);
        for (const ResolvedFrame& frame : stack.frames) {
          EXPECT_LT(frame.ip, pmu::kContextMarkers);
          EXPECT_LE(frame.look_up(), frame.ip);
          EXPECT_LE(frame.ip - frame.look_up(), 1u);
        }
        // What lacks its cookie is not deferred.
        EXPECT_FALSE(stack.deferred);
      }
    }
  }
}

}  // namespace
}  // namespace lbrd::unwind
