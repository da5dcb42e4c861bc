// The table of rules of real binaries against what binutils' readelf reads in the same files: for
// each row of each function, the rule at its first and at its last address.
//
// readelf shows of an expression only that there is one; what expressions give is compared with
// libunwind in fast_unwinder_test.cc.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "tests/unit/unwind/memory_bytes.h"
#include "unwind/unwind_rules_builder.h"
#include "unwind/x86_64.h"

namespace lbrd::unwind {
namespace {

constexpr const char* kNames[x86_64::kRegisters] = {"rax", "rdx", "rcx", "rbx", "rsi", "rdi",
                                                    "rbp", "rsp", "r8",  "r9",  "r10", "r11",
                                                    "r12", "r13", "r14", "r15", "ra"};

// A rule as readelf would write it; of registers that are unspecified or undefined, "u".
struct Written {
  std::string cfa;
  std::string registers[x86_64::kRegisters];
};

std::string Signed(const char* prefix, int64_t value) {
  return absl::StrCat(prefix, value < 0 ? "" : "+", value);
}

std::string WriteRegister(CfiRegisterRule::Kind kind, int64_t value) {
  switch (kind) {
    case CfiRegisterRule::Kind::kAtOffset:
      return Signed("c", value);
    case CfiRegisterRule::Kind::kOffset:
      return Signed("v", value);
    case CfiRegisterRule::Kind::kRegister:
      return kNames[static_cast<size_t>(value) % x86_64::kRegisters];
    case CfiRegisterRule::Kind::kAtExpression:
      return "exp";
    case CfiRegisterRule::Kind::kExpression:
      return "vexp";
    default:
      return "u";
  }
}

Written Write(const UnwindRules& rules, const UnwindRule& rule) {
  Written out;
  for (std::string& reg : out.registers) reg = "u";
  if (rule.kind == UnwindRule::kFull) {
    const FullRule full = rules.Full(rule.full);
    out.cfa = full.cfa_is_expression ? "exp" : Signed(kNames[full.cfa_register], full.cfa_offset);
    for (const FullRule::Register& reg : full.registers) {
      out.registers[reg.number] = WriteRegister(reg.kind, reg.value);
    }
    return out;
  }
  if (rule.kind == UnwindRule::kPlt) {
    out.cfa = "exp";
  } else if (rule.kind == UnwindRule::kOffsets) {
    out.cfa = Signed(kNames[rule.cfa_register], rule.cfa_offset);
  } else {
    out.cfa = rule.kind == UnwindRule::kNone ? "none" : "unsupported";
    return out;
  }
  for (size_t i = 0; i < x86_64::kCalleeSaved; ++i) {
    if (rule.saved[i] == UnwindRule::kSame) continue;
    out.registers[x86_64::kCalleeSavedRegisters[i]] = Signed("c", 8 * rule.saved[i]);
  }
  out.registers[x86_64::kRip] = Signed("c", 8 * rule.return_address);
  return out;
}

// One row of readelf's: a value by each column of its function.
struct Row {
  uint64_t address = 0;
  std::vector<std::string> columns;  // "CFA", "rbx", ...
  std::vector<std::string> values;
};

class Comparison {
 public:
  explicit Comparison(const UnwindRules& rules) : rules_(rules) {}

