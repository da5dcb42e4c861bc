#include "unwind/kernel_symbols.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace lbrd::unwind {
namespace {

constexpr char kText[] =
    "0000000000000000 A fixed_percpu_data\n"
    "ffffffff81000000 T _stext\n"
    "ffffffff81000000 T _text\n"
    "ffffffff81000000 t __local_start\n"
    "ffffffff81000100 t static_function\n"
    "ffffffff81000100 W weak_function\n"
    "ffffffff81000200 T __x64_sys_read\n"
    "ffffffff81000210 t __pfx_vfs_read\n"
    "ffffffff81000220 T vfs_read\n"
    "ffffffff82000000 D some_data\n"
    "ffffffff82000100 b some_bss\n"
    "ffffffff81e00000 T late_function\n"
    "ffffffff81e01000 T _etext\n"
    "ffffffffc0a01000 t ext4_read\t[ext4]\n"
    "ffffffffc0a01200 t ext4_write [ext4]\n"
    "ffffffffc0a10000 t xfs_read\t[xfs]\n"
    "ffffffffc0b00000 t bpf_prog_6deef7357e7b4530_sched\t[bpf]\n";

KernelSymbols ParseOrDie(absl::string_view text) {
  absl::StatusOr<KernelSymbols> symbols = KernelSymbols::Parse(text);
  EXPECT_TRUE(symbols.ok()) << symbols.status();
  return *std::move(symbols);
}

std::string NameAt(const KernelSymbols& symbols, uint64_t address) {
  const std::optional<KernelSymbol> symbol = symbols.Find(address);
  if (!symbol.has_value()) return "-";
  return absl::StrCat(symbol->name, symbol->module.empty() ? "" : "@", symbol->module);
}

TEST(KernelSymbolsTest, FindsTheFunctionThatHoldsAnAddress) {
  const KernelSymbols symbols = ParseOrDie(kText);
  EXPECT_EQ(NameAt(symbols, 0), "-");
  EXPECT_EQ(NameAt(symbols, 0xffffffff80ffffff), "-");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000200), "__x64_sys_read");
  EXPECT_EQ(NameAt(symbols, 0xffffffff8100020f), "__x64_sys_read");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000210), "__pfx_vfs_read");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000225), "vfs_read");
  EXPECT_EQ(symbols.Find(0xffffffff81000225)->start, 0xffffffff81000220u);
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0a01001), "ext4_read@ext4");
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0a01201), "ext4_write@ext4");
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0b00010), "bpf_prog_6deef7357e7b4530_sched@bpf");
}

TEST(KernelSymbolsTest, TheBestNameOfAnAddressWins) {
  const KernelSymbols symbols = ParseOrDie(kText);
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000000), "_text");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000100), "weak_function");
}

TEST(KernelSymbolsTest, OrderAndSpellingChangeNothing) {
  const KernelSymbols expected = ParseOrDie(kText);
  std::vector<std::string> lines = absl::StrSplit(kText, '\n', absl::SkipEmpty());
  std::reverse(lines.begin(), lines.end());
  // Not as the kernel writes them: more blanks, and a tab before the name.
  for (size_t i = 0; i < lines.size(); i += 2) lines[i].replace(18, 1, " \t ");
  const KernelSymbols other = ParseOrDie(absl::StrJoin(lines, "\r\n"));
  EXPECT_EQ(other.size(), expected.size());
  for (const absl::string_view line : absl::StrSplit(kText, '\n', absl::SkipEmpty())) {
    const uint64_t address = std::stoull(std::string(line.substr(0, 16)), nullptr, 16);
    EXPECT_EQ(NameAt(other, address), NameAt(expected, address)) << line;
  }
}

TEST(KernelSymbolsTest, NeverReachesFarBeyondASymbol) {
  const KernelSymbols symbols = ParseOrDie(kText);
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000220 + (1 << 20) - 1), "vfs_read");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000220 + (1 << 20)), "-");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81e00fff), "late_function");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81e01000), "-") << "_etext ends the code";
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0a01200 + 0xdfff), "ext4_write@ext4");
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0a10000 + (64 << 10) - 1), "xfs_read@xfs");
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0a10000 + (64 << 10)), "-") << "the last one of a module";
  EXPECT_EQ(NameAt(symbols, 0xffffffffc0b10000), "-");
  EXPECT_EQ(NameAt(symbols, UINT64_MAX), "-");
}

TEST(KernelSymbolsTest, DataIsNotKept) {
  const KernelSymbols symbols = ParseOrDie(kText);
  EXPECT_EQ(symbols.size(), 11u);
  EXPECT_EQ(NameAt(symbols, 0xffffffff82000000), "-");
}

TEST(KernelSymbolsTest, HiddenAddressesAreSaidSo) {
  const absl::Status status = KernelSymbols::Parse(
                                  "0000000000000000 T _text\n"
                                  "0000000000000000 t foo\t[mod]\n")
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "kptr_restrict")) << status;
  EXPECT_EQ(KernelSymbols::Parse("").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(KernelSymbols::Parse("ffffffff82000000 D data\n").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(KernelSymbolsTest, MalformedLinesAreNamedByNumber) {
  for (const char* line :
       {"xyz T name", "ffffffff81000000", "ffffffff81000000 T", "ffffffff81000000 TT name",
        "fffffffff81000000 T name", "0xffffff T name", "ffffffff81000000 T name mod",
        "ffffffff81000000 T name [mod", "ffffffff81000000 T name []",
        "ffffffff81000000 T name [mod] more", " ", "-1 T name"}) {
    const absl::Status status =
        KernelSymbols::Parse(absl::StrCat("ffffffff81000000 T good\n", line, "\n")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_TRUE(absl::StrContains(status.message(), "line 2")) << status;
  }
}

TEST(KernelSymbolsTest, TheLastLineNeedsNoNewline) {
  const KernelSymbols symbols = ParseOrDie("ffffffff81000000 T a\n\nFFFFFFFF81000010 t b\t[m]");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000000), "a");
  EXPECT_EQ(NameAt(symbols, 0xffffffff81000010), "b@m");
}

TEST(KernelSymbolsTest, ReadsThisKernel) {
  std::ifstream file("/proc/kallsyms");
  if (!file) GTEST_SKIP() << "there is no /proc/kallsyms";
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const absl::StatusOr<KernelSymbols> symbols = KernelSymbols::Parse(text);
  if (absl::IsFailedPrecondition(symbols.status())) GTEST_SKIP() << symbols.status();
  ASSERT_TRUE(symbols.ok()) << symbols.status();
  EXPECT_GT(symbols->size(), 10000u);
  const size_t line = text.find(" T vfs_read\n");
  if (line == std::string::npos) GTEST_SKIP() << "this kernel has no vfs_read";
  const uint64_t address = std::stoull(text.substr(line - 16, 16), nullptr, 16);
  EXPECT_EQ(NameAt(*symbols, address + 1), "vfs_read");
}

}  // namespace
}  // namespace lbrd::unwind
