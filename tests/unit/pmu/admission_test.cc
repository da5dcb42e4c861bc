#include "pmu/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "naive_admission.h"

namespace lbrd::pmu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

AdmissionRequest OfTask(int32_t tid, std::string holder, int32_t cpu = kEveryCpu, int slots = 1) {
  AdmissionRequest request{.task = TaskId{.tid = tid}, .cpu = cpu, .slots = slots};
  request.holder = std::move(holder);
  return request;
}

AdmissionRequest OfCpu(int32_t cpu, std::string holder, int slots = 1) {
  AdmissionRequest request{.cpu = cpu, .slots = slots};
  request.holder = std::move(holder);
  return request;
}

AdmissionRequest Lbr(AdmissionRequest request, uint64_t filter) {
  request.resource = Resource::kLbr;
  request.filter = filter;
  return request;
}

AdmissionRequest Counter(AdmissionRequest request) {
  request.resource = Resource::kCounters;
  return request;
}

AdmissionRequest TakingTurns(AdmissionRequest request) {
  request.allow_multiplex = true;
  return request;
}

// Every answer for random uses, given and given back in random order, is the naive one's.
class AdmissionModel : public ::testing::TestWithParam<int> {};

AdmissionRequest RandomRequest(std::mt19937& random, const AdmissionLimits& limits) {
  const auto below = [&random](int n) { return static_cast<int>(random() % n); };
  AdmissionRequest request;
  request.resource = static_cast<Resource>(below(kResources));
  if (below(4) != 0) {
    // The same thread number with another start is another task.
    request.task = TaskId{.tid = 1 + below(4), .start_time = static_cast<uint64_t>(below(2))};
  }
  request.cpu = below(3) == 0 ? kEveryCpu : below(limits.cpus);
  if (request.resource != Resource::kLbr) request.slots = below(8) == 0 ? 2 : 1;
  request.filter = request.resource == Resource::kLbr ? 0x100 + below(below(2) == 0 ? 1 : 20) : 0;
  request.allow_multiplex = below(16) == 0;
  request.holder = absl::StrCat("session-", below(10), "-");
  return request;
}

TEST_P(AdmissionModel, AnswersAsTheNaiveOne) {
  std::mt19937 random(GetParam());
  const AdmissionLimits limits{
      .cpus = 1 + GetParam() % 5, .breakpoints = 4, .counters = GetParam() % 3 == 0 ? 0 : 6};
  Admission admission(limits);
  NaiveAdmission naive(limits);
  std::map<uint64_t, Admission::Grant> grants;
  int granted = 0;
  int refused = 0;
  for (uint64_t step = 0; step < 4000; ++step) {
    // Fills up and empties in turns, so that full and empty are both met.
    const bool admit = grants.empty() || random() % 100 < (step / 200 % 2 == 0 ? 70 : 35);
    if (!admit) {
      const auto chosen = std::next(grants.begin(), static_cast<int>(random() % grants.size()));
      naive.Release(chosen->first);
      grants.erase(chosen);
      continue;
    }
    const AdmissionRequest request = RandomRequest(random, limits);
    const std::set<std::string> met = naive.HoldersMet(request);
    absl::StatusOr<Admission::Grant> grant = admission.Admit(request);
    // More filters at once than have numbers: nothing the naive one knows of.
    if (!grant.ok() && grant.status().message().find("too many") != std::string::npos) continue;
    ASSERT_EQ(grant.ok(), naive.Admit(request, step)) << "step " << step << ": " << grant.status();
    if (grant.ok()) {
      ++granted;
      grants.emplace(step, *std::move(grant));
    } else {
      ++refused;
      ASSERT_TRUE(absl::IsResourceExhausted(grant.status()));
      bool named = met.empty() && request.slots > 1;
      for (const std::string& name : met) {
        named = named || grant.status().message().find(name) != std::string::npos;
      }
      ASSERT_TRUE(named) << grant.status();
    }
    if (step % 64 == 0) {
      const Admission::Figures figures = admission.figures();
      ASSERT_EQ(figures.task_uses + figures.cpu_uses, grants.size());
      ASSERT_EQ(figures.counters_zero, grants.empty());
    }
  }
  EXPECT_GT(granted, 500);
  EXPECT_GT(refused, 300);
  grants.clear();
  const Admission::Figures figures = admission.figures();
  EXPECT_EQ(figures.task_uses + figures.tasks + figures.cpu_uses, 0u);
  EXPECT_TRUE(figures.counters_zero);
}