  // The rule from `from` up to `to`, exclusive.
  void Compare(const Row& row, uint64_t from, uint64_t to) {
    for (const uint64_t address : {from, to - 1}) {
      const UnwindRule& rule = rules_.Find(address);
      ++compared;
      if (rule.kind == UnwindRule::kUnsupported) {
        ++unsupported;
        continue;
      }
      const Written ours = Write(rules_, rule);
      const bool start = (rule.flags & UnwindRule::kThreadStart) != 0;
      std::string difference;
      bool start_said = false;
      for (size_t i = 0; i < row.columns.size(); ++i) {
        const std::string& theirs = row.values[i];
        if (row.columns[i] == "CFA") {
          // Where nobody is returned to, there is no need for a CFA.
          if (!start && theirs != ours.cfa) absl::StrAppend(&difference, " CFA ", theirs);
          continue;
        }
        if (row.columns[i] == "ra") start_said = theirs == "u";
        for (size_t reg = 0; reg < x86_64::kRegisters; ++reg) {
          if (row.columns[i] != kNames[reg] || start) continue;
          // "s", the same, is what an unspecified register is by the ABI.
          const std::string normal = theirs == "s" ? "u" : theirs;
          if (normal != ours.registers[reg]) {
            absl::StrAppend(&difference, " ", kNames[reg], " ", theirs, " not ",
                            ours.registers[reg]);
          }
        }
      }
      if (start != start_said) absl::StrAppend(&difference, " start");
      if (difference.empty()) continue;
      if (differences++ < 10) {
        ADD_FAILURE() << std::hex << address << ": readelf has" << difference << "; ours "
                      << ours.cfa;
      }
    }
  }

  size_t compared = 0;
  size_t unsupported = 0;
  size_t differences = 0;

