#include "daemon/authorization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"

namespace lbrd::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kUid = 1500;

Identity User() { return {.role = Role::kUser, .uid = kUid}; }
Identity Admin() { return {.role = Role::kAdmin, .uid = 1000}; }

TEST(IdentityTest, AdminsAreRootTheDaemonsUserAndTheGroup) {
  const AdminPolicy policy{.daemon_uid = 30, .admin_group = 70};
  EXPECT_TRUE(IdentityOf({.uid = 0, .gid = 5}, policy).admin());
  EXPECT_TRUE(IdentityOf({.uid = 30, .gid = 5}, policy).admin());
  EXPECT_TRUE(IdentityOf({.uid = 1500, .gid = 70}, policy).admin());
  EXPECT_TRUE(IdentityOf({.uid = 1500, .gid = 5, .groups = {6, 70}}, policy).admin());
  EXPECT_FALSE(IdentityOf({.uid = 1500, .gid = 0, .groups = {0, 71}}, policy).admin());
  EXPECT_FALSE(IdentityOf({.uid = 1500, .gid = static_cast<gid_t>(-1)}, {}).admin())
      << "no group is not a group that one can be in";
  EXPECT_FALSE(IdentityOf({}, {}).admin());
}

void AddEvent(const char* name, uint32_t frequency_hz, v1::SessionSpec* spec) {
  v1::EventSpec* event = spec->add_more_events();
  event->set_event(name);
  event->set_frequency_hz(frequency_hz);
}

struct Case {
  const char* what;
  std::function<void(v1::SessionSpec*)> change;
  const char* rule;  // nullptr: allowed
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.what; }

class Table : public ::testing::TestWithParam<Case> {};