INSTANTIATE_TEST_SUITE_P(Seeds, AdmissionModel, ::testing::Range(1, 21));

TEST(Admission, RefusesTheFifthBreakpointOfATaskNamingWhoHasTheFour) {
  Admission admission({.cpus = 2});
  std::vector<Admission::Grant> grants;
  for (int i = 0; i < 3; ++i) grants.push_back(*admission.Admit(OfTask(77, "night")));
  grants.push_back(*admission.Admit(OfCpu(1, "watch")));
  const absl::Status refused = admission.Admit(OfTask(77, "late")).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(refused.message(),
            "no breakpoint free on thread 77: CPU 1 has 4, held by 'night' (3 on thread 77), "
            "'watch' (1 on CPU 1); stop one of these sessions");
  // The other CPU has room, and so has any other task.
  EXPECT_TRUE(admission.Admit(OfTask(77, "late", /*cpu=*/0)).ok());
  EXPECT_TRUE(admission.Admit(OfTask(78, "late", kEveryCpu, 3)).ok());
  grants.pop_back();
  EXPECT_TRUE(admission.Admit(OfTask(77, "late")).ok());
}

TEST(Admission, CountsTheBusiestTaskAgainstACpu) {
  Admission admission({.cpus = 4});
  const auto two = admission.Admit(OfTask(1, "two", kEveryCpu, 2));
  const auto one = admission.Admit(OfTask(2, "one"));
  const auto bound = admission.Admit(OfTask(1, "bound", /*cpu=*/3));
  EXPECT_TRUE(admission.Admit(OfCpu(kEveryCpu, "all")).ok());
  EXPECT_TRUE(admission.Admit(OfCpu(0, "two more", 2)).ok());
  EXPECT_THAT(
      std::string(admission.Admit(OfCpu(3, "two more", 2)).status().message()),
      AllOf(HasSubstr("on CPU 3: CPU 3 has 4, 2 are asked for"), HasSubstr("'two' (2 on thread 1)"),
            HasSubstr("'bound' (1 on thread 1 on CPU 3)"), Not(HasSubstr("'one'"))));
  EXPECT_THAT(std::string(admission.Admit(OfCpu(kEveryCpu, "all", 2)).status().message()),
              HasSubstr("on every CPU: CPU 3 has 4"));
}

TEST(Admission, SharesLbrAmongThoseWithTheSameFilter) {
  Admission admission({.cpus = 2});
  const auto night = admission.Admit(Lbr(OfCpu(kEveryCpu, "night"), 0x2c801));
  const auto same = admission.Admit(Lbr(OfCpu(kEveryCpu, "same"), 0x2c801));
  const auto task = admission.Admit(Lbr(OfTask(5, "task"), 0x2c801));
  ASSERT_TRUE(night.ok() && same.ok() && task.ok());
  EXPECT_EQ(admission.Admit(Lbr(OfCpu(1, "other"), 0x8)).status().message(),
            "LBR with branch filter any (0x8) is not to be had on CPU 1: CPU 1 has it with another "
            "filter, held by 'night' (filter call-stack (0x2c801) on every CPU), 'same' (filter "
            "call-stack (0x2c801) on every CPU), 'task' (filter call-stack (0x2c801) on thread 5); "
            "stop that session, or let them take turns (--allow-multiplex)");
  EXPECT_FALSE(admission.Admit(Lbr(OfTask(6, "other"), 0x8)).ok());
}