 private:
  const UnwindRules& rules_;
};

bool IsAddress(absl::string_view word) {
  return word.size() == 16 && word.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

uint64_t Hex(absl::string_view text) {
  return std::strtoull(std::string(text).c_str(), nullptr, 16);
}

// A register as "r9 (r9)" is one word, its name.
std::vector<std::string> Words(const std::string& line) {
  std::vector<std::string> words;
  for (const absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
    if (word.front() == '(' && word.back() == ')' && !words.empty()) {
      words.back() = std::string(word.substr(1, word.size() - 2));
    } else {
      words.emplace_back(word);
    }
  }
  return words;
}

// Reads readelf's text and compares one of every `every` functions.
class Reader {
 public:
  Reader(Comparison* comparison, size_t every) : comparison_(comparison), every_(every) {}

  void Line(const std::string& line) {
    const bool is_entry = absl::StrContains(line, " FDE ") || absl::StrContains(line, " CIE ");
    if (!is_entry && is_function_ && functions_ % every_ != 0) return;
    std::vector<std::string> words = Words(line);
    if (words.size() >= 4 && words[3] == "CIE") {
      Finish();
      cie_ = words[0];
      rows_ = &cies_[cie_];
      rows_->clear();
      is_function_ = false;
      return;
    }
    if (words.size() >= 6 && words[3] == "FDE") {
      Finish();
      is_function_ = true;
      const std::string cie = words[4].substr(4);
      const std::string range = words[5].substr(3);
      start_ = Hex(range.substr(0, 16));
      end_ = Hex(range.substr(18));
      function_.clear();
      rows_ = &function_;
      initial_ = cies_[cie];
      ++functions_;
      return;
    }
    if (rows_ == nullptr || words.size() < 2) return;
    if (words[0] == "LOC") {
      columns_.assign(words.begin() + 1, words.end());
      return;
    }
    if (!IsAddress(words[0]) || words.size() != columns_.size() + 1) return;
    rows_->push_back({Hex(words[0]), columns_, {words.begin() + 1, words.end()}});
  }
  void Finish() {
    if (!is_function_ || end_ <= start_) return;
    is_function_ = false;
    if (functions_ % every_ != 0) return;
    // A function without instructions of its own has its CIE's rule.
    if (function_.empty() && !initial_.empty()) {
      function_ = {initial_.front()};
      function_.front().address = start_;
    }
    for (size_t i = 0; i < function_.size(); ++i) {
      const uint64_t to = i + 1 < function_.size() ? function_[i + 1].address : end_;
      if (to > function_[i].address && to <= end_) {
        comparison_->Compare(function_[i], function_[i].address, to);
      }
    }
    ++compared_functions;
  }
  size_t compared_functions = 0;

 private:
  Comparison* const comparison_;
  const size_t every_;
  std::string cie_;
  std::map<std::string, std::vector<Row>> cies_;
  std::vector<Row> initial_;
  std::vector<Row> function_;
  std::vector<Row>* rows_ = nullptr;
  std::vector<std::string> columns_;
  bool is_function_ = false;
  uint64_t start_ = 0;
  uint64_t end_ = 0;
  size_t functions_ = 0;
};

struct Subject {
  const char* name;
  std::vector<std::string> paths;  // the first that is there
  size_t every;                    // one function in so many
};

void PrintTo(const Subject& subject, std::ostream* out) { *out << subject.name; }

class UnwindRulesReadelfTest : public testing::TestWithParam<Subject> {};

TEST_P(UnwindRulesReadelfTest, SaysTheSameOfEveryRow) {
#ifdef LBRD_TSAN
  GTEST_SKIP() << "it has one thread, and takes minutes under ThreadSanitizer";
#endif
  std::string path;
  std::shared_ptr<MemoryBytes> bytes;
  for (const std::string& candidate : GetParam().paths) {
    bytes = MemoryBytes::OfFile(candidate);
    path = candidate;
    if (bytes != nullptr) break;
  }
  if (bytes == nullptr) GTEST_SKIP() << GetParam().paths.front() << " is not on this machine";
  const absl::StatusOr<ElfFile> elf = ElfFile::Parse(bytes);
  ASSERT_TRUE(elf.ok()) << elf.status();
  const UnwindRules rules = UnwindRulesBuilder::Build(*elf);
  Comparison comparison(rules);
  Reader reader(&comparison, GetParam().every);
  // The limit of files, not of what is asked, since readelf reads all of it.
  const std::string command =
      absl::StrCat("LC_ALL=C readelf --debug-dump=no-follow-links --debug-dump=frames-interp '",
                   path, "' 2>/dev/null");
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  char* line = nullptr;
  size_t capacity = 0;
  for (ssize_t n; (n = getline(&line, &capacity, pipe)) >= 0;) {
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = 0;
    reader.Line(line);
  }
  reader.Finish();
  std::free(line);
  const int status = pclose(pipe);
  if (reader.compared_functions == 0) GTEST_SKIP() << "readelf of binutils is missing: " << status;
  std::printf(
      "%s: %zu functions, %zu rules compared, %zu not understood by us; %zu rows, "
      "%zu distinct rules, %zu full ones, %zu bytes\n",
      path.c_str(), reader.compared_functions, comparison.compared, comparison.unsupported,
      rules.rows(), rules.rules(), rules.full_rules(), rules.bytes());
  EXPECT_EQ(comparison.differences, 0u);
  EXPECT_EQ(comparison.unsupported, 0u);
  EXPECT_GT(comparison.compared, 1000u);
}

constexpr const char* kLibraries = "/usr/lib/x86_64-linux-gnu/";

INSTANTIATE_TEST_SUITE_P(
    , UnwindRulesReadelfTest,
    testing::Values(Subject{"libc", {absl::StrCat(kLibraries, "libc.so.6")}, 1},
                    Subject{"libstdcxx", {absl::StrCat(kLibraries, "libstdc++.so.6")}, 1},
                    Subject{"loader", {"/lib64/ld-linux-x86-64.so.2"}, 1},
                    Subject{"libcrypto", {absl::StrCat(kLibraries, "libcrypto.so.3")}, 1},
                    Subject{"python", {"/usr/bin/python3", "/usr/bin/python3.11"}, 1},
                    Subject{"cc1plus", {"/usr/lib/gcc/x86_64-linux-gnu/12/cc1plus"}, 7},
                    Subject{"LLVM",
                            {absl::StrCat(kLibraries, "libLLVM-14.so.1"),
                             absl::StrCat(kLibraries, "libLLVM-15.so.1")},
                            7}),
    [](const testing::TestParamInfo<Subject>& subject) { return std::string(subject.param.name); });

}  // namespace
}  // namespace lbrd::unwind
