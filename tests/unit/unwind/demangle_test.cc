#include "unwind/demangle.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lbrd::unwind {
namespace {

std::string Repeat(absl::string_view text, int times) {
  std::string repeated;
  for (int i = 0; i < times; ++i) absl::StrAppend(&repeated, text);
  return repeated;
}

TEST(DemangleTest, CppNamesComeWithoutParameters) {
  EXPECT_EQ(Demangle("_ZN2ns5Class6methodEi"), "ns::Class::method");
  EXPECT_EQ(Demangle("_ZNKSt6vectorIiSaIiEE4sizeEv"),
            "std::vector<int, std::allocator<int> >::size");
  EXPECT_EQ(Demangle("_ZNSt6vectorIiSaIiEE9push_backEOi"),
            "std::vector<int, std::allocator<int> >::push_back");
  EXPECT_EQ(Demangle("_Z3maxIiET_S0_S0_"), "max<int>");
  EXPECT_EQ(Demangle("_ZZ3foovENKUlvE_clEv"), "foo()::{lambda()#1}::operator()");
  EXPECT_EQ(Demangle("_ZN12_GLOBAL__N_13fooEv"), "(anonymous namespace)::foo");
  EXPECT_EQ(Demangle("_ZN1CC2Ev"), "C::C");
  EXPECT_EQ(Demangle("_ZN1CD0Ev"), "C::~C");
  EXPECT_EQ(Demangle("_ZTv0_n24_N1C1fEv"), "virtual thunk to C::f()");
  EXPECT_EQ(Demangle("_ZN1CcvT_IiEEv"), "C::operator int<int>");
  // A lambda with a parameter pack of its own among the template arguments.
  EXPECT_EQ(Demangle("_ZNSt9once_flag18_Prepare_executionC2IZSt9call_onceIRFvvEJEEvRS_OT_DpOT0_"
                     "EUlvE_EERS6_"),
            "std::once_flag::_Prepare_execution::_Prepare_execution<std::call_once<void (&)()>"
            "(std::once_flag&, void (&)())::{lambda()#1}>");
}

TEST(DemangleTest, RustNamesComeWithoutHash) {
  EXPECT_EQ(Demangle("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"),
            "core::fmt::Formatter::pad");
  EXPECT_EQ(Demangle("_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$"
                     "3bar17h930b740aa94f1d3aE"),
            "<Test + 'static as foo::Bar<Test>>::bar");
  EXPECT_EQ(Demangle("_RNvC6_123foo3bar"), "123foo::bar");
  EXPECT_EQ(Demangle("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
  EXPECT_EQ(Demangle("_RINvNtC3std3mem8align_ofjE"), "std::mem::align_of::<usize>");
  EXPECT_EQ(Demangle("_RNvMC1aFG_RL0_hEu3foo"), "<for<'a> fn(&'a u8)>::foo");
}

TEST(DemangleTest, SuffixesOfClonesSurvive) {
  EXPECT_EQ(Demangle("_ZN3foo3barEv.cold"), "foo::bar [clone .cold]");
  EXPECT_EQ(Demangle("_ZN3foo3barEv.isra.0"), "foo::bar [clone .isra.0]");
  EXPECT_EQ(Demangle("_ZN3foo3barEv.constprop.0.isra.1.cold"),
            "foo::bar [clone .constprop.0] [clone .isra.1] [clone .cold]");
  EXPECT_EQ(Demangle("_ZN3foo3barEv.part.0"), "foo::bar [clone .part.0]");
  EXPECT_EQ(Demangle("_ZN3foo3barEv.llvm.12345"), "foo::bar [clone .llvm.12345]");
  EXPECT_EQ(Demangle("_RNvCs1234_7mycrate3foo.llvm.99"), "mycrate::foo [clone .llvm.99]");
  EXPECT_EQ(Demangle("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.1234"),
            "core::fmt::Formatter::pad [clone .llvm.1234]");
  EXPECT_EQ(Demangle("_ZN3foo3barEv."), "foo::bar [clone .]");
}

TEST(DemangleTest, PltNamesAreDemangledBeforeTheSuffix) {
  EXPECT_EQ(Demangle("_ZN3foo3barEv@plt"), "foo::bar@plt");
  EXPECT_EQ(Demangle("malloc@plt"), "malloc@plt");
  EXPECT_EQ(Demangle("@plt"), "@plt");
  EXPECT_EQ(Demangle("_Z@plt"), "_Z@plt");
}

TEST(DemangleTest, OtherNamesStayAsTheyAre) {
  for (const std::string name :
       {"", "_", "_Z", "_R", "main", "_start", "malloc", "_ZN", "_ZNSt", "_ZGVbN2v_sin",
        "_ReadSLEB", "_RNvC", "main.main", "_Z3fo", "$s4main3fooyyF"}) {
    EXPECT_EQ(Demangle(name), name);
  }
  const std::string with_nul("_Z1f\0g", 6);
  EXPECT_EQ(Demangle(with_nul), with_nul);
}

TEST(DemangleTest, LongNamesAreDemangled) {
  // 1,024 bytes are the most that libiberty takes unless asked otherwise.
  const std::string name(3000, 'n');
  EXPECT_EQ(Demangle(absl::StrCat("_Z3000", name, "v")), name);
  EXPECT_EQ(Demangle(absl::StrCat("_Z1fI", Repeat("P", 500), "iEvv")),
            absl::StrCat("f<int", Repeat("*", 500), ">"));
}

// The substitution with sequence number `i`: S_, S0_, S1_, ..., SZ_, S10_, ...
std::string Substitution(int i) {
  static constexpr char kDigits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (i == 0) return "S_";
  --i;
  return absl::StrCat("S", i >= 36 ? std::string(1, kDigits[i / 36]) : "",
                      std::string(1, kDigits[i % 36]), "_");
}

// Template arguments a<i, i>, a<1, 1>, a<2, 2>, ... where 1 is the first of them, 2 the second:
// what they stand for doubles each time. `taken` substitutions are taken before them.
std::string Doubling(int levels, int taken = 1) {
  std::string arguments = "1aIiiE";
  for (int i = 0; i < levels; ++i) {
    const std::string previous = Substitution(taken + 1 + i);
    absl::StrAppend(&arguments, Substitution(taken), "I", previous, previous, "E");
  }
  return arguments;
}

// The same in Rust: tuples of the tuple before, twice.
std::string RustDoubling(int levels) {
  static constexpr char kDigits[] =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string name = "_RINvC1a1b";
  size_t previous = name.size() - 2;
  name += "TuuE";
  for (int i = 0; i < levels; ++i) {
    const size_t number = previous - 1;
    const std::string reference =
        absl::StrCat("B", number >= 62 ? std::string(1, kDigits[number / 62]) : "",
                     std::string(1, kDigits[number % 62]), "_");
    previous = name.size() - 2;
    absl::StrAppend(&name, "T", reference, reference, "E");
  }
  return absl::StrCat(name, "E");
}

// Runs `function` on a thread with a stack of `bytes`.
void RunOnStack(size_t bytes, const std::function<void()>& function) {
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, bytes), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* opaque) -> void* {
                  (*static_cast<const std::function<void()>*>(opaque))();
                  return nullptr;
                },
                const_cast<std::function<void()>*>(&function)),
            0);
  ASSERT_EQ(pthread_join(thread, nullptr), 0);
  pthread_attr_destroy(&attributes);
}