TEST(Admission, GivesDifferentTasksDifferentFilters) {
  Admission admission({.cpus = 2});
  const auto one = admission.Admit(Lbr(OfTask(1, "one"), 0x1));
  const auto two = admission.Admit(Lbr(OfTask(2, "two", /*cpu=*/1), 0x2));
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_TRUE(admission.Admit(Lbr(OfTask(2, "two", /*cpu=*/0), 0x1)).ok());
  EXPECT_FALSE(admission.Admit(Lbr(OfTask(2, "two"), 0x1)).ok());
  EXPECT_FALSE(admission.Admit(Lbr(OfCpu(0, "cpu"), 0x2)).ok());
  EXPECT_FALSE(admission.Admit(Lbr(OfCpu(1, "cpu"), 0x1)).ok());
  EXPECT_TRUE(admission.Admit(Lbr(OfCpu(0, "cpu"), 0x1)).ok());
}

TEST(Admission, GivesAFiltersNumberAgain) {
  Admission admission({.cpus = 1});
  std::vector<Admission::Grant> grants;
  for (int i = 0; i < FilterAccount::kMaxFilters; ++i) {
    grants.push_back(*admission.Admit(Lbr(OfTask(1 + i, "many"), 0x100 + i)));
  }
  EXPECT_THAT(std::string(admission.Admit(Lbr(OfTask(99, "one more"), 0x200)).status().message()),
              HasSubstr("too many"));
  EXPECT_THAT(std::string(admission.Admit(Lbr(OfCpu(0, "one more"), 0x200)).status().message()),
              HasSubstr("too many"));
  grants.erase(grants.begin());
  EXPECT_TRUE(admission.Admit(Lbr(OfTask(99, "one more"), 0x200)).ok());
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(admission.Admit(Lbr(OfTask(99, "x"), 0x300 + i)).ok());
}

TEST(Admission, LetsThoseTakeTurnsWhoAllowIt) {
  Admission admission({.cpus = 2, .counters = 1});
  const auto night = admission.Admit(Lbr(OfCpu(kEveryCpu, "night"), 0x2c801));
  const auto shared = admission.Admit(TakingTurns(Lbr(OfCpu(0, "shared"), 0x8)));
  ASSERT_TRUE(shared.ok());
  EXPECT_THAT(shared->time_shared(), HasSubstr("'night'"));
  EXPECT_EQ(night->time_shared(), "");
  // Who does not allow it is refused for those who did, too.
  EXPECT_THAT(std::string(admission.Admit(Lbr(OfTask(3, "task"), 0x2c801)).status().message()),
              AllOf(HasSubstr("'shared' (filter any (0x8) on CPU 0)"), Not(HasSubstr("'night'"))));

  const auto counter = admission.Admit(Counter(OfTask(1, "a")));
  EXPECT_THAT(
      std::string(admission.Admit(Counter(OfTask(1, "b"))).status().message()),
      AllOf(HasSubstr("no counter free"), HasSubstr("'a'"), HasSubstr("--allow-multiplex")));
  EXPECT_TRUE(admission.Admit(TakingTurns(Counter(OfTask(1, "b")))).ok());
  EXPECT_EQ(admission.Admit(TakingTurns(Counter(OfTask(2, "b"))))->time_shared(), "");

  // The kernel refuses a fifth breakpoint for good.
  const auto four = admission.Admit(OfTask(1, "four", kEveryCpu, 4));
  EXPECT_FALSE(admission.Admit(TakingTurns(OfTask(1, "five"))).ok());
}

TEST(Admission, LetsAllCountersThroughWhereTheirNumberIsNotKnown) {
  Admission admission({.cpus = 1});
  std::vector<Admission::Grant> grants;
  for (int i = 0; i < 40; ++i) grants.push_back(*admission.Admit(Counter(OfTask(1, "many"))));
  EXPECT_TRUE(admission.Admit(Counter(OfCpu(0, "cpu"))).ok());
}