const std::vector<Case>& Cases() {
  using Spec = v1::SessionSpec;
  static const auto* cases = new std::vector<Case>{
      {"a process", [](Spec* s) { s->mutable_target()->mutable_process()->set_pid(7); }, nullptr},
      {"a thread", [](Spec* s) { s->mutable_target()->mutable_thread()->set_tid(7); }, nullptr},
      {"own user", [](Spec* s) { s->mutable_target()->mutable_user()->set_uid(kUid); }, nullptr},
      {"another user", [](Spec* s) { s->mutable_target()->mutable_user()->set_uid(0); },
       rule::kOwnUser},
      {"all CPUs", [](Spec* s) { s->mutable_target()->mutable_all_cpus(); }, rule::kNoMachine},
      {"CPUs", [](Spec* s) { s->mutable_target()->mutable_cpu_list()->set_cpus("0"); },
       rule::kNoMachine},
      {"a cgroup", [](Spec* s) { s->mutable_target()->mutable_cgroup()->set_path("/"); },
       rule::kNoCgroups},
      {"a recording", [](Spec* s) { s->mutable_target()->mutable_recording()->set_path("/x"); },
       rule::kNoRecordings},
      {"own breakpoint", [](Spec* s) { s->set_event("mem:0x7fff1000:w"); }, nullptr},
      {"the last user address", [](Spec* s) { s->set_event("mem:0x7ffffffffffffff8/8:w"); },
       nullptr},
      {"the first kernel address", [](Spec* s) { s->set_event("mem:0x8000000000000000/8:w"); },
       rule::kOwnBreakpoints},
      {"a kernel breakpoint", [](Spec* s) { s->set_event("mem:0xffffffff81000000:x"); },
       rule::kOwnBreakpoints},
      {"a machine's breakpoint",
       [](Spec* s) {
         s->set_event("mem:0x7fff1000:w");
         s->mutable_target()->mutable_user()->set_uid(kUid);
       },
       rule::kOwnBreakpoints},
      {"kernel hits", [](Spec* s) { s->set_event("mem:0x7fff1000:w:k"); }, rule::kUserCodeOnly},
      {"every page fault",
       [](Spec* s) {
         s->set_event("page-faults");
         s->set_period(1);
       },
       nullptr},
      {"every ns",
       [](Spec* s) {
         s->set_event("cpu-clock");
         s->set_period(99'999);
       },
       rule::kQuotaRate},
      {"a long period",
       [](Spec* s) {
         s->set_event("cpu-clock");
         s->set_period(100'000);
       },
       nullptr},
      {"a period of the default event", [](Spec* s) { s->set_period(1); }, rule::kQuotaRate},
      {"a period of everything",
       [](Spec* s) {
         s->mutable_target()->mutable_user()->set_uid(kUid);
         s->set_period(1'000'000'000);
       },
       rule::kQuotaRate},
      {"the highest rate", [](Spec* s) { s->set_frequency_hz(10'000); }, nullptr},
      {"a higher rate", [](Spec* s) { s->set_frequency_hz(10'001); }, rule::kQuotaRate},
      {"a higher rate of everything",
       [](Spec* s) {
         s->mutable_target()->mutable_user()->set_uid(kUid);
         s->set_frequency_hz(1000);
       },
       rule::kQuotaRate},
      {"a large ring", [](Spec* s) { s->set_ring_bytes((8 << 20) + 1); }, rule::kQuotaRing},
      {"large copies", [](Spec* s) { s->set_stack_copy_bytes(32776); }, rule::kQuotaStackCopy},
      {"two events at half the highest rate",
       [](Spec* s) {
         s->set_event("cpu-clock");
         s->set_frequency_hz(5000);
         AddEvent("cycles", 5000, s);
       },
       nullptr},
      {"two events, one at the highest rate",
       [](Spec* s) {
         s->set_event("cpu-clock");
         s->set_frequency_hz(99);
         AddEvent("cycles", 10'000, s);
       },
       rule::kQuotaRate},
      {"two events of everything at the default rate",
       [](Spec* s) {
         s->mutable_target()->mutable_user()->set_uid(kUid);
         s->set_event("cpu-clock");
         AddEvent("cycles", 0, s);
       },
       rule::kQuotaRate},
      {"a kernel's address beside another event",
       [](Spec* s) {
         s->set_event("cpu-clock");
         AddEvent("mem:0xffffffff81000000/8:rw", 0, s);
       },
       rule::kOwnBreakpoints},
      {"two large rings",
       [](Spec* s) {
         s->set_event("cpu-clock");
         s->set_ring_bytes(8 << 20);
         AddEvent("cycles", 99, s);
       },
       rule::kQuotaRing},
      {"no such event", [](Spec* s) { s->set_event("nonsense"); }, nullptr},  // CheckSpec's word
  };
  return *cases;
}

TEST_P(Table, ForAUserAndForAnAdmin) {
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_process()->set_pid(7);
  GetParam().change(&spec);
  const auto permit = AuthorizeSession(User(), spec, {});
  if (GetParam().rule == nullptr) {
    EXPECT_TRUE(permit.ok()) << permit.status();
  } else {
    EXPECT_EQ(RuleOf(permit.status()), GetParam().rule) << permit.status();
    EXPECT_THAT(std::string(permit.status().message()),
                HasSubstr(absl::StrCat("(rule ", GetParam().rule, ")")));
  }
  const auto all = AuthorizeSession(Admin(), spec, {});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->spec.SerializeAsString(), spec.SerializeAsString());
  EXPECT_THAT(all->notes, IsEmpty());
  EXPECT_EQ(all->own_process, -1);
}

INSTANTIATE_TEST_SUITE_P(Authorization, Table, ::testing::ValuesIn(Cases()));

// Whatever is asked: what a user gets leaves the kernel out, is within the quotas, and is of an own
// process, or of the user's own with every sample looked at.
TEST(AuthorizationProperty, WhatAUserGetsIsTheirs) {
  std::mt19937 random(20'261'121);
  const auto pick = [&random](uint32_t n) { return random() % n; };
  const UserLimits limits = UserLimits::ForCpus(64);
  int allowed = 0;
  for (int i = 0; i < 20'000; ++i) {
    v1::SessionSpec spec;
    v1::Target* target = spec.mutable_target();
    switch (pick(9)) {
      case 0:
        target->mutable_all_cpus();
        break;
      case 1:
        target->mutable_recording()->set_path("/etc/shadow");
        break;
      case 2:
        target->mutable_cpu_list()->set_cpus("0-3");
        break;
      case 3:
        target->mutable_cgroup()->set_path("user.slice");
        break;
      case 4:
      case 5:
        target->mutable_user()->set_uid(pick(3) == 0 ? random() : kUid);
        break;
      case 6:
        target->mutable_thread()->set_tid(static_cast<int32_t>(random()));
        break;
      case 7:
        break;  // nothing at all
      default:
        target->mutable_process()->set_pid(static_cast<int32_t>(random()));
    }
    constexpr const char* kEvents[] = {"",
                                       "cpu-clock",
                                       "page-faults",
                                       "\xff\xfe%n",
                                       "mem:0x1000:w",
                                       "mem:0xffffffff80000000:w",
                                       "cpu-clock:k",
                                       "mem:0x1000:rw:uk"};
    spec.set_event(kEvents[pick(8)]);
    if (pick(2) == 0) spec.set_frequency_hz(random() >> pick(32));
    if (pick(3) == 0) spec.set_period(uint64_t{random()} << pick(32));
    if (pick(3) == 0) spec.set_ring_bytes(uint64_t{random()} << pick(32));
    if (pick(3) == 0) spec.set_stack_copy_bytes(random() >> pick(32));
    spec.set_user_only(pick(2) == 0);
    spec.set_stack_mode(static_cast<v1::StackMode>(random()));

    const auto permit = AuthorizeSession(User(), spec, limits);
    if (!permit.ok()) {
      EXPECT_FALSE(RuleOf(permit.status()).empty()) << permit.status();
      continue;
    }
    ++allowed;
    const v1::SessionSpec& got = permit->spec;
    EXPECT_TRUE(got.user_only());
    EXPECT_EQ(permit->notes.empty(), spec.user_only());
    EXPECT_LE(got.frequency_hz(), limits.frequency_hz);
    EXPECT_LE(got.ring_bytes(), limits.ring_bytes);
    EXPECT_GT(got.ring_bytes(), 0u);
    EXPECT_LE(got.stack_copy_bytes(), limits.stack_copy_bytes);
    switch (got.target().kind_case()) {
      case v1::Target::kProcess:
        EXPECT_EQ(permit->own_process, got.target().process().pid());
        break;
      case v1::Target::kThread:
        EXPECT_EQ(permit->own_process, got.target().thread().tid());
        break;
      case v1::Target::kUser:
        EXPECT_EQ(got.target().user().uid(), kUid);
        EXPECT_LE(got.frequency_hz(), limits.machine_frequency_hz);
        break;
      default:
        EXPECT_EQ(got.target().kind_case(), v1::Target::KIND_NOT_SET);  // CheckSpec's to refuse
    }
  }
  EXPECT_GT(allowed, 500);
}

TEST(AuthorizationTest, OnlyAWhollyOwnProcessWillDo) {
  EXPECT_TRUE(AuthorizeTarget(7, pmu::Ownership::kOwn).ok());
  const absl::Status other = AuthorizeTarget(7, pmu::Ownership::kOther);
  EXPECT_EQ(RuleOf(other), rule::kOwnProcesses);
  EXPECT_EQ(other, AuthorizeTarget(7, pmu::Ownership::kGone)) << "tells whether it is there";
}

TEST(AuthorizationTest, DescriptorsOfTheWholeMachineAreTheAdmins) {
  v1::SessionSpec spec;
  spec.mutable_target()->mutable_process();
  EXPECT_TRUE(AuthorizeDescriptor(User(), spec, false).ok());
  EXPECT_EQ(RuleOf(AuthorizeDescriptor(User(), spec, true)), rule::kOwnDescriptors);
  spec.mutable_target()->mutable_user()->set_uid(kUid);
  EXPECT_EQ(RuleOf(AuthorizeDescriptor(User(), spec, false)), rule::kOwnDescriptors);
  EXPECT_TRUE(AuthorizeDescriptor(Admin(), spec, true).ok());
}

TEST(AuthorizationTest, RingsOfAllCpusTogetherAreBounded) {
  for (uint32_t cpus = 1; cpus <= 1024; ++cpus) {
    EXPECT_LE(UserLimits::ForCpus(cpus).ring_bytes * cpus, uint64_t{64} << 20) << cpus;
  }
  EXPECT_EQ(UserLimits::ForCpus(2).ring_bytes, uint64_t{8} << 20);
  EXPECT_EQ(UserLimits::ForCpus(0).ring_bytes, uint64_t{8} << 20);
}

TEST(AuthorizationTest, FindsTheRuleOfADenialOnly) {
  EXPECT_EQ(RuleOf(Denied("a-rule", "why (rule x)")), "a-rule");
  EXPECT_EQ(RuleOf(absl::OkStatus()), "");
  EXPECT_EQ(RuleOf(absl::NotFoundError("no session")), "");
}

TEST(AuthorizationTest, EachUserHasNamesOfTheirOwn) {
  EXPECT_EQ(ScopeOf(User()), "1500/");
  EXPECT_EQ(ScopeOf(Admin()), "");
}

}  // namespace
}  // namespace lbrd::daemon