// Each of these would keep libiberty busy for more than a lifetime, print more than there is
// memory, or exhaust the stack.
TEST(DemangleTest, HostileNamesAreGivenUpSoon) {
  std::vector<std::string> names;
  names.push_back(absl::StrCat("_Z1fI", Doubling(60), "Evv"));
  names.push_back(RustDoubling(60));
  // A search for a pack where there is none, before anything is printed: a member's type is printed
  // before its class.
  names.push_back(
      absl::StrCat("_Z1fIM1bI", Doubling(40, 2), "EDp", Substitution(2 + 1 + 40), "Evv"));
  // As much on the stack as is let through, and more.
  names.push_back(absl::StrCat("_Z1fI", Repeat("RT_1aIiE", 180), "Evv"));
  names.push_back(absl::StrCat("_Z1fI", Repeat("RT_1aIiE", 1000), "Evv"));
  // Every list of arguments in the type of a conversion operator is read twice.
  names.push_back(absl::StrCat("_ZN1acv", Repeat("T_I", 60), "i", Repeat("E", 61), "Ev"));
  // So many lifetimes that are not printed.
  names.push_back("_RMINvC1a1bFGzzzzzzzzzz_EuEu");
  names.push_back("_RMINvC1a1bDGzzzzzzzzzz_C1cEL_Eu");
  // And so many that are.
  names.push_back("_RINvC1a1bFGzzzzzzzzzz_EuE");
  names.push_back(absl::StrCat("_RINvC1a1bT", Repeat("TB9_B9_E", 50), "EE"));
  for (const char* self : {"_RINvC1a1bBa_E", "_RINvC1a1bB6_E", "_RINvC1a1bKB7_E", "_RB_"}) {
    names.emplace_back(self);
  }
  for (const char* piece : {"P",  "K",  "I",   "J", "N",        "F",  "A_", "1aI", "Z",  "X",
                            "cv", "DT", "L_Z", "M", "RT_1aIiE", "Ul", "R",  "T",   "Nv", "D"}) {
    for (const int times : {100, 1000, 8000}) {
      const std::string repeated = Repeat(piece, times);
      names.push_back(absl::StrCat("_Z1fI", repeated, "i", Repeat("E", times), "vv"));
      names.push_back(absl::StrCat("_Z", repeated));
      names.push_back(absl::StrCat("_ZN", repeated, "1fEv"));
      names.push_back(absl::StrCat("_RINvC1a1b", repeated, "uE"));
      names.push_back(absl::StrCat("_R", repeated, "C1a"));
    }
  }
  std::chrono::nanoseconds longest{0};
  std::string slowest;
  RunOnStack(4 << 20, [&] {
    for (const std::string& name : names) {
      const auto begin = std::chrono::steady_clock::now();
      const std::string demangled = Demangle(name);
      const auto took = std::chrono::steady_clock::now() - begin;
      EXPECT_LE(demangled.size(), std::max(kMaxDemangledBytes, name.size()));
      if (took > longest) {
        longest = took;
        slowest = name;
      }
    }
  });
  EXPECT_LT(longest, std::chrono::seconds(2)) << slowest.substr(0, 200);
}