TEST(Admission, NamesFourHoldersAndCountsTheRest) {
  Admission admission({.cpus = 1, .breakpoints = 6});
  std::vector<Admission::Grant> grants;
  for (int i = 0; i < 6; ++i) {
    grants.push_back(*admission.Admit(OfTask(1, absl::StrCat("holder-", i))));
  }
  const std::string message(admission.Admit(OfTask(1, "late")).status().message());
  EXPECT_THAT(message, HasSubstr("'holder-3' (1 on thread 1), 2 more; stop"));
}

TEST(Admission, CutsLongNames) {
  Admission admission({.cpus = 1});
  const auto grant = admission.Admit(OfTask(1, std::string(5000, 'x'), kEveryCpu, 4));
  const std::string message(admission.Admit(OfTask(1, "late")).status().message());
  EXPECT_THAT(message, HasSubstr(std::string(Admission::kMaxHolderBytes, 'x')));
  EXPECT_LT(message.size(), 300u);
}

TEST(Admission, RefusesWhatCannotBe) {
  Admission admission({.cpus = 2});
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(OfCpu(2, "")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(OfCpu(-2, "")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(OfTask(0, "")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(OfTask(1, "", kEveryCpu, 0)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(OfTask(1, "", kEveryCpu, 99)).status()));
  AdmissionRequest two_lbr = Lbr(OfTask(1, ""), 1);
  two_lbr.slots = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(admission.Admit(two_lbr).status()));
  EXPECT_EQ(admission.Admit(OfTask(1, "", kEveryCpu, 5)).status().message(),
            "no breakpoint free on thread 1: CPU 0 has 4, 5 are asked for");
  EXPECT_TRUE(admission.figures().counters_zero);
}

TEST(Admission, HoldsNoMoreUsesThanItHasMemoryFor) {
  Admission admission({.cpus = 1});
  std::vector<Admission::Grant> grants;
  absl::Status refused;
  for (size_t i = 0; i <= Admission::kMaxTaskUses && refused.ok(); ++i) {
    auto grant = admission.Admit(OfTask(static_cast<int32_t>(1 + i), "many"));
    if (grant.ok()) grants.push_back(*std::move(grant));
    refused = grant.status();
  }
  EXPECT_THAT(std::string(refused.message()), HasSubstr("too many uses"));
  EXPECT_GT(grants.size(), Admission::kMaxTaskUses / 2);  // shards fill evenly
  grants.clear();
  for (size_t i = 0; i < Admission::kMaxCpuUses; ++i) {
    grants.push_back(*admission.Admit(Lbr(OfCpu(0, "many"), 1)));
  }
  EXPECT_THAT(std::string(admission.Admit(Lbr(OfCpu(0, "more"), 1)).status().message()),
              HasSubstr("too many uses"));
}

TEST(AdmissionGrant, MovesAndGivesBackOnce) {
  Admission admission({.cpus = 1});
  Admission::Grant one = *admission.Admit(OfTask(1, "one"));
  Admission::Grant two = *admission.Admit(OfTask(1, "two"));
  EXPECT_EQ(admission.figures().task_uses, 2u);
  one = std::move(two);  // gives the first back
  EXPECT_EQ(admission.figures().task_uses, 1u);
  EXPECT_FALSE(two);
  Admission::Grant three(std::move(one));
  Admission::Grant& same = three;
  three = std::move(same);
  EXPECT_TRUE(three);
  EXPECT_EQ(admission.figures().task_uses, 1u);
  three.Release();
  three.Release();
  EXPECT_EQ(admission.figures().task_uses, 0u);
  EXPECT_TRUE(admission.figures().counters_zero);
}

// Threads with tasks of their own, and one for each CPU. Whoever holds uses knows that what he
// reads of others' is there beside his, so it must never be too much.
TEST(AdmissionStress, NeverGrantsMoreThanThereIs) {
  constexpr int kTasks = 4;
  constexpr int kCpus = 2;
  constexpr int kSlots = 4;
  constexpr int kSteps = 20'000;
  Admission admission({.cpus = kCpus, .breakpoints = kSlots});
  std::atomic<int> task_has[kTasks][kCpus] = {};  // that and no less: counted after the grant, and
  std::atomic<int> cpu_has[kCpus] = {};           // out before it is given back
  std::atomic<int> too_many = 0;
  std::atomic<int> granted = 0;
  std::atomic<int> refused = 0;

  const auto use = [&](int seed, auto request, std::atomic<int>* own, auto&& check) {
    std::mt19937 random(seed);
    std::vector<std::pair<Admission::Grant, int32_t>> held;
    const auto count = [own](int32_t cpu, int change) {
      for (int c = 0; c < kCpus; ++c) {
        if (cpu == kEveryCpu || cpu == c) own[c] += change;
      }
    };
    for (int step = 0; step < kSteps; ++step) {
      if (!held.empty() && random() % 2 == 0) {
        const size_t i = random() % held.size();
        count(held[i].second, -1);
        std::swap(held[i], held.back());
        held.pop_back();
        continue;
      }
      const int32_t cpu = static_cast<int32_t>(random() % (kCpus + 1)) - 1;
      auto grant = admission.Admit(request(cpu));
      grant.ok() ? ++granted : ++refused;
      if (!grant.ok()) continue;
      held.emplace_back(*std::move(grant), cpu);
      count(cpu, 1);
      if (!check()) ++too_many;
    }
    for (const auto& [grant, cpu] : held) count(cpu, -1);
  };

  std::vector<std::thread> threads;
  for (int task = 0; task < kTasks; ++task) {
    threads.emplace_back([&, task] {
      use(
          task, [task](int32_t cpu) { return OfTask(1 + task, "task", cpu); }, task_has[task],
          [&, task] {
            for (int c = 0; c < kCpus; ++c) {
              if (task_has[task][c] + cpu_has[c] > kSlots) return false;
            }
            return true;
          });
    });
  }
  // One thread for all CPUs, so that what CPUs have stands still while it looks at tasks.
  threads.emplace_back([&] {
    use(
        99, [](int32_t cpu) { return OfCpu(cpu, "cpu"); }, cpu_has,
        [&] {
          for (int c = 0; c < kCpus; ++c) {
            for (auto& task : task_has) {
              if (task[c] + cpu_has[c] > kSlots) return false;
            }
          }
          return true;
        });
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(too_many, 0);
  EXPECT_GT(granted, kSteps / 2);
  EXPECT_GT(refused, kSteps / 20);
  const Admission::Figures figures = admission.figures();
  EXPECT_EQ(figures.task_uses + figures.tasks + figures.cpu_uses, 0u);
  EXPECT_TRUE(figures.counters_zero);
}

// All resources at once, with filters that come for the first time, while figures are read.
TEST(AdmissionStress, CountsEverythingOutAgain) {
  Admission admission({.cpus = 3, .counters = 4});
  const AdmissionLimits limits{.cpus = 3};
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      std::vector<Admission::Grant> held;
      for (int step = 0; step < 10'000; ++step) {
        if (held.size() > random() % 20) {
          std::swap(held[random() % held.size()], held.back());
          held.pop_back();
        } else if (auto grant = admission.Admit(RandomRequest(random, limits)); grant.ok()) {
          held.push_back(*std::move(grant));
        }
        if (step % 500 == 0) {
          EXPECT_LE(admission.figures().task_uses, 80u);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Admission::Figures figures = admission.figures();
  EXPECT_EQ(figures.task_uses + figures.tasks + figures.cpu_uses, 0u);
  EXPECT_TRUE(figures.counters_zero);
}

}  // namespace
}  // namespace lbrd::pmu