TEST(DemangleTest, MoreThanTheLimitIsNotGivenOut) {
  const std::string some = absl::StrCat("_Z1fI", Doubling(8), "Evv");
  EXPECT_GT(Demangle(some).size(), 1000u);
  EXPECT_LE(Demangle(some).size(), kMaxDemangledBytes);
  const std::string too_much = absl::StrCat("_Z1fI", Doubling(12), "Evv");
  EXPECT_EQ(Demangle(too_much), too_much);
  const std::string many_suffixes = absl::StrCat("_Z1fv", Repeat(".a", 4000));
  EXPECT_EQ(Demangle(many_suffixes), many_suffixes);
  EXPECT_GT(Demangle(RustDoubling(6)).size(), 500u);
  EXPECT_EQ(Demangle(RustDoubling(14)), RustDoubling(14));
}

TEST(DemangleTest, IdentifiersThatLookLikeLifetimesAreNotChanged) {
  for (const std::string name : {"_RNvC8MyDGxyz_3foo", "_RNvC8MyFGxyz_3foo"}) {
    EXPECT_EQ(Demangle(name), name);
  }
  EXPECT_EQ(Demangle("_RNvCsFGabc_2my3foo"), "my::foo") << "a hash, which is not printed";
}

}  // namespace
}  // namespace lbrd::unwind
